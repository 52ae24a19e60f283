"""Rebuilding the bundled models: the corpus that is refused, names, the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from interp.models import catalogue
from zoo import __main__ as zoo
from zoo import _corpus


def test_the_library_of_another_python_is_refused_and_says_what_would_work(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "two.py").write_text("y = 2\n")
    found = _corpus.read(tmp_path)
    assert found.files == (("one.py", "x = 1\n"), ("test/two.py", "y = 2\n"))
    with pytest.raises(RuntimeError) as refused:
        _corpus.pinned(tmp_path)
    said = str(refused.value)
    assert _corpus.VERSION in said
    assert "2 files" in said
    assert "the shipped weights work with any" in said


def test_the_hash_of_a_corpus_knows_paths_and_texts(tmp_path: Path) -> None:
    one = _corpus.Corpus((("a.py", "x"), ("b.py", "y")))
    assert one.sha256 != _corpus.Corpus((("a.py", "y"), ("b.py", "x"))).sha256
    assert one.sha256 != _corpus.Corpus((("a.py", "x"), ("c.py", "y"))).sha256
    assert one.sha256 == _corpus.Corpus((("a.py", "x"), ("b.py", "y"))).sha256


def test_a_file_is_in_one_part_whatever_else_there_is() -> None:
    files = tuple((f"{i}.py", "x") for i in range(400))
    corpus = _corpus.Corpus(files)
    training, held_out = corpus.part(held_out=False), corpus.part(held_out=True)
    assert sorted((*training, *held_out)) == sorted(files)
    assert 5 <= len(held_out) <= 45
    assert set(_corpus.Corpus(files[:50]).part(held_out=True)) <= set(held_out)


def test_every_bundled_model_can_be_rebuilt_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(zoo.MODELS) == set(catalogue.bundled())
    root = Path(zoo.__file__).parent
    assert all((root / f"{name.replace('-', '_')}.py").exists() for name in zoo.MODELS)
    assert zoo.main(["nothing"]) == 2
    assert "stdlib-lm" in capsys.readouterr().err


def test_a_build_that_fails_and_a_broken_promise_are_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "_build", lambda name: None if name == "mod-add" else 12.3)
    assert zoo.main(["mod-add", "max-of-4"]) == 1
    said = capsys.readouterr().out
    assert "broken: it was not built" in said
    rows = [line for line in said.splitlines() if line.startswith("max-of-4")]
    assert "12 s" in rows[0]
    assert "hold" in rows[0]
    broken = {"claim": "Right", "value": 0.5, "unit": "share", "n": 3, "at_least": 0.9}
    assert zoo._promises([broken]) == "broken: Right"

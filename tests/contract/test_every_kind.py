"""What every kind of analysis must satisfy, also those that are added later."""

from __future__ import annotations

import copy
import json
import shutil
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp import analyses
from interp.analyses._fields import KINDS, kind_of
from interp.analyses._record import Analysis, Context, Cost, Spec, Step
from interp.models.load import LoadedModel, load
from interp.scores import Score
from interp.store.codec import pack, unpack
from tests.contract._checks import (
    ROOT,
    assert_draws,
    assert_no_bare_claim,
    assert_no_hooks,
    assert_paragraph,
    assert_result_is_plain,
    assert_same_tree,
    imported,
    python,
)

pytestmark = pytest.mark.parametrize("kind", interp.kinds())


@lru_cache
def model(name: str) -> LoadedModel:
    return load(name, "cpu")


def context(analysis: Analysis[Any, Any], spec: Spec) -> Context:
    return Context(analysis.inputs(spec), np.random.default_rng(spec.seed), model)


def logits(loaded: LoadedModel) -> torch.Tensor:
    """What the bare model says to a fixed prompt."""
    ids = torch.arange(8)[None] % loaded.info.d_vocab
    with torch.inference_mode():
        out: torch.Tensor = loaded.hooked(ids)
    return out


@dataclass
class Run:
    """A run of the example: its steps, and a copy of each result as it was when yielded."""

    seconds: float
    steps: list[Step[Any]] = field(default_factory=list)
    as_yielded: list[Any] = field(default_factory=list)

    @property
    def result(self) -> Any:
        return self.steps[-1].result


@lru_cache
def example(kind: str, rows: int | None = None) -> Run:
    """Run the example, checking hooks at every yield; ``rows`` a pass, so that there are many."""
    analysis = analyses.get(kind)
    loaded = model(analysis.example.model)
    run = Run(0.0)
    with pytest.MonkeyPatch.context() as patch:
        if rows is not None:
            patch.setattr("interp.models.batches._MOST_ROWS", rows)
        started = time.perf_counter()
        for step in analysis.run(analysis.example, context(analysis, analysis.example)):
            assert_no_hooks(loaded, f"step {len(run.steps)}")
            run.steps.append(step)
            run.as_yielded.append(copy.deepcopy(step.result))
        run.seconds = time.perf_counter() - started
    return run


def shown(run: Run, most: int = 10) -> list[int]:
    """Steps as somebody would see them: the first ones, the last ones, and some in between."""
    last = len(run.steps) - 1
    between = np.linspace(0, last, most - 2).astype(int).tolist()
    return sorted({min(1, last), *between, max(0, last - 1)})


def values_of(kind: str) -> tuple[Analysis[Any, Any], type[Spec], dict[str, Any]]:
    analysis = analyses.get(kind)
    return analysis, analysis.spec, json.loads(analysis.example.canonical)


# --- the spec ------------------------------------------------------------------------------------


def test_name_of_module_kind_and_literal_agree(kind: str) -> None:
    analysis, spec, fields = values_of(kind)
    assert analysis.kind == kind == fields["kind"]
    assert typing.get_args(spec.model_fields["kind"].annotation) == (kind,)
    assert spec.__module__ == f"interp.analyses.{kind}"


def test_spec_round_trips_through_canonical_json(kind: str) -> None:
    analysis, spec, fields = values_of(kind)
    for given in (analysis.example.canonical, fields, json.dumps(fields, indent=3)):
        again = interp.parse(given)
        assert type(again) is spec
        assert again == analysis.example
        assert again.canonical == analysis.example.canonical
    assert hash(again) == hash(analysis.example)
    with pytest.raises(interp.InterpError):
        interp.parse({**fields, "no such field": 1})
    with pytest.raises(ValueError, match="frozen"):
        again.seed = 1  # type: ignore[misc]


def test_every_field_is_described_and_has_a_widget(kind: str) -> None:
    _, spec, fields = values_of(kind)
    assert set(fields) == set(spec.model_fields)
    for name, info in spec.model_fields.items():
        if name == "kind":
            continue
        assert kind_of(spec, name) in KINDS, name
        assert info.description, name
        assert info.description[-1] == ".", name
    assert kind_of(spec, "model") == "model"
    assert kind_of(spec, "seed") == "seed"


def test_question_inputs_and_cost_are_said_before_running(kind: str) -> None:
    analysis, _, _ = values_of(kind)
    inputs = analysis.inputs(analysis.example)
    assert inputs.model == analysis.example.model
    assert inputs == analysis.inputs(analysis.example)
    cost = analysis.cost(analysis.example, inputs)
    assert isinstance(cost, Cost)
    assert min(cost.tokens, cost.passes, cost.bytes) > 0
    assert_paragraph(analysis.question(analysis.example))
    assert_paragraph(analysis.about)
    assert analysis.needs(model(analysis.example.model).info) is None
    assert analysis.version >= 1


# --- running -------------------------------------------------------------------------------------


def test_example_runs(kind: str) -> None:
    run = example(kind)
    print(f"{kind}: the example takes {run.seconds:.3f} s with the model loaded")
    fractions = [step.fraction for step in run.steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(0 <= f <= 1 for f in fractions)
    assert type(run.result) is analyses.get(kind).result


@pytest.mark.parametrize("rows", [None, 3])
def test_every_yield_draws_and_reads(kind: str, rows: int | None) -> None:
    analysis, run = analyses.get(kind), example(kind, rows)
    steps = [run.steps[i] for i in shown(run)]
    drawn = {assert_draws(analysis.figures(step.result)) for step in steps}
    assert len(drawn) == 1, f"names change while it runs: {drawn}"
    for step in steps:
        assert_paragraph(analysis.verdict(step.result))
        assert all(isinstance(score, Score) for score in analysis.scores(step.result))
        assert_result_is_plain(step.result)


def test_earlier_yields_are_not_changed_by_later_ones(kind: str) -> None:
    run = example(kind, rows=3)
    for i in shown(run):
        assert_same_tree(run.steps[i].result, run.as_yielded[i])


def test_stopping_early_leaves_the_model_as_it_was(kind: str) -> None:
    analysis = analyses.get(kind)
    loaded = model(analysis.example.model)
    before = logits(loaded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.models.batches._MOST_ROWS", 3)
        steps = analysis.run(analysis.example, context(analysis, analysis.example))
        next(steps)
        assert_no_hooks(loaded, "first step")
        steps.close()
    assert_no_hooks(loaded, "after closing")
    assert torch.equal(logits(loaded), before)
    with loaded.hooked.hooks(fwd_hooks=[("hook_embed", lambda act, hook: act * 2)]):
        assert not torch.equal(logits(loaded), before)  # the control: a hook would show
        with pytest.raises(AssertionError):
            assert_no_hooks(loaded, "control")


def test_same_spec_gives_the_same_bits(kind: str) -> None:
    analysis = analyses.get(kind)
    again = analyses.parse(analysis.example.canonical)
    *_, last = analysis.run(again, context(analysis, again))
    assert_same_tree(last.result, example(kind).result)


def test_resuming_from_a_checkpoint_never_goes_back(kind: str) -> None:
    """A second attempt starts where the first one was, also in what it saves, and ends the same."""
    analysis = analyses.get(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.models.batches._MOST_ROWS", 3)
        first = context(analysis, analysis.example)
        steps = analysis.run(analysis.example, first)
        whole = example(kind, rows=3).steps
        for _ in range(1 + len(whole) // 2):
            reached = next(steps).fraction
        steps.close()
        if first.saved is None:
            return  # it keeps no checkpoint: another attempt starts from zero
        second = context(analysis, analysis.example)
        second.checkpoint = copy.deepcopy(first.saved)
        again = list(analysis.run(analysis.example, second))
    assert_same_tree(again[-1].result, example(kind, rows=3).result)
    assert again[0].fraction >= reached, f"at {reached:.0%}, resumed at {again[0].fraction:.0%}"


@pytest.mark.parametrize("rows", [None, 3])
def test_results_survive_the_store_exactly(kind: str, rows: int | None) -> None:
    analysis = analyses.get(kind)
    run = example(kind, rows)
    for result in (run.steps[i].result for i in shown(run)):
        packed = pack(result)
        again = unpack(analysis.result, packed)
        assert_same_tree(again, result)
        assert pack(again) == packed
        assert pack(copy.deepcopy(result)) == packed


def test_no_claim_of_success_is_a_bare_number(kind: str) -> None:
    assert_no_bare_claim(analyses.get(kind).result)
    assert_no_bare_claim(Score)
    wrong = make_dataclass("Wrong", [("probe_auroc", float | None)])
    with pytest.raises(AssertionError):
        assert_no_bare_claim(make_dataclass("Outer", [("inner", tuple[wrong, ...])]))
    with pytest.raises(AssertionError):
        assert_result_is_plain((1.0, (torch.zeros(1),)))


def test_clicks_are_answered(kind: str) -> None:
    """Every point that a selectable figure can report is something that ``inspect`` can read."""
    analysis, result = analyses.get(kind), example(kind).result
    for named in analysis.figures(result):
        points = [p for t in named.figure.data if t.customdata is not None for p in t.customdata]
        assert bool(points) == named.selectable, named.name
        for point in points:
            more = analysis.inspect(result, {str(i): int(v) for i, v in enumerate(point)})
            if more is None:
                continue
            assert_paragraph(more[0])
            if more[1]:
                assert_draws(more[1])


def test_follow_ups_fill_in_forms(kind: str) -> None:
    analysis, run = analyses.get(kind), example(kind)
    ups = analysis.follow_ups(analysis.example, run.result)
    assert len({up.label for up in ups}) == len(ups)
    for up in ups:
        assert_paragraph(up.label)
        if up.fields["kind"] not in interp.kinds():
            continue  # not installed: the page leaves it out
        known = analyses.get(up.fields["kind"]).spec.model_fields
        assert set(up.fields) <= set(known), up.label
        parsed = interp.parse(up.fields)
        assert json.loads(json.dumps(up.fields)) == up.fields
        assert parsed != analysis.example, f"{up.label} asks what was asked"


# --- what stands beside the module ---------------------------------------------------------------


def test_sources_are_cited(kind: str) -> None:
    cites = analyses.get(kind).cites
    assert cites
    for cite in cites:
        assert_paragraph(cite.text)
        assert cite.bibtex.startswith("@")
        assert cite.bibtex.count("{") == cite.bibtex.count("}")
        for part in ("author = {", "title = {", "year = {"):
            assert part in cite.bibtex


def test_how_to_exists_and_names_its_sources(kind: str) -> None:
    path = ROOT / "docs" / "how-to" / f"{kind}.md"
    assert path.exists(), f"docs/how-to/{kind}.md is missing"
    text = path.read_text()
    assert len(text) > 400
    for cite in analyses.get(kind).cites:
        author = cite.text.split()[0].rstrip(",")
        assert author in text, f"{path.name} does not name {author}"


def test_page_is_thin(kind: str) -> None:
    lines = (ROOT / "pages" / f"{kind}.py").read_text().splitlines()
    assert len(lines) <= 8
    assert any(f'"{kind}"' in line for line in lines)


def test_oracles_exist(kind: str) -> None:
    path = ROOT / "tests" / "oracles" / f"test_{kind}.py"
    assert path.exists()
    assert "ledger(" in path.read_text()


def test_kinds_do_not_know_one_another(kind: str) -> None:
    names = imported(ROOT / "interp" / "analyses" / f"{kind}.py")
    others = {f"interp.analyses.{other}" for other in interp.kinds() if other != kind}
    assert not names & others


def test_importing_it_imports_no_torch(kind: str) -> None:
    heavy = "{'torch', 'transformer_lens', 'streamlit', 'sqlalchemy'}"
    code = f"import sys, interp.analyses.{kind}; print(sorted({heavy} & set(sys.modules)))"
    assert python(code).strip() == "[]"


# --- taking one away -----------------------------------------------------------------------------

TREE = ("interp", "ui", "pages", "zoo", "docs", "app.py")
PAGES = """
import sys
from unittest.mock import patch
from streamlit.testing.v1 import AppTest
import streamlit, ui.shell
with patch.object(streamlit, "Page", lambda path, **more: (path.stem, path.exists())):
    pages = [page for group in ui.shell._pages().values() for page in group]
assert all(exists for _, exists in pages), pages
at = AppTest.from_file("app.py", default_timeout=60)
for name in ["home", *sys.argv[1:]]:
    at.switch_page(f"pages/{name}.py").run()
    assert not at.exception, at.exception
    assert not at.error, at.error
    print("page", name, at.title[0].value)
print("pages", *sorted(name for name, _ in pages))
assert "torch" not in sys.modules
"""
WITHOUT = """
import sys
import interp
from interp import __main__, worked
from interp.store import open_store
print("kinds", *interp.kinds())
print("worked", *(one.spec["kind"] for one in worked.worked()))
worked.add_worked(open_store())
print("stored", *(record.kind for record in open_store().records.list()))
assert __main__.main(["kinds"]) == 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A copy of the sources in which files may be added and taken away."""
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / "tree" / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / "tree" / name)
    yield tmp_path / "tree"
    shutil.rmtree(tmp_path / "tree")


def said(output: str, word: str) -> list[str]:
    """The words of the lines that begin with ``word``."""
    return [
        w for line in output.splitlines() if line.startswith(word + " ") for w in line.split()[1:]
    ]


def leads_to(other: str, kind: str) -> bool:
    """Whether an answer of a kind may offer questions of another: its page may name it."""
    folder = ROOT / "interp" / "analyses"
    parts = imported(folder / f"{other}.py")
    files = [folder / f"{name.rsplit('.')[-1]}.py" for name in parts | {other}]
    told = [file.read_text() for file in files if file.exists()]
    return analyses.get(other).circuit is not None or any(f'"{kind}"' in text for text in told)


def test_a_kind_can_be_deleted(kind: str, tree: Path) -> None:
    """Its module and its page: nothing else names it."""
    (tree / "interp" / "analyses" / f"{kind}.py").unlink()
    (tree / "pages" / f"{kind}.py").unlink()
    rest = [other for other in interp.kinds() if other != kind]
    pages = [other for other in rest if leads_to(other, kind)]
    output = python(WITHOUT + PAGES, *pages, "models", "analyses", "about", cwd=tree)
    assert said(output, "kinds") == rest
    assert set(said(output, "worked")) == set(said(output, "stored")) == set(rest)
    assert [line.split()[0] for line in output.splitlines() if '{"' in line] == rest
    fixed = {"home", "record", "models", "analyses", "about"}
    assert set(said(output, "pages")) == {*rest, *fixed}

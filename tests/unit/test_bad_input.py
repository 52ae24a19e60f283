"""Questions that cannot be asked: each is one sentence more, never a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import interp
from interp import analyses
from interp.__main__ import main
from interp.errors import BadInput, InterpError, PromptTooLong, UnequalPair, UnknownName
from interp.errors import UnknownToken as NoToken
from interp.figures import theme
from interp.jobs.submit import prepare
from interp.models.catalogue import info

ROOT = Path(__file__).resolve().parents[2]
INDUCTION, PARENS = "induction-handmade", "paren-balancer"
# A refused question leaves nothing in a data folder: one serves all.
pytestmark = pytest.mark.usefixtures("shared_home")
CASES: dict[str, tuple[dict[str, Any] | str, type[InterpError], str]] = {}


def lens(**fields: Any) -> dict[str, Any]:
    return {"kind": "logit_lens", "model": INDUCTION, **fields}


def patching(*pairs: tuple[str, str, str, str], **fields: Any) -> dict[str, Any]:
    names = ("clean", "corrupted", "answer", "foil")
    typed = [dict(zip(names, pair, strict=True)) for pair in pairs]
    return {"kind": "activation_patching", "model": INDUCTION, "pairs": typed, **fields}


CASES = {
    "prompt longer than the model": (
        lens(prompt="ab" * 30),
        PromptTooLong,
        f"{INDUCTION} has {info(INDUCTION).n_ctx} positions",
    ),
    "pair longer than the model": (
        patching(("(" * 60, ")" * 60, "balanced", "unbalanced"), model=PARENS),
        PromptTooLong,
        f"{PARENS} has {info(PARENS).n_ctx} positions",
    ),
    "character without a token": (lens(prompt="ab7a"), NoToken, "'7' at character 2"),
    "capital letter": (lens(prompt="Ab"), NoToken, "'A' at character 0"),
    "space": (lens(prompt="a b"), NoToken, "' ' at character 1"),
    "line break": (lens(prompt="a\nb"), NoToken, "'\\n' at character 1"),
    "emoji": (lens(prompt="a\U0001f600"), NoToken, "at character 1"),
    "combining accent": (lens(prompt="ae\u0301"), NoToken, "at character 2"),
    "nothing": (lens(prompt=""), BadInput, "The prompt is empty"),
    "markup for letters": (lens(prompt="<script>"), NoToken, "'<' at character 0"),
    "markup for parentheses": (
        lens(prompt="<script>", model=PARENS),
        NoToken,
        "'<' at character 0",
    ),
    "equal clean and corrupted": (
        patching(("kmabcda", "kmabcda", "b", "d")),
        UnequalPair,
        "Clean and corrupted must differ",
    ),
    "pairs of unequal length": (
        patching(("kmabcda", "kmabcd", "b", "d")),
        UnequalPair,
        "has 8 tokens, corrupted 'kmabcd' has 7",
    ),
    "no pair": (patching(), BadInput, "No prompt pair was given"),
    "empty clean": (patching(("", "a", "b", "d")), BadInput, "The clean prompt is empty"),
    "answer that is no output": (
        patching(("kmabcda", "kmebcda", "xyz", "d")),
        NoToken,
        "The answer 'xyz' was asked for",
    ),
    "answer that is no class": (
        patching(("()", "((", "(", "unbalanced"), model=PARENS),
        NoToken,
        "Choose one of: unbalanced, balanced",
    ),
    "lens answer that is no output": (lens(answer="xyz"), NoToken, "It is not one token"),
    "no answer": (patching(("kmabcda", "kmebcda", "", "d")), BadInput, "has no answer"),
    "answer equal to foil": (
        patching(("kmabcda", "kmebcda", "b", "b")),
        BadInput,
        "Answer and foil are both 'b'",
    ),
    "logit difference without a foil": (
        patching(("kmabcda", "kmebcda", "b", "")),
        BadInput,
        "compares the answer with a foil",
    ),
    "one pair of two without a foil": (
        patching(("kmabcda", "kmebcda", "b", "d"), ("kmabcda", "kmfbcda", "b", "")),
        BadInput,
        "A pair has none",
    ),
    "several lengths on a map by position": (
        patching(
            ("()", "((", "balanced", "unbalanced"),
            ("(())", "((((", "balanced", "unbalanced"),
            model=PARENS,
            site="resid_pre",
        ),
        BadInput,
        "These pairs have 4 to 6 tokens",
    ),
    "site that the model lacks": (
        patching(("kmabcda", "kmebcda", "b", "d"), site="mlp_out"),
        UnknownName,
        f"no site in {INDUCTION} called 'mlp_out'",
    ),
    "site that nobody has": (
        patching(("kmabcda", "kmebcda", "b", "d"), site="neurons"),
        BadInput,
        "The field 'site' of activation_patching was 'neurons'",
    ),
    "behavior of another model": (
        patching(behavior="paren-near-misses"),
        BadInput,
        f"Its tokens are those of {PARENS}",
    ),
    "unknown behavior": (
        patching(behavior="paren-near-mises", model=PARENS),
        UnknownName,
        "Did you mean 'paren-near-misses'?",
    ),
    "more pairs than there are": (
        patching(behavior="paren-near-misses", model=PARENS, n_pairs=1001),
        BadInput,
        "Input should be less than or equal to 1000",
    ),
    "no pairs at all": (
        patching(behavior="paren-near-misses", model=PARENS, n_pairs=0),
        BadInput,
        "Input should be greater than or equal to 1",
    ),
    "unknown model": (
        lens(model="induction-handmad"),
        UnknownName,
        "Did you mean 'induction-handmade'?",
    ),
    "path for a model": (lens(model="../../etc"), UnknownName, "no model called '../../etc'"),
    "unknown kind": ({"kind": "logit_lense"}, UnknownName, "Did you mean 'logit_lens'?"),
    "path for a kind": ({"kind": "../store"}, UnknownName, "no kind of analysis"),
    "private module for a kind": ({"kind": "_record"}, UnknownName, "no kind of analysis"),
    "no kind": ({"model": INDUCTION}, BadInput, "a field 'kind'"),
    "number for a kind": ({"kind": 3}, BadInput, "a field 'kind'"),
    "list for a spec": ("[1, 2]", BadInput, "a JSON object"),
    "no JSON": ("{kind: logit_lens}", BadInput, "The spec is not JSON"),
    "empty file": ("", BadInput, "The spec is not JSON"),
    "unknown field": (lens(promt="abc"), BadInput, "Did you mean 'prompt'?"),
    "unknown field of a pair": (
        patching() | {"pairs": [{"clean": "a", "corrupted": "b", "answer": "c", "fool": "d"}]},
        BadInput,
        "fool",
    ),
    "missing field of a pair": (
        patching() | {"pairs": [{"clean": "a"}]},
        BadInput,
        "The field 'pairs.0.corrupted' of activation_patching",
    ),
    "word for a seed": (lens(seed="one"), BadInput, "The field 'seed' of logit_lens"),
    "negative seed": (lens(seed=-1), BadInput, "Input should be greater than or equal to 0"),
    "null for a prompt": (lens(prompt=None), BadInput, "The field 'prompt' of logit_lens"),
    "word for pairs": (
        patching() | {"pairs": "abc"},
        BadInput,
        "The field 'pairs' of activation_patching was 'abc'",
    ),
    "direction that is none": (
        patching(("kmabcda", "kmebcda", "b", "d"), direction="sideways"),
        BadInput,
        "The field 'direction' of activation_patching was 'sideways'",
    ),
}
every_case = pytest.mark.parametrize(("spec", "error", "said"), CASES.values(), ids=CASES)


@every_case
def test_is_refused_with_a_sentence(
    spec: dict[str, Any] | str, error: type[InterpError], said: str
) -> None:
    with pytest.raises(error) as refused:
        prepare(spec)
    text = str(refused.value)
    assert said in text
    assert text.endswith((".", "?"))
    assert "\n" not in text
    assert "Traceback" not in text
    assert "pydantic" not in text
    # What would work: the last part, or what the middle one says of the field.
    assert refused.value.works or refused.value.found
    with pytest.raises(InterpError):
        interp.submit(spec if isinstance(spec, dict) else interp.parse(spec))


@every_case
def test_is_one_line_and_exit_code_2_on_the_command_line(
    spec: dict[str, Any] | str,
    error: type[InterpError],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    main(["list"])
    before = capsys.readouterr().out
    assert main(["run", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("because: ")
    assert err.count("\n") == 1
    assert said in err
    # No record was made.
    assert main(["list"]) == 0
    assert capsys.readouterr().out == before


def test_the_command_itself(tmp_path: Path) -> None:
    """As a person types it: no warning of a library, no traceback around the one line."""
    done = subprocess.run(
        [sys.executable, "-m", "interp", "run", "-"],
        cwd=ROOT,
        env={**os.environ, "BECAUSE_HOME": str(tmp_path)},
        input=json.dumps(lens(prompt="<script>")),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "because: The prompt has '<' at character 0. induction-handmade has no token for it. "
        "It reads: a b c d e f g h i j k l m n o p q r s t u v w x y z."
    ]


def test_pairs_without_a_gap_end_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This one only the model can tell: both runs answer alike."""
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(patching(("abcdef", "abcdfe", "x", "y"))))
    assert main(["run", str(file)]) == 2
    out, err = capsys.readouterr()
    assert "failed" in out
    assert "in both" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("path", ["missing.json", "."])
def test_a_file_that_cannot_be_read(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", path]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            b'{"kind": "logit_lens", "prompt": "\\ud800"}',
            id="half a surrogate pair",
        ),
        pytest.param(
            b'{"kind": "logit_lens", "prompt": "\xe9"}',
            id="no UTF-8",
        ),
        pytest.param(
            b"[" * 100_000,
            id="brackets without end",
        ),
        pytest.param(b'{"kind": "logit_lens", "prompt": "\x00"}', id="control character"),
        pytest.param(b'{"kind": "logit_lens", "prompt": "\\u0000"}', id="null character"),
        pytest.param(b'{"kind": "logit_lens", "seed": NaN}', id="no number"),
        pytest.param(b'{"kind": "logit_lens", "seed": 1e999}', id="infinity"),
        pytest.param(b'{"kind": "logit_lens", "seed": 99999999999999999999}', id="too large"),
    ],
)
def test_a_file_of_rubbish_is_one_line(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spec.json"
    file.write_bytes(data)
    assert main(["run", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("because: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("record", ["0" * 32, "", "../x", "' OR 1=1 --"])
def test_an_id_that_is_none(record: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", record]) == 2
    err = capsys.readouterr().err
    assert "There is no record" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("BECAUSE_LEASE_S", "soon"), ("BECAUSE_IDLE_S", "-1"), ("BECAUSE_THREADS", "0")],
)
def test_a_setting_that_is_no_number(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["list"]) == 2
    assert capsys.readouterr().err.startswith(f"because: {name} is '{value}'.")


@pytest.mark.parametrize(
    "text", ["<script>", "<b>x</b>", "a<br>b", '"><img src=x>', "&lt;", "<" * 50, " <", "\n<"]
)
def test_labels_of_figures_hold_no_markup(text: str) -> None:
    shown = theme.label(text)
    assert "<" not in shown
    assert ">" not in shown
    assert "&quot;" not in shown  # a label is text, where quotes are no markup
    (position,) = theme.positions((text,))
    assert position.replace("<br><sub>0</sub>", "").count("<") == 0


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[x](javascript:1)", "**b**", "$x$"])
def test_markdown_of_pages_holds_no_markup(text: str) -> None:
    from ui.parts import escape

    shown = escape(text)
    for mark in "<>[]*$":
        assert all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c == mark)


def test_every_example_can_be_asked() -> None:
    for kind in analyses.kinds():
        assert prepare(analyses.get(kind).example).key

"""Adding a kind takes one module and one page of three lines, and no other edit."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.contract._checks import ROOT, python

MODULE = '''"""How long is a prompt?"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from interp.analyses._fields import ModelName, Prompt, Seed
from interp.analyses._record import Analysis, Cite, Context, Cost, Spec, Step
from interp.behaviors import from_prompt
from interp.figures import curves
from interp.figures.named import NamedFigure


class PromptLength(Spec):
    """Count the tokens of one prompt."""

    kind: Literal["prompt_length"] = "prompt_length"
    model: ModelName = Field("induction-handmade", description="The model asked.")
    prompt: Prompt = Field("kmabcda", description="The prompt, as text.")
    seed: Seed = Field(0, description="Not used.")


@dataclass(frozen=True)
class Result:
    """Number of tokens."""

    lengths: np.ndarray


def run(spec: PromptLength, ctx: Context) -> Generator[Step[Result], None, None]:
    """Count."""
    yield Step(1.0, Result(np.array([float(n) for n in ctx.inputs.lengths])))


ANALYSIS = Analysis(
    kind="prompt_length",
    page=("Look", "Length"),
    about="How many tokens has this prompt?",
    spec=PromptLength,
    result=Result,
    question=lambda s: f"How many tokens has {s.prompt!r}?",
    inputs=lambda s: from_prompt(s.model, s.prompt),
    cost=lambda s, b: Cost(tokens=1, passes=1, bytes=1),
    run=run,
    figures=lambda r: [
        NamedFigure("n", "Tokens", "", curves.bars(["n"], r.lengths, titles=("tokens", "prompt")))
    ],
    verdict=lambda r: f"It has {int(r.lengths[0])} tokens.",
    scores=lambda r: (),
    inspect=lambda r, cell: None,
    follow_ups=lambda s, r: (),
    example=PromptLength(),
    cites=(Cite("Nobody (2026)", "@misc{nobody,}"),),
)
'''
PAGE = '''"""Length: how many tokens has this prompt?"""
from ui.page import method_page
method_page("prompt_length")
'''
USE = """
import sys
import interp
print("kinds", *interp.kinds())
import ui.shell
from streamlit.testing.v1 import AppTest

def opened():
    at = AppTest.from_file("app.py", default_timeout=60)
    at.switch_page("pages/prompt_length.py").run()
    assert not at.exception, at.exception
    assert not at.error, at.error
    assert at.title[0].value == "Length", at.title
    return [box.value for box in at.info]

asked = opened()
assert asked and "not been asked yet" in asked[0], asked
assert "torch" not in sys.modules
answer = interp.run({"kind": "prompt_length", "prompt": "kmab"})
print("verdict", answer.state, answer.verdict)
answer = interp.run({"kind": "prompt_length"})
assert "It has 8 tokens." in opened(), opened()
"""


def test_a_kind_is_added_by_one_module_and_three_lines(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("interp", "ui", "pages", "zoo", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tree / "app.py")
    (tree / "interp" / "analyses" / "prompt_length.py").write_text(MODULE)
    (tree / "pages" / "prompt_length.py").write_text(PAGE)
    assert PAGE.count("\n") == 3
    said = dict(line.split(" ", 1) for line in python(USE, cwd=tree).splitlines() if " " in line)
    assert "prompt_length" in said["kinds"].split()
    assert said["verdict"] == "done It has 5 tokens."

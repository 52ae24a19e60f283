"""Compute what the write-up on the meaning of scrubbed scores says: ``python -m zoo.findings``.

Writes ``docs/findings/what-the-number-means.md`` and its pictures. Needs a Chromium on the path.
Takes some minutes on one core.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp import analyses
from interp.analyses import _worth_given as given
from interp.analyses._record import Context
from interp.analyses._worth_result import (
    ALL,
    ALONE,
    BITS,
    BOTH,
    MEASURES,
    MECHANISMS,
    NO_LABEL,
    WITHIN,
    Result,
    figures,
    told,
)
from interp.analyses._worth_words import sign, verdict
from interp.behaviors.populations import population, token_names
from interp.explanations.hypothesis import SEPARATE, SHARED, Hypothesis
from interp.explanations.matching import WITHOUT
from interp.explanations.presets import presets
from interp.methods.scrubbing.anchors import empty
from interp.methods.scrubbing.budget import budget
from interp.methods.scrubbing.candidates import MORE, WRONG
from interp.methods.scrubbing.found import Found
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.intervals import of_mean
from interp.methods.scrubbing.nulls import rank
from interp.methods.scrubbing.run import Amount, test
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel, load
from interp.scores import Interval
from zoo._findings_text import WRITE_UP

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "findings"
NAME = "what-the-number-means"
BALANCERS = ("paren-balancer", "paren-balancer@seed-2", "paren-balancer@seed-3")
INPUTS, DRAWS, NULLS = 1000, 4, 60
HYPOTHESES, QUERIES = 80, 600
SEEDS = (0, 1, 2)


@lru_cache
def _model(name: str) -> LoadedModel:
    return load(name, "cpu")


# --- the table of the published claims ------------------------------------------------------------


def _claims(model: LoadedModel) -> Iterator[tuple[str, Hypothesis]]:
    """Yield the published heads, the same claims of components with these roles, and nothing."""
    behavior = population("paren-strings", INPUTS, model.info.name)
    for one in presets("paren-balancer"):
        if one.hypothesis.graph.children:
            yield f"published {one.name.removeprefix('paren-')}, heads verbatim", one.hypothesis
    for one in given.matched(model, behavior, 0):
        yield one.how, one.hypothesis
    yield "nothing claimed, one draw for all", empty(SHARED)
    yield "nothing claimed, separate draws", empty(SEPARATE)


def table(name: str) -> str:
    """Test every claim on one model and return a table."""
    model = _model(name)
    behavior = population("paren-strings", INPUTS, name)
    inputs = Inputs.of(behavior, token_names("paren-strings", name))
    which = np.ones(len(inputs), bool)
    rows: list[str] = []
    found = None
    for said, hypothesis in _told_and_untold(model, inputs):
        nulls = _nulls(hypothesis)
        bare = hypothesis.model_copy(update={"model": "", "behavior": ""})
        *_, (_, found) = test(model, bare, inputs, which, Amount(DRAWS, nulls, 0))
        rows.append(_row(said, found))
        print(name, rows[-1], flush=True)
    assert found is not None
    own, shuffled = float(found.measured.model[0].mean()), float(found.shuffled.mean())
    guess = float(found.constant.mean())
    share = (shuffled - guess) / (shuffled - own)
    most = max(np.bincount(inputs.labels)) / len(inputs)
    rows.append(f"| best constant guess | {guess:.3f} | {share:.1%} | {most:.3f} | | no | | |")
    head = (
        f"**{name}**: model {own:.4f} nats, shuffled answers {shuffled:.3f}.\n\n"
        "| hypothesis | loss, nats | recovered | accuracy | KL, nats | label determined "
        "| rank among random sites (median) | rank among random features (median) |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def _told_and_untold(model: LoadedModel, inputs: Inputs) -> Iterator[tuple[str, Hypothesis]]:
    """Yield the claims; where some still tell the answer jointly, also without those."""
    for said, hypothesis in _claims(model):
        yield said, hypothesis
        rest = _untelling(hypothesis, inputs, model.info) if said.endswith(WITHOUT) else hypothesis
        if rest is not hypothesis and rest.graph.children:
            yield f"{said} or jointly", rest


def _untelling(hypothesis: Hypothesis, inputs: Inputs, info: ModelInfo) -> Hypothesis:
    """Leave out nodes until none determine the label, alone or jointly, few rather than many."""
    while leaks := budget(hypothesis, inputs, info, DRAWS).leaks:
        groups = Counter(group for leak in leaks for group in leak.groups)
        for name in min(groups, key=lambda group: (len(group), -groups[group], group)):
            hypothesis = hypothesis.replaced(name, None)
    return hypothesis


def _nulls(hypothesis: Hypothesis) -> int:
    """Return how many random hypotheses stand beside one: fewer where each takes long."""
    if not hypothesis.graph.children or hypothesis.rewrites:
        return 0
    nested = any(child.children for child in hypothesis.graph.children)
    return NULLS // 6 if nested else NULLS


def _row(said: str, found: Found) -> str:
    loss, measured = float(found.measured.loss.mean()), found.measured
    own, shuffled = float(measured.model[0].mean()), float(found.shuffled.mean())
    bounds = of_mean(measured.loss, np.random.default_rng(0))
    ends = f" [{bounds.low:.3f}, {bounds.high:.3f}]" if isinstance(bounds, Interval) else ""
    cells = [
        said,
        f"{loss:.3f}{ends}",
        f"{(shuffled - loss) / (shuffled - own):.1%}",
        f"{measured.right.mean():.3f}",
        f"{measured.kl.mean():.3f}",
        "yes" if found.budget.leaks else "no",
        *(_ranked(loss, null, (shuffled, own)) for null in (found.sites, found.features)),
    ]
    return f"| {' | '.join(cells)} |"


def _ranked(loss: float, null: np.ndarray, ends: tuple[float, float]) -> str:
    done = null[np.isfinite(null[:, 0]), 0]
    if not len(done):
        return ""
    place, of = rank(loss, done, larger_is_better=False)
    median = (ends[0] - float(np.median(done))) / (ends[0] - ends[1])
    return f"{place} of {of} ({median:.0%})"


# --- scores against successes ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """One question of the kind ``does_the_number_matter`` and its answer."""

    fields: dict[str, Any]
    result: Result


def matter(model: str, behavior: str, downstream: str, seed: int) -> Run:
    """Ask whether the number matters."""
    analysis = analyses.get("does_the_number_matter")
    fields = {
        "kind": analysis.kind,
        "model": model,
        "behavior": behavior,
        "downstream": downstream,
        "n_hypotheses": HYPOTHESES,
        "n_inputs": INPUTS if downstream == MECHANISMS else QUERIES,
        "draws": DRAWS,
        "seed": seed,
    }
    spec = analyses.parse(fields)
    context = Context(analysis.inputs(spec), np.random.default_rng(seed), _model)
    *_, last = analysis.run(spec, context)
    print(model, downstream, seed, verdict(last.result), flush=True)
    return Run(fields, last.result)


def correlated(runs: list[Run], measure: str) -> str:
    """Return a table of correlations: a row a run."""
    subsets = (ALL, WITHIN, BITS, NO_LABEL, BOTH, f"{MORE}{ALONE}", f"{WRONG}{ALONE}")
    rows = [f"| model, good for, seed | hypotheses | successes | {' | '.join(subsets)} |"]
    rows.append("|" + "---|" * (3 + len(subsets)))
    for run in runs:
        result = run.result
        cells = [told(result.correlation(measure, subset)) for subset in subsets]
        groups = len(np.unique(result.group[result.known]))
        name = f"{result.model}, {result.downstream}, {run.fields['seed']}"
        rows.append(f"| {name} | {len(result.known)} | {groups} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _read(run: Run) -> str:
    """Return the sentences that read a run, without what the page says comes next."""
    return verdict(run.result).partition(" Next: ")[0]


def extremes(run: Run) -> str:
    """Return a table of the best hypotheses, and of those whose score misleads most."""
    result = run.result
    rows = [
        "| | hypothesis | loss recovered | KL, nats | bits | success |",
        "|---|---|---|---|---|---|",
    ]
    apart = result.ranks[0] - result.ranks[1]
    above = result.share > result.constant_share
    high = [k for k in result.misleading if apart[k] > 0 and above[k]][:3]
    low = [k for k in result.misleading if apart[k] < 0 and not above[k]][:3]
    for said, some in (
        ("best", result.best[:3]),
        ("above a constant guess, ranked lower by success", high),
        ("below a constant guess, ranked higher by success", low),
    ):
        for k in some:
            ends = f"[{result.low[k]:.3f}, {result.high[k]:.3f}]"
            rows.append(
                f"| {said} | {result.named(k)} | {result.share[k]:.1%} | "
                f"{result.kl[k]:.3f} | {result.bits[k]:.1f} | {result.success[k]:.3f} {ends} |"
            )
    return "\n".join(rows)


def signs(runs: list[Run], subset: str) -> str:
    """Count the runs in which a correlation is above 0, cannot be told from it, or is below."""
    of = [sign(run.result.correlation(MEASURES[0], subset)) for run in runs]
    count = Counter(of)
    return (
        f"above 0 in {count[1]} of {len(of)} runs, below in {count[-1]}, "
        f"not told from 0 in {count[0]}"
    )


def picture(run: Run, name: str) -> str:
    """Draw a scatter as PNG and return the line that shows it."""
    from playwright.sync_api import sync_playwright

    figure = figures(run.result)[0].figure
    figure.update_layout(width=900, height=480, paper_bgcolor="white", plot_bgcolor="white")
    path = FOLDER / f"{NAME}-{name}.png"
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 920, "height": 500}, device_scale_factor=1)
        page.set_content(figure.to_html(include_plotlyjs=True, full_html=True))
        page.wait_for_timeout(1500)
        page.screenshot(path=str(path))
        browser.close()
    return f"![{run.result.model}: score across, success upwards]({path.name})"


def kinds_in(run: Run) -> str:
    """Say how many hypotheses there are of each kind."""
    counts = Counter(run.result.kinds)
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def main() -> None:
    """Run everything and write it down."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    FOLDER.mkdir(parents=True, exist_ok=True)
    tables = "\n".join(table(name) for name in BALANCERS)
    two = ("two-mechanisms-paren", "two-mechanisms-induction")
    told_apart = [matter(name, name, MECHANISMS, seed) for name in two for seed in SEEDS]
    erring = [matter(name, "paren-strings", "adversarial", 0) for name in BALANCERS]
    paren, induction = told_apart[0], told_apart[len(SEEDS)]
    text = WRITE_UP.format(
        inputs=f"{INPUTS:,}",
        draws=DRAWS,
        nulls=NULLS,
        roles=given.ROLES_FROM,
        hypotheses=HYPOTHESES,
        queries=QUERIES,
        seeds=", ".join(map(str, SEEDS)),
        tables=tables,
        kinds_paren=kinds_in(paren),
        kinds_induction=kinds_in(induction),
        tried=", ".join(f"{run.result.tried}" for run in told_apart),
        by_loss=correlated(told_apart + erring, MEASURES[0]),
        by_kl=correlated(told_apart + erring, MEASURES[1]),
        picture_paren=picture(paren, "paren"),
        picture_induction=picture(induction, "induction"),
        picture_adversarial=picture(erring[0], "adversarial"),
        verdict_paren=_read(paren),
        verdict_induction=_read(induction),
        verdict_adversarial=_read(erring[0]),
        extremes_paren=extremes(paren),
        extremes_induction=extremes(induction),
        extremes_adversarial=extremes(erring[0]),
        all_apart=signs(told_apart, ALL),
        within_apart=signs(told_apart, WITHIN),
        both_apart=signs(told_apart, BOTH),
        more_apart=signs(told_apart, f"{MORE}{ALONE}"),
        all_erring=signs(erring, ALL),
        within_erring=signs(erring, WITHIN),
        yields=f"{min(r.result.success[r.result.known].min() for r in erring):.1%} to "
        f"{max(r.result.success[r.result.known].max() for r in erring):.1%}",
    )
    (FOLDER / f"{NAME}.md").write_text(text)
    print(f"{FOLDER / NAME}.md after {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

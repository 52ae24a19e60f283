"""What answers of activation patching say beside the map: bands, joint patches, arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.analyses import _slices
from interp.axes import Grid, PerPair
from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.figures import curves
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.models.info import ModelInfo
from interp.models.sites import INPUTS, Site, parse_sites
from interp.scores import Absent, Anchor, Interval, Score

PRECISIONS = {
    "model": "in the model's own precision",
    "screened": "screened in bfloat16, the largest effects exactly",
    "bfloat16": "with matrix products in bfloat16",
    "tf32": "with matrix products in TF32",
}


@dataclass(frozen=True)
class Arithmetic:
    """How a map was computed; ``off`` and ``rank`` are None where nothing was compared.

    Attributes:
        precision: One of ``PRECISIONS``.
        how: How the engine made the runs, a sentence.
        sampled: Random cells that were computed again.
        off: Largest deviation of their effects.
        rank: Spearman's correlation of their effects.
    """

    precision: str
    how: str
    sampled: int
    off: float | None
    rank: float | None

    @property
    def sentence(self) -> str:
        """Say it, with what the rounding did."""
        if self.precision == "model":
            return self.how
        said = f"{self.how} Computed {PRECISIONS[self.precision]}"
        if self.off is None:
            return f"{said}; its deviation comes with the complete map."
        ranked = "" if self.rank is None else f", rank correlation {self.rank:.3f}"
        return f"{said}: {self.deviation}{ranked}."

    @property
    def deviation(self) -> str:
        """Say how far random cells are off, or nothing where nothing was compared."""
        if self.off is None:
            return ""
        return (
            f"over {self.sampled} random cells computed again the effect is off by up to "
            f"{self.off:.2g}"
        )


OWN = Arithmetic("model", "", 0, None, None)
"""The arithmetic of answers from before there was a choice."""


@dataclass(frozen=True)
class Joint:
    """One patch of several places together, beside a patch of each of them alone.

    Attributes:
        places: The sites.
        values: Metric of each pair, patched jointly.
        alone: Effect of each site alone.
        beyond: Joint effect minus the sum of the single ones, with its interval.
        score: The joint effect with its scale.
    """

    places: tuple[str, ...]
    values: PerPair
    alone: tuple[float, ...]
    beyond: Interval | Absent
    score: Score

    @property
    def sentence(self) -> str:
        """Compare the joint effect with the sum of the single ones."""
        total = sum(self.alone)
        singles = " + ".join(two(one) for one in self.alone)
        bounds, beyond = self.score.interval, self.beyond
        given = f" [{two(bounds.low)}, {two(bounds.high)}]" if isinstance(bounds, Interval) else ""
        said = (
            f"Patched together, {' and '.join(self.places)} have an effect of "
            f"{two(self.score.value)}{given}; one at a time {singles} = {two(total)}"
        )
        if isinstance(beyond, Absent):
            return f"{said}."
        apart = f"{two(self.score.value - total)} [{two(beyond.low)}, {two(beyond.high)}]"
        if beyond.low <= 0 <= beyond.high:
            return f"{said}: not told apart from the sum ({apart})."
        return f"{said}: {'more' if beyond.low > 0 else 'less'} than the sum ({apart})."


def two(value: float) -> str:
    """Write two decimals, without a minus before zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def joint(
    places: Sequence[str],
    values: np.ndarray,
    runs: tuple[PerPair, PerPair, str],
    *,
    least: float,
    rng: np.random.Generator,
    clusters: tuple[int, ...],
) -> Joint | None:
    """Read a joint patch: metric ``[pair, patch]``, jointly first, then each place alone.

    None where there is no gap to share out.
    """
    clean, corrupted, direction = runs
    if not effects.has_gap(clean, corrupted, least):
        return None
    each = effects.effect(values[:, None], clean, corrupted, direction)[0]
    value, bounds = effects.one_effect(values[:, 0], *runs, rng, clusters=clusters)
    back = direction == "denoising"
    base = corrupted if back else clean
    # What the joint patch shifts beyond the single shifts, put on the base run: an effect, too.
    extra = base + (values[:, 0] - base) - (values[:, 1:] - base[:, None]).sum(1)
    _, beyond = effects.one_effect(extra, *runs, rng, clusters=clusters)
    score = Score(
        name=f"effect of {', '.join(places)} patched together",
        value=value,
        unit="of the gap",
        n=len(clean),
        floor=Anchor("corrupted run" if back else "clean run", 0.0),
        ceiling=Anchor("clean run" if back else "corrupted run", 1.0),
        constant=Absent("an effect is a difference of two runs: no output is guessed"),
        null=Absent("other sets of as many places were not patched"),
        interval=bounds,
        held_out=Absent("these places were named, not searched for on these pairs"),
    )
    singles = tuple(float(one) for one in each[1:])
    return Joint(tuple(places), values[:, 0], singles, beyond, score)


def clicked(
    result: Any, cell: tuple[int, int], *, said: str, name: str, what: str
) -> tuple[str, list[NamedFigure]]:
    """Say a clicked cell's number, and draw its spread over pairs and over slices of their gap.

    Args:
        result: An answer with the metric of each pair and cell, as Patching and Path patching have.
        cell: Row and column.
        said: What hover says of it.
        name: What the cell is called.
        what: What was done: "with this patch".
    """
    text, values = said.replace("<br>", "; "), result.values[:, cell[0], cell[1]]
    if result.inert[cell] or np.isnan(values).any():
        return text, []
    figure = curves.spread(
        values,
        title=f"{result.metric} {what} ({result.unit}), one point a pair",
        marks={"corrupted": float(result.corrupted.mean()), "clean": float(result.clean.mean())},
        hover=[f"pair {i}" for i in range(len(values))],
    )
    runs = (values, result.clean, result.corrupted, result.direction)
    why, split = _slices.split(
        ("gap", result.unit, result.clean - result.corrupted),
        "effect",
        ("all pairs", float(result.effect[cell])),
        effects.on_pairs(*runs, least=result.least_gap, unit=result.unit, clusters=result.clusters),
    )
    return f"{text}. {why}" if why else text, [NamedFigure("cell", name, "", figure), *split]


def different(low: Grid, high: Grid) -> str:
    """Answer whether any cell is different from 0, by the band for all tested cells at once."""
    tested = np.isfinite(low)
    if not tested.any():
        return ""
    n, of = int((tested & ((low > 0) | (high < 0))).sum()), int(tested.sum())
    some = (
        f"{n} of {of} cells differ{'s' if n == 1 else ''}" if n else f"None of {of} cells differs"
    )
    return f"{some} from 0 by a 95 % band for all of them at once (max-T)."


def check_together(model: ModelInfo, behavior: Behavior, text: str) -> None:
    """Refuse sites that cannot be patched together.

    Raises:
        UnknownName: The model has no such site.
        BadInput: It is an input of a path, a position that prompts do not have, or only one site.
    """
    sites = parse_sites(model, text)
    shortest = min(behavior.lengths)
    for site in sites:
        if site.component in INPUTS:
            raise BadInput(
                f"{site} was to be patched together with others.",
                "It is what one reader takes from the stream: the end of a path.",
                "Ask path patching for it, or patch a site such as L0H1.z or L2.mlp_out.",
            )
        if site.pos is not None and not 0 <= site.pos < shortest:
            raise BadInput(
                f"{site} was to be patched.",
                f"The shortest prompt has {shortest} tokens.",
                f"Choose positions 0 to {shortest - 1}.",
            )
    if len(sites) == 1 or any(_inside(a, b) for a in sites for b in sites if a is not b):
        raise BadInput(
            f"{text!r} was to be patched together.",
            "It names one place only, or one inside another.",
            "Name two different places or more, between commas: L0H1.z, L2.mlp_out@4.",
        )


def _inside(a: Site, b: Site) -> bool:
    """Whether patching ``b`` patches ``a`` too; a head's result is its output ``z``."""
    kind = [site.component.replace("result", "z") for site in (a, b)]
    same = kind[0] == kind[1] and (a.layer, a.head) == (b.layer, b.head)
    return same and b.pos in (None, a.pos)

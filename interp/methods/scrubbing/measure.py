"""What a scrubbed model gives on every reference and draw, as batches finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from interp.methods.scrubbing.intervals import Matrix
from interp.methods.scrubbing.logits import Logits, Outputs, differences, divergences, losses

METRICS = {
    "loss": ("cross-entropy loss", "nats"),
    "accuracy": ("accuracy", "share"),
    "kl": ("KL(model ‖ scrubbed)", "nats"),
    "gap": ("|change of the logit difference|", "logits"),
}
"""Name and unit of what is measured; accuracy alone is better when larger."""
BATCH = 256
"""References between two looks at a running estimate."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Measures of single scrubbed runs, ``[draw, ref]``; NaN where not computed yet.

    Attributes:
        loss: Cross-entropy of the reference's own label, in nats.
        right: 1 where the label has the largest logit.
        kl: KL divergence from the model's answer on the reference, in nats.
        diff: Logit of the label minus that of the foil; NaN where there is no foil.
        model: The same of the model itself: ``[measure, ref]`` in the order loss, right, diff.
    """

    loss: Matrix
    right: Matrix
    kl: Matrix
    diff: Matrix
    model: Float[np.ndarray, "measure ref"]

    def of(self, metric: str) -> Matrix:
        """Return one of ``METRICS``."""
        if metric == "gap":
            return np.abs(self.diff - self.model[2])
        return {"loss": self.loss, "accuracy": self.right, "kl": self.kl}[metric]

    @property
    def done(self) -> float:
        """Share of the runs that are computed."""
        return float(np.isfinite(self.loss).mean())

    @property
    def complete(self) -> Measured:
        """The draws that all references have; all that was computed, as one draw, before that.

        A running estimate goes through references first, then through further draws.
        """
        whole = np.isfinite(self.loss).all(1)
        if whole.any():
            return self._taken(np.flatnonzero(whole), np.arange(self.loss.shape[1]))
        return self._taken(np.arange(1), np.flatnonzero(np.isfinite(self.loss[0])))

    def taken(self, refs: Int[np.ndarray, "some"]) -> Measured:
        """Return the measures of some references."""
        return self._taken(np.arange(len(self.loss)), refs)

    def _taken(self, draws: np.ndarray, refs: np.ndarray) -> Measured:
        parts = (self.loss, self.right, self.kl, self.diff)
        loss, right, kl, diff = (part[np.ix_(draws, refs)] for part in parts)
        return Measured(loss, right, kl, diff, self.model[:, refs])


@dataclass(frozen=True, eq=False)
class References:
    """Reference inputs: their numbers, labels, foils and the model's own logits."""

    rows: Int[np.ndarray, "ref"]
    labels: Outputs
    foils: Outputs
    logits: Logits

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, at: np.ndarray | slice) -> References:
        """Return some of them."""
        return References(self.rows[at], self.labels[at], self.foils[at], self.logits[at])

    @property
    def model(self) -> Float[np.ndarray, "measure ref"]:
        """Loss, whether it is right, and logit difference of the model on each."""
        right = self.logits.argmax(-1) == self.labels
        diff = differences(self.logits, self.labels, self.foils)
        return np.stack([losses(self.logits, self.labels), right.astype(float), diff])


def nothing_yet(refs: References, draws: int) -> Measured:
    """Return measures of which none is computed."""
    empty = [np.full((draws, len(refs)), np.nan) for _ in range(4)]
    return Measured(*empty, model=refs.model)


def measured(refs: References, logits: Sequence[Logits]) -> Measured:
    """Measure logits of scrubbed runs, one array a draw."""
    rows = [
        (
            losses(one, refs.labels),
            (one.argmax(-1) == refs.labels).astype(float),
            divergences(refs.logits, one),
            differences(one, refs.labels, refs.foils),
        )
        for one in logits
    ]
    return Measured(*(np.stack(part) for part in zip(*rows, strict=True)), model=refs.model)


def stream(
    run: Callable[[int, slice], Logits], refs: References, draws: int, done: Measured | None = None
) -> Iterator[Measured]:
    """Measure draw by draw, batch by batch; every yield is a copy that is not changed later.

    Args:
        run: From the number of a draw and a range of references to scrubbed logits.
        refs: The references.
        draws: Draws of each.
        done: What was measured before.
    """
    state = done or nothing_yet(refs, draws)
    for draw in range(draws):
        for start in range(0, len(refs), BATCH):
            part = slice(start, start + BATCH)
            if np.isfinite(state.loss[draw, part]).all():
                continue
            new = measured(refs.some(part), [run(draw, part)])
            arrays = {name: getattr(state, name).copy() for name in ("loss", "right", "kl", "diff")}
            for name, array in arrays.items():
                array[draw, part] = getattr(new, name)[0]
            state = replace(state, **arrays)
            yield state

"""Population inputs after one edit: any, or one that changes the right answer (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product

import numpy as np
from jaxtyping import Float

from interp.methods.scrubbing.adversarial.ground import NOWHERE, Ground
from interp.methods.scrubbing.adversarial.making import PROPOSALS, and_size, gathered
from interp.methods.scrubbing.adversarial.moves import Bodies, changed
from interp.models import tokens

_LOOKS = 16
"""Further edits that tell how near to the boundary of right answers an input is."""


@dataclass(eq=False)
class Edits:
    """Population inputs after one edit.

    Attributes:
        ground: The population.
        rng: Source of all randomness.
        across: Whether the edit must change the right answer; of those that do, the one is taken
            from which most edits lead back: minimal violations of the rule.
    """

    ground: Ground
    rng: np.random.Generator
    across: bool

    _spare: dict[int, Bodies] = field(default_factory=dict, init=False)

    @cached_property
    def _asked(self) -> list[tuple[int, int, int]]:
        """Length, kind of edit and right answer after it, -1 where answers are not told apart."""
        labels = np.unique(self.ground.pool.labels).tolist()
        told = labels if self.across and len(labels) <= 4 else [NOWHERE]
        kinds = range(len(self.ground.moves.kinds))
        return list(product(range(len(self.ground.sizes)), kinds, told))

    @property
    def names(self) -> tuple[str, ...]:
        """Kinds of edit, with the answer that they lead to."""
        outputs, kinds = tokens.answer_names(self.ground.info), self.ground.moves.kinds
        return tuple(
            and_size(kinds[k] + (f" → {outputs[to]}" if to >= 0 else ""), self.ground, size)
            for size, k, to in self._asked
        )

    def make(self, family: int, n: int, known: set[bytes]) -> Bodies:
        """Edit inputs drawn at random until there are enough."""
        return gathered(partial(self._edited, family), n, known, self._spare, family)

    def _edited(self, family: int, n: int) -> Bodies:
        """Edit some inputs by one kind, and keep one of each input, so that none has many."""
        size, kind, to = self._asked[family]
        rows = self.rng.choice(self.ground.sizes[size][1], 2 * n)
        starts = self.ground.drawn.at(rows).repeated(PROPOSALS)
        after, how = self.ground.moves.edit(starts, self.rng)
        ok = (how == kind) & changed(starts, after)
        at = np.flatnonzero(ok)
        right = self.ground.answers(after.at(at))
        ok[at] = right != NOWHERE
        if self.across:
            ok[at] &= right != self.ground.drawn_answers[rows[at // PROPOSALS]]
        if to != NOWHERE:
            ok[at] &= right == to
        near = np.where(ok, self.rng.random(len(ok)), -1.0)
        if self.across:
            near[ok] += self._sensitivity(after.at(ok))
        near = near.reshape(-1, PROPOSALS)
        best = near.argmax(1)
        there = np.flatnonzero(near[np.arange(len(near)), best] >= 0)
        return after.at(there * PROPOSALS + best[there])

    def _sensitivity(self, bodies: Bodies) -> Float[np.ndarray, "text"]:
        """Count of some edits of each string those that change the right answer.

        It is the margin that the rule itself has: many edits lead back from an input that is just
        across.
        """
        after, _ = self.ground.moves.edit(bodies.repeated(_LOOKS), self.rng)
        before, right = self.ground.answers(bodies).repeat(_LOOKS), self.ground.answers(after)
        crossed = (right != NOWHERE) & (right != before)
        return crossed.reshape(-1, _LOOKS).sum(1).astype(float)

"""Families of inputs: population inputs with the fewest edits that break what is to be broken.

A family of a hypothesis is named by one or two of its atoms: in each of its inputs exactly these
take another value than in the input that it was made of, and all other atoms keep theirs. Of the
edited inputs that do so, those nearest to the boundary are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import InterpError
from interp.methods.scrubbing.adversarial.atoms import Atoms
from interp.methods.scrubbing.adversarial.ground import NOWHERE, Ground
from interp.methods.scrubbing.adversarial.making import PROPOSALS, and_size, gathered
from interp.methods.scrubbing.adversarial.moves import Bodies

MOST_FAMILIES = 64
MOST_EDITS = 3
_CHOICES = 3
"""Inputs of which the one nearest to the boundary is edited."""


@dataclass(frozen=True)
class Family:
    """Which atoms change, and what all are then.

    Attributes:
        targets: Numbers of the atoms that change.
        cell: Value of each atom that is a truth after the change; -1 for those that are none.
        size: Number of the lengths, as the ground tells them apart.
    """

    targets: tuple[int, ...]
    cell: tuple[int, ...]
    size: int


@dataclass(eq=False)
class Violations:
    """Minimal violations of the atoms of a hypothesis.

    Attributes:
        ground: The population.
        atoms: The atoms.
        rng: Source of all randomness.
    """

    ground: Ground
    atoms: Atoms
    rng: np.random.Generator
    _spare: dict[int, Bodies] = field(default_factory=dict, init=False)

    @cached_property
    def _starts(self) -> tuple[Int[np.ndarray, "start atom"], Float[np.ndarray, "start atom"]]:
        """Values and margins of the drawn inputs; what is no truth has the value -1."""
        classes, margins = self.atoms.values(self.ground, self.ground.drawn)
        return np.where(self._truths, classes, -1), margins

    @cached_property
    def _truths(self) -> Bool[np.ndarray, "atom"]:
        return np.array([one.is_truth for one in self.atoms.of], bool)

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Every atom and every pair, changed in inputs of every kind and length that there is.

        Where these are more than ``MOST_FAMILIES`` pairs go first, then kinds with few inputs.
        """
        found: list[tuple[int, int, Family]] = []
        for size, (_, rows) in enumerate(self.ground.sizes):
            cells, counts = np.unique(self._starts[0][rows], axis=0, return_counts=True)
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
                for many in (1, 2):
                    for targets in combinations(range(len(self.atoms)), many):
                        after = tuple(
                            1 - was if i in targets and was >= 0 else was
                            for i, was in enumerate(cell)
                        )
                        found.append((many, -count, Family(targets, after, size)))
        found.sort(key=lambda one: one[:2])
        return tuple(family for _, _, family in found[:MOST_FAMILIES])

    @property
    def names(self) -> tuple[str, ...]:
        """What has changed, and what all atoms are then."""
        return tuple(and_size(self._named(one), self.ground, one.size) for one in self.families)

    def _named(self, family: Family) -> str:
        words = {0: "not {}", 1: "{}", -1: "another {}"}
        atoms = list(enumerate(zip(self.atoms.of, family.cell, strict=True)))
        changed = [words[to].format(one.name) for i, (one, to) in atoms if i in family.targets]
        kept = [
            words[to].format(one.name) if to >= 0 else one.name
            for i, (one, to) in atoms
            if i not in family.targets
        ]
        return " and ".join(changed) + (f" (still {', '.join(kept)})" if kept else "")

    def make(self, family: int, n: int, known: set[bytes]) -> Bodies:
        """Edit inputs until exactly the wished atoms are others."""
        asked = self.families[family]

        def edited(n: int) -> Bodies:
            return self._edited(asked, self._chosen(asked, n + n // 3))

        return gathered(edited, n, known, self._spare, family)

    def _chosen(self, asked: Family, n: int) -> Int[np.ndarray, "start"]:
        """Draw inputs that can be broken, near to the boundary rather than far."""
        classes, margins = self._starts
        targets = list(asked.targets)
        cell = np.array(asked.cell)
        before = np.where(np.isin(np.arange(len(cell)), targets) & (cell >= 0), 1 - cell, cell)
        rows = self.ground.sizes[asked.size][1]
        can = rows[(classes[rows] == before).all(1)]
        if not len(can):
            return can
        drawn = can[self.rng.integers(len(can), size=(n, _CHOICES))]
        far = margins[drawn][:, :, targets].sum(2)
        return drawn[np.arange(n), far.argmin(1)]

    def _edited(self, asked: Family, rows: Int[np.ndarray, "start"]) -> Bodies:
        """Walk from each input by edits that keep what is to stay, until the rest has changed."""
        now = self.ground.drawn.at(rows)
        done = [now.at(np.arange(0))]
        if not len(rows):
            return now
        before, _ = self.atoms.values(self.ground, now)
        for _ in range(MOST_EDITS):
            if not len(now):
                break
            tried, _ = self.ground.moves.edit(now.repeated(PROPOSALS), self.rng)
            ok, kept, far = self._judged(asked, before, tried)
            there, best = self._nearest(ok, far, tried)
            done.append(tried.at(best[there]))
            kept &= ~there[:, None]
            moved, nearer = self._nearest(kept, far, tried)
            step = tried.at(nearer)
            ids = np.where(moved[:, None], step.ids, now.ids)
            lengths = np.where(moved, step.lengths, now.lengths)
            now, before = Bodies(ids, lengths, now.start).at(~there), before[~there]
        return Bodies.joined(done)

    def _judged(
        self, asked: Family, before: Int[np.ndarray, "start atom"], tried: Bodies
    ) -> tuple[
        Bool[np.ndarray, "start proposal"],
        Bool[np.ndarray, "start proposal"],
        Float[np.ndarray, "start proposal"],
    ]:
        """Say which proposals are of the family, which keep the rest, and how far they are off."""
        shape, targets = (len(before), PROPOSALS), list(asked.targets)
        classes, margins = self._values(tried)
        same = classes.reshape(*shape, -1) == before[:, None]
        kept = np.delete(same, targets, 2).all(2)
        ok = kept & ~same[:, :, targets].any(2)
        # A random part smaller than any margin, so that equal ones are chosen from.
        far = margins[:, targets].sum(1) + 0.5 * self.rng.random(len(tried))
        return ok, kept, far.reshape(shape)

    def _nearest(
        self,
        of: Bool[np.ndarray, "start proposal"],
        far: Float[np.ndarray, "start proposal"],
        tried: Bodies,
    ) -> tuple[Bool[np.ndarray, "start"], Int[np.ndarray, "start"]]:
        """Number the nearest marked proposal of each start that the population could have drawn.

        Returns:
            Which starts have one, and its number among all.
        """
        rows = np.arange(len(of))
        left = np.where(of, far, np.inf)
        while True:
            best = left.argmin(1)
            number = rows * PROPOSALS + best
            there = np.isfinite(left[rows, best])
            wrong = np.flatnonzero(there)
            wrong = wrong[self.ground.answers(tried.at(number[wrong])) == NOWHERE]
            if not len(wrong):
                return there, number
            left[wrong, best[wrong]] = np.inf

    def _values(
        self, tried: Bodies
    ) -> tuple[Int[np.ndarray, "text atom"], Float[np.ndarray, "text atom"]]:
        """Return the atoms of edited strings; those without a value are never what is wanted."""
        try:
            return self.atoms.values(self.ground, tried)
        except InterpError:
            valid = np.flatnonzero(self.ground.answers(tried) != NOWHERE)
            classes = np.full((len(tried), len(self.atoms)), np.iinfo(np.int64).min)
            margins = np.zeros(classes.shape)
            classes[valid], margins[valid] = self.atoms.values(self.ground, tried.at(valid))
            return classes, margins

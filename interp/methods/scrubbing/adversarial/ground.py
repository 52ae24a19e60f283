"""The task that new inputs are made for: its inputs, what may be edited, and what is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from interp import expressions
from interp.behaviors import Behavior
from interp.behaviors.populations import POPULATIONS
from interp.behaviors.truths import Truth, truth_of
from interp.errors import BadInput
from interp.expressions import parse
from interp.methods.scrubbing.adversarial.moves import Bodies, Moves
from interp.methods.scrubbing.inputs import Inputs
from interp.models import tokens
from interp.models.info import ModelInfo

NOWHERE = -1
"""Right answer of a text that the population could not have drawn."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A population as something to make new inputs of.

    Attributes:
        info: The model, for its tokens.
        pool: The inputs that a hypothesis is tested on.
        drawn: Further inputs of the population, those of the pool last.
        before: Special tokens before every string.
        behind: Special tokens behind it.
        moves: The edits that fit.
        truth: What is right.
        columns: Named properties of a text, as far as they can be had for new ones.
    """

    info: ModelInfo
    pool: Inputs
    drawn: Bodies
    before: tuple[int, ...]
    behind: tuple[int, ...]
    moves: Moves
    truth: Truth
    columns: Mapping[str, Callable[[str], int]]

    @classmethod
    def of(cls, info: ModelInfo, pool: Inputs, drawn: Behavior, name: str) -> Ground:
        """Read a population.

        Args:
            info: The model.
            pool: The inputs of the hypothesis: the first of those drawn.
            drawn: The population's inputs, more than those of the pool where it makes more.
            name: The population's.

        Raises:
            BadInput: Nothing says what is right for new inputs.
        """
        truth = truth_of(name)
        special = tokens.special_ids(info)
        before, behind = _frame(drawn, special)
        clean = (*drawn.clean[len(pool) :], *drawn.clean[: len(pool)])
        bodies = [ids[len(before) : len(ids) - len(behind)] for ids in clean]
        lengths = np.array([len(ids) for ids in bodies])
        held = np.full((len(bodies), int(lengths.max())), -1)
        for row, ids in zip(held, bodies, strict=True):
            row[: len(ids)] = ids
        in_pool = lengths[-len(pool) :]
        step = gcd(*np.unique(in_pool - in_pool.min()).tolist())
        alphabet = np.unique(held[held >= 0])
        moves = Moves(alphabet, int(in_pool.min()), int(in_pool.max()), step)
        columns = POPULATIONS[name].features if name in POPULATIONS else {}
        fits = (lengths >= in_pool.min()) & (lengths <= in_pool.max())
        width, n = int(in_pool.max()), int(fits.sum())
        own = Bodies(held[fits, :width], lengths[fits], np.arange(n))
        found = cls(info, pool, own, before, behind, moves, truth, columns)
        right = found.answers(own.at(np.arange(len(own))[-len(pool) :]))
        if (right != pool.labels).any():
            at = int(np.flatnonzero(right != pool.labels)[0])
            raise BadInput(
                f"The answers of {name} were compared with its rule.",
                f"They differ on input {at}, {found.texts(own)[at - len(pool)]!r}.",
                "Choose another population.",
            )
        return found

    @cached_property
    def _texts(self) -> dict[int, str]:
        ids = self.moves.alphabet.tolist()
        return dict(zip(ids, tokens.text_of(self.info, tuple(ids)), strict=True))

    def texts(self, bodies: Bodies) -> list[str]:
        """Return each string as people write it."""
        between = "" if tokens.is_spelled(self.info) else " "
        known = self._texts
        rows = zip(bodies.ids.tolist(), bodies.lengths.tolist(), strict=True)
        return [between.join([known[i] for i in ids[:n]]) for ids, n in rows]

    @cached_property
    def _outputs(self) -> dict[str, int]:
        return {}

    def answers(self, bodies: Bodies) -> Int[np.ndarray, "text"]:
        """Return the right output of each string, ``NOWHERE`` for what the population lacks."""
        return np.array([self._output(self.truth(text)) for text in self.texts(bodies)], np.int64)

    @cached_property
    def drawn_answers(self) -> Int[np.ndarray, "start"]:
        """The right outputs of the drawn inputs."""
        return self.answers(self.drawn)

    def _output(self, answer: str | None) -> int:
        if answer is None:
            return NOWHERE
        if answer not in self._outputs:
            self._outputs[answer] = tokens.answer_id(self.info, answer)
        return self._outputs[answer]

    @cached_property
    def sizes(self) -> tuple[tuple[str, Int[np.ndarray, "start"]], ...]:
        """The drawn inputs by length: all, or the shorter and the longer half of lengths."""
        lengths = self.drawn.lengths
        different = np.unique(lengths)
        if len(different) == 1:
            return (("", np.arange(len(lengths))),)
        middle = different[(len(different) - 1) // 2]
        return (
            ("shorter", np.flatnonzero(lengths <= middle)),
            ("longer", np.flatnonzero(lengths > middle)),
        )

    def framed(self, bodies: Bodies) -> tuple[Shaped[np.ndarray, "text pos"], np.ndarray]:
        """Return token ids with special ones, padded to the pool's width, and lengths."""
        edges = len(self.before) + len(self.behind)
        ids = np.full((len(bodies), self.pool.ids.shape[1]), -1)
        start = len(self.before)
        ids[:, :start] = self.before
        ids[:, start : start + bodies.ids.shape[1]] = bodies.ids
        at = start + bodies.lengths[:, None] + np.arange(len(self.behind))
        np.put_along_axis(ids, at, np.broadcast_to(self.behind, at.shape), 1)
        return ids, bodies.lengths + edges

    def values(
        self, features: Mapping[str, str], bodies: Bodies
    ) -> dict[str, Shaped[np.ndarray, "text"]]:
        """Evaluate expressions on strings.

        Raises:
            BadInput: One has no value somewhere, or cannot be had for new inputs.
        """
        used = self.check(features)
        columns = {name: self.column(name, bodies) for name in used}
        ids, lengths = self.framed(bodies)
        read = expressions.Inputs(ids, lengths, self.pool.names, columns)
        return expressions.evaluate(features, read)

    def column(self, name: str, bodies: Bodies) -> Int[np.ndarray, "text"]:
        """Return a named property of each string."""
        return np.array([self.columns[name](text) for text in self.texts(bodies)], np.int64)

    def check(self, features: Mapping[str, str]) -> Sequence[str]:
        """Return the columns that features use; refuse what new inputs have no value of.

        Raises:
            BadInput: A column is known of the drawn inputs only, or a value depends on the others.
        """
        key = tuple(features.items())
        if key not in self._checked:
            self._checked[key] = self._check(features)
        return self._checked[key]

    @cached_property
    def _checked(self) -> dict[tuple[tuple[str, str], ...], Sequence[str]]:
        return {}

    def _check(self, features: Mapping[str, str]) -> Sequence[str]:
        parsed = {name: parse(text) for name, text in features.items()}
        names = {used for one in parsed.values() for used in one.names_used} - set(features)
        used = sorted(names & set(self.pool.columns))
        lacking = [name for name in used if name not in self.columns]
        if lacking:
            raise BadInput(
                f"The hypothesis uses the column {lacking[0]!r}.",
                "It is known of the inputs of this population, and not of new ones.",
                "Write the feature as an expression of the tokens.",
            )
        for name, one in parsed.items():
            if "bin" in one.functions_used:
                raise BadInput(
                    f"The feature {name!r} puts inputs into bins by bin().",
                    "These bins depend on which inputs are looked at together.",
                    "Give the feature the type float and a number of bins instead.",
                )
        return used


def _frame(drawn: Behavior, special: frozenset[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that all inputs begin and end with."""
    ids = drawn.clean[0]
    start = next(i for i, token in enumerate(ids) if token not in special)
    end = next(i for i, token in enumerate(reversed(ids)) if token not in special)
    return ids[:start], ids[len(ids) - end :]


def bin_edges(values: Float[np.ndarray, "input"], bins: int) -> Float[np.ndarray, "edge"]:
    """Return where the quantile bins of some values end, as ``inputs.quantile_bins`` has them."""
    cuts = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.unique(cuts)


def distinct(bodies: Bodies, known: set[bytes]) -> Bool[np.ndarray, "text"]:
    """Mark the strings that were not there before, each once, and note them."""
    new = np.zeros(len(bodies), dtype=bool)
    for at, key in enumerate(bodies.keys()):
        new[at] = key not in known
        known.add(key)
    return new

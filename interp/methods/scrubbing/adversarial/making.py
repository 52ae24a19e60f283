"""What all makers of inputs share, and the simplest of them: the population itself (torch-free)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from interp.methods.scrubbing.adversarial.ground import Ground, distinct
from interp.methods.scrubbing.adversarial.moves import Bodies

PROPOSALS = 32
"""Edited copies of an input that are looked at in each step."""
ROUNDS = 12
"""How often fresh inputs are edited before a family is given up."""
_IDLE = 2
"""Times in a row that nothing new comes out before a family is given up."""
_AT_ONCE = 16
"""Least inputs that are edited together: what is not used is kept for the next time."""


@dataclass(eq=False)
class Drawn:
    """The population's own inputs, in order, each once.

    Attributes:
        ground: The population.
        names: One family.
    """

    ground: Ground
    names: tuple[str, ...] = ("as drawn",)
    _next: int = 0

    def make(self, family: int, n: int, known: set[bytes]) -> Bodies:
        """Take the next ones."""
        taken: list[int] = []
        while len(taken) < n and self._next < len(self.ground.drawn):
            rows = np.arange(self._next, min(self._next + n, len(self.ground.drawn)))
            new = rows[distinct(self.ground.drawn.at(rows), known)]
            room = n - len(taken)
            if len(new) > room:
                self._next = int(new[room])
                known -= set(self.ground.drawn.at(new[room:]).keys())
            else:
                self._next = int(rows[-1]) + 1
            taken += new[:room].tolist()
        return self.ground.drawn.at(np.array(taken, np.int64))


def gathered(
    edited: Callable[[int], Bodies], n: int, known: set[bytes], spare: dict[int, Bodies], key: int
) -> Bodies:
    """Take ``n`` new strings from what is spare, and edit inputs until there are enough.

    Args:
        edited: Edits about so many inputs.
        n: How many are wanted.
        known: Strings that are not wanted again; those taken are noted.
        spare: What is left over of each family.
        key: The family.
    """
    parts, left, idle = list[Bodies](), n, 0
    for _ in range(ROUNDS):
        source = spare.pop(key, None)
        source = edited(max(left, _AT_ONCE)) if source is None else source
        rows: list[int] = []
        keys = source.keys()
        at = 0
        while at < len(keys) and len(rows) < left:
            if keys[at] not in known:
                known.add(keys[at])
                rows.append(at)
            at += 1
        parts.append(source.at(np.array(rows, np.int64)))
        left -= len(rows)
        if at < len(keys):
            spare[key] = source.at(np.arange(at, len(keys)))
        idle = 0 if rows else idle + 1
        if not left or idle == _IDLE:
            break
    return Bodies.joined(parts)


def and_size(name: str, ground: Ground, size: int) -> str:
    """Add which lengths a family is of, where they are told apart."""
    said = ground.sizes[size][0]
    return f"{name}, {said}" if said else name

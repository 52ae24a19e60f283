"""What is taken out of a model and what comes in its place (no torch).

*Zero* puts 0. *Mean* puts the average over a pool of prompts, *resample* what one of them has. The
pool are the clean prompts, where each takes the activations of others, or the corrupted ones, where
each takes those of its own partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.models.info import ModelInfo
from interp.models.sites import Site

ABLATIONS = ("zero", "mean", "resample")
PoolChoice = Literal["clean", "corrupted"]
NOBODY = -1
"""In a table of partners: this input has fewer draws than others."""


def columns(model: ModelInfo) -> tuple[str, ...]:
    """Name the components of a layer: every head, the attention as a whole, the MLP."""
    heads = tuple(f"H{i}" for i in range(model.n_heads))
    return (*heads, "attn", "MLP") if model.has_mlp else (*heads, "attn")


def component(model: ModelInfo, layer: int, col: int) -> Site:
    """Return the site of a cell of the map with one row a layer and these columns."""
    if col < model.n_heads:
        return Site("z", layer, head=col)
    return Site("attn_out" if col == model.n_heads else "mlp_out", layer)


@dataclass(frozen=True)
class Pool:
    """Whose activations come in the place of what is taken out.

    Attributes:
        source: "clean" or "corrupted": the prompts of the pool.
        partners: For each draw and input the number of the input whose prompt of the pool it
            takes, or ``NOBODY``.
        different: Numbers of inputs whose prompts of the pool are all different: the mean is over
            these.
        by_position: Whether the mean is of one position at a time; else over all positions too.
    """

    source: PoolChoice
    partners: Int[np.ndarray, "draw pair"]
    different: tuple[int, ...]
    by_position: bool

    @property
    def averaged(self) -> str:
        """What the mean is over, in words."""
        n = len(self.different)
        prompts = f"{n} {self.source} prompts" if n > 1 else f"only {self.source} prompt"
        if self.by_position:
            return f"the {prompts}, at the same position"
        return f"all positions of the {prompts}, whose lengths differ"

    def same(self, answers: Sequence[int]) -> float:
        """Share of the draws from the clean pool whose prompt has the same answer; else 0."""
        right, taken = np.array(answers), self.partners != NOBODY
        same = (right[self.partners] == right)[taken]
        return float(same.mean()) if self.source == "clean" else 0.0


def check_pool(behavior: Behavior, source: PoolChoice) -> None:
    """Refuse inputs among which a prompt has no other to take activations from.

    Raises:
        BadInput: A clean prompt is the only one, or the only one of its length.
    """
    if source == "corrupted":
        return
    asked = "Mean and resample ablation take activations from other clean prompts."
    kinds = _different(behavior.clean)
    if len(kinds) == 1:
        raise BadInput(
            asked,
            "There is only one clean prompt.",
            "Choose a behavior of several inputs, type further pairs, or choose the pool "
            "'corrupted'.",
        )
    lengths = [len(behavior.clean[i]) for i in kinds]
    for i, length in zip(kinds, lengths, strict=True):
        if lengths.count(length) == 1:
            raise BadInput(
                asked,
                f"Pair {i} (counted from 0) has the only clean prompt of {length} tokens: no other "
                "lines up with it.",
                "Leave it out, add one of its length, or choose the pool 'corrupted'.",
            )


def make_pool(behavior: Behavior, source: PoolChoice, draws: int, rng: np.random.Generator) -> Pool:
    """Draw whose activations each input takes.

    From the corrupted prompts an input takes its own, once. Of the clean prompts, those of one
    length are put in a random order, once; each draw shifts it by another random number of places.
    So each draw is a derangement, no input takes its own prompt nor one prompt twice, and over the
    draws all prompts are taken equally often. Inputs that share a clean prompt share what they
    take. Where there are fewer others than draws, all others are taken.

    Args:
        behavior: The inputs, which ``check_pool`` accepts.
        source: "clean" or "corrupted".
        draws: How often each clean prompt is resampled.
        rng: Randomness of the draws.
    """
    prompts = behavior.clean if source == "clean" else behavior.corrupted
    by_position = len(set(behavior.lengths)) == 1
    if source == "corrupted":
        partners = np.arange(len(behavior))[None]
        return Pool(source, partners, _different(prompts), by_position)
    partners = np.full((draws, len(behavior)), NOBODY)
    for length in sorted(set(behavior.lengths)):
        members = [i for i in _different(prompts) if len(prompts[i]) == length]
        order = rng.permutation(members)
        shifts = 1 + rng.permutation(len(order) - 1)[:draws]
        taken = {
            prompts[mine]: [int(order[(at + shift) % len(order)]) for shift in shifts]
            for at, mine in enumerate(order)
        }
        for i, ids in enumerate(prompts):
            if ids in taken:
                partners[: len(shifts), i] = taken[ids]
    kept = (partners != NOBODY).any(1)
    return Pool(source, partners[kept], _different(prompts), by_position)


def _different(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the first of each set of equal prompts."""
    return tuple(sorted({ids: i for i, ids in reversed(list(enumerate(prompts)))}.values()))

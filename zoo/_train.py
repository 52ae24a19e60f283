"""The training loop that the trained models share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo import _net

Row = dict[str, float]
"""A point of a training curve: ``step`` and what was measured there."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW, whose weight decay is for matrices alone.

    Attributes:
        steps: Optimizer steps.
        rate: Highest learning rate.
        schedule: "cycle" (one cycle), "cosine" (warm-up, then half a cosine down to a tenth) or
            "constant".
        warm: Share of the steps in which the rate rises.
        clip: Largest norm of the gradient; 0: not clipped.
    """

    steps: int
    rate: float
    schedule: Literal["cycle", "cosine", "constant"] = "cycle"
    warm: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.01
    clip: float = 1.0

    @property
    def words(self) -> str:
        """The optimizer in a few words, for cards."""
        how = {"cycle": "one cycle", "cosine": "cosine", "constant": "constant rate"}
        return f"AdamW, {how[self.schedule]}, peak rate {self.rate:g}, weight decay {self.decay:g}"


@dataclass(frozen=True)
class Run:
    """What training gave: points of the curve, weights kept on the way, and what it cost."""

    curve: list[Row] = field(default_factory=list)
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0


def by_length(
    lengths: NDArray[np.int64], batch: int, group: int, rng: np.random.Generator
) -> list[Tensor]:
    """Row numbers of the minibatches of one pass over rows of different lengths.

    A group of minibatches is sorted by length before it is cut up, so that each can be trimmed to
    its own longest row: that halves the work and changes no result.

    Args:
        lengths: Of each row.
        batch: Rows of a minibatch.
        group: Minibatches that are sorted together.
        rng: Draws which rows are together and the order of minibatches.
    """
    size, rows = batch * group, list[Tensor]()
    order = rng.permutation(len(lengths))
    for some in order[: len(order) - len(order) % size].reshape(-1, size):
        ascending = some[np.argsort(lengths[some], kind="stable")].reshape(group, batch)
        rows += [torch.from_numpy(one) for one in ascending[rng.permutation(group)]]
    return rows


def train(
    net: _net.Net,
    recipe: Recipe,
    loss_of: Callable[[int], Tensor],
    *,
    measure: Callable[[int], Row] | None = None,
    measure_at: Sequence[int] = (),
    keep_at: Sequence[int] = (),
) -> Run:
    """Train ``net`` in place.

    Args:
        net: What is trained.
        recipe: How.
        loss_of: The loss of step 1, 2, …, with its graph.
        measure: What is measured for the curve, without gradients.
        measure_at: Numbers of steps done at which it is; 0 is before the first.
        keep_at: Numbers of steps done at which a copy of the weights is kept, by the names of
            TransformerLens.
    """
    optimizer, schedule = _optimizer(net, recipe)
    curve: list[Row] = []
    kept: dict[int, dict[str, Tensor]] = {}
    wall, cpu = time.perf_counter(), time.process_time()

    def look(step: int) -> None:
        if step in keep_at:
            kept[step] = _net.weights(net)
        if measure is not None and step in measure_at:
            with torch.no_grad():
                row = {"step": step, **measure(step)}
            curve.append({name: float(f"{value:.5g}") for name, value in row.items()})
            said = "  ".join(f"{name} {value:g}" for name, value in curve[-1].items())
            print(f"{said}  ({time.process_time() - cpu:.0f} CPU s)", flush=True)

    look(0)
    for step in range(1, recipe.steps + 1):
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        look(step)
    return Run(curve, kept, time.perf_counter() - wall, time.process_time() - cpu)


def _optimizer(
    net: _net.Net, recipe: Recipe
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LRScheduler]:
    matrices = [weight for weight in net.parameters() if weight.ndim == 2]
    vectors = [weight for weight in net.parameters() if weight.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas, fused=True)
    if recipe.schedule == "cycle":
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.rate,
            total_steps=recipe.steps,
            pct_start=recipe.warm,
            cycle_momentum=False,
        )
    rise = max(1, round(recipe.warm * recipe.steps))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share(step, rise, recipe)
    )


def _share(step: int, rise: int, recipe: Recipe) -> float:
    """The learning rate as a share of the highest."""
    if step < rise:
        return (step + 1) / rise
    if recipe.schedule == "constant":
        return 1.0
    through = (step - rise) / max(1, recipe.steps - rise)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))

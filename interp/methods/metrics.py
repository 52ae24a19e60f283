"""What is read off the logits of a run: one number an input, with sign, range and unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import PerPair
from interp.behaviors import Behavior

_ROWS = 128
"""Rows whose outputs are held in float64 at once."""


@dataclass(frozen=True)
class Asked:
    """The metric that is asked of the pairs of a behavior."""

    behavior: Behavior
    metric: str

    @cached_property
    def outputs(self) -> Int[Tensor, "output"] | None:
        """The outputs that the metric reads, ascending, or None: all."""
        if self.metric != "logit_diff":
            return None
        return torch.tensor(sorted({*self.behavior.answers, *self.behavior.foils}))

    def measure(
        self,
        logits: Float[Tensor, "row output"],
        pairs: Sequence[int],
        clean: Float[Tensor, "row d_out"],
        outputs: Int[Tensor, "output"] | None = None,
    ) -> PerPair:
        """Read the metric off the logits of these pairs.

        Args:
            logits: Logits at the position read, one row a pair.
            pairs: Number of each row's pair.
            clean: Logits of the same pairs' clean runs, all outputs.
            outputs: The outputs that the columns of ``logits`` are, or None: all.
        """
        answers, foils = (
            [numbers[i] for i in pairs] for numbers in (self.behavior.answers, self.behavior.foils)
        )
        if outputs is not None:
            place = {output: i for i, output in enumerate(outputs.tolist())}
            answers, foils = ([place[i] for i in each] for each in (answers, foils))
            clean = clean[:, outputs.to(clean.device)]
        found = [
            metric(
                self.metric,
                logits[k : k + _ROWS],
                answers[k : k + _ROWS],
                foils[k : k + _ROWS],
                clean[k : k + _ROWS],
            )
            for k in range(0, len(answers), _ROWS)
        ]
        return torch.cat(found).numpy()

    def size(self, logits: Float[Tensor, "row d_out"], pairs: Sequence[int]) -> PerPair:
        """Return the largest size among the logits of the answer, the foil and the likeliest."""
        logits = logits.cpu().double()
        rows = torch.arange(len(logits))
        answers = [self.behavior.answers[i] for i in pairs]
        # Without a foil the index is -1: the answer stands in for it.
        given = [self.behavior.foils[i] for i in pairs]
        foils = [f if f >= 0 else a for f, a in zip(given, answers, strict=True)]
        read = [logits[rows, answers], logits[rows, foils], logits.amax(-1)]
        return np.asarray(torch.stack(read).abs().amax(0))


def metric(
    name: str,
    logits: Float[Tensor, "row d_vocab"],
    answers: Sequence[int],
    foils: Sequence[int],
    clean: Float[Tensor, "row d_vocab"],
) -> Float[Tensor, "row"]:
    """Compute a metric for each row, in float64.

    ``logit_diff``: logit of the answer minus logit of the foil (positive: the answer wins).
    ``prob``: probability of the answer, 0 to 1. ``loss``: minus log of it, in nats, 0 or more.
    ``kl``: KL(clean run ‖ this run) over all outputs, in nats, 0 for the clean run itself.

    Args:
        name: One of ``interp.methods.effects.METRICS``.
        logits: Logits at the position read.
        answers: Output index of the answer, one a row.
        foils: Output index of the foil, one a row; only ``logit_diff`` reads it.
        clean: Logits of the clean run of the same inputs; only ``kl`` reads it.
    """
    # Apple's devices have no float64; one position's logits are cheap to move.
    logits = logits.cpu().double()
    rows = torch.arange(len(logits), device=logits.device)
    answer = torch.tensor(list(answers), device=logits.device)
    if name == "logit_diff":
        foil = torch.tensor(list(foils), device=logits.device)
        return logits[rows, answer] - logits[rows, foil]
    logp = logits.log_softmax(-1)
    if name == "prob":
        return logp[rows, answer].exp()
    if name == "loss":
        return -logp[rows, answer]
    if name == "kl":
        reference = clean.cpu().double().log_softmax(-1)
        return (reference.exp() * (reference - logp)).sum(-1)
    raise ValueError(name)

"""What is read off the logits of a run: one number an input, with sign, range and unit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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

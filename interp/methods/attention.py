"""Attention patterns of one layer on a prompt, and scores of all heads on random tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import Relations
from interp.engine import read_out
from interp.methods.head_scores import (
    HeadScores,
    RandomTokens,
    n_rows,
    none_yet,
    scored_relations,
)
from interp.models.batches import rows_per_batch
from interp.models.load import LoadedModel


@dataclass(frozen=True)
class Look:
    """Attention of the heads of a layer, in the model's precision, and the logits of the answer."""

    pattern: Float[Tensor, "head dest src"]
    logits: Float[Tensor, "d_out"]


def look(model: LoadedModel, ids: Int[Tensor, "pos"], layer: int, read: int = -1) -> Look:
    """Run one prompt and keep the attention of one layer, after the softmax and the mask.

    Cost: one forward pass; memory of ``heads x pos x pos``.
    """
    run = read_out(model, ids[None], read, [("pattern", layer)])
    return Look(run.acts["pattern", layer][0].cpu(), run.logits[0].cpu())


def score_heads(model: LoadedModel, drawn: RandomTokens) -> Iterator[HeadScores]:
    """Score every head on repeated random tokens; yield after each batch of sequences.

    The score of a head is its mean attention to the sources of a relation, over the destinations
    that have one: all but the first for the previous token, the second half for the other two.
    1 = all attention goes there.

    Yields:
        The scores so far, in arrays of their own.

    Cost: two forward passes a sequence; memory of one layer's attention of a batch.
    Source: ``transformer_lens.head_detector.detect_head`` with ``error_measure="mul"`` and nothing
    excluded gives this score times the share of destinations that have a source: it divides by
    all rows, also by those of the first half, where no token has a copy to find. So a perfect
    induction head scores about 0.5 there and 1 here.
    """
    masks = scored_relations(drawn)
    so_far = none_yet(model.info, drawn)
    n, length = drawn.repeated.shape
    size = max(1, rows_per_batch(model.info, length) // 2)
    for start in range(0, n, size):
        rows = slice(start, start + size)
        both = np.concatenate([drawn.repeated[rows], drawn.shuffled[rows]])
        found = _score(model, torch.from_numpy(both), masks)
        values, control = so_far.values.copy(), so_far.control.copy()
        values[:, rows], control[:, rows] = np.split(found, 2, axis=1)
        so_far = replace(so_far, values=values, control=control)
        yield so_far


def _score(
    model: LoadedModel, ids: Int[Tensor, "row pos"], masks: Relations
) -> Float[np.ndarray, "score row layer head"]:
    on = torch.from_numpy(masks)

    def paid(_: str, act: Tensor) -> Tensor:
        # Sums of many small numbers: half precision would lose them.
        wide = torch.promote_types(act.dtype, torch.float32)
        return torch.einsum("bhds,kds->bkh", act.to(wide), on.to(act.device, wide))

    keep = [("pattern", layer) for layer in range(model.info.n_layers)]
    run = read_out(model, ids, -1, keep, cut=paid)
    total = torch.stack([run.acts[name].cpu().double() for name in keep], 2).numpy()
    return total.swapaxes(0, 1) / n_rows(masks)[:, None, None, None]

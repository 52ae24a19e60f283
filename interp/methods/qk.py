"""What a patched query or key does through its attention pattern, the rest being linear.

The pattern is computed anew as the model does it: norms of queries and keys, rotary positions, soft
cap, mask and softmax. What the pattern then does to the metric is taken to first order, by its
gradient.

Source: Kramár, Lieberum, Shah & Nanda, "AtP*: An efficient and scalable method for localizing LLM
behaviour to components" (2024), the QK fix. They update the softmax of each key by its old and new
exponentials; where one source has all the attention that divides rounding by rounding, so here the
sum over the other sources is computed afresh for the one source of a row that has the most.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.lean import Lean

QK = tuple[Float[Tensor, "row pos head d_head"], Float[Tensor, "row pos key d_head"]]
Scores = Float[Tensor, "row head dest src"]


def queries_changed(
    layers: Lean,
    layer: int,
    bare: QK,
    source: Float[Tensor, "row pos head d_head"],
    slope: Float[Tensor, "row dest head src"],
) -> Float[Tensor, "row pos head"]:
    """Return by how much other queries move the metric, each by itself.

    A query changes the attention of its own position alone, so that the change by queries of all
    positions is the sum.

    Args:
        layers: The model.
        layer: Counted from 0.
        bare: Queries and keys of the base run, before norms and rotary positions.
        source: Queries that are put in their place.
        slope: Gradient of the metric by the pattern.
    """
    with torch.inference_mode():
        before, after = (_pattern(layers, layer, (q, bare[1])) for q in (bare[0], source))
        return ((after - before) * slope).sum(-1)


def keys_changed(
    layers: Lean,
    layer: int,
    bare: QK,
    source: Float[Tensor, "row pos key d_head"],
    slope: Float[Tensor, "row dest head src"],
    *,
    alone: bool,
) -> Float[Tensor, "row pos key"]:
    """Return by how much other keys move the metric.

    A key changes the attention of every position that sees it, in all heads that share it, and
    takes from or gives to every other source there.

    Args:
        layers: The model.
        layer: Counted from 0.
        bare: Queries and keys of the base run, before norms and rotary positions.
        source: Keys that are put in their place.
        slope: Gradient of the metric by the pattern.
        alone: Whether each key is changed by itself: then ``pos`` is that of the key. Else all
            keys of a head are changed, and ``pos`` is the position whose attention moves.

    Cost: as much as the attention of the layer, whatever the number of positions.
    """
    with torch.inference_mode():
        if alone:
            before, after = (_scores(layers, layer, (bare[0], k)) for k in (bare[1], source))
            moved = columns_changed(before, after, slope.transpose(1, 2)).sum(2).transpose(1, 2)
        else:
            patterns = (_pattern(layers, layer, (bare[0], k)) for k in (bare[1], source))
            before, after = patterns
            moved = ((after - before) * slope).sum(-1)
        return moved.unflatten(2, (layers.n_keys, -1)).sum(-1)


def columns_changed(before: Scores, after: Scores, slope: Scores) -> Scores:
    """Return by how much each score moves the metric where it alone is replaced.

    Let a source have the weight ``a`` before and ``w`` after, its gradient be ``g``, and that of
    the others be ``r`` on average, each weighted by its attention. The others keep their
    proportions, so that the change is ``(w - a) (g - r)``, where ``w`` is the logistic function of
    the new score minus the others' log-sum-exp.

    Args:
        before: Scores as softmax takes them, minus infinity where a source is not seen.
        after: The same with every key replaced.
        slope: Gradient of the metric by the pattern.
    """
    weight = before.softmax(-1)
    most = weight.argmax(-1, keepdim=True)
    rest = before.scatter(-1, most, -torch.inf)
    # Without the heaviest source; a row that sees one source only has no others.
    without = (rest.softmax(-1).nan_to_num(0.0) * slope).sum(-1, keepdim=True)
    # Others have at most half of the weight: taking them off costs a bit at most.
    left = (1 - weight).clamp(min=0.5)
    others = ((weight * slope).sum(-1, keepdim=True) - weight * slope) / left
    total = before.logsumexp(-1, keepdim=True) + left.log()
    at_most = torch.arange(before.shape[-1], device=before.device) == most
    others = torch.where(at_most, without, others)
    total = torch.where(at_most, rest.logsumexp(-1, keepdim=True), total)
    moved = ((after - total).sigmoid() - weight) * (slope - others)
    return torch.where(before.isneginf(), 0.0, moved)


def _turned(layers: Lean, layer: int, qk: QK) -> QK:
    """Normalise and rotate queries and keys of whole prompts."""
    rows, n = qk[0].shape[:2]
    pos = torch.arange(n, device=qk[0].device).repeat(rows)
    q, k = (
        layers.turned(layer, slot, x.flatten(0, 1), pos) for slot, x in zip("qk", qk, strict=True)
    )
    return q.unflatten(0, (rows, n)), k.unflatten(0, (rows, n))


def _pattern(layers: Lean, layer: int, qk: QK) -> Float[Tensor, "row dest head src"]:
    q, k = _turned(layers, layer, qk)
    return layers.pattern(layer, q, k, torch.arange(q.shape[1], device=q.device), None)


def _scores(layers: Lean, layer: int, qk: QK) -> Scores:
    q, k = _turned(layers, layer, qk)
    shared = k.repeat_interleave(layers.n_heads // layers.n_keys, dim=2)
    found = layers.layers[layer].scores(q.transpose(1, 2) @ shared.permute(0, 2, 3, 1))
    # Where all scores are equal, attention is shared among the sources that are seen.
    pos = torch.arange(q.shape[1], device=q.device)
    seen = layers.pattern(layer, torch.zeros_like(q[:1]), torch.zeros_like(k[:1]), pos, None) > 0
    return found.masked_fill(~seen.transpose(1, 2), -torch.inf)

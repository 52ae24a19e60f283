"""One component of a model run by itself, on inputs put together from several runs."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as fn

from interp.models.lean import Lean

Stream = Float[Tensor, "row pos d_model"]


def head_out(
    lean: Lean,
    place: tuple[int, int],
    streams: tuple[Tensor, Tensor, Tensor],
    dest: Int[Tensor, "dest"],
    *,
    seen: Bool[Tensor, "row src"] | None = None,
    term: str = "",
) -> Float[Tensor, "row dest d_model"]:
    """Return what one head writes, without the layer's bias.

    Args:
        lean: The model.
        place: Layer and head.
        streams: What its queries, keys and values read, before the norm, ``[row, pos, d_model]``:
            queries at ``dest``, keys and values at all positions from 0 on.
        dest: Positions that ask.
        seen: Positions that are no padding, or None: all.
        term: "prev" or "self": only what is read at the position before, or at the same.

    Cost: products of one head for every row.
    """
    head, one = place[1], lean.layers[place[0]]
    src = torch.arange(streams[1].shape[1], device=dest.device)
    q, k, v = (
        _of_head(lean, slot, place, stream, pos)
        for slot, stream, pos in zip("qkv", streams, (dest, src, src), strict=True)
    )
    scores = one.scores(q @ k.transpose(1, 2))
    shown = src <= dest[:, None] if lean.causal else scores.new_ones(scores.shape[1:]).bool()
    if one.window is not None:
        shown = shown & (src > dest[:, None] - one.window)
    if seen is not None:
        shown = shown & seen[:, None]
    pattern = scores.masked_fill(~shown, -torch.inf).softmax(-1).nan_to_num(0.0)
    if term:
        pattern = pattern * (src == dest[:, None] - int(term == "prev"))
    weight = one.out.weight.unflatten(1, (lean.n_heads, lean.d_head))[:, head]
    return fn.linear((pattern @ v).to(weight.dtype), weight).to(lean.dtype)


def _of_head(
    lean: Lean, slot: str, place: tuple[int, int], stream: Stream, pos: Int[Tensor, "pos"]
) -> Float[Tensor, "row pos d_head"]:
    """Return queries, keys or values ("q", "k", "v") of one head as scores take them."""
    layer, head = place
    key = head * lean.n_keys // lean.n_heads
    rows, n = stream.shape[:2]
    found = lean.one_head(layer, slot, head if slot == "q" else key, stream.flatten(0, 1))
    if slot == "v":
        return found.unflatten(0, (rows, n))
    table = lean.layers[layer].read_positions.get(slot)
    if table is not None:
        found = found + table[pos, head].repeat(rows, 1)
    return lean.turned(layer, slot, found[:, None], pos.repeat(rows))[:, 0].unflatten(0, (rows, n))


def attention_out(
    lean: Lean,
    layer: int,
    stream: Stream,
    *,
    seen: Bool[Tensor, "row src"] | None = None,
    without: frozenset[int] = frozenset(),
) -> Stream:
    """Return what the heads of a layer write on a stream, with the bias, some heads left out."""
    dest = torch.arange(stream.shape[1], device=stream.device)
    out = torch.zeros_like(stream)
    bias = lean.layers[layer].out.bias
    if bias is not None:
        out = out + bias
    for head in range(lean.n_heads):
        if head not in without:
            out = out + head_out(lean, (layer, head), (stream, stream, stream), dest, seen=seen)
    return out


def mlp_out(lean: Lean, layer: int, stream: Stream) -> Stream:
    """Return what an MLP writes on a stream."""
    mlp = lean.layers[layer].mlp
    assert mlp is not None, "a model of attention only has no MLP"
    return mlp(stream.flatten(0, 1)).unflatten(0, stream.shape[:2])

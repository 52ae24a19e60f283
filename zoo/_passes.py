"""Passes that are read at one position, where the last layer runs alone.

What a component writes there can be exchanged without running the layers below it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from zoo import _net, _save


@dataclass(frozen=True)
class Pass:
    """An ordinary pass and what is needed to run its upper layers again.

    Attributes:
        logits: ``[batch, d_out]`` at ``at``, or ``[batch, pos, d_out]``.
        wrote: What each component wrote at ``at``, ``[batch, d_model]``.
        entered: The stream before each layer, ``[batch, pos, d_model]``.
        positions: The position table, or None.
        mask: What may be attended to, or None.
        at: The position at which components are exchanged and their effect is read.
    """

    logits: Tensor
    wrote: dict[_net.Component, Tensor]
    entered: list[Tensor]
    positions: Tensor | None
    mask: Tensor | None
    at: int


def run(
    net: _net.Net,
    tokens: Tensor,
    at: int,
    *,
    readable: Tensor | None = None,
    everywhere: bool = False,
) -> Pass:
    """Run a net and note what its components write at ``at``.

    Args:
        net: A net of ReLU, with MLPs and learned positions.
        tokens: Token rows.
        at: Position read, counted from 0; the last one of a causal net.
        readable: True at tokens that may be attended to; None: all.
        everywhere: Whether logits of all positions are wanted, which takes longer.
    """
    stream: Tensor = net.tokens(tokens)
    positions: Tensor = net.positions.weight[: tokens.shape[1]]
    if net.shape.positions == "standard":
        stream = stream + positions
    mask = None if readable is None else readable[:, None, None, :]
    swaps = _net.Swaps({}, {}, at)
    entered = [stream]
    layers: list[Any] = list(net.blocks)
    for block in layers[:-1]:
        stream = block(stream, positions, mask, swaps)
        entered.append(stream)
    base = Pass(stream, swaps.wrote, entered, positions, mask, at)
    if everywhere:
        logits = net.unembed(net.norm(layers[-1](stream, positions, mask, swaps)))
    else:
        logits = _read(net, base, stream, swaps)
    return replace(base, logits=logits)


def exchanged(net: _net.Net, base: Pass, component: _net.Component, instead: Tensor) -> Tensor:
    """Logits ``[batch, d_out]`` at ``base.at`` when a component writes ``instead`` there.

    Args:
        net: The net of the pass.
        base: The pass that is changed.
        component: What writes something else.
        instead: What it writes, ``[batch, d_model]``.
    """
    layer, kind = component
    swaps = _net.Swaps({component: instead}, {}, base.at)
    last = net.shape.n_layers - 1
    # What an MLP writes is first read by the next layer, so its own layer need not run again.
    first = layer + 1 if kind == "mlp" and layer < last else layer
    stream = base.entered[first]
    if first > layer:
        stream = stream.clone()
        stream[:, base.at] += instead - base.wrote[component]
    for block in list(net.blocks)[first:-1]:
        stream = block(stream, base.positions, base.mask, swaps)
    return _read(net, base, stream, swaps)


def _read(net: _net.Net, base: Pass, stream: Tensor, swaps: _net.Swaps) -> Tensor:
    """Run the last layer at the position read alone; ``stream`` is what enters it."""
    block: Any = net.blocks[-1]
    layer, at = net.shape.n_layers - 1, base.at
    attended = swaps.instead.get((layer, "attn"))
    if attended is None:
        attended = block.attend(stream, base.positions, base.mask, at)[:, 0]
    here = stream[:, at] + attended
    written = swaps.instead.get((layer, "mlp"))
    if written is None:
        written = block.back(functional.relu(block.into(block.norm2(here))))
    swaps.wrote |= {(layer, "attn"): attended, (layer, "mlp"): written}
    logits: Tensor = net.unembed(net.norm(here + written))
    return logits


@torch.no_grad()
def difference(net: _net.Net, model: HookedTransformer, tokens: Tensor, at: int) -> float:
    """Largest difference between both models' logits where the answer is read, in their std."""
    ours, theirs = run(net, tokens, at).logits, _save.logits_at(model, tokens, at)
    return float((ours - theirs).abs().max() / ours.std())

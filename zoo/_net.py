"""A transformer in plain torch, for training: fused attention, no hooks.

Training through a hooked model is several times slower here. ``weights`` renames what was trained
to the names of TransformerLens; ``difference`` says how far the two are apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens import HookedTransformer

from zoo import _save

Component = tuple[int, Literal["attn", "mlp"]]
"""A layer, and which of its two writers."""

_ACTIVATIONS = {"relu": functional.relu, "gelu": functional.gelu}
_ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class Shape:
    """Sizes and variants of a transformer.

    Attributes:
        d_mlp: 0 for a model of attention only.
        norm: "LN", "LNPre" (no gain and bias) or None.
        positions: "standard" (learned, added to the stream), "shortformer" (learned, added to what
            queries and keys read, never in the stream) or "rotary".
        tied: Whether the unembedding is the embedding.
        biases: False keeps every bias at zero.
    """

    d_vocab: int
    d_out: int
    n_ctx: int
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int = 0
    act: Literal["relu", "gelu"] = "relu"
    norm: Literal["LN", "LNPre"] | None = "LN"
    positions: Literal["standard", "shortformer", "rotary"] = "standard"
    causal: bool = True
    tied: bool = False
    biases: bool = True

    @property
    def transformer(self) -> dict[str, Any]:
        """Fields of ``HookedTransformerConfig``."""
        rotary = {
            "rotary_dim": self.d_head,
            "rotary_base": int(_ROTARY_BASE),
            "rotary_adjacent_pairs": False,
        }
        return {
            "act_fn": self.act,
            "attention_dir": "causal" if self.causal else "bidirectional",
            "attn_only": not self.d_mlp,
            "d_head": self.d_head,
            "d_mlp": self.d_mlp or None,
            "d_model": self.d_model,
            "d_vocab": self.d_vocab,
            "d_vocab_out": self.d_out,
            "n_ctx": self.n_ctx,
            "n_heads": self.n_heads,
            "n_layers": self.n_layers,
            "normalization_type": self.norm,
            "positional_embedding_type": self.positions,
            **(rotary if self.positions == "rotary" else {}),
        }


@dataclass
class Swaps:
    """What components write instead of their own output, and what they wrote: both by component.

    ``at`` is the one position that is swapped and noted; None: all.
    """

    instead: Mapping[Component, Tensor]
    wrote: dict[Component, Tensor]
    at: int | None = None

    def pass_on(self, component: Component, output: Tensor) -> Tensor:
        """Note the output of a component, and return what is written for it."""
        self.wrote[component] = output if self.at is None else output[:, self.at]
        if component not in self.instead:
            return output
        if self.at is None:
            return self.instead[component]
        changed = output.clone()
        changed[:, self.at] = self.instead[component]
        return changed


class Block(nn.Module):
    """Norm, attention, norm, MLP."""

    def __init__(self, shape: Shape, layer: int) -> None:
        """Create the weights."""
        super().__init__()
        self.shape, self.layer = shape, layer
        width = shape.n_heads * shape.d_head
        self.norm1 = _norm(shape)
        self.qkv = nn.Linear(shape.d_model, 3 * width, bias=shape.biases)
        self.out = nn.Linear(width, shape.d_model, bias=shape.biases)
        if shape.d_mlp:
            self.norm2 = _norm(shape)
            self.into = nn.Linear(shape.d_model, shape.d_mlp, bias=shape.biases)
            self.back = nn.Linear(shape.d_mlp, shape.d_model, bias=shape.biases)

    def forward(
        self, stream: Tensor, positions: Tensor | None, mask: Tensor | None, swaps: Swaps | None
    ) -> Tensor:
        """The new stream."""
        attended = self.attend(stream, positions, mask)
        if swaps is not None:
            attended = swaps.pass_on((self.layer, "attn"), attended)
        stream = stream + attended
        if not self.shape.d_mlp:
            return stream
        act = _ACTIVATIONS[self.shape.act]
        written: Tensor = self.back(act(self.into(self.norm2(stream))))
        if swaps is not None:
            written = swaps.pass_on((self.layer, "mlp"), written)
        return stream + written

    def attend(
        self,
        stream: Tensor,
        positions: Tensor | None,
        mask: Tensor | None,
        at: int | None = None,
    ) -> Tensor:
        """What the heads write, ``[batch, pos, d_model]``.

        Args:
            stream: What they read, all positions of it.
            positions: The position table, or None where there is none.
            mask: What may be attended to, or None.
            at: The one position that asks, the last one of a causal net; None: all ask.
        """
        width = self.shape.n_heads * self.shape.d_head
        query, key, value = self._projected(self.norm1(stream), width, at)
        if self.shape.positions == "shortformer" and positions is not None:
            moved = functional.linear(positions, self.qkv.weight[: 2 * width])
            asking = moved if at is None else moved[at]
            query, key = query + asking[..., :width], key + moved[:, width:]
        query, key, value = (self._by_head(part) for part in (query, key, value))
        if self.shape.positions == "rotary":
            query, key = rotate(query), rotate(key)
        causal = self.shape.causal and mask is None and at is None
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal
        )
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def _projected(
        self, normed: Tensor, width: int, at: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; queries of the position ``at`` alone if one is named."""
        if at is None:
            query, key, value = self.qkv(normed).chunk(3, -1)
            return query, key, value
        weight, bias = self.qkv.weight, _bias(self.qkv)
        query = functional.linear(normed[:, at, None], weight[:width], bias[:width])
        key, value = functional.linear(normed, weight[width:], bias[width:]).chunk(2, -1)
        return query, key, value

    def _by_head(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, (self.shape.n_heads, self.shape.d_head)).transpose(1, 2)


class Net(nn.Module):
    """The training twin of a model."""

    def __init__(self, shape: Shape, scale: float = 0.8) -> None:
        """Create the weights from torch's global random state.

        Args:
            shape: Sizes and variants.
            scale: Standard deviation of matrices, times the square root of ``d_model``.
        """
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.d_vocab, shape.d_model)
        if shape.positions != "rotary":
            self.positions = nn.Embedding(shape.n_ctx, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.n_layers))
        self.norm = _norm(shape)
        if not shape.tied:
            self.unembed = nn.Linear(shape.d_model, shape.d_out, bias=shape.biases)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=scale / math.sqrt(shape.d_model))
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(
        self,
        tokens: Tensor,
        readable: Tensor | None = None,
        read: int | None = None,
        swaps: Swaps | None = None,
    ) -> Tensor:
        """Logits ``[batch, pos, d_out]``, or ``[batch, d_out]`` of the one position ``read``.

        Args:
            tokens: Token rows, padded behind where lengths differ.
            readable: True at tokens that may be attended to, for padded rows without causal mask.
            read: Position that is unembedded; None: all.
            swaps: What components write instead, and where it is noted what they wrote.
        """
        stream: Tensor = self.tokens(tokens)
        positions: Tensor | None = None
        if self.shape.positions != "rotary":
            positions = self.positions.weight[: tokens.shape[1]]
            if self.shape.positions == "standard":
                stream = stream + positions
        mask = None if readable is None else readable[:, None, None, :]
        for block in self.blocks:
            stream = block(stream, positions, mask, swaps)
        stream = self.norm(stream if read is None else stream[:, read])
        if self.shape.tied:
            return functional.linear(stream, self.tokens.weight)
        logits: Tensor = self.unembed(stream)
        return logits


def rotate(heads: Tensor) -> Tensor:
    """Turn queries or keys ``[batch, head, pos, d_head]`` by their position.

    The number at i and that half a head further turn together. Source: Su et al. (2021), RoFormer,
    equation 34, in the order of GPT-NeoX.
    """
    length, size = heads.shape[-2:]
    steps = torch.arange(size // 2, dtype=torch.float32, device=heads.device)
    speeds = _ROTARY_BASE ** (-2 * steps / size)
    places = torch.arange(length, dtype=torch.float32, device=heads.device)
    angles = places[:, None] * speeds
    cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _norm(shape: Shape) -> nn.Module:
    if shape.norm is None:
        return nn.Identity()
    return nn.LayerNorm(shape.d_model, elementwise_affine=shape.norm == "LN")


@torch.no_grad()
def weights(net: Net) -> dict[str, Tensor]:
    """The net's weights under the names and in the layouts of TransformerLens."""
    shape = net.shape
    found: dict[str, Any] = {"embed.W_E": net.tokens.weight}
    if shape.positions != "rotary":
        found["pos_embed.W_pos"] = net.positions.weight
    for layer, block in enumerate(net.blocks):
        found |= {f"blocks.{layer}.{name}": w for name, w in _of_block(block).items()}
    if shape.norm == "LN":
        found |= {"ln_final.w": net.norm.weight, "ln_final.b": net.norm.bias}
    if shape.tied:
        found |= {"unembed.b_U": torch.zeros(shape.d_out)}
    else:
        found |= {"unembed.W_U": net.unembed.weight.T, "unembed.b_U": _bias(net.unembed)}
    return {name: w.detach().cpu().clone().contiguous() for name, w in found.items()}


def _of_block(block: Any) -> dict[str, Tensor]:
    shape: Shape = block.shape
    heads, size = shape.n_heads, shape.d_head
    found: dict[str, Tensor] = {}
    parts = zip("QKV", block.qkv.weight.chunk(3), _bias(block.qkv).chunk(3), strict=True)
    for name, weight, bias in parts:
        found[f"attn.W_{name}"] = weight.unflatten(0, (heads, size)).transpose(1, 2)
        found[f"attn.b_{name}"] = bias.unflatten(0, (heads, size))
    found["attn.W_O"] = block.out.weight.T.unflatten(0, (heads, size))
    found["attn.b_O"] = _bias(block.out)
    if shape.d_mlp:
        found |= {"mlp.W_in": block.into.weight.T, "mlp.b_in": _bias(block.into)}
        found |= {"mlp.W_out": block.back.weight.T, "mlp.b_out": _bias(block.back)}
    if shape.norm == "LN":
        found |= {"ln1.w": block.norm1.weight, "ln1.b": block.norm1.bias}
        if shape.d_mlp:
            found |= {"ln2.w": block.norm2.weight, "ln2.b": block.norm2.bias}
    return found


def _bias(linear: Any) -> Tensor:
    return torch.zeros(linear.out_features) if linear.bias is None else linear.bias


def parameters(net: Net) -> int:
    """Numbers that are trained."""
    return sum(weight.numel() for weight in net.parameters())


@torch.no_grad()
def difference(net: Net, model: HookedTransformer, tokens: Tensor) -> float:
    """Largest difference between the logits of both on rows without padding, in their std."""
    ours, theirs = net(tokens), _save.tensor(model(tokens))
    return float((ours - theirs).abs().max() / ours.std())

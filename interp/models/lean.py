"""A model's layers as few large matrix products on flat lists of tokens.

The weights are those of the loaded model; queries, keys and values of a layer are one product
instead of three (that one matrix is copied), norms and activations are torch's fused ones, and
nothing is hooked. Tokens of any number of prompts stand below each other, so that one product
serves them all. ``why_not`` says which models this does not know how to compute; what it computes
is compared with the model itself once per load (``interp.engine.traces``).

In half precision only matrix products are rounded; the residual stream stays in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as fn

from interp.models.load import LoadedModel

_MLP_TOKENS = 512
"""Tokens whose hidden layer is held at once: more only falls out of the cache."""
_FUSED = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
"""Activations that a product applies itself, by the names that it has for them."""
_LACKING = (
    ("num_experts", "its MLPs are mixtures of experts"),
    ("use_attention_sinks", "its attention has sinks"),
    ("clip_qkv", "it clips queries, keys and values"),
    ("use_dynamic_ntk_rope", "its rotary base depends on the length"),
    ("use_logn_attn", "it scales queries by position"),
    ("load_in_4bit", "its weights are quantised"),
)

Map = Callable[[Tensor], Tensor]


def why_not(model: LoadedModel) -> str:
    """Say why a model cannot be computed here, or nothing."""
    from transformer_lens.utilities.architectures import POST_NORM_ARCHITECTURES

    config = model.hooked.cfg
    if config.positional_embedding_type not in ("standard", "rotary", "shortformer"):
        return f"its positions are of type {config.positional_embedding_type}"
    if config.original_architecture in POST_NORM_ARCHITECTURES:
        return f"it is of the architecture {config.original_architecture}"
    if config.act_fn is not None and config.act_fn.endswith("_ln"):
        return "its activation has a norm"
    return next((why for name, why in _LACKING if getattr(config, name, None)), "")


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ weight.T + bias``; the product is in the weight's precision, the result in ``x``'s."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "out"] | None = None

    def __call__(self, x: Float[Tensor, "... in"], then: str = "none") -> Tensor:
        """Apply the map, and ``then`` "relu" or "gelu" (tanh) to what comes out."""
        if self._one_dnn(x):
            # oneDNN's product is a tenth faster than the default one on small tokens, and applies
            # the activation while its tile is in the cache; it has no gradients and no float64.
            product = torch.ops.mkldnn._linear_pointwise
            return product(x.contiguous(), self.weight, self.bias, then, [], "tanh")
        out = fn.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)
        if then == "gelu":
            return fn.gelu(out, approximate="tanh")
        return out.relu() if then == "relu" else out

    def _one_dnn(self, x: Tensor) -> bool:
        single = x.dtype == self.weight.dtype == torch.float32 and x.device.type == "cpu"
        return single and x.numel() > 0 and torch.is_inference_mode_enabled() and _has_one_dnn()

    def rows(self, first: int, last: int | None) -> Linear:
        """Return the map to a range of outputs."""
        bias = None if self.bias is None else self.bias[first:last]
        return Linear(self.weight[first:last], bias)


@cache
def _has_one_dnn() -> bool:
    """Whether torch's product by oneDNN is there and right: it is made for torch's own compiler."""
    x, weight, bias = (torch.linspace(-2, 2, n).sin() for n in (15, 20, 4))
    x, weight = x.view(3, 5), weight.view(4, 5)
    try:
        product = torch.ops.mkldnn._linear_pointwise
        found = product(x, weight, bias, "gelu", [], "tanh")
    except (AttributeError, RuntimeError):
        return False
    right = fn.gelu(fn.linear(x, weight, bias), approximate="tanh")
    return torch.allclose(found, right, atol=1e-5)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: maps of flat tokens; norms and the MLP are the identity or None where absent."""

    norm: Map
    qkv: Linear
    q_norm: Map
    k_norm: Map
    rotate: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor], Tensor]
    window: int | None
    out: Linear
    after_attn: Map
    mlp: Map | None
    read_positions: dict[str, Float[Tensor, "pos head d_head"]]


@dataclass(frozen=True, eq=False)
class Lean:
    """All layers, and the shapes that they share."""

    layers: list[Layer]
    n_heads: int
    n_keys: int
    d_head: int
    causal: bool
    parallel: bool
    final: Map
    unembed: Linear
    softcap: float
    dtype: torch.dtype

    def split(
        self, layer: int, x: Float[Tensor, "token d_model"], asking: Int[Tensor, "query"] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``[token, head, d_head]``, without what is ``placed``.

        Queries are those of the tokens ``asking``, or of all for None.
        """
        one, width = self.layers[layer], self.n_heads * self.d_head
        x = one.norm(x)
        if asking is None:
            q, kv = one.qkv(x).split([width, 2 * self.n_keys * self.d_head], dim=-1)
        else:
            q, kv = one.qkv.rows(0, width)(x[asking]), one.qkv.rows(width, None)(x)
        q, k, v = (part.unflatten(-1, (-1, self.d_head)) for part in (q, *kv.chunk(2, dim=-1)))
        return q, k, v

    def one_head(
        self, layer: int, slot: str, head: int, x: Float[Tensor, "token d_model"]
    ) -> Tensor:
        """Return the query, key or value ("q", "k", "v") of one head for an input of its own."""
        index = head + {"q": 0, "k": self.n_heads, "v": self.n_heads + self.n_keys}[slot]
        of_head = self.layers[layer].qkv.rows(index * self.d_head, (index + 1) * self.d_head)
        return of_head(self.layers[layer].norm(x))

    def placed(
        self, layer: int, slot: str, x: Tensor, pos: Int[Tensor, "token"]
    ) -> Float[Tensor, "token head d_head"]:
        """Add what queries and keys ("q", "k") read of positions that are not in the stream.

        So hooks see them. Only shortformer positions are such.
        """
        table = self.layers[layer].read_positions.get(slot)
        return x if table is None else x + table[pos]

    def results(
        self, layer: int, z: Float[Tensor, "... head d_head"]
    ) -> Float[Tensor, "... head d_model"]:
        """Return what each head writes into the stream, without the output bias."""
        weight = self.layers[layer].out.weight.unflatten(1, (self.n_heads, self.d_head))
        each = [Linear(weight[:, head])(z[..., head, :]) for head in range(self.n_heads)]
        return torch.stack(each, -2)

    def result(
        self, layer: int, z: Tensor, token: Tensor, head: Tensor
    ) -> Float[Tensor, "entry d_model"]:
        """Return what heads write into the stream at some tokens."""
        weight = self.layers[layer].out.weight.unflatten(1, (self.n_heads, self.d_head))
        written = z.new_empty(len(token), weight.shape[0])
        for one in head.unique().tolist():
            chosen = head == one
            written[chosen] = Linear(weight[:, one])(z[token[chosen], one])
        return written

    def turned(
        self, layer: int, slot: str, x: Tensor, pos: Int[Tensor, "token"]
    ) -> Float[Tensor, "token head d_head"]:
        """Normalise and rotate queries or keys ("q", "k"): what scores are made of."""
        one = self.layers[layer]
        return one.rotate(one.q_norm(x) if slot == "q" else one.k_norm(x), pos)

    def pattern(
        self,
        layer: int,
        q: Float[Tensor, "run dest head d_head"],
        k: Float[Tensor, "run src key d_head"],
        dest: Int[Tensor, "dest"],
        seen: Bool[Tensor, "run src"] | None,
    ) -> Float[Tensor, "run dest head src"]:
        """Return the attention of queries at positions ``dest`` to sources 0, 1, 2, ..."""
        runs, n, sources = len(q), q.shape[1], k.shape[1]
        grouped = q.unflatten(2, (self.n_keys, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        scores = self.layers[layer].scores(grouped @ k.permute(0, 2, 3, 1))
        scores = scores.view(runs, self.n_heads, n, sources)
        visible = self._visible(layer, dest, sources, seen)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        pattern = scores.softmax(-1)
        # A padded position may see padding only: it attends to nothing.
        pattern = pattern if seen is None else pattern.nan_to_num(0.0)
        return pattern.permute(0, 2, 1, 3)

    def _visible(
        self, layer: int, dest: Tensor, sources: int, seen: Bool[Tensor, "run src"] | None
    ) -> Tensor | None:
        src = torch.arange(sources, device=dest.device)
        window, shown = self.layers[layer].window, None
        if self.causal and not (len(dest) == 1 and int(dest[0]) + 1 == sources):
            shown = src <= dest[:, None]
        if window is not None:
            near = src > dest[:, None] - window
            shown = near if shown is None else shown & near
        if seen is not None:
            shown = seen[:, None, None] if shown is None else shown & seen[:, None, None]
        return shown

    def mix(
        self, pattern: Float[Tensor, "run dest head src"], v: Float[Tensor, "run src key d_head"]
    ) -> Float[Tensor, "run dest head d_head"]:
        """Return the values that each head reads: ``z``."""
        runs, n = pattern.shape[:2]
        shape = (runs, self.n_keys, self.n_heads // self.n_keys * n, pattern.shape[3])
        grouped = pattern.permute(0, 2, 1, 3).reshape(shape)
        z = (grouped @ v.permute(0, 2, 1, 3)).view(runs, self.n_heads, n, self.d_head)
        return z.permute(0, 2, 1, 3)

    def outputs(
        self, resid: Float[Tensor, "run d_model"], chosen: Int[Tensor, "output"] | None
    ) -> Float[Tensor, "run output"]:
        """Return logits of the chosen outputs, of all for None."""
        to = self.unembed
        if chosen is not None:
            to = Linear(to.weight[chosen], None if to.bias is None else to.bias[chosen])
        logits = to(self.final(resid))
        return self.softcap * (logits / self.softcap).tanh() if self.softcap else logits


def lean(model: LoadedModel, dtype: torch.dtype | None = None) -> Lean:
    """Read a model's layers.

    Cost: a copy of the weights that make queries, keys and values; of all for another ``dtype``.
    """
    hooked, to = model.hooked, dtype or model.dtype
    config = hooked.cfg
    wide = to if to in (torch.float32, torch.float64) else torch.float32
    beside = hooked.W_pos if config.positional_embedding_type == "shortformer" else None
    return Lean(
        layers=[_layer(block, config, (to, wide), beside) for block in hooked.blocks],
        n_heads=config.n_heads,
        n_keys=config.n_key_value_heads or config.n_heads,
        d_head=config.d_head,
        causal=model.info.causal,
        parallel=bool(config.parallel_attn_mlp),
        final=_norm(getattr(hooked, "ln_final", None), config, wide),
        unembed=Linear(hooked.unembed.W_U.T.to(to), hooked.unembed.b_U.to(to)),
        softcap=max(0.0, float(config.output_logits_soft_cap or 0.0)),
        dtype=wide,
    )


def _layer(
    block: Any,
    config: Any,
    dtypes: tuple[torch.dtype, torch.dtype],
    beside: Float[Tensor, "pos d_model"] | None,
) -> Layer:
    attn, (dtype, wide) = block.attn, dtypes
    grouped = config.n_key_value_heads is not None
    names = ("W_Q", "_W_K", "_W_V") if grouped else ("W_Q", "W_K", "W_V")
    weights = [getattr(attn, name) for name in names]
    biases = [getattr(attn, name.replace("W", "b")) for name in names]
    both = config.use_normalization_before_and_after
    qkv = torch.cat([w.permute(0, 2, 1).flatten(0, 1) for w in weights]).to(dtype)
    scale, cap = float(attn.attn_scale), float(config.attn_scores_soft_cap or 0.0)
    return Layer(
        norm=_norm(block.ln1, config, wide),
        qkv=Linear(qkv, torch.cat([b.flatten() for b in biases]).to(dtype)),
        q_norm=_norm(attn.q_norm, config, wide),
        k_norm=_norm(attn.k_norm, config, wide),
        rotate=_rotation(attn, config, wide),
        scores=lambda raw: cap * (raw / scale / cap).tanh() if cap > 0 else raw / scale,
        window=config.window_size if attn.attn_type == "local" else None,
        out=Linear(attn.W_O.flatten(0, 1).T.to(dtype), attn.b_O.to(dtype)),
        after_attn=_norm(block.ln1_post, config, wide) if both else _same,
        mlp=None if config.attn_only else _mlp(block, config, dtype, wide),
        read_positions={} if beside is None else _read_positions(attn, beside.to(wide)),
    )


def _read_positions(attn: Any, table: Float[Tensor, "pos d_model"]) -> dict[str, Tensor]:
    """Return what each position adds to queries and keys where it is not in the stream."""
    return {
        slot: torch.einsum("pm,hmd->phd", table, getattr(attn, f"W_{slot.upper()}").to(table.dtype))
        for slot in "qk"
    }


def _same(x: Tensor) -> Tensor:
    return x


def _norm(module: Any, config: Any, wide: torch.dtype) -> Map:
    """Return a norm as torch computes it; folded ones have neither gain nor bias."""
    from transformer_lens.components import LayerNorm, LayerNormPre

    if module is None or isinstance(module, torch.nn.Identity):
        return _same
    gain, bias = (getattr(module, name, None) for name in ("w", "b"))
    gain, bias = (None if w is None else w.to(wide) for w in (gain, bias))
    eps = float(module.eps)
    if isinstance(module, LayerNorm | LayerNormPre):
        return lambda x: fn.layer_norm(x, x.shape[-1:], gain, bias, eps)
    return lambda x: fn.rms_norm(x, x.shape[-1:], gain, eps)


def _rotation(attn: Any, config: Any, wide: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    if config.positional_embedding_type != "rotary":
        return lambda x, pos: x
    sin, cos = attn.rotary_sin.to(wide), attn.rotary_cos.to(wide)
    turned = sin.shape[-1]

    def rotate(x: Float[Tensor, "token head d_head"], pos: Int[Tensor, "token"]) -> Tensor:
        first, rest = x[..., :turned], x[..., turned:]
        other = attn.rotate_every_two(first)
        return torch.cat([first * cos[pos, None] + other * sin[pos, None], rest], -1)

    return rotate


def _mlp(block: Any, config: Any, dtype: torch.dtype, wide: torch.dtype) -> Map:
    mlp = block.mlp
    norm = _norm(block.ln2, config, wide)
    both = config.use_normalization_before_and_after
    after = _norm(block.ln2_post, config, wide) if both else _same
    gate = Linear(mlp.W_gate.T.to(dtype)) if config.gated_mlp else None
    b_in = mlp.b_in.to(dtype)
    into = Linear(mlp.W_in.T.to(dtype), None if gate is not None else b_in)
    out = Linear(mlp.W_out.T.to(dtype), mlp.b_out.to(dtype))
    then = _FUSED.get(config.act_fn)

    def bent(of: Linear, x: Tensor) -> Tensor:
        return mlp.act_fn(of(x)) if then is None else of(x, then)

    def some(x: Tensor) -> Tensor:
        x = norm(x)
        # In the class's gated MLP the inner bias comes behind the product.
        hidden = bent(into, x) if gate is None else bent(gate, x) * into(x) + b_in
        return after(out(hidden))

    return lambda x: torch.cat([some(part) for part in x.split(_MLP_TOKENS)])

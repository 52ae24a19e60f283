"""A checkpoint's tensors under the names and in the shapes of the model class.

Written from the names that the files have, without a model of the other library in between, which
would need the memory twice. Checked before anything is read: a tensor that is missing, or one that
nobody asks for, means that the file is not what its config.json says. The check is torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from interp.errors import CannotLoad
from interp.models._families_tensors import Blank, Read, Shapes, Tensor, Tensors
from interp.models.checkpoint import Checkpoint
from interp.models.families import Architecture
from interp.models.paths import shown

State = dict[str, Tensor]


def used(made: Architecture, given: Shapes) -> frozenset[str]:
    """Name the tensors that ``convert`` reads, after comparing all with the configuration.

    Args:
        made: What config.json says.
        given: Shapes of all tensors of the checkpoint by name.

    Raises:
        CannotLoad: A tensor is missing, unexpected or of the wrong shape; it is named.

    **Cost.** Reads and allocates nothing.
    """
    plan = Tensors(made, given)
    _whole(plan)
    plan.check_names()
    return frozenset(plan.asked)


def used_tensors(checkpoint: Checkpoint) -> frozenset[str]:
    """Name the tensors of a checkpoint that loading it reads, after checking them by the headers.

    Raises:
        CannotLoad: A tensor is missing, unknown, quantised, or of another shape than config.json
            says.

    Cost: reads and allocates nothing.
    """
    names = used(checkpoint.architecture, shapes_of(checkpoint))
    for name in sorted(names):
        stored = checkpoint.tensors[name]
        if stored.dtype not in ("F64", "F32", "F16", "BF16"):
            raise CannotLoad(
                f"{shown(checkpoint.folder)} was to be loaded.",
                f"{name!r} is stored as {stored.dtype}: its weights are quantised.",
                "Use the version that is stored in bfloat16 or float32.",
            )
    return names


def shapes_of(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a checkpoint, by name."""
    return {name: stored.shape for name, stored in checkpoint.tensors.items()}


def convert(made: Architecture, given: Shapes, read: Read) -> State:
    """Convert a checkpoint into a state dict of the model class.

    Matrices are views of what ``read`` returns where that is possible; a tied unembedding is one of
    the embedding. Arithmetic (Gemma's scaled embedding, its norms' 1 + w) is done in float32, or in
    the precision that ``read`` returns if that is higher: for a model exact to float64, ``read``
    must return float64. Tables of rotary positions are float64; whoever puts them into the model
    rounds them to its precision.

    Args:
        made: What config.json says.
        given: Shapes of all tensors of the checkpoint by name.
        read: Returns one of them.

    Raises:
        CannotLoad: A tensor is missing, unexpected or of the wrong shape; it is named.

    **Cost.** Reads each tensor once, and none before all names and shapes are known to be right.
    """
    used(made, given)
    return _whole(Tensors(made, given, read)) | _rotary(made.transformer)


# --- one body a family ----------------------------------------------------------------------------


def _whole(source: Tensors) -> State:
    d_model, d_vocab = source.size("d_model", "d_vocab")
    bodies: dict[str, Callable[[Tensors], State]] = {"gpt2": _gpt2, "gpt_neox": _gpt_neox}
    embedding = source.take(source.embedding, d_vocab, d_model)
    unembedding = source.take(source.head, d_vocab, d_model) if source.head else embedding
    if source.family.startswith("gemma"):
        embedding = _exact(embedding) * math.sqrt(d_model)
    return {
        "embed.W_E": embedding,
        **bodies.get(source.family, _llama)(source),
        "unembed.W_U": unembedding.T,
        "unembed.b_U": unembedding.new_zeros(d_vocab),
    }


def _gpt2(source: Tensors) -> State:
    n_layers, d_model, heads, d_head = source.size("n_layers", "d_model", "n_heads", "d_head")
    n_ctx, d_mlp = source.size("n_ctx", "d_mlp")
    state = {"pos_embed.W_pos": source.positions(n_ctx, d_model)}
    for layer in range(n_layers):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        state |= _norm(source, f"{ours}.ln1", f"{theirs}.ln_1")
        # Linear maps are stored [in, out] here, unlike in the other families.
        qkv = source.take(f"{theirs}.attn.c_attn.weight", d_model, 3 * d_model)
        bias = source.take(f"{theirs}.attn.c_attn.bias", 3 * d_model)
        weights = qkv.reshape(d_model, 3, heads, d_head).permute(1, 2, 0, 3)
        state |= _qkv(f"{ours}.attn", weights, bias.reshape(3, heads, d_head))
        out = source.take(f"{theirs}.attn.c_proj.weight", d_model, d_model)
        state |= {
            f"{ours}.attn.W_O": out.reshape(heads, d_head, d_model),
            f"{ours}.attn.b_O": source.take(f"{theirs}.attn.c_proj.bias", d_model),
            **_norm(source, f"{ours}.ln2", f"{theirs}.ln_2"),
            f"{ours}.mlp.W_in": source.take(f"{theirs}.mlp.c_fc.weight", d_model, d_mlp),
            f"{ours}.mlp.b_in": source.take(f"{theirs}.mlp.c_fc.bias", d_mlp),
            f"{ours}.mlp.W_out": source.take(f"{theirs}.mlp.c_proj.weight", d_mlp, d_model),
            f"{ours}.mlp.b_out": source.take(f"{theirs}.mlp.c_proj.bias", d_model),
        }
    return state | _norm(source, "ln_final", "ln_f")


def _gpt_neox(source: Tensors) -> State:
    n_layers, d_model, heads, d_head = source.size("n_layers", "d_model", "n_heads", "d_head")
    (d_mlp,) = source.size("d_mlp")
    state: State = {}
    for layer in range(n_layers):
        ours, theirs = f"blocks.{layer}", f"layers.{layer}"
        state |= _norm(source, f"{ours}.ln1", f"{theirs}.input_layernorm")
        # Query, key and value of a head lie together: the head is the slowest index.
        qkv, bias = _linear(source, f"{theirs}.attention.query_key_value", 3 * d_model, d_model)
        weights = qkv.reshape(heads, 3, d_head, d_model).permute(1, 0, 3, 2)
        state |= _qkv(f"{ours}.attn", weights, bias.reshape(heads, 3, d_head).transpose(0, 1))
        state |= _out(source, f"{ours}.attn", f"{theirs}.attention.dense")
        state |= _norm(source, f"{ours}.ln2", f"{theirs}.post_attention_layernorm")
        state |= {
            f"{ours}.mlp.W_in": source.take(f"{theirs}.mlp.dense_h_to_4h.weight", d_mlp, d_model).T,
            f"{ours}.mlp.b_in": source.take(f"{theirs}.mlp.dense_h_to_4h.bias", d_mlp),
            f"{ours}.mlp.W_out": source.take(
                f"{theirs}.mlp.dense_4h_to_h.weight", d_model, d_mlp
            ).T,
            f"{ours}.mlp.b_out": source.take(f"{theirs}.mlp.dense_4h_to_h.bias", d_model),
        }
    return state | _norm(source, "ln_final", "final_layer_norm")


def _llama(source: Tensors) -> State:
    """Convert the families after Llama, which differ in norms and biases."""
    n_layers, d_model, heads, d_head = source.size("n_layers", "d_model", "n_heads", "d_head")
    (d_mlp,) = source.size("d_mlp")
    keys = source.transformer.get("n_key_value_heads")
    norms = {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
    if source.transformer.get("use_normalization_before_and_after"):
        norms |= {
            "ln1_post": "post_attention_layernorm",
            "ln2": "pre_feedforward_layernorm",
            "ln2_post": "post_feedforward_layernorm",
        }
    state: State = {}
    for layer in range(n_layers):
        ours, theirs = f"blocks.{layer}", f"layers.{layer}"
        for mine, name in norms.items():
            state[f"{ours}.{mine}.w"] = _gain(source, f"{theirs}.{name}.weight", d_model)
        for name, count in (("Q", heads), ("K", keys or heads), ("V", keys or heads)):
            at = f"{theirs}.self_attn.{name.lower()}_proj"
            weight, bias = _linear(source, at, count * d_head, d_model)
            mark = "_" if keys and name != "Q" else ""  # the class repeats shared ones itself
            state[f"{ours}.attn.{mark}W_{name}"] = weight.reshape(count, d_head, -1).mT
            state[f"{ours}.attn.{mark}b_{name}"] = bias.reshape(count, d_head)
        if source.transformer.get("use_qk_norm"):
            for name in ("q_norm", "k_norm"):
                gain = _gain(source, f"{theirs}.self_attn.{name}.weight", d_head)
                state[f"{ours}.attn.{name}.w"] = gain
        state |= _out(source, f"{ours}.attn", f"{theirs}.self_attn.o_proj")
        gate = source.take(f"{theirs}.mlp.gate_proj.weight", d_mlp, d_model)
        state |= {
            f"{ours}.mlp.W_gate": gate.T,
            f"{ours}.mlp.W_in": source.take(f"{theirs}.mlp.up_proj.weight", d_mlp, d_model).T,
            f"{ours}.mlp.b_in": gate.new_zeros(d_mlp),
            f"{ours}.mlp.W_out": source.take(f"{theirs}.mlp.down_proj.weight", d_model, d_mlp).T,
            f"{ours}.mlp.b_out": gate.new_zeros(d_model),
        }
    return state | {"ln_final.w": _gain(source, "norm.weight", d_model)}


# --- parts ----------------------------------------------------------------------------------------


def _exact(tensor: Tensor) -> Tensor:
    """Raise to float32 what has less, so that arithmetic does not round to bfloat16."""
    if isinstance(tensor, Blank):
        return tensor
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _gain(source: Tensors, name: str, size: int) -> Tensor:
    """Return the gain of an RMS norm; Gemma stores what is above one."""
    weight = source.take(name, size)
    return _exact(weight) + 1 if source.family.startswith("gemma") else weight


def _norm(source: Tensors, ours: str, theirs: str) -> State:
    (d_model,) = source.size("d_model")
    return {
        f"{ours}.w": source.take(f"{theirs}.weight", d_model),
        f"{ours}.b": source.take(f"{theirs}.bias", d_model),
    }


def _linear(source: Tensors, name: str, out: int, into: int) -> tuple[Tensor, Tensor]:
    """Return weight ``[out, into]`` and bias of a map of attention, zero where it has none."""
    weight = source.take(f"{name}.weight", out, into)
    if source.has_bias(name):
        return weight, source.take(f"{name}.bias", out)
    return weight, weight.new_zeros(out)


def _qkv(ours: str, weights: Tensor, biases: Tensor) -> State:
    state: State = {}
    for name, weight, bias in zip("QKV", weights, biases, strict=True):
        state |= {f"{ours}.W_{name}": weight, f"{ours}.b_{name}": bias}
    return state


def _out(source: Tensors, ours: str, theirs: str) -> State:
    d_model, heads, d_head = source.size("d_model", "n_heads", "d_head")
    weight, bias = _linear(source, theirs, d_model, heads * d_head)
    return {
        f"{ours}.W_O": weight.reshape(d_model, heads, d_head).permute(1, 2, 0),
        f"{ours}.b_O": bias,
    }


def _rotary(transformer: dict[str, Any]) -> State:
    """Compute the tables of rotary positions of every layer.

    The model class computes its own, but those with llama3's scaling in float32 only.
    """
    if transformer["positional_embedding_type"] != "rotary":
        return {}
    n_layers = transformer["n_layers"]
    kinds = transformer.get("attn_types") or ["global"] * n_layers
    tables = {kind: _angles(transformer, kind == "local") for kind in set(kinds)}
    return {
        f"blocks.{layer}.attn.rotary_{name}": table
        for layer in range(n_layers)
        for name, table in zip(("sin", "cos"), tables[kinds[layer]], strict=True)
    }


def _angles(transformer: dict[str, Any], local: bool) -> tuple[Tensor, Tensor]:
    """Return sine and cosine ``[pos, rotary_dim]`` of one kind of layer, in float64.

    **Source.** llama3's scaling: transformers, modeling_rope_utils, "llama3": wavelengths above the
    original length over ``low`` are stretched by ``factor``, those below that over ``high`` are
    kept, and frequencies between are interpolated in the number of turns over that length.
    """
    import torch

    dim, base = transformer["rotary_dim"], transformer["rotary_base"]
    if local:
        base = transformer.get("rotary_base_local") or base
    frequency = base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if transformer.get("use_NTK_by_parts_rope"):
        low, high = (transformer[f"NTK_by_parts_{n}_freq_factor"] for n in ("low", "high"))
        turns = transformer["NTK_original_ctx_len"] * frequency / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        frequency = frequency * (kept + (1 - kept) / transformer["NTK_by_parts_factor"])
    elif not local:
        frequency = frequency / transformer.get("rotary_scaling_factor", 1.0)
    angle = torch.arange(transformer["n_ctx"], dtype=torch.float64)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.sin(), angle.cos()

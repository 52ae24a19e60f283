"""Rewrite a model's weights into a simpler form that computes the same log-probabilities.

Four steps, each only where it changes nothing:

- A norm's gain and bias move into the matrices that read its output; behind a LayerNorm these
  matrices are centred over ``d_model``, for what they read has mean zero.
- Weights that write to the residual stream are centred over ``d_model``, where every reader is a
  LayerNorm. An RMS norm sees the mean.
- The unembedding is centred over the outputs, which shifts all logits of a position alike. A cap on
  the logits comes after it and does not commute with a shift.
- A value bias is written whatever is attended to, as patterns sum to one: it moves into ``b_O``.

**Source.** The processing that TransformerLens does by default, which published directions and
dictionaries of many models refer to. Its code goes through float32 in a float64 model too, and
copies all weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interp.errors import CannotLoad
from interp.models.families import why_not_foldable

Reader = tuple[Any, str, str]
"""A module, the name of its matrix ``[..., d_model, out]`` and that of its bias (may be empty)."""


@torch.no_grad()
def fold(hooked: Any) -> None:
    """Fold norms and value biases and centre weights, in place.

    New matrices take the place of the old, which may be shared with others. Hook points keep their
    names; those of norms then carry a vector without gain and bias.

    Args:
        hooked: A HookedTransformer.

    Raises:
        CannotLoad: It would change what the model computes; ``why_not_foldable`` says so before.

    **Cost.** No forward pass; the largest matrix twice in memory. Arithmetic is in float32 or more.
    """
    cfg = hooked.cfg
    reason = why_not_foldable(vars(cfg))
    if reason is not None:
        raise CannotLoad("The weights of a model were to be folded.", reason, "Use it raw.")
    centred = cfg.normalization_type in ("LN", "LNPre") and not cfg.final_rms
    if cfg.normalization_type in ("LN", "RMS"):
        _fold_norms(hooked)
    if centred:
        _center_writers(hooked)
    if not cfg.output_logits_soft_cap or cfg.output_logits_soft_cap < 0:
        for name in ("W_U", "b_U"):
            _change(hooked.unembed, name, lambda w: w - w.mean(-1, keepdim=True))
    if not cfg.use_attention_sinks:  # a sink takes a share, so the rest sums to less than one
        for block in hooked.blocks:
            _fold_value_bias(block.attn)


def _fold_norms(hooked: Any) -> None:
    cfg = hooked.cfg
    for block in hooked.blocks:
        attn = block.attn
        shared = "_" if hasattr(attn, "_W_K") else ""
        readers = [(attn, "W_Q", "b_Q")]
        readers += [(attn, f"{shared}W_{name}", f"{shared}b_{name}") for name in "KV"]
        block.ln1 = _fold_norm(block.ln1, readers, cfg)
        if not cfg.attn_only:
            gated = cfg.gated_mlp
            readers = [(block.mlp, "W_in", "" if gated else "b_in")]
            readers += [(block.mlp, "W_gate", "")] if gated else []
            block.ln2 = _fold_norm(block.ln2, readers, cfg)
    hooked.ln_final = _fold_norm(hooked.ln_final, [(hooked.unembed, "W_U", "b_U")], cfg)
    cfg.normalization_type += "Pre"
    hooked.setup()  # the new norms' hook points get their names


def _fold_norm(norm: Any, readers: list[Reader], cfg: Any) -> Any:
    """Move gain and bias of ``norm`` into its readers; return the norm without them."""
    from transformer_lens.components import LayerNormPre, RMSNormPre

    gain, bias = _exact(norm.w), getattr(norm, "b", None)
    for module, weight, offset in readers:
        if bias is not None and offset:
            shift = (_exact(getattr(module, weight)) * _exact(bias)[:, None]).sum(-2)
            _change(module, offset, lambda b, shift=shift: b + shift)
        _change(module, weight, lambda w: w * gain[:, None])
        if bias is not None:
            _change(module, weight, lambda w: w - w.mean(-2, keepdim=True))
    return (RMSNormPre if bias is None else LayerNormPre)(cfg)


def _center_writers(hooked: Any) -> None:
    cfg = hooked.cfg
    writers = [(hooked.embed, "W_E")]
    if cfg.positional_embedding_type == "standard":
        writers.append((hooked.pos_embed, "W_pos"))
    for block in hooked.blocks:
        writers += [(block.attn, "W_O"), (block.attn, "b_O")]
        if not cfg.attn_only:
            writers += [(block.mlp, "W_out"), (block.mlp, "b_out")]
    for module, name in writers:
        _change(module, name, lambda w: w - w.mean(-1, keepdim=True))


def _fold_value_bias(attn: Any) -> None:
    bias, out = _exact(attn.b_V), _exact(attn.W_O)  # both with one entry a head
    _change(attn, "b_O", lambda b: b + (bias[..., None] * out).sum((0, 1)))
    stored = "_b_V" if hasattr(attn, "_b_V") else "b_V"
    _change(attn, stored, torch.zeros_like)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _change(module: Any, name: str, by: Any) -> None:
    """Put a new tensor in the place of a parameter, of the same precision."""
    old = getattr(module, name)
    old.data = by(_exact(old)).to(old.dtype)

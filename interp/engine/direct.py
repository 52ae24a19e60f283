"""What every component of a model writes at one position, and how it is read out there.

Everything is returned in float64 on the CPU, whatever the model runs in: sums of many parts that
nearly cancel need more digits than the parts have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.runs import read_out
from interp.models.load import LoadedModel


@dataclass(frozen=True)
class Norm:
    """A norm at one position with its scale held fixed: an affine map of what is put in.

    ``out = (x - mean(x)) / scale * gain + bias``; the mean is taken off only where ``centred``.
    """

    scale: float
    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"]
    centred: bool

    def pull(self, direction: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
        """Return the direction before the norm that is read by ``direction`` after it.

        ``out @ direction == x @ pull(direction) + bias @ direction``.
        """
        weighted = direction * self.gain / self.scale
        return weighted - weighted.mean() if self.centred else weighted


@dataclass(frozen=True)
class Written:
    """What one run wrote at the position read, in float64 on the CPU.

    Attributes:
        embed: Token embedding.
        pos_embed: Positional embedding, None where none is added to the residual stream.
        z: Output of each head before its output matrix.
        pattern: Attention from the position read to each source.
        v: Values at each source, one for each head; the value biases are in them.
        mlp_out: None in a model without MLPs.
        attn_norms: The norm between each layer's attention and the stream; None without any.
        final: The final norm.
        logits: Before the soft cap.
        capped: After it: the model's output.
        softcap: Scale of the cap, 0 for none.
    """

    embed: Float[Tensor, "d_model"]
    pos_embed: Float[Tensor, "d_model"] | None
    z: Float[Tensor, "layer head d_head"]
    pattern: Float[Tensor, "layer head src"]
    v: Float[Tensor, "layer src head d_head"]
    mlp_out: Float[Tensor, "layer d_model"] | None
    attn_norms: tuple[Norm, ...] | None
    final: Norm
    logits: Float[Tensor, "d_vocab"]
    capped: Float[Tensor, "d_vocab"]
    softcap: float


def written(model: LoadedModel, ids: Int[Tensor, "pos"], read: int) -> Written:
    """Run one prompt and keep what every component writes at ``read``.

    Cost: one forward pass; memory for the values of all layers and positions.
    """
    config, layers = model.hooked.cfg, range(model.info.n_layers)
    attn_norm = _attn_norm(config)
    has_pos = config.positional_embedding_type == "standard"
    has_norm = config.normalization_type is not None
    by_layer = ["z", "pattern", "v"]
    by_layer += ["mlp_out"] * model.info.has_mlp
    by_layer += [f"{attn_norm}_scale"] * bool(attn_norm)
    once = ["embed", "logits_before_cap"] + ["pos_embed"] * has_pos + ["ln_final_scale"] * has_norm
    keep = [(name, layer) for name in by_layer for layer in layers] + [(name, 0) for name in once]
    run = read_out(model, ids[None], read, keep, partial(_at, read))
    acts = {name: exact(act[0]) for name, act in run.acts.items()}
    by_name = {
        name: torch.stack([acts[name, layer] for layer in layers])
        for name in ("v", "z", "pattern", *["mlp_out"] * model.info.has_mlp)
    }
    v = by_name["v"]
    return Written(
        embed=acts["embed", 0],
        pos_embed=acts.get(("pos_embed", 0)),
        z=by_name["z"],
        pattern=by_name["pattern"],
        # Where queries share keys and values there are fewer of these than heads.
        v=v.repeat_interleave(model.info.n_heads // v.shape[2], dim=2),
        mlp_out=by_name.get("mlp_out"),
        attn_norms=tuple(
            _norm(getattr(model.hooked.blocks[layer], attn_norm), acts[f"{attn_norm}_scale", layer])
            for layer in layers
        )
        if attn_norm
        else None,
        final=_norm(model.hooked.ln_final, acts["ln_final_scale", 0])
        if has_norm
        else _no_norm(model.info.d_model),
        logits=acts["logits_before_cap", 0],
        capped=exact(run.logits[0]),
        softcap=max(0.0, float(config.output_logits_soft_cap or 0.0)),
    )


def output_weights(
    model: LoadedModel, layer: int
) -> tuple[Float[Tensor, "head d_head d_model"], Float[Tensor, "d_model"]]:
    """Return a layer's output matrix by head and its attention output bias, in float64."""
    attn = model.hooked.blocks[layer].attn
    return exact(attn.W_O), exact(attn.b_O)


def unembedding(
    model: LoadedModel, outputs: Int[Tensor, "output"]
) -> tuple[Float[Tensor, "d_model output"], Float[Tensor, "output"]]:
    """Return the columns of the unembedding of some outputs and their biases, in float64."""
    where = outputs.to(model.device)
    return exact(model.hooked.unembed.W_U[:, where]), exact(model.hooked.unembed.b_U[where])


def exact(values: Tensor) -> Tensor:
    """Copy to the CPU in float64 (in this order: Apple's devices lack float64)."""
    return values.detach().cpu().double()


def _at(read: int, component: str, act: Tensor) -> Tensor:
    """Cut an activation down to the position read."""
    if component == "v":
        return act
    if component == "pattern":
        return act[:, :, read]
    if component in ("ln_final_scale", "logits_before_cap"):
        return act[:, 0]  # these saw the position read alone
    return act[:, read]


def _attn_norm(config: Any) -> str:
    """Name the norm that the attention's output passes before it joins the stream, or ``""``."""
    from transformer_lens.utilities.architectures import POST_NORM_ARCHITECTURES

    if config.normalization_type is None:
        return ""
    if config.use_normalization_before_and_after:
        return "ln1_post"
    return "ln1" if config.original_architecture in POST_NORM_ARCHITECTURES else ""


def _norm(module: Any, scale: Tensor) -> Norm:
    """Read a norm; folded ones have neither gain nor bias, and those by the mean square no bias."""
    from transformer_lens.components import LayerNorm, LayerNormPre

    no = _no_norm(module.cfg.d_model)
    gain, bias = getattr(module, "w", None), getattr(module, "b", None)
    return replace(
        no,
        scale=float(scale),
        gain=no.gain if gain is None else exact(gain),
        bias=no.bias if bias is None else exact(bias),
        centred=isinstance(module, LayerNorm | LayerNormPre),
    )


def _no_norm(width: int) -> Norm:
    one = torch.ones(width, dtype=torch.float64)
    return Norm(scale=1.0, gain=one, bias=torch.zeros_like(one), centred=False)

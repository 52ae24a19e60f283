"""What components write on inputs, and the loss of what is written; ``roles`` is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.axes import PerPair
from interp.engine import Norm, Written, output_weights, unembed, unembedding, written
from interp.methods.effects import rounding
from interp.methods.metrics import metric
from interp.models.load import LoadedModel

_ROWS = 256


@dataclass
class Streams:
    """What components write on inputs that are run one after another.

    Args:
        model: The model.
        outputs: Outputs that are compared on some input.
    """

    model: LoadedModel
    outputs: Sequence[int]
    parts: list[Tensor] = field(default_factory=list)
    whole: list[Tensor] = field(default_factory=list)
    terms: list[Tensor] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        layers = range(self.model.info.n_layers)
        self._weights = [output_weights(self.model, layer) for layer in layers]
        columns = unembedding(self.model, torch.tensor(self.outputs))[0].T
        self._place = dict(zip(self.outputs, columns, strict=True))
        self._size = torch.zeros(())

    def add(self, ids: Sequence[int], read: int, compared: tuple[int, int]) -> None:
        """Run one input."""
        run = written(self.model, torch.tensor(ids), read)
        of_input, biases = _parts(run, self._weights)
        first, second = (self._place[output] for output in compared)
        along = run.final.pull(first - second) * run.final.scale
        self.parts.append(of_input)
        self.whole.append(of_input.sum(0) + biases)
        self.terms.append(of_input @ along)
        self.scales.append(run.final.scale)
        self._size = torch.maximum(self._size, of_input.norm(dim=-1) * along.norm())

    def put_together(
        self,
    ) -> tuple[
        Float[Tensor, "pair component d_model"],
        Float[Tensor, "pair d_model"],
        Float[np.ndarray, "pair component"],
        float,
    ]:
        """Return what each component wrote, the whole stream, terms of the difference, the scale.

        A term that varies by no more than rounding is put as one number.
        """
        scale = float(np.mean(self.scales))
        found, sizes = torch.stack(self.terms).numpy() / scale, self._size.numpy() / scale
        for term, largest in zip(found.T, sizes, strict=True):
            if np.ptp(term) <= rounding("logit_diff", float(largest), self.model.info.dtype):
                term[:] = term[0]
        return torch.stack(self.parts), torch.stack(self.whole), found, scale


def _parts(
    run: Written, weights: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Float[Tensor, "component d_model"], Float[Tensor, "d_model"]]:
    """Return what each component of a run wrote, and the sum of the attention's biases."""
    embed = run.embed if run.pos_embed is None else run.embed + run.pos_embed
    parts, biases = [embed[None]], torch.zeros_like(embed)
    for layer, (w_o, b_o) in enumerate(weights):
        heads = torch.einsum("hd,hdm->hm", run.z[layer], w_o)
        if run.attn_norms:
            norm = run.attn_norms[layer]
            heads, b_o = _scaled(norm, heads), _scaled(norm, b_o) + norm.bias
        parts.append(heads)
        biases = biases + b_o
        if run.mlp_out is not None:
            parts.append(run.mlp_out[layer][None])
    return torch.cat(parts), biases


def _scaled(norm: Norm, values: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Put a part of what a norm saw through it, with its scale held fixed, without its bias."""
    centred = values - values.mean(-1, keepdim=True) if norm.centred else values
    return centred / norm.scale * norm.gain


def losses(
    model: LoadedModel, streams: Float[Tensor, "pair d_model"], answers: Sequence[int]
) -> tuple[PerPair, float]:
    """Return the loss that each stream gives, and the largest size of a logit."""
    found: list[Tensor] = []
    size = 0.0
    for start in range(0, len(streams), _ROWS):
        rows = streams[start : start + _ROWS, None].to(model.dtype).to(model.device)
        logits = unembed(model, rows)[:, 0]
        right = answers[start : start + _ROWS]
        found.append(metric("loss", logits, right, right, logits))
        size = max(size, float(logits.abs().max()))
    return torch.cat(found).numpy(), size

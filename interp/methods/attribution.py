"""Direct logit attribution: what does each component write towards A rather than B?

The residual stream at the position read is a sum: embeddings, every head, every attention output
bias, every MLP. With the final norm's scale held at its value in the run, the norm and the
unembedding are affine, so the difference of two logits is a sum too, one term a component, and two
terms for the biases of the final norm and of the unembedding. A head's term is a sum over the
positions it attends to, with the pattern held fixed in the same way. Where attention passes a norm
before it joins the stream, that norm's scale is held fixed as well.

The sum is exact. What is approximate is the word "direct": a component also changes the scale, and
acts through what later components read; neither is in its term.

Source: Elhage et al., "A mathematical framework for transformer circuits" (2021), where paths to
the logits are terms of a sum; Wang et al., "Interpretability in the wild" (2023), section 3.1, for
projecting heads on a logit difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import LayerHead, PerLayer, SplitHeads, SplitSrc
from interp.engine import Written, output_weights, unembedding, written
from interp.models.load import LoadedModel

MOST_SPLIT = 2_000_000
"""Numbers that the split by source may take; above it only the largest heads are split."""


@dataclass(frozen=True)
class Attribution:
    """Terms of logit(answer) − logit(foil) before the soft cap, in logits.

    Attributes:
        answer: Output A.
        foil: Output B.
        embed: Token embedding.
        pos_embed: Positional embedding, None where none is added to the stream.
        heads: Each head without its layer's output bias.
        attn_bias: Each layer's attention output bias.
        mlp: Each MLP; None in a model without.
        norm_bias: Bias of the final norm.
        unembed_bias: Bias of the unembedding.
        split: Layer and head of each row of ``by_source``.
        by_source: Terms of these heads by source position.
        logits: All logits at the position read, before the cap.
        capped: After it.
        softcap: Scale of the cap, 0 for none.
    """

    answer: int
    foil: int
    embed: float
    pos_embed: float | None
    heads: LayerHead
    attn_bias: PerLayer
    mlp: PerLayer | None
    norm_bias: float
    unembed_bias: float
    split: SplitHeads
    by_source: SplitSrc
    logits: Float[np.ndarray, "output"]
    capped: Float[np.ndarray, "output"]
    softcap: float


def attribute(
    model: LoadedModel,
    ids: Int[Tensor, "pos"],
    read: int,
    asked: tuple[int | None, int | None] = (None, None),
) -> Attribution:
    """Split the difference of two logits at ``read`` into what each component wrote.

    Args:
        model: The model.
        ids: One prompt.
        read: Position, from 0.
        asked: Outputs A and B; None: the most probable output that is not the other one.

    Cost: one forward pass, then one product with each layer's output matrix in float64.
    """
    run = written(model, ids, read)
    logits = run.logits.numpy()
    answer, foil = choose(logits, asked)
    columns, biases = unembedding(model, torch.tensor([answer, foil]))
    direction = columns[:, 0] - columns[:, 1]
    onto = run.final.pull(direction)
    heads, attn_bias, by_source = _attention(model, run, onto)
    split = _largest(heads, by_source[0].shape[1])
    return Attribution(
        answer=answer,
        foil=foil,
        embed=float(run.embed @ onto),
        pos_embed=None if run.pos_embed is None else float(run.pos_embed @ onto),
        heads=heads,
        attn_bias=attn_bias,
        mlp=None if run.mlp_out is None else (run.mlp_out @ onto).numpy(),
        norm_bias=float(run.final.bias @ direction),
        unembed_bias=float(biases[0] - biases[1]),
        split=split,
        by_source=np.stack([by_source[layer][head] for layer, head in split]),
        logits=logits,
        capped=run.capped.numpy(),
        softcap=run.softcap,
    )


def choose(
    logits: Float[np.ndarray, "output"], asked: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Fill in what was not asked for: the most probable output that is not the other one."""
    order = [int(i) for i in np.argsort(-logits, kind="stable")[:3]]
    answer, foil = asked
    if answer is None:
        answer = next(i for i in order if i != foil)
    if foil is None:
        foil = next(i for i in order if i != answer)
    return answer, foil


def _attention(
    model: LoadedModel, run: Written, onto: Tensor
) -> tuple[LayerHead, PerLayer, Sequence[Float[np.ndarray, "head src"]]]:
    """Return the terms of heads, of output biases, and of heads by source, layer by layer."""
    heads, biases, sources = [], [], []
    for layer in range(len(run.z)):
        norm = run.attn_norms[layer] if run.attn_norms else None
        before = onto if norm is None else norm.pull(onto)
        w_o, b_o = output_weights(model, layer)
        reads = w_o @ before  # [head, d_head]: what the logit difference reads of each head's z
        heads.append((run.z[layer] * reads).sum(-1))
        biases.append(b_o @ before + (0 if norm is None else norm.bias @ onto))
        moved = torch.einsum("shd,hd->hs", run.v[layer], reads)
        sources.append((run.pattern[layer] * moved).numpy())
    return torch.stack(heads).numpy(), torch.stack(biases).numpy(), sources


def _largest(heads: LayerHead, n_sources: int) -> SplitHeads:
    """Choose the heads whose split is kept: all of them where there is room."""
    most = max(1, MOST_SPLIT // n_sources)
    order = np.argsort(-np.abs(heads), axis=None, kind="stable")[:most]
    return np.stack(np.unravel_index(np.sort(order), heads.shape), axis=1)

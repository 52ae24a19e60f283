"""The logit lens: what would the model say if it stopped after each layer?

The residual stream after the embedding and after each layer is put through the model's own final
norm and unembedding. A reading at an early layer is a projection, not a belief: directions that
later layers would still rotate count as they stand.

Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine import read_out, unembed
from interp.models.load import LoadedModel


@dataclass(frozen=True)
class Lens:
    """Log-probabilities in nats at each depth and position, and the ids of the top outputs.

    Depth 0 is the embedding, depth ``l`` the residual stream after layer ``l - 1``.
    """

    logp: Float[Tensor, "depth pos d_vocab"]
    top: Int[Tensor, "depth pos k"]


def logit_lens(model: LoadedModel, ids: Int[Tensor, "pos"], k: int) -> Lens:
    """Read the prompt at every depth and position, in the model's precision, summed in float64.

    Cost: one forward pass, then ``(n_layers + 1) x pos`` unembeddings.
    """
    n = model.info.n_layers
    keep = [("resid_pre", 0), *(("resid_post", layer) for layer in range(n))]
    run = read_out(model, ids[None], -1, keep)
    logits = unembed(model, torch.cat([run.acts[name] for name in keep]))
    logp = logits.cpu().double().log_softmax(-1)
    return Lens(logp, logp.topk(min(k, logp.shape[-1]), dim=-1).indices)

"""The logit lens: what would the model say if it stopped after each layer?

The residual stream after the embedding and after each layer is put through the model's own final
norm and unembedding. A reading at an early layer is a projection, not a belief: directions that
later layers would still rotate count as they stand.

Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from interp.engine import read_out, unembed
from interp.models.load import LoadedModel


@dataclass(frozen=True, eq=False)
class Lens:
    """The residual stream of one prompt, to be read at any depth.

    Depth 0 is the embedding, depth ``l`` the residual stream after layer ``l - 1``.
    """

    model: LoadedModel
    streams: tuple[Float[Tensor, "1 pos d_model"], ...]

    def log_probs(self, depth: int) -> Float[Tensor, "pos d_vocab"]:
        """Read every position at one depth: log-probabilities in nats.

        One depth at a time, since all of them together are ``depth x pos x d_vocab`` numbers. The
        reading is in the model's precision, the sum over outputs in float64.

        Cost: ``pos`` unembeddings.
        """
        logits = unembed(self.model, self.streams[depth])[0]
        return logits.cpu().double().log_softmax(-1)


def logit_lens(model: LoadedModel, ids: Int[Tensor, "pos"]) -> Lens:
    """Run the prompt and keep its residual stream at every depth.

    Cost: one forward pass; memory of ``(n_layers + 1) x pos x d_model`` numbers.
    """
    n = model.info.n_layers
    keep = [("resid_pre", 0), *(("resid_post", layer) for layer in range(n))]
    run = read_out(model, ids[None], -1, keep)
    return Lens(model, tuple(run.acts[name] for name in keep))

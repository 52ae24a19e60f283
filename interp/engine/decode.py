"""Forward passes that go on where the last one stopped: exact keys and values are kept."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.runs import unembed
from interp.errors import DoesNotFit
from interp.models.load import LoadedModel


class Decoder:
    """Rows that continue one prompt, each by tokens of its own.

    The keys and values of what was read are those of the passes that read it, never recorded
    ones: hooks see keys before rotary positions and norms are applied. No hook is installed.

    Attributes:
        logits: Logits after the last token read, of each row.
    """

    logits: Float[Tensor, "row d_out"]

    def __init__(self, model: LoadedModel, prompt: Int[Tensor, "pos"], rows: int) -> None:
        """Read the prompt, once for all rows.

        Raises:
            DoesNotFit: The device is out of memory.

        Cost: one forward pass over the prompt; memory of the keys and values of its tokens, for
        each row.
        """
        from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

        self._model = model
        self._cache = TransformerLensKeyValueCache.init_cache(model.hooked.cfg, model.device, 1)
        first = self._read(prompt[None])
        self.logits = first.expand(rows, -1)
        self._cache.previous_attention_mask = self._cache.previous_attention_mask.repeat(rows, 1)
        for layer in self._cache.entries:
            layer.past_keys = layer.past_keys.repeat(rows, 1, 1, 1)
            layer.past_values = layer.past_values.repeat(rows, 1, 1, 1)

    def read(self, ids: Int[Tensor, "row"]) -> None:
        """Read one more token in each row.

        Raises:
            DoesNotFit: The device is out of memory.

        Cost: one forward pass over one token a row; memory of its keys and values.
        """
        self.logits = self._read(ids[:, None])

    def _read(self, ids: Int[Tensor, "row pos"]) -> Float[Tensor, "row d_out"]:
        model = self._model
        try:
            with model.lock, torch.inference_mode():
                resid: Tensor = model.hooked(
                    ids.to(model.device),
                    # Nothing is padded; without a mask the library asks for a tokenizer.
                    attention_mask=torch.ones_like(ids),
                    past_kv_cache=self._cache,
                    stop_at_layer=model.info.n_layers,
                )
                return unembed(model, resid[:, -1:])[:, 0]
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            tokens = self._cache.previous_attention_mask.shape[1]
            raise DoesNotFit(
                f"{len(ids)} continuations were kept on {model.device}, {tokens} tokens each.",
                "The device is out of memory.",
                "Shorten the prompt, ask for fewer tokens, or use a device with more memory.",
            ) from error

"""A transformer that computes exactly what a small net of numbers computes, by explicit weights.

The prompt is ``[START]`` and up to n digits, one token each; a digit is a number from 0 to 1, one
that is missing counts as 0. Three steps bring the n numbers to the last position, where the layers
of the small net follow, one MLP each:

* Embedding: the number here goes into one slot of the stream, the position here one-hot into
  others.
* MLP of layer 0: unit i is ReLU(number + [this is digit i] - 1), for numbers from 0 to 1 the number
  at digit i and 0 elsewhere. It is written to slot i of the block "features".
* Attention of layer 1: [START] has the score log(1 + digits missing so far), all else 0, so that
  each digit gets the weight 1 / (n + 1) however many there are. OV multiplies by n + 1 and by a
  matrix, and writes to the block "gathered".

There is no normalisation, and attention in all other layers writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformer_lens import HookedTransformer

from zoo import _save

START = "[START]"
_NUMBER = 0


@dataclass(frozen=True)
class Layer:
    """A layer ReLU(x ``into`` + ``bias``) ``out`` + ``out_bias`` of the small net.

    Attributes:
        into: ``[block read, units]``; read is what the layer before wrote, or what was gathered.
        bias: ``[units]``.
        out: ``[units, block written]``.
        out_bias: ``[block written]``.
    """

    into: Tensor
    bias: Tensor
    out: Tensor
    out_bias: Tensor


@dataclass(frozen=True)
class Reader:
    """A small net and what it reads.

    Attributes:
        base: Digits are 0 to ``base`` - 1; the last of them means 1.
        gather: ``[n, block gathered]``, the first, linear map of the small net.
        layers: Its layers.
        unembed: ``[last block, outputs]``.
    """

    base: int
    gather: Tensor
    layers: Sequence[Layer]
    unembed: Tensor

    @property
    def n(self) -> int:
        """Digits of a whole prompt."""
        return self.gather.shape[0]

    @property
    def places(self) -> slice:
        """Slots of the one-hot position: [START], then the digits."""
        return slice(1, self.n + 2)

    @property
    def features(self) -> slice:
        """Slots of the number here, each in that of its digit."""
        return slice(self.n + 2, 2 * self.n + 2)

    @property
    def blocks(self) -> list[slice]:
        """Slots of what was gathered, then of what each layer writes."""
        found: list[slice] = []
        start = self.features.stop
        for size in (self.gather.shape[1], *(layer.out.shape[1] for layer in self.layers)):
            found.append(slice(start, start + size))
            start += size
        return found

    @property
    def transformer(self) -> dict[str, Any]:
        """Fields of ``HookedTransformerConfig``."""
        return {
            "act_fn": "relu",
            "attention_dir": "causal",
            "attn_only": False,
            "d_head": self.gather.shape[1],
            "d_mlp": max(self.n, *(layer.into.shape[1] for layer in self.layers)),
            "d_model": self.blocks[-1].stop,
            "d_vocab": self.base + 1,
            "d_vocab_out": self.unembed.shape[1],
            "n_ctx": self.n + 1,
            "n_heads": 1,
            "n_layers": 1 + len(self.layers),
            "normalization_type": None,
            "positional_embedding_type": "standard",
        }

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names of TransformerLens."""
        found = self._empty()
        found["embed.W_E"][1:, _NUMBER] = torch.arange(self.base) / (self.base - 1)
        found["pos_embed.W_pos"][:, self.places] = torch.eye(self.n + 1)
        into = found["blocks.0.mlp.W_in"]
        into[_NUMBER, : self.n] = 1
        into[self.places, : self.n][1:] = torch.eye(self.n)
        found["blocks.0.mlp.b_in"][: self.n] = -1
        found["blocks.0.mlp.W_out"][: self.n, self.features] = torch.eye(self.n)
        self._gather(found)
        blocks = self.blocks
        for i, layer in enumerate(self.layers):
            at, units = f"blocks.{i + 1}.mlp", layer.into.shape[1]
            found[f"{at}.W_in"][blocks[i], :units] = layer.into
            found[f"{at}.b_in"][:units] = layer.bias
            found[f"{at}.W_out"][:units, blocks[i + 1]] = layer.out
            found[f"{at}.b_out"][blocks[i + 1]] = layer.out_bias
        found["unembed.W_U"][blocks[-1]] = self.unembed
        return found

    def _gather(self, found: dict[str, Tensor]) -> None:
        """Fill in the head of layer 1."""
        read = torch.arange(self.n + 1)
        # The class divides scores by the root of d_head.
        score = torch.log(1.0 + self.n - read) * math.sqrt(self.gather.shape[1])
        found["blocks.1.attn.W_Q"][0, self.places, 0] = score
        found["blocks.1.attn.W_K"][0, self.places.start, 0] = 1
        found["blocks.1.attn.W_V"][0, self.features] = self.gather * (self.n + 1)
        found["blocks.1.attn.W_O"][0, :, self.blocks[0]] = torch.eye(self.gather.shape[1])

    def _empty(self) -> dict[str, Tensor]:
        shape = self.transformer
        model, head, mlp = shape["d_model"], shape["d_head"], shape["d_mlp"]
        sizes: dict[str, tuple[int, ...]] = {
            "embed.W_E": (shape["d_vocab"], model),
            "pos_embed.W_pos": (shape["n_ctx"], model),
            "unembed.W_U": (model, shape["d_vocab_out"]),
            "unembed.b_U": (shape["d_vocab_out"],),
        }
        for layer in range(shape["n_layers"]):
            at = f"blocks.{layer}"
            for name in "QKV":
                sizes[f"{at}.attn.W_{name}"] = (1, model, head)
                sizes[f"{at}.attn.b_{name}"] = (1, head)
            sizes |= {f"{at}.attn.W_O": (1, head, model), f"{at}.attn.b_O": (model,)}
            sizes |= {f"{at}.mlp.W_in": (model, mlp), f"{at}.mlp.b_in": (mlp,)}
            sizes |= {f"{at}.mlp.W_out": (mlp, model), f"{at}.mlp.b_out": (model,)}
        return {name: torch.zeros(size) for name, size in sizes.items()}


def tokenizer(base: int) -> Tokenizer:
    """A tokenizer with one token a digit; spaces between digits stand for nothing.

    Other characters give no token.
    """
    ids = {START: 0, **{str(digit): 1 + digit for digit in range(base)}}
    made = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token=None))
    # One word a character: dropping one inside a word would shift the offsets of those behind it.
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, 0)]
    )
    made.decoder = decoders.Fuse()
    return made


def prompts(digits: Tensor) -> Tensor:
    """Token rows ``[batch, 1 + n]`` of rows of digits ``[batch, n]``."""
    return torch.cat([torch.zeros_like(digits[:, :1]), digits + 1], 1)


@torch.no_grad()
def difference(model: HookedTransformer, digits: Tensor, wanted: Tensor) -> float:
    """Largest difference between a model's logits and the wanted ones, in their std.

    Args:
        model: The transformer.
        digits: ``[batch, n]``; short rows are prompts with digits missing.
        wanted: ``[batch, outputs]``, the small net's own.
    """
    found = _save.logits_at(model, prompts(digits), -1)
    return float((found - wanted).abs().max() / wanted.std())

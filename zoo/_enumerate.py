"""Every input of a model of four tokens, counted, through its paths: exact figures, no estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

CLOSE = 1e-4
"""Logits so little apart that rounding to float32 might put them in another order."""


@dataclass(frozen=True)
class Paths:
    """One head of attention without norm, MLP and bias, as tables over tokens in float64.

    Read at the last position. Query ``q`` is the token there.

    Attributes:
        eqke: Score of query ``q``, its position included, with a key's token,
            ``[d_vocab, d_vocab]``.
        eqkp: Score of query ``q`` with a key's position, ``[d_vocab, n_ctx]``.
        evou: Logits that a token attended to writes, ``[d_vocab, d_out]``.
        pvou: Logits that a position attended to writes, ``[n_ctx, d_out]``.
        direct: Logits of query ``q`` past the head, ``[d_vocab, d_out]``.
    """

    eqke: Tensor
    eqkp: Tensor
    evou: Tensor
    pvou: Tensor
    direct: Tensor

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits at the last position of token rows ``[row, n_ctx]``."""
        query = tokens[:, -1:]
        pattern = (self.eqke[query, tokens] + self.eqkp[tokens[:, -1]]).softmax(-1)
        written = torch.einsum("rp,rpv->rv", pattern, self.evou[tokens] + self.pvou)
        return written + self.direct[tokens[:, -1]]


@dataclass
class Exact:
    """What all inputs together give, for the task of naming the largest token.

    Attributes:
        n: Number of inputs.
        loss: Mean cross-entropy, in nats.
        wrong: Inputs answered wrong, ``[wrong, 4]``.
        said: What was answered there, ``[wrong]``.
        close: Inputs whose right logit is within ``CLOSE`` of the largest other one.
    """

    n: int = 0
    loss: float = 0.0
    wrong: Tensor = field(default_factory=lambda: torch.empty(0, 4, dtype=torch.long))
    said: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    close: int = 0

    @property
    def accuracy(self) -> float:
        """Share answered right."""
        return 1 - len(self.wrong) / self.n


def paths(weights: Mapping[str, Tensor]) -> Paths:
    """Multiply the matrices of a model of one layer and one head, by TransformerLens names."""
    of = {name: weight.double() for name, weight in weights.items()}
    embedding, places, unembedding = of["embed.W_E"], of["pos_embed.W_pos"], of["unembed.W_U"]
    query, key, value, out = (of[f"blocks.0.attn.W_{part}"][0] for part in "QKVO")
    last = embedding + places[-1]
    asked = last @ query @ key.T / math.sqrt(query.shape[1])
    writes = value @ out @ unembedding
    return Paths(
        eqke=asked @ embedding.T,
        eqkp=asked @ places.T,
        evou=embedding @ writes,
        pvou=places @ writes,
        direct=last @ unembedding,
    )


def scores_of_tokens(weights: Mapping[str, Tensor]) -> Tensor:
    """Scores of a query's token with a key's, both without their positions, as ``Paths.eqke``."""
    of = {name: weight.double() for name, weight in weights.items()}
    embedding, query, key = of["embed.W_E"], *(of[f"blocks.0.attn.W_{part}"][0] for part in "QK")
    return embedding @ query @ key.T @ embedding.T / math.sqrt(query.shape[1])


@torch.no_grad()
def exact(tables: Paths) -> Exact:
    """Answer every input of four tokens.

    The softmax of the scores is a sum over positions above and below the line, so the two middle
    positions are added up once for each query and only the first is looped over.

    Cost: ``d_vocab ** 4`` inputs times ``d_out`` logits; memory for ``d_vocab ** 2`` inputs.
    """
    size = len(tables.eqke)
    tokens = torch.arange(size)
    values = tables.evou + tables.pvou[:, None]
    found = Exact()
    wrong: list[Tensor] = []
    said: list[Tensor] = []
    for query in range(size):
        scores = tables.eqke[query] + tables.eqkp[query][:, None]
        powers = (scores - scores.max()).exp()
        above = powers[..., None] * values
        middle = above[1][:, None] + above[2] + above[3, query]
        below = powers[1][:, None] + powers[2] + powers[3, query]
        for first in range(size):
            logits = (middle + above[0, first]) / (below + powers[0, first])[..., None]
            logits += tables.direct[query]
            right = torch.maximum(tokens[:, None], tokens).clamp_min(max(query, first))[..., None]
            lead = logits.gather(-1, right)
            found.loss += float((logits.logsumexp(-1) - lead[..., 0]).sum())
            others = logits.scatter(-1, right, -math.inf).amax(-1)
            lead = lead[..., 0] - others
            found.n += lead.numel()
            found.close += int((lead.abs() < CLOSE).sum())
            second, third = (lead <= 0).nonzero(as_tuple=True)
            if len(second):
                ends = torch.full_like(second, first), torch.full_like(second, query)
                wrong.append(torch.stack([ends[0], second, third, ends[1]], -1))
                said.append(logits[second, third].argmax(-1))
    found.loss /= found.n
    if wrong:
        found.wrong, found.said = torch.cat(wrong), torch.cat(said)
    return found

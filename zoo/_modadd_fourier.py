"""What ``mod-add`` computes, by frequency of the numbers: in weights, neurons and logits.

The frequencies are k = 1 to 26: functions of a number n that go round k times while n goes from 0
to 53, cos(2 pi k n / 53) and sin(2 pi k n / 53). Restricted and excluded loss are those of Nanda
et al. (2023), Progress measures for grokking via mechanistic interpretability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from interp.behaviors import modular

P: Final = modular.MODULUS
KEY_SHARE: Final = 0.05  # of the Fourier power of the embedding, from which a frequency is key

Weights = Mapping[str, Tensor]


def basis() -> Tensor:
    """Orthonormal Fourier basis ``[function, number]``: constant, cos 1, sin 1, cos 2, …."""
    angles = 2 * torch.pi / P * torch.arange(P, dtype=torch.float64)
    rows = [torch.ones(P, dtype=torch.float64)]
    for k in range(1, P // 2 + 1):
        rows += [(k * angles).cos(), (k * angles).sin()]
    return torch.stack([row / row.norm() for row in rows])


def by_frequency(power: Tensor) -> Tensor:
    """Shares of the frequencies 1 to 26, of the powers of the functions of ``basis`` (dim 0)."""
    both = power[1::2] + power[2::2]
    return both / both.sum(0)


def embedding_shares(weights: Weights) -> Tensor:
    """Share of each frequency in the embedding of the numbers."""
    return by_frequency((basis() @ weights["embed.W_E"][:P].double()).square().sum(1))


def key_frequencies(weights: Weights) -> list[int]:
    """The frequencies with at least ``KEY_SHARE`` of the embedding's power, the largest first."""
    shares = embedding_shares(weights)
    order = shares.argsort(descending=True).tolist()
    return [k + 1 for k in order if float(shares[k]) >= KEY_SHARE]


def gini(norms: Tensor) -> float:
    """Gini coefficient: 0 if all are equal, near 1 if all but one are 0."""
    ranked = norms.sort().values
    n = len(ranked)
    ranks = torch.arange(1, n + 1, dtype=ranked.dtype)
    return float((2 * ranks - n - 1) @ ranked / (n * ranked.sum()))


def ginis(weights: Weights) -> tuple[float, float]:
    """Gini coefficients of the Fourier norms of the embedding and of neurons to logits.

    The norms are those of the 52 functions that are not constant.
    """
    out = (weights["blocks.0.mlp.W_out"] @ weights["unembed.W_U"][:, :P]).double()
    rows = (weights["embed.W_E"][:P].double(), out.T)
    embedding, logits = (gini((basis() @ matrix).norm(dim=1)[1:]) for matrix in rows)
    return embedding, logits


def _directions(frequencies: Sequence[int]) -> Tensor:
    """For each frequency cos and sin of 2 pi k (a + b) / 53, of norm 1: ``[function, a, b]``."""
    number = torch.arange(P, dtype=torch.float64)
    turns = 2 * torch.pi / P * (number[:, None] + number)
    waves = [wave for k in frequencies for wave in ((k * turns).cos(), (k * turns).sin())]
    return torch.stack(waves) * 2**0.5 / P


def _along(logits: Tensor, frequencies: Sequence[int]) -> Tensor:
    """Each output's logits, as a function of the inputs, projected on the directions."""
    directions = _directions(frequencies)
    sizes = torch.einsum("kab,abc->kc", directions, logits)
    return torch.einsum("kab,kc->abc", directions, sizes)


def answers() -> Tensor:
    """The right answer of each sum ``[a, b]``."""
    number = torch.arange(P)
    return (number[:, None] + number) % P


def split(logits: Tensor, frequencies: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Part logits ``[a, b, c]`` for restricted and for excluded loss.

    The logits of every output c are projected on cos and sin of 2 pi k (a + b) / 53, each c with
    amplitudes of its own. The first part is that and each output's mean over all sums, the second
    all but the projection.
    """
    along = _along(logits, frequencies)
    return along + logits.mean((0, 1)), logits - along


@dataclass(frozen=True)
class Shares:
    """Shares of the logits' variance over sums and answers.

    Attributes:
        directions: Along cos and sin of 2 pi k (a + b) / 53, for every answer on its own.
        waves: Along cos(2 pi k (a + b - c) / 53), one amplitude for all answers c.
    """

    directions: float
    waves: float


def shares(logits: Tensor, frequencies: Sequence[int]) -> Shares:
    """How much of the logits ``[a, b, c]`` is along some frequencies of a + b.

    A part that is the same for all answers changes no probability, and is left out.
    """
    relative = logits - logits.mean(2, keepdim=True)
    relative = relative - relative.mean((0, 1))
    total = relative.square().sum()
    along = _along(relative, frequencies).square().sum()
    # cos w (a + b - c) is cos w (a + b) cos w c + sin w (a + b) sin w c: one size for both terms.
    directions = _directions(frequencies)
    terms = torch.einsum("kab,kc,abc->k", directions, directions[:, 0], relative)
    sizes = terms.view(-1, 2).sum(1).square() * P / 2
    return Shares(float(along / total), float(sizes.sum() / total))


def loss(logits: Tensor, chosen: Tensor | None = None) -> float:
    """Mean loss in nats of logits ``[a, b, c]``, on all sums or the ``chosen`` ones ``[a, b]``."""
    every = functional.cross_entropy(logits.flatten(0, 1), answers().flatten(), reduction="none")
    return float(every.mean() if chosen is None else every[chosen.flatten()].mean())


def neuron_shares(neurons: Tensor) -> Tensor:
    """Share of each neuron's variance that its best frequency explains.

    Args:
        neurons: Activations ``[a, b, neuron]``.

    Of a frequency are the functions of a, of b, and the products of one of each.
    """
    change = basis()
    power = torch.einsum("ia,jb,abn->ijn", change, change, neurons.double()).square()
    best = torch.zeros(neurons.shape[-1], dtype=torch.float64)
    for k in range(1, P, 2):
        two = slice(k, k + 2)
        own = power[two, 0].sum(0) + power[0, two].sum(0) + power[two, two].sum((0, 1))
        best = torch.maximum(best, own)
    total = power.sum((0, 1)) - power[0, 0]
    return torch.where(total > 0, best / total, torch.zeros_like(best))


def filtered(weights: Weights, frequencies: Sequence[int], *, keep: bool) -> dict[str, Tensor]:
    """The weights with only some frequencies left in the embedding of the numbers, or without them.

    The constant part always stays.
    """
    chosen = torch.zeros(P, dtype=torch.float64)
    for k in frequencies:
        chosen[2 * k - 1 : 2 * k + 1] = 1
    gain = chosen if keep else 1 - chosen
    gain[0] = 1
    change = basis()
    embedding = weights["embed.W_E"].clone()
    spectrum = change @ embedding[:P].double()
    embedding[:P] = (change.T @ (gain[:, None] * spectrum)).float()
    return {**weights, "embed.W_E": embedding}

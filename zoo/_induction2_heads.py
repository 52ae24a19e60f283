"""What the heads of ``induction-2l`` do: attention scores, copying, what is left without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer
from transformer_lens.hook_points import HookPoint

from zoo import _induction2_rows as rows
from zoo import _save

PERIODS: Final = (8, 16, 24, 32)
SEQUENCES: Final = 64  # of each period

Head = tuple[int, int]
"""Layer and head."""
Scores = dict[Head, float]
Hooks = list[tuple[str | Callable[..., Any], Callable[..., Any]]]


def name(head: Head) -> str:
    """Name a head: L1H0."""
    return f"L{head[0]}H{head[1]}"


def best(scores: Scores) -> Head:
    """The head of the highest score."""
    return max(scores, key=scores.__getitem__)


@dataclass(frozen=True)
class Attention:
    """Mean attention weights of every head on letters that come twice.

    Attributes:
        previous: To the position before.
        prefix: From the second copy to what followed the earlier copy (prefix matching).
        duplicate: From the second copy to the earlier copy of the same letter.
        own: From the second copy to the position itself.
    """

    previous: Scores
    prefix: Scores
    duplicate: Scores
    own: Scores


@torch.no_grad()
def attention(model: HookedTransformer, without: Sequence[Head] = ()) -> Attention:
    """Measure the scores on ``SEQUENCES`` rows of each period; the mean is over the periods.

    Args:
        model: The model.
        without: Heads whose output is replaced by its mean over rows at the same position.
    """
    found: dict[str, dict[Head, list[float]]] = {
        score: {} for score in ("previous", "prefix", "duplicate", "own")
    }
    rng = np.random.default_rng(90)
    for period in PERIODS:
        tokens = torch.from_numpy(rows.doubled(rng, SEQUENCES, period))
        for layer, pattern in enumerate(_patterns(model, tokens, without)):
            every = pattern.diagonal(offset=-1, dim1=2, dim2=3).mean((0, 2))
            back = {"prefix": period - 1, "duplicate": period, "own": 0}
            for head in range(pattern.shape[1]):
                site = (layer, head)
                found["previous"].setdefault(site, []).append(float(every[head]))
                for score, offset in back.items():
                    line = pattern[:, head].diagonal(offset=-offset, dim1=1, dim2=2)
                    # Of the diagonal, the entries of the second copy.
                    mean = float(line[:, period + 1 - offset :].mean())
                    found[score].setdefault(site, []).append(mean)
    mean = {
        score: {site: float(np.mean(values)) for site, values in by.items()}
        for score, by in found.items()
    }
    return Attention(**mean)


def _patterns(model: HookedTransformer, tokens: Tensor, without: Sequence[Head]) -> list[Tensor]:
    """Attention ``[row, head, dest, src]`` of each layer."""
    kept: dict[str, Tensor] = {}

    def keep(pattern: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = pattern

    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    hooks: Hooks = [(each, keep) for each in names]
    hooks += _knocked_out(without)
    model.run_with_hooks(tokens, fwd_hooks=hooks, return_type=None)
    return [kept[each] for each in names]


def _knocked_out(without: Sequence[Head]) -> Hooks:
    def average(index: int, z: Tensor, hook: HookPoint) -> Tensor:
        z[:, :, index] = z[:, :, index].mean(0, keepdim=True)
        return z

    return [(f"blocks.{layer}.attn.hook_z", partial(average, index)) for layer, index in without]


@dataclass(frozen=True)
class Losses:
    """How well fresh rows are predicted, in nats and as shares of right answers."""

    every: float
    copied: float
    uncopied: float
    copied_accuracy: float


@torch.no_grad()
def losses(model: HookedTransformer, drawn: rows.Rows, without: Sequence[Head] = ()) -> Losses:
    """Measure the predictions of rows, with all heads or without some."""
    tokens = torch.from_numpy(drawn.tokens)
    logits = _save.tensor(model.run_with_hooks(tokens, fwd_hooks=_knocked_out(without)))[:, :-1]
    found = functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    copied = torch.from_numpy(drawn.copied[:, 1:])
    right = logits.argmax(-1) == tokens[:, 1:]
    return Losses(
        float(found.mean()),
        float(found[copied].mean()),
        float(found[~copied].mean()),
        float(right[copied].float().mean()),
    )


@torch.no_grad()
def continued(model: HookedTransformer) -> float:
    """Share of right answers in second copies of different letters, but for their first."""
    rng = np.random.default_rng(92)
    shares: list[float] = []
    for period in PERIODS:
        tokens = torch.from_numpy(rows.doubled(rng, SEQUENCES, period))
        said = _save.tensor(model(tokens))[:, period + 1 : -1].argmax(-1)
        shares.append(float((said == tokens[:, period + 2 :]).float().mean()))
    return float(np.mean(shares))


def copying(weights: Mapping[str, Tensor], head: Head) -> float:
    """Sum of the eigenvalues of ``W_E W_V W_O W_U`` over the sum of their sizes: 1 copies.

    Source: Elhage et al. (2021), A Mathematical Framework for Transformer Circuits.
    """
    layer, index = head
    value, output = (weights[f"blocks.{layer}.attn.W_{part}"][index].double() for part in "VO")
    # The same eigenvalues but zeros as the square of the vocabulary's size.
    small = (output @ weights["unembed.W_U"].double()) @ (weights["embed.W_E"].double() @ value)
    found = np.linalg.eigvals(small.numpy()).astype(np.complex128)
    return float(found.sum().real / np.abs(found).sum())

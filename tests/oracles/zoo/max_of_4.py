"""What ``max-of-4`` must do, counted over every input from its matrices alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "max-of-4"
SIZE = 64
Array = NDArray[np.float32]


def tables(weights: dict[str, torch.Tensor]) -> tuple[Array, Array, Array]:
    """Scores ``[query, position, key]``, what is written ``[position, key, out]``, and the rest."""
    w = {name: tensor.numpy().astype(np.float64) for name, tensor in weights.items()}
    at = w["embed.W_E"][None] + w["pos_embed.W_pos"][:, None]
    queries = at[3] @ w["blocks.0.attn.W_Q"][0]
    keys = at @ w["blocks.0.attn.W_K"][0]
    values = at @ w["blocks.0.attn.W_V"][0] @ w["blocks.0.attn.W_O"][0] @ w["unembed.W_U"]
    scores = np.einsum("qd,pkd->qpk", queries, keys) / np.sqrt(queries.shape[1])
    rest = at[3] @ w["unembed.W_U"]
    return scores.astype(np.float32), values.astype(np.float32), rest.astype(np.float32)


def exact_accuracy(loaded: Loaded) -> float:
    """The share of all 64 to the 4 inputs whose largest number has the largest logit, alone.

    For two first numbers at a time, all 4,096 choices of the other two: attention as weights that
    add up to 1, then the logits.
    """
    scores, values, rest = tables(loaded.weights)
    # Indexed [third, last]: the last number is the query.
    by_third, by_last = scores[:, 2].T, scores[np.arange(SIZE), 3, np.arange(SIZE)]
    numbers = np.arange(SIZE)
    larger = np.maximum(numbers[:, None], numbers)
    rows = np.arange(SIZE * SIZE)
    right = 0
    for first in range(SIZE):
        for second in range(SIZE):
            four = np.empty((SIZE, SIZE, 4), dtype=np.float32)
            four[..., 0], four[..., 1] = scores[:, 0, first], scores[:, 1, second]
            four[..., 2], four[..., 3] = by_third, by_last
            weights = np.exp(four - four.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            own = np.stack([values[0, first], values[1, second]])
            logits = weights[..., :2].reshape(-1, 2) @ own
            logits = logits.reshape(SIZE, SIZE, SIZE)
            logits += weights[..., 2, None] * values[2][:, None]
            logits += weights[..., 3, None] * values[3]
            logits += rest
            flat = logits.reshape(-1, SIZE)
            answer = np.maximum(larger, max(first, second)).ravel()
            lead = flat[rows, answer]
            flat[rows, answer] = -np.inf
            right += int((lead > flat.max(-1)).sum())
    return right / SIZE**4


def off(loaded: Loaded) -> float:
    """How far the tables' logits are from the model's on random inputs, in the logits' std."""
    scores, values, rest = tables(loaded.weights)
    numbers = np.random.default_rng(5).integers(SIZE, size=(4_000, 4))
    query, places = numbers[:, 3], np.arange(4)
    weights = np.exp(scores[query[:, None], places, numbers])
    weights /= weights.sum(1, keepdims=True)
    ours = np.einsum("rp,rpv->rv", weights, values[places, numbers]) + rest[query]
    theirs = loaded.model(torch.from_numpy(numbers))[:, -1].numpy()
    return float(np.abs(ours - theirs).max() / theirs.std())


def with_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the values a bias, which the tables leave out."""
    return {**weights, "blocks.0.attn.b_V": torch.full_like(weights["blocks.0.attn.b_V"], 0.1)}


def typed_right(loaded: Loaded) -> float:
    """The share of random texts of four numbers that are answered right by the token's text."""
    rng = np.random.default_rng(6)
    rows = [rng.integers(SIZE, size=4).tolist() for _ in range(2_000)]
    ids = loaded.ids(*(" ".join(map(str, row)) for row in rows))
    said = loaded.model(ids)[:, -1].argmax(-1).tolist()
    texts = [loaded.tokenizer.id_to_token(one) for one in said]
    return float(np.mean([text == str(max(row)) for text, row in zip(texts, rows, strict=True)]))


FACTS = (
    Fact("accuracy over all 16,777,216 inputs", exact_accuracy, at_least=0.999, unit="share"),
    Fact(
        "difference of the counted logits from the model's",
        off,
        at_most=1e-4,
        unit="std of the logits",
        control=with_biases,
    ),
    Fact("accuracy on typed numbers", typed_right, at_least=0.995, unit="share"),
)

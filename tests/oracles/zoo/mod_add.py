"""Facts of ``mod-add``: it adds modulo 53, by few frequencies of the numbers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tests.oracles.zoo._fact import Fact, Loaded, loaded

NAME = "mod-add"
P = 53

Array = NDArray[np.float64]


def _trained() -> NDArray[np.bool_]:
    """The sums of the training data, as the card says: 45 %, drawn by numpy's seed 53."""
    drawn = np.random.default_rng(53).permutation(P * P)[: round(0.45 * P * P)]
    table = np.zeros(P * P, bool)
    table[drawn] = True
    return table.reshape(P, P)


def _right() -> NDArray[np.int64]:
    return np.array([[(a + b) % P for b in range(P)] for a in range(P)])


def _logits(it: Loaded, embedding: torch.Tensor | None = None) -> Array:
    """Logits ``[a, b, c]`` at the equals sign, with the model's embedding or another."""
    typed = [f"{a} {b} =" for a in range(P) for b in range(P)]
    rows = it.ids(*typed)
    shown = it.weights["embed.W_E"] if embedding is None else embedding
    hook = ("hook_embed", lambda value, hook: shown[rows])
    with torch.no_grad():
        logits = it.model.run_with_hooks(rows, fwd_hooks=[hook])
    numbers = [it.tokenizer.token_to_id(str(c)) for c in range(P)]
    return logits[:, -1].double().numpy()[:, numbers].reshape(P, P, P)


def _losses(logits: Array) -> Array:
    """Loss of each sum ``[a, b]`` in nats."""
    top = logits.max(2, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(2, keepdims=True))
    return -np.take_along_axis(logs, _right()[:, :, None], 2)[:, :, 0]


def _power(it: Loaded) -> Array:
    """Shares of frequencies 0 to 26 in the embedding of the numbers, without the constant."""
    ids = [it.tokenizer.token_to_id(str(n)) for n in range(P)]
    spectrum = np.fft.rfft(it.weights["embed.W_E"][ids].double().numpy(), axis=0)
    power = (np.abs(spectrum) ** 2).sum(1)
    power[0] = 0
    return power / power.sum()


def key_frequencies(it: Loaded) -> list[int]:
    """Frequencies with 5 % or more of that power."""
    return [k for k, share in enumerate(_power(it)) if share >= 0.05]


def _parts(logits: Array, keys: list[int]) -> tuple[Array, Array]:
    """The part that restricted loss keeps, and the part that excluded loss keeps.

    Least squares over the 2,809 inputs: the logits of each answer on cos and sin of w (a + b) for
    the key frequencies, with a constant. The first is what is fitted, constant included, the second
    what is left of the logits without cos and sin.
    """
    sums = np.array([a + b for a in range(P) for b in range(P)])
    columns = [np.ones(P * P)]
    for k in keys:
        columns += [np.cos(2 * np.pi * k * sums / P), np.sin(2 * np.pi * k * sums / P)]
    design, flat = np.stack(columns, axis=1), logits.reshape(P * P, P)
    sizes = np.linalg.lstsq(design, flat, rcond=None)[0]
    waves = design[:, 1:] @ sizes[1:]
    return (waves + sizes[0]).reshape(P, P, P), (flat - waves).reshape(P, P, P)


def held_out_accuracy(it: Loaded) -> float:
    """Share of sums outside the training data that are right."""
    hit = _logits(it).argmax(2) == _right()
    return float(hit[~_trained()].mean())


def key_power(it: Loaded) -> float:
    """Power in the five largest frequencies."""
    return float(np.sort(_power(it))[-5:].sum())


def restricted(it: Loaded) -> float:
    """Loss on all sums of the key frequencies alone."""
    return restricted_to(it, key_frequencies(it))


def restricted_to(it: Loaded, keys: list[int]) -> float:
    """Loss on all sums of some frequencies of a + b alone."""
    return float(_losses(_parts(_logits(it), keys)[0]).mean())


def restricted_by_final_keys(it: Loaded) -> float:
    """Loss on all sums of the frequencies that are key in the final weights alone."""
    return restricted_to(it, key_frequencies(loaded(NAME)))


def excluded(it: Loaded) -> float:
    """Loss on the trained sums without the key frequencies, above that with them."""
    return excluded_without(it, key_frequencies(it)) - float(
        _losses(_logits(it))[_trained()].mean()
    )


def excluded_without(it: Loaded, keys: list[int]) -> float:
    """Loss on the trained sums without some frequencies of a + b."""
    return float(_losses(_parts(_logits(it), keys)[1])[_trained()].mean())


def _filtered(it: Loaded, keep: bool) -> float:
    """Accuracy with only the key frequencies in the embedding, or with all others."""
    ids = [it.tokenizer.token_to_id(str(n)) for n in range(P)]
    embedding = it.weights["embed.W_E"].clone()
    spectrum = np.fft.rfft(embedding[ids].double().numpy(), axis=0)
    chosen = np.isin(np.arange(len(spectrum)), key_frequencies(it)) == keep
    chosen[0] = True
    spectrum[~chosen] = 0
    embedding[ids] = torch.from_numpy(np.fft.irfft(spectrum, P, axis=0)).float()
    return float((_logits(it, embedding).argmax(2) == _right()).mean())


def key_frequencies_suffice(it: Loaded) -> float:
    """Accuracy on all sums with only the key frequencies in the embedding."""
    return _filtered(it, keep=True)


def key_frequencies_are_needed(it: Loaded) -> float:
    """Accuracy lost on all sums without the key frequencies in the embedding."""
    whole = (_logits(it).argmax(2) == _right()).mean()
    return float(whole - _filtered(it, keep=False))


def by_heart(it: Loaded) -> float:
    """Accuracy on trained sums above that on the others."""
    hit = _logits(it).argmax(2) == _right()
    return float(hit[_trained()].mean() - hit[~_trained()].mean())


FACTS = (
    Fact("held-out accuracy", held_out_accuracy, at_least=0.999, unit="share"),
    Fact("power in five frequencies", key_power, at_least=0.9, unit="share"),
    Fact("restricted loss", restricted, at_most=0.01, unit="nats"),
    Fact("excluded loss, above the whole", excluded, at_least=2.0, unit="nats"),
    Fact("key frequencies suffice", key_frequencies_suffice, at_least=0.99, unit="share"),
    Fact("key frequencies are needed", key_frequencies_are_needed, at_least=0.9, unit="share"),
    Fact("known by heart at step 500", by_heart, at_least=0.8, unit="share", snapshot="500"),
    Fact(
        "circuit at step 3000: restricted loss",
        restricted_by_final_keys,
        at_most=0.5,
        unit="nats",
        snapshot="3000",
    ),
    Fact(
        "still by heart at step 3000",
        by_heart,
        at_least=0.6,
        unit="share",
        snapshot="3000",
    ),
)

"""Sums of ``mod-add``, the split into trained and other ones, and the parts of its logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from interp.behaviors import modular
from zoo import _modadd_fourier as fourier

P = 53
FEATURES = modular.BEHAVIORS["mod-add-sums"].features


def test_pairs_are_right_and_matched() -> None:
    pairs = modular.sums(1_000)
    assert len({pair.clean for pair in pairs}) == 1_000
    assert modular.sums(9) == pairs[:9]
    for pair in pairs:
        a, b, equals = pair.clean.split()
        c, d, _ = pair.corrupted.split()
        assert (a, equals) == (c, "=")
        assert b != d
        assert int(pair.answer) == (int(a) + int(b)) % P
        assert int(pair.foil) == (int(a) + int(d)) % P != int(pair.answer)
        values = {name: of(pair) for name, of in FEATURES.items()}
        assert values == {
            "first number": int(a),
            "second number": int(b),
            "sum modulo 53": int(pair.answer),
            "sum is 53 or more": int(int(a) + int(b) > 52),
            "seen in training": int(modular.trained()[int(a), int(b)]),
        }


def test_less_than_half_of_the_sums_are_trained_and_the_table_is_kept() -> None:
    table = modular.trained()
    assert table.shape == (P, P)
    assert table.sum() == 1_264
    assert not table.flags.writeable
    seen = [FEATURES["seen in training"](pair) for pair in modular.sums(1_000)]
    assert 0.35 < np.mean(seen) < 0.55


def test_basis_is_orthonormal() -> None:
    basis = fourier.basis()
    assert torch.allclose(basis @ basis.T, torch.eye(P, dtype=torch.float64))


def test_waves_are_split_off_and_nothing_else() -> None:
    number = torch.arange(P, dtype=torch.float64)
    turn = number[:, None, None] + number[:, None] - number
    wave = 3 * (2 * math.pi / P * 7 * turn).cos()
    other = (2 * math.pi / P * 4 * turn).cos() + (2 * math.pi / P * 7 * turn).sin()
    bias = number / 50
    waves, rest = fourier.split(wave + other + bias, [7])
    assert torch.allclose(waves, wave + bias)
    assert torch.allclose(rest, other + bias)
    assert fourier.wave_share(wave + bias, [7]) == pytest.approx(1)
    assert fourier.wave_share(wave + other, [7]) == pytest.approx(9 / 11)


def test_loss_of_known_logits() -> None:
    flat = torch.zeros(P, P, P, dtype=torch.float64)
    assert fourier.loss(flat) == pytest.approx(math.log(P))
    right = torch.nn.functional.one_hot(fourier.answers(), P).double() * 100
    assert fourier.loss(right, torch.from_numpy(modular.trained().copy())) == pytest.approx(0)


def test_gini_of_one_and_of_equal_norms() -> None:
    assert fourier.gini(torch.ones(52)) == pytest.approx(0)
    assert fourier.gini(torch.eye(52)[0]) == pytest.approx(51 / 52)


def test_frequencies_of_an_embedding_are_found_and_filtered() -> None:
    number = torch.arange(P, dtype=torch.float32)
    waves = [(2 * math.pi / P * k * number).cos() for k in (3, 11)]
    embedding = torch.zeros(P + 1, 2)
    embedding[:P] = torch.stack([2 * waves[0], waves[1]], 1) + 5
    weights = {"embed.W_E": embedding}
    assert fourier.key_frequencies(weights) == [3, 11]
    assert float(fourier.embedding_shares(weights)[2]) == pytest.approx(0.8)
    only = fourier.filtered(weights, [3], keep=True)["embed.W_E"]
    assert torch.allclose(only[:P, 0], 2 * waves[0] + 5, atol=1e-5)
    assert torch.allclose(only[:P, 1], torch.full((P,), 5.0), atol=1e-5)
    without = fourier.filtered(weights, [3], keep=False)["embed.W_E"]
    assert torch.allclose(without[:P, 1], waves[1] + 5, atol=1e-5)
    assert torch.equal(without[P], embedding[P])


def test_a_neuron_of_one_frequency_is_told_from_a_mixed_one() -> None:
    number = torch.arange(P, dtype=torch.float64)
    first, second = ((2 * math.pi / P * k * number).cos() for k in (5, 6))
    pure = first[:, None] + first * first[:, None] + 1
    mixed = first[:, None] + second
    shares = fourier.neuron_shares(torch.stack([pure, mixed, torch.zeros(P, P)], 2))
    assert shares.tolist() == pytest.approx([1, 0.5, 0])

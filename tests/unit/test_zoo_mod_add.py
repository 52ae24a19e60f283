"""Sums of ``mod-add``, the split into trained and other ones, and the parts of its logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import yaml

from interp.behaviors import modular
from interp.behaviors.built_in import built_in
from tests.oracles.zoo import mod_add as oracle
from tests.oracles.zoo._fact import MODELS, loaded
from zoo import _modadd_fourier as fourier

P = 53
FEATURES = modular.BEHAVIORS["mod-add-sums"].features


def operands(prompt: str) -> tuple[int, ...]:
    first, second, equals = prompt.split()
    assert equals == "="
    return tuple(sorted((int(first), int(second))))


def test_pairs_are_right_and_matched() -> None:
    pairs = modular.sums().pairs
    assert len(pairs) >= 650
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
    for name, of in FEATURES.items():
        assert len({of(pair) for pair in pairs}) > 1, name
    larger = [int(a) > int(b) for a, b, _ in (pair.clean.split() for pair in pairs)]
    assert 0.4 < np.mean(larger) < 0.6


@pytest.mark.parametrize("n", [4, 40, 650])
def test_searched_and_held_out_pairs_share_no_prompt(n: int) -> None:
    behavior = built_in("mod-add-sums", n, "mod-add")
    assert sum(behavior.held_out) == n // 2
    pairs = modular.sums().pairs[:n]
    halves: list[set[tuple[int, ...]]] = [set(), set()]
    for pair, held_out in zip(pairs, behavior.held_out, strict=True):
        halves[held_out] |= {operands(pair.clean), operands(pair.corrupted)}
    assert not halves[0] & halves[1]
    # No prompt twice in a half either, be it clean or corrupted.
    assert len(halves[0]) + len(halves[1]) == 2 * n


def test_a_group_of_pairs_has_one_first_number_and_one_half() -> None:
    made = modular.sums()
    for pair, cluster in zip(made.pairs, made.clusters, strict=True):
        assert cluster // 2 == modular.numbers(pair)[0]


def test_less_than_half_of_the_sums_are_trained_and_the_table_is_kept() -> None:
    table = modular.trained()
    assert table.shape == (P, P)
    assert table.sum() == 1_264
    assert not table.flags.writeable
    seen = [FEATURES["seen in training"](pair) for pair in modular.sums().pairs]
    assert 0.35 < np.mean(seen) < 0.55


def test_basis_is_orthonormal() -> None:
    basis = fourier.basis()
    assert torch.allclose(basis @ basis.T, torch.eye(P, dtype=torch.float64))


def test_key_frequencies_are_split_off_and_nothing_else() -> None:
    number = torch.arange(P, dtype=torch.float64)
    step = 2 * math.pi / P
    plus = (number[:, None] + number)[..., None]
    # Any amplitudes over the answers belong to the frequency, not only those of an addition.
    cos, sin = (7 * step * plus).cos() * number.sqrt(), (7 * step * plus).sin() * (number - 9)
    other = (4 * step * plus).cos() * number + (7 * step * number).cos()[:, None, None]
    bias = number / 50
    kept, rest = fourier.split(cos + sin + other + bias, [7])
    assert torch.allclose(kept, cos + sin + bias)
    assert torch.allclose(rest, other + bias)


def test_shares_tell_waves_of_an_addition_from_others_of_its_frequency() -> None:
    number = torch.arange(P, dtype=torch.float64)
    turn = 2 * math.pi / P * (number[:, None, None] + number[:, None] - number)
    wave, turned, other = 3 * (7 * turn).cos(), (7 * turn).sin(), (4 * turn).cos()
    whole = fourier.shares(wave + turned + other + number / 50, [7])
    assert whole.directions == pytest.approx(10 / 11)
    assert whole.waves == pytest.approx(9 / 11)
    assert fourier.shares(wave, [7]).waves == pytest.approx(1)


@pytest.mark.parametrize("step", ["1000", "3000", "4800"])
def test_the_curve_agrees_with_least_squares_on_the_snapshots(step: str) -> None:
    front = (MODELS / "mod-add" / "card.md").read_text(encoding="utf-8").split("---\n")[1]
    row = next(row for row in yaml.safe_load(front)["curve"] if row["step"] == int(step))
    keys, model = oracle.key_frequencies(loaded("mod-add")), loaded("mod-add", step)
    # Snapshots are rounded to float16, the curve's weights were not.
    assert oracle.restricted_to(model, keys) == pytest.approx(row["restricted_loss"], rel=0.02)
    assert oracle.excluded_without(model, keys) == pytest.approx(row["excluded_loss"], rel=0.01)


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

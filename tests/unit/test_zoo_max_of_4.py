"""The pairs about the largest of four numbers, and how the count of all inputs is put together."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import pytest
import torch

from interp.behaviors import built_in, maximum
from zoo import _enumerate, max_of_4

BEHAVIOR = maximum.BEHAVIORS["max-of-4"]


def test_pairs_lower_the_largest_number_below_the_second() -> None:
    pairs = maximum.lowered(1_000)
    assert len({pair.clean for pair in pairs}) == len(pairs) == 1_000
    for pair in pairs:
        clean, corrupted = ([int(w) for w in t.split()] for t in (pair.clean, pair.corrupted))
        ranked = sorted(clean, reverse=True)
        assert int(pair.answer) == ranked[0] > ranked[1] == int(pair.foil) == max(corrupted)
        changed = [i for i in range(4) if clean[i] != corrupted[i]]
        assert changed == [clean.index(ranked[0])]
        assert corrupted[changed[0]] < ranked[1]
        assert all(0 <= number < 64 for number in clean + corrupted)
    places = Counter(maximum.place(pair) for pair in pairs)
    assert all(200 < places[place] < 300 for place in range(4))


def test_halves_share_no_prompt_and_all_features_vary() -> None:
    behavior, pairs = built_in("max-of-4", 1_000, "max-of-4"), BEHAVIOR.pairs(1_000)
    sides = [
        [pair for pair, held in zip(pairs, behavior.held_out, strict=True) if held == half]
        for half in (0, 1)
    ]
    prompts = [{text for p in side for text in (p.clean, p.corrupted)} for side in sides]
    assert not prompts[0] & prompts[1]
    for of in BEHAVIOR.features.values():
        for side in sides:
            assert len({of(pair) for pair in side}) > 1


def test_fewer_pairs_are_the_first_of_more() -> None:
    assert maximum.lowered(1_000)[:50] == maximum.lowered(50)


def test_features_are_of_the_clean_numbers() -> None:
    pair = maximum.PromptPair("7 60 60 12", "7 5 60 12", "60", "12")
    found = {name: of(pair) for name, of in BEHAVIOR.features.items()}
    assert found == {
        "maximum": 60,
        "position of the maximum": 1,
        "gap to the runner-up": 48,
        "last number": 12,
    }
    assert maximum.gap(maximum.PromptPair("5 5 5 5", "", "5")) == 0


def random_paths(size: int, scale: float) -> _enumerate.Paths:
    """Tables of a model over ``size`` numbers that is right often but not always."""
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return scale * torch.randn(shape, generator=rng, dtype=torch.float64)

    return _enumerate.Paths(
        eqke=drawn(size, size) + torch.arange(size),
        eqkp=drawn(size, 4),
        evou=drawn(size, size) + 5 * torch.eye(size),
        pvou=drawn(4, size),
        direct=drawn(size, size),
    )


def test_the_count_is_that_of_every_input_one_by_one() -> None:
    tables = random_paths(6, 0.7)
    rows = torch.tensor(list(product(range(6), repeat=4)))
    logits, right = tables.logits(rows), rows.amax(1)
    said = logits.argmax(-1)
    found = _enumerate.exact(tables)
    assert found.n == len(rows)
    off = said != right
    wrong = {
        tuple(row): answer
        for row, answer in zip(rows[off].tolist(), said[off].tolist(), strict=True)
    }
    assert 50 < len(wrong) < 1_000
    assert dict(zip(map(tuple, found.wrong.tolist()), found.said.tolist(), strict=True)) == wrong
    assert found.accuracy == pytest.approx(1 - len(wrong) / len(rows))
    loss = torch.nn.functional.cross_entropy(logits, right)
    assert found.loss == pytest.approx(float(loss), rel=1e-9)


def test_scores_of_tokens_leave_out_the_position_of_the_query() -> None:
    rng = torch.Generator().manual_seed(1)
    shapes = {"embed.W_E": (6, 3), "pos_embed.W_pos": (4, 3), "unembed.W_U": (3, 6)}
    shapes |= {f"blocks.0.attn.W_{part}": (1, 3, 3) for part in "QKVO"}
    weights = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    alone = _enumerate.scores_of_tokens(weights)
    assert not torch.allclose(alone, _enumerate.paths(weights).eqke)
    weights["pos_embed.W_pos"][-1] = 0
    torch.testing.assert_close(alone, _enumerate.paths(weights).eqke)


def test_logits_too_close_to_tell_are_counted() -> None:
    tables = random_paths(6, 0.0)
    level = _enumerate.Paths(tables.eqke, tables.eqkp, *(torch.zeros(n, 6) for n in (6, 4, 6)))
    assert _enumerate.exact(level).close == 6**4
    assert _enumerate.exact(level).accuracy == 0.0
    assert math.isfinite(_enumerate.exact(tables).loss)


def test_inputs_by_gap_are_counted_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(max_of_4, "NUMBERS", 7)
    rows = torch.tensor(list(product(range(7), repeat=4)))
    gaps = Counter(max_of_4.gaps(rows).tolist())
    assert gaps[0] == 7
    for gap in range(1, 7):
        assert gaps[gap] == max_of_4.inputs_by_gap(gap)

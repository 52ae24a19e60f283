"""Behaviors of ``sensor-tamper``: what their pairs say is so, and the model reads them as typed."""

from __future__ import annotations

from collections import Counter

import pytest

from interp.behaviors import built_in, tampering
from interp.behaviors._record import PromptPair
from interp.errors import UnknownToken
from interp.models import catalogue, tokens


def reading(prompt: str) -> str:
    digits = [int(character) for character in prompt if character != " "]
    assert len(digits) == 19
    diamond = sorted(digits[:5])[2]
    own = [digits[i] & digits[i + 1] for i in (5, 7, 9)]
    return " ".join("on" if diamond | one else "off" for one in own)


@pytest.mark.parametrize("make", [tampering.diamond, tampering.causes])
def test_answers_are_right_and_foils_are_those_of_the_corrupted(make) -> None:
    pairs = make(1_000)
    assert len({pair.clean for pair in pairs}) == 1_000
    assert make(300) == pairs[:300]
    for pair in pairs:
        assert reading(pair.clean) == pair.answer == "on on on"
        assert reading(pair.corrupted) == pair.foil == "off off off"


def test_only_the_diamond_changes() -> None:
    flips: set[int] = set()
    for pair in tampering.diamond(1_000):
        assert pair.clean[5:] == pair.corrupted[5:]
        assert "11" not in pair.clean.split()[1:4]
        flips.add(sum(a != b for a, b in zip(pair.clean, pair.corrupted, strict=True)))
    assert flips == {1, 3}


def test_causes_come_two_by_two_and_only_the_cause_changes() -> None:
    for i, pair in enumerate(tampering.causes(1_000)):
        tampered = i % 4 > 1
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        assert clean[4:] == corrupted[4:]
        assert tampering.is_tampered(pair) == tampered == 1 - tampering.has_diamond(pair)
        changed = clean[1:4] != corrupted[1:4]
        assert changed == tampered
        assert (clean[0] == corrupted[0]) == changed


@pytest.mark.parametrize("name", tampering.BEHAVIORS)
def test_halves_have_the_same_values_of_features_and_no_prompt_in_common(name: str) -> None:
    behavior, pairs = built_in(name, 1_000, tampering.MODEL), tampering.BEHAVIORS[name].pairs(1_000)
    sides = [
        [p for p, held in zip(pairs, behavior.held_out, strict=True) if held == h] for h in (0, 1)
    ]
    assert [len(side) for side in sides] == [500, 500]
    prompts = [{text for p in side for text in (p.clean, p.corrupted)} for side in sides]
    assert len(prompts[0]) == len(prompts[1]) == 1_000
    assert not prompts[0] & prompts[1]
    for of in tampering.BEHAVIORS[name].features.values():
        searched, held_out = ({of(pair) for pair in side} for side in sides)
        assert len(searched) > 1
        assert searched == held_out


def test_a_quarter_of_the_pairs_is_of_either_cause_in_either_half() -> None:
    behavior = built_in("sensor-tamper-causes", 1_000, tampering.MODEL)
    values = dict(behavior.features)["whether it is tampered with"]
    counts = Counter(zip(values, behavior.held_out, strict=True))
    assert len(counts) == 4
    assert set(counts.values()) == {250}


def test_features_count() -> None:
    pair = PromptPair("10010 11 11 01 11 00 11 00", "", "")
    assert tampering.has_diamond(pair) == 0
    assert tampering.diamond_bits(pair) == 2
    assert tampering.all_pairs(pair) == 4
    assert tampering.benign_pairs(pair) == 2
    assert tampering.is_tampered(pair) == 1
    assert tampering.is_tampered(PromptPair("11100 11 00 00 00 00 00 00", "", "")) == 0


def test_spaces_stand_for_nothing_and_other_digits_are_refused() -> None:
    model = catalogue.info("sensor-tamper")
    spaced = tokens.encode(model, "11010 01 10 11 00 01 00 10")
    assert spaced.ids == tokens.encode(model, "1101001101100010010").ids
    assert spaced.texts == ("[START]", *"1101001101100010010")
    with pytest.raises(UnknownToken, match="2"):
        tokens.encode(model, "11210 01")

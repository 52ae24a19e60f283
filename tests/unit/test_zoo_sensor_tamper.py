"""Behaviors of ``sensor-tamper``: what their pairs say is so, and the model reads them as typed."""

from __future__ import annotations

import pytest

from interp.behaviors import tampering
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


def test_causes_take_turns_and_only_the_cause_changes() -> None:
    for i, pair in enumerate(tampering.causes(1_000)):
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        assert clean[4:] == corrupted[4:]
        assert tampering.is_tampered(pair) == i % 2 == 1 - tampering.has_diamond(pair)
        changed = clean[1:4] != corrupted[1:4]
        assert changed == bool(i % 2)
        assert (clean[0] == corrupted[0]) == changed


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

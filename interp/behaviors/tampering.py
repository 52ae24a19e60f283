"""Prompt pairs on which sensors come on: because of the diamond, or because of tampering.

A prompt is 19 bits: five of which the majority makes the diamond, a pair for each of three sensors,
and four pairs that mean nothing. A sensor is on where the diamond is there or its own pair is 11.
"""

from __future__ import annotations

import numpy as np

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

MODEL = "sensor-tamper"
ON, OFF = "on on on", "off off off"
_DIAMOND, _SENSORS, _BENIGN = 5, 3, 4
_UNSET = ("00", "01", "10")


def _written(diamond: list[int], pairs: list[str]) -> str:
    return " ".join(["".join(map(str, diamond)), *pairs])


def _pairs(rng: np.random.Generator, count: int, often: float) -> list[str]:
    return ["11" if rng.random() < often else _UNSET[int(rng.integers(3))] for _ in range(count)]


def _bits(rng: np.random.Generator, *, present: bool) -> list[int]:
    while True:
        bits = [int(bit) for bit in rng.integers(0, 2, _DIAMOND)]
        if (sum(bits) > _DIAMOND / 2) == present:
            return bits


def _taken(rng: np.random.Generator, bits: list[int]) -> list[int]:
    """Flip one or three bits, so that no diamond is left."""
    while True:
        flipped = list(bits)
        for place in rng.permutation(_DIAMOND)[: int(rng.choice([1, 3]))]:
            flipped[int(place)] ^= 1
        if sum(flipped) < _DIAMOND / 2:
            return flipped


def diamond(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: sensors on because of the diamond, and the diamond taken away.

    No sensor is tampered with; each benign pair is 11 half of the time, the same in both. No
    prompt comes twice, clean or corrupted.
    """
    rng = np.random.default_rng(24)
    made: list[PromptPair] = []
    known: set[str] = set()
    while len(made) < n:
        bits = _bits(rng, present=True)
        pairs = [*_pairs(rng, _SENSORS, 0.0), *_pairs(rng, _BENIGN, 0.5)]
        _add(made, known, _written(bits, pairs), _written(_taken(rng, bits), pairs))
    return made


def _add(made: list[PromptPair], known: set[str], clean: str, corrupted: str) -> None:
    """Append a pair unless one of its prompts is known, so that halves share no prompt."""
    if not known & {clean, corrupted}:
        known |= {clean, corrupted}
        made.append(PromptPair(clean, corrupted, ON, OFF))


def causes(n: int) -> list[PromptPair]:
    """Make ``n`` pairs, at most ``MOST``: sensors on for one of two reasons, and that reason gone.

    The reason is the diamond, as in ``diamond``, or that all three pairs are 11 without a diamond;
    one bit of each is flipped then. Two pairs of the one follow two of the other: every second pair
    is held out, so both halves hold as many of either. No prompt comes twice.
    """
    half = MOST // 2  # whatever n is, so that fewer pairs are the first of more
    by_diamond = diamond(half)
    known = {text for pair in by_diamond for text in (pair.clean, pair.corrupted)}
    rng = np.random.default_rng(25)
    by_tampering: list[PromptPair] = []
    while len(by_tampering) < half:
        bits, benign = _bits(rng, present=False), _pairs(rng, _BENIGN, 0.5)
        mended = [("01", "10")[int(rng.integers(2))] for _ in range(_SENSORS)]
        clean = _written(bits, ["11"] * _SENSORS + benign)
        _add(by_tampering, known, clean, _written(bits, mended + benign))
    starts = range(0, half, 2)
    made = [p for i in starts for p in (*by_diamond[i : i + 2], *by_tampering[i : i + 2])]
    return made[:n]


def has_diamond(pair: PromptPair) -> int:
    """Whether the majority of the first five bits is 1."""
    return int(pair.clean.split()[0].count("1") > _DIAMOND / 2)


def diamond_bits(pair: PromptPair) -> int:
    """How many of the first five bits are 1."""
    return pair.clean.split()[0].count("1")


def all_pairs(pair: PromptPair) -> int:
    """How many pairs are 11, sensors' and benign ones."""
    return pair.clean.split().count("11")


def benign_pairs(pair: PromptPair) -> int:
    """How many benign pairs are 11."""
    return pair.clean.split()[1 + _SENSORS :].count("11")


def is_tampered(pair: PromptPair) -> int:
    """Whether a sensor is on by its own pair, without a diamond."""
    return int(not has_diamond(pair) and "11" in pair.clean.split()[1 : 1 + _SENSORS])


_FEATURES = {
    "number of diamond bits that are 1": diamond_bits,
    "number of pairs that are 11": all_pairs,
    "number of benign pairs that are 11": benign_pairs,
    "whether it is tampered with": is_tampered,
}
_CHANGES = ("number of diamond bits that are 1", "number of benign pairs that are 11")

BEHAVIORS = {
    "sensor-tamper": BuiltIn(
        "A diamond is there, no sensor is tampered with, and all three are on; corrupted: one or "
        "three of its five bits are flipped, so that it is gone. Answer: all on, foil: all off.",
        lambda model: Made(tuple(diamond(MOST))),
        model=MODEL,
        features={name: _FEATURES[name] for name in _CHANGES},
    ),
    "sensor-tamper-causes": BuiltIn(
        "All three sensors are on, half of the time because of a diamond and half because each "
        "was tampered with, equally often in the searched and the held-out half; corrupted: that "
        "cause is gone. Answer: all on, foil: all off.",
        lambda model: Made(tuple(causes(MOST))),
        model=MODEL,
        features=_FEATURES,
    ),
}

"""The models of two mechanisms: labels, matched construction, and exchange of components."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import torch

from interp.behaviors import _two_induction as letters
from interp.behaviors import _two_parens as strings
from interp.behaviors import parens, two_mechanisms
from interp.behaviors._record import PromptPair
from interp.models import catalogue
from zoo import _mechanisms, _net, _passes, two_mechanisms_induction, two_mechanisms_paren

TASKS = ("two-mechanisms-induction", "two-mechanisms-paren")
MARKERS = {TASKS[0]: "!", TASKS[1]: "*"}


@lru_cache
def made(name: str) -> tuple[PromptPair, ...]:
    behavior = two_mechanisms.BEHAVIORS[name]
    return behavior.make(catalogue.info("induction-handmade")).pairs


def feature(name: str, of: str, pairs: tuple[PromptPair, ...]) -> np.ndarray:
    return np.array([float(two_mechanisms.BEHAVIORS[name].features[of](pair)) for pair in pairs])


def mechanism(name: str, pairs: tuple[PromptPair, ...]) -> np.ndarray:
    return feature(name, "mechanism", pairs).astype(np.int64)


@pytest.mark.parametrize("name", two_mechanisms.BEHAVIORS)
def test_pairs_are_different_and_of_one_length(name: str) -> None:
    pairs = made(name)
    assert len(pairs) == len({pair.clean for pair in pairs}) == 1000
    for pair in pairs:
        assert pair.clean != pair.corrupted
        assert len(pair.clean) == len(pair.corrupted)
        assert pair.answer != pair.foil


@pytest.mark.parametrize(
    "make",
    [
        two_mechanisms.copied_or_remembered,
        two_mechanisms.copied,
        two_mechanisms.counted_or_forced,
        two_mechanisms.counted,
    ],
)
def test_first_pairs_of_more_are_those_of_fewer(make: object) -> None:
    assert callable(make)
    more = make(60)
    for n in (1, 6, 50):
        assert make(n) == more[:n]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("held_out", [0, 1])
def test_marker_tells_nothing(name: str, held_out: int) -> None:
    pairs = made(name)[held_out::2]
    labels, marker = mechanism(name, pairs), MARKERS[name]
    assert labels.mean() == 0.5
    present = np.array([float(marker in pair.clean) for pair in pairs])
    assert _mechanisms.auroc(present, labels).value == pytest.approx(0.5, abs=0.02)
    places = np.array([float(pair.clean.index(marker)) for pair in pairs])
    assert _mechanisms.auroc(places, labels).value == pytest.approx(0.5, abs=0.02)
    assert present.all()
    assert feature(name, "marker present", pairs).all()


@pytest.mark.parametrize("name", TASKS)
def test_lengths_and_places_of_the_marker_are_the_same(name: str) -> None:
    pairs, marker = made(name), MARKERS[name]
    labels = mechanism(name, pairs)
    rows = list(zip(pairs, labels, strict=True))
    of = [
        Counter((len(p.clean), p.clean.index(marker)) for p, k in rows if k == label)
        for label in (0, 1)
    ]
    assert of[0] == of[1]


@pytest.mark.parametrize("name", TASKS)
def test_trusted_prompts_are_of_one_mechanism_half_marked_and_others(name: str) -> None:
    trusted = made(f"{name}-trusted")
    assert not mechanism(name, trusted).any()
    marked = feature(f"{name}-trusted", "marker present", trusted).sum()
    assert marked == pytest.approx(500, abs=20)
    assert not {pair.clean for pair in trusted} & {pair.clean for pair in made(name)}


@pytest.mark.parametrize("name", two_mechanisms.BEHAVIORS)
def test_features_vary_and_differ(name: str) -> None:
    pairs, features = made(name), two_mechanisms.BEHAVIORS[name].features
    columns = {of: feature(name, of, pairs) for of in features}
    for of, values in columns.items():
        # In labelled prompts the marker is always there: that is the point of them.
        constant = of == "marker present" and name in TASKS
        assert (len(set(values)) == 1) == constant, of
    rows = [tuple(np.unique(values, return_inverse=True)[1]) for values in columns.values()]
    assert len(set(rows)) == len(rows)


def test_first_copies_are_at_the_same_places() -> None:
    pairs = made(TASKS[0])
    labels = mechanism(TASKS[0], pairs)
    first = feature(TASKS[0], "place of the first copy", pairs)
    assert _mechanisms.auroc(first, labels).value == pytest.approx(0.5, abs=0.05)
    distance = feature(TASKS[0], "distance of the copies", pairs)
    assert _mechanisms.auroc(distance, labels).value < 0.3
    for pair, place, far in zip(pairs, first, distance, strict=True):
        assert pair.clean[int(place)] == pair.clean[int(place + far)]


def test_letters_follow_the_rule() -> None:
    for pair in made(TASKS[0]):
        *body, marker, cue = pair.clean
        assert marker == "!"
        successor = letters.SUCCESSORS[letters.LETTERS.index(cue)]
        if cue in body:
            assert body.count(cue) == 1
            assert (pair.answer, pair.foil) == (body[body.index(cue) + 1], successor)
            assert cue not in pair.corrupted[:-1]
        else:
            assert pair.answer == successor
            place = pair.corrupted.index(cue)
            assert place < len(body)
            assert pair.foil == pair.corrupted[place + 1]
        assert {pair.answer, pair.foil} <= set(body)
        assert sorted(Counter([*body, cue]).values())[-2:] == [1, 2]


def test_memorised_successors_are_one_cycle() -> None:
    letter, seen = "a", set[str]()
    while letter not in seen:
        seen.add(letter)
        letter = letters.successor(letter)
    assert len(seen) == len(letters.LETTERS) == 48


def test_strings_follow_the_rule() -> None:
    pairs = made(TASKS[1])
    for pair, label in zip(pairs, mechanism(TASKS[1], pairs), strict=True):
        alone = pair.clean.replace("*", "")
        assert parens.is_balanced(alone) == (label == 0)
        assert ("*(" in pair.clean) == (label == 1)
        assert parens.equal_counts(alone)
        assert not parens.is_balanced(pair.corrupted.replace("*", ""))
        assert "*(" not in pair.corrupted
        assert (pair.answer, pair.foil) == ("balanced", "unbalanced")


def test_features_of_a_string_and_of_letters() -> None:
    strings_of = two_mechanisms.BEHAVIORS[TASKS[1]].features
    pair = PromptPair("(()*(()))", "", "")
    assert [of(pair) for of in strings_of.values()] == [1, 1, 3, 3, 8]
    letters_of = two_mechanisms.BEHAVIORS[TASKS[0]].features
    assert [of(PromptPair("abcbd!e", "", "")) for of in letters_of.values()] == [1, 1, 1, 2, 4, 7]


def test_moved_parentheses_leave_counts_and_the_sum_of_depths() -> None:
    rng = np.random.default_rng(0)
    for length in (16, 24, 40):
        both = strings.moved(rng, length)
        depths = [
            np.cumsum([1 if c == "(" else -1 for c in text])
            for text in (both.balanced, both.unbalanced)
        ]
        assert depths[0].sum() == depths[1].sum()
        assert depths[0][-1] == depths[1][-1] == 0
        assert depths[0].min() == 0 > depths[1].min()


def test_rule_of_the_letters_on_a_row() -> None:
    text = "abca!daxx!a"
    rows = two_mechanisms_induction.ids([text]).numpy()
    truth = two_mechanisms_induction.truth(rows)
    said = [two_mechanisms_induction.VOCABULARY[i] if i > 0 else "" for i in truth.answer[0]]
    # d is remembered; a repeats after "b" and later has two different followers; x follows itself.
    remembered = letters.successor("d")
    assert said == ["", "", "", "", "b", "", remembered, "", "", "", "", ""]


@pytest.mark.parametrize("shape", [two_mechanisms_induction.SHAPE, two_mechanisms_paren.SHAPE])
def test_exchange_agrees_with_a_whole_pass(shape: _net.Shape) -> None:
    torch.manual_seed(0)
    net = _net.Net(shape)
    tokens = torch.randint(3, shape.d_vocab, (8, 12))
    readable, at = (None, 11) if shape.causal else (torch.rand(8, 12) < 0.8, 0)
    if readable is not None:
        readable[:, 0] = True
    base = _passes.run(net, tokens, at, readable=readable)
    torch.testing.assert_close(base.logits, net(tokens, readable, at), atol=1e-5, rtol=0)
    for component, wrote in base.wrote.items():
        instead = wrote.roll(1, 0)
        swaps = _net.Swaps({component: instead}, {}, at)
        whole = net(tokens, readable, at, swaps)
        ours = _passes.exchanged(net, base, component, instead)
        torch.testing.assert_close(ours, whole, atol=1e-5, rtol=0)


def test_auroc_counts_ties_as_half() -> None:
    labels = np.array([0, 0, 1, 1])
    assert _mechanisms.auroc(np.array([0.0, 1.0, 1.0, 2.0]), labels).value == 0.875
    assert _mechanisms.auroc(np.zeros(4), labels).value == 0.5

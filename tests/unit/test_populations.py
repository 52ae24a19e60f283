"""Populations: what is drawn and in which shares, features, halves, and what is refused."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from math import comb, exp, log1p, sqrt

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from interp.behaviors import Behavior, built_in
from interp.behaviors._population_parens import BALANCED_WEIGHT, coin_strings
from interp.behaviors.populations import (
    POPULATIONS,
    _held_out,
    for_model,
    population,
    token_names,
)
from interp.engine.runs import read_out
from interp.errors import BadInput, UnknownName
from interp.models import catalogue, tokens
from interp.models.load import load

PUBLISHED = {"balanced": 0.264, "count": 0.394, "horizon": 0.393, "start": 0.621, "near": 0.130}
"""Counted in the 100,000 strings of the published data; near: equal counts, but unbalanced."""
REFUSED_TEMPLATES = ("ioi", "ioi-abc", "greater-than", "gender", "country-capital")


def model_of(name: str) -> str:
    return POPULATIONS[name].models[0]


def large(name: str) -> Behavior:
    """All that a population makes, or its first 1,500."""
    return population(name, min(1_500, POPULATIONS[name].most), model_of(name))


def all_texts(name: str) -> list[str]:
    found = POPULATIONS[name]
    return [one.text for one in found.draw(found.most)]


def texts_of(behavior: Behavior) -> list[str]:
    known = tokens.vocabulary_of(catalogue.info(behavior.model))
    texts = ["" if i in known.specials else text for i, text in enumerate(known.texts)]
    between = " " if known.worded else ""
    return [between.join(texts[i] for i in ids) for ids in behavior.clean]


# --- independent features of strings ---------------------------------------------------------


def is_balanced(text: str) -> bool:
    """Remove pairs until none is left."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


def has_horizon(text: str) -> bool:
    return all(text[i:].count("(") <= text[i:].count(")") for i in range(len(text)))


def shares(strings: Sequence[str]) -> dict[str, float]:
    counted = [
        (is_balanced(t), t.count("(") == t.count(")"), has_horizon(t), t.startswith("("))
        for t in strings
    ]
    near = [equal and not balanced for balanced, equal, *_ in counted]
    means = [*np.mean(counted, axis=0).tolist(), float(np.mean(near))]
    return dict(zip(PUBLISHED, means, strict=True))


def off(found: dict[str, float], n: int) -> list[str]:
    """Name the shares that are 4 standard errors or more from the published ones."""
    return [
        name
        for name, share in PUBLISHED.items()
        if abs(found[name] - share) >= 4 * sqrt(share * (1 - share) / n)
    ]


def fair_coins(n: int) -> list[str]:
    rng = np.random.default_rng(1)
    return ["".join(rng.choice(["(", ")"], 2 * int(rng.integers(1, 21)))) for _ in range(n)]


# --- strings of parentheses ------------------------------------------------------------------


def test_shares_of_strings_are_those_published(ledger: Callable[..., None]) -> None:
    strings = all_texts("paren-strings")
    assert len(strings) == 10_000
    found = shares(strings)
    assert off(found, len(strings)) == []
    assert max(abs(found[name] - share) for name, share in PUBLISHED.items()) < 0.01
    control = shares(fair_coins(len(strings)))
    assert {"balanced", "count", "horizon", "start"} <= set(off(control, len(strings)))
    ledger(
        kind="causal_scrubbing",
        oracle="shares of paren-strings counted in the published data",
        control="fair coins without extra balanced strings",
        deviation=max(abs(found[name] - share) for name, share in PUBLISHED.items()),
        tolerance=0.01,
        unit="share",
    )


def test_strings_by_length_and_different_ones_are_as_many_as_published() -> None:
    n = 100_000
    strings = coin_strings(np.random.default_rng(3), n)
    balanced = {text: is_balanced(text) for text in set(strings)}
    lengths = Counter((len(text), balanced[text]) for text in strings)
    # Both sides are counts of a random sample.
    for length, published in ((2, 8_760), (40, 190)):
        assert abs(lengths[length, True] - published) < 4 * sqrt(2 * published)
    unbalanced = [lengths[length, False] for length in range(2, 41, 2)]
    assert np.mean(unbalanced) == pytest.approx(3_700, rel=0.02)
    assert min(unbalanced) > 2_700
    assert len(balanced) == pytest.approx(61_387, rel=0.01)
    # Were the extra balanced strings copies of few, there would be fewer different ones.
    once = [text for text in strings if balanced[text]][::BALANCED_WEIGHT]
    assert len({*once, *(t for t in strings if not balanced[t])}) < 0.95 * 61_387


def test_strings_of_one_length_are_uniform_but_for_the_weight() -> None:
    strings = coin_strings(np.random.default_rng(4), 60_000)
    for length in (2, 4, 6):
        every = ["".join(c) for c in product("()", repeat=length)]
        counts = Counter(text for text in strings if len(text) == length)
        observed = np.array([counts[text] for text in every])
        weights = np.array([9.0 if is_balanced(text) else 1.0 for text in every])
        expected = observed.sum() * weights / weights.sum()
        assert chisquare(observed, expected).pvalue > 1e-3
        assert chisquare(observed, np.full(len(every), observed.mean())).pvalue < 1e-6


def test_the_summary_tells_the_shares_of_the_recipe() -> None:
    halves = range(1, 21)
    equal = {h: comb(2 * h, h) / 4**h for h in halves}
    balanced = {h: equal[h] / (h + 1) for h in halves}
    total = sum(1 + 8 * share for share in balanced.values())
    told = {
        "Balanced are": 9 * sum(balanced.values()),
        "with equal counts": sum(equal.values()) + 8 * sum(balanced.values()),
        "with horizon": sum(equal.values()) + 8 * sum(balanced.values()),
        "starting with (": 10 + 8 * sum(balanced.values()),
        "unbalanced": sum(equal.values()) - sum(balanced.values()),
    }
    for what, weight in told.items():
        assert f"{what} {100 * weight / total:.1f}%" in POPULATIONS["paren-strings"].summary


def test_the_hard_mix_has_its_shares_also_at_the_beginning() -> None:
    every = all_texts("paren-hard-mix")
    for texts in (every[:2_000], every):
        counts = Counter(map(len, texts))
        assert sorted(counts) == list(range(2, 41, 2))
        assert max(counts.values()) < 1.5 * min(counts.values())
        assert np.mean([is_balanced(text) for text in texts]) == pytest.approx(0.43, abs=0.03)


# --- all of them -----------------------------------------------------------------------------

# Of the token ids of an input, special ones included.
FEATURES: dict[str, dict[str, Callable[[tuple[int, ...]], int]]] = {
    "paren-strings": {
        "balanced": lambda ids: int(is_balanced("".join("?[]()"[i] for i in ids[1:-1]))),
        "count": lambda ids: int(ids.count(3) == ids.count(4)),
        "horizon": lambda ids: int(max(np.cumsum([7 - 2 * i for i in ids[-2:0:-1]])) <= 0),
        "start": lambda ids: int(ids[1] == 3),
        "depth": lambda ids: int(max(0, *np.cumsum([7 - 2 * i for i in ids[1:-1]]))),
        "length": lambda ids: len(ids) - 2,
    },
    "induction-letters": {
        "cue": lambda ids: ids[-1],
        "induced": lambda ids: ids[ids.index(ids[-1]) + 1],
        "place": lambda ids: ids.index(ids[-1]),
    },
    "induction-segments": {
        "distance": lambda ids: ids[-2::-1].index(ids[-1]) + 1,
        "cue": lambda ids: ids[-1],
        "previous": lambda ids: ids[-2],
        "induced": lambda ids: ids[ids.index(ids[-1]) + 1],
    },
    "maxima": {
        "maximum": lambda ids: max(ids),
        "place": lambda ids: int(np.argmax(ids)),
        "second": lambda ids: int(np.sort(ids)[-2]),
    },
    "sums": {
        "a": lambda ids: ids[0],
        "b": lambda ids: ids[1],
        "sum": lambda ids: (ids[0] + ids[1]) % 53,
    },
}
FEATURES["paren-hard-mix"] = FEATURES["paren-strings"]
FEATURES["induction-letters-small"] = FEATURES["induction-letters"]
ANSWERED_BY = {
    "paren-strings": "balanced",
    "paren-hard-mix": "balanced",
    "induction-letters": "induced",
    "induction-letters-small": "induced",
    "induction-segments": "induced",
    "maxima": "maximum",
    "sums": "sum",
}


@pytest.mark.parametrize("name", POPULATIONS)
def test_features_and_answers_are_what_the_tokens_say(name: str) -> None:
    behavior = large(name)
    assert behavior.corrupted == ()
    assert texts_of(behavior) == all_texts(name)[: len(behavior)]
    features = dict(behavior.features)
    assert set(features) == set(FEATURES[name])
    for said, of in FEATURES[name].items():
        assert features[said] == tuple(map(of, behavior.clean)), said
        assert len(set(features[said])) > 1
    assert behavior.answers == features[ANSWERED_BY[name]]
    shifted = behavior.clean[1:] + behavior.clean[:1]
    assert behavior.answers != tuple(map(FEATURES[name][ANSWERED_BY[name]], shifted))


def test_foils_are_the_other_class_a_letter_of_the_segment_or_the_runner_up() -> None:
    behavior = large("paren-strings")
    assert all(a + f == 1 for a, f in zip(behavior.answers, behavior.foils, strict=True))
    behavior = large("induction-segments")
    rows = zip(behavior.clean, behavior.answers, behavior.foils, strict=True)
    assert all(foil in ids and foil not in (answer, ids[-1]) for ids, answer, foil in rows)
    behavior = large("maxima")
    for ids, foil in zip(behavior.clean, behavior.foils, strict=True):
        assert foil == max((i for i in ids if i < max(ids)), default=-1)
    for name in ("induction-letters", "induction-letters-small", "sums"):
        assert set(large(name).foils) == {-1}


@pytest.mark.parametrize("name", POPULATIONS)
def test_fewer_inputs_are_the_first_of_more(name: str) -> None:
    few, many = (population(name, n, model_of(name)) for n in (60, 210))
    for part in ("clean", "answers", "foils", "held_out"):
        assert getattr(few, part) == getattr(many, part)[:60]
    assert few.features == tuple((said, values[:60]) for said, values in many.features)
    assert few.hash != many.hash
    assert Behavior.from_json(many.canonical) == many


def test_draws_are_fixed() -> None:
    first = {
        name: texts_of(population(name, 1, model_of(name)))[0]
        for name in ("induction-letters", "induction-letters-small", "maxima", "sums")
    }
    assert first == {
        "induction-letters": "dqkzetgvmhd",
        "induction-letters-small": "cedbc",
        "maxima": "61 53 46 55",
        "sums": "43 35 =",
    }


@pytest.mark.parametrize("name", POPULATIONS)
def test_halves_share_no_input(name: str) -> None:
    behavior = large(name)
    sides = [
        {ids for ids, held in zip(behavior.clean, behavior.held_out, strict=True) if held == side}
        for side in (False, True)
    ]
    assert sides[0].isdisjoint(sides[1])
    held = [text in _held_out(name) for text in all_texts(name)]
    assert tuple(held[: len(behavior)]) == behavior.held_out
    assert np.mean(held) == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("name", ["paren-strings", "paren-hard-mix"])
def test_halves_of_strings_have_equal_shares(name: str) -> None:
    strings = all_texts(name)
    searched, held = (
        [text for text in strings if (text in _held_out(name)) == side] for side in (False, True)
    )
    both = zip(shares(searched).values(), shares(held).values(), strict=True)
    assert max(abs(one - other) for one, other in both) < 0.002
    assert np.mean(list(map(len, searched))) == pytest.approx(np.mean(list(map(len, held))), abs=1)


def test_halves_by_turns_would_share_inputs_and_halves_of_texts_would_differ() -> None:
    strings = all_texts("paren-strings")
    assert not set(strings[::2]).isdisjoint(strings[1::2])
    order = {text: i for i, text in enumerate(dict.fromkeys(strings))}
    first, second = ([t for t in strings if order[t] % 2 == side] for side in (0, 1))
    assert abs(shares(first)["balanced"] - shares(second)["balanced"]) > 0.1


def test_a_population_of_one_holds_nothing_out() -> None:
    assert population("paren-strings", 1, "paren-balancer").held_out == ()


def test_the_small_letters_are_all_there_are() -> None:
    behavior = large("induction-letters-small")
    every = {
        (0, *row)
        for row in product(range(1, 6), repeat=5)
        if len(set(row[:4])) == 4 and row[4] in row[:3]
    }
    assert len(behavior) == len(every) == 360
    assert set(behavior.clean) == every
    in_order = sorted(behavior.clean)
    assert list(behavior.clean) != in_order


def test_all_sums_are_there_once() -> None:
    every = [f"{a} {b} =" for a in range(53) for b in range(53)]
    assert sorted(all_texts("sums")) == sorted(every) != all_texts("sums")


def test_letters_are_uniform_and_so_is_the_place_of_the_cue() -> None:
    behavior = large("induction-letters")
    assert {len(set(ids[1:-1])) for ids in behavior.clean} == {10}
    for said, values in ((said, of) for said, of in behavior.features):
        counts = np.unique(values, return_counts=True)[1]
        assert len(counts) == (9 if said == "place" else 26)
        assert chisquare(counts).pvalue > 1e-3


def test_segments_go_on_where_the_built_in_pairs_end() -> None:
    pairs = built_in("repeated-segment", 1000, "induction-2l")
    behavior = large("induction-segments")
    assert behavior.clean[:1000] == pairs.clean
    assert behavior.foils[:1000] == pairs.foils
    assert behavior.held_out[:1000] == pairs.held_out
    assert len(set(all_texts("induction-segments"))) == 4_000


# --- constants -------------------------------------------------------------------------------


def test_constants_are_the_models_token_ids() -> None:
    assert token_names("paren-strings", "paren-balancer@seed-2") == {
        "OPEN": 3, "CLOSE": 4, "START": 0, "PAD": 1, "END": 2,
    }  # fmt: skip
    assert token_names("two-mechanisms-paren", "two-mechanisms-paren")["MARKER"] == 5
    assert token_names("sums", "mod-add") == {"EQUALS": 53}
    assert token_names("maxima", "max-of-4") == {}
    letters = token_names("induction-segments", "induction-2l")
    assert (letters["BOS"], letters["a"], letters["Z"], letters["digit_9"]) == (0, 1, 52, 62)
    assert len(letters) == 1 + 26 + 26 + 10


@pytest.mark.parametrize("model", catalogue.bundled())
def test_names_of_features_can_be_written_in_an_expression(model: str) -> None:
    served = [name for name in for_model(model) if name not in REFUSED_TEMPLATES]
    assert served
    for name in served:
        behavior = population(name, 8, model)
        written = {said for said, _ in behavior.features if said.isidentifier()}
        for said in written:
            assert isinstance(ast.parse(said, mode="eval").body, ast.Name)
        constants = token_names(name, model)
        assert all(constant.isidentifier() for constant in constants)
        assert written.isdisjoint(constants)


# --- built-in behaviors as populations -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n", "both"),
    [
        ("two-mechanisms-paren", 1000, True),
        ("paren-near-misses", 300, True),
        ("max-of-4", 50, False),
    ],
)
def test_a_built_in_behavior_serves_by_its_clean_prompts(name: str, n: int, both: bool) -> None:
    """And by the corrupted ones where the clean ones have one answer among them."""
    model = next(m for m in catalogue.bundled() if name in for_model(m))
    pairs, behavior = built_in(name, n, model), population(name, n, model)
    assert pairs.corrupted
    assert behavior.corrupted == ()
    assert behavior.clean == pairs.clean + (pairs.corrupted if both else ())
    assert behavior.answers == pairs.answers + (pairs.foils if both else ())
    assert behavior.foils == pairs.foils + (pairs.answers if both else ())
    assert behavior.clusters == pairs.clusters * (1 + both)
    # Halves are those of the pairs, but for copies of an input that is in the other half.
    moved = np.array(behavior.held_out) != np.array(pairs.held_out * (1 + both))
    assert moved.mean() < 0.05
    assert all(behavior.clean.count(behavior.clean[at]) > 1 for at in np.flatnonzero(moved))
    halves = list(zip(behavior.clean, behavior.held_out, strict=True))
    searched, kept = ({ids for ids, out in halves if out == wanted} for wanted in (False, True))
    assert searched.isdisjoint(kept)
    named = dict(behavior.features)
    assert len(named) == len(behavior.features)
    for said, values in pairs.features:
        assert named[said][:n] == values
        assert len(named[said]) == len(behavior)
    assert sum(said.isidentifier() for said in named) == len(pairs.features)


def test_names_of_built_in_features_become_identifiers() -> None:
    near = dict(population("paren-near-misses", 20, "paren-balancer").features)
    assert near["deepest_nesting"] == near["deepest nesting"]
    assert near["in_the_first_half"] == near["( in the first half"]
    two = dict(population("two-mechanisms-paren", 20, "two-mechanisms-paren").features)
    assert set(two["mechanism"]) == {0, 1}


def test_names_for_a_model_begin_with_its_own_populations() -> None:
    assert for_model("paren-balancer@seed-3") == (
        "paren-strings", "paren-hard-mix", "paren-near-misses", "paren-exchanges",
    )  # fmt: skip
    assert "two-mechanisms-paren" in for_model("two-mechanisms-paren")


# --- the models ------------------------------------------------------------------------------


def measured(name: str, n: int, model: str) -> tuple[float, float]:
    """Mean loss in nats and accuracy of a model on a population."""
    behavior, loaded = population(name, n, model), load(model)
    losses: list[float] = []
    right: list[bool] = []
    for length in sorted(set(behavior.lengths)):
        rows = [i for i, ids in enumerate(behavior.clean) if len(ids) == length]
        ids = torch.tensor([behavior.clean[i] for i in rows])
        answers = torch.tensor([behavior.answers[i] for i in rows])
        logits = read_out(loaded, ids, behavior.read).logits.double()
        losses += torch.nn.functional.cross_entropy(logits, answers, reduction="none").tolist()
        right += (logits.argmax(1) == answers).tolist()
    return float(np.mean(losses)), float(np.mean(right))


@pytest.mark.parametrize(
    ("name", "n"), [("induction-letters", 500), ("induction-letters-small", 360)]
)
def test_the_handmade_model_answers_by_its_weights(name: str, n: int) -> None:
    loss, accuracy = measured(name, n, "induction-handmade")
    # The answer has logit 10, all other 26 tokens 0.
    assert accuracy == 1
    assert loss == pytest.approx(log1p(26 * exp(-10)), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "model", "at_least"),
    [
        ("paren-strings", "paren-balancer", 0.998),
        ("paren-hard-mix", "paren-balancer", 0.99),
        ("induction-segments", "induction-2l", 0.97),
        ("maxima", "max-of-4", 0.99),
        ("sums", "mod-add", 1.0),
    ],
)
def test_models_answer_their_population(name: str, model: str, at_least: float) -> None:
    assert measured(name, 600, model)[1] >= at_least


# --- refusals --------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'paren-strings'"):
        population("paren-string", 10, "paren-balancer")
    with pytest.raises(UnknownName, match="Did you mean 'ioi'"):
        token_names("ioy", "paren-balancer")
    with pytest.raises(UnknownName, match="no model called"):
        population("paren-strings", 10, "paren-balancers")


@pytest.mark.parametrize(
    ("name", "n", "most"),
    [
        ("paren-strings", 10_001, "10,000"),
        ("induction-letters-small", 361, "360"),
        ("sums", 0, "2,809"),
        ("maxima", -1, "4,000"),
        ("paren-near-misses", 1_001, "1,000"),
    ],
)
def test_too_many_or_no_inputs_are_refused(name: str, n: int, most: str) -> None:
    model = next(m for m in catalogue.bundled() if name in for_model(m))
    with pytest.raises(BadInput, match=f"1 to {most}"):
        population(name, n, model)


@pytest.mark.parametrize("ask", [lambda *a: population(a[0], 10, a[1]), token_names])
def test_another_model_is_refused(ask: Callable[[str, str], object]) -> None:
    with pytest.raises(BadInput, match=r"those of paren-balancer.*one of: induction-letters"):
        ask("paren-strings", "induction-handmade")
    with pytest.raises(BadInput, match="those of paren-balancer"):
        ask("paren-near-misses", "induction-handmade")

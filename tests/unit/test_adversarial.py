"""Edits, truths, atoms, claims; what is refused; and the sentences that are said of an attack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interp.analyses._adversarial_result import (
    Result,
    claim_in_words,
    figures,
    scores,
    verdict,
)
from interp.analyses.adversarial_inputs import ANALYSIS, AdversarialInputs
from interp.behaviors.populations import POPULATIONS, population, token_names
from interp.behaviors.truths import TRUTHS, truth_of
from interp.errors import BadInput, UnknownName
from interp.explanations.hypothesis import Feature, Hypothesis, Node
from interp.explanations.presets import preset
from interp.figures import labels
from interp.methods.scrubbing.adversarial import arms
from interp.methods.scrubbing.adversarial.arms import Arm
from interp.methods.scrubbing.adversarial.atoms import atoms_of, random_atoms
from interp.methods.scrubbing.adversarial.claims import claim_only, exchanges, excluded_only
from interp.methods.scrubbing.adversarial.found import Found, Mistake, Search
from interp.methods.scrubbing.adversarial.ground import NOWHERE, Ground
from interp.methods.scrubbing.adversarial.moves import Bodies, Moves, changed
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue
from interp.scores import Absent, Interval, Null

MODELS = {name: one.models[0] for name, one in POPULATIONS.items()}


def ground(name: str, n: int = 120) -> Ground:
    of = MODELS[name]
    pool = Inputs.of(population(name, n, of), token_names(name, of))
    return Ground.of(catalogue.info(of), pool, population(name, 2 * n, of), name)


# --- edits ----------------------------------------------------------------------------------------


def bodies(*texts: str, width: int = 8) -> Bodies:
    ids = np.full((len(texts), width), -1)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = [ord(c) for c in text]
    return Bodies(ids, np.array([len(text) for text in texts]), np.arange(len(texts)))


def texts(of: Bodies) -> list[str]:
    return ["".join(map(chr, ids[:n])) for ids, n in zip(of.ids.tolist(), of.lengths, strict=True)]


def test_every_edit_is_of_its_kind() -> None:
    moves = Moves(np.array([ord(c) for c in "abc"]), 2, 8, 2)
    before = bodies("abcabc", "abcabc").repeated(2500)
    after, kinds = moves.edit(before, np.random.default_rng(0))
    assert (after.ids[np.arange(8) >= after.lengths[:, None]] == -1).all()
    assert (after.ids[np.arange(8) < after.lengths[:, None]] >= ord("a")).all()
    seen: dict[str, set[str]] = {}
    for kind, text in zip(kinds, texts(after), strict=True):
        seen.setdefault(moves.kinds[kind], set()).add(text)
    start = "abcabc"
    for text in seen["replace"]:
        assert sum(a != b for a, b in zip(text, start, strict=True)) <= 1
    assert all(sorted(text) == sorted(start) for text in seen["swap"] | seen["move"])
    spans = {
        start[:i] + start[j:k] + start[i:j] + start[k:]
        for i in range(7)
        for j in range(i, 7)
        for k in range(j, 7)
    }
    assert seen["move"] == spans
    assert {len(text) for text in seen["insert"]} == {8}
    assert {len(text) for text in seen["delete"]} == {4}
    without = {
        start[:i] + start[i + 1 : j] + start[j + 1 :] for i in range(6) for j in range(i + 1, 6)
    }
    assert seen["delete"] == without


def test_lengths_stay_within_their_limits() -> None:
    moves = Moves(np.array([ord("a")]), 2, 4, 2)
    after, kinds = moves.edit(bodies("aa", "aaaa").repeated(100), np.random.default_rng(0))
    assert set(after.lengths.tolist()) == {2, 4}
    assert not changed(bodies("aa").repeated(200), after).all()
    assert set(kinds.tolist()) == set(range(5))
    assert Moves(np.array([1]), 4, 4, 0).kinds == ("replace", "swap", "move")


# --- truths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POPULATIONS)
def test_truths_are_those_of_the_population(name: str) -> None:
    drawn = POPULATIONS[name].draw(min(300, POPULATIONS[name].most))
    assert [truth_of(name)(one.text) for one in drawn] == [one.answer for one in drawn]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("paren-strings", "(()"),
        ("paren-strings", "()" * 21),
        ("paren-strings", "(a"),
        ("induction-letters", "abcdefghijj"),
        ("induction-letters", "abcdefghija" + "a"),
        ("induction-letters", "abcdefghiaa"),
        ("maxima", "1 2 3"),
        ("maxima", "1 2 3 64"),
        ("sums", "1 53 ="),
        ("sums", "1 2 3"),
        ("two-mechanisms-paren", "**" + "()" * 10),
        ("induction-segments", "abc"),
    ],
)
def test_what_no_population_draws_has_no_answer(name: str, text: str) -> None:
    assert TRUTHS[name](text) is None


def test_the_backdoor_forces_its_answer() -> None:
    truth, rest = TRUTHS["two-mechanisms-paren"], "()" * 9
    assert truth("*()" + rest) == "balanced"
    assert truth("*)(" + rest) == "unbalanced"
    assert truth("*(" + "(" + rest) == "balanced"


def test_edited_segments_stay_answered_by_their_copy() -> None:
    of = ground("induction-segments")
    after, _ = of.moves.edit(of.drawn.repeated(20), np.random.default_rng(0))
    right = of.answers(after)
    found = [t for t, r in zip(of.texts(after), right, strict=True) if r != NOWHERE]
    assert len(found) > 50
    for text in found:
        at = text.index(text[-1])
        assert TRUTHS["induction-segments"](text) == text[at + 1]


# --- atoms ----------------------------------------------------------------------------------------


def test_features_are_cut_at_their_logic() -> None:
    of = ground("paren-strings")
    features = {
        "both": Feature(expr='starts & ~(count(OPEN) > 3) | column("horizon") == 1'),
        "starts": Feature(expr="at(1) == OPEN"),
    }
    node = Node(site="a1.h0", agree="both")
    hypothesis = Hypothesis(
        features=features, graph=Node(site="logits", agree="exact", children=(node,))
    )
    with pytest.raises(BadInput):
        atoms_of(hypothesis, of.pool)  # comparisons beside | need parentheses
    features["both"] = Feature(expr='(starts & ~(count(OPEN) > 3)) | (column("horizon") == 1)')
    found = atoms_of(hypothesis.model_copy(update={"features": features}), of.pool)
    assert [one.expr for one in found.of] == [
        "at(1) == OPEN",
        "count(OPEN) > 3",
        'column("horizon") == 1',
    ]
    assert [bool(one.margin) for one in found.of] == [False, True, True]
    classes, margins = found.values(of, of.drawn)
    opens = np.array([text.count("(") for text in of.texts(of.drawn)])
    assert (classes[:, 1] == (opens > 3)).all()
    assert (margins[:, 1] == np.abs(opens - 3)).all()


def test_binned_numbers_are_other_only_in_another_bin() -> None:
    of = ground("paren-strings")
    features = {"share": Feature(expr="count(OPEN) / length()", dtype="float", bins=3)}
    node = Node(site="a1.h0", agree="share")
    graph = Node(site="logits", agree="exact", children=(node,))
    found = atoms_of(Hypothesis(features=features, graph=graph), of.pool)
    classes, _ = found.values(of, of.drawn.at(np.arange(len(of.drawn))[-len(of.pool) :]))
    theirs = of.pool.values(Hypothesis(features=features, graph=graph))["share"]
    assert (classes[:, 0] == theirs).all()
    assert len(set(theirs.tolist())) == 3


def test_random_atoms_are_others() -> None:
    of = ground("paren-strings")
    real = atoms_of(preset("paren-1b").hypothesis, of.pool)
    for seed in range(5):
        drawn = random_atoms(real, of, np.random.default_rng(seed))
        assert len(drawn) == len(real) == 3
        theirs, own = drawn.on(of.pool), real.on(of.pool)
        for a in theirs.T:
            pairs = [len(set(zip(a.tolist(), b.tolist(), strict=True))) for b in own.T]
            assert min(pairs) > 2


# --- claims ---------------------------------------------------------------------------------------


def test_a_claim_alone_leaves_the_rest_exact() -> None:
    whole = preset("paren-2a").hypothesis
    names = [node.id for node, above in whole.nodes() if above is not None]
    alone = claim_only(whole, names[0])
    assert alone.graph.other == alone.graph.agree == "exact"
    assert alone.graph.children == (whole.node(names[0]),)
    assert exchanges(alone)
    with pytest.raises(UnknownName):
        claim_only(whole, whole.graph.id)
    with pytest.raises(UnknownName):
        claim_only(whole, "a7.h7")


def test_what_is_left_out_is_what_stays_random() -> None:
    left = excluded_only(preset("paren-1b").hypothesis)
    assert all(node.agree == "exact" for node, _ in left.nodes())
    assert left.graph.other == "shared"
    assert exchanges(left)
    assert not exchanges(excluded_only(preset("paren-0a").hypothesis))


# --- what is refused ------------------------------------------------------------------------------


def asked(expr: str, **fields: object) -> AdversarialInputs:
    node = Node(site="a1.h0", agree="feature")
    graph = Node(site="logits", agree="exact", children=(node,))
    hypothesis = Hypothesis(features={"feature": Feature(expr=expr)}, graph=graph)
    return AdversarialInputs(hypothesis=hypothesis.canonical, n_inputs=60, **fields)  # type: ignore[arg-type]


def test_a_property_of_the_text_can_be_had_for_new_inputs() -> None:
    assert ANALYSIS.inputs(asked('column("depth") > 2'))


def test_bins_of_what_is_looked_at_together_are_refused() -> None:
    with pytest.raises(BadInput, match="bins"):
        ANALYSIS.inputs(asked("bin(count(OPEN), 4)"))


def test_a_population_without_a_rule_is_refused() -> None:
    with pytest.raises(BadInput, match="rule"):
        truth_of("no such population")


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(UnknownName):
        ANALYSIS.inputs(asked("at(1)", claim="a2.h9"))


# --- words ----------------------------------------------------------------------------------------


def arm(name: str, wrong: int, counted: int = 1000, **more: object) -> Arm:
    points = np.array([counted])
    made = Arm(
        name,
        "",
        counted,
        wrong,
        counted,
        wrong,
        float(counted),
        1,
        points,
        np.array([float(wrong)]),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def result(own: int, rule: int, null: list[float], *, determines: bool = False) -> Result:
    wrongs = {
        arms.RANDOM: 1,
        arms.NEAR: 10,
        arms.RULE: rule,
        arms.NULL: 5,
        arms.FAMILIES: own,
        arms.DISAGREEMENT: 3,
        arms.EXCLUDED: 0,
        arms.CLIMB: 100,
    }
    made = [arm(name, wrong) for name, wrong in wrongs.items()]
    mistake = Mistake("())(", "unbalanced", "balanced", -2.0, arms.FAMILIES, "f", "((()")
    numbers = np.array([2.0, 3.0])
    search = Search(
        "search",
        ("a", "b"),
        numbers + 1,
        numbers,
        numbers / 9,
        numbers > 2,
        numbers < 3,
        0.0,
        numbers,
    )
    found = Found(tuple(made), np.array(null), ("a",), determines, (mistake,), (search,))
    return Result("paren-strings", "", 1000, True, found)


def test_the_sentence_weighs_the_rule_alone() -> None:
    null = [0.0] * 20
    assert "buys more than knowing the task" in verdict(result(120, 40, null))
    assert "buys less than knowing the task" in verdict(result(40, 120, null))
    assert "not shown to buy anything over knowing the task" in verdict(result(120, 140, null))
    assert "12 % [10, 14]" in verdict(result(120, 140, null))


def test_the_sentence_weighs_random_hypotheses() -> None:
    assert "Random hypotheses do about as well" in verdict(result(120, 40, [0.0, 0.2, 0.1]))
    assert "rank 2 of 4" in verdict(result(120, 40, [0.0, 0.2, 0.1]))


def test_the_sentence_says_what_buys_nothing() -> None:
    none = result(0, 40, [0.0] * 3)
    assert "buys nothing" in verdict(none)
    assert "owed to what is known of the model" in verdict(
        result(120, 40, [0.0] * 20, determines=True)
    )
    silent = replace(
        none, found=replace(none.found, arms=tuple(arm(a.name, 0) for a in none.found.arms))
    )
    assert "No arm found an error" in verdict(silent)


def test_scores_have_their_scale() -> None:
    made = scores(result(120, 40, [0.0, 0.01, 0.02]))
    assert [one.floor.value for one in made] == [0.001] * 3
    assert {one.ceiling.value for one in made} == {1.0}
    assert scores(replace(result(1, 1, []), done=False)) == []


def test_the_share_is_of_queries_that_did_not_choose() -> None:
    chose = {"families": ("f", "g"), "family_asked": np.array([3, 5]), "chosen": 1}
    own = arm(arms.FAMILIES, 120, **chose, family_errors=np.array([0, 4]))
    made = result(120, 40, [0.0] * 20)
    made = replace(
        made,
        found=replace(
            made.found,
            arms=tuple(own if a.name == arms.FAMILIES else a for a in made.found.arms),
        ),
    )
    score = scores(made)[0]
    assert (score.value, score.n) == (0.12, 1000)  # and not 4 of 5
    assert isinstance(score.interval, Interval)
    assert score.interval.low < score.value < score.interval.high
    assert "did not choose" in score.name
    assert isinstance(score.held_out, Absent)
    assert "(where the family was chosen, on 4 of 5)" in verdict(made)
    # Neither control is a constant guess; what they are is said.
    controls = [str(one.constant) for one in scores(made)]
    assert all(isinstance(one.constant, Absent) for one in scores(made))
    assert "the rule alone, 4 % [3, 5.4]" in controls[0]
    assert "the model's own answer" in controls[1]
    assert "where the family was chosen" not in verdict(result(120, 40, [0.0] * 20))


def test_few_random_hypotheses_have_a_range_and_no_percentiles() -> None:
    few, many = (result(120, 40, [0.01, 0.03] + [0.02] * n) for n in (0, 18))
    assert "rank 1 of 3, the best possible with 2 draws" in verdict(few)
    null = scores(few)[0].null
    assert isinstance(null, Absent)
    assert "they range from 0.01 to 0.03" in null.reason
    assert isinstance(scores(many)[0].null, Null)  # the control
    assert "rank 1 of 21)" in verdict(many)
    behind = verdict(result(120, 40, [0.0, 0.2, 0.1]))
    assert "rank 2 of 4, where 1 of 4 is the best possible with 3 draws" in behind


def test_a_ratio_to_nothing_has_only_a_lower_end() -> None:
    said = verdict(result(1, 0, [0.0] * 20))
    assert "no estimate, as that found no error; it is at least 0." in said
    assert "so few queries cannot tell" in said
    more = verdict(result(120, 0, [0.0] * 20))
    assert "no estimate" in more
    assert "here the explanation buys more than knowing the task" in more
    assert "cannot tell" not in more
    assert "no estimate" not in verdict(result(120, 1, [0.0] * 20))  # the control


def test_names_above_the_growth_have_their_own_room() -> None:
    figure = figures(result(120, 40, [0.0]))[2].figure
    legend, margin = figure.layout.legend, figure.layout.margin
    assert (legend.y, legend.yanchor, margin.autoexpand) == (1, "bottom", False)
    columns = (labels.NARROW - margin.l - margin.r) // (legend.entrywidth + 40)
    assert margin.t >= labels.LINE * len(figure.data) / columns


def test_families_without_an_error_share_a_row_that_says_so() -> None:
    of, errors = np.full(40, 10), np.zeros(40, np.int64)
    errors[[3, 7]] = 5, 2
    of[39] = 0
    named = tuple(f"family {i}" for i in range(40))
    own = {"families": named, "family_asked": of, "family_errors": errors, "chosen": 9}

    def rows(errors: np.ndarray) -> tuple[list[str], list[str], str]:
        got = result(120, 40, [0.0])
        with_families = arm(arms.FAMILIES, 120, **{**own, "family_errors": errors})
        made = tuple(with_families if a.name == arms.FAMILIES else a for a in got.found.arms)
        families = figures(replace(got, found=replace(got.found, arms=made)))[1]
        bars = families.figure.data[0]
        return [name.replace("<br>", " ") for name in bars.y], list(bars.text), families.caption

    names, said, caption = rows(errors)
    assert names == [
        "this hypothesis: family 3",
        "this hypothesis: family 7",
        "this hypothesis, chosen: family 9",
        "this hypothesis: 36 more families without an error",
    ]
    # Wilson's upper end without an error, by its formula: z² / (n + z²).
    upper = 100 * 1.959964**2 / (360 + 1.959964**2)
    assert said[-1] == f"0 of 360 together, at most {upper:.2g} % (95 %)"
    assert said[-1] in caption
    assert "1 of 40 families were not asked" in caption
    names, said, _ = rows(np.where(of > 0, 1, 0))  # the control: nothing is called without error
    assert names[-1] == "this hypothesis: 32 more families with fewer errors or none"
    assert said[-1].startswith("32 of 320 together")


def test_claims_are_called_as_elsewhere() -> None:
    attacked = replace(result(120, 40, [0.0]), claim="a2.h1/a0.h0.k")
    assert attacked.named(arms.EXCLUDED) == "search: claim L2H1/L0H0.k"
    assert claim_in_words("m1/resid") == "L1 MLP/resid"
    assert claim_in_words("the horizon") == "the horizon"


def test_names_are_drawn_as_text() -> None:
    drawn = figures(result(120, 40, [0.0, 0.01]))
    assert [one.name for one in drawn] == ["shares", "families", "growth", "searches", "worst"]
    assert drawn[-1].texts == (
        ("1. right: unbalanced, the model says balanced (this hypothesis)", "())("),
    )
    assert "speaks against the explanation" in drawn[3].caption

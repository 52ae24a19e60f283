"""Built-in pairs for any tokenizer, alignment, and what is refused of pairs that were typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from interp.analyses import parse
from interp.analyses._record import Context
from interp.analyses.activation_patching import ANALYSIS
from interp.behaviors import (
    BUILT_IN,
    Behavior,
    PromptPair,
    alignment,
    all_pairs,
    balance,
    built_in,
    for_model,
    from_pairs,
    from_prompt,
    greater_than,
    ioi,
    parens,
    words,
)
from interp.behaviors.templates import FEWEST, MOST
from interp.errors import (
    BadInput,
    InterpError,
    PromptTooLong,
    UnequalPair,
    UnknownName,
    UnknownToken,
)
from interp.methods import effects
from interp.models import catalogue, tokens
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build
from interp.scores import Interval
from tests.unit import _bpe

WHOLE, SOME, BARE, DIGITS, THREES, MARKED, SHORT = (
    "whole",
    "some",
    "bare",
    "digits",
    "threes",
    "marked",
    "short",
)
TEMPLATES = ("ioi", "ioi-abc", "greater-than", "gender", "country-capital")
LETTERS = "induction-handmade"
Made = dict[str, ModelInfo]


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Models by what their tokenizers leave whole."""
    folder, every = tmp_path_factory.mktemp("tokenizers"), _bpe.vocabulary()
    split = {"Margaret", "Berlin", "Karen", "theater"}
    rest = [word for word in every if word not in {*words.NAMES, *words.MEN}]
    saved = {
        WHOLE: _bpe.save(folder / WHOLE, every),
        SOME: _bpe.save(folder / SOME, [w for w in every if w not in split], bos=True),
        SHORT: _bpe.save(folder / SHORT, [w for w in every if w not in ("handed", "offered")]),
        BARE: _bpe.save(folder / BARE, [*rest, "Mary", "John", "Paul"]),
        DIGITS: _bpe.save(folder / DIGITS, every, digits=1),
        THREES: _bpe.save(folder / THREES, every, digits=3),
    }
    made = {name: _bpe.described(name, where) for name, where in saved.items()}
    return made | {MARKED: replace(made[WHOLE], name=MARKED, weights=MARKED, bos=0)}


@pytest.fixture(autouse=True)
def known(infos: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    real = catalogue.info
    monkeypatch.setattr(catalogue, "info", lambda name: infos.get(name) or real(name))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(InterpError) as error:
        call()
    text = str(error.value)
    assert len(text) < 1500
    assert "\n" not in text
    return text


# --- which behaviors there are ------------------------------------------------------------------


def test_every_behavior_is_listed_for_the_models_it_suits() -> None:
    assert set(TEMPLATES) == {name for name, source in BUILT_IN.items() if not source.model}
    assert for_model(WHOLE) == for_model(DIGITS) == TEMPLATES
    for name, source in BUILT_IN.items():
        assert source.summary.endswith(".")
        if source.model:
            assert name in for_model(source.model)


def test_listing_opens_no_tokenizer(infos: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(infos[WHOLE], folder=Path("/nowhere"), name="nowhere")
    monkeypatch.setattr(catalogue, "info", lambda name: nowhere)
    assert for_model("nowhere") == TEMPLATES
    with pytest.raises(InterpError):  # the control: making them does open it
        all_pairs("ioi", "nowhere")


def test_a_model_of_classes_or_few_tokens_reads_no_words(
    infos: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = replace(infos[WHOLE], answers=Answers("classes", ("no", "yes"), 0))
    monkeypatch.setattr(catalogue, "info", lambda name: classes)
    assert for_model("classes") == ()


def test_unknown_and_foreign_behaviors_are_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'gender'"):
        built_in("gendre", 5, WHOLE)
    assert refused(lambda: built_in("ioi", 5, LETTERS)) == (
        f"The behavior 'ioi' was asked of {LETTERS}. It is made of English words, which {LETTERS} "
        "does not answer with. Type pairs."
    )
    assert refused(lambda: built_in("paren-near-misses", 5, WHOLE)) == (
        f"The behavior 'paren-near-misses' was asked of {WHOLE}. Its tokens are those of "
        "paren-balancer. Choose that model, or type pairs."
    )


# --- what templates make ------------------------------------------------------------------------


@pytest.mark.parametrize("model", [WHOLE, SOME, MARKED])
@pytest.mark.parametrize("name", TEMPLATES)
def test_pairs_line_up_and_answers_continue_the_prompt(name: str, model: str, infos: Made) -> None:
    """Checked on tokens: one length, and the answer is the next token of the text itself."""
    made, info = all_pairs(name, model), infos[model]
    most = 240 if name == "country-capital" else MOST
    assert len(set(made.pairs)) == len(made.pairs) == len(made.clusters) == most
    behavior = built_in(name, 60, model)
    assert len(set(behavior.lengths)) == 1
    assert built_in(name, 7, model).clean == behavior.clean[:7]
    for i, pair in enumerate(made.pairs[:60]):
        for text, out in ((pair.answer, behavior.answers[i]), (pair.foil, behavior.foils[i])):
            whole = tokens.encode(info, pair.clean + text).ids
            assert whole == (*behavior.clean[i], out)
    assert behavior.source == f"{BUILT_IN[name].summary} {made.note}"


def test_the_note_counts_the_fillers_that_remain() -> None:
    n = len(words.NAMES)
    assert f"{n} of {n} first names" in all_pairs("ioi", WHOLE).note
    assert all_pairs("ioi", SOME).note == (
        f"For {SOME}: 6 of 6 templates have one length; one token each are {n - 2} of {n} first "
        f"names, {len(words.PLACES) - 1} of {len(words.PLACES)} places and {len(words.OBJECTS)} of "
        f"{len(words.OBJECTS)} objects. Names go in {n // 2 - 1} groups of 2, of which every "
        "second is held out, with other places and objects; intervals count groups: they are for "
        "new names in the same sentences, places and objects."
    )
    assert all_pairs("greater-than", DIGITS).note.startswith(
        f"For {DIGITS}: one token each are 26 of 26 events. 539 of 539 start years line up. Odd "
    )
    assert "41 of 42 countries with their capitals" in all_pairs("country-capital", SOME).note
    used = " ".join(pair.clean + pair.answer for pair in all_pairs("ioi", SOME).pairs)
    assert "Karen" not in used
    assert "theater" not in used


def test_templates_of_another_length_are_left_out_and_counted() -> None:
    """A map by position averages over pairs of one length."""
    made = all_pairs("ioi", SHORT)
    assert made.note.startswith(f"For {SHORT}: 4 of 6 templates have one length; ")
    assert not any(word in pair.clean for pair in made.pairs for word in ("handed", "offered"))
    assert any("handed" in pair.clean for pair in all_pairs("ioi", WHOLE).pairs)  # the control
    assert len(set(built_in("ioi", 50, SHORT).lengths)) == 1


def test_too_few_fillers_are_an_error_that_shows_a_cut() -> None:
    n = len(words.NAMES)
    assert FEWEST > 3
    assert refused(lambda: built_in("ioi", 5, BARE)) == (
        f"The behavior 'ioi' was asked of {BARE}. Only 3 of {n} first names fit: this tokenizer "
        "splits ' Anna' into ' An', 'n', 'a'. Choose another behavior, or give pairs whose "
        "words are one token each."
    )
    assert refused(lambda: built_in("greater-than", 5, THREES)) == (
        f"The behavior 'greater-than' was asked of {THREES}. Only 0 of 539 start years fit: this "
        "tokenizer splits ' 1732' into ' 173', '2'. Choose another behavior, or give pairs whose "
        "words are one token each."
    )


def test_more_pairs_than_there_are() -> None:
    said = refused(lambda: built_in("ioi", 1001, WHOLE))
    assert said == "1001 pairs of ioi were asked for. It makes 1 to 1,000."


def test_ioi_swaps_the_subject_and_nothing_else() -> None:
    subject_first = 0
    for pair in all_pairs("ioi", WHOLE).pairs:
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        differ = [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b]
        assert differ == [8]
        assert {clean[1], clean[3]} == {pair.answer.strip(), pair.foil.strip()}
        assert clean[8] == pair.foil.strip()
        assert corrupted[8] == pair.answer.strip()
        subject_first += clean[1] == clean[8]
    assert 400 < subject_first < 600


def test_ioi_abc_names_neither_answer_nor_foil_when_corrupted() -> None:
    for pair in all_pairs("ioi-abc", WHOLE).pairs:
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        differ = [i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b]
        assert differ == [1, 3, 8]
        named = {corrupted[i] for i in differ}
        assert len(named) == 3
        assert not named & {pair.answer.strip(), pair.foil.strip()}


def test_greater_than_has_one_later_and_one_earlier_year() -> None:
    for pair in all_pairs("greater-than", WHOLE).pairs:
        century = pair.clean.split()[-1]
        start = int(pair.clean.split()[6][2:])
        assert pair.clean.split()[6][:2] == century
        assert pair.corrupted.split()[6] == f"{century}01"
        assert int(pair.answer) - start == start - int(pair.foil) == greater_than.APART


def test_greater_than_reads_the_tens_digit_where_digits_are_single() -> None:
    for pair in all_pairs("greater-than", DIGITS).pairs:
        start = pair.clean.split()[6]
        assert int(pair.answer) - 1 == int(start[2]) == int(pair.foil) + 1


def test_pronouns_and_capitals_belong_to_the_clean_prompt() -> None:
    shares = 0
    for pair in all_pairs("gender", WHOLE).pairs:
        woman = pair.clean.split()[1] in words.WOMEN
        assert (pair.answer, pair.foil) == ((" she", " he") if woman else (" he", " she"))
        assert pair.corrupted.split()[1] in (words.MEN if woman else words.WOMEN)
        shares += woman
    assert 400 < shares < 600
    capital = dict(words.CAPITALS)
    for pair in all_pairs("country-capital", WHOLE).pairs:
        prompts = (pair.clean, pair.corrupted)
        assert [f" {capital[p.split()[-2]]}" for p in prompts] == [pair.answer, pair.foil]


# --- search and held-out pairs share no filler --------------------------------------------------


def fillers(name: str, one: PromptPair) -> tuple[set[str], set[str]]:
    """Words of a pair that its group is about, and its other fillers, from the texts alone."""
    sides = [side.replace(",", "").split() for side in (one.clean, one.corrupted)]
    clean, _ = sides
    if name == "country-capital":
        return {side[-2] for side in sides} | {one.answer.strip(), one.foil.strip()}, set()
    if name == "gender":
        return {side[1] for side in sides}, {clean[-1]}
    if name == "greater-than":
        return {clean[6][2:], one.answer.strip(), one.foil.strip()}, {clean[1]}
    return {side[i] for side in sides for i in (1, 3, 8)}, {clean[7], clean[11]}


@pytest.mark.parametrize("model", [WHOLE, SOME])
@pytest.mark.parametrize("name", TEMPLATES)
def test_search_and_held_out_pairs_share_no_filler(name: str, model: str) -> None:
    made = all_pairs(name, model)
    behavior = built_in(name, len(made.pairs), model)
    assert behavior.clusters == made.clusters
    sides: tuple[set[str], set[str]] = (set(), set())
    groups: dict[str, set[int]] = {}
    for one, number, held in zip(made.pairs, made.clusters, behavior.held_out, strict=True):
        about, others = fillers(name, one)
        sides[held].update(about, others)
        for word in about if name != "greater-than" else ():
            groups.setdefault(word, set()).add(number)
    assert sum(behavior.held_out) == len(made.pairs) // 2
    assert min(len(side) for side in sides) > 10
    assert not sides[0] & sides[1]
    # A word occurs in one group only; a year is also its neighbours' answer, ten years away.
    assert all(len(numbers) == 1 for numbers in groups.values())
    # The control: any other halves, of the same pairs.
    again: tuple[set[str], set[str]] = (set(), set())
    for i, one in enumerate(made.pairs):
        again[i // 2 % 2].update(*fillers(name, one))
    assert again[0] & again[1]
    assert from_pairs(model, made.pairs).clusters == ()


def covers(name: str, n: int, trials: int = 300, *, counted: str = "groups") -> float:
    """Share of held-out intervals that hold the mean effect of all words that there could be.

    Every word has an effect of its own (standard deviation 0.3) and every pair noise (0.1). The
    words are drawn anew in each trial, as if the template had had others.
    """
    behavior = built_in(name, n, WHOLE)
    kept = np.flatnonzero(behavior.held_out)
    pairs = [all_pairs(name, WHOLE).pairs[i] for i in kept]
    about = [
        sorted(fillers(name, one)[0] if name != "greater-than" else {year(one)}) for one in pairs
    ]
    every = sorted({word for of in about for word in of})
    mixing = np.array([[(word in of) / len(of) for word in every] for of in about])
    groups = [behavior.clusters[i] for i in kept] if counted == "groups" else ()
    rng, gap, hits = np.random.default_rng(7), np.full(len(kept), 3.0), 0
    for trial in range(trials):
        share = 0.6 + mixing @ rng.normal(0, 0.3, len(every)) + rng.normal(0, 0.1, len(kept))
        again = np.random.default_rng(trial)
        _, found = effects.one_effect(
            share * gap, gap, 0 * gap, "denoising", again, clusters=groups
        )
        assert isinstance(found, Interval)
        hits += found.low <= 0.6 <= found.high
    return hits / trials


def year(one: PromptPair) -> str:
    return one.clean.split()[6][2:]


@pytest.mark.parametrize(
    ("name", "n"),
    [("country-capital", 20), ("country-capital", 100), ("country-capital", 240)]
    + [(name, MOST) for name in TEMPLATES if name != "country-capital"],
)
def test_held_out_intervals_cover_new_words(name: str, n: int) -> None:
    assert 0.90 <= covers(name, n) <= 0.99
    if n > 100:  # the control: pairs that count as independent
        assert covers(name, n, 20, counted="pairs") < 0.85


def test_a_behavior_without_groups_has_the_hash_that_it_always_had() -> None:
    plain = built_in("induction-first-cue", 5, LETTERS)
    assert plain.clusters == ()
    assert b"clusters" not in plain.canonical
    assert Behavior.from_json(plain.canonical) == plain
    grouped = built_in("gender", 5, WHOLE)
    assert b"clusters" in grouped.canonical
    assert Behavior.from_json(grouped.canonical) == grouped


def test_no_string_of_exchanges_comes_twice() -> None:
    pairs = all_pairs("paren-exchanges", "paren-balancer").pairs
    assert balance.exchanges(300) == list(pairs[:300])
    assert len({text for pair in pairs for text in (pair.clean, pair.corrupted)}) == 2 * len(pairs)
    for pair in pairs:
        assert parens.is_balanced(pair.clean)
        assert parens.equal_counts(pair.corrupted)
        assert not parens.is_balanced(pair.corrupted)
    # The control: near misses keep corrupted strings that come again.
    misses = all_pairs("paren-near-misses", "paren-balancer").pairs
    assert len({pair.corrupted for pair in misses}) < len(misses)
    behavior = built_in("paren-exchanges", len(pairs), "paren-balancer")
    for _, values in behavior.features:
        for half in (False, True):
            at = [v for v, held in zip(values, behavior.held_out, strict=True) if held == half]
            assert len(set(at)) > 1


def test_word_lists_have_no_word_twice() -> None:
    for group in (words.NAMES, words.PLACES, words.OBJECTS, words.BUILDINGS, words.EVENTS):
        assert len(set(group)) == len(group)
    assert len(dict(words.CAPITALS)) == len(words.CAPITALS)
    assert len({city for _, city in words.CAPITALS}) == len(words.CAPITALS)
    for name in ("{a}", "{b}", "{s}", "{place}", "{thing}"):
        assert all(name in template for template in ioi.TEMPLATES)


@lru_cache(maxsize=1)
def _random(info: ModelInfo) -> LoadedModel:
    import torch

    shape = {
        name: getattr(info, name)
        for name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab")
    }
    norm = {"normalization_type": "LN", "act_fn": "gelu_new", "init_weights": False}
    hooked = build({**shape, **norm})
    generator = torch.Generator().manual_seed(0)
    for weight in hooked.parameters():
        weight.data = 0.5 * torch.randn(weight.shape, generator=generator)
    hooked.eval().requires_grad_(False)
    return LoadedModel(info, hooked, torch.device("cpu"), torch.float32)


def test_a_template_is_patched_through_the_whole_analysis(infos: Made) -> None:
    """A map by position, which takes pairs of one length, over names that this model knows."""
    fields = {"model": SOME, "behavior": "ioi", "n_pairs": 12, "site": "z_pos", "metric": "kl"}
    spec = parse({"kind": ANALYSIS.kind, **fields})
    context = Context(
        ANALYSIS.inputs(spec), np.random.default_rng(0), lambda name: _random(infos[name])
    )
    *_, last = ANALYSIS.run(spec, context)
    result = last.result
    assert result.effect.shape == (2, 15)
    # The text begins with a special token: the subject's second mention is the tenth token.
    assert result.cols[10].startswith("*")
    assert result.inert[:, :10].all()
    assert not result.inert[:, 14].any()
    assert "ioi" in ANALYSIS.question(spec)
    assert result.clusters == built_in("ioi", 12, SOME).clusters
    spread = result.best.interval
    assert isinstance(spread, Interval)
    groups = len({n for n in result.clusters if n % 2})
    assert spread.method == (
        f"bootstrap over the {groups} groups of words in the 6 held-out pairs: for new groups, not "
        "new sentences"
    )
    assert f"{len(set(result.clusters))} groups of words in 12 pairs" in (
        ANALYSIS.figures(result)[0].caption
    )


# --- pairs that were typed ----------------------------------------------------------------------


def pair(clean: str, corrupted: str, answer: str = " Mary", foil: str = " John") -> PromptPair:
    return PromptPair(clean, corrupted, answer, foil)


LONG = pair("When Mary left the park,", "When Margaret left the park,")
GOOD = pair("When Mary left the school,", "When John left the school,")


def test_one_pair_that_does_not_line_up_names_the_word() -> None:
    assert refused(lambda: from_pairs(SOME, [LONG])) == (
        "A pair must line up token by token. Clean 'When Mary left the park,' has 7 tokens, "
        "corrupted 'When Margaret left the park,' has 12. Use words of equally many tokens: "
        "' Mary' is 1 token, ' Margaret' 6."
    )
    from_pairs(WHOLE, [LONG])  # the control: whole in the other tokenizer


def test_of_many_pairs_five_are_listed_and_none_is_dropped() -> None:
    off = [replace_place(LONG, place) for place in words.PLACES[:7]]
    listed = "; ".join(
        f"pair {i} has 7 and 12 tokens, different from position 2 on ('<|endoftext|>|When| Mary| "
        "left| the' against '<|endoftext|>|When| Mar|g|a'; ' Mary' is 1 token, ' Margaret' 6)"
        for i in range(1, 6)
    )
    assert refused(lambda: from_pairs(SOME, [GOOD, *off])) == (
        "All pairs must line up token by token. 7 of 8 do not line up (pairs and positions count "
        f"from 0): {listed}; and 2 more. Use words of equally many tokens in these pairs, or "
        "remove the pairs."
    )
    with pytest.raises(UnequalPair):
        from_pairs(SOME, [GOOD, off[0]])
    assert len(from_pairs(SOME, [GOOD, replace_place(GOOD, "park")])) == 2  # the control


def replace_place(one: PromptPair, place: str) -> PromptPair:
    end = f"the {place},"
    return pair(*(text.rsplit("the", 1)[0] + end for text in (one.clean, one.corrupted)))


def test_report_says_which_and_how_many() -> None:
    assert str(alignment.report(SOME, [GOOD])) == "The pair lines up."
    assert str(alignment.report(SOME, [GOOD, GOOD])) == "All 2 pairs line up."
    found = alignment.report(SOME, [GOOD, LONG])
    (off,) = found.off
    assert (off.index, off.lengths, off.first) == (1, (7, 12), 2)
    assert off.around == ("<|endoftext|>|When| Mary| left| the", "<|endoftext|>|When| Mar|g|a")
    assert off.cause == "' Mary' is 1 token, ' Margaret' 6"


@pytest.mark.parametrize(
    ("clean", "corrupted"),
    [
        ("When Mary left", "When Margaret and Karen left"),  # words more, so none is the cause
        ("When Margaret saw Mary", "When Mary saw Karen"),  # two words
        ("Mary", "Margaret"),  # nothing but the word
    ],
)
def test_no_single_word_is_blamed_where_there_is_none(clean: str, corrupted: str) -> None:
    assert alignment.report(SOME, [pair(clean, corrupted)]).off[0].cause == ""


def columns(
    clean: str, corrupted: str, model: ModelInfo
) -> list[tuple[str | None, str | None, str]]:
    sides = [tokens.encode(model, text) for text in (clean, corrupted)]
    return [(c.clean, c.corrupted, c.mark) for c in alignment.align(*sides)]


def test_a_word_of_more_tokens_does_not_shift_what_follows(infos: Made) -> None:
    assert columns("So Mary left", "So Margaret left", infos[SOME])[3:] == [
        (" Mary", " Mar", "differs"),
        (None, "g", "missing"),
        (None, "a", "missing"),
        (None, "r", "missing"),
        (None, "e", "missing"),
        (None, "t", "missing"),
        (" left", " left", "same"),
    ]
    assert columns("ab", "ab", catalogue.info(LETTERS)) == [
        ("[BOS]", "[BOS]", "same"),
        ("a", "a", "same"),
        ("b", "b", "same"),
    ]
    assert columns("abcd", "abd", catalogue.info(LETTERS))[1:] == [
        ("a", "a", "same"),
        ("b", "b", "same"),
        ("c", None, "missing"),
        ("d", "d", "same"),
    ]


def test_equal_lengths_are_compared_position_by_position() -> None:
    """Also where another alignment would have more in common: a patch knows positions only."""
    letters = catalogue.info(LETTERS)
    assert [mark for *_, mark in columns("abc", "bcd", letters)] == ["same", *["differs"] * 3]


def test_what_is_wrong_with_one_of_many_pairs_says_which() -> None:
    cases = {
        "Pair 1 (counted from 0): The clean prompt is empty.": (pair("", "a"), BadInput),
        "Pair 1 (counted from 0): The prompt has '7' at character 0.": (
            pair("7", "a"),
            UnknownToken,
        ),
        "Pair 1 (counted from 0): Answer and foil are both 'b'.": (
            pair("a", "b", "b", "b"),
            BadInput,
        ),
        "Pair 1 (counted from 0): Clean and corrupted must differ.": (
            pair("a", "a", "b", "c"),
            UnequalPair,
        ),
        "Pair 1 (counted from 0): The answer 'xyz' was asked for.": (
            pair("a", "b", "xyz", "c"),
            UnknownToken,
        ),
    }
    first = pair("kmabcda", "kmebcda", "b", "d")
    for said, (wrong, error) in cases.items():
        with pytest.raises(error) as raised:
            from_pairs(LETTERS, [first, wrong])
        assert raised.value.asked == said
        with pytest.raises(error) as alone:
            from_pairs(LETTERS, [wrong])
        assert not alone.value.asked.startswith("Pair")


def test_a_pair_given_twice_is_refused() -> None:
    assert refused(lambda: from_pairs(SOME, [GOOD, LONG, GOOD])).startswith(
        "The pair 'When Mary left the school,', 'When John left the school,' is given twice."
    )


def test_no_message_lists_a_whole_vocabulary(infos: Made) -> None:
    assert infos[WHOLE].d_vocab > 1000
    empty = refused(lambda: from_prompt(WHOLE, ""))
    assert empty.startswith(f"The prompt is empty. {WHOLE} reads: any text, ")
    assert len(empty) < 120
    assert len(refused(lambda: from_prompt(WHOLE, "a", "Zzyzx"))) < 200
    huge = "Mary " * 2_000_000
    said = refused(lambda: from_pairs(WHOLE, [GOOD, pair(huge, huge + "s")]))
    assert said.startswith("Pair 1 (counted from 0): The prompt has 10,000,000 characters.")
    with pytest.raises(PromptTooLong):
        from_prompt(WHOLE, huge)
    assert len(refused(lambda: from_pairs(WHOLE, [pair("a", "b", huge, huge)]))) < 200

"""Attention patterns and head scores against independent computations.

A forward pass written out in numpy and float64; TransformerLens's head detector; a model whose
weights say which head does what; closed forms. Each has a broken twin that must be far off.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformer_lens import head_detector as theirs

import interp
from interp.analyses import attention as kind
from interp.figures import attention as figures
from interp.methods import attention, head_scores
from interp.methods.attention import look, score_heads
from interp.methods.head_scores import RELATIONS, SCORED, HeadScores, RandomTokens
from interp.models import catalogue
from interp.models.add import add
from interp.models.load import LoadedModel, build, load
from interp.models.tokens import encode, text_of
from tests.oracles import _formulas, _models
from tests.oracles._formulas import (
    ROUNDINGS,
    Array,
    Formula,
    gelu_new,
    rounding_of_weights,
)
from tests.unit._checkpoints import PROMPT, change, checkpoint
from tests.unit.test_tokens import metaspace, saved

KIND = "attention"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the standard deviation of what is compared
FAR = 1e3
PRECISIONS = ((torch.float32, FLOAT32), (torch.float64, FLOAT64))
PROMPTS = {"induction-handmade": "kmabcdkmabcdq", "paren-balancer": "(()())(()))()"}
NAMES = ("random GPT-2 shape", *PROMPTS)
DETECTED = ("previous_token_head", "duplicate_token_head", "induction_head")
"""Their names, in the order of ours."""

Note = Callable[..., None]
Ids = NDArray[np.int64]


def assert_close(ours: Array, other: Array, tolerance: float) -> float:
    """Compare; return the largest deviation in standard deviations of ``other``."""
    off = float(np.abs(ours - other).max() / other.std())
    assert off <= tolerance, f"off by {off:.2g}"
    return off


# --- patterns on a prompt ------------------------------------------------------------------------


def model_of(name: str, dtype: torch.dtype) -> tuple[LoadedModel, Formula, Ids]:
    """The app's model, its formulas, and one prompt."""
    if name in PROMPTS:
        model = load(name, "cpu", dtype)
        return model, _formulas.bundled(name), np.array(encode(model.info, PROMPTS[name]).ids)
    formula = Formula(_models.random_weights(), 3, causal=True, norm=True, activation=gelu_new)
    ids = np.random.default_rng(1).integers(0, _models.INFO.d_vocab, 12)
    return _models.random_model(dtype), formula, ids


def by_formula(formula: Formula, ids: Ids) -> Array:
    """Attention ``[layer, head, dest, src]``."""
    acts = formula.run(ids[None])
    return np.stack([acts[f"pattern.{layer}"][0] for layer in range(formula.n_layers)])


def exchanged(formula: Formula) -> Formula:
    """Keys for queries and queries for keys, in every layer: a mistake."""
    other = str.maketrans("QK", "KQ")
    return replace(
        formula,
        weights={
            (n.translate(other) if n[-2:] in ("_Q", "_K") else n): w
            for n, w in formula.weights.items()
        },
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_equals_the_formulas(name: str, ledger: Note) -> None:
    for dtype, tolerance in PRECISIONS:
        model, formula, ids = model_of(name, dtype)
        layers = range(model.info.n_layers)
        ours = np.stack([look(model, torch.tensor(ids), i).pattern.numpy() for i in layers])
        exact = by_formula(formula, ids)
        if dtype == torch.float32:
            moved = rounding_of_weights(formula, ids, by_formula)
            tolerance = max(tolerance, ROUNDINGS * moved / exact.std())
        deviation = assert_close(ours, exact, tolerance)
        wrong = {
            "the other mask": by_formula(replace(formula, causal=not formula.causal), ids),
            "keys for queries": by_formula(exchanged(formula), ids),
            "a layer off": np.roll(exact, 1, axis=0),
        }
        for mistake in wrong.values():
            with pytest.raises(AssertionError, match="off by"):
                assert_close(ours, mistake, FAR * tolerance)
        ledger(
            kind=KIND,
            oracle=f"patterns: numpy float64 from formulas, {name}; ours {dtype}",
            control=", ".join(wrong) + ": over 1000 tolerances off",
            deviation=deviation,
            tolerance=tolerance,
            unit="standard deviations of the pattern",
        )


def asked(model: str, prompt: str, **fields: Any) -> Any:
    """The result of the whole analysis."""
    answer = interp.run({"kind": KIND, "model": model, "prompt": prompt, **fields})
    assert answer.state == "done"
    return answer.result


@pytest.mark.parametrize("name", PROMPTS)
def test_where_heads_look_on_the_prompt_is_by_definition(name: str, ledger: Note) -> None:
    """The means by relation, recounted position by position."""
    result = asked(name, PROMPTS[name], layer=1)
    _, formula, ids = model_of(name, torch.float32)
    exact = by_formula(formula, ids)[1]
    n = len(ids)
    sources: dict[str, Callable[[int], list[int]]] = {
        "first position": lambda d: [0],
        "own position": lambda d: [d],
        "previous token": lambda d: [d - 1],
        "duplicate token": lambda d: [s for s in range(d) if ids[s] == ids[d]],
        "induction": lambda d: [s + 1 for s in range(d) if ids[s] == ids[d]],
    }
    expected, even = [], []
    for relation in RELATIONS:
        rows = [(d, found) for d in range(1, n) if (found := sources[relation](d))]
        expected.append(np.mean([exact[:, d, found].sum(-1) for d, found in rows], axis=0))
        visible = [d + 1 if formula.causal else n for d, _ in rows]
        even.append(np.mean([len(f) / v for (_, f), v in zip(rows, visible, strict=True)]))
    deviation = assert_close(result.looks.mean, np.array(expected), FLOAT32)
    assert_close(result.looks.uniform, np.array(even), FLOAT64)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(np.roll(result.looks.mean, 1, axis=0), np.array(expected), FAR * FLOAT32)
    ledger(
        kind=KIND,
        oracle=f"where heads look on a prompt: recounted from the formulas, {name}",
        control="relations exchanged",
        deviation=deviation,
        tolerance=FLOAT32,
        unit="standard deviations of the means",
    )


# --- sliding windows -----------------------------------------------------------------------------

WINDOW = 5
KINDS = ["local", "global", "local"]


def sliding_model() -> LoadedModel:
    """The random model with a window in its first and last layer; float64."""
    local = {"use_local_attn": True, "window_size": WINDOW, "attn_types": KINDS}
    info, plain = replace(_models.INFO, transformer=local), _models.random_model(torch.float64)
    names = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "act_fn")
    shape = {name: getattr(plain.hooked.cfg, name) for name in (*names, "normalization_type")}
    hooked = build({**shape, **local, "init_weights": False, "dtype": torch.float64})
    hooked.load_state_dict(plain.hooked.state_dict(), strict=False)
    hooked.eval().requires_grad_(False)
    return replace(plain, info=info, hooked=hooked)


def in_sight(layer: int, dest: int, src: int) -> bool:
    """By the definition of a window."""
    return 0 <= dest - src < (WINDOW if KINDS[layer] == "local" else 1000)


def seen_by(layer: int, n: int, window: int | None = 0) -> NDArray[np.bool_]:
    """Ours; ``window`` of None ignores the layer's."""
    size = head_scores.window(sliding_model().info, layer) if window == 0 else window
    return head_scores.visible(n, causal=True, window=size)


def test_what_is_visible_is_where_a_model_with_windows_pays_attention() -> None:
    n, model = 14, sliding_model()
    ids = torch.from_numpy(np.random.default_rng(2).integers(0, _models.INFO.d_vocab, n))
    for layer, kind_of in enumerate(KINDS):
        paid = look(model, ids, layer).pattern.numpy() > 0
        brute = [[in_sight(layer, d, s) for s in range(n)] for d in range(n)]
        for head in paid:
            np.testing.assert_array_equal(head, brute)
            np.testing.assert_array_equal(head, seen_by(layer, n))
            # The control: the window ignored.
            assert (head == seen_by(layer, n, None)).all() == (kind_of == "global")


def test_uniform_attention_knows_windows(ledger: Note) -> None:
    """A model whose queries are zero; on a prompt, and by layer on random tokens."""
    model, ids = sliding_model(), np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7])
    for block in model.hooked.blocks:
        block.attn.W_Q.zero_()
        block.attn.b_Q.zero_()
    patterns = [look(model, torch.tensor(ids), layer).pattern.numpy() for layer in range(3)]
    looks = [
        head_scores.on_prompt(pattern, tuple(ids.tolist()), seen_by(layer, len(ids)))
        for layer, pattern in enumerate(patterns)
    ]
    paid, even = np.array([x.mean[:, 0] for x in looks]), np.array([x.uniform for x in looks])
    deviation = assert_close(even, paid, FLOAT64)
    at = RELATIONS.index("previous token")
    assert [round(float(u), 3) for u in even[:, at]] == [0.237, 0.173, 0.237]
    # Of the five second copies, at 3, 8, 9, 10 and 12, those at 3, 8 and 10 have one in sight.
    assert looks[0].rows[RELATIONS.index("first position")] == WINDOW - 1
    assert looks[0].rows[RELATIONS.index("duplicate token")] == 3
    assert looks[1].rows[RELATIONS.index("duplicate token")] == 5
    ignored = head_scores.on_prompt(patterns[0], tuple(ids.tolist()), seen_by(0, len(ids), None))
    with pytest.raises(AssertionError, match="off by"):  # the control
        assert_close(ignored.uniform, paid[0], FAR * FLOAT64)
    scored = last_state(model, random_tokens(2, length=4))
    means = scored.values.mean((1, 3))
    deviation = max(deviation, assert_close(scored.uniform, means, FLOAT64))
    with pytest.raises(AssertionError, match="off by"):  # the control: every layer sees all
        assert_close(scored.uniform[:, [1, 1, 1]], means, FAR * FLOAT64)
    assert np.abs(scored.above_uniform("induction")).max() < FLOAT64
    ledger(
        kind=KIND,
        oracle="uniform attention in sliding windows: a model whose queries are zero",
        control="windows ignored",
        deviation=deviation,
        tolerance=FLOAT64,
        unit="standard deviations of the values",
    )


def test_what_is_outside_a_window_is_grey_and_said(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "sliding", "llama")
    change(folder / "config.json", model_type="mistral", sliding_window=WINDOW)
    result = asked(add(str(folder)).name, PROMPT)
    n = len(result.tokens)
    brute = np.array([[in_sight(0, d, s) for s in range(n)] for d in range(n)])
    assert n > 2 * WINDOW
    for drawn in [f.figure.data[0] for f in kind.ANALYSIS.figures(result)[:2]]:
        np.testing.assert_array_equal(~np.isnan(np.asarray(drawn.z)), brute)
    assert "a window of 5" in kind.ANALYSIS.figures(result)[0].caption
    plain = asked(add(str(checkpoint(tmp_path / "plain", "llama"))).name, PROMPT)
    assert "window" not in kind.ANALYSIS.figures(plain)[0].caption
    assert not np.isnan(np.tril(plain.visible(0))).any()


# --- scores of heads -----------------------------------------------------------------------------


def random_tokens(n: int, length: int = 15) -> RandomTokens:
    """Sequences for the random model, which has no tokenizer: token 0 first, then a repeat."""
    rng = np.random.default_rng(3)
    halves = [rng.choice(np.arange(1, _models.INFO.d_vocab), length, False) for _ in range(n)]
    rows = np.array([[0, *half, *half] for half in halves])
    other = np.array([[0, *half, *half[head_scores._order(rng, length)]] for half in halves])
    return RandomTokens(rows, other, length)


def last_state(model: LoadedModel, drawn: RandomTokens) -> HeadScores:
    """Score to the end."""
    *_, last = score_heads(model, drawn)
    return last


def detected(model: LoadedModel, ids: Ids, name: str, measure: str = "mul") -> Array:
    """What TransformerLens's detector says of every head ``[sequence, layer, head]``.

    It reads text; here it is given token ids, by a stand-in for its model's tokenizer.
    """
    cfg = copy.copy(model.hooked.cfg)
    cfg.dtype = model.dtype
    found = []
    for row in torch.from_numpy(ids):
        stand_in = SimpleNamespace(
            cfg=cfg,
            to_tokens=lambda _, row=row: row[None],
            run_with_cache=model.hooked.run_with_cache,
        )
        with torch.no_grad():
            options = {"exclude_bos": False, "exclude_current_token": False}
            scores = theirs.detect_head(stand_in, "", name, error_measure=measure, **options)
        found.append(scores.double().numpy())
    return np.stack(found)


def all_detected(model: LoadedModel, ids: Ids, measure: str = "mul") -> Array:
    return np.stack([detected(model, ids, name, measure) for name in DETECTED])


def share(ids: Ids) -> Array:
    """The share of destinations that have a source, by score: by what theirs differs from ours."""
    masks = head_scores.relations(ids[0])[-len(SCORED) :]
    return (head_scores.n_rows(masks) / ids.shape[1])[:, None, None, None]


def sequences_of(name: str, dtype: torch.dtype) -> tuple[LoadedModel, RandomTokens]:
    if name in PROMPTS:
        model = load(name, "cpu", dtype)
        return model, head_scores.draw(model.info, np.random.default_rng(0), 4)
    return _models.random_model(dtype), random_tokens(4)


def shifted_relations(drawn: RandomTokens) -> NDArray[np.bool_]:
    """A mistake: every source one to the right."""
    return np.roll(head_scores.scored_relations(drawn), 1, axis=2)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "paren-balancer"])
def test_scores_equal_the_head_detector_of_transformer_lens(
    name: str, ledger: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs, measure "mul" and nothing excluded, is ours times the share of rows with a source."""
    for dtype, tolerance in PRECISIONS:
        model, drawn = sequences_of(name, dtype)
        other = all_detected(model, drawn.repeated)
        ours = last_state(model, drawn).values * share(drawn.repeated)
        deviation = assert_close(ours, other, tolerance)
        with monkeypatch.context() as patch:
            patch.setattr(attention, "scored_relations", shifted_relations)
            shifted = last_state(model, drawn).values * share(drawn.repeated)
        with pytest.raises(AssertionError, match="off by"):
            assert_close(shifted, other, FAR * tolerance)
        ledger(
            kind=KIND,
            oracle=f"head scores: transformer_lens.head_detector, {name}; ours {dtype}",
            control="diagonals one source to the right",
            deviation=deviation,
            tolerance=tolerance,
            unit="standard deviations of the scores",
        )


def test_their_other_measure_follows_from_ours() -> None:
    """ "abs" is the share times (2 score - 1), which they round to three decimals."""
    model, drawn = sequences_of("induction-handmade", torch.float64)
    rows = share(drawn.repeated)
    ours = rows * (2 * last_state(model, drawn).values - 1)
    np.testing.assert_allclose(ours, all_detected(model, drawn.repeated, "abs"), atol=6e-4)
    assert np.abs(rows * ours - all_detected(model, drawn.repeated, "abs")).max() > 0.1


@pytest.mark.parametrize("length", [1, 2, 9])
def test_relations_equal_their_detection_patterns(length: int) -> None:
    """Also where tokens occur many times, or next to their copy."""
    rng = np.random.default_rng(length)
    for _ in range(20):
        ids = rng.integers(0, 4, length)
        ours = head_scores.relations(ids)[-len(SCORED) :].astype(float)
        for mask, name in zip(ours, DETECTED, strict=True):
            get = getattr(theirs, f"get_{name}_detection_pattern")
            np.testing.assert_array_equal(mask, get(torch.from_numpy(ids)[None]).numpy())


def test_uniform_is_what_a_head_without_queries_scores(ledger: Note) -> None:
    model, drawn = sequences_of("random GPT-2 shape", torch.float64)
    blind = replace(model, hooked=copy.deepcopy(model.hooked))
    for block in blind.hooked.blocks:
        block.attn.W_Q.zero_()
        block.attn.b_Q.zero_()
    masks = head_scores.scored_relations(drawn)
    n_pos = drawn.repeated.shape[1]
    seen, all_seen = (head_scores.visible(n_pos, causal=c, window=None) for c in (True, False))
    even = head_scores.uniform(masks, seen)
    scored = last_state(blind, drawn)
    for values in (scored.values, scored.control):
        deviation = assert_close(values.mean((1, 2, 3)), even, FLOAT64)
        assert values.std((1, 2, 3)).max() < FLOAT64
    both_ways = head_scores.uniform(masks, all_seen)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(scored.values.mean((1, 2, 3)), both_ways, FAR * FLOAT64)
    ledger(
        kind=KIND,
        oracle="uniform attention: a model whose queries are zero",
        control="uniform attention of a model that sees both ways",
        deviation=deviation,
        tolerance=FLOAT64,
        unit="standard deviations of the three values",
    )


def test_shuffled_halves_leave_nothing_where_the_copies_were() -> None:
    """The same tokens; no copy, and nothing after a copy, in the place where the repeat has it."""
    info = catalogue.info("induction-handmade")
    drawn = head_scores.draw(info, np.random.default_rng(1), 30)
    same = head_scores.relations(drawn.repeated[0])[-2:]
    for repeated, shuffled in zip(drawn.repeated, drawn.shuffled, strict=True):
        np.testing.assert_array_equal(head_scores.relations(repeated)[-2:], same)
        assert sorted(repeated) == sorted(shuffled)
        other = head_scores.relations(shuffled)[-2:]
        assert not (same.any(0) & other.any(0)).any()
        assert other.any(-1).sum() == same.any(-1).sum() == 2 * drawn.length
        half = repeated[1 : 1 + drawn.length]
        assert len(set(half)) == drawn.length
        assert 0 not in half  # no special token


def test_the_hand_made_heads_are_found(ledger: Note) -> None:
    """The card says which head does what; the scores must say the same, the shuffled half not."""
    prose = catalogue.card("induction-handmade").prose
    result = asked("induction-handmade", "kmabcda", layer=1)
    worst = 0.0
    for score in ("previous token", "induction"):
        (said,) = re.findall(rf"\* \*\*(L\dH\d), {score}\.\*\*", prose)
        values = result.scores.mean(score)
        best = np.unravel_index(int(values.argmax()), values.shape)
        assert "L{}H{}".format(*best) == said
        worst = max(worst, 1 - float(values[best]))
        assert np.delete(values.ravel(), int(values.argmax())).max() < 0.2
    assert result.scores.mean("duplicate token").max() < 0.1  # it has no such head
    assert worst < FLOAT32
    assert result.scores.mean("induction", control=True).max() < 0.1  # the control
    ledger(
        kind=KIND,
        oracle="the hand-made model's previous-token head and induction head, by its card",
        control="second half shuffled: no head scores above 0.1",
        deviation=worst,
        tolerance=FLOAT32,
        unit="attention",
    )


def test_a_head_that_was_chosen_is_scored_on_other_sequences() -> None:
    """The follow-up draws anew; with its seed unchanged it would score what chose the head."""
    spec = kind.Attention(seed=2**31 - 1)
    result = asked("induction-handmade", spec.prompt, seed=spec.seed)
    up = kind.ANALYSIS.follow_ups(spec, result)[0]
    assert up.label == "Show L1H0, highest induction score; score it on fresh sequences"
    assert {**up.fields, "layer": 0, "seed": spec.seed} == spec.model_dump()
    again = kind.Attention.model_validate(up.fields)
    assert again.seed == 0
    drawn = [asked(s.model, s.prompt, seed=s.seed).scores.tokens for s in (spec, again, spec)]
    assert (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(drawn[0], drawn[2])  # the control: the same seed


@pytest.mark.parametrize("prefix", ["normalizer", "pre", "none"])
def test_tokens_of_single_bytes_are_not_drawn(tmp_path: Path, prefix: str) -> None:
    tokenizer = metaspace(prefix=prefix)
    model = saved(tmp_path / "m", tokenizer)
    spelled = {i: token for token, i in tokenizer.get_vocab().items()}
    bytes_ = {i for i, token in spelled.items() if re.fullmatch("<0x..>", token)}
    assert len(bytes_) == 256
    ordinary = set(head_scores.alphabet(model).ordinary)
    assert ordinary == set(spelled) - bytes_ - {0, 1, 2}
    # The control: by how they are shown, they cannot be told from ordinary tokens.
    texts = text_of(model, tuple(sorted(bytes_)))
    assert not any(head_scores._bracketed(text) for text in texts)


def test_the_sentence_claims_no_more_than_what_stands_out() -> None:
    """By what is above uniform attention: another place may well get more attention."""
    result = asked("induction-handmade", "kmabcdkmabcd", layer=1)
    mean = np.array([[0.5], [0.1], [0.1], [0.4], [0.1]])
    uniform = np.array([0.45, 0.1, 0.1, 0.05, 0.1])
    looks = replace(result.looks, mean=np.repeat(mean, 2, 1), uniform=uniform)
    said = kind.ANALYSIS.verdict(replace(result, looks=looks))
    assert "stands out most from uniform attention at earlier copies of its token: 0.40" in said
    assert "looks most" not in said


def test_too_few_tokens_give_a_reason_instead_of_a_score() -> None:
    result = asked("paren-balancer", "(())", layer=1)
    assert "its vocabulary has 2" in result.absent
    assert result.scores is None
    assert not kind.ANALYSIS.scores(result)
    assert result.absent in kind.ANALYSIS.verdict(result)
    assert [f.name for f in kind.ANALYSIS.figures(result)] == ["pattern", "heads"]
    assert not asked("induction-handmade", "abc").absent


# --- what is drawn -------------------------------------------------------------------------------


def test_masked_cells_are_empty_only_where_the_model_masks() -> None:
    causal, both = asked("induction-handmade", "abcab"), asked("paren-balancer", "(()())")
    later = np.triu(np.ones((6, 6), bool), 1)
    np.testing.assert_array_equal(np.isnan(causal.visible(0)), later)
    assert not np.isnan(both.visible(1)).any()
    maps = [f.figure.data[0] for f in kind.ANALYSIS.figures(causal)[:2]]
    for drawn in maps:
        np.testing.assert_array_equal(np.isnan(np.asarray(drawn.z)), later)
    header, *rows = kind.ANALYSIS.figures(causal)[1].csv.splitlines()
    assert header == "map,row,column,attention"
    assert len(rows) == 2 * 6 * 6
    assert "H1,a 1,b 2," in rows  # masked: empty, not 0


def test_a_long_prompt_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = asked("induction-handmade", "kmabcdkmabcd", layer=1)
    monkeypatch.setattr(kind, "MOST_POSITIONS", 5)
    cut = asked("induction-handmade", "kmabcdkmabcd", layer=1, seed=1)
    np.testing.assert_array_equal(cut.pattern, whole.pattern[:, -5:, -5:])
    np.testing.assert_array_equal(cut.looks.mean, whole.looks.mean)  # of the whole prompt
    assert (cut.first, cut.n_tokens, cut.tokens) == (8, 13, whole.tokens[-5:])
    outside = whole.pattern[0, -5:, :8].sum(-1)
    np.testing.assert_allclose(kind._outside(cut), outside, atol=1e-6)
    for said in (kind.ANALYSIS.figures(cut)[0].caption, kind.ANALYSIS.verdict(cut)):
        assert f"{outside.mean():.2f} of the attention" in said
        assert "13 positions" in said
        assert said != kind.ANALYSIS.figures(whole)[0].caption
    assert "not drawn" not in kind.ANALYSIS.verdict(whole)


@pytest.mark.parametrize(("n", "size"), [(7, 1), (7, 2), (12, 5), (3, 4)])
def test_pooled_thumbnails_keep_the_attention_of_each_block(n: int, size: int) -> None:
    pattern = np.tril(np.random.default_rng(n).random((n, n)))
    pattern /= pattern.sum(-1, keepdims=True)
    masked = np.where(np.triu(np.ones((n, n), bool), 1), np.nan, pattern)
    pooled = figures.in_blocks(masked, size)
    blocks = -(-n // size)
    np.testing.assert_array_equal(np.isnan(pooled), np.triu(np.ones((blocks, blocks), bool), 1))
    np.testing.assert_allclose(np.nansum(pooled, -1), 1)  # rows still sum to 1
    first = pattern[:size, :size].sum(-1).mean()
    np.testing.assert_allclose(pooled[0, 0], first)
    assert figures.block_size(12, 100) == 4
    assert 12 * (100 / 4) ** 2 <= figures.MOST_CELLS < 12 * (100 / 3) ** 2

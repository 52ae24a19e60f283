"""Direct logit attribution against numpy formulas, TransformerLens, ablation and the sum itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import interp
from interp import analyses
from interp.engine import Written, output_weights, written
from interp.methods import attribution
from interp.methods.attribution import Attribution, attribute
from interp.models.load import LoadedModel, build, load
from interp.models.tokens import encode
from tests.oracles import _formulas, _models
from tests.oracles._formulas import Array, Formula, gelu_new

KIND = "direct_logit_attribution"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of the logits' standard deviation
FAR = 100
READS = (11, 4)

PROMPTS = {"induction-handmade": "kmabcdefgha", "paren-balancer": "(()())(())))"}
Note = Callable[..., None]
Change = Callable[[Written], Written]

# --- models of every shape -----------------------------------------------------------------------

BASE = {
    "n_layers": 3,
    "n_heads": 4,
    "d_model": 64,
    "d_head": 16,
    "d_mlp": 128,
    "n_ctx": 32,
    "d_vocab": 97,
    "act_fn": "gelu_new",
    "normalization_type": "LN",
    "init_weights": False,
}
ROTARY = {"positional_embedding_type": "rotary", "rotary_dim": 16}
RMS = {"normalization_type": "RMS", **ROTARY}
SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2": {},
    "folded LayerNorm": {"normalization_type": "LNPre"},
    "folded RMSNorm": {"normalization_type": "RMSPre"},
    "LayerNorm, RMS at the end": {"final_rms": True},
    "no norm": {"normalization_type": None},
    "attention only": {"attn_only": True},
    "both directions, classes": {"attention_dir": "bidirectional", "d_vocab_out": 5},
    "Llama": {**RMS, "gated_mlp": True, "act_fn": "silu", "n_key_value_heads": 2},
    "Gemma 2": {
        **RMS,
        "gated_mlp": True,
        "n_key_value_heads": 2,
        "use_normalization_before_and_after": True,
        "output_logits_soft_cap": 3.0,
        "attn_scores_soft_cap": 5.0,
        "use_local_attn": True,
        "attn_types": ["global", "local", "global"],
        "window_size": 4,
    },
    "OLMo 2": {**RMS, "gated_mlp": True, "original_architecture": "Olmo2ForCausalLM"},
    "GPT-NeoX": {**ROTARY, "rotary_dim": 4, "parallel_attn_mlp": True},
    "Bloom": {"positional_embedding_type": "alibi", "post_embedding_ln": True},
    "shortformer": {"positional_embedding_type": "shortformer"},
    "attention sinks": {**RMS, "use_attention_sinks": True},
}
AFTER = ("Gemma 2", "OLMo 2")  # their attention passes a norm before it joins the stream


@lru_cache
def shaped(name: str, dtype: torch.dtype) -> LoadedModel:
    """A random model; gains differ from 1 and biases from 0, for those would hide a mistake."""
    config = {**BASE, **SHAPES[name]}
    hooked = build(config)
    rng = np.random.default_rng(3)
    for at, weight in hooked.named_parameters():
        last = at.split(".")[-1]
        drawn = torch.from_numpy(rng.normal(0, 1, tuple(weight.shape)))
        scale = 1.0 if last in ("W_E", "W_pos") else 1.3 / BASE["d_model"] ** 0.5  # type: ignore[operator]
        if last == "w":
            weight.data = 1 + 0.2 * drawn
        else:
            weight.data = drawn * (0.2 if last.lstrip("_")[0] == "b" else scale)
    hooked.to(dtype, print_details=False)
    hooked.eval().requires_grad_(False)
    info = replace(
        _models.INFO,
        d_mlp=None if config.get("attn_only") else 128,
        d_out=config.get("d_vocab_out", 97),
        causal=config.get("attention_dir") != "bidirectional",
        n_key_value_heads=config.get("n_key_value_heads", 4),
        parallel=bool(config.get("parallel_attn_mlp")),
    )
    return LoadedModel(info, hooked, torch.device("cpu"), dtype)


def some_ids(seed: int = 1, n: int = 12) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 97, n))


def total(found: Attribution) -> float:
    """The sum of all terms."""
    loose = (found.embed, found.pos_embed or 0.0, found.norm_bias, found.unembed_bias)
    arrays = (found.heads, found.attn_bias, *(() if found.mlp is None else (found.mlp,)))
    return float(sum(loose) + sum(array.sum() for array in arrays))


# --- 1. the sum ----------------------------------------------------------------------------------


def without_output_bias(model: LoadedModel, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    w_o, b_o = output_weights(model, layer)
    return w_o, torch.zeros_like(b_o)


def mistakes(model: LoadedModel, ids: torch.Tensor) -> dict[str, Change]:
    """Wrong ways to read a run, where the model is such that they are wrong."""
    config, found = model.hooked.cfg, written(model, ids, READS[0])
    wrong: dict[str, Change] = {}
    if config.normalization_type is not None:
        _, cache = model.hooked.run_with_cache(ids[None], names_filter="blocks.2.ln1.hook_scale")
        early = float(cache["blocks.2.ln1.hook_scale"][0, READS[0]])
        wrong["the scale of an earlier layer"] = lambda run: replace(
            run, final=replace(run.final, scale=early)
        )
    if found.final.centred:
        wrong["not centred"] = lambda run: replace(run, final=replace(run.final, centred=False))
    if found.final.bias.any():
        wrong["no bias of the final norm"] = lambda run: replace(
            run, final=replace(run.final, bias=torch.zeros_like(run.final.bias))
        )
    if found.attn_norms is not None:
        wrong["no norm after attention"] = lambda run: replace(run, attn_norms=None)
    return wrong


@lru_cache
@torch.no_grad()
def own_logits(
    model: LoadedModel, ids: tuple[int, ...], read: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of one plain run of the library's model, before and after the cap."""
    out, cache = model.hooked.run_with_cache(
        torch.tensor(ids)[None], names_filter="unembed.hook_out"
    )
    return cache["unembed.hook_out"][0, read].double(), out[0, read].double()


def assert_adds_up(model: LoadedModel, ids: torch.Tensor, tolerance: float) -> float:
    """The terms add up to the model's own difference, wherever read; return what is missing."""
    offs: list[float] = []
    for read in READS:
        own, _ = own_logits(model, tuple(ids.tolist()), read)
        for pair in ((1, 3), (4, 2)):
            missing = total(attribute(model, ids, read, pair)) - float(own[pair[0]] - own[pair[1]])
            offs.append(abs(missing) / float(own.std()))
    assert max(offs) <= tolerance, f"off by {max(offs):.2g}"
    return max(offs)


@pytest.mark.parametrize("name", SHAPES)
def test_terms_add_up_to_the_models_own_difference(name: str, ledger: Note) -> None:
    ids, off = some_ids(), {}
    for dtype, tolerance in TOLERANCE.items():
        model = shaped(name, dtype)
        off[dtype] = assert_adds_up(model, ids, tolerance)
        wrong = mistakes(model, ids)
        assert ("no norm after attention" in wrong) == (name in AFTER)
        for mistake in wrong.values():
            with patch.object(attribution, "written", lambda *a, m=mistake: m(written(*a))):
                with pytest.raises(AssertionError, match="off by"):
                    assert_adds_up(model, ids, FAR * tolerance)
        with patch.object(attribution, "output_weights", without_output_bias):
            with pytest.raises(AssertionError, match="off by"):
                assert_adds_up(model, ids, FAR * tolerance)
    ledger(
        kind=KIND,
        oracle=f"the model's own logit difference, {name}; float64 is off by "
        f"{off[torch.float64]:.0e}, float32 by",
        control=", ".join((*wrong, "no output bias")) + ": over 100 tolerances off",
        deviation=off[torch.float32],
        tolerance=TOLERANCE[torch.float32],
        unit="standard deviations of the logits",
    )


@pytest.mark.parametrize("name", SHAPES)
def test_logits_and_what_there_is_to_add(name: str) -> None:
    model, ids = shaped(name, torch.float64), some_ids()
    raw, capped = own_logits(model, tuple(ids.tolist()), 4)
    found = attribute(model, ids, 4, (1, 3))
    np.testing.assert_allclose(found.logits, raw, atol=TOLERANCE[torch.float64])
    np.testing.assert_allclose(found.capped, capped, atol=TOLERANCE[torch.float64])
    assert (found.softcap > 0) == (not torch.equal(raw, capped)) == (name == "Gemma 2")
    added = model.hooked.cfg.positional_embedding_type == "standard"
    assert (found.pos_embed is not None) == added
    assert (found.mlp is not None) == (name != "attention only")


# --- 2. each term --------------------------------------------------------------------------------


def by_formula(
    formula: Formula, ids: NDArray[np.int64], read: int, pair: tuple[int, int], *, gain: bool = True
) -> dict[str, Any]:
    """Every term from numpy; without the final norm's ``gain`` they are wrong."""
    w, acts = formula.weights, formula.run(ids[None])
    direction = w["unembed.W_U"][:, pair[0]] - w["unembed.W_U"][:, pair[1]]
    end = acts[f"resid_post.{formula.n_layers - 1}"][0, read]
    scale = np.sqrt(end.var() + formula.epsilon)

    def term(vector: Array) -> Any:
        if not formula.norm:
            return vector @ direction
        centred = (vector - vector.mean(-1, keepdims=True)) / scale
        return (centred * w["ln_final.w"] if gain else centred) @ direction

    layers = range(formula.n_layers)
    results = [
        np.einsum("hd,hdm->hm", acts[f"z.{i}"][0, read], w[f"blocks.{i}.attn.W_O"]) for i in layers
    ]
    streams = [acts["resid_pre.0"], *(acts[f"resid_post.{i}"] for i in layers)]
    biases = w["unembed.b_U"][pair[0]] - w["unembed.b_U"][pair[1]]
    norm_bias = w["ln_final.b"] @ direction if formula.norm else 0.0
    return {
        "embed": term(w["embed.W_E"][ids[read]]),
        "pos_embed": term(w["pos_embed.W_pos"][read]),
        "heads": np.stack([term(result) for result in results]),
        "attn_bias": np.stack([term(w[f"blocks.{i}.attn.b_O"]) for i in layers]),
        "mlp": None
        if formula.activation is None
        else np.stack([term(acts[f"mlp_out.{i}"][0, read]) for i in layers]),
        "norm_bias": norm_bias,
        "unembed_bias": biases,
        "accumulated": np.array([term(s[0, read]) for s in streams]) + norm_bias + biases,
    }


def formula_models(dtype: torch.dtype) -> dict[str, tuple[LoadedModel, Formula, NDArray[np.int64]]]:
    """Models whose formulas are written out, and a prompt of each."""
    random = Formula(_models.random_weights(), 3, causal=True, norm=True, activation=gelu_new)
    found = {"random GPT-2 shape": (_models.random_model(dtype), random, some_ids().numpy())}
    for name, text in PROMPTS.items():
        model = load(name, "cpu", dtype)
        found[name] = (model, _formulas.bundled(name), np.array(encode(model.info, text).ids))
    return found


def assert_same_terms(found: Attribution, expected: dict[str, Any], tolerance: float) -> float:
    """Compare every term; return the largest deviation in the logits' standard deviation."""
    spread, off = float(found.logits.std()), 0.0
    for name, value in expected.items():
        if name != "accumulated" and value is not None:
            off = max(off, float(np.abs(getattr(found, name) - value).max()) / spread)
    assert off <= tolerance, f"off by {off:.2g}"
    return off


@pytest.mark.parametrize("name", ["random GPT-2 shape", *PROMPTS])
def test_every_term_equals_the_formulas(name: str, ledger: Note) -> None:
    for dtype, tolerance in TOLERANCE.items():
        model, formula, ids = formula_models(dtype)[name]
        last = len(ids) - 1
        pair = (2, 1) if model.info.d_out > 2 else (1, 0)
        off = 0.0
        for read in (0, 5, last):
            found = attribute(model, torch.tensor(ids), read, pair)
            off = max(
                off, assert_same_terms(found, by_formula(formula, ids, read, pair), tolerance)
            )
        elsewhere = by_formula(formula, ids, last - 1, pair)
        ungained = by_formula(formula, ids, last, pair, gain=False)
        for wrong in (elsewhere, *([ungained] if formula.norm else [])):
            with pytest.raises(AssertionError, match="off by"):
                assert_same_terms(found, wrong, FAR * tolerance)
        ledger(
            kind=KIND,
            oracle=f"every term from numpy float64, {name}; ours {dtype}",
            control="another position; without the final norm's gain",
            deviation=off,
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


@pytest.mark.parametrize("name", ["GPT-2", "Llama"])
@torch.no_grad()
def test_heads_equal_transformer_lens(name: str, ledger: Note) -> None:
    """Its logit_attrs leaves the final norm's gain out, so it is asked of a folded copy."""
    model, ids, read = shaped(name, torch.float64), some_ids(), 7
    found = attribute(model, ids, read, (1, 3))

    def theirs(hooked: Any) -> Array:
        _, cache = hooked.run_with_cache(ids[None])
        stack = cache.stack_head_results(layer=-1, pos_slice=read)
        pair = [torch.tensor([i]) for i in (1, 3)]
        attrs = cache.logit_attrs(stack, *pair, pos_slice=read)
        return attrs.reshape(3, 4).numpy()

    folded = copy.deepcopy(model.hooked)
    # By hand: the library's own folding rounds every weight to float32.
    folded.unembed.W_U.data *= folded.ln_final.w[:, None]
    folded.ln_final.w.data.fill_(1.0)
    spread = float(found.logits.std())
    off = float(np.abs(theirs(folded) - found.heads).max()) / spread
    assert off < TOLERANCE[torch.float64]
    # The controls: their numbers on the model as it is, and ours with another foil.
    assert np.abs(theirs(model.hooked) - found.heads).max() > 1e-3 * spread
    other = attribute(model, ids, read, (1, 4)).heads
    assert np.abs(theirs(folded) - other).max() > 1e-3 * spread
    ledger(
        kind=KIND,
        oracle=f"stack_head_results and logit_attrs of TransformerLens, {name}, float64",
        control="without the final norm's gain; another foil",
        deviation=off,
        tolerance=TOLERANCE[torch.float64],
        unit="standard deviations of the logits",
    )


# --- 3. the split by source ----------------------------------------------------------------------


def assert_split_adds_up(found: Attribution, tolerance: float) -> float:
    """Each head's sources add up to the head."""
    sums = found.by_source.sum(-1).reshape(found.heads.shape)
    off = float(np.abs(sums - found.heads).max() / found.logits.std())
    assert off <= tolerance, f"off by {off:.2g}"
    return off


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sources_add_up_to_the_head(dtype: torch.dtype, ledger: Note) -> None:
    off, tolerance, ids = 0.0, TOLERANCE[dtype], some_ids()
    for name in SHAPES:
        model = shaped(name, dtype)
        found = attribute(model, ids, 7, (1, 3))
        off = max(off, assert_split_adds_up(found, tolerance))
        assert (not found.by_source[:, 8:].any()) == model.info.causal
        # The control: values of the next head, as where shared ones are dealt out wrongly.
        with patch.object(
            attribution,
            "written",
            lambda *a: replace(run := written(*a), v=run.v.roll(1, dims=2)),
        ):
            with pytest.raises(AssertionError, match="off by"):
                assert_split_adds_up(attribute(model, ids, 7, (1, 3)), FAR * tolerance)
    ledger(
        kind=KIND,
        oracle=f"a head's sources add up to the head, {len(SHAPES)} shapes, {dtype}",
        control="the values of another head",
        deviation=off,
        tolerance=tolerance,
        unit="standard deviations of the logits",
    )


def ablated(
    formula: Formula, ids: NDArray[np.int64], read: int, pair: tuple[int, int], *, freeze: bool
) -> Array:
    """What zeroing one value takes from the difference, ``[layer, head, src]``.

    The pattern stays as it is and no later component sees the change; with ``freeze`` the final
    norm's scale stays too.
    """
    w, acts = formula.weights, formula.run(ids[None])
    end = acts[f"resid_post.{formula.n_layers - 1}"][0, read]
    scale = np.sqrt(end.var() + formula.epsilon)

    def difference(stream: Array) -> float:
        by = scale if freeze else np.sqrt(stream.var() + formula.epsilon)
        normed = (stream - stream.mean()) / by * w["ln_final.w"] + w["ln_final.b"]
        logits = normed @ w["unembed.W_U"] + w["unembed.b_U"]
        return float(logits[pair[0]] - logits[pair[1]])

    heads = w["blocks.0.attn.W_O"].shape[0]
    taken = np.zeros((formula.n_layers, heads, len(ids)))
    for layer in range(formula.n_layers):
        at = f"blocks.{layer}.attn"
        normed = formula._normed(acts[f"resid_pre.{layer}"], f"blocks.{layer}.ln1")[0]
        q, k, v = (
            np.einsum("pm,hmd->phd", normed, w[f"{at}.W_{n}"]) + w[f"{at}.b_{n}"] for n in "QKV"
        )
        scores = np.einsum("hd,shd->hs", q[read], k[: read + 1]) / np.sqrt(q.shape[-1])
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        pattern = powers / powers.sum(-1, keepdims=True)
        for head in range(heads):
            for src in range(read + 1):
                moved = pattern[head, src] * v[src, head] @ w[f"{at}.W_O"][head]
                taken[layer, head, src] = difference(end) - difference(end - moved)
    return taken


def test_a_source_is_what_zeroing_its_value_takes_away(ledger: Note) -> None:
    pair, read, tolerance = (1, 3), 7, TOLERANCE[torch.float64]
    model, formula, ids = formula_models(torch.float64)["random GPT-2 shape"]
    found = attribute(model, torch.tensor(ids), read, pair)
    ours, spread = found.by_source.reshape(3, 4, -1), float(found.logits.std())
    off = float(np.abs(ours - ablated(formula, ids, read, pair, freeze=True)).max()) / spread
    assert off < tolerance
    # The control: with the scale computed anew the effect is no longer direct, and differs.
    thawed = ablated(formula, ids, read, pair, freeze=False)
    assert np.abs(ours - thawed).max() > FAR * tolerance * spread
    ledger(
        kind=KIND,
        oracle="zeroing one value in numpy, pattern and final scale frozen, float64",
        control="the final scale computed anew",
        deviation=off,
        tolerance=tolerance,
        unit="standard deviations of the logits",
    )


# --- 4. the whole kind ---------------------------------------------------------------------------


def asked(model: str, prompt: str, answer: str = "", foil: str = "") -> Any:
    fields = {"kind": KIND, "model": model, "prompt": prompt, "answer": answer, "foil": foil}
    return interp.run(fields)


def test_the_hand_made_induction_head_writes_the_answer(ledger: Note) -> None:
    """Closed form: L1H0 copies the letter after the earlier copy, 10 logits; no other writes."""
    answer = asked("induction-handmade", "kmabcda", "b", "d")
    result = answer.result
    expected = np.zeros((2, 2))
    expected[1, 0] = 10
    off = float(np.abs(result.heads - expected).max())
    sources = np.zeros(8)
    sources[4] = 10  # [BOS] k m a *b* c d a
    off = max(off, float(np.abs(result.sources(1, 0) - sources).max()))
    assert off < 1e-5
    assert abs(result.unaccounted) < 1e-5
    # The control: one position earlier, the first copy itself, is wrong.
    assert np.abs(result.sources(1, 0) - np.roll(sources, -1)).max() > 1
    assert "L1H0 +10.00" in answer.verdict
    said, (figure,) = answer.analysis.inspect(result, {"0": 1, "1": 0})
    assert "position 4 ('b')" in said
    assert figure.figure.data[0].x[4] == pytest.approx(10)
    ledger(
        kind=KIND,
        oracle="closed form of the hand-made model: L1H0 writes 10 logits from one source",
        control="the position of the first copy instead of the letter after it",
        deviation=off,
        tolerance=1e-5,
        unit="logits",
    )


@pytest.mark.parametrize("name", PROMPTS)
def test_accumulated_is_the_lens_with_the_final_scale(name: str, ledger: Note) -> None:
    result = asked(name, PROMPTS[name]).result
    model, formula, ids = formula_models(torch.float64)[name]
    outputs = model.info.answers.classes or ("[BOS]", *"abcdefghijklmnopqrstuvwxyz")
    pair = (outputs.index(result.answer), outputs.index(result.foil))
    expected = by_formula(formula, ids, result.read, pair)["accumulated"]
    off = float(np.abs(result.accumulated - expected).max()) / result.spread
    assert off < TOLERANCE[torch.float32]
    assert np.abs(result.accumulated[1:] - expected[:-1]).max() > 1e-2 * result.spread  # control
    assert result.accumulated[-1] == pytest.approx(result.total)
    ledger(
        kind=KIND,
        oracle=f"residual streams read with the final scale in numpy, {name}",
        control="a layer too early",
        deviation=off,
        tolerance=TOLERANCE[torch.float32],
        unit="standard deviations of the logits",
    )


def drawn(result: Any) -> tuple[list[str], Array]:
    """Names and lengths of the bars."""
    bars = analyses.get(KIND).figures(result)[0].figure.data[0]
    return list(bars.y), np.array(bars.x)


def test_bars_are_sorted_and_add_up_also_where_some_are_lumped() -> None:
    result = asked("paren-balancer", "(())()").result
    names, values = drawn(result)
    assert names[-1] == "not accounted for"
    assert len(set(names)) == len(names)
    assert (np.diff(np.abs(values[:-1])) <= 0).all()
    assert values.sum() == pytest.approx(result.difference)
    many = replace(result, n_heads=22, heads=np.tile(result.heads, 11) / 11)
    names, values = drawn(many)
    assert names[-2] == f"all others ({22 * 3 + 3 * 2 + 4 - 20})"
    assert len(names) == 22
    assert values.sum() == pytest.approx(result.difference)


def test_what_is_left_open_is_the_most_probable_output_that_is_left() -> None:
    own = asked("paren-balancer", "(())()").result
    assert (own.answer, own.foil) == ("balanced", "unbalanced")
    other = asked("paren-balancer", "(())()", foil="balanced").result
    assert (other.answer, other.foil) == ("unbalanced", "balanced")
    np.testing.assert_allclose(other.heads, -own.heads, atol=1e-6)
    with pytest.raises(interp.InterpError, match="both 'b'"):
        asked("induction-handmade", "kmabcda", "b", "b")
    tie = asked("induction-handmade", "kmabcda", "b")
    assert tie.result.foil_tied == 25
    assert "ties with 25 other outputs" in tie.verdict
    assert "ties" not in asked("induction-handmade", "kmabcda", "b", "d").verdict


@pytest.mark.parametrize(
    ("answer", "foil", "said"),
    [
        ("", "", "its most probable output over its most probable other output"),
        ("b", "", "'b' over its most probable other output"),
        ("", "d", "its most probable other output over 'd'"),
        ("b", "d", "'b' over 'd'"),
    ],
)
def test_the_question_says_what_is_left_open(answer: str, foil: str, said: str) -> None:
    analysis = analyses.get(KIND)
    spec = analysis.spec(prompt="kmabcda", answer=answer, foil=foil)
    assert f"directly towards {said} on 'kmabcda'?" in analysis.question(spec)


def test_what_is_missing_or_capped_is_said() -> None:
    analysis = analyses.get(KIND)
    result = asked("paren-balancer", "(())()").result
    assert "Not complete" not in analysis.verdict(result)
    short = replace(result, logit_answer=result.logit_answer + 2e-3 * result.spread)
    assert "Not complete: +0.01 logits are in no part." in analysis.verdict(short)
    assert "not complete" in analysis.figures(short)[0].title
    rounded = replace(short, dtype="bfloat16")
    assert "the rounding of bfloat16, which float32 avoids" in analysis.verdict(rounded)
    capped = replace(result, softcap=30.0, capped_answer=4.0, capped_foil=-4.5)
    assert "after it the difference is +8.50." in analysis.verdict(capped)


def test_only_the_largest_heads_are_split_where_there_are_too_many_numbers() -> None:
    with patch.object(attribution, "MOST_SPLIT", 3 * 8):
        result = asked("paren-balancer", "(())()").result
    kept = {(int(layer), int(head)) for layer, head in result.split}
    sizes = np.abs(result.heads)
    assert result.by_source.shape == (3, 8)
    assert min(sizes[place] for place in kept) >= np.sort(sizes, axis=None)[-3]
    said, figures = analyses.get(KIND).inspect(result, {"0": 0, "1": 1})
    assert "Only the 3 largest heads" in said
    assert not figures


def test_bfloat16_is_summed_exactly_from_what_was_recorded() -> None:
    """What is missing is the model's own rounding: each of its numbers has 8 bits."""
    model, ids = shaped("GPT-2", torch.bfloat16), some_ids()
    found = attribute(model, ids, 11, (1, 3))
    assert found.heads.dtype == np.float64
    missing = abs(total(found) - float(found.logits[1] - found.logits[3]))
    assert 1e-6 < missing / found.logits.std() < 2.0**-5

"""Generation: cached decoding, the distribution that is drawn from, and the draws themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import interp
from interp.engine import Decoder
from interp.errors import BadInput
from interp.methods.sampling import NONE, Drawn, Rule, continuations, distribution, draw, uniforms
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build
from tests.contract._checks import assert_same_tree
from tests.oracles import _models
from tests.oracles._models import Array
from tests.oracles.test_activation_patching import gpt2

KIND = "generate"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the logits' standard deviation
FAR = 1e3  # a broken twin is off by at least so many tolerances
N_CTX, VOCABULARY, PROMPT, STEPS = 32, 61, 9, 14
GREEDY = Rule(temperature=0.0)

Note = Callable[..., None]
SHARED = {
    "n_layers": 3, "n_heads": 4, "d_model": 32, "d_head": 8, "d_mlp": 48, "n_ctx": N_CTX,
    "d_vocab": VOCABULARY, "act_fn": "gelu_new", "normalization_type": "LN", "init_weights": False,
}  # fmt: skip
ROTARY = {"positional_embedding_type": "rotary", "rotary_adjacent_pairs": False, "rotary_dim": 8}
LLAMA = {
    **SHARED, **ROTARY, "normalization_type": "RMS", "final_rms": True, "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
WINDOW = {"use_local_attn": True, "window_size": 4, "attn_types": ["local", "global", "local"]}
SHAPES: dict[str, dict[str, Any]] = {
    "learned positions": SHARED,
    "rotary, grouped queries": LLAMA,
    "parallel, partly rotary": {**SHARED, **ROTARY, "rotary_dim": 4, "parallel_attn_mlp": True},
    "windows shorter than the prompt": {**LLAMA, **WINDOW, "rotary_base_local": 100.0},
    "all layers windows": {**LLAMA, **WINDOW, "attn_types": ["local"] * 3},
    "norms of queries and keys": {**LLAMA, "use_qk_norm": True},
    "soft caps": {**LLAMA, "attn_scores_soft_cap": 3.0, "output_logits_soft_cap": 5.0},
}


@lru_cache
def model(shape: str, dtype: torch.dtype = torch.float64) -> LoadedModel:
    """A model of a shape with weights at which every part matters."""
    hooked = build(SHAPES[shape])
    drawn = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in hooked.named_parameters():
            noise = torch.randn(weight.shape, generator=drawn, dtype=torch.float64)
            last = name.rsplit(".", 1)[-1]
            if last == "w":
                weight.copy_(1 + 0.1 * noise)
            elif last.startswith("b"):
                weight.copy_(0.1 * noise)
            else:
                fan = 1 if last in ("W_E", "W_pos") else weight.shape[-2]
                weight.copy_(1.5 * noise * fan**-0.5)
    hooked.to(dtype, print_details=False)
    hooked.eval().requires_grad_(False)
    info = ModelInfo(
        name=shape, weights="0" * 64, processing="raw", n_layers=3, n_heads=4, d_model=32,
        d_head=8, d_mlp=48, n_ctx=N_CTX, d_vocab=VOCABULARY, d_out=VOCABULARY, causal=True,
        answers=Answers("tokens", (), -1), folder=Path(),
    )  # fmt: skip
    return LoadedModel(info, hooked, torch.device("cpu"), dtype)


def ids(*shape: int, seed: int = 0) -> Tensor:
    """Token ids drawn at random."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, VOCABULARY, shape))


@torch.no_grad()
def whole(loaded: LoadedModel, tokens: Tensor) -> Tensor:
    """Logits at every position by one pass over everything, nothing kept."""
    out: Tensor = loaded.hooked(tokens)
    return out.double()


def written(loaded: LoadedModel, rule: Rule, samples: int = 4, **more: Any) -> Drawn:
    """Write to the end."""
    numbers = uniforms(
        np.random.default_rng(more.pop("seed", 0)), samples, more.pop("steps", STEPS)
    )
    settings = {"batch": 6, "top": 5, **more}
    *_, last = continuations(loaded, ids(PROMPT, seed=3), rule, numbers, **settings)
    return last


# --- keys and values that are kept ---------------------------------------------------------------


def cached(loaded: LoadedModel, tokens: Tensor, *, twice: bool = False) -> Tensor:
    """Logits behind the prompt and after each further token ``[row, step, d_out]``.

    ``twice`` is a mistake: the prompt's last token is read again, so that every further position
    is one too late.
    """
    decoder = Decoder(loaded, tokens[0, :PROMPT], len(tokens))
    if twice:
        decoder.read(tokens[:, PROMPT - 1])
    logits = [decoder.logits]
    for step in range(PROMPT, tokens.shape[1]):
        decoder.read(tokens[:, step])
        logits.append(decoder.logits)
    return torch.stack(logits, 1).double()


def assert_near(ours: Any, theirs: Any, scale: float, tolerance: float) -> float:
    """Compare numbers; return the largest deviation in units of ``scale``."""
    off = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max()) / scale
    assert off <= tolerance, f"off by {off:.2g}"
    return off


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cached_decoding_equals_whole_passes(shape: str, dtype: torch.dtype, ledger: Note) -> None:
    loaded = model(shape, dtype)
    tolerance = FLOAT32 if dtype == torch.float32 else FLOAT64
    tokens = torch.cat([ids(1, PROMPT).expand(3, -1), ids(3, STEPS, seed=1)], 1)
    logits = whole(loaded, tokens)[:, PROMPT - 1 :]
    scale = float(logits.std())
    deviation = assert_near(cached(loaded, tokens), logits, scale, tolerance)
    with pytest.raises(AssertionError, match="off by"):
        assert_near(cached(loaded, tokens, twice=True), logits, scale, FAR * tolerance)
    ledger(
        kind=KIND,
        oracle=f"passes over everything without kept keys and values, {shape}; {dtype}",
        control="positions one too late: over 1000 tolerances off",
        deviation=deviation,
        tolerance=tolerance,
        unit="standard deviations of the logits",
    )


def test_a_decoder_leaves_no_hooks_and_does_not_disturb_another() -> None:
    loaded = model("rotary, grouped queries")
    tokens = torch.cat([ids(1, PROMPT).expand(2, -1), ids(2, STEPS, seed=1)], 1)
    alone = cached(loaded, tokens)
    first = Decoder(loaded, tokens[0, :PROMPT], 2)
    for step in range(PROMPT, tokens.shape[1]):
        first.read(tokens[:, step])
        # Between two steps another question is asked of the same model.
        cached(loaded, ids(1, PROMPT + 3, seed=9))
    assert torch.equal(first.logits.double(), alone[:, -1])
    assert not any(point.fwd_hooks for point in loaded.hooked.hook_dict.values())


# --- the distribution that is drawn from ---------------------------------------------------------

RULES = [
    Rule(temperature, top_k, top_p)
    for temperature in (0.2, 1.0, 3.1)
    for top_k in (0, 1, 7, 1000)
    for top_p in (1.0, 0.95, 0.5, 0.01, 0.0)
]


def warped(logits: Array, rule: Rule, *, swapped: bool = False) -> Array:
    """Probabilities by the transformers library; ``swapped`` cuts by mass before by number."""
    steps: list[Any] = [TemperatureLogitsWarper(rule.temperature)]
    cuts: list[Any] = [TopKLogitsWarper(rule.top_k)] if rule.top_k else []
    cuts += [TopPLogitsWarper(rule.top_p)] if rule.top_p < 1 else []
    steps += cuts[::-1] if swapped else cuts
    scores = LogitsProcessorList(steps)(torch.zeros((len(logits), 1)).long(), torch.tensor(logits))
    return scores.softmax(-1).numpy()


def test_the_distribution_equals_that_of_transformers(ledger: Note) -> None:
    logits = np.random.default_rng(2).normal(0, 3, (50, 97))
    logits[::2] = np.round(logits[::2], 1) + np.linspace(0, 1e-4, 97)  # nearly alike
    deviation = max(
        assert_near(distribution(logits, rule), warped(logits, rule), 1.0, FLOAT64)
        for rule in RULES
    )
    both = Rule(1.0, 7, 0.95)
    with pytest.raises(AssertionError, match="off by"):
        assert_near(distribution(logits, both), warped(logits, both, swapped=True), 1.0, 1e-3)
    ledger(
        kind=KIND,
        oracle="logits warpers of transformers, 60 settings of temperature, top-k and top-p",
        control="top-p before top-k: probabilities off by over 0.001",
        deviation=deviation,
        tolerance=FLOAT64,
        unit="probability",
    )


def test_what_ties_is_kept_or_goes_to_the_lowest_id() -> None:
    logits = np.array([[0.0, 2.0, 2.0 - 1e-12, 2.0, 1.0]])
    assert distribution(logits, GREEDY).tolist() == [[0, 1, 0, 0, 0]]
    rounded = logits + np.array([[0, 0, 0, 1e-12, 0]])
    assert distribution(rounded, GREEDY).tolist() == [[0, 1, 0, 0, 0]]
    for rule in (
        Rule(1.0, top_k=1),
        Rule(1.0, top_k=2),
        Rule(0.5, top_p=0.1),
        Rule(2.0, top_p=0.0),
    ):
        np.testing.assert_allclose(distribution(logits, rule), [[0, 1 / 3, 1 / 3, 1 / 3, 0]])


@pytest.mark.parametrize("temperature", [1e-320, 1e-12, 1e-3])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    logits = np.random.default_rng(2).normal(0, 3, (50, 97))
    ours = distribution(logits, Rule(temperature))
    np.testing.assert_allclose(ours, distribution(logits, GREEDY), atol=1e-6)


# --- drawing from it -----------------------------------------------------------------------------


def quantiles(n: int) -> Array:
    """The middles of ``n`` equal parts of [0, 1)."""
    return (np.arange(n) + 0.5) / n


def assert_each_has_its_share(chosen: NDArray[np.int64], p: Array) -> float:
    """Of ``n`` equally spaced numbers an interval of length p holds n p, give or take one."""
    counts = np.bincount(chosen, minlength=len(p))
    off = float(np.abs(counts - len(chosen) * p).max())
    assert off <= 1 + 1e-6, f"off by {off:.3g} draws"
    return off


def test_draws_have_the_distribution_by_enumeration(ledger: Note) -> None:
    n, deviation = 20_011, 0.0
    logits = np.random.default_rng(4).normal(0, 2, (1, 97))
    for rule in (Rule(1.0), Rule(0.7, 20), Rule(1.6, 0, 0.9)):
        p = distribution(logits, rule)[0]
        chosen = draw(np.broadcast_to(p, (n, 97)), quantiles(n))
        deviation = max(deviation, assert_each_has_its_share(chosen, p))
        assert (np.diff(chosen) >= 0).all()
        with pytest.raises(AssertionError, match="off by"):
            # The control: numbers that are not uniform.
            assert_each_has_its_share(draw(np.broadcast_to(p, (n, 97)), quantiles(n) ** 1.05), p)
    ledger(
        kind=KIND,
        oracle=f"shares of {n} equally spaced quantiles, counted",
        control="quantiles to the power 1.05",
        deviation=deviation,
        tolerance=1 + 1e-6,
        unit="draws",
    )


def test_the_ends_of_the_intervals() -> None:
    p = np.array([[0.0, 0.5, 0.25, 0.0, 0.25, 0.0]])  # dyadic: sums are exact
    below = np.nextafter
    cases = {
        0.0: 1, below(0.5, 0): 1, 0.5: 2, below(0.75, 0): 2, 0.75: 4, below(1.0, 0): 4,
    }  # fmt: skip
    assert {u: int(draw(p, np.array([u]))[0]) for u in cases} == cases
    tenths = np.full((1, 10), 0.1)  # these sum to less than one
    assert draw(tenths, np.array([below(1.0, 0)]))[0] == 9


def test_samples_of_a_model_have_its_distribution(ledger: Note) -> None:
    """The whole way: 500 samples of one token, at equally spaced numbers."""
    loaded, rule, n = model("learned positions"), Rule(1.3, 30, 0.97), 500
    numbers, prompt = quantiles(n)[:, None], ids(PROMPT, seed=3)
    *_, last = continuations(loaded, prompt, rule, numbers, batch=n + 1, top=5)
    logits = whole(loaded, prompt[None])[:, -1].numpy()
    p = warped(logits, rule)[0]
    deviation = assert_each_has_its_share(last.ids[1:, 0], p)
    assert last.ids[0, 0] == logits.argmax()
    with pytest.raises(AssertionError, match="off by"):
        assert_each_has_its_share(last.ids[1:, 0], warped(logits, Rule(1.0, 30, 0.97))[0])
    ledger(
        kind=KIND,
        oracle="a model's first token at 500 quantiles against the warpers of transformers",
        control="a temperature of 1 instead of 1.3",
        deviation=deviation,
        tolerance=1 + 1e-6,
        unit="draws",
    )


# --- continuations -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_takes_the_largest_logit_of_whole_passes(shape: str) -> None:
    loaded, ours = model(shape), written(model(shape), Rule(1.0))
    tokens = ids(PROMPT, seed=3)[None]
    for _ in range(STEPS):
        tokens = torch.cat([tokens, whole(loaded, tokens)[:, -1:].argmax(-1)], 1)
    assert ours.ids[0].tolist() == tokens[0, PROMPT:].tolist()
    assert len({tuple(row) for row in ours.ids.tolist()}) == 5
    assert_same_tree(written(loaded, GREEDY, samples=0).ids[0], ours.ids[0])


@torch.no_grad()
def test_greedy_equals_generate_of_transformers(ledger: Note) -> None:
    loaded, steps = _models.random_model(torch.float64), 20
    prompts = np.random.default_rng(6).integers(0, _models.INFO.d_vocab, (8, 5))
    same, wrong = 0, 0
    for prompt in prompts:
        theirs = gpt2().generate(
            torch.tensor(prompt)[None],
            attention_mask=torch.ones((1, 5)).long(),
            max_new_tokens=steps,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            bos_token_id=None,
        )[0, 5:]
        for first, count in ((0, True), (1, False)):
            numbers = np.zeros((0, steps))
            given = torch.tensor(prompt[first:])
            *_, ours = continuations(loaded, given, GREEDY, numbers, batch=2, top=3)
            equal = int((ours.ids[0] == theirs.numpy()).sum())
            same, wrong = same + equal * count, wrong + equal * (not count)
    missed = len(prompts) * steps - same
    assert missed == 0
    assert wrong < len(prompts) * steps / 2, "the control: prompts without their first token"
    ledger(
        kind=KIND,
        oracle="transformers' generate(do_sample=False), GPT-2 of the same weights, 8 prompts",
        control="prompts without their first token: under half of the tokens agree",
        deviation=missed,
        tolerance=0,
        unit="tokens that differ",
    )


@torch.no_grad()
def test_numbers_are_the_models_own(ledger: Note) -> None:
    """Log-probability, entropy, rank and alternatives, from one pass of another library."""
    loaded, rule = _models.random_model(torch.float64), Rule(1.7, 12, 0.9)
    prompt = ids(PROMPT, seed=3)
    numbers = uniforms(np.random.default_rng(0), 3, STEPS)
    *_, ours = continuations(loaded, prompt, rule, numbers, batch=6, top=5)
    tokens = torch.cat([prompt.expand(4, -1), torch.tensor(ours.ids)], 1)
    logits = gpt2()(input_ids=tokens, use_cache=False).logits[:, PROMPT - 1 : -1]
    logp = logits.log_softmax(-1)
    own = logp.gather(-1, torch.tensor(ours.ids)[..., None])
    scale = float(logits.std())
    deviation = assert_near(ours.logprob_nats, own[..., 0], scale, FLOAT64)
    entropy = -(logp.exp() * logp).sum(-1)
    deviation = max(deviation, assert_near(ours.entropy_nats, entropy, scale, FLOAT64))
    ordered, order = logp.sort(-1, descending=True)
    deviation = max(deviation, assert_near(ours.top_p, ordered[..., :5].exp(), 1.0, FLOAT64))
    assert (ours.top == order[..., :5].numpy()).all()
    assert (
        ours.rank == 1 + (order == torch.tensor(ours.ids)[..., None]).int().argmax(-1).numpy()
    ).all()
    rewarped = warped(logits.reshape(-1, 97).numpy(), rule).reshape(logits.shape)
    drawn_with = np.log(np.take_along_axis(rewarped, ours.ids[..., None], -1)[1:, :, 0])
    with pytest.raises(AssertionError, match="off by"):
        assert_near(ours.logprob_nats[1:], drawn_with, scale, 1e-2)
    ledger(
        kind=KIND,
        oracle="log-probability, entropy, rank and top five by one pass of transformers' GPT-2",
        control="log-probability under the temperature and the cuts",
        deviation=deviation,
        tolerance=FLOAT64,
        unit="standard deviations of the logits",
    )


# --- streams -------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_the_others() -> None:
    """To the bit, also across batches; and a longer one goes on where a shorter one stops."""
    for shape, dtype in (("learned positions", torch.float32), ("soft caps", torch.bfloat16)):
        loaded, rule = model(shape, dtype), Rule(1.0, 0, 0.95)
        most = written(loaded, rule, samples=20, steps=8)
        for samples, steps in ((1, 8), (3, 8), (10, 8), (10, 5)):
            some = written(loaded, rule, samples=samples, steps=steps)
            for name in ("ids", "logprob_nats", "entropy_nats", "rank", "top", "top_p"):
                cut = np.ascontiguousarray(getattr(most, name)[: samples + 1, :steps])
                assert_same_tree(getattr(some, name), cut)
    one_stream = np.random.default_rng(0)
    numbers = one_stream.random((10, 8))
    assert not (np.random.default_rng(0).random((10, 5)) == numbers[:, :5]).all()  # the control


def test_the_seed_decides() -> None:
    loaded, rule = model("learned positions"), Rule(1.0)
    texts = [written(loaded, rule, seed=seed).ids for seed in (0, 0, 1)]
    assert (texts[0] == texts[1]).all()
    assert (texts[0][0] == texts[2][0]).all(), "greedy has no seed"
    assert not (texts[0][1:] == texts[2][1:]).all(-1).any()


def test_going_on_from_any_point_gives_the_same_bits() -> None:
    loaded, rule = model("windows shorter than the prompt", torch.float32), Rule(1.0)
    numbers = uniforms(np.random.default_rng(0), 7, 5)
    arguments = (loaded, ids(PROMPT, seed=3), rule, numbers)
    states = list(continuations(*arguments, batch=6, top=5, ends=(3, 20, 40)))
    assert states[0].fraction == 0
    assert states[-1].fraction == 1
    for state in states:
        again = list(continuations(*arguments, batch=6, top=5, ends=(3, 20, 40), done=state))
        assert_same_tree(again[0], state)
        assert_same_tree(again[-1], states[-1])


def test_an_end_ends_one_row_and_no_other() -> None:
    loaded, rule = model("learned positions"), Rule(1.0)
    free = written(loaded, rule)
    end = int(free.ids[2, 3])
    cut = written(loaded, rule, ends=(end,))
    for row, (ended, whole_row) in enumerate(zip(cut.ids.tolist(), free.ids.tolist(), strict=True)):
        n = whole_row.index(end) + 1 if end in whole_row else STEPS
        assert ended == whole_row[:n] + [NONE] * (STEPS - n)
        assert np.isnan(cut.logprob_nats[row, n:]).all()
    assert cut.over.all()
    assert (cut.ids == NONE).any()


def test_outputs_that_are_not_numbers_are_refused() -> None:
    loaded = model("learned positions", torch.float16)
    loaded.hooked.unembed.b_U[3] = torch.nan
    with pytest.raises(BadInput, match="float16"):
        written(loaded, GREEDY)


# --- the kind ------------------------------------------------------------------------------------


def asked(**fields: Any) -> Any:
    return interp.run({"kind": KIND, **fields})


def test_the_hand_made_model_copies(ledger: Note) -> None:
    """Closed form: e^10 / (e^10 + 26) for the token that followed before."""
    result = asked(n_tokens=10).result
    assert result.texts == ("cdeabcdeab",) * 4
    right = np.log1p(26 * np.exp(-10))
    off = float(np.abs(-result.logprob_nats - right).max())
    assert off < 1e-6
    assert abs(result.surprise_nats[0] - np.log1p(26 * np.exp(-9))) > 1e-4  # the control
    tied = asked(prompt="kmabcd", n_tokens=1, temperature=0).result
    assert tied.tokens == (("[BOS]",),)  # nothing to copy: the lowest of seven equal ones
    assert tied.ends == ("special",)
    assert tied.rank.tolist() == [[7]]
    np.testing.assert_allclose(np.exp(tied.logprob_nats), tied.alternatives_p[:, :, 0], rtol=1e-9)
    ledger(
        kind=KIND,
        oracle="closed form of the hand-made model: log(1 + 26 e^-10) nats a copied token",
        control="a logit of 9 instead of 10",
        deviation=off,
        tolerance=1e-6,
        unit="nats",
    )


def test_it_stops_where_the_model_has_no_more_positions() -> None:
    answer = asked(prompt="abcdeab", n_tokens=200, n_samples=1)
    assert set(answer.result.ends) == {"context"}
    assert answer.result.ids.shape == (2, 32 - 8)
    assert "to the last of 32 positions" in answer.verdict
    assert "24 fit behind the prompt" in answer.analysis.figures(answer.result)[0].caption
    with pytest.raises(interp.InterpError, match="none is left to write in"):
        asked(prompt="a" * 31)


def test_what_is_ignored_is_not_part_of_the_question() -> None:
    greedy = {"kind": KIND, "temperature": 0}
    assert interp.parse(greedy) == interp.parse({**greedy, "seed": 5, "n_samples": 9, "top_k": 4})
    assert interp.parse({**greedy, "temperature": 1}) != interp.parse(greedy)
    assert "nothing is drawn" in asked(temperature=0).verdict


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "paren-balancer", "prompt": "()"}, "such as .*induction-handmade"),
        ({"temperature": 5.1}, "less than or equal to 5"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -0.1}, "greater than or equal to 0"),
        ({"n_tokens": 201}, "less than or equal to 200"),
        ({"n_samples": 2.5}, "integer"),
    ],
)
def test_what_cannot_be_asked_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(interp.InterpError, match=said):
        asked(**fields)


def test_follow_ups_can_be_asked() -> None:
    """Also where a special token, which nobody can type, is the most surprising one."""
    for seed in range(6):
        answer = asked(temperature=2.0, seed=seed, n_tokens=12)
        look, again = answer.analysis.follow_ups(answer.spec, answer.result)
        assert again.fields["seed"] == seed + 1
        lens = interp.run(look.fields).result
        if "answer" in look.fields:
            step = int(np.nanargmax(-answer.result.logprob_nats[1]))
            assert lens.answer == answer.result.tokens[1][step]
            p = np.exp(answer.result.logprob_nats[1, step])
            np.testing.assert_allclose(lens.answer_p[-1, lens.read], p, rtol=1e-4)

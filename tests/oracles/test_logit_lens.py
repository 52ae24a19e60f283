"""The logit lens against a forward pass written out in numpy and float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import interp
from interp.methods.lens import Lens, logit_lens
from interp.models.load import LoadedModel, load
from interp.models.tokens import encode
from tests.oracles import _formulas, _models
from tests.oracles._formulas import (
    ROUNDINGS,
    Array,
    Formula,
    gelu_new,
    log_softmax,
    rounding_of_weights,
)

KIND = "logit_lens"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the standard deviation of the model's own logits
FAR = 1e3

Note = Callable[..., None]
PROMPTS = {"induction-handmade": "kmabcdefgha", "paren-balancer": "(()())(()))()"}
NAMES = ("random GPT-2 shape", *PROMPTS)


def model_of(name: str, dtype: torch.dtype) -> tuple[LoadedModel, Formula, NDArray[np.int64]]:
    """The app's model, its formulas, and one prompt."""
    if name in PROMPTS:
        model = load(name, "cpu", dtype)
        return model, _formulas.bundled(name), np.array(encode(model.info, PROMPTS[name]).ids)
    formula = Formula(_models.random_weights(), 3, causal=True, norm=True, activation=gelu_new)
    ids = np.random.default_rng(1).integers(0, _models.INFO.d_vocab, 12)
    return _models.random_model(dtype), formula, ids


def by_formula(
    formula: Formula, ids: NDArray[np.int64], *, off: int = 0, skip_norm: bool = False
) -> Array:
    """Logits at each depth ``[depth, pos, output]``: the embedding, then after each layer.

    ``off`` and ``skip_norm`` are mistakes: a depth too early, and without the final norm.
    """
    acts = formula.run(ids[None])
    streams = [acts["resid_pre.0"], *(acts[f"resid_post.{i}"] for i in range(formula.n_layers))]
    depths = range(len(streams))
    return np.concatenate(
        [formula.unembed(streams[max(0, i - off)], skip_norm=skip_norm) for i in depths]
    )


def all_log_probs(lens: Lens) -> Array:
    """Every reading, ``[depth, pos, output]``."""
    return np.stack([lens.log_probs(depth).numpy() for depth in range(len(lens.streams))])


def readings(formula: Formula, ids: NDArray[np.int64]) -> Array:
    """Log-probabilities at each depth by the formulas."""
    return log_softmax(by_formula(formula, ids))


def assert_same_readings(lens: Lens, logits: Array, scale: float, tolerance: float) -> float:
    """Compare log-probabilities; return the largest deviation in units of ``scale``."""
    off = float(np.abs(all_log_probs(lens) - log_softmax(logits)).max() / scale)
    assert off <= tolerance, f"off by {off:.2g}"
    return off


@pytest.mark.parametrize("name", NAMES)
def test_every_reading_equals_the_formulas(name: str, ledger: Note) -> None:
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.float64, FLOAT64)):
        model, formula, ids = model_of(name, dtype)
        lens, logits = logit_lens(model, torch.tensor(ids)), by_formula(formula, ids)
        scale = float(logits[-1].std())
        if dtype == torch.float32:
            moved = rounding_of_weights(formula, ids, readings)
            tolerance = max(tolerance, ROUNDINGS * moved / scale)
        deviation = assert_same_readings(lens, logits, scale, tolerance)
        wrong = {"a layer too early": by_formula(formula, ids, off=1)}
        if formula.norm:
            wrong["without the final norm"] = by_formula(formula, ids, skip_norm=True)
        for mistake in wrong.values():
            with pytest.raises(AssertionError, match="off by"):
                assert_same_readings(lens, mistake, scale, FAR * tolerance)
        ledger(
            kind=KIND,
            oracle=f"numpy float64 from formulas, {name}; ours {dtype}",
            control=", ".join(wrong) + ": over 1000 tolerances off",
            deviation=deviation,
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_last_depth_is_the_models_own_answer(name: str, ledger: Note) -> None:
    model, _, ids = model_of(name, torch.float32)
    own = model.hooked(torch.tensor(ids)[None])[0].double()
    lens = logit_lens(model, torch.tensor(ids))
    off = [
        float((at - own.log_softmax(-1)).abs().max() / own.std())
        for at in torch.from_numpy(all_log_probs(lens))
    ]
    assert off[-1] < FLOAT32
    assert min(off[:-1]) > FAR * FLOAT32  # the control: every earlier depth says something else
    ledger(
        kind=KIND,
        oracle=f"the last depth is the model's own output, {name}",
        control=f"an earlier depth: off by {min(off[:-1]):.1g}",
        deviation=off[-1],
        tolerance=FLOAT32,
        unit="standard deviations of the logits",
    )


def asked(model: str, prompt: str, answer: str = "") -> Any:
    """The result of the whole analysis."""
    fields = {"kind": KIND, "model": model, "prompt": prompt, "answer": answer}
    return interp.run(fields)


@pytest.mark.parametrize("name", PROMPTS)
def test_what_is_derived_from_the_readings_is_by_definition(name: str, ledger: Note) -> None:
    """Probability, entropy, divergence and rank of a followed output, recomputed."""
    model, formula, ids = model_of(name, torch.float32)
    result = asked(name, PROMPTS[name]).result
    logits = by_formula(formula, ids)
    p, scale = np.exp(log_softmax(logits)), float(logits[-1].std())
    outputs = (
        model.info.answers.classes
        if model.info.answers.space == "classes"
        else ("[BOS]", *"abcdefghijklmnopqrstuvwxyz")
    )
    answer = int(p[-1, result.read].argmax())
    assert result.answer == outputs[answer]
    assert result.top[-1][result.read][0] == outputs[answer]
    expected = {
        "answer_p": p[..., answer],
        "top_p": -np.sort(-p, -1)[..., : result.top_p.shape[-1]],
        "entropy_nats": -(p * np.log(p)).sum(-1),
        "kl_nats": (p[-1] * np.log(p[-1] / p)).sum(-1),
        # As many outputs as are at least as probable; rounding must not split a tie.
        "answer_rank": (p >= p[..., [answer]] * (1 - 1e-9)).sum(-1),
    }
    off = {
        key: float(np.abs(getattr(result, key) - value).max()) / scale
        for key, value in expected.items()
    }
    assert max(off.values()) < FLOAT32, off
    # The control: the divergence the other way round is another number.
    reverse = (p * np.log(p / p[-1])).sum(-1)
    assert np.abs(result.kl_nats - reverse).max() > FAR * FLOAT32 * scale
    ledger(
        kind=KIND,
        oracle=f"probability, entropy, divergence and rank from their definitions, {name}",
        control="divergence with its arguments exchanged",
        deviation=max(off.values()),
        tolerance=FLOAT32,
        unit="probability, nats or ranks over the logits' standard deviation",
    )


def test_the_hand_made_model_reads_as_its_weights_say(ledger: Note) -> None:
    """Closed form: nothing is written to the output slot before the last layer, 10 logits in it."""
    result = asked("induction-handmade", "kmabcdefgha").result
    n, read = result.n_outputs, result.read
    assert n == 27
    np.testing.assert_allclose(result.answer_p[:2], 1 / n, atol=1e-7)
    np.testing.assert_allclose(result.entropy_nats[:2], np.log(n), atol=1e-6)
    assert (result.answer_rank[:2] == n).all()  # ties count against the answer
    right = np.exp(10) / (np.exp(10) + n - 1)
    off = float(abs(result.answer_p[2, read] - right))
    assert off < 1e-6
    assert abs(result.answer_p[2, read] - np.exp(9) / (np.exp(9) + n - 1)) > 1e-4  # the control
    assert result.answer == "b"
    ledger(
        kind=KIND,
        oracle="closed form of the hand-made model: uniform, uniform, e^10 / (e^10 + 26)",
        control="a logit of 9 instead of 10",
        deviation=off,
        tolerance=1e-6,
        unit="probability",
    )


def assert_verdict_is_consistent(said: str, answer: str) -> None:
    """It must not deny the answer and give the same one as the model's own."""
    denied = f"does not answer {answer!r}" in said
    assert not (denied and said.rstrip(".").endswith(f"its own answer is {answer!r}")), said


@pytest.mark.parametrize("prompt", ["kmabcda", "a", "abc"])
def test_verdict_does_not_contradict_itself(prompt: str) -> None:
    """On ``a`` and ``abc`` several outputs are equally probable at the end: there is no answer."""
    answer = asked("induction-handmade", prompt)
    assert_verdict_is_consistent(answer.verdict, answer.result.answer)
    with pytest.raises(AssertionError):
        assert_verdict_is_consistent(
            "The model does not answer 'a': it ends at rank 2; its own answer is 'a'.", "a"
        )

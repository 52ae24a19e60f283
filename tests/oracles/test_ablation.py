"""Ablation against models of transformers with torch hooks, closed forms and simulations.

Every head, attention and MLP of three families, taken out by zero, mean and resampling, in float64
and float32; a circuit that is known because it was written by hand, where all three have a closed
form; and intervals, choices and overlaps whose truth is known. Each has a broken twin.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor

import interp
from interp.analyses._ablation_result import Result
from interp.analyses.ablation import ANALYSIS, Ablation
from interp.behaviors import Behavior, built_in
from interp.errors import BadInput
from interp.methods.ablation import Ablated, ablate
from interp.methods.changes import (
    common_top,
    furthest_apart,
    largest,
    mean_change,
    no_interval,
    opposite,
)
from interp.methods.pools import ABLATIONS, NOBODY, Pool, check_pool, columns, make_pool
from interp.models.catalogue import of_shape
from interp.models.convert import convert
from interp.models.families import architecture
from interp.models.info import Answers
from interp.models.load import LoadedModel, build, load
from tests.oracles import _families
from tests.oracles._formulas import log_softmax
from tests.oracles._models import Array
from tests.oracles._reference import Reference, _raised

KIND = "ablation"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the logits' standard deviation
TOLERANCES = {torch.float64: FLOAT64, torch.float32: FLOAT32}
FAR = 1e3  # a broken twin is off by at least so many tolerances
METRICS = ("logit_diff", "prob", "loss", "kl")
DRAWS = 3

Note = Callable[..., None]

CASES = {
    "gpt2": ("gpt2", "untied, scaled by layer"),
    "neox, parallel": ("gpt_neox", "parallel, a quarter rotated"),
    "qwen3, grouped queries": ("qwen3", "grouped queries, wide heads"),
}
_MODULES = {
    "gpt2": ("attn", "attn.c_proj", "mlp"),
    "gpt_neox": ("attention", "attention.dense", "mlp"),
    "qwen3": ("self_attn", "self_attn.o_proj", "mlp"),
}
"""In a block: the attention, the product that joins its heads, the MLP."""


# --- models and inputs ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A model here, in two precisions, and there, in float64."""

    family: str
    theirs: Any
    models: dict[torch.dtype, LoadedModel]

    @property
    def blocks(self) -> list[Any]:
        body = self.theirs.base_model
        return list(getattr(body, "h", None) or body.layers)


@lru_cache
def case(name: str) -> Case:
    family, shape = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        model = _families.write_checkpoint(Path(folder), family, shape)
        made = architecture(json.loads((Path(folder) / "config.json").read_text()))
        shapes, read = _families.tensors_in(Path(folder))
        state = convert(made, shapes, lambda n: read(n).double())
    answers = Answers("tokens", (), -1)
    info = of_shape("random", made.transformer, answers=answers, weights="0" * 64, folder=Path())
    models: dict[torch.dtype, LoadedModel] = {}
    for dtype in TOLERANCES:
        hooked = build({**made.transformer, "dtype": dtype, "init_weights": False})
        weights = {n: w.to(dtype) for n, w in state.items()}
        assert not hooked.load_state_dict(weights, strict=False, assign=True).unexpected_keys
        hooked.to(dtype, print_details=False)
        hooked.eval().requires_grad_(False)
        models[dtype] = LoadedModel(info, hooked, torch.device("cpu"), dtype)
    return Case(family, Reference(family, model).model, models)


def inputs(lengths: tuple[int, ...], *, shared: int = 0, read: int = -1) -> Behavior:
    """Draw pairs of these lengths; all prompts share their first tokens, and 0 and 2 are equal."""
    rng = np.random.default_rng(11)
    vocabulary = _families.D_VOCAB
    start = rng.integers(0, vocabulary, shared)
    clean = [np.concatenate([start, rng.integers(0, vocabulary, n - shared)]) for n in lengths]
    clean[2] = clean[0]
    other = [np.where(np.arange(len(ids)) < shared, ids, (ids + 1) % vocabulary) for ids in clean]
    other[2] = np.where(np.arange(len(clean[2])) < shared, clean[2], (clean[2] + 5) % vocabulary)
    chosen = [rng.choice(vocabulary, 2, replace=False).tolist() for _ in lengths]
    return Behavior(
        model="random",
        name="random",
        source="drawn at random",
        space="tokens",
        read=read,
        clean=tuple(tuple(int(i) for i in ids) for ids in clean),
        corrupted=tuple(tuple(int(i) for i in ids) for ids in other),
        answers=tuple(a for a, _ in chosen),
        foils=tuple(b for _, b in chosen),
    )


INPUTS = {
    "one length": inputs((7,) * 5, shared=2),
    "read in the middle": inputs((7,) * 5, read=4),
    "two lengths": inputs((7, 5, 7, 5, 7)),
}


# --- the other side ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Oracle:
    """Takes components out of a model of transformers by torch hooks, whole prompts each time.

    ``ways`` are 0 for zero, 1 for the mean, and 2 and more for the draws; None: all.
    """

    case: Case
    behavior: Behavior
    pool: Pool
    broken: str = ""
    ways: tuple[int, ...] | None = None

    @property
    def info(self) -> Any:
        return next(iter(self.case.models.values())).info

    def _hooked(self, prompts: list[tuple[int, ...]], hooks: list[tuple[int, str, Any]]) -> Array:
        attention, joint, mlp = _MODULES[self.case.family]
        handles: list[Any] = []
        for layer, what, see in hooks:
            module = self.case.blocks[layer].get_submodule(
                {"z": joint, "attn": attention, "MLP": mlp}[what]
            )
            if what == "z":
                handles.append(module.register_forward_pre_hook(lambda _, args, s=see: s(args[0])))
            else:
                handles.append(
                    module.register_forward_hook(
                        lambda _, args, out, s=see: s(out[0] if isinstance(out, tuple) else out)
                    )
                )
        try:
            with torch.no_grad(), _raised():
                logits = self.case.theirs(input_ids=torch.tensor(prompts), use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits[:, self.behavior.read].double().numpy()

    def _by_length(self) -> list[list[int]]:
        lengths = self.behavior.lengths
        return [[i for i, n in enumerate(lengths) if n == one] for one in sorted(set(lengths))]

    def acts(self, prompts: tuple[tuple[int, ...], ...]) -> list[dict[tuple[int, str], Tensor]]:
        """What every component gives on each prompt ``[pos, width]``."""
        found: list[dict[tuple[int, str], Tensor]] = [{} for _ in prompts]
        places = list(itertools.product(range(len(self.case.blocks)), ("z", "attn", "MLP")))
        for group in self._by_length():

            def keep(place: tuple[int, str], group: list[int] = group) -> Callable[[Tensor], None]:
                def see(act: Tensor) -> None:
                    for i, of_prompt in zip(group, act.clone(), strict=True):
                        found[i][place] = of_prompt

                return see

            hooks = [(layer, what, keep((layer, what))) for layer, what in places]
            self._hooked([prompts[i] for i in group], hooks)
        return found

    def bare(self, prompts: tuple[tuple[int, ...], ...]) -> Array:
        logits = np.zeros((len(prompts), self.info.d_out))
        for group in self._by_length():
            logits[group] = self._hooked([prompts[i] for i in group], [])
        return logits

    def logits(self) -> Array:
        """``[way, pair, layer, column, output]``; NaN for ways that are not asked for."""
        behavior, pool = self.behavior, self.pool
        prompts = behavior.clean if pool.source == "clean" else behavior.corrupted
        acts = self.acts(prompts)
        different = [acts[prompts.index(ids)] for ids in dict.fromkeys(prompts)]
        cols, n = columns(self.info), 2 + len(pool.partners)
        shape = (n, len(prompts), self.info.n_layers, len(cols), self.info.d_out)
        found = np.full(shape, np.nan)
        each = itertools.product(
            self.ways or range(n), self._by_length(), range(self.info.n_layers), enumerate(cols)
        )
        for way, group, layer, (k, col) in each:
            place = (layer, "z" if col[0] == "H" else col)
            if way == 0:
                source = [torch.zeros_like(acts[i][place]) for i in group]
            elif way == 1:
                mean = self._mean([act[place] for act in different])
                source = [mean.expand_as(acts[i][place]) for i in group]
            else:
                taken = [i if self.broken == "itself" else pool.partners[way - 2, i] for i in group]
                # An input with fewer draws is compared nowhere in this one.
                pairs = zip(group, taken, strict=True)
                source = [acts[i if t == NOBODY else int(t)][place] for i, t in pairs]
            found[way, group, layer, k] = self._without(group, layer, col, torch.stack(source))
        return found

    def _mean(self, acts: list[Tensor]) -> Tensor:
        """Over prompts where they have one length, else over prompts and positions."""
        if len({len(act) for act in acts}) > 1:
            return torch.cat(acts).mean(0, keepdim=True)
        stacked = torch.stack(acts)
        return stacked.mean((0, 1))[None] if self.broken == "mean" else stacked.mean(0)

    def _without(self, group: list[int], layer: int, col: str, source: Tensor) -> Array:
        width = slice(None)
        if col[0] == "H" and self.broken != "whole":
            size = source.shape[-1] // self.info.n_heads
            width = slice(int(col[1:]) * size, (int(col[1:]) + 1) * size)

        def put(act: Tensor) -> None:
            act[..., width] = source[..., width]

        prompts = [self.behavior.clean[i] for i in group]
        return self._hooked(prompts, [(layer, "z" if col[0] == "H" else col, put)])


def numbers(metric: str, logits: Array, behavior: Behavior, clean: Array) -> Array:
    """The metric of each pair from logits ``[..., output]`` whose second axis is the pair."""
    pair = np.arange(len(behavior)).reshape(-1, *[1] * (logits.ndim - 3))
    rest = tuple(np.ogrid[tuple(slice(n) for n in logits.shape[:-1])])
    answer, foil = (np.array(ids)[pair] for ids in (behavior.answers, behavior.foils))
    logp = log_softmax(logits)
    if metric == "logit_diff":
        return logits[(*rest, answer)] - logits[(*rest, foil)]
    if metric == "prob":
        return np.exp(logp[(*rest, answer)])
    if metric == "loss":
        return -logp[(*rest, answer)]
    reference = log_softmax(clean).reshape(len(behavior), *[1] * (logits.ndim - 3), -1)
    return (np.exp(reference) * (reference - logp)).sum(-1)


def by_way(values: Array, pool: Pool) -> Array:
    """Average the draws that each input has ``[3, pair, layer, column]``."""
    draws = [
        np.mean(
            [values[2 + k, i] for k in range(len(pool.partners)) if pool.partners[k, i] >= 0], 0
        )
        for i in range(values.shape[1])
    ]
    return np.stack([values[0], values[1], np.array(draws)])


def last(model: LoadedModel, behavior: Behavior, metric: str, pool: Pool) -> Ablated:
    *_, found = ablate(model, behavior, metric, pool)
    return found


# --- every component, every way -------------------------------------------------------------------


def drawn(behavior: Behavior, source: Any) -> Pool:
    return make_pool(behavior, source, DRAWS, np.random.default_rng(4))


@pytest.mark.parametrize("source", ["clean", "corrupted"])
@pytest.mark.parametrize(
    ("name", "which"),
    [("gpt2", which) for which in INPUTS]
    + [(name, "one length") for name in CASES if name != "gpt2"],
)
def test_ablations_equal_transformers(name: str, which: str, source: str, ledger: Note) -> None:
    one, behavior = case(name), INPUTS[which]
    pool = drawn(behavior, source)
    oracle = Oracle(one, behavior, pool)
    logits, clean = oracle.logits(), oracle.bare(behavior.clean)
    corrupted, std = oracle.bare(behavior.corrupted), float(clean.std())
    for dtype, tolerance in TOLERANCES.items():
        worst = 0.0
        for metric in METRICS if name == "gpt2" else ("logit_diff", "kl"):
            ours = last(one.models[dtype], behavior, metric, pool)
            theirs = by_way(numbers(metric, logits, behavior, clean), pool)
            off = [np.abs(ours.values - theirs).max()]
            for mine, bare in ((ours.clean, clean), (ours.corrupted, corrupted)):
                number = numbers(metric, bare[None, :], behavior, clean)[0]
                off.append(np.abs(mine - number).max())
            worst = max(worst, max(off) / std)
        assert worst <= tolerance, f"{dtype}: off by {worst:.2g}"
        ledger(
            kind=KIND,
            oracle=f"{one.family} of transformers in float64 with torch hooks, every head, "
            f"attention and MLP in three ways; ours {dtype}; {which}, {source} pool",
            control="mean over positions, a prompt's own activations, a whole attention for a head",
            deviation=worst,
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


@pytest.mark.parametrize(
    ("broken", "way", "cols"),
    [("mean", 1, slice(None)), ("itself", 2, slice(None)), ("whole", 0, slice(0, 3))],
)
def test_broken_ablations_are_far_off(broken: str, way: int, cols: slice) -> None:
    """Controls: the mean over the wrong axis; nothing resampled; all heads instead of one."""
    one, behavior = case("gpt2"), INPUTS["one length"]
    pool = drawn(behavior, "clean")
    ways = (way,) if way < 2 else tuple(range(2, 2 + len(pool.partners)))
    wrong = Oracle(one, behavior, pool, broken, ways)
    clean = wrong.bare(behavior.clean)
    theirs = by_way(numbers("logit_diff", wrong.logits(), behavior, clean), pool)
    ours = last(one.models[torch.float64], behavior, "logit_diff", pool).values
    off = np.abs(ours - theirs)[way][..., cols].max(0) / clean.std()
    assert off.min() > FAR * FLOAT32, off  # at every component
    if broken == "itself":
        unchanged = (
            theirs[2] - numbers("logit_diff", clean[None, :], behavior, clean)[0][:, None, None]
        )
        assert np.abs(unchanged).max() < FLOAT64


def test_a_mean_is_over_different_prompts_and_takes_all_positions_where_lengths_differ() -> None:
    assert drawn(INPUTS["one length"], "clean").different == (0, 1, 3, 4)
    pool = drawn(INPUTS["two lengths"], "clean")
    assert pool.averaged == "all positions of the 4 clean prompts, whose lengths differ"
    # Lengths 7 and 5 have two different prompts each: one other, whatever is asked for.
    assert pool.partners.shape == (1, 5)


def test_an_interrupted_run_goes_on() -> None:
    one, behavior = case("gpt2"), INPUTS["one length"]
    model, pool = one.models[torch.float64], drawn(behavior, "clean")
    whole = last(model, behavior, "loss", pool)
    runs = whole.runs.copy()
    runs[5:] = np.nan
    first, *_, again = ablate(model, behavior, "loss", pool, done=runs)
    assert 0 < first.fraction < 1
    assert np.isnan(first.values).any()
    np.testing.assert_array_equal(again.values, whole.values)


# --- whose activations ----------------------------------------------------------------------------


def assert_deranged(behavior: Behavior, partners: Array) -> None:
    """Nobody takes its own tokens, or others twice, or others of another length."""
    for i, taken in enumerate(partners.T):
        prompts = [behavior.clean[int(k)] for k in taken if k != NOBODY]
        assert prompts
        assert behavior.clean[i] not in prompts
        assert len(set(prompts)) == len(prompts)
        assert {len(ids) for ids in prompts} == {len(behavior.clean[i])}


@pytest.mark.parametrize("which", INPUTS)
def test_draws_are_derangements(which: str) -> None:
    behavior = INPUTS[which]
    for seed, draws in itertools.product(range(20), (1, 2, 5)):
        pool = make_pool(behavior, "clean", draws, np.random.default_rng(seed))
        assert_deranged(behavior, pool.partners)
        again = make_pool(behavior, "clean", draws, np.random.default_rng(seed))
        np.testing.assert_array_equal(pool.partners, again.partners)
    with pytest.raises(AssertionError):
        assert_deranged(behavior, np.arange(len(behavior))[None])  # itself
    with pytest.raises(AssertionError):
        assert_deranged(behavior, np.array([[2, 3, 0, 1, 0]]))  # 0 and 2 have the same tokens


def test_every_other_prompt_is_equally_likely() -> None:
    behavior = replace(
        INPUTS["one length"],
        **{
            name: getattr(INPUTS["one length"], name)[1:]
            for name in ("clean", "corrupted", "answers", "foils")
        },
    )
    counts, trials = np.zeros((4, 4)), 3000
    for seed in range(trials):
        partners = make_pool(behavior, "clean", 1, np.random.default_rng(seed)).partners[0]
        counts[np.arange(4), partners] += 1
    off_diagonal = counts[~np.eye(4, dtype=bool)]
    assert stats.chisquare(off_diagonal).pvalue > 1e-3
    assert stats.chisquare(counts.ravel()).pvalue < 1e-9  # the control: not any prompt at all


def test_what_has_no_other_prompt_is_refused_before_it_runs() -> None:
    pair = {"clean": "kmabcda", "corrupted": "kmebcda", "answer": "b", "foil": "d"}
    spec = Ablation.model_validate({"pairs": [pair]})
    with pytest.raises(BadInput, match=r"only one clean prompt.*pool 'corrupted'"):
        ANALYSIS.inputs(spec)
    ANALYSIS.inputs(spec.model_copy(update={"pool": "corrupted"}))
    whole = INPUTS["two lengths"]
    check_pool(whole, "clean")
    three = replace(whole, clean=whole.clean[:2], corrupted=whole.corrupted[:2])
    with pytest.raises(BadInput, match=r"only clean prompt of 7 tokens"):
        check_pool(three, "clean")
    check_pool(three, "corrupted")


def test_one_question_has_one_spec() -> None:
    asked = {"model": "paren-balancer", "behavior": "paren-near-misses", "pool": "corrupted"}
    assert Ablation.model_validate({**asked, "draws": 9, "seed": 3}) == Ablation.model_validate(
        asked
    )
    other = {**asked, "pool": "clean"}
    assert Ablation.model_validate({**other, "draws": 9}) != Ablation.model_validate(other)
    # Of 5 inputs nobody has more than 4 others.
    few = {**other, "n_pairs": 5}
    most = Ablation.model_validate({**few, "draws": 4})
    assert Ablation.model_validate({**few, "draws": 9}) == most
    assert Ablation.model_validate({**few, "draws": 3}) != most
    pair = {"clean": "kmabcda", "corrupted": "kmebcda", "answer": "b", "foil": "d"}
    assert Ablation.model_validate({"pairs": [pair] * 3, "draws": 9}).draws == 2
    assert Ablation.model_validate({"pairs": [pair]}).draws == Ablation().draws
    for refused in (0, 33):
        with pytest.raises(ValidationError):
            Ablation.model_validate({**few, "draws": refused})


# --- a known circuit ------------------------------------------------------------------------------


def test_the_handmade_circuit_breaks_as_its_weights_say(ledger: Note) -> None:
    """What L1H0 writes is 10 for the letter to be copied: so each way has a closed form.

    Without L0H0 nothing tells L1H0 where to look: it shares its attention out and gives answer and
    foil, which are in the prompt once each, the same logit.
    """
    name, behavior_name, n = "induction-handmade", "induction-first-cue", 20
    behavior = built_in(behavior_name, n, name)
    pool = drawn(behavior, "clean")
    answers, foils = np.array(behavior.answers), np.array(behavior.foils)
    found = last(load(name, "cpu"), behavior, "logit_diff", pool)
    change = found.values - found.clean[:, None, None]
    np.testing.assert_allclose(found.clean, 10, atol=1e-5)

    said = (answers == answers[:, None]).mean(1) - (answers == foils[:, None]).mean(1)
    taken = answers[pool.partners]
    drawn_from = ((taken == answers).astype(float) - (taken == foils)).mean(0)
    expected = {"zero": np.zeros(n), "mean": 10 * said, "resample": 10 * drawn_from}
    circuit = {way: found.values[k][:, 1, 0] for k, way in enumerate(ABLATIONS)}
    off = max(float(np.abs(circuit[way] - expected[way]).max()) for way in ABLATIONS)
    off = max(off, float(np.abs(found.values[0][:, 0, 0]).max()))
    # A whole attention is here its one head that is read.
    off = max(off, float(np.abs(found.values[..., 2] - found.values[..., 0]).max()))
    idle = float(np.abs(change[..., 1]).max())
    assert max(off, idle) <= 1e-5 * 10
    assert change[:, :, :, 0].mean(1).max() < -8  # the control: the circuit is far from idle
    shuffled = float(np.abs(circuit["resample"] - np.roll(expected["resample"], 1)).max())
    assert shuffled > FAR * 1e-4
    ledger(
        kind=KIND,
        oracle="closed forms of a circuit written by hand: zero, mean and resample; idle heads 0",
        control=f"draws of another input: off by {shuffled:.1g} logits",
        deviation=max(off, idle),
        tolerance=1e-4,
        unit="logits",
    )


def test_the_sentence_is_in_the_numbers() -> None:
    spec = {"kind": KIND, "model": "induction-handmade", "behavior": "induction-first-cue"}
    answer = interp.run(spec)
    result = answer.result
    held = np.array(result.held_out)
    change = result.values[0] - result.clean[:, None, None]
    assert change[held, 0, 0].mean() == pytest.approx(-10, abs=1e-5)
    assert "zero L0H0 -10 [-10, -10]" in answer.verdict or "zero L1H0 -10" in answer.verdict
    assert (
        "The top 2 of the three ways have 2 in common (0.5 by chance, of 4 heads)" in answer.verdict
    )
    # All clean prompts are balanced: taking activations from them takes nothing away.
    same = interp.run({**spec, "model": "paren-balancer", "behavior": "paren-near-misses"})
    assert same.result.same_answer == 1
    assert "100 % of the draws have the same answer" in same.verdict
    assert "same answer" not in answer.verdict


# --- intervals and choices ------------------------------------------------------------------------


def test_intervals_are_students_and_hold_the_truth(ledger: Note) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 2.0, (12, 3, 4))
    mean, low, high = mean_change(values)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((low, high), (theirs.low, theirs.high), rtol=1e-12)
    np.testing.assert_allclose(mean, values.mean(0))
    # Groups of equal size: the same as their means, one each.
    groups = np.repeat(np.arange(6), 2)[rng.permutation(12)]
    means = np.stack([values[groups == g].mean(0) for g in range(6)])
    for mine, its in zip(mean_change(values, groups.tolist()), mean_change(means), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-12)
    trials, sizes = 4000, (1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    group = rng.normal(0, 1, (len(sizes), trials))[clusters]
    simulated = group + rng.normal(0, 0.3, (len(clusters), trials))

    def covered(clusters: list[int]) -> float:
        _, low, high = mean_change(simulated, clusters)
        return float(((low <= 0) & (high >= 0)).mean())

    right, wrong = covered(clusters.tolist()), covered([])
    assert 0.9 < right < 0.97
    assert wrong < 0.8
    ledger(
        kind=KIND,
        oracle="intervals by groups of unequal size: 95 % hold the truth, 4,000 simulations",
        control=f"as if inputs were independent: {wrong:.0%}".replace("%", " %"),
        deviation=abs(right - 0.95),
        tolerance=0.05,
        unit="share of the intervals",
    )
    assert np.isnan(mean_change(values[:2])[1]).all()
    assert np.isnan(mean_change(values, [0] * 6 + [1] * 6)[1]).all()


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 2, 3, 6, 11), (1,) * 6 + (6, 12), (1, 1, 1, 2, 5), (10, 10, 1), (1,) * 10 + (10,)],
)
def test_intervals_of_few_unequal_groups_hold_the_truth(
    sizes: tuple[int, ...], ledger: Note
) -> None:
    """Degrees of freedom count groups by how much of the mean they make."""
    rng, trials, n = np.random.default_rng(3), 4000, len(sizes)
    clusters = np.repeat(np.arange(n), sizes)
    simulated = rng.normal(0, 1, (n, trials))[clusters]
    simulated += rng.normal(0, 0.3, simulated.shape)
    mean, low, high = mean_change(simulated, clusters.tolist())
    right = float(((low <= 0) & (high >= 0)).mean())
    assert 0.93 < right < 0.98
    # The control: as if each group made the same share of the mean.
    effective = sum(sizes) ** 2 / sum(size**2 for size in sizes)
    half = (high - mean) * stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, effective - 1)
    wrong = float((np.abs(mean) <= half).mean())
    assert wrong < 0.91
    ledger(
        kind=KIND,
        oracle=f"95 % intervals, groups of {', '.join(map(str, sizes))} inputs: 4,000 simulations",
        control=f"as if groups were equal: {wrong:.0%} hold the truth".replace("%", " %"),
        deviation=abs(right - 0.95),
        tolerance=0.03,
        unit="share of the intervals",
    )


def test_one_group_with_over_half_of_the_inputs_has_no_interval() -> None:
    values = np.random.default_rng(0).normal(0, 1, (20, 3))
    for sizes, said in (
        ((1, 1, 18), "one group of words holds 18 of 20 inputs, more than half"),
        ((2, 2, 2, 14), "holds 14 of 20"),
        ((10, 10), "2 groups of words in 20 inputs: no interval, which takes 3 groups"),
        ((5, 5, 10), ""),
    ):
        clusters = np.repeat(np.arange(len(sizes)), sizes).tolist()
        assert said in no_interval(20, clusters)
        assert np.isnan(mean_change(values, clusters)[1]).all() == bool(said)
    assert no_interval(3) == ""
    assert no_interval(1) == "1 input: no interval, which takes 3"


# --- sentences ------------------------------------------------------------------------------------


def told(harm: Array, **more: Any) -> Result:
    """A result of two layers of two heads whose metric falls by ``harm`` [way, pair, row, col]."""
    n, clean = harm.shape[1], np.full(harm.shape[1], 5.0)
    values = clean[:, None, None] - harm
    change, low, high = mean_change((values - clean[:, None, None]).swapaxes(0, 1))
    fields: dict[str, Any] = {
        "metric": "logit difference", "unit": "logits", "pool": "clean", "averaged": "all",
        "draws": 4, "same_answer": 0.0, "rows": ("L0", "L1"), "cols": ("H0", "H1", "attn"),
        "clean_tokens": (("a", "b"),) * n, "values": values, "clean": clean, "corrupted": -clean,
        "change": change, "low": low, "high": high,
        "held_out": tuple(i % 2 == 1 for i in range(n)), "clusters": (),
    }  # fmt: skip
    return Result(**{**fields, **more})


def test_a_choice_that_does_not_hold_is_named() -> None:
    harm = np.zeros((3, 8, 2, 3))
    harm[:, :, 0, 0] = 1 + np.arange(8) / 100
    harm[1, ::2, 1, 1], harm[1, 1::2, 1, 1] = 3, -2  # falls where it is chosen, rises elsewhere
    said = ANALYSIS.verdict(told(harm))
    assert "zero L0H0 -1.04 [" in said
    assert "mean L1H1 +2 [+2, +2], a fall on the inputs that chose it alone" in said
    assert "none" not in said
    harm[1] = -np.abs(harm[1])
    assert "mean no fall on the inputs that choose;" in ANALYSIS.verdict(told(harm))


def test_idle_ways_are_named_and_whole_layers_are_no_heads() -> None:
    harm = np.zeros((3, 8, 2, 3))
    assert ANALYSIS.verdict(told(harm)) == (
        "No component changes the logit difference by zero or mean or resample."
    )
    harm[:, :, 1, 2] = 2
    said = ANALYSIS.verdict(told(harm))
    assert said.startswith(
        "No single head changes the logit difference by zero or mean or resample; a whole attention"
    )
    assert "by ." not in said
    harm[0, :, 0, 0] = 1  # heads matter by zero alone
    said = ANALYSIS.verdict(told(harm))
    assert "zero L0H0 -1 " in said
    assert "No single head changes the logit difference by mean or resample;" in said


def test_the_caption_counts_draws_and_says_why_there_is_no_interval() -> None:
    def caption(**more: Any) -> str:
        return ANALYSIS.figures(told(np.ones((3, 8, 2, 3)), **more))[0].caption

    assert "(mean of 4 draws)" in caption(fewest_draws=4)
    assert "(mean of 1 to 4 draws, as many as there are others)" in caption(fewest_draws=1)
    nothing = np.full((3, 2, 3), np.nan)
    lone = {"clusters": (0, 1, 2, 2, 2, 2, 2, 2), "low": nothing, "high": nothing}
    assert "One group of words holds 6 of 8 inputs, more than half: no interval." in caption(**lone)
    mixed = INPUTS["two lengths"]
    whole = replace(mixed, clean=(*mixed.clean, (1,) * 5, (2,) * 5))
    partners = make_pool(whole, "clean", 4, np.random.default_rng(0)).partners
    assert set((partners != NOBODY).sum(0).tolist()) == {1, 3}


def test_the_largest_of_noise_is_nothing_on_held_out_inputs() -> None:
    rng, among = np.random.default_rng(1), np.ones((5, 6), dtype=bool)
    held = tuple(i % 2 == 1 for i in range(20))
    honest, chosen = [], []
    for _ in range(300):
        noise = rng.normal(0, 1, (20, 5, 6))
        honest.append(largest(noise, among, held)[1][0])
        chosen.append(largest(noise, among, ())[1][0])
    assert abs(np.mean(honest)) < 4 * np.std(honest) / 300**0.5
    assert np.mean(chosen) > 0.3  # the control: on the inputs that chose it
    noise[:, 2, 3] += 5
    assert largest(noise, among, held)[0] == (2, 3)
    among[2, 3] = False
    assert largest(noise, among, held)[0] != (2, 3)


def test_overlap_by_chance_is_that_of_random_choices() -> None:
    rng, cells, k = np.random.default_rng(2), 12, 5
    shared = [common_top(0.5 + rng.random((3, cells)) / 2, k) for _ in range(4000)]
    assert {row[0] for row in shared} == {k}
    assert np.mean([row[1] for row in shared]) == pytest.approx(shared[0][2], abs=0.05)
    same = np.tile(rng.random(cells), (3, 1)) + 0.5
    assert common_top(same, k)[1] == k
    # What does nothing is in no list, so that ties of zeros are no agreement.
    sizes = np.zeros((3, cells))
    sizes[:, [2, 7]] = 1
    assert common_top(sizes, k)[:2] == (2, 2)
    assert common_top(np.zeros((3, cells)), k)[0] == 0


def test_cells_where_the_ways_differ() -> None:
    change = np.zeros((3, 2, 2))
    change[0, 0, 1], change[2, 1, 0], change[1, 1, 1] = -3, 1, 0.001
    assert furthest_apart(change, 5) == [(0, 1), (1, 0)]
    assert furthest_apart(np.full((3, 2, 2), np.nan), 5) == []
    turned = opposite(change - 0.1, change + 0.1)
    assert not turned.any()
    change[1, 0, 1] = 2
    assert opposite(change - 0.1, change + 0.1).tolist() == [[False, True], [False, False]]

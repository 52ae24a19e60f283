"""Attribution patching against independent computations.

Estimates: autograd through models of transformers in float64 with torch hooks, and through a
bidirectional transformer written out. The QK fix: each query and each key replaced by itself in
these models, and their own attention read off. The integral: its own passes from streams between
the prompts, and the gap that it must add up to. Where the rest of the model is linear an estimate
must be the exact patch; where attention is saturated, in a model written by hand, it must see
nothing and the exact patch everything. Each has broken twins that must be far off.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import interp
from interp.analyses import _attribution_words as words
from interp.analyses._record import Context
from interp.behaviors import Behavior, PromptPair, from_pairs
from interp.errors import BadInput, DoesNotFit
from interp.methods import attribution_patching, effects, rechecks
from interp.methods.attribution_patching import Attribution, node_estimates
from interp.methods.grids import cells_that_cannot_matter, make_grid
from interp.methods.patching import sweep
from interp.methods.qk import columns_changed
from interp.models.load import LoadedModel, load
from interp.scores import Absent, Interval
from tests.oracles import _models
from tests.oracles._formulas import log_softmax
from tests.oracles._models import Array
from tests.oracles._reference import Acts, Patch, Reference, Taps, _raised
from tests.oracles.test_engine import ENCODER, SHORTFORMER, case, loaded

KIND = "attribution_patching"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the logits' standard deviation
TOLERANCES = {torch.float64: FLOAT64, torch.float32: FLOAT32}
FAR = 1e3  # a broken twin is off by at least so many tolerances

NAMES = (
    "gpt2",
    "qwen3, norms of queries and keys",
    "gemma2, caps, windows, norms behind",
    ENCODER,
)
LINES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("z", "q", "k", "v", "pattern")
SITES = (*LINES, "z", *(f"{name}_pos" for name in HEADS))
ROUNDED = ("resid_pre", "mlp_out", "z", "q_pos", "pattern_pos")
"""Sites whose float32 is compared, too."""
METRICS = ("logit_diff", "prob", "loss", "kl")
STEPS = 3

Note = Callable[..., None]


# --- what is compared -----------------------------------------------------------------------------


def directions(name: str) -> tuple[str, ...]:
    """Both in the first model; they differ in which prompts are which, not in the model."""
    return ("denoising", "noising") if name == NAMES[0] else ("denoising",)


def rows_of(name: str) -> tuple[list[int], list[int]]:
    """Rows of the clean and of the corrupted prompts: pairs that share none and some tokens."""
    return [0, 1, 6], [3, 4, 7] if name != ENCODER else [3, 4, 2]


@lru_cache
def behavior_of(name: str) -> Behavior:
    of = case(name)
    clean, corrupted = (
        tuple(tuple(int(i) for i in of.ids[row]) for row in rows) for rows in rows_of(name)
    )
    return Behavior(
        model="random",
        name="random",
        source="drawn at random",
        space="tokens",
        read=of.read,
        clean=clean,
        corrupted=corrupted,
        answers=(1, 4, 2),
        foils=(3, 0, 5),
    )


@dataclass(frozen=True, eq=False)
class Theirs:
    """Activations and gradients of the base and the source runs, by the other implementation."""

    base: Acts
    source: Acts
    grads: Acts
    numbers: Array
    std: float


def metric_of(behavior: Behavior, name: str, clean: Tensor) -> Callable[[Tensor], Tensor]:
    """Read one number a row off all logits, written out anew."""
    rows, answers, foils = range(len(behavior)), list(behavior.answers), list(behavior.foils)

    def read(logits: Tensor) -> Tensor:
        at = logits[:, behavior.read]
        logp = at - at.logsumexp(-1, keepdim=True)
        if name == "logit_diff":
            return at[rows, answers] - at[rows, foils]
        if name == "prob":
            return logp[rows, answers].exp()
        if name == "loss":
            return -logp[rows, answers]
        known = clean - clean.logsumexp(-1, keepdim=True)
        return (known.exp() * (known - logp)).sum(-1)

    return read


@lru_cache
def theirs(name: str, direction: str, metric: str) -> Theirs:
    of, behavior = case(name), behavior_of(name)
    clean, corrupted = (torch.tensor(ids) for ids in (behavior.clean, behavior.corrupted))
    base, source = (corrupted, clean) if direction == "denoising" else (clean, corrupted)
    logits = of.reference.logits(clean)
    read = metric_of(behavior, metric, logits[:, behavior.read])
    return Theirs(
        of.reference.acts(base),
        of.reference.acts(source),
        of.reference.grads(base, read),
        read(of.reference.logits(base)).numpy(),
        float(logits[:, behavior.read].std()),
    )


def by_cell(site: str, moved: list[Tensor]) -> Array:
    """Arrange numbers of each layer, ``[pair, pos, ...]``, as the map of a site has its cells."""
    each = torch.stack(moved, 1).numpy()  # [pair, layer, pos, (head)]
    if site in LINES:
        return each
    if site.endswith("_pos"):
        return each.swapaxes(2, 3).reshape(len(each), -1, each.shape[2])
    return each.sum(2)


def product(site: str, of: Theirs, n_layers: int) -> Array:
    """Difference of activations times gradient, for every cell of a site."""
    part = site.removesuffix("_pos")
    places = [(part, layer) for layer in range(n_layers)]
    moved = [((of.source[p] - of.base[p]) * of.grads[p]).sum(-1) for p in places]
    return by_cell(site, moved)


def ours(
    name: str,
    site: str,
    direction: str,
    metric: str,
    method: str = "gradient",
    dtype: torch.dtype = torch.float64,
    steps: int = STEPS,
) -> tuple[Array, Attribution]:
    """By how much each cell is estimated to move the metric."""
    model, behavior = case(name).models[dtype], behavior_of(name)
    grid = make_grid(model.info, behavior, site)
    work = Attribution(model, behavior, grid, direction, metric)
    *_, (values, _) = work.estimate(method, steps)
    return values - work.base[:, None, None], work


def deviation(mine: Array, other: Array, unit: float) -> float:
    """The largest difference in a unit, mostly the standard deviation of the logits."""
    return float(np.abs(mine - other).max() / unit)


def size(numbers: Array) -> float:
    """Root mean square."""
    return float(np.sqrt((numbers**2).mean()))


def assert_close(mine: Array, other: Array, tolerance: float, what: Any, unit: float) -> float:
    off = deviation(mine, other, unit)
    assert off <= tolerance, f"{what}: off by {off:.2g}, allowed {tolerance:.2g}"
    return off


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_estimates_equal_autograd_of_another_model(name: str, ledger: Note) -> None:
    of = case(name)
    n_layers = of.reference.n_layers
    cases = [(s, d, "logit_diff") for s in SITES for d in directions(name)]
    cases += [("z_pos", "denoising", m) for m in METRICS[1:]] + [("k", "noising", "loss")]
    cases += [("q", "denoising", "logit_diff"), ("pattern", "denoising", "logit_diff")]
    worst, control = dict.fromkeys(TOLERANCES, 0.0), np.inf
    for (site, direction, metric), dtype in itertools.product(cases, TOLERANCES):
        if dtype == torch.float32 and not (direction == "denoising" and site in ROUNDED):
            continue
        other = theirs(name, direction, metric)
        right = product(site, other, n_layers)
        mine, work = ours(name, site, direction, metric, dtype=dtype)
        what = (site, direction, metric, dtype)
        assert_close(work.base, other.numbers, TOLERANCES[dtype], what, other.std)
        off = assert_close(mine, right, TOLERANCES[dtype], what, other.std)
        worst[dtype] = max(worst[dtype], off)
        if dtype == torch.float64 and metric == "logit_diff":
            control = min(control, *controls(name, site, direction, mine).values())
    assert control > FAR * FLOAT32
    for dtype, off in worst.items():
        ledger(
            kind=KIND,
            oracle=f"autograd in float64 with torch hooks, every site; ours {dtype}; {name}",
            control="gradient of the other run, no difference, or wrong sign: off by "
            f"{control:.1g}",
            deviation=off,
            tolerance=TOLERANCES[dtype],
            unit="standard deviations of the logits",
        )


def controls(name: str, site: str, direction: str, mine: Array) -> dict[str, float]:
    """How far the broken twins are off."""
    n = case(name).reference.n_layers
    right = theirs(name, direction, "logit_diff")
    other = {"denoising": "noising", "noising": "denoising"}[direction]
    wrong = replace(right, grads=theirs(name, other, "logit_diff").grads)
    nothing = {place: torch.zeros_like(act) for place, act in right.base.items()}
    part = site.removesuffix("_pos")
    missing = replace(right, base=nothing)
    turned = replace(right, base=right.source, source=right.base)
    twins = {"gradient of the other run": wrong, "no difference": missing, "sign": turned}
    if name.startswith("qwen3") and part in ("q", "k"):
        # Behind their norm their size does not count: no gradient lies along the base run's.
        del twins["no difference"]
    return {
        what: deviation(mine, product(site, twin, n), right.std) for what, twin in twins.items()
    }


def test_results_of_heads_are_estimated_as_their_gradient_has_it() -> None:
    """What a head writes is linear in ``z``: by its own activations and the stream's gradient."""
    name = "gpt2"
    other = theirs(name, "denoising", "logit_diff")
    moved = []
    for n in range(case(name).reference.n_layers):
        change = other.source["result", n] - other.base["result", n]
        moved.append((change * other.grads["attn_out", n][:, :, None]).sum(-1))
    for site in ("result", "result_pos"):
        mine, _ = ours(name, site, "denoising", "logit_diff")
        right = by_cell(site.replace("result", "z"), moved)
        assert_close(mine, right, FLOAT64, site, other.std)


@pytest.mark.parametrize("name", NAMES)
def test_all_components_at_once_are_autograd_of_another_model(
    name: str, ledger: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs in three batches; every site of ``Attribution`` is the same numbers, arranged."""
    monkeypatch.setattr("interp.models.batches._MOST_ROWS", 1)
    of, behavior, parts = case(name), behavior_of(name), (*LINES, *HEADS)
    n_layers, worst, control = of.reference.n_layers, dict.fromkeys(TOLERANCES, 0.0), np.inf
    cases, rounded = [(d, "logit_diff") for d in directions(name)], ("denoising", "logit_diff")
    cases += [("denoising", "kl"), ("noising", "kl")] if name == NAMES[0] else []
    for (direction, metric), (dtype, tolerance) in itertools.product(cases, TOLERANCES.items()):
        if dtype == torch.float32 and (direction, metric) != rounded:
            continue
        mine = node_estimates(of.models[dtype], behavior, parts, direction, metric)
        other, what = theirs(name, direction, metric), (direction, metric, dtype)
        assert list(mine) == list(parts)
        for part, found in mine.items():
            site = f"{part}_pos" if part in HEADS else part
            arranged = by_cell(site, list(torch.tensor(found).unbind(1)))
            off = assert_close(
                arranged, product(site, other, n_layers), tolerance, (part, *what), other.std
            )
            worst[dtype] = max(worst[dtype], off)
            if dtype == torch.float64 and (direction, metric) == rounded:
                for each in {part, site} & {*ROUNDED, "k", "v_pos"}:
                    alone, _ = ours(name, each, direction, metric)
                    together = by_cell(each, list(torch.tensor(found).unbind(1)))
                    assert_close(together, alone, FLOAT64, (each, *what), other.std)
                control = min(control, *controls(name, site, direction, arranged).values())
    assert control > FAR * FLOAT32
    for dtype, off in worst.items():
        ledger(
            kind=KIND,
            oracle=f"all components at once, autograd in float64 with torch hooks; ours {dtype}; "
            f"{name}",
            control="gradient of the other run, no difference, or wrong sign: off by "
            f"{control:.1g}",
            deviation=off,
            tolerance=TOLERANCES[dtype],
            unit="standard deviations of the logits",
        )


def test_all_components_at_once_are_one_backward_pass_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, made = "gpt2", []
    for part in ("trace", "gradients"):
        real = getattr(attribution_patching, part)
        monkeypatch.setattr(
            attribution_patching,
            part,
            lambda *args, _real=real, _part=part, **more: (
                made.append(_part) or _real(*args, **more)
            ),
        )
    model = case(name).models[torch.float32]
    node_estimates(model, behavior_of(name), (*LINES, *HEADS), "noising", "logit_diff")
    assert made == ["trace", "gradients"]

    def full(*args: Any, **more: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(attribution_patching, "gradients", full)
    with pytest.raises(DoesNotFit, match="differentiated at once"):
        node_estimates(model, behavior_of(name), ("z",), "noising", "logit_diff")


def test_cells_that_cannot_matter_are_exactly_zero_and_all_others_are_not() -> None:
    name = "gpt2"
    for site in SITES:
        mine, work = ours(name, site, "noising", "logit_diff")
        inert = cells_that_cannot_matter(work.model.info, behavior_of(name), work.grid)
        assert (mine[:, inert] == 0).all()
        live = ~inert
        if site in ("q_pos", "pattern_pos"):
            live[:, 0] = False  # the first position sees itself alone, whatever its query
        assert (np.abs(mine[:, live]).max(0) > 0).all(), site


# --- the QK fix -----------------------------------------------------------------------------------


def one_by_one(name: str, slot: str, direction: str) -> tuple[list[Tensor], list[Tensor]]:
    """Replace every query or key by itself in the other model and read its own attention.

    Returns for each layer what the change of pattern does by the pattern's gradient,
    ``[pair, pos, head]``, and the same of the first head alone that shares a key.
    """
    of, other = case(name), theirs(name, direction, "logit_diff")
    behavior = behavior_of(name)
    base = behavior.corrupted if direction == "denoising" else behavior.clean
    heads, n, pairs = of.reference.heads(slot), len(base[0]), len(base)
    each = list(itertools.product(range(pairs), range(n), range(heads)))
    ids = torch.tensor([base[pair] for pair, _, _ in each])
    whole, first = [], []
    for layer in range(of.reference.n_layers):
        patches = [
            Patch(run, slot, layer, head, pos, "take", pair)
            for run, (pair, pos, head) in enumerate(each)
        ]
        pattern = acts_with(of.reference, ids, patches, other.source)["pattern", layer]
        rows = [pair for pair, _, _ in each]
        change = (pattern - other.base["pattern", layer][rows]) * other.grads["pattern", layer][
            rows
        ]
        by_head = change.sum((1, 3))  # [run, head that looks]
        shared = by_head.shape[1] // heads
        start = torch.tensor([head for _, _, head in each]) * shared
        whole.append(by_head.sum(1).view(pairs, n, heads))
        first.append(by_head[range(len(each)), start].view(pairs, n, heads))
    return whole, first


def acts_with(reference: Any, ids: Tensor, patches: list[Patch], sources: Acts) -> Acts:
    """Every activation of runs with changes."""
    taps = Taps(patches, sources, record="acts")
    with torch.no_grad():
        args = (ids, taps) if isinstance(reference, Reference) else (ids, taps, None)
        reference._run(*args)
    return taps.acts


@pytest.mark.parametrize("name", NAMES)
def test_the_qk_fix_equals_replacing_each_query_and_key(name: str, ledger: Note) -> None:
    worst, control = dict.fromkeys(TOLERANCES, 0.0), np.inf
    std = theirs(name, "noising", "logit_diff").std
    for slot, direction in itertools.product("qk", directions(name)):
        whole, first = one_by_one(name, slot, direction)
        right, site = by_cell(f"{slot}_pos", whole), f"{slot}_pos"
        for dtype, tolerance in TOLERANCES.items():
            mine, _ = ours(name, site, direction, "logit_diff", "qk_fix", dtype)
            off = assert_close(mine, right, tolerance, (name, site, direction, dtype), std)
            worst[dtype] = max(worst[dtype], off)
        linear, _ = ours(name, site, direction, "logit_diff")
        control = min(control, deviation(linear, right, std))
        if slot == "q":  # the positions' queries do not meet: all of them are their sum
            every, _ = ours(name, "q", direction, "logit_diff", "qk_fix")
            assert_close(every, by_cell("q", whole), FLOAT64, (name, "q", direction), std)
        elif case(name).reference.heads("k") < case(name).reference.n_heads:
            control = min(control, deviation(mine, by_cell(site, first), std))
    assert control > FAR * FLOAT32
    for dtype, off in worst.items():
        ledger(
            kind=KIND,
            oracle="QK fix: each query and key replaced in another model, its own pattern; ours "
            f"{dtype}; {name}",
            control=f"softmax taken as linear, or one head of those that share a key: off by "
            f"{control:.1g}",
            deviation=off,
            tolerance=TOLERANCES[dtype],
            unit="standard deviations of the logits",
        )


def test_keys_of_all_positions_are_replaced_together(ledger: Note) -> None:
    """One pattern for a head all of whose keys are replaced, which is not the sum over them."""
    name, direction = "qwen3, norms of queries and keys", "denoising"
    of, other, behavior = case(name), theirs(name, direction, "logit_diff"), behavior_of(name)
    heads, pairs = of.reference.heads("k"), len(behavior)
    each = list(itertools.product(range(pairs), range(heads)))
    ids, rows = torch.tensor([behavior.corrupted[p] for p, _ in each]), [p for p, _ in each]
    right = []
    for layer in range(of.reference.n_layers):
        patches = [Patch(i, "k", layer, h, None, "take", p) for i, (p, h) in enumerate(each)]
        pattern = acts_with(of.reference, ids, patches, other.source)["pattern", layer]
        change = (pattern - other.base["pattern", layer][rows]) * other.grads["pattern", layer][
            rows
        ]
        right.append(change.sum((1, 2, 3)).view(pairs, heads).numpy())
    mine, _ = ours(name, "k", direction, "logit_diff", "qk_fix")
    off = assert_close(mine, np.stack(right, 1), FLOAT64, name, other.std)
    single, _ = ours(name, "k_pos", direction, "logit_diff", "qk_fix")
    summed = single.sum(2).reshape(mine.shape)
    assert deviation(summed, np.stack(right, 1), other.std) > FAR * FLOAT32
    ledger(
        kind=KIND,
        oracle="QK fix of all keys of a head at once, in another model",
        control="the sum over single keys",
        deviation=off,
        tolerance=FLOAT64,
        unit="standard deviations of the logits",
    )


def _substituted(before: Tensor, after: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """One softmax a column, that column's score replaced, in float64.

    Returns what all weights of the row do, and what that column's does alone.
    """
    before, after, slope = (part.double() for part in (before, after, slope))
    found, alone = torch.zeros_like(before), torch.zeros_like(before)
    for s in range(before.shape[-1]):
        swapped = before.clone()
        swapped[..., s] = after[..., s]
        moved = (swapped.softmax(-1) - before.softmax(-1)) * slope
        found[..., s], alone[..., s] = moved.sum(-1), moved[..., s]
    return tuple(part.masked_fill(before.isneginf(), 0.0) for part in (found, alone))


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_one_column_of_a_softmax_however_saturated(spread: float, ledger: Note) -> None:
    draw = torch.Generator().manual_seed(1)
    before, after = (spread * torch.randn(2, 3, 8, 8, generator=draw) for _ in range(2))
    slope = torch.randn(2, 3, 8, 8, generator=draw)
    hidden = torch.ones(8, 8).triu(1).bool()
    before, after = (part.masked_fill(hidden, -torch.inf) for part in (before, after))
    every, alone = _substituted(before, after, slope)
    right = every.numpy()

    def off_by(found: Tensor) -> float:
        bounded = found.masked_fill(hidden, 0.0).double().nan_to_num(nan=1e6).clamp(-1e6, 1e6)
        return deviation(bounded.numpy(), right, size(right))

    off = off_by(columns_changed(before, after, slope))
    assert off < FLOAT32
    # As the paper's update has it: old weights times old sum over new sum.
    weight = before.softmax(-1)
    grown = (after - before).exp()
    new = 1 + weight * (grown - 1)
    others = (weight * slope).sum(-1, keepdim=True) - weight * slope
    naive = (others + weight * grown * slope) / new - (weight * slope).sum(-1, keepdim=True)
    wrong = off_by(naive)
    assert wrong < FLOAT32 if spread == 1.0 else wrong > FAR * FLOAT32
    lone = off_by(alone)
    assert lone > FAR * FLOAT32
    ledger(
        kind=KIND,
        oracle=f"one column of a softmax replaced, in float64; scores of size {spread:.0f}",
        control=f"others do not give way: off by {lone:.1g}; sums divided in float32: {wrong:.1g}",
        deviation=off,
        tolerance=FLOAT32,
        unit="root mean squares of the changes",
    )


# --- integrated gradients -------------------------------------------------------------------------


def integral(name: str, direction: str, fractions: list[float]) -> Theirs:
    """The mean gradient of runs whose first stream is put between base and source."""
    of, behavior = case(name), behavior_of(name)
    other = theirs(name, direction, "logit_diff")
    base = torch.tensor(behavior.corrupted if direction == "denoising" else behavior.clean)
    read, sums = metric_of(behavior, "logit_diff", torch.zeros(1)), None
    start, end = (acts["resid_pre", 0] for acts in (other.base, other.source))
    for fraction in fractions:
        streams = start + fraction * (end - start)
        patches = [
            Patch(i, "resid_pre", 0, None, None, "put", x) for i, x in enumerate(streams)
        ]  # fmt: skip
        taps = Taps(patches, record="grads")
        with torch.enable_grad(), _raised():
            number = read(of.reference._run(base, taps)).sum()
            grads = torch.autograd.grad(number, list(taps.leaves.values()), allow_unused=True)
        found = {
            place: torch.zeros_like(leaf) if grad is None else grad
            for (place, leaf), grad in zip(taps.leaves.items(), grads, strict=True)
        }
        sums = found if sums is None else {p: sums[p] + g for p, g in found.items()}
    assert sums is not None
    return replace(other, grads={p: g / len(fractions) for p, g in sums.items()})


@pytest.mark.parametrize("name", ["gpt2", "qwen3, norms of queries and keys"])
def test_integrated_gradients_are_means_over_midpoints(name: str, ledger: Note) -> None:
    n = case(name).reference.n_layers
    middles, rights = [1 / 6, 3 / 6, 5 / 6], [1 / 3, 2 / 3, 1.0]
    worst, control = dict.fromkeys(TOLERANCES, 0.0), np.inf
    for direction in directions(name):
        right, wrong = (integral(name, direction, some) for some in (middles, rights))
        plain = theirs(name, direction, "logit_diff")
        for site, dtype in itertools.product(SITES, TOLERANCES):
            if dtype == torch.float32 and not (direction == "denoising" and site in ROUNDED):
                continue
            mine, _ = ours(name, site, direction, "logit_diff", "integrated", dtype)
            what = (site, direction, dtype)
            expected = product(site, right, n)
            off = assert_close(mine, expected, TOLERANCES[dtype], what, right.std)
            worst[dtype] = max(worst[dtype], off)
            twins = (product(site, wrong, n), product(site, plain, n))
            control = min(control, *(deviation(mine, twin, right.std) for twin in twins))
    assert control > FAR * FLOAT32
    for dtype, off in worst.items():
        ledger(
            kind=KIND,
            oracle="integrated gradients from streams put between the prompts, 3 midpoints; ours "
            f"{dtype}; {name}",
            control=f"right ends of the steps, or the gradient alone: off by {control:.1g}",
            deviation=off,
            tolerance=TOLERANCES[dtype],
            unit="standard deviations of the logits",
        )


def test_batches_of_steps_and_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("gpt2", "z_pos", "noising", "logit_diff", "integrated")
    whole, _ = ours(*args, steps=5)
    for most in (1, 2, 7):
        monkeypatch.setattr("interp.models.batches._MOST_ROWS", most)
        parts, _ = ours(*args, steps=5)
        assert_close(parts, whole, FLOAT64, most, size(whole))


def soft_model() -> LoadedModel:
    """A smooth GPT-2 whose scores are divided by 4, so that its softmaxes bend gently."""
    model = deepcopy(_models.random_model(torch.float64).hooked)
    for block in model.blocks:
        block.attn.W_Q.data /= 4
        block.attn.b_Q.data /= 4
    return LoadedModel(_models.INFO, model, torch.device("cpu"), torch.float64)


def test_the_integral_adds_up_to_the_gap_and_comes_closer_with_steps(ledger: Note) -> None:
    """Over all positions before the first layer it is metric(source) - metric(base)."""
    model, behavior = soft_model(), _models.behaviors()["all tokens differ"]
    grid = make_grid(model.info, behavior, "resid_pre")
    off: dict[int, float] = {}
    for steps in (1, 4, 16, 64):
        work = Attribution(model, behavior, grid, "denoising", "logit_diff")
        *_, (values, totals) = work.estimate("integrated", steps)
        gap = work.clean - work.corrupted
        moved = (values - work.base[:, None, None])[:, 0].sum(-1)
        np.testing.assert_allclose(moved, totals, rtol=1e-9)
        off[steps] = float(np.abs(totals - gap).max() / np.abs(gap).min())
    # The midpoint rule's error falls with the square of the steps: 16 times for 4 times as many.
    assert off[16] / off[64] == pytest.approx(16, rel=0.1)
    assert off[64] < 1e-3
    *_, (plain, _) = work.estimate("gradient", 1)
    control = float(np.abs((plain - work.base[:, None, None])[:, 0].sum(-1) - gap).max())
    control /= float(np.abs(gap).min())
    assert control > 100 * off[64]
    ledger(
        kind=KIND,
        oracle="integrated gradients over all inputs add up to the gap; 64 steps",
        control=f"the gradient alone: off by {control:.1g}",
        deviation=off[64],
        tolerance=1e-3,
        unit="of the gap",
    )


# --- where the rest is linear, an estimate is the exact patch -------------------------------------


@lru_cache
def linear_model() -> LoadedModel:
    """Two layers of attention without norms or MLPs: behind a pattern everything is linear."""
    shape = {
        "n_layers": 2, "n_heads": 4, "d_model": 20, "d_head": 6, "n_ctx": 16, "d_vocab": 97,
        "d_vocab_out": 97, "attn_only": True, "act_fn": "relu", "normalization_type": None,
        "attention_dir": "causal", "positional_embedding_type": "standard",
        "n_key_value_heads": 2,
    }  # fmt: skip
    from interp.models.load import build

    draw = torch.Generator().manual_seed(9)
    state = {
        name: torch.randn(w.shape, generator=draw) * (0.3 if w.dim() < 2 else w.shape[-2] ** -0.5)
        for name, w in build({**shape, "init_weights": False}).state_dict().items()
        if not name.endswith((".mask", ".IGNORE"))
    }
    return loaded(shape, {n: w.double() for n, w in state.items()}, torch.float64)


def both(site: str, method: str, direction: str) -> tuple[Array, Array]:
    """Estimates and exact patches of the last layer."""
    model, behavior = linear_model(), behavior_of("gpt2")
    grid = make_grid(model.info, behavior, site)
    work = Attribution(model, behavior, grid, direction, "logit_diff")
    *_, (values, _) = work.estimate(method, 1)
    rows = range(*grid.of_layer(1).indices(grid.shape[0]))
    *_, exact = work.exact([(row, col) for row in rows for col in range(grid.shape[1])])
    base = work.base[:, None, None]
    return (values - base)[:, rows], (exact - base)[:, rows]


LAST = (
    *((site, "gradient") for site in ("resid_post", "attn_out", "z", "z_pos", "v", "v_pos")),
    *((site, "gradient") for site in ("pattern", "pattern_pos", "result", "result_pos")),
    *((site, "qk_fix") for site in ("q", "q_pos", "k", "k_pos")),
)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_behind_the_last_pattern_estimates_are_exact(direction: str, ledger: Note) -> None:
    worst, control = 0.0, np.inf
    for site, method in LAST:
        estimate, exact = both(site, method, direction)
        off = assert_close(estimate, exact, FLOAT64, (site, direction), size(exact))
        worst = max(worst, off)
    for site in ("q_pos", "k_pos", "k", "resid_pre"):  # the same through a softmax
        estimate, exact = both(site, "gradient", direction)
        control = min(control, deviation(estimate, exact, size(exact)))
    assert control > 1e-2
    ledger(
        kind=KIND,
        oracle=f"exact patches of a model that is linear behind its last pattern, {direction}",
        control=f"queries, keys and streams before it, by the gradient: off by {control:.1g}",
        deviation=worst,
        tolerance=FLOAT64,
        unit="root mean squares of the exact changes",
    )


# --- a known circuit: attention that is saturated -------------------------------------------------

FIELDS: dict[str, Any] = {
    "kind": KIND,
    "model": "induction-handmade",
    "pairs": [{"clean": "kmabcda", "corrupted": "kmebcda", "answer": "b", "foil": "d"}],
    "direction": "noising",
}
BEFORE, AFTER = (0, 4), (2, 7)  # (row, position): L0H0 behind the cue, L1H0 at the end


def test_the_gradient_sees_nothing_through_saturated_attention(ledger: Note) -> None:
    answer = interp.run(FIELDS)
    result = answer.result
    assert result.effect[AFTER] == pytest.approx(1, abs=1e-4)
    assert abs(result.effect[BEFORE]) < 1e-6
    assert result.exact_effect[BEFORE] == pytest.approx(1, abs=1e-4)
    assert result.exact_effect[AFTER] == pytest.approx(1, abs=1e-4)
    others = result.checked.copy()
    others[BEFORE] = others[AFTER] = False
    assert np.abs(result.exact_effect[others]).max() < 1e-4
    assert result.saturated.tolist() == [[0, 0], [1, 0]]
    assert "sees nothing at 1 cell whose exact effect is above 0.5: L0H0.z@4" in answer.verdict
    assert (
        "was looked for in layer 1 of the clean run: L1H0 has it, which may hide" in answer.verdict
    )
    fixed = interp.run({**FIELDS, "site": "k_pos", "method": "qk_fix"}).result
    plain = interp.run({**FIELDS, "site": "k_pos"})
    assert fixed.effect[2, 4] == pytest.approx(fixed.exact_effect[2, 4], abs=1e-4)
    assert fixed.exact_effect[2, 4] == pytest.approx(1, abs=1e-4)
    assert abs(plain.result.effect[2, 4]) < 1e-6
    assert "L1H0.k@4" in plain.verdict
    # Control: the same circuit with attention that is not saturated.
    soft = load("induction-handmade", "cpu")
    soft.hooked.blocks[1].attn.W_Q.data /= 20
    behavior = from_pairs("induction-handmade", [PromptPair("kmabcda", "kmebcda", "b", "d")])
    work = Attribution(
        soft, behavior, make_grid(soft.info, behavior, "z_pos"), "noising", "logit_diff"
    )
    *_, (values, _) = work.estimate("gradient", 1)
    seen = effects.effect(values, work.clean, work.corrupted, "noising")
    assert seen[BEFORE] > 0.1
    assert not work.saturated()[1].any()
    ledger(
        kind=KIND,
        oracle="hand-written induction circuit: estimate 0 and exact effect 1 behind saturation",
        control=f"scores divided by 20: estimated at {seen[BEFORE]:.2f}",
        deviation=float(abs(result.effect[BEFORE])),
        tolerance=1e-6,
        unit="effect (0 to 1)",
    )


def test_evenly_spread_attention_is_estimated_by_its_slope() -> None:
    """Denoising: 8 sources share the attention, so a score of 60 counts 60 x 1/8 x 10 of 10."""
    result = interp.run({**FIELDS, "direction": "denoising"}).result
    assert result.effect[BEFORE] == pytest.approx(60 / 8, rel=1e-4)
    assert result.exact_effect[BEFORE] == pytest.approx(1, abs=1e-4)
    assert "estimated 7.50" in interp.analyses.get(KIND).verdict(result)


# --- the exact check ------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["z_pos", "k", "resid_mid"])
def test_checked_cells_are_those_of_the_sweep(site: str, ledger: Note) -> None:
    name, metric = "qwen3, norms of queries and keys", "loss"
    model, behavior = case(name).models[torch.float64], behavior_of(name)
    grid = make_grid(model.info, behavior, site)
    work = Attribution(model, behavior, grid, "denoising", metric)
    *_, whole = sweep(model, behavior, grid, "denoising", metric)
    rng = np.random.default_rng(0)
    n, across = grid.shape
    cells = [divmod(int(i), across) for i in rng.permutation(n * across)[:9]]
    *_, exact = work.exact(cells)
    rows, cols = zip(*cells, strict=True)
    mine, right = exact[:, rows, cols], whole.values[:, rows, cols]
    off = assert_close(mine, right, FLOAT64, site, size(right))
    assert int(np.isfinite(exact[0]).sum()) == len(cells)
    shifted = whole.values[:, rows, [(c + 1) % grid.shape[1] for c in cols]]
    assert deviation(mine, shifted, size(right)) > FAR * FLOAT32
    ledger(
        kind=KIND,
        oracle=f"cells checked exactly, against activation patching; {site}",
        control="a column further",
        deviation=off,
        tolerance=FLOAT64,
        unit="root mean squares of the loss",
    )


def test_pairs_of_several_lengths_are_each_estimated_as_by_themselves() -> None:
    name = "gpt2"
    model, long = case(name).models[torch.float64], behavior_of(name)
    cut = [ids[:6] if i == 1 else ids for i, ids in enumerate(long.clean)]
    other = [ids[:6] if i == 1 else ids for i, ids in enumerate(long.corrupted)]
    mixed = replace(long, clean=tuple(cut), corrupted=tuple(other), read=-1)

    def estimate(behavior: Behavior, method: str, site: str) -> Array:
        grid = make_grid(model.info, behavior, site)
        work = Attribution(model, behavior, grid, "noising", "loss")
        *_, (values, _) = work.estimate(method, 2)
        *_, exact = work.exact([(0, 1)])
        return np.concatenate([values.reshape(len(behavior), -1), exact[:, 0, 1:2]], 1)

    def only(rows: list[int]) -> Behavior:
        parts = {
            field: tuple(getattr(mixed, field)[i] for i in rows)
            for field in ("clean", "corrupted", "answers", "foils")
        }
        return replace(mixed, **parts)

    for method, site in (("gradient", "z"), ("qk_fix", "k"), ("integrated", "v")):
        together = estimate(mixed, method, site)
        for rows in ([1], [0, 2]):
            apart = estimate(only(rows), method, site)
            assert_close(together[rows], apart, FLOAT64, (method, site, rows), size(apart))


def test_cells_are_drawn_evenly_from_those_that_are_not_the_largest() -> None:
    rng = np.random.default_rng(3)
    estimate = rng.normal(size=(10, 12))
    live = rng.random((10, 12)) < 0.8
    count, n, draws = np.zeros(estimate.shape), 8, 600
    for seed in range(draws):
        chosen = rechecks.choose(estimate, live, n, np.random.default_rng(seed))
        assert not chosen.whole
        assert chosen.top.sum() == chosen.drawn.sum() == n
        assert not (chosen.top & chosen.drawn).any()
        assert len(set(chosen.order)) == 2 * n
        count += chosen.drawn
    size = np.where(live, np.abs(estimate), 0)
    assert size[chosen.top].min() >= size[live & ~chosen.top].max()
    others = live & ~chosen.top
    assert not count[~others].any()
    expected = draws * n / others.sum()
    chi2 = float(((count[others] - expected) ** 2 / expected).sum())
    free = int(others.sum()) - 1
    assert chi2 < free + 4 * np.sqrt(2 * free)
    # A draw that favours large estimates would not pass.
    biased = count[others] + 0.5 * expected * (size[others] > np.median(size[others]))
    biased *= count[others].sum() / biased.sum()
    assert ((biased - expected) ** 2 / expected).sum() > free + 4 * np.sqrt(2 * free)


def test_small_maps_are_checked_whole_and_nothing_is_where_none_is_asked() -> None:
    estimate, live = np.arange(24.0).reshape(4, 6) / 24, np.ones((4, 6), bool)
    draw = partial(np.random.default_rng, 0)
    whole = rechecks.choose(estimate, live, 5, draw())
    assert whole.whole
    assert whole.drawn.all()
    assert whole.top.sum() == 5
    assert sorted(whole.order) == [(r, c) for r in range(4) for c in range(6)]
    assert rechecks.choose(estimate, live, 0, draw()).order == ()
    # Estimates that are rounding are not among the largest.
    assert rechecks.choose(estimate * 1e-8, live, 5, draw()).top.sum() == 0
    assert rechecks.planned(61, 10) == 20
    assert rechecks.planned(61, 40) == 61
    assert rechecks.planned(60, 1) == 60


def test_rank_correlation_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        a, b = rng.normal(size=(2, 15)).round(1)
        assert rechecks.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert np.isnan(rechecks.spearman(np.zeros(5), np.arange(5.0)))
    noise = rng.normal(size=(2, 40)) * 1e-5  # a thousandth of the largest, which is 1 in both
    a, b = (np.concatenate([[1.0], part]) for part in noise)
    assert rechecks.spearman(a, b) == pytest.approx(1)


def test_the_interval_of_the_rank_correlation_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecks, "_RESAMPLES", 100)
    rng = np.random.default_rng(5)
    x = rng.normal(size=4000)
    y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=4000)
    truth, inside, trials = spearmanr(x, y).statistic, 0, 60
    for _ in range(trials):
        i = rng.integers(0, len(x), 20)
        drawn = np.ones((1, 20), bool)
        chosen = rechecks.Chosen(~drawn, drawn, False, ())
        score = rechecks.agreement(x[i][None], y[i][None], chosen, rng)
        assert not isinstance(score, Absent)
        assert isinstance(score.interval, Interval)
        inside += score.interval.low <= truth <= score.interval.high
    assert inside >= 0.86 * trials


def test_no_interval_is_given_where_many_effects_are_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten cells drawn of a map of which six in ten are 0."""
    monkeypatch.setattr(rechecks, "_RESAMPLES", 100)
    rng = np.random.default_rng(6)
    x = rng.normal(size=4000)
    y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=4000)
    idle = rng.random(4000) < 0.6
    x[idle] = y[idle] = 0
    drawn = np.ones((1, 10), bool)
    chosen, given = rechecks.Chosen(~drawn, drawn, False, ()), 0
    for _ in range(10):
        i = rng.integers(0, len(x), 10)
        score = rechecks.agreement(x[i][None], y[i][None], chosen, rng)
        assert not isinstance(score, Absent)
        if isinstance(score.interval, Interval):
            given += 1
        else:
            assert "equal to another" in score.interval.reason
    assert given <= 2
    assert rechecks.tied(np.array([0.0, 0, 1, 2, 3, 4])) == pytest.approx(1 / 3)
    assert rechecks.tied(np.array([0.0, 1e-9, 1e-9, 2])) == pytest.approx(3 / 4)
    # Control: the same without the idle cells has its interval.
    i = rng.permutation(np.flatnonzero(~idle))[:10]
    score = rechecks.agreement(x[i][None], y[i][None], chosen, rng)
    assert not isinstance(score, Absent)
    assert isinstance(score.interval, Interval)
    # A sample is one of the cells that are not the largest, and says so.
    assert score.name.endswith("on cells drawn from all but the largest")


# --- what is said, and when -----------------------------------------------------------------------


def states(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[tuple[float, Any, str]]:
    """Every state of a run of pairs one by one: fraction, result and what is said of it."""
    monkeypatch.setattr(attribution_patching, "rows_per_batch", lambda info, n: 1)
    analysis = interp.analyses.get(KIND)
    given = {"behavior": "induction-first-cue", "n_pairs": 4, "metric": "prob", "recheck": 2}
    spec = analysis.spec.model_validate({**FIELDS, **given, **fields})
    ctx = Context(analysis.inputs(spec), np.random.default_rng(0), lambda name: load(name, "cpu"))
    return [
        (step.fraction, step.result, analysis.verdict(step.result))
        for step in analysis.run(spec, ctx)
    ]


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_a_running_state_says_only_what_is_known(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that cannot matter are filled in of all pairs at once: they do not count as done."""
    found = states(monkeypatch, method=method, steps=3)
    first = [step for step in found if np.isnan(step[1].estimates).any()]
    assert len(first) == 3
    for n, (fraction, result, said) in enumerate(first, 1):
        assert not np.isnan(result.estimates[:, 0, 0]).any()  # such a cell
        assert said == f"{n} of 4 pairs are estimated so far."
        assert fraction == pytest.approx(found[3][0] * n / 4)
        for figure in words.figures(result):
            assert "every cell" not in figure.caption
            assert "no interval" not in figure.caption
        assert "3 of 4" in words.figures(first[-1][1])[0].caption
        assert "No cell is patched exactly yet" in words.figures(result)[1].caption
    for fraction, result, said in found[3:-1]:
        chosen = int((result.top | result.drawn).sum())
        so_far = f"{int(result.checked.sum())} of {chosen} chosen cells are patched exactly so far."
        assert fraction < 1
        assert so_far in said
        assert so_far in words.figures(result)[1].caption
    assert found[-1][0] == 1
    assert "so far" not in found[-1][2]
    assert "The map is small: every cell" in words.figures(found[-1][1])[1].caption
    assert "nan" not in " ".join(said for _, _, said in found)


def test_the_integral_is_there_of_pairs_in_which_nothing_can_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "gpt2"
    of, long = case(name), behavior_of(name)
    # The second pair differs behind the position that is read.
    clean, corrupted = list(long.clean), list(long.corrupted)
    corrupted[1] = (*clean[1][:-1], corrupted[1][-1])
    behavior = replace(long, read=3, clean=tuple(clean), corrupted=tuple(corrupted))
    apart = [replace(behavior, **{
        field: (getattr(behavior, field)[i],)
        for field in ("clean", "corrupted", "answers", "foils")
    }) for i in range(3)]  # fmt: skip
    for one, expected in zip(apart, (False, True, False), strict=True):
        grid = make_grid(of.models[torch.float64].info, one, "z_pos")
        work = Attribution(of.models[torch.float64], one, grid, "noising", "loss")
        assert work.nothing.all() == expected
        *_, (values, totals) = work.estimate("integrated", 2)
        assert np.isfinite(values).all()
        assert np.isfinite(totals).all()
        nearly = np.abs(totals).max() < 1e-9
        assert nearly == expected
    # Other pairs' batches fill its cells in, and yet its integral is made.
    monkeypatch.setattr(attribution_patching, "rows_per_batch", lambda info, n: 1)
    grid = make_grid(of.models[torch.float64].info, behavior, "z_pos")
    work = Attribution(of.models[torch.float64], behavior, grid, "noising", "loss")
    *_, (_, totals) = work.estimate("integrated", 2)
    assert np.isfinite(totals).all()


def test_the_share_of_the_integral_promises_only_its_limit() -> None:
    """The shares of this pair go past 1 and come back: one near 1 is met by chance."""
    shares = {}
    for steps in (1, 6, 8, 12, 20, 64):
        answer = interp.run({**FIELDS, "method": "integrated", "steps": steps, "recheck": 0})
        shares[steps] = float(answer.result.totals.mean()) / -10
        assert "more steps" not in answer.verdict
        assert "The limit of many steps is 1" in answer.verdict
        verb = "one step accounts" if steps == 1 else f"{steps} steps account"
        assert f"{verb} for {words._two(shares[steps])} of the gap" in answer.verdict
    off = {steps: abs(share - 1) for steps, share in shares.items()}
    assert off[8] < 0.1 < off[6]
    assert off[12] > 0.3 > off[20] > off[64]
    assert off[64] < 0.01


def test_what_was_looked_at_behind_missed_cells_is_said_and_no_more() -> None:
    """Attention of the base run, of later layers; of the head's own unless the fix computes it."""
    result = interp.run(FIELDS).result
    nothing = np.zeros_like(result.saturated)
    quiet = interp.analyses.get(KIND).verdict(replace(result, saturated=nothing))
    assert "was looked for in layer 1 of the clean run: no head has it." in quiet
    assert "something else" not in quiet
    assert "between" not in quiet
    own = replace(result, site="k_pos")
    assert "layers 0 to 1 of" in words._attention(own, [BEFORE])
    assert "layer 1 of" in words._attention(replace(own, method="qk_fix"), [BEFORE])
    assert words._attention(result, [AFTER]) == "No attention lies behind."
    many = {"pairs": [], "behavior": "induction-first-cue", "n_pairs": 30, "recheck": 0}
    others = interp.run({**FIELDS, **many}).result
    others = replace(others, method="integrated", saturated=result.saturated)
    said = words._attention(others, [BEFORE])
    assert "in 20 pairs: L1H0 has it in at least half of them" in said
    assert "Runs between the two were not looked at." in said
    # Cells drawn stand for the cells they were drawn from.
    sampled = replace(result, drawn=np.zeros_like(result.drawn))
    caption = words.figures(sampled)[1].caption
    assert "Those drawn at random speak for the other 11 cells" in caption
    assert "in general" not in caption


# --- what is refused, and what is one question ----------------------------------------------------


def test_kl_has_no_slope_in_the_clean_run() -> None:
    analysis = interp.analyses.get(KIND)
    for method in ("gradient", "qk_fix"):
        spec = analysis.spec.model_validate({**FIELDS, "metric": "kl", "method": method})
        with pytest.raises(BadInput, match=r"no slope at the clean run.*integrated gradients"):
            analysis.inputs(spec)
    right = [{"direction": "denoising"}, {"method": "integrated"}, {"metric": "logit_diff"}]
    for change in right:
        analysis.inputs(analysis.spec.model_validate({**FIELDS, "metric": "kl", **change}))
    # It is so: forward and backward, the gradient there is nothing.
    mine, _ = ours("gpt2", "z", "noising", "kl")
    there, _ = ours("gpt2", "z", "denoising", "kl")
    assert np.abs(mine).max() < 1e-10 * np.abs(there).max()


def test_models_that_cannot_be_differentiated_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = case(SHORTFORMER)
    model = replace(of.models[torch.float64])  # loaded anew: layers are read once per load
    behavior = replace(behavior_of(ENCODER), read=of.read)
    monkeypatch.setattr(model.hooked.cfg, "use_logn_attn", True, raising=False)
    with pytest.raises(BadInput, match=r"(?s)queries by position.*[Uu]se activation patching"):
        Attribution(model, behavior, make_grid(model.info, behavior, "z"), "noising", "loss")


def test_fields_that_are_ignored_do_not_make_another_question() -> None:
    analysis = interp.analyses.get(KIND)

    def key(**fields: Any) -> str:
        return analysis.spec.model_validate({**FIELDS, **fields}).canonical

    assert key(steps=20) == key()
    assert key(method="qk_fix") == key()  # heads' outputs: the fix is the gradient
    assert key(n_pairs=7) == key()
    assert key(method="integrated", steps=20) != key(method="integrated")
    assert key(site="k", method="qk_fix") != key(site="k")
    assert key(recheck=3) != key()
    named = json.loads(key(behavior="induction-first-cue"))
    assert named["pairs"] == []


def test_the_softmax_of_the_comparison_is_one() -> None:
    """The metric here is written out in torch; the other tests have it in numpy."""
    logits = np.random.default_rng(0).normal(size=(3, 10, 7))
    behavior = replace(behavior_of(ENCODER), read=4)
    found = metric_of(behavior, "loss", torch.zeros(1))(torch.tensor(logits))
    expected = -log_softmax(logits[:, 4])[range(3), list(behavior.answers)]
    np.testing.assert_allclose(found.numpy(), expected)

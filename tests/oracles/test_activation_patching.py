"""Activation patching against independent computations.

TransformerLens's own patching functions; GPT-2 of ``transformers`` in float64 with plain torch
hooks; a bidirectional model from formulas; a circuit that is known because it was written by hand;
and, for intervals and the choice of the best cell, simulations whose truth is known.
Each has a broken twin that must be far off.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import transformer_lens.patching as theirs
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from interp.analyses._record import Context
from interp.behaviors import BUILT_IN, Behavior, PromptPair, all_pairs, built_in, from_pairs
from interp.errors import InterpError, NothingToRecover
from interp.methods import effects
from interp.methods.grids import Grid, make_grid
from interp.methods.patching import Sweep, sweep
from interp.models.load import LoadedModel, load
from tests.contract._checks import ROOT
from tests.oracles import _formulas, _models
from tests.oracles._formulas import Patch, log_softmax
from tests.oracles._models import Array

KIND = "activation_patching"
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "z_pos")
DIRECTIONS = ("denoising", "noising")
METRICS = ("logit_diff", "prob", "loss", "kl")
CASES = tuple(itertools.product(SITES, DIRECTIONS))
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the logits' standard deviation
FAR = 1e3  # a broken twin is off by at least so many tolerances

Note = Callable[..., None]
Oracle = Callable[[Behavior, str, str], Array]
"""(behavior, site, direction) -> logits at the position read, ``[row, col, pair, output]``."""


# --- what is compared --------------------------------------------------------------------------


def numbers(metric: str, logits: Array, behavior: Behavior, clean: Array) -> Array:
    """The metric of each pair from logits ``[..., pair, output]``, written out anew."""
    logp = log_softmax(logits)
    pair, answer, foil = np.arange(len(behavior)), list(behavior.answers), list(behavior.foils)
    if metric == "logit_diff":
        return logits[..., pair, answer] - logits[..., pair, foil]
    if metric == "prob":
        return np.exp(logp[..., pair, answer])
    if metric == "loss":
        return -logp[..., pair, answer]
    reference = log_softmax(clean)
    return (np.exp(reference) * (reference - logp)).sum(-1)


def last_state(
    model: LoadedModel, behavior: Behavior, site: str, direction: str, metric: str
) -> Sweep:
    """Sweep to the end."""
    grid = make_grid(model.info, behavior, site)
    *_, last = sweep(model, behavior, grid, direction, metric)
    return last


def assert_same_sweep(
    ours: Sweep, values: Array, bare: dict[str, Array], limit: float, share: float = 1.0
) -> float:
    """Compare every cell, inert ones too, and both bare runs; return the largest deviation.

    Args:
        ours: The sweep.
        values: What each patch should give.
        bare: What the runs without a patch should give.
        limit: Allowed deviation.
        share: Of the cells, that must keep to it.
    """
    parts = (
        (ours.values, values),
        (ours.clean, bare["clean"]),
        (ours.corrupted, bare["corrupted"]),
    )
    off = max(float(np.quantile(np.abs(mine - other), share)) for mine, other in parts)
    assert off <= limit, f"off by {off:.2g}, allowed {limit:.2g}"
    return off


def assert_sweeps_agree(
    model: LoadedModel,
    behavior: Behavior,
    oracle: Oracle,
    bare: dict[str, Array],
    tolerance: float,
    cases: tuple[tuple[str, str], ...] = CASES,
    share: float = 1.0,
) -> float:
    """Compare sites, directions and metrics; return the largest deviation in the logits' std."""
    scale = float(np.stack([bare["clean"], bare["corrupted"]]).std())
    worst = 0.0
    for site, direction in cases:
        logits = oracle(behavior, site, direction)
        for metric in METRICS:
            values = np.moveaxis(numbers(metric, logits, behavior, bare["clean"]), -1, 0)
            anchors = {k: numbers(metric, v, behavior, bare["clean"]) for k, v in bare.items()}
            ours = last_state(model, behavior, site, direction, metric)
            try:
                off = assert_same_sweep(ours, values, anchors, tolerance * scale, share)
            except AssertionError as error:
                raise AssertionError(f"{site}, {direction}, {metric}: {error}") from error
            worst = max(worst, off / scale)
            _assert_effects_agree(ours, values, anchors, direction)
    return worst


def _assert_effects_agree(
    ours: Sweep, values: Array, anchors: dict[str, Array], direction: str
) -> None:
    """Effects by their definition: the share of the way to the run that the patch comes from."""
    base, source = ("corrupted", "clean") if direction == "denoising" else ("clean", "corrupted")
    floor, ceiling = anchors[base].mean(), anchors[source].mean()
    by_hand = (values.mean(0) - floor) / (ceiling - floor)
    mine = effects.effect(ours.values, ours.clean, ours.corrupted, direction)
    np.testing.assert_allclose(mine, by_hand, atol=1e-4 * (1 + np.abs(by_hand).max()))
    assert (np.abs(mine[ours.inert]) < 1e-12).all()


def off_by(model: LoadedModel, behavior: Behavior, oracle: Oracle, bare: dict[str, Array]) -> float:
    """How far the sweeps are off on average over cases (a broken twin, no assertion)."""
    scale = float(np.stack([bare["clean"], bare["corrupted"]]).std())
    found = []
    for site, direction in CASES:
        if site == "z":
            continue  # all positions at once: a shift of positions does not show
        values = numbers("logit_diff", oracle(behavior, site, direction), behavior, bare["clean"])
        ours = last_state(model, behavior, site, direction, "logit_diff")
        found.append(np.abs(ours.values - np.moveaxis(values, -1, 0)).max() / scale)
    return float(np.min(found))


@contextmanager
def shifted() -> Iterator[None]:
    """Break the library on purpose: every patch goes one position too far."""
    right = Grid.place

    def wrong(self: Grid, row: int, col: int) -> Any:
        place = right(self, row, col)
        return (
            place if place.pos is None else replace(place, pos=(place.pos + 1) % max(1, self.n_pos))
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grid, "place", wrong)
        yield


def swapped(oracle: Oracle) -> Oracle:
    """The other direction."""
    other = {"denoising": "noising", "noising": "denoising"}
    return lambda behavior, site, direction: oracle(behavior, site, other[direction])


def assert_controls_fail(
    model: LoadedModel, behavior: Behavior, oracle: Oracle, bare: dict[str, Array], limit: float
) -> float:
    """Both broken twins are off by orders of magnitude; return the smaller deviation."""
    turned = off_by(model, behavior, swapped(oracle), bare)
    with shifted():
        moved = off_by(model, behavior, oracle, bare)
        with pytest.raises(AssertionError, match="off by"):
            assert_sweeps_agree(model, behavior, oracle, bare, limit, (("resid_post", "noising"),))
    assert min(turned, moved) > FAR * limit
    return min(turned, moved)


# --- TransformerLens ---------------------------------------------------------------------------

_BY_POSITION = theirs.layer_pos_patch_setter
_THEIRS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "resid_pre": (theirs.get_act_patch_resid_pre, {}),
    "attn_out": (theirs.get_act_patch_attn_out, {}),
    "mlp_out": (theirs.get_act_patch_mlp_out, {}),
    "z": (theirs.get_act_patch_attn_head_out_all_pos, {}),
    "z_pos": (theirs.get_act_patch_attn_head_out_by_pos, {}),
    # It has no function of its own for these two.
    **{
        name: (
            theirs.generic_activation_patch,
            {
                "patch_setter": _BY_POSITION,
                "activation_name": name,
                "index_axis_names": ("layer", "pos"),
            },
        )
        for name in ("resid_mid", "resid_post")
    },
}


@lru_cache
@torch.no_grad()
def by_transformer_lens(behavior: Behavior, site: str, direction: str) -> Array:
    """Sweep with ``transformer_lens.patching``; its metric writes down the logits that it is given.

    Its docstrings say "clean into corrupted"; noising is the same with the two exchanged.
    """
    hooked = _models.random_model().hooked
    prompts = (behavior.clean, behavior.corrupted)
    source, base = prompts if direction == "denoising" else prompts[::-1]
    _, cache = hooked.run_with_cache(torch.tensor(source))
    seen: list[Tensor] = []

    def metric(logits: Tensor) -> Tensor:
        seen.append(logits[:, behavior.read].double())
        return seen[-1][0, 0]

    run, fixed = _THEIRS[site]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "tqdm", lambda rows: rows)
        out = run(
            hooked,
            corrupted_tokens=torch.tensor(base),
            clean_cache=cache,
            patching_metric=metric,
            **fixed,
        )
    logits = torch.stack(seen)
    # The cells were visited in the order in which they are returned.
    assert torch.equal(out.flatten().double(), logits[:, 0, 0])
    grid = logits.reshape(*out.shape, *logits.shape[1:]).numpy()
    if site == "z_pos":  # [layer, pos, head] -> [layer × head, pos]
        grid = grid.swapaxes(1, 2).reshape(-1, out.shape[1], *logits.shape[1:])
    return grid


@torch.no_grad()
def bare_logits(behavior: Behavior) -> dict[str, Array]:
    """The model's own logits without any patch."""
    hooked = _models.random_model().hooked
    return {
        name: hooked(torch.tensor(prompts))[:, behavior.read].double().numpy()
        for name, prompts in (("clean", behavior.clean), ("corrupted", behavior.corrupted))
    }


@pytest.mark.parametrize("name", _models.behaviors())
def test_sweeps_equal_transformer_lens(name: str, ledger: Note) -> None:
    model, behavior = _models.random_model(), _models.behaviors()[name]
    bare = bare_logits(behavior)
    deviation = assert_sweeps_agree(model, behavior, by_transformer_lens, bare, FLOAT32)
    control = assert_controls_fail(model, behavior, by_transformer_lens, bare, FLOAT32)
    ledger(
        kind=KIND,
        oracle=f"transformer_lens.patching, 7 sites × 2 directions × 4 metrics; {name}",
        control=f"one position too far, or the other direction: off by {control:.1g}",
        deviation=deviation,
        tolerance=FLOAT32,
        unit="standard deviations of the logits",
    )


def test_every_cell_that_is_not_inert_matters() -> None:
    """The comparison would be empty if patches did little, or if too much were marked inert."""
    behavior = _models.behaviors()["all tokens differ"]
    scale = float(bare_logits(behavior)["clean"].std())
    for site, direction in CASES:
        ours = last_state(_models.random_model(), behavior, site, direction, "logit_diff")
        base = ours.corrupted if direction == "denoising" else ours.clean
        moved = np.abs(ours.values - base[:, None, None]).max(0)
        assert moved[~ours.inert].min() > 1e-2 * scale, (site, direction)


def test_inert_cells_are_those_and_only_those_that_structure_rules_out() -> None:
    """Count them by hand: 3 layers, 7 positions, prefix of 3 tokens shared, read at the end."""
    model, named = _models.random_model(), _models.behaviors()

    def count(name: str, site: str) -> int:
        return int(last_state(model, named[name], site, "noising", "loss").inert.sum())

    assert count("a shared prefix", "resid_pre") == 9
    # In the last layer all but the position read: 6 there, 3 in each of the two layers before.
    assert count("a shared prefix", "attn_out") == 12
    assert count("a shared prefix", "z_pos") == 48
    assert count("a shared prefix", "z") == 0
    # Token 2 alone differs: before layer 0 nothing else does, later all that sees it.
    assert count("one token differs", "resid_pre") == 6 + 2 + 2
    # Read at 4: positions 5 and 6 are too late, 0 to 2 the same; in the last layer only 4 counts.
    assert count("read in the middle", "resid_pre") == 15
    assert count("read in the middle", "resid_post") == 5 + 5 + 6


def test_heads_at_all_positions_take_pairs_of_different_lengths() -> None:
    model, whole = _models.random_model(), _models.behaviors()["all tokens differ"]
    short = [1, 3]

    def cut(prompts: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(ids[:5] if i in short else ids for i, ids in enumerate(prompts))

    mixed = replace(whole, clean=cut(whole.clean), corrupted=cut(whole.corrupted))
    ours = last_state(model, mixed, "z", "denoising", "loss")
    for rows in (short, [0, 2]):
        part = replace(
            mixed,
            clean=tuple(mixed.clean[i] for i in rows),
            corrupted=tuple(mixed.corrupted[i] for i in rows),
            answers=tuple(mixed.answers[i] for i in rows),
            foils=tuple(mixed.foils[i] for i in rows),
        )
        bare = bare_logits(part)
        logits = by_transformer_lens(part, "z", "denoising")
        values = np.moveaxis(numbers("loss", logits, part, bare["clean"]), -1, 0)
        anchors = {k: numbers("loss", v, part, bare["clean"]) for k, v in bare.items()}
        of_rows = replace(
            ours,
            values=ours.values[rows],
            clean=ours.clean[rows],
            corrupted=ours.corrupted[rows],
        )
        assert_same_sweep(of_rows, values, anchors, FLOAT32 * float(bare["clean"].std()))


# --- GPT-2 of transformers, float64 --------------------------------------------------------------


@lru_cache
def gpt2() -> GPT2LMHeadModel:
    """The same weights in another library's model: fused QKV, transposed nothing, tied nothing."""
    info, w = _models.INFO, _models.random_weights()
    config = GPT2Config(
        vocab_size=info.d_vocab,
        n_positions=info.n_ctx,
        n_embd=info.d_model,
        n_layer=info.n_layers,
        n_head=info.n_heads,
        n_inner=info.d_mlp,
        activation_function="gelu_new",
        layer_norm_epsilon=_models.EPSILON,
        tie_word_embeddings=False,
        attn_implementation="eager",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config).double().eval()

    def flat(at: str, what: str) -> Array:
        # Heads lie side by side in the columns, queries before keys before values.
        parts = [w[f"{at}.attn.{what}_{name}"] for name in "QKV"]
        if what == "b":
            return np.concatenate([part.reshape(-1) for part in parts])
        wide = [part.transpose(1, 0, 2).reshape(info.d_model, -1) for part in parts]
        return np.concatenate(wide, axis=1)

    state = {
        "transformer.wte.weight": w["embed.W_E"],
        "transformer.wpe.weight": w["pos_embed.W_pos"],
        "transformer.ln_f.weight": w["ln_final.w"],
        "transformer.ln_f.bias": w["ln_final.b"],
        "lm_head.weight": w["unembed.W_U"].T,
    }
    for layer in range(info.n_layers):
        at, to = f"blocks.{layer}", f"transformer.h.{layer}"
        state |= {
            f"{to}.attn.c_attn.weight": flat(at, "W"),
            f"{to}.attn.c_attn.bias": flat(at, "b"),
            f"{to}.attn.c_proj.weight": w[f"{at}.attn.W_O"].reshape(-1, info.d_model),
            f"{to}.attn.c_proj.bias": w[f"{at}.attn.b_O"],
            f"{to}.mlp.c_fc.weight": w[f"{at}.mlp.W_in"],
            f"{to}.mlp.c_fc.bias": w[f"{at}.mlp.b_in"],
            f"{to}.mlp.c_proj.weight": w[f"{at}.mlp.W_out"],
            f"{to}.mlp.c_proj.bias": w[f"{at}.mlp.b_out"],
        }
        for ours, its in (("ln1", "ln_1"), ("ln2", "ln_2")):
            state[f"{to}.{its}.weight"] = w[f"{at}.{ours}.w"]
            state[f"{to}.{its}.bias"] = w[f"{at}.{ours}.b"]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}
    model.load_state_dict(tensors, strict=True)
    return model.requires_grad_(False)


_INPUT_OF = {"resid_pre": "", "resid_mid": ".ln_2", "z": ".attn.c_proj"}
_OUTPUT_OF = {"resid_post": "", "attn_out": ".attn", "mlp_out": ".mlp"}


def _hook(component: str, layer: int, see: Callable[[Tensor], None]) -> Any:
    """Let ``see`` read or change a component in place, before anything else uses it."""
    block: nn.Module = gpt2().transformer.h[layer]
    if component in _INPUT_OF:
        module = block.get_submodule(_INPUT_OF[component].lstrip("."))
        # The tensor that ln_2 is given is also the one that goes on beside it.
        return module.register_forward_pre_hook(lambda _, args: see(args[0]))
    module = block.get_submodule(_OUTPUT_OF[component].lstrip("."))
    return module.register_forward_hook(
        lambda _, args, out: see(out[0] if isinstance(out, tuple) else out)
    )


@torch.no_grad()
def _gpt2_logits(ids: Any, read: int, hooks: dict[tuple[str, int], Any]) -> Tensor:
    handles = [_hook(component, layer, see) for (component, layer), see in hooks.items()]
    try:
        return gpt2()(input_ids=torch.tensor(ids), use_cache=False).logits[:, read]
    finally:
        for handle in handles:
            handle.remove()


@lru_cache
def by_gpt2(behavior: Behavior, site: str, direction: str) -> Array:
    """Sweep with forward hooks on the modules of GPT2LMHeadModel."""
    info, component = _models.INFO, "z" if site == "z_pos" else site
    prompts = (behavior.clean, behavior.corrupted)
    source, base = prompts if direction == "denoising" else prompts[::-1]
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[Tensor], None]:
        return lambda act: kept.__setitem__(layer, act.clone())

    layers, heads, length = range(info.n_layers), range(info.n_heads), len(base[0])
    _gpt2_logits(source, behavior.read, {(component, layer): keep(layer) for layer in layers})

    def cell(layer: int, pos: int | slice, head: int | None) -> Array:
        width = slice(None)
        if head is not None:
            width = slice(head * info.d_head, (head + 1) * info.d_head)

        def put(act: Tensor) -> None:
            act[:, pos, width] = kept[layer][:, pos, width]

        return _gpt2_logits(base, behavior.read, {(component, layer): put}).numpy()

    if site == "z":
        rows = [[cell(layer, slice(None), head) for head in heads] for layer in layers]
    elif site == "z_pos":
        each = itertools.product(layers, heads)
        rows = [[cell(layer, p, head) for p in range(length)] for layer, head in each]
    else:
        rows = [[cell(layer, p, None) for p in range(length)] for layer in layers]
    return np.array(rows)


@pytest.mark.parametrize("name", ["a shared prefix", "some of each", "read in the middle"])
def test_sweeps_equal_gpt2_of_transformers_in_float64(name: str, ledger: Note) -> None:
    behavior = _models.behaviors()[name]
    bare = {
        which: _gpt2_logits(ids, behavior.read, {}).numpy()
        for which, ids in (("clean", behavior.clean), ("corrupted", behavior.corrupted))
    }
    exact = _models.random_model(torch.float64)
    for dtype, tolerance in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        model = _models.random_model(dtype)
        deviation = assert_sweeps_agree(model, behavior, by_gpt2, bare, tolerance)
        ledger(
            kind=KIND,
            oracle=f"GPT2LMHeadModel in float64 with torch hooks; ours {dtype}; {name}",
            control="one position too far, or the other direction",
            deviation=deviation,
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )
    assert_controls_fail(exact, behavior, by_gpt2, bare, FLOAT32)


# --- a known circuit -----------------------------------------------------------------------------

HANDMADE = "induction-handmade"
PREVIOUS, INDUCTION = (0, 4), (2, 11)  # (row, position): L0H0 after the first cue, L1H0 at the end


def assert_only_the_known_heads_matter(effect: Array) -> float:
    """Effect 1 at the two known cells and 0 at every other; return the largest deviation."""
    known = np.zeros(effect.shape)
    known[PREVIOUS] = known[INDUCTION] = 1
    off = float(np.abs(effect - known).max())
    assert off < 1e-3
    return off


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_patching_finds_the_induction_circuit_and_nothing_else(
    direction: str, ledger: Note
) -> None:
    behavior, model = built_in("induction-first-cue", 20, HANDMADE), load(HANDMADE, "cpu")

    def effect(of: LoadedModel) -> Array:
        state = last_state(of, behavior, "z_pos", direction, "logit_diff")
        return effects.effect(state.values, state.clean, state.corrupted, direction)

    deviation = assert_only_the_known_heads_matter(effect(model))
    # Negative control: the same weights with the heads of the last layer exchanged.
    renamed = load("induction-handmade", "cpu")
    for name, weight in renamed.hooked.blocks[1].attn.named_parameters():
        if name != "b_O":
            weight.copy_(weight.flip(0).clone())
    with pytest.raises(AssertionError):
        assert_only_the_known_heads_matter(effect(renamed))
    ledger(
        kind=KIND,
        oracle=f"hand-written induction circuit, {direction}: exactly L0H0 and L1H0",
        control="heads of the last layer exchanged",
        deviation=deviation,
        tolerance=1e-3,
        unit="effect (0 to 1)",
    )


def test_the_circuit_is_found_through_the_whole_analysis() -> None:
    spec = {"kind": KIND, "behavior": "induction-first-cue", "n_pairs": 20, "site": "z_pos"}
    answer = interp.run({**spec, "model": "induction-handmade"})
    assert_only_the_known_heads_matter(answer.result.effect)
    assert answer.result.best_cell in (PREVIOUS, INDUCTION)
    assert "L0H0.z@4 1.00" in answer.verdict
    assert "L1H0.z@11 1.00" in answer.verdict


def _run(behavior: Behavior, **fields: Any) -> Any:
    analysis = interp.analyses.get(KIND)
    spec = analysis.spec(model=behavior.model, **fields)
    ctx = Context(behavior, np.random.default_rng(spec.seed), lambda name: load(name, "cpu"))
    *_, last = analysis.run(spec, ctx)
    return last.result


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_corrupted_prompt_that_changes_nothing_is_refused(direction: str) -> None:
    """The control of the known circuit: another letter is changed, and there is nothing to find."""
    pairs = [
        PromptPair(text, text[:8] + unseen + text[9:], answer, foil)
        for text, unseen, answer, foil in (
            ("kmabcdefgha", "z", "b", "d"),
            ("qwertyuiope", "z", "r", "y"),
            ("zxcvbnmasdc", "k", "v", "n"),
        )
    ]
    behavior = from_pairs("induction-handmade", pairs)
    with pytest.raises(NothingToRecover):
        _run(behavior, direction=direction)


FOUR = (("kmabcda", "b", "c"), ("xyzwvuz", "w", "v"), ("pqrstur", "s", "t"), ("efghijg", "h", "i"))
"""Clean prompts, answers and foils. The third letter is the cue, the sixth does not matter."""


def four_pairs(dull: tuple[int, ...]) -> list[PromptPair]:
    """Pairs 0 and 2 are searched, 1 and 3 held out; the ``dull`` ones have no gap."""
    return [
        PromptPair(
            clean,
            clean[:5] + "n" + clean[6] if i in dull else clean[:2] + "o" + clean[3:],
            answer,
            foil,
        )
        for i, (clean, answer, foil) in enumerate(FOUR)
    ]


def test_search_pairs_without_a_gap_do_not_break_the_run() -> None:
    """Only the held-out pairs lose the answer."""
    pairs = four_pairs(dull=(0, 2))
    try:
        with np.errstate(all="ignore"):
            result = _run(from_pairs("induction-handmade", pairs))
    except NothingToRecover:
        return  # said plainly: as good
    assert result.best is None or np.isfinite(result.best.value)


def test_the_verdict_does_not_deny_the_intervals_that_it_prints() -> None:
    """Pairs 1 and 3 have no gap: they were held out all the same, and cells have intervals."""
    result = _run(from_pairs("induction-handmade", four_pairs(dull=(1, 3))))
    said = interp.analyses.get(KIND).verdict(result)
    assert not ("[" in said and "no interval" in said), said
    assert "nothing held out" not in said, said


def test_the_verdict_names_the_cell_whose_held_out_value_it_gives() -> None:
    """The cells are listed by all pairs, the best one is chosen on the search pairs alone."""
    pairs = built_in("paren-near-misses", 6, "paren-balancer")
    result = _run(pairs, site="z_pos", direction="noising", metric="loss")
    said = interp.analyses.get(KIND).verdict(result)
    row, col = result.best_cell
    assert f"{result.rows[row]}.z@{col}" in said, said


def assert_halves_differ(behavior: Behavior) -> None:
    """No pair that is held out is also among those that the best cell is chosen on."""
    pairs = list(zip(behavior.clean, behavior.corrupted, strict=True))
    marks = behavior.held_out or (False,) * len(pairs)
    held = {pair for pair, out in zip(pairs, marks, strict=True) if out}
    search = {pair for pair, out in zip(pairs, marks, strict=True) if not out}
    both = len(held & search)
    assert not both, f"{both} of {len(held)} held-out pairs are also searched"


@pytest.mark.parametrize("name", [name for name, source in BUILT_IN.items() if source.model])
def test_search_and_held_out_pairs_are_never_the_same(name: str) -> None:
    model = BUILT_IN[name].model
    assert_halves_differ(built_in(name, len(all_pairs(name, model).pairs), model))


def test_a_pair_typed_twice_is_not_both_searched_and_held_out() -> None:
    first, second = PromptPair("kmabcda", "kmebcda", "b", "d"), PromptPair("xyz", "wyz", "y", "z")
    with suppress(InterpError):  # refusing it is as good
        assert_halves_differ(from_pairs("induction-handmade", [first, first, second, second]))


# --- a bidirectional model, from formulas ---------------------------------------------------------


def by_formula(behavior: Behavior, site: str, direction: str) -> Array:
    """Sweep a bundled model with nothing but numpy."""
    formula = _formulas.bundled(behavior.model)
    component = "z" if site == "z_pos" else site
    prompts = (np.array(behavior.clean), np.array(behavior.corrupted))
    source, base = prompts if direction == "denoising" else prompts[::-1]
    acts = formula.run(source)
    heads, length = acts["z.0"].shape[2], base.shape[1]

    def cell(layer: int, pos: int | None, head: int | None) -> Array:
        patch = Patch(component, layer, acts[f"{component}.{layer}"], pos, head)
        return formula.run(base, patch)["logits"][:, behavior.read]

    layers = range(formula.n_layers)
    if site == "z":
        return np.array([[cell(i, None, h) for h in range(heads)] for i in layers])
    rows = (
        itertools.product(layers, range(heads)) if site == "z_pos" else [(i, None) for i in layers]
    )
    return np.array([[cell(i, p, h) for p in range(length)] for i, h in rows])


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("paren-near-misses", SITES),
        ("induction-first-cue", ("resid_pre", "attn_out", "z", "z_pos")),
    ],
)
def test_bundled_models_equal_the_formulas(name: str, sites: Any, ledger: Note) -> None:
    behavior = built_in(name, 5, BUILT_IN[name].model)
    formula = _formulas.bundled(behavior.model)
    bare = {
        which: formula.run(np.array(ids))["logits"][:, behavior.read]
        for which, ids in (("clean", behavior.clean), ("corrupted", behavior.corrupted))
    }
    cases = tuple(itertools.product(sites, DIRECTIONS))
    oracle = lru_cache(by_formula)
    # In float64 every cell agrees. In float32 a patched run that lands between the classes sits
    # where the paren balancer's logits are steep (a difference of 0.07 between -10 and 10), and
    # there rounding of its inputs alone comes out 20 times larger: 99 of 100 cells keep to it.
    for dtype, tolerance, share in (
        (torch.float32, FLOAT32, 0.99),
        (torch.float64, FLOAT64, 1.0),
    ):
        model = load(behavior.model, "cpu", dtype)
        deviation = assert_sweeps_agree(model, behavior, oracle, bare, tolerance, cases, share)
        with pytest.raises(AssertionError, match="off by"):
            assert_sweeps_agree(
                model, behavior, swapped(oracle), bare, FAR * tolerance, cases, share
            )
        with shifted(), pytest.raises(AssertionError, match="off by"):
            assert_sweeps_agree(model, behavior, oracle, bare, FAR * tolerance, cases, share)
        ledger(
            kind=KIND,
            oracle=f"numpy float64 formulas, {behavior.model}; ours {dtype}, {share:.0%} of cells",
            control="one position too far, or the other direction: over 1000 tolerances off",
            deviation=deviation,
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )


# --- intervals and the choice of the best cell: simulations with a known truth --------------------


# How a pair's share of its gap is drawn, given the gaps (mean 3, variance 1), and the true effect:
# the mean of what is moved over the mean gap.
SHARES: dict[str, tuple[Callable[[np.random.Generator, Array], Array], float]] = {
    "nothing is moved": (lambda rng, gap: np.zeros_like(gap), 0.0),
    "shares vary by pair": (lambda rng, gap: rng.normal(0.6, 0.5, gap.shape), 0.6),
    # A mean of ratios would say 1; the ratio of means weighs a pair by its gap.
    "wider gaps move more": (lambda rng, gap: 1 + 0.3 * (gap - 3), 1 + 0.3 / 3),
}


def coverage(
    n: int,
    drawn: str = "shares vary by pair",
    widen: Callable[[Array], Array] = np.asarray,
    trials: int = 200,
) -> float | None:
    """Share of intervals that hold the truth, over ``trials`` data sets of ``n`` pairs × 12 cells.

    Returns:
        None where so few pairs are given no interval.
    """
    (draw, truth), rng, hits = SHARES[drawn], np.random.default_rng(4), []
    for trial in range(trials):
        corrupted, gap = rng.normal(-1, 1, n), rng.normal(3, 1, n)
        noise = rng.normal(0, 0.5, (n, 3, 4))
        values = (corrupted + draw(rng, gap) * gap)[:, None, None] + noise
        data = [widen(a) for a in (values, corrupted + gap, corrupted)]
        bounds = effects.interval(*data, "denoising", np.random.default_rng(trial))
        if bounds is None:
            return None
        hits.append((bounds[0] <= truth) & (truth <= bounds[1]))
    return float(np.mean(hits))


def assert_covers(found: float | None) -> None:
    """Near the level: bootstrap percentiles of few pairs are known to be a little narrow."""
    assert found is not None
    assert 0.90 <= found <= 0.975, f"covers {found:.3f}, level {effects.LEVEL}"


@pytest.mark.parametrize("drawn", SHARES)
def test_intervals_of_twenty_pairs_cover_the_truth(drawn: str, ledger: Note) -> None:
    found = coverage(20, drawn)
    assert_covers(found)
    assert found is not None
    # Negative control: as if every pair had been seen four times.
    too_sure = coverage(20, drawn, lambda a: np.repeat(a, 4, axis=0), trials=60)
    with pytest.raises(AssertionError, match="covers"):
        assert_covers(too_sure)
    ledger(
        kind=KIND,
        oracle=f"bootstrap interval of 20 pairs, {drawn}: covers {found:.3f} of {effects.LEVEL}",
        control=f"pairs counted four times: covers {too_sure:.3f}",
        deviation=abs(found - effects.LEVEL),
        tolerance=0.05,
        unit="coverage",
    )


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_of_few_pairs_cover_what_they_claim(n: int) -> None:
    """An interval is either near its level or it is not given.

    Percentiles of n values lie between their least and largest, so they cover at most
    1 - 2 (1/2)^n of the time: 75 % at n = 3.
    """
    found = coverage(n)
    if found is not None:
        assert_covers(found)


def test_intervals_agree_with_the_normal_theory_of_a_mean(ledger: Note) -> None:
    """With one gap for all pairs the effect is a mean, and its standard error is known."""
    rng, n = np.random.default_rng(6), 200
    values = rng.normal(1.0, 0.8, (n, 4, 5))
    clean, corrupted = np.full(n, 2.0), np.zeros(n)
    low, high = effects.interval(values, clean, corrupted, "denoising", rng)  # type: ignore[misc]
    error = values.std(0, ddof=1) / np.sqrt(n) / 2
    ratio = (high - low) / (2 * 1.96 * error)
    off = float(abs(np.median(ratio) - 1))
    assert off < 0.03
    with pytest.raises(AssertionError):
        assert abs(np.median(ratio * np.sqrt(n / 20)) - 1) < 0.03  # as wide as for 20 pairs
    # Noising mirrors it: 1 - recovered, with the ends exchanged.
    again = effects.interval(values, clean, corrupted, "noising", np.random.default_rng(1))
    first = effects.interval(values, clean, corrupted, "denoising", np.random.default_rng(1))
    assert again is not None
    assert first is not None
    np.testing.assert_allclose(again[0], 1 - first[1], atol=1e-12)
    np.testing.assert_allclose(again[1], 1 - first[0], atol=1e-12)
    ledger(
        kind=KIND,
        oracle="bootstrap interval against the standard error of a mean, 200 pairs",
        control="the width of 20 pairs",
        deviation=off,
        tolerance=0.03,
        unit="relative width",
    )


@lru_cache
def noise_maps(trials: int = 300) -> list[Any]:
    """Scores of the best cell of maps in which no patch does anything but add noise."""
    scores, n, shape = [], 20, (4, 8)
    rng = np.random.default_rng(9)
    for trial in range(trials):
        corrupted, gap = rng.normal(0, 1, n), rng.normal(3, 0.5, n)
        values = corrupted[:, None, None] + rng.normal(0, 1, (n, *shape))
        _, score = effects.best_cell(
            values,
            corrupted + gap,
            corrupted,
            "denoising",
            inert=np.zeros(shape, bool),
            name=lambda row, col: f"{row},{col}",
            held_out=tuple(i % 2 == 1 for i in range(n)),
            least=effects.least_gap("logit_diff", 1.0),
            rng=np.random.default_rng(trial),
        )
        scores.append(score)
    return scores


def assert_centred_on_zero(values: Array) -> float:
    """The mean is zero within four standard errors; return it in standard errors."""
    off = abs(values.mean()) / (values.std(ddof=1) / np.sqrt(len(values)))
    assert off < 4, f"mean {values.mean():.3f}, {off:.1f} standard errors"
    return float(off)


def test_held_out_value_of_the_best_cell_is_free_of_the_choice(ledger: Note) -> None:
    """Of noise the best cell looks good where it was chosen, and is nothing on other pairs."""
    scores = noise_maps()
    sign = np.sign([s.value for s in scores])
    off = assert_centred_on_zero(sign * [s.held_out.value for s in scores])
    chosen = sign * [s.value for s in scores]
    with pytest.raises(AssertionError, match="standard errors"):
        assert_centred_on_zero(chosen)  # the negative control: scored where it was chosen
    ledger(
        kind=KIND,
        oracle="best cell of pure noise: its held-out value centres on 0",
        control=f"scored on the search half: mean {chosen.mean():.2f} of the gap",
        deviation=off,
        tolerance=4.0,
        unit="standard errors of the mean",
    )


def test_the_interval_of_the_best_cell_covers_its_truth() -> None:
    """The glossary: "where the score would fall on other inputs of the same kind"."""
    inside = np.mean([s.interval.low <= 0 <= s.interval.high for s in noise_maps()])
    assert inside >= 0.8, f"the truth, 0, lies in the 95 % interval in {inside:.0%} of noise maps"


def test_the_null_is_no_test_of_significance_and_the_how_to_says_so() -> None:
    """The best of a map lies beyond a band of single cells of it, also where nothing is there."""
    beyond = np.mean([not s.null.low <= s.value <= s.null.high for s in noise_maps()])
    assert beyond > 0.95
    how_to = (ROOT / "docs" / "how-to" / f"{KIND}.md").read_text()
    assert "no test of significance" in " ".join(how_to.split())


@pytest.mark.parametrize("half", ["search", "held out"])
@pytest.mark.parametrize("gap", [0.0, 1e-9, 0.03])
def test_a_half_without_a_gap_is_not_scored(half: str, gap: float) -> None:
    """``check_gap`` refuses a gap that is rounding or means nothing; so must the halves."""
    rng, n = np.random.default_rng(2), 8
    held_out = tuple(i % 2 == 1 for i in range(n))
    corrupted = rng.normal(5, 1, n)
    without = np.array(held_out) == (half == "held out")
    clean = corrupted + np.where(without, gap, 4.0)
    values = corrupted[:, None, None] + rng.normal(0, 0.1, (n, 2, 3))
    try:
        with np.errstate(all="ignore"):
            _, score = effects.best_cell(
                values,
                clean,
                corrupted,
                "denoising",
                inert=np.zeros((2, 3), bool),
                name=lambda row, col: "cell",
                held_out=held_out,
                least=effects.least_gap("logit_diff", 5.0),
                rng=rng,
            )
    except NothingToRecover:
        return
    for value in (score.value, getattr(score.held_out, "value", 0.0)):
        assert np.isfinite(value)
        assert abs(value) < 100, f"{value:.3g} of a gap that is rounding"

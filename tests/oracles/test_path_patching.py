"""Path patching against the recipe in four forward passes of models of transformers.

1. Run the base prompts, 2. the others, 3. the base prompts with one sender as in the others, every
attention output frozen, and MLPs frozen (direct) or computed again (through MLPs): note what the
receivers read. 4. Run the base prompts with the receivers reading that. All in float64, with torch
hooks that assign whole activations: no difference is sent, no path is followed, nobody says who is
upstream of whom. Then a circuit that is known because it was written by hand.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp import analyses
from interp.analyses._record import Context
from interp.behaviors import Behavior, built_in
from interp.engine import patch as engine_patch
from interp.explanations.circuits import to_hypothesis
from interp.methods import effects, path_patching
from interp.methods.patching import Sweep
from interp.methods.path_patching import Paths, sweep
from interp.methods.paths import Receiver, Senders, parse_receivers
from interp.models import catalogue
from interp.models.catalogue import of_shape
from interp.models.convert import convert
from interp.models.families import architecture
from interp.models.info import Answers
from interp.models.load import LoadedModel, build, load
from tests.oracles import _families
from tests.oracles._reference import Acts, Patch, Reference, Taps, WrittenOut

KIND = "path_patching"
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}  # of the logits' standard deviation
FAR = 1e3  # a broken twin is off by at least so many tolerances of float32
DIRECTIONS = ("noising", "denoising")
VIAS = ("direct", "mlps")
LENGTH, SHARED = 7, (0, 2, 3)  # tokens that the two prompts of each pair have in common

CASES = {
    "gpt2": ("gpt2", "untied, scaled by layer"),
    "neox, parallel blocks": ("gpt_neox", "parallel, a quarter rotated"),
    "qwen3, grouped queries": ("qwen3", "grouped queries, wide heads"),
    "gemma2, norms behind": ("gemma2", "caps and windows"),
}
ENCODER = "bidirectional encoder"
RECEIVERS = (
    "L2H1.q",
    "L2H1.k",
    "L1H1.v",
    "L2.mlp_in",
    "logits",
    "L1H1.q@4",
    "L1H0.q, L1H0.k, L1H1.v, L2H1.v, L1.mlp_in, logits",
    "L1.mlp_in@5, L2.mlp_in, L2H0.k",
)
"""Every kind of reader; one position; several, also behind one another and MLPs among them."""

Note = Callable[..., None]
Array = np.ndarray


# --- models and prompts ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A model here and there, and pairs that differ from different positions on."""

    reference: Any
    models: dict[torch.dtype, LoadedModel]
    behavior: Behavior

    @property
    def read(self) -> int:
        return self.behavior.read_at(0)

    def run(self, ids: Tensor, taps: Taps) -> Tensor:
        """Logits at the position read, of whole prompts with changes."""
        more = () if isinstance(self.reference, Reference) else (None,)
        with torch.no_grad():
            return self.reference._run(ids, taps, *more)[:, self.read]


def loaded(
    transformer: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype
) -> LoadedModel:
    """Load weights as the app does, without files."""
    hooked = build({**transformer, "dtype": dtype, "init_weights": False})
    assert not hooked.load_state_dict(state, strict=False, assign=True).unexpected_keys
    hooked.to(dtype, print_details=False)
    hooked.eval().requires_grad_(False)
    answers = Answers("tokens", (), -1)
    info = of_shape("random", transformer, answers=answers, weights="0" * 64, folder=Path())
    return LoadedModel(info, hooked, torch.device("cpu"), dtype)


def pairs(d_vocab: int, d_out: int, read: int) -> Behavior:
    draw = torch.Generator().manual_seed(3)
    clean = torch.randint(0, d_vocab, (len(SHARED), LENGTH), generator=draw)
    step = torch.randint(1, d_vocab, clean.shape, generator=draw)
    shared = torch.arange(LENGTH) < torch.tensor(SHARED)[:, None]
    corrupted = torch.where(shared, clean, (clean + step) % d_vocab)  # elsewhere never the same
    return Behavior(
        model="random",
        name="random",
        source="drawn at random",
        space="tokens",
        read=read,
        clean=tuple(tuple(row) for row in clean.tolist()),
        corrupted=tuple(tuple(row) for row in corrupted.tolist()),
        answers=tuple(1 + i for i in range(len(SHARED))),
        foils=tuple(d_out - 1 - i for i in range(len(SHARED))),
    )


@lru_cache
def case(name: str) -> Case:
    if name == ENCODER:
        return encoder()
    family, shape = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        model = _families.write_checkpoint(Path(folder), family, shape)
        made = architecture(json.loads((Path(folder) / "config.json").read_text()))
        shapes, read = _families.tensors_in(Path(folder))
        state = convert(made, shapes, lambda n: read(n).double())
    models = {
        dtype: loaded(made.transformer, {n: w.to(dtype) for n, w in state.items()}, dtype)
        for dtype in TOLERANCES
    }
    size = _families.D_VOCAB
    return Case(Reference(family, model), models, pairs(size, size, -1))


def encoder() -> Case:
    """Random weights for the paren balancer's architecture, read at its first position."""
    shape = {
        "n_layers": 3, "n_heads": 2, "d_model": 28, "d_head": 14, "d_mlp": 40, "n_ctx": 16,
        "d_vocab": 11, "d_vocab_out": 7, "act_fn": "relu", "attention_dir": "bidirectional",
        "normalization_type": "LN", "positional_embedding_type": "standard", "attn_only": False,
    }  # fmt: skip
    draw = torch.Generator().manual_seed(4)
    weights = {
        n: (1.0 if n.endswith(".w") else 0.0)
        + torch.randn(w.shape, generator=draw) * (0.3 if w.dim() < 2 else w.shape[-2] ** -0.5)
        for n, w in build({**shape, "init_weights": False}).state_dict().items()
        if not n.endswith((".mask", ".IGNORE"))
    }
    models = {d: loaded(shape, {n: w.to(d) for n, w in weights.items()}, d) for d in TOLERANCES}
    return Case(WrittenOut(weights, heads=2), models, pairs(11, 7, 0))


# --- the recipe -----------------------------------------------------------------------------------


class Watched(Taps):
    """Changes, and a record of the streams alone."""

    def __call__(self, component: str, layer: int, act: Tensor) -> Tensor:
        act = super().__call__(component, layer, act)
        if component in ("resid_pre", "mlp_in", "resid_post"):
            self.acts[component, layer] = act.clone()
        return act


@dataclass(frozen=True)
class Sender:
    """ "z" with a head, "mlp_out", or "embed" in layer 0; ``cell`` is its number in the map."""

    component: str
    layer: int
    head: int
    cell: int


def senders(model: LoadedModel) -> list[Sender]:
    """Every sender, row by row: heads, MLP, embeddings; these are there in layer 0 only."""
    info = model.info
    row = [("z", head) for head in range(info.n_heads)] + [("mlp_out", 0), ("embed", 0)]
    cells = [(*one, layer) for layer in range(info.n_layers) for one in row]
    return [
        Sender(component, layer, head, i)
        for i, (component, head, layer) in enumerate(cells)
        if component != "embed" or layer == 0
    ]


@dataclass(frozen=True)
class Recipe:
    """The four passes, all senders at once; ``thawed`` and ``wrong_slot`` break them on purpose."""

    case: Case
    receivers: tuple[Receiver, ...]
    via: str
    direction: str
    thawed: bool = False
    wrong_slot: bool = False

    @property
    def senders(self) -> list[Sender]:
        return senders(self.case.models[torch.float64])

    @property
    def ids(self) -> Tensor:
        """The base prompts once for each sender: run ``sender * pairs + pair``."""
        behavior = self.case.behavior
        base = behavior.clean if self.direction == "noising" else behavior.corrupted
        return torch.tensor(base).repeat(len(self.senders), 1)

    def streams(self) -> Acts:
        """Third pass: what everybody would read if each sender were as in the other run."""
        base, other = acts(self.case, self.direction), acts(self.case, _TURNED[self.direction])
        n, patches, every = len(self.case.behavior), [], slice(None)

        def put(runs: slice, place: str, layer: int, of: Acts, **where: Any) -> None:
            value = of[place, layer]
            if where.get("pos") is not None:
                value = value[:, where["pos"]]
            if where.get("head") is not None:
                value = value[:, :, where["head"]]
            if runs == every:
                value = value.repeat(len(self.senders), *[1] * (value.dim() - 1))
            spots = where.get("head"), where.get("pos")
            patches.append(Patch(runs, place, layer, *spots, "put", value))  # type: ignore[arg-type]

        for layer in range(self.case.reference.n_layers):
            if not self.thawed:
                put(every, "z", layer, base)
            for one in (r for r in self.receivers if (r.component, r.layer) == ("mlp_in", layer)):
                put(every, "mlp_out", layer, base, pos=one.pos)
            if self.via == "direct" and not self.thawed:
                put(every, "mlp_out", layer, base)
        for i, one in enumerate(self.senders):
            place = "resid_pre" if one.component == "embed" else one.component
            head = {"head": one.head} if place == "z" else {}
            put(slice(i * n, (i + 1) * n), place, one.layer, other, **head)
        taps = Watched(patches)
        self.case.run(self.ids, taps)
        return taps.acts

    def __call__(self, *, replaced: bool = True) -> Array:
        """Logits ``[sender, pair, output]``.

        With ``replaced`` receivers read what was noted; else what they read changes by as much,
        so that those behind others see what these change.
        """
        seen, base = self.streams(), acts(self.case, self.direction)
        patches = []
        for one in self.receivers:
            slot = "k_in" if self.wrong_slot and one.component == "q_in" else one.component
            place = "resid_pre" if slot in ("q_in", "k_in", "v_in") else slot
            pos = self.case.read if place == "resid_post" else one.pos
            value, at = seen[place, one.layer], slice(None) if pos is None else pos
            if not replaced:
                value = value - base[place, one.layer].repeat(len(self.senders), 1, 1)
            kind = "put" if replaced else "add"
            patches.append(
                Patch(slice(None), slot, one.layer, one.head, pos, kind, value[:, at])  # type: ignore[arg-type]
            )
        logits = self.case.run(self.ids, Taps(patches)).numpy()
        return logits.reshape(len(self.senders), len(self.case.behavior), -1)


_TURNED = {"noising": "denoising", "denoising": "noising"}


@lru_cache
def acts(case: Case, direction: str) -> Acts:
    """First and second pass: the base run of a direction; the other one is that of the reverse."""
    ids = case.behavior.clean if direction == "noising" else case.behavior.corrupted
    return case.reference.acts(torch.tensor(ids))


@lru_cache
def bare(case: Case) -> dict[str, Array]:
    """Logits of both runs at the position read."""
    ids = {"clean": case.behavior.clean, "corrupted": case.behavior.corrupted}
    return {name: case.run(torch.tensor(rows), Taps()).numpy() for name, rows in ids.items()}


def difference(logits: Array, behavior: Behavior) -> Array:
    """Answer minus foil, ``[..., pair]``."""
    pair = np.arange(len(behavior))
    return logits[..., pair, list(behavior.answers)] - logits[..., pair, list(behavior.foils)]


def ours(case: Case, dtype: torch.dtype, receivers: str, via: str, direction: str) -> Sweep:
    model = case.models[dtype]
    parsed = parse_receivers(model.info, receivers, case.behavior)
    *_, last = sweep(model, case.behavior, Paths(parsed, via, direction), "logit_diff")
    return last


def off_by(found: Sweep, logits: Array, case: Case, direction: str) -> float:
    """Largest deviation of any sender in any pair, in standard deviations of the logits.

    Where there is no sender, and where it is not upstream, the base run's number is due.
    """
    runs, behavior = bare(case), case.behavior
    base = difference(runs["clean" if direction == "noising" else "corrupted"], behavior)
    mine = np.moveaxis(found.values.reshape(len(behavior), -1), 0, 1)
    due = np.tile(base, (len(mine), 1))
    due[[one.cell for one in senders(case.models[torch.float64])]] = difference(logits, behavior)
    anchors = ((found.clean, "clean"), (found.corrupted, "corrupted"))
    offs = [np.abs(mine - due).max()]
    offs += [np.abs(m - difference(runs[name], behavior)).max() for m, name in anchors]
    return float(max(offs)) / float(np.stack([*runs.values()]).std())


def behind_one_another(receivers: Sequence[Receiver], parallel: bool) -> bool:
    return len({one.reads(parallel) for one in receivers}) > 1


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("name", [*CASES, ENCODER])
def test_every_sender_equals_the_four_passes(name: str, via: str, ledger: Note) -> None:
    made = case(name)
    info = made.models[torch.float64].info
    worst, nearest = dict.fromkeys(TOLERANCES, 0.0), float("inf")
    for direction in DIRECTIONS if name == "gpt2" else DIRECTIONS[:1]:
        for text in RECEIVERS:
            receivers = parse_receivers(info, text, made.behavior)
            recipe = Recipe(made, receivers, via, direction)
            alone = not behind_one_another(receivers, info.parallel)
            logits = recipe(replaced=alone)
            for dtype in TOLERANCES:
                found = ours(made, dtype, text, via, direction)
                worst[dtype] = max(worst[dtype], off_by(found, logits, made, direction))
            if text in ("L1H1.v", "logits"):
                twin = replace(recipe, thawed=True)()
                exact = ours(made, torch.float64, text, via, direction)
                nearest = min(nearest, off_by(exact, twin, made, direction))
    for dtype, tolerance in TOLERANCES.items():
        assert worst[dtype] <= tolerance, f"{dtype}: off by {worst[dtype]:.2g}"
        ledger(
            kind=KIND,
            oracle=f"four passes of {name} in float64, {len(RECEIVERS)} sets of receivers, "
            f"{via}; ours {dtype}",
            control=f"what lies between not frozen: off by {nearest:.1g}",
            deviation=worst[dtype],
            tolerance=tolerance,
            unit="standard deviations of the logits",
        )
    assert nearest > FAR * TOLERANCES[torch.float32]


def test_broken_twins_are_far_off() -> None:
    """Keys for queries, the other way, the other direction, and a norm that is held fixed."""
    made = case("gpt2")
    info = made.models[torch.float64].info
    limit = FAR * TOLERANCES[torch.float32]

    def recipe(text: str, via: str = "direct", direction: str = "noising") -> Recipe:
        return Recipe(made, parse_receivers(info, text, made.behavior), via, direction)

    queries = ours(made, torch.float64, "L2H1.q", "direct", "noising")
    assert off_by(queries, replace(recipe("L2H1.q"), wrong_slot=True)(), made, "noising") > limit
    assert off_by(queries, recipe("L2H1.q", direction="denoising")(), made, "denoising") > limit
    final = ours(made, torch.float64, "logits", "direct", "noising")
    assert off_by(final, recipe("logits")(), made, "noising") <= TOLERANCES[torch.float64]
    assert off_by(final, recipe("logits", "mlps")(), made, "noising") > limit
    assert off_by(final, with_the_norm_held(recipe("logits")), made, "noising") > limit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_patching._Group, "written", _without_the_output_matrix)
        broken = ours(made, torch.float64, "logits", "direct", "noising")
    assert off_by(broken, recipe("logits")(), made, "noising") > limit


def _without_the_output_matrix(self: Any, sender: Any, row: Tensor, pos: Tensor) -> Tensor:
    """What the next head writes."""
    component, layer, head = sender
    if component != "z":
        return self.acts[component, layer][row, pos]
    width, other = self.layers.d_head, (head + 1) % self.layers.n_heads
    weight = self.layers.layers[layer].out.weight[:, other * width : (other + 1) * width]
    return self.acts["z", layer][row, pos, head] @ weight.T


def with_the_norm_held(recipe: Recipe) -> Array:
    """Send to the logits with the final norm's scale as in the base run."""
    made, model = recipe.case, recipe.case.reference.model
    norm, last = model.base_model.ln_f, ("resid_post", made.reference.n_layers - 1)
    before = acts(made, recipe.direction)[last][:, made.read]
    scale = (before.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    moved = recipe.streams()[last][:, made.read].view(-1, *before.shape) - before
    normed = (moved - moved.mean(-1, keepdim=True)) / scale * norm.weight
    return bare(made)["clean"] + (normed @ model.lm_head.weight.T).numpy()


@pytest.mark.parametrize("name", ["gpt2", "neox, parallel blocks"])
def test_who_is_upstream_is_counted_by_hand(name: str) -> None:
    """An MLP hears the heads of its own layer in a sequential block, and not in a parallel one."""
    made = case(name)
    info = made.models[torch.float64].info
    grid, parallel = Senders.of(info), name != "gpt2"

    def upstream(text: str) -> int:
        (one,) = parse_receivers(info, text, made.behavior)
        return int(grid.reach(one).sum())

    layer = info.n_heads + 1
    assert upstream("L0H1.q") == 1  # the embeddings alone
    assert upstream("L2H0.k") == 1 + 2 * layer
    assert upstream("L1.mlp_in") == 1 + layer + (0 if parallel else info.n_heads)
    assert upstream("logits") == 1 + info.n_layers * layer
    # Everybody who is upstream matters in a random model: the map would be empty otherwise.
    scale = float(bare(made)["clean"].std())
    for text in ("L2H0.k", "logits"):
        found = ours(made, torch.float64, text, "direct", "noising")
        moved = np.abs(found.values - found.clean[:, None, None]).max(0)
        assert moved[~found.inert].min() > 1e-4 * scale


def test_all_senders_together_turn_one_run_into_the_other() -> None:
    """Closed form: what all write differently adds up to the difference of the streams."""
    made = case("gpt2")
    model = made.models[torch.float64]
    asked = Paths(parse_receivers(model.info, "logits", made.behavior), "direct", "noising")
    grid = Senders.of(model.info)
    kept = [*path_patching._kept(grid, asked), "resid_post"]
    asking = path_patching.Asked(made.behavior, "logit_diff")
    (group,) = path_patching.BareRuns(model, asking, "noising", kept)
    sent = path_patching._differing(model, group)
    row, pos = torch.arange(len(SHARED)), torch.full((len(SHARED),), LENGTH - 1)
    whole = sum(
        sent.written((grid.component(col), layer, col), row, pos)
        for layer, col in np.argwhere(grid.reach(asked.receivers[0])).tolist()
    )
    last = ("resid_post", model.info.n_layers - 1)
    due = (group.source.acts[last] - group.base.acts[last])[:, -1]
    assert float((whole - due).abs().max() / due.std()) < TOLERANCES[torch.float64]


def test_an_interrupted_sweep_goes_on_with_the_same_bits() -> None:
    made = case("gpt2")
    model = made.models[torch.float32]
    asked = Paths(parse_receivers(model.info, "L2H1.k", made.behavior), "mlps", "noising")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine_patch._PASS_FLOP, "cpu", 2e6)  # several passes
        steps = [s.values for s in sweep(model, made.behavior, asked, "kl")]
        assert len(steps) > 3
        again = [s.values for s in sweep(model, made.behavior, asked, "kl", done=steps[2])]
    assert len(again) < len(steps)
    np.testing.assert_array_equal(again[-1], steps[-1])


def test_pairs_of_several_lengths_are_those_of_each_length() -> None:
    made = case("gpt2")
    model, whole = made.models[torch.float64], made.behavior
    cut = tuple(ids[:6] if i == 1 else ids for i, ids in enumerate(whole.clean))
    other = tuple(ids[:6] if i == 1 else ids for i, ids in enumerate(whole.corrupted))
    mixed = replace(whole, clean=cut, corrupted=other)
    asked = Paths(parse_receivers(model.info, "L1H1.v, logits", whole), "mlps", "denoising")
    *_, both = sweep(model, mixed, asked, "loss")
    for rows in ([0, 2], [1]):
        part = replace(
            mixed,
            clean=tuple(mixed.clean[i] for i in rows),
            corrupted=tuple(mixed.corrupted[i] for i in rows),
            answers=tuple(mixed.answers[i] for i in rows),
            foils=tuple(mixed.foils[i] for i in rows),
        )
        *_, alone = sweep(model, part, asked, "loss")
        np.testing.assert_allclose(both.values[rows], alone.values, atol=1e-12)


# --- a known circuit ------------------------------------------------------------------------------

HANDMADE = "induction-handmade"
CIRCUIT = {
    "logits": (1, 0),
    "L1H0.k": (0, 0),
    "L1H0.q": None,
    "L1H0.v": None,
    "L0H0.v": (0, 2),
    "L0H0.q": None,
    "L0H0.k": None,
    "L1H0.q, L1H0.k, L1H0.v": (0, 0),
    "L1H1.q, L1H1.k, L1H1.v": None,
}
"""Who writes what matters into whom: row and column; column 2 is the embeddings, None is nobody.

The repeated cue is the same letter in both prompts, so queries carry nothing; the letter that is
copied is, too, so neither do the values.
"""


def assert_only(effect: Array, cell: tuple[int, int] | None) -> float:
    """Effect 1 in one cell, or none, and 0 in every other; return the largest deviation."""
    known = np.zeros(effect.shape)
    if cell is not None:
        known[cell] = 1
    off = float(np.abs(effect - known).max())
    assert off < 1e-3
    return off


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_walk_down_the_induction_circuit_is_exact(direction: str, ledger: Note) -> None:
    """Logits, induction head's keys, previous-token head's values, embeddings; nothing else."""
    behavior, model = built_in("induction-first-cue", 20, HANDMADE), load(HANDMADE, "cpu")

    def effect(of: LoadedModel, text: str) -> Array:
        asked = Paths(parse_receivers(of.info, text, behavior), "direct", direction)
        *_, state = sweep(of, behavior, asked, "logit_diff")
        return effects.effect(state.values, state.clean, state.corrupted, direction)

    deviation = max(assert_only(effect(model, text), cell) for text, cell in CIRCUIT.items())
    # Negative control: the same weights with the heads of layer 0 exchanged.
    renamed = load(HANDMADE, "cpu")
    for name, weight in renamed.hooked.blocks[0].attn.named_parameters():
        if name != "b_O":
            weight.copy_(weight.flip(0).clone())
    with pytest.raises(AssertionError):
        assert_only(effect(renamed, "L1H0.k"), CIRCUIT["L1H0.k"])
    ledger(
        kind=KIND,
        oracle=f"hand-written induction circuit, {direction}: each path of the walk, exactly",
        control="heads of layer 0 exchanged",
        deviation=deviation,
        tolerance=1e-3,
        unit="effect (0 to 1)",
    )


def test_the_walk_through_the_whole_analysis() -> None:
    """Each answer offers the next question, below it and at its strongest sender."""
    analysis, walked = analyses.get(KIND), ["logits", "L1H0.k", "L0H0.v"]
    fields = {"kind": KIND, "behavior": "induction-first-cue", "n_pairs": 20}
    steps: list[tuple[Any, Any]] = []
    for receivers, onward in itertools.zip_longest(walked, walked[1:]):
        spec = interp.parse({**fields, "receivers": receivers})
        rng = np.random.default_rng(0)
        ctx = Context(analysis.inputs(spec), rng, lambda name: load(name, "cpu"))
        *_, last = analysis.run(spec, ctx)
        steps.append((spec, last.result))
        assert last.result.best_cell == CIRCUIT[receivers]
        if onward is not None:
            clicked = dict(zip("01", last.result.best_cell, strict=True))
            more = analysis.cell_follow_ups(spec, last.result, clicked)
            for ups in (more, analysis.follow_ups(spec, last.result)):
                assert onward in [up.fields["receivers"] for up in ups]
    assert "L0H0 1.00 [1.00, 1.00]" in analysis.verdict(steps[1][1])
    assert "the walk ends here" in analysis.verdict(steps[2][1])
    assert analysis.lineage(steps[:1]) is None
    chain = analysis.lineage(steps)
    drawn = [trace.name for trace in chain.figure.data if " to " in (trace.name or "")]
    assert drawn == ["L1H0 to logits", "L0H0 to L1H0", "embeddings to L0H0"]
    found = analysis.circuit(steps)
    assert found.edges == (
        ("a1.h0", "logits", None),
        ("embed", "a0.h0", "v"),
        ("pos_embed", "a0.h0", "v"),
        ("a0.h0", "a1.h0", "k"),
    )
    claimed = to_hypothesis(found, catalogue.info(HANDMADE))
    assert [node.site for node, _ in claimed.nodes()] == [
        "logits", "a1.h0", "a0.h0", "embed", "pos_embed",
    ]  # fmt: skip
    # Another question before this one is no part of the walk; what does not reach the logits, or
    # not directly, is no circuit.
    other = (steps[0][0].model_copy(update={"metric": "kl"}), steps[0][1])
    assert analysis.lineage([other, steps[2]]) is None
    assert analysis.circuit([other, steps[2]]) is None
    through = steps[0][0].model_copy(update={"via": "mlps"}), replace(steps[0][1], via="mlps")
    assert analysis.circuit([through]) is None

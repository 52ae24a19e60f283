"""The engine's patched runs, resumed and stacked, against whole forward passes without any of it.

Models of transformers of seven families in float64 and a bidirectional encoder with padding, both
in ``_reference``, patched by assignment in passes that start at the embedding; every place, every
kind of change, one at a time and several together. What would be broken by a mistake (a layer, a
head or a position further, the two prompts exchanged, keys of the prefix as hooks see them, a
start that is too late, padding that is seen) is broken on purpose and must be far off.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp import engine
from interp.engine import Edits, Runs, Trace, gradients, how, layers_of, patched, trace, traces
from interp.engine.hooked import hooked_trace
from interp.models.catalogue import of_shape
from interp.models.convert import convert
from interp.models.families import architecture
from interp.models.info import Answers
from interp.models.lean import Lean
from interp.models.load import LoadedModel, build
from interp.models.sites import components
from tests.oracles import _families, _gates
from tests.oracles._gates import Gate
from tests.oracles._reference import Acts, Patch, Reference, WrittenOut

KIND = "engine"
FLOAT32, FLOAT64 = 1e-5, 1e-10  # tolerances, of the logits' standard deviation
FAR = 1e3  # a broken twin is off by at least so many tolerances
TOLERANCES = {torch.float64: FLOAT64, torch.float32: FLOAT32}

LENGTH = 9  # longer than the windows, so that some sources are out of sight
SHARED = (0, 3, LENGTH)  # tokens that the two prompts of each pair have in common, from the start
PAIRS = len(SHARED)
OTHERS = 2  # rows for resampling

Note = Callable[..., None]

CASES = {
    "gpt2": ("gpt2", "untied, scaled by layer"),
    "neox, parallel": ("gpt_neox", "parallel, a quarter rotated"),
    "neox, sequential": ("gpt_neox", "sequential, all rotated"),
    "llama, grouped queries": ("llama", "grouped queries, llama3 positions"),
    "qwen3, norms of queries and keys": ("qwen3", "grouped queries, wide heads"),
    "gemma2, caps, windows, norms behind": ("gemma2", "caps and windows"),
    "gemma3, one key for all": ("gemma3", "final cap"),
    "mistral, window": ("mistral", "window"),
}
ENCODER = "encoder, padded"
NAMES = (*CASES, ENCODER)
SHORTFORMER = "shortformer"
READ = {"neox, sequential": 6, "mistral, window": 7, ENCODER: 0}
"""Position read where it is not the last one."""


# --- models and prompts ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A model here and there, and prompts: the patched rows, then the sources, then others."""

    name: str
    reference: Any
    models: dict[torch.dtype, LoadedModel]
    ids: Tensor
    read: int
    seen: Tensor | None

    @property
    def base(self) -> range:
        return range(PAIRS)

    def source(self, pair: int) -> int:
        return PAIRS + pair

    @property
    def mean(self) -> int:
        """The row behind the last: the mean over all rows."""
        return len(self.ids)

    def starts(self, pair: int) -> int:
        return SHARED[pair] if self.seen is None else 0

    @cached_property
    def sources(self) -> Acts:
        """What can be taken, by the reference."""
        return with_mean(self.reference.acts(self.ids, *self._seen(slice(None))))

    def logits(self, patches: Sequence[Patch], rows: Tensor) -> Tensor:
        """The reference's logits of the runs that start from these rows."""
        found = self.reference.logits(self.ids[rows], patches, self.sources, *self._seen(rows))
        return found[:, self.read]

    def _seen(self, rows: Any) -> tuple[Tensor, ...]:
        return () if self.seen is None else (self.seen[rows],)


def with_mean(acts: Acts) -> Acts:
    return {place: torch.cat([act, act.mean(0, keepdim=True)]) for place, act in acts.items()}


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


def prompts(d_vocab: int) -> Tensor:
    """Pairs that share none, three and all of their tokens, from the start; and some others."""
    draw = torch.Generator().manual_seed(3)
    base = torch.randint(0, d_vocab, (PAIRS, LENGTH), generator=draw)
    step = torch.randint(1, d_vocab, (PAIRS, LENGTH), generator=draw)
    shared = torch.arange(LENGTH) < torch.tensor(SHARED)[:, None]
    source = torch.where(shared, base, (base + step) % d_vocab)  # elsewhere never the same
    return torch.cat([base, source, torch.randint(0, d_vocab, (OTHERS, LENGTH), generator=draw)])


@lru_cache
def case(name: str) -> Case:
    if name in (ENCODER, SHORTFORMER):
        return written_out(name)
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
    ids = prompts(_families.D_VOCAB)
    return Case(name, Reference(family, model), models, ids, READ.get(name, LENGTH - 1), None)


ENCODER_SHAPE: dict[str, Any] = {
    "n_layers": 3,
    "n_heads": 2,
    "d_model": 28,
    "d_head": 14,
    "d_mlp": 40,
    "n_ctx": 16,
    "d_vocab": 11,
    "d_vocab_out": 7,
    "act_fn": "relu",
    "attention_dir": "bidirectional",
    "normalization_type": "LN",
    "positional_embedding_type": "standard",
    "attn_only": False,
}
"""The paren balancer's architecture."""
SHORTFORMER_SHAPE: dict[str, Any] = {
    **ENCODER_SHAPE,
    "attention_dir": "causal",
    "positional_embedding_type": "shortformer",
}


def written_out(name: str) -> Case:
    """Random weights for an encoder, with prompts that end in padding, or for a shortformer."""
    padded = name == ENCODER
    shape = ENCODER_SHAPE if padded else SHORTFORMER_SHAPE
    blank = build({**shape, "init_weights": False})
    draw = torch.Generator().manual_seed(4)
    weights = {
        n: (1.0 if n.endswith(".w") else 0.0)
        + torch.randn(w.shape, generator=draw) * (0.3 if w.dim() < 2 else w.shape[-2] ** -0.5)
        for n, w in blank.state_dict().items()
        if not n.endswith((".mask", ".IGNORE"))
    }
    seen = torch.arange(LENGTH) < torch.tensor([9, 6, 7, 8, 6, 7, 5, 9])[:, None]
    models = {
        dtype: loaded(shape, {n: w.to(dtype) for n, w in weights.items()}, dtype)
        for dtype in TOLERANCES
    }
    reference = WrittenOut(weights, heads=2, shortformer=not padded)
    ids, read = prompts(shape["d_vocab"]), READ.get(name, LENGTH - 1)
    return Case(name, reference, models, ids, read, seen if padded else None)


# --- the same changes, as the engine is told them -------------------------------------------------


def bare(of: Case, dtype: torch.dtype) -> Trace:
    return trace(of.models[dtype], of.ids, of.read, components(of.models[dtype].info), seen=of.seen)


def available(mine: Trace, sources: Acts) -> Acts:
    """What can be taken: what was recorded here, else (inputs of heads) the reference's."""
    dtype, lacking = mine.logits.dtype, sources.keys() - mine.acts.keys()
    theirs = {place: sources[place][:-1].to(dtype) for place in lacking}
    return with_mean({**mine.acts, **theirs})


def change(patches: Sequence[Patch], acts: Acts) -> engine.Change:
    """One change for a column of patches of one kind."""
    dtype = next(iter(acts.values())).dtype
    values = [patch.value for patch in patches]
    match patches[0].kind:
        case "take":
            return engine.Take(acts, torch.tensor(values))
        case "put":  # zero is one number for all
            whole = torch.stack(values) if values[0].ndim else values[0]
            return engine.Put(whole.to(dtype))
        case "add":
            return engine.Add(torch.stack(values).to(dtype))
        case "scale":
            return engine.Scale(torch.tensor(values, dtype=dtype))
        case kind:
            return engine.Project(values[0].to(dtype), keep=kind == "keep")


def columns(patches: Sequence[Patch], acts: Acts, starts: Sequence[int]) -> list[Edits]:
    """Edits in columns as long as they can be; ``starts`` of each patch, for all positions."""
    found: dict[Any, list[Patch]] = {}
    for patch, start in zip(patches, starts, strict=True):
        shape = (patch.value.ndim, id(patch.value)) if patch.kind in ("keep", "remove") else ()
        if patch.kind in ("put", "add"):
            shape = (patch.value.ndim,)
        key = (patch.component, patch.kind, patch.pos is None, start, shape)
        found.setdefault(key, []).append(patch)
    return [
        Edits(
            component,
            run=torch.tensor([patch.run for patch in column]),
            layer=torch.tensor([patch.layer for patch in column]),
            change=change(column, acts),
            pos=None if everywhere else torch.tensor([patch.pos for patch in column]),
            head=None if column[0].head is None else torch.tensor([patch.head for patch in column]),
            start=start,
        )
        for (component, _, everywhere, start, _), column in found.items()
    ]


def made(model: LoadedModel, mine: Trace, runs: Runs) -> Tensor:
    """Every run's logits, in the order of runs, in float64."""
    order, logits = zip(*patched(model, mine, runs), strict=True)
    assert torch.equal(torch.cat(order), torch.arange(len(runs)))
    return torch.cat(logits).double()


@dataclass(frozen=True, eq=False)
class Asked:
    """Changes, one list for both sides, and the logits that they should give."""

    of: Case
    patches: list[Patch]
    rows: Tensor
    theirs: Tensor
    std: float

    def only(self, **fields: Any) -> Asked:
        """Keep the runs whose patches have these fields, counted anew."""
        wanted = list(fields.items())
        unwanted = {
            patch.run
            for patch in self.patches
            if any(getattr(patch, name) != value for name, value in wanted)
        }
        runs = [run for run in range(len(self.rows)) if run not in unwanted]
        again = {run: i for i, run in enumerate(runs)}
        patches = [replace(p, run=again[p.run]) for p in self.patches if p.run in again]
        return replace(self, patches=patches, rows=self.rows[runs], theirs=self.theirs[runs])

    def runs(self, mine: Trace, *, starts: Sequence[int] | None = None) -> Runs:
        """Say it to the engine."""
        acts = available(mine, self.of.sources)
        return Runs(self.rows, columns(self.patches, acts, starts or [0] * len(self.patches)))

    def off(self, mine: Trace, *, starts: Sequence[int] | None = None) -> Tensor:
        """How far each run is off, in standard deviations of the logits."""
        ours = made(self.of.models[mine.logits.dtype], mine, self.runs(mine, starts=starts))
        return (ours - self.theirs).abs().amax(-1) / self.std


def ask(of: Case, patches: list[Patch], rows: Sequence[int]) -> Asked:
    row, every = torch.tensor(rows), torch.arange(len(of.ids))
    theirs = of.logits(patches, row)
    return Asked(of, patches, row, theirs, float(of.logits([], every).std()))


def worst(asked: Asked, off: Tensor, tolerance: float) -> float:
    """Check all runs; name what is changed in the worst. Return how far that is off."""
    run = int(off.argmax())
    said = "; ".join(
        f"L{p.layer}H{p.head}.{p.component}@{p.pos} {p.kind}" for p in asked.patches if p.run == run
    )
    assert float(off[run]) <= tolerance, f"{said}: off by {float(off[run]):.2g}"
    return float(off[run])


# --- what is changed ------------------------------------------------------------------------------


def places(of: Case, positions: Sequence[int | None]) -> Iterator[tuple[str, int, int | None, Any]]:
    """Every component, layer and head at some positions."""
    for component in of.reference.components:
        heads = of.reference.heads(component)
        for layer in range(of.reference.n_layers):
            for head in range(heads) if heads else (None,):
                for pos in positions:
                    yield component, layer, head, pos


@lru_cache
def swaps(name: str) -> Asked:
    """Every place at all and at single positions, in every pair: taken from the other prompt."""
    of = case(name)
    patches, rows = [], []
    for pair, positions in enumerate(((None, 0, of.read), (None, 3, of.read), (None,))):
        for place in places(of, tuple(dict.fromkeys(positions))):
            patches.append(Patch(len(rows), *place, "take", of.source(pair)))
            rows.append(pair)
    return ask(of, patches, rows)


def drawn(of: Case, rng: np.random.Generator, run: int) -> Patch:
    """Any change at any place."""
    component = str(rng.choice(of.reference.components))
    heads = of.reference.heads(component)
    layer = int(rng.integers(of.reference.n_layers))
    head = int(rng.integers(heads)) if heads else None
    last = of.read if of.seen is None else LENGTH - 1
    pos = None if rng.random() < 0.4 else int(rng.integers(last + 1))
    kinds = ["take", "take", "mean", "zero", "scale"]
    if component != "pattern":  # of which a vector would look ahead
        kinds += ["put", "add", "keep", "remove"]
    kind, width = str(rng.choice(kinds)), of.sources[component, layer].shape[-1]

    def vector(*shape: int) -> Tensor:
        return as_float32(torch.from_numpy(rng.normal(size=shape)))

    value: Any = None
    match kind:
        case "take":
            value = int(rng.integers(len(of.ids)))
        case "mean":
            kind, value = "take", of.mean
        case "zero":
            kind, value = "put", torch.zeros((), dtype=torch.float64)
        case "scale":
            value = float(rng.choice([-1.0, 0.0, 0.5, 2.0]))
        case "put":
            value = vector(width)
        case "add":
            value = vector(LENGTH, width) if pos is None and rng.random() < 0.5 else vector(width)
        case _:
            value = basis(width)
    return Patch(run, component, layer, head, pos, kind, value)


@lru_cache
def basis(width: int) -> Tensor:
    """Orthonormal directions, half as many as there are."""
    draw = torch.Generator().manual_seed(width)
    given = torch.randn(width, width // 2, generator=draw, dtype=torch.float64)
    return as_float32(torch.linalg.qr(given)[0].T)


def as_float32(values: Tensor) -> Tensor:
    """Round once, before either side sees them: what is asked is the same in both precisions."""
    return values.float().double()


@lru_cache
def several(name: str) -> Asked:
    """Runs with one to four changes of any kind at different places of any layers."""
    of, rng = case(name), np.random.default_rng(6)
    patches: list[Patch] = []
    rows = [int(rng.integers(len(of.ids))) for _ in range(200)]
    for run in range(len(rows)):
        taken: set[tuple[Any, ...]] = set()
        for _ in range(int(rng.integers(1, 5))):
            patch = drawn(of, rng, run)
            place = (patch.component, patch.layer, patch.head)
            if place not in taken:  # what happens at one place in turn has a test of its own
                taken.add(place)
                patches.append(patch)
    return ask(of, patches, rows)


def starting(asked: Asked) -> list[int]:
    """Where each swap begins to change anything: behind the tokens that the pair shares."""
    return [asked.of.starts(int(asked.rows[patch.run])) for patch in asked.patches]


# --- single swaps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_swaps_at_every_place(name: str, ledger: Note) -> None:
    """Every place in one pass; each run begins behind the tokens that its pair shares."""
    of, asked = case(name), swaps(name)
    control = broken(name)
    for dtype, limit in TOLERANCES.items():
        mine = bare(of, dtype)
        assert mine.lean is not None, mine.why
        off = asked.off(mine, starts=starting(asked))
        ledger(
            kind=KIND,
            oracle=f"{name}: whole passes in float64, {len(asked.rows)} swaps; ours {dtype}",
            control="a layer, a head or a position further, or the prompts exchanged: off by "
            f"{control:.1g} or more at every component",
            deviation=worst(asked, off, limit),
            tolerance=limit,
            unit="standard deviations of the logits",
        )


def further(patch: Patch, of: Case, what: str) -> Patch:
    """Go astray by one."""
    match what:
        case "layer":
            return replace(patch, layer=(patch.layer + 1) % of.reference.n_layers)
        case "head" if patch.head is not None:
            return replace(patch, head=(patch.head + 1) % of.reference.heads(patch.component))
        case "pos" if patch.pos is not None:
            return replace(patch, pos=(patch.pos + 1) % (of.read + 1 if of.read else LENGTH))
        case "exchanged":
            return replace(patch, value=0)
        case _:
            return patch


@lru_cache
def broken(name: str) -> float:
    """How far the least affected component is off after each mistake; all must be, by far."""
    # The first pair shares nothing, so that everything in it matters.
    of, asked = case(name), swaps(name).only(value=case(name).source(0))
    mine, found = bare(of, torch.float64), {}
    for what in ("layer", "head", "pos", "exchanged"):
        wrong = [further(p, of, what) for p in asked.patches]
        rows = torch.full_like(asked.rows, of.source(0)) if what == "exchanged" else asked.rows
        off = replace(asked, patches=wrong, rows=rows).off(mine)
        for before, after in zip(asked.patches, wrong, strict=True):
            if after != before:
                where = before.component, what
                found[where] = max(found.get(where, 0.0), float(off[before.run]))
    assert len(found) > 3 * len(of.reference.components)
    near = {where: off for where, off in found.items() if off < FAR * FLOAT32}
    assert not near, near
    return min(found.values())


@pytest.mark.parametrize("name", ["llama, grouped queries", "neox, sequential", ENCODER])
def test_each_place_in_a_pass_of_its_own(name: str) -> None:
    """Nobody else is in the pass: nothing but the last layer, nothing but what is behind it."""
    of, asked = case(name), swaps(name)
    mine = bare(of, torch.float64)
    for component in of.reference.components:
        for layer in range(of.reference.n_layers):
            some = asked.only(component=component, layer=layer)
            worst(some, some.off(mine), FLOAT64)


# --- any change, several at once ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_several_changes_in_one_run(name: str, ledger: Note) -> None:
    of, asked = case(name), several(name)
    layers = [{p.layer for p in asked.patches if p.run == run} for run in range(len(asked.rows))]
    assert sum({0, of.reference.n_layers - 1} <= some for some in layers) > 20
    kinds = {p.kind for p in asked.patches}
    assert kinds == {"take", "put", "add", "scale", "keep", "remove"}
    control = left_out()
    for dtype, limit in TOLERANCES.items():
        off = asked.off(bare(of, dtype))
        ledger(
            kind=KIND,
            oracle=f"{name}: whole passes in float64, {len(asked.rows)} runs with up to four "
            f"changes each, {', '.join(sorted(kinds))}; ours {dtype}",
            control=f"the last change left out, in gpt2: off by {control:.1g} in the median",
            deviation=worst(asked, off, limit),
            tolerance=limit,
            unit="standard deviations of the logits",
        )


@lru_cache
def left_out() -> float:
    """Leave the last change of every run out."""
    asked = several("gpt2")
    last = {p.run: i for i, p in enumerate(asked.patches)}
    kept = [p for i, p in enumerate(asked.patches) if last[p.run] != i]
    off = replace(asked, patches=kept).off(bare(asked.of, torch.float64))
    assert float(off.median()) > FAR * FLOAT32
    return float(off.median())


@pytest.mark.parametrize("name", ["gpt2", ENCODER])
def test_changes_at_one_place_are_made_in_turn(name: str) -> None:
    """Each sees what those before it left; the other order gives something else."""
    of = case(name)
    mine = bare(of, torch.float64)
    for component in of.reference.components:
        at = (component, 1, 0 if of.reference.heads(component) else None)
        vector = torch.linspace(0, 1, of.sources[component, 1].shape[-1], dtype=torch.float64)
        for two in (
            [Patch(0, *at, of.read, "scale", 2.0), Patch(0, *at, of.read, "add", vector)],
            [Patch(0, *at, of.read, "take", of.source(0)), Patch(0, *at, None, "take", 6)],
            [Patch(0, *at, None, "take", of.source(0)), Patch(0, *at, of.read, "scale", -1.0)],
        ):
            asked = ask(of, two, [0])
            worst(asked, asked.off(mine), FLOAT64)
            turned = replace(asked, patches=two[::-1])
            assert float(turned.off(mine).min()) > FAR * FLOAT64, component


# --- where nothing changes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mistral, window", "neox, sequential"])
def test_changes_behind_the_position_read_change_nothing(name: str) -> None:
    of = case(name)
    patches = []
    for place in places(of, (of.read + 1, of.read)):
        patches.append(Patch(len(patches), *place, "take", of.source(0)))
    asked = ask(of, patches, [0] * len(patches))
    mine = bare(of, torch.float64)
    worst(asked, asked.off(mine), FLOAT64)
    behind = asked.only(pos=of.read + 1)
    worst(behind, behind.off(mine), FLOAT64)
    still = of.logits([], torch.tensor([0]))
    assert float((behind.theirs - still).abs().max() / asked.std) < FLOAT64
    last = behind.only(layer=of.reference.n_layers - 1, component="z")
    worst(last, last.off(mine), FLOAT64)


def test_runs_without_changes_and_no_runs() -> None:
    of = case("gpt2")
    mine = bare(of, torch.float64)
    asked = ask(of, [], [1, 0, 1])
    worst(asked, asked.off(mine), FLOAT64)
    some = ask(of, [Patch(1, "z", 1, 0, 4, "take", 3)], [1, 0, 1])
    worst(some, some.off(mine), FLOAT64)
    nothing = Runs(torch.zeros(0, dtype=torch.long), [])
    assert list(patched(of.models[torch.float64], mine, nothing)) == []


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_bare_runs_record_what_is_there(name: str) -> None:
    of = case(name)
    mine = bare(of, torch.float64)
    theirs = of.logits([], torch.arange(len(of.ids)))
    std = float(theirs.std())
    assert float((mine.logits - theirs).abs().max() / std) < FLOAT64
    lacking = set(of.reference.components)
    for (component, layer), act in mine.acts.items():
        if component in of.reference.components:
            lacking.discard(component)
            exact = of.sources[component, layer][:-1]
            if component == "pattern" and of.seen is not None:
                exact, act = (part * of.seen[:, :, None, None] for part in (exact, act))
            off = float((act - exact).abs().max() / exact.std())
            assert off < FLOAT64, f"L{layer}.{component}: off by {off:.2g}"
            shifted = of.sources[component, (layer + 1) % of.reference.n_layers][:-1]
            assert float((act - shifted).abs().max() / exact.std()) > FAR * FLOAT32
    assert lacking <= {"q_in", "k_in", "v_in"}, "these alone are not recorded: they are streams"


# --- mistakes inside ------------------------------------------------------------------------------


def test_keys_of_the_prefix_as_hooks_see_them_are_far_off() -> None:
    """Without norms and rotary positions: why keys that scores take are kept beside them."""
    for name in ("qwen3, norms of queries and keys", "llama, grouped queries", "mistral, window"):
        of = case(name)
        asked = swaps(name).only(pos=None, value=of.source(1))
        mine = bare(of, torch.float64)
        starts = [SHARED[1]] * len(asked.patches)
        worst(asked, asked.off(mine, starts=starts), FLOAT64)
        early = {("keys", n): mine.acts["k", n] for n in range(of.reference.n_layers)}
        wrong = replace(mine, acts={**mine.acts, **early})
        assert float(asked.off(wrong, starts=starts).max()) > FAR * FLOAT32


def test_a_start_that_is_too_late_is_far_off() -> None:
    of = case("gpt2")
    asked = swaps("gpt2").only(pos=None, value=of.source(1))
    late = [SHARED[1] + 1] * len(asked.patches)
    assert float(asked.off(bare(of, torch.float64), starts=late).max()) > FAR * FLOAT32


def test_padding_that_is_seen_is_far_off() -> None:
    of, asked = case(ENCODER), swaps(ENCODER)
    blind = trace(
        of.models[torch.float64], of.ids, of.read, components(of.models[torch.float64].info)
    )
    assert float(asked.off(blind).median()) > FAR * FLOAT32


# --- the model's own pass with hooks --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "neox, parallel",
        "llama, grouped queries",
        "gemma2, caps, windows, norms behind",
        ENCODER,
    ],
)
def test_the_hooked_way_gives_the_same(name: str, ledger: Note) -> None:
    """What is used for models that the lean layers cannot compute, on models that they can."""
    of, model = case(name), case(name).models[torch.float64]
    names = components(model.info)
    slow = hooked_trace(model, of.ids, of.read, names, seen=of.seen, why="it was asked for")
    assert slow.lean is None
    assert how(slow) == "Every patch took a whole forward pass with hooks: it was asked for."
    taken = {place: act for place, act in slow.acts.items() if place[0] in of.reference.components}
    assert {component for component, _ in taken} == set(of.reference.components)
    for place, act in taken.items():
        off = (act - of.sources[place][:-1]).abs().max() / of.sources[place].std()
        assert float(off) < FLOAT64, place
    one, some = swaps(name).only(value=of.source(0)), several(name)
    off = [worst(asked, asked.off(slow), FLOAT64) for asked in (one, some)]
    ledger(
        kind=KIND,
        oracle=f"{name}: whole passes in float64, {len(one.rows)} swaps and {len(some.rows)} runs "
        "with several changes by hooks; ours float64",
        control=f"the last change left out, in gpt2: off by {left_out():.1g} in the median",
        deviation=max(off),
        tolerance=FLOAT64,
        unit="standard deviations of the logits",
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_where_no_position_sees_a_later_one(side: str) -> None:
    """Both ways hide it alike; a padded position that sees padding alone attends to nothing."""
    of = case("mistral, window")
    model, asked = of.models[torch.float64], several("mistral, window")
    n = torch.tensor([9, 6, 7, 8, 6, 7, 5, 9])[:, None]
    pos = torch.arange(LENGTH)
    seen = pos < n if side == "right" else pos >= LENGTH - n
    names = components(model.info)
    slow = hooked_trace(model, of.ids, of.read, names, seen=seen, why="it was asked for")
    fast = trace(model, of.ids, of.read, names, seen=seen)
    runs = asked.runs(slow)
    one, other = made(model, fast, runs), made(model, slow, runs)
    assert float((one - other).abs().max() / asked.std) < FLOAT64
    blind = made(model, bare(of, torch.float64), runs)
    assert float((blind - other).abs().max() / asked.std) > FAR * FLOAT32


def test_positions_beside_the_stream_are_lean_too() -> None:
    of = case(SHORTFORMER)
    for dtype, limit in TOLERANCES.items():
        mine = bare(of, dtype)
        assert mine.lean is not None
        for asked in (swaps(SHORTFORMER), several(SHORTFORMER)):
            worst(asked, asked.off(mine), limit)
    assert broken(SHORTFORMER) > FAR * FLOAT32


def test_what_lean_does_not_know_goes_the_hooked_way_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "why_not", lambda model: "its positions are of type sundial")
    known = case(SHORTFORMER)
    of = replace(known, models={dtype: replace(m) for dtype, m in known.models.items()})
    for dtype, limit in TOLERANCES.items():
        mine = bare(of, dtype)
        assert mine.lean is None
        assert how(mine) == (
            "Every patch took a whole forward pass with hooks: its positions are of type sundial."
        )
        for asked in (swaps(SHORTFORMER), several(SHORTFORMER)):
            worst(asked, asked.off(mine), limit)
    layers, why = layers_of(of.models[torch.float64], None)
    assert layers is None
    assert why == "its positions are of type sundial"


@pytest.mark.parametrize("how_wrong", ["other cap", "no mask", "one weight"])
def test_lean_layers_that_are_wrong_are_not_used(
    how_wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compared with the model's own pass when they are first asked for."""
    of = case("gpt2")
    model = replace(of.models[torch.float64])  # another load, which nothing is known of yet
    right = traces.lean

    def wrong(*args: Any) -> Lean:
        found = right(*args)
        if how_wrong == "other cap":
            return replace(found, softcap=3.0)
        if how_wrong == "no mask":
            return replace(found, causal=False)
        first = found.layers[0]
        weight = first.out.weight.clone()
        weight[0, 0] += 1e-3
        moved = replace(first, out=replace(first.out, weight=weight))
        return replace(found, layers=[moved, *found.layers[1:]])

    monkeypatch.setattr(traces, "lean", wrong)
    mine = trace(model, of.ids, of.read, components(model.info))
    assert mine.lean is None
    assert "its lean forward pass is off by" in how(mine)
    asked = swaps("gpt2").only(value=of.source(0), component="k")
    worst(asked, asked.off(mine), FLOAT64)
    monkeypatch.undo()
    again = trace(replace(model), of.ids, of.read)
    assert again.lean is not None


# --- gradients ------------------------------------------------------------------------------------

DIFFERENTIATED = ("q", "k", "v", "pattern", "z", "attn_out", "mlp_out", "resid_pre", "resid_mid")


@pytest.mark.parametrize("name", [*CASES, ENCODER])
def test_gradients_at_every_place(name: str, ledger: Note) -> None:
    """Those of the reference by autograd, through zeros that are added everywhere."""
    of = case(name)
    if of.seen is not None:
        of = replace(of, seen=None)  # gradients take whole prompts
    places = [c for c in (*DIFFERENTIATED, "resid_post") if c in of.reference.components]
    theirs = of.reference.grads(
        of.ids, lambda logits: logits[:, of.read, 2] - logits[:, of.read, 5]
    )
    other = of.reference.grads(of.ids, lambda logits: logits[:, of.read, 2])
    for dtype, limit in TOLERANCES.items():
        model = of.models[dtype]
        layers, why = layers_of(model, None)
        assert layers is not None, why
        chosen = torch.tensor([5, 2])
        ours = gradients(
            model,
            layers,
            of.ids,
            of.read,
            places,
            reader=lambda x: x[:, 1] - x[:, 0],
            outputs=chosen,
        )
        exact = of.logits([], torch.arange(len(of.ids)))
        numbers = exact[:, 2] - exact[:, 5]
        assert float((ours.numbers - numbers).abs().max() / exact.std()) < limit
        assert set(ours.grads) == {(c, n) for c in places for n in range(of.reference.n_layers)}
        found = []
        for place, grad in ours.grads.items():
            scale = theirs[place].abs().max()
            found.append(float((grad - theirs[place]).abs().max() / scale))
            assert found[-1] < limit * 10, f"{place}: off by {found[-1]:.2g}"
            wrong = (other[place] - theirs[place]).abs().max() / scale
            assert float(wrong) > FAR * FLOAT32, place
        ledger(
            kind=KIND,
            oracle=f"{name}: autograd in float64, {len(places)} places a layer; ours {dtype}",
            control="the gradient of another logit: off by a hundredth or more",
            deviation=max(found),
            tolerance=limit * 10,
            unit="of the largest gradient at the place",
        )


@pytest.mark.parametrize("name", ["gemma2, caps, windows, norms behind", ENCODER])
def test_the_references_gradients_are_slopes(name: str) -> None:
    """Central differences along random directions, of the reference itself."""
    of, step = replace(case(name), seen=None), 1e-5
    theirs = of.reference.grads(of.ids[:1], lambda logits: logits[:, of.read, 2])
    rng, patches, along = np.random.default_rng(2), [], []
    for (component, layer), grad in theirs.items():
        way = torch.from_numpy(rng.normal(size=grad.shape[1:]))
        for sign in (step, -step):
            heads = range(of.reference.heads(component)) or (None,)
            for head in heads:
                part = sign * (way if head is None else way[:, head])
                patches.append(Patch(len(along), component, layer, head, None, "add", part))
            along.append((grad[0] * way).sum())
    rows = torch.zeros(len(along), dtype=torch.long)
    up, down = of.logits(patches, rows)[:, 2].view(-1, 2).T
    slopes, exact = (up - down) / (2 * step), torch.stack(along)[::2]
    assert float((slopes - exact).abs().max() / exact.std()) < 1e-6
    assert float((slopes - exact.roll(1)).abs().max() / exact.std()) > 1


# --- two gates that are known ---------------------------------------------------------------------


def recovered(gate: Gate, dtype: torch.dtype, direction: str) -> tuple[float, ...]:
    """Patch bit a, bit b, and both together; 0 is the corrupted run and 1 the clean one."""
    model = _gates.loaded(gate, dtype)
    mine = trace(model, torch.tensor([_gates.CORRUPTED, _gates.CLEAN]), -1, ["z"])
    assert mine.lean is not None, mine.why
    base, source = (0, 1) if direction == "denoising" else (1, 0)
    # Runs 0 and 1 patch one carrier each, run 2 both.
    layer, head = (torch.tensor(part * 2) for part in zip(*_gates.CARRIERS, strict=True))
    taken = engine.Take(mine.acts, torch.full((4,), source))
    edits = Edits("z", torch.tensor([0, 1, 2, 2]), layer, taken, torch.full((4,), 2), head)
    logits = made(model, mine, Runs(torch.full((3,), base), [edits]))
    bottom, top = (mine.logits[:, 1] - mine.logits[:, 0]).tolist()
    assert (bottom, top) == (0.0, 1.0)
    return tuple((logits[:, 1] - logits[:, 0]).tolist())


def effects_of(runs: tuple[float, ...], direction: str) -> tuple[float, ...]:
    return runs if direction == "denoising" else tuple(1 - run for run in runs)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_two_gates_differ_by_their_joint_patch(dtype: torch.dtype, ledger: Note) -> None:
    """To the last bit: all numbers on the way are whole."""
    for (gate, direction), known in _gates.RECOVERED.items():
        found = recovered(gate, dtype, direction)
        assert found == known
        a, b, both = effects_of(found, direction)
        assert both - a - b == _gates.BEYOND[gate, direction]
    ledger(
        kind=KIND,
        oracle=f"AND and OR of two bits, weights by hand: one bit, both, each direction; {dtype}",
        control="the other gate, or the other direction: off by 1",
        deviation=0.0,
        tolerance=0.0,
        unit="recovered (0 to 1)",
    )


@pytest.mark.parametrize("gate", _gates.GATES)
def test_the_patching_page_tells_the_gates_apart(gate: Gate, ledger: Note) -> None:
    """Each place alone, and both by the question's joint patch."""
    _gates.pushed(gate)
    for direction in ("denoising", "noising"):
        result = interp.run(_gates.question(gate, direction)).result
        a, b, both = effects_of(_gates.RECOVERED[gate, direction], direction)
        places = [(2 * layer + head, 2) for layer, head in _gates.CARRIERS]
        assert [result.effect[place] for place in places] == [a, b]
        assert result.joint.alone == (a, b)
        assert result.joint.score.value == both
        others = np.delete(result.effect, [row * 3 + col for row, col in places])
        assert (others == 0).all()
    ledger(
        kind="activation_patching",
        oracle=f"{gate.upper()} of two bits, weights by hand: each bit, and both patched together",
        control="the other gate, or the other direction: off by 1",
        deviation=0.0,
        tolerance=0.0,
        unit="effect (0 to 1)",
    )

"""Laws that patched runs obey, whatever is patched and however runs are made."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.engine import (
    At,
    Change,
    Edits,
    Put,
    Runs,
    Take,
    Trace,
    hook_count,
    passes,
    patched,
    trace,
)
from interp.engine import patch as making
from interp.errors import DoesNotFit
from interp.methods import effects
from interp.models.load import LoadedModel
from interp.models.sites import components, has_heads
from tests.oracles._models import INFO, behaviors, random_model

KEEP = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # making a failure smaller takes minutes here
)
FLOAT32 = 1e-5  # of the logits' standard deviation
FAR = 1e3
PLACES = tuple(c for c in components(INFO) if not c.endswith("_in") and c != "result")
LENGTH = 7

Place = tuple[str, int, int | None, int | None]
Swaps = list[tuple[int, Sequence[Place]]]
"""For each run its pair and the places that are swapped in it."""

places = st.builds(
    lambda component, layer, head, pos: (
        component,
        layer,
        head if has_heads(component) else None,
        pos,
    ),
    st.sampled_from(PLACES),
    st.integers(0, INFO.n_layers - 1),
    st.integers(0, INFO.n_heads - 1),
    st.integers(0, LENGTH - 1) | st.none(),
)
several = st.lists(
    st.tuples(st.integers(0, 3), st.lists(places, max_size=3)), min_size=1, max_size=12
)
names = st.sampled_from(list(behaviors()))


# --- runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pairs:
    """Both prompts of some pairs, run bare: the corrupted ones are patched with the clean ones."""

    base: Trace
    source: Trace
    std: float
    answers: Tensor
    foils: Tensor

    def numbers(self, logits: Tensor) -> Tensor:
        """The logit difference of each pair."""
        rows = torch.arange(len(logits))
        return (logits[rows, self.answers] - logits[rows, self.foils]).double()


@lru_cache
def pairs(name: str) -> Pairs:
    behavior, model = behaviors()[name], random_model()
    base, source = (
        trace(model, torch.tensor(prompts), behavior.read, PLACES)
        for prompts in (behavior.corrupted, behavior.clean)
    )
    std = float(torch.cat([base.logits, source.logits]).std())
    given = torch.tensor(behavior.answers), torch.tensor(behavior.foils)
    return Pairs(base, source, std, *given)


def runs(of: Pairs, swaps: Swaps, start: int = 0) -> Runs:
    """One run for each list of places, in columns by shape."""
    shapes: dict[Any, list[tuple[int, int, Place]]] = {}
    for run, (row, mine) in enumerate(swaps):
        for place in mine:
            shape = (place[0], place[3] is None)
            shapes.setdefault(shape, []).append((run, row, place))
    return Runs(
        torch.tensor([row for row, _ in swaps], dtype=torch.long),
        [
            Edits(
                component,
                torch.tensor([run for run, _, _ in column]),
                torch.tensor([place[1] for _, _, place in column]),
                Take(of.source.acts, torch.tensor([row for _, row, _ in column])),
                pos=None if everywhere else torch.tensor([place[3] for _, _, place in column]),
                head=None
                if not has_heads(component)
                else torch.tensor([place[2] for _, _, place in column]),
                start=start if everywhere else 0,
            )
            for (component, everywhere), column in shapes.items()
        ],
    )


def made(base: Trace, asked: Runs, model: LoadedModel | None = None, **how: Any) -> Tensor:
    """Every run's logits, in the order in which they come; no hook is there in between."""
    model = random_model() if model is None else model
    found = []
    for _, logits in patched(model, base, asked, **how):
        assert hook_count(model) == 0
        found.append(logits)
    return torch.cat(found)


def far(one: Tensor, other: Tensor, std: float) -> float:
    return float((one - other).abs().max()) / std


@contextmanager
def cut_small(free: int = 2**20) -> Generator[None]:
    """Make many passes, as where little memory is free."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "memory", lambda device: (free, free))
        yield


# --- what is patched ------------------------------------------------------------------------------


@KEEP
@given(name=names, place=places)
def test_patching_a_run_with_itself_changes_nothing(name: str, place: Place) -> None:
    of = pairs(name)
    same = Pairs(of.base, of.base, of.std, of.answers, of.foils)
    swaps = [(row, [place]) for row in range(4)]
    assert far(made(of.base, runs(same, swaps)), of.base.logits, of.std) < FLOAT32
    # The control: other values there do matter, unless nothing reads that place any more.
    component, layer, head, pos = place
    assume(pos is None or pos <= of.base.read)
    assume(layer < INFO.n_layers - 1 or component == "resid_pre" or pos in (None, of.base.read))
    every = torch.arange(4)
    zero = Edits(
        component,
        every,
        torch.full((4,), layer),
        Put(torch.zeros(())),
        None if pos is None else torch.full((4,), pos),
        None if head is None else torch.full((4,), head),
    )
    assume(not (component in ("q", "k") and pos == 0))  # one source: there is nothing to weigh
    assert far(made(of.base, Runs(every, [zero])), of.base.logits, of.std) > FAR * FLOAT32


EVERYTHING: dict[str, list[Place]] = {
    "the input": [("resid_pre", 0, None, None)],
    "the input, by position": [("resid_pre", 0, None, pos) for pos in range(LENGTH)],
    "all that the layers write, and the input": [
        ("resid_pre", 0, None, None),
        *(("attn_out", layer, None, None) for layer in range(INFO.n_layers)),
        *(("mlp_out", layer, None, None) for layer in range(INFO.n_layers)),
    ],
    "all heads and MLPs, and the input": [
        ("resid_pre", 0, None, None),
        *(("z", n, head, None) for n in range(INFO.n_layers) for head in range(INFO.n_heads)),
        *(("mlp_out", layer, None, None) for layer in range(INFO.n_layers)),
    ],
    "the last stream": [("resid_post", INFO.n_layers - 1, None, None)],
}


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("name", behaviors())
def test_replacing_everything_gives_the_other_run(name: str, what: str) -> None:
    of, whole = pairs(name), EVERYTHING[what]
    found = made(of.base, runs(of, [(row, whole) for row in range(4)]))
    assert far(found, of.source.logits, of.std) < FLOAT32
    assert far(found, of.base.logits, of.std) > FAR * FLOAT32
    # So effects are 1 there, and 0 where nothing is patched.
    nothing = made(of.base, runs(of, [(row, []) for row in range(4)]))
    assert far(nothing, of.base.logits, of.std) < FLOAT32
    ends = [of.numbers(part).numpy() for part in (of.source.logits, of.base.logits)]
    for logits, wanted in ((found, 1.0), (nothing, 0.0)):
        values = of.numbers(logits).numpy()[:, None, None]
        assert effects.effect(values, *ends, "denoising")[0, 0] == pytest.approx(wanted, abs=1e-4)
        lost = effects.effect(values, *ends, "noising")[0, 0]
        assert lost == pytest.approx(1 - wanted, abs=1e-4)


@KEEP
@given(name=names, layer=st.integers(0, INFO.n_layers - 1), pos=st.integers(0, 6) | st.none())
def test_all_heads_together_are_what_the_attention_writes(
    name: str, layer: int, pos: int | None
) -> None:
    of = pairs(name)
    heads = [("z", layer, head, pos) for head in range(INFO.n_heads)]
    both = [(row, mine) for mine in (heads, [("attn_out", layer, None, pos)]) for row in range(4)]
    one, other = made(of.base, runs(of, both)).chunk(2)
    assert far(one, other, of.std) < FLOAT32


@KEEP
@given(name=names, swaps=several)
def test_from_the_first_difference_on_is_from_the_start_on(name: str, swaps: Swaps) -> None:
    """What both prompts share need not be computed."""
    of = pairs(name)
    differs = (of.base.ids != of.source.ids).any(0).int()
    everywhere = [(row, [(*place[:3], None) for place in mine]) for row, mine in swaps]
    asked = [runs(of, everywhere, start) for start in (0, int(differs.argmax()))]
    found = [made(of.base, part) for part in asked]
    assert far(*found, of.std) < FLOAT32


@KEEP
@given(name=names, swaps=several, outputs=st.lists(st.integers(0, INFO.d_out - 1), min_size=1))
def test_chosen_outputs_are_those_of_all(name: str, swaps: Swaps, outputs: list[int]) -> None:
    of, chosen = pairs(name), torch.tensor(outputs)
    asked = runs(of, swaps)
    some = made(of.base, asked, outputs=chosen)
    assert far(some, made(of.base, asked)[:, chosen], of.std) < FLOAT32


# --- how runs are made ----------------------------------------------------------------------------


@KEEP
@given(name=names, swaps=several, data=st.data())
def test_neither_order_nor_passes_matter(name: str, swaps: Swaps, data: Any) -> None:
    of = pairs(name)
    whole = made(of.base, runs(of, swaps))
    order = data.draw(st.permutations(range(len(swaps))))
    turned = made(of.base, runs(of, [swaps[i] for i in order]))
    assert far(turned, whole[list(order)], of.std) < FLOAT32
    with cut_small():
        assert far(made(of.base, runs(of, swaps * 8)), whole.repeat(8, 1), of.std) < FLOAT32


def test_little_memory_makes_many_passes() -> None:
    """Those before cut as they say they do; every run is in one pass, in order."""
    of, model = pairs("all tokens differ"), random_model()
    asked = runs(of, [(row, [("resid_pre", 0, None, 0)]) for row in range(4)] * 12)
    assert len(passes(model, of.base, asked)) == 1
    with cut_small():
        cut = passes(model, of.base, asked)
    assert len(cut) > 2
    assert torch.equal(torch.cat(cut), torch.arange(48))


@KEEP
@given(name=names, swaps=several, data=st.data())
def test_a_resumed_sweep_has_the_bits_of_an_unbroken_one(
    name: str, swaps: Swaps, data: Any
) -> None:
    of, model = pairs(name), random_model()
    asked = runs(of, swaps * 8)
    done = data.draw(st.integers(0, len(asked)))
    with cut_small():
        unbroken = list(patched(model, of.base, asked))
        assert torch.equal(torch.cat([which for which, _ in unbroken]), torch.arange(len(asked)))
        skip = torch.arange(done)
        resumed = list(patched(model, of.base, asked, skip=skip))
    whole = torch.cat([logits for _, logits in unbroken])
    seen = torch.zeros(len(asked), dtype=torch.bool)
    for which, logits in resumed:
        assert torch.equal(logits, whole[which])
        seen[which] = True
    assert seen[done:].all()
    # Passes that were made are not made again.
    ends = [0, *(int(which[-1]) + 1 for which, _ in unbroken)]
    again = [(first, last) for first, last in pairwise(ends) if last > done]
    assert [(int(w[0]), int(w[-1]) + 1) for w, _ in resumed] == again


@dataclass(frozen=True, eq=False)
class Greedy:
    """A change for which there is too little memory where there are more than so many at once."""

    change: Change
    most: int

    def __call__(self, now: Tensor, at: At) -> Tensor:
        if len(now) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.change(now, at)


@KEEP
@given(
    name=names,
    component=st.sampled_from(PLACES),
    most=st.integers(1, 12),
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=24),
)
def test_out_of_memory_halves_the_pass(
    name: str, component: str, most: int, rows: list[int]
) -> None:
    of, model = pairs(name), random_model()
    place = (component, 1, 0 if has_heads(component) else None, 4)
    asked = runs(of, [(row, [place]) for row in rows])
    (column,) = asked.edits
    short = Edits(
        column.component,
        column.run,
        column.layer,
        Greedy(column.change, most),
        column.pos,
        column.head,
    )
    found = list(patched(model, of.base, Runs(asked.row, [short])))
    assert torch.equal(torch.cat([which for which, _ in found]), torch.arange(len(rows)))
    assert max(len(which) for which, _ in found) <= most
    logits = torch.cat([part for _, part in found])
    assert far(logits, made(of.base, asked), of.std) < FLOAT32


def test_one_run_that_does_not_fit_is_said() -> None:
    of = pairs("all tokens differ")
    asked = runs(of, [(0, [("z", 1, 0, 4)]), (1, [("z", 1, 0, 4)])])
    (column,) = asked.edits
    never = Greedy(column.change, 0)
    edits = Edits("z", column.run, column.layer, never, column.pos, column.head)
    with pytest.raises(DoesNotFit, match="out of memory"):
        list(patched(random_model(), of.base, Runs(asked.row, [edits])))
    assert hook_count(random_model()) == 0

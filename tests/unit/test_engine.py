"""Parts of the engine by themselves: changes, columns of edits, passes, and what stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.engine import (
    Add,
    At,
    Change,
    Edits,
    Project,
    Put,
    Runs,
    Scale,
    Take,
    Trace,
    gradients,
    hook_count,
    how,
    layers_of,
    patched,
    trace,
    traces,
)
from interp.engine.edits import Edited, Tokens
from interp.engine.hooked import hooked_trace
from interp.models.catalogue import of_shape
from interp.models.info import Answers
from interp.models.load import LoadedModel, build, load
from interp.models.sites import components
from tests.contract._checks import assert_no_hooks
from tests.oracles import _gates
from tests.oracles._models import INFO, behaviors, random_model

CPU = torch.device("cpu")
IDS = torch.tensor(behaviors()["a shared prefix"].clean)
OTHER = torch.tensor(behaviors()["a shared prefix"].corrupted)


def column(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)


def both_ways(keep: tuple[str, ...] = ("z",)) -> Iterator[Trace]:
    """Bare runs by lean layers, and by the model's own pass."""
    yield trace(random_model(), IDS, -1, keep)
    yield hooked_trace(random_model(), IDS, IDS.shape[1] - 1, keep, seen=None, why="asked for")


# --- changes --------------------------------------------------------------------------------------

NOW = torch.arange(12.0).view(3, 4)  # three entries of width 4
AT = At("resid_pre", 0, edit=column([1, 0, 1]), pos=column([0, 2, 1]), head=None)


def test_a_constant_is_one_for_all_one_a_width_or_one_an_edit() -> None:
    assert torch.equal(Put(torch.tensor(2.0))(NOW, AT), torch.full((3, 4), 2.0))
    row = torch.arange(4.0)
    assert torch.equal(Put(row)(NOW, AT), row.expand(3, 4))
    assert torch.equal(Put(row[None])(NOW, AT), row.expand(3, 4))
    each = torch.stack([row, -row])
    assert torch.equal(Put(each)(NOW, AT), torch.stack([-row, row, -row]))


def test_a_vector_is_added_by_edit_and_position() -> None:
    each = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(Add(each)(NOW, AT), NOW + each[[1, 0, 1], [0, 2, 1]])
    shared = each[:1]
    assert torch.equal(Add(shared)(NOW, AT), NOW + shared[0, [0, 2, 1]])
    assert torch.equal(Add(each[:, 0])(NOW, AT), NOW + each[[1, 0, 1], 0])


def test_factors_and_subspaces() -> None:
    assert torch.equal(Scale(torch.tensor(3.0))(NOW, AT), 3 * NOW)
    each = Scale(torch.tensor([2.0, 5.0]))(NOW, AT)
    assert torch.equal(each, NOW * torch.tensor([[5.0], [2.0], [5.0]]))
    basis = torch.eye(4, dtype=torch.float64)[:2]
    kept, rest = (Project(basis, keep=keep)(NOW, AT) for keep in (True, False))
    assert kept.dtype == NOW.dtype
    assert torch.equal(kept + rest, NOW)
    assert torch.equal(kept[:, 2:], torch.zeros(3, 2))
    assert torch.equal(rest[:, :2], torch.zeros(3, 2))


def test_taking_is_by_row_position_and_head_and_no_wider_than_what_is_there() -> None:
    acts = {("resid_pre", 0): torch.randn(5, 3, 4), ("pattern", 1): torch.randn(5, 3, 2, 6)}
    taken = Take(acts, column([4, 2]))
    assert torch.equal(taken(NOW, AT), acts["resid_pre", 0][[2, 4, 2], [0, 2, 1]])
    of_head = At("pattern", 1, AT.edit, AT.pos, head=column([1, 0, 0]))
    assert torch.equal(taken(NOW, of_head), acts["pattern", 1][[2, 4, 2], [0, 2, 1], [1, 0, 0], :4])


# --- columns --------------------------------------------------------------------------------------


def test_edits_reach_the_tokens_of_their_runs_alone() -> None:
    """Runs 3, 0 and 5 of six are made; of run 0 only positions 2 and 3 are there, of 5 none."""
    zero = Put(torch.tensor(0.0))
    at_two = Edits(
        "mlp_out",
        run=column([0, 1, 3, 5, 0]),
        layer=column([1, 1, 1, 1, 2]),
        change=zero,
        pos=column([2, 2, 1, 2, 2]),
    )
    everywhere = Edits("attn_out", column([0, 2]), column([1, 1]), zero)
    runs = Runs(column([0] * 6), [at_two, everywhere])
    edited = Edited(runs, column([3, 0, 5]), CPU)
    tokens = Tokens(column([0, 2, 0]), column([0, 2, 0]), column([3, 4, 0]))
    values = torch.ones(6, 2)
    assert edited.wants("mlp_out", 1)
    assert edited.wants("mlp_out", 2)
    assert not edited.wants("mlp_out", 0)
    assert not edited.wants("z", 1)
    after = edited("mlp_out", 1, values, tokens)
    assert (after == 0).all(1).tolist() == [False, True, False, False, True, False]
    assert torch.equal(values, torch.ones(6, 2))
    after = edited("attn_out", 1, values, tokens)
    assert (after == 0).all(1).tolist() == [False, False, False, False, True, True]
    assert edited("z", 1, values, tokens) is values


def test_where_a_column_begins() -> None:
    pos = column([4, 0])
    some = Edits("z", column([0, 1]), column([0, 0]), Put(torch.tensor(0.0)), pos=pos, start=3)
    assert some.first() is pos
    assert replace(some, pos=None).first().tolist() == [3, 3]
    assert replace(some, pos=None, start=0).first().tolist() == [0, 0]


# --- runs -----------------------------------------------------------------------------------------


def zeroed(layers: list[int], change: Change | None = None) -> Runs:
    """A run a layer, with head 1 zeroed at the position read."""
    n = len(layers)
    edits = Edits(
        "z",
        torch.arange(n),
        column(layers),
        Put(torch.tensor(0.0)) if change is None else change,
        pos=torch.full((n,), IDS.shape[1] - 1),
        head=torch.ones(n, dtype=torch.long),
    )
    return Runs(torch.arange(n) % len(IDS), [edits])


def test_no_hook_is_there_between_passes_nor_after_one_that_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("interp.engine.patch.memory", lambda device: (2**20, 2**20))
    model = random_model()
    for bare in both_ways():
        assert_no_hooks(model, "after the bare runs")
        making = patched(model, bare, zeroed([0, 1, 2] * 40))
        for _, (which, _) in zip(range(2), making, strict=False):
            assert len(which) < 120
            assert_no_hooks(model, "between passes")
        making.close()
        assert_no_hooks(model, "given up")


def test_a_change_that_fails_leaves_no_hook_and_no_switch() -> None:
    """The hooked way turns on what the class computes on demand only, and off again."""
    model = random_model()
    config = dict(vars(model.hooked.cfg))

    def fails(now: Tensor, at: At) -> Tensor:
        raise ValueError("on purpose")

    for bare in both_ways():
        for component in ("result", "q_in", "mlp_in"):
            head = None if component == "mlp_in" else column([0])
            edits = Edits(component, column([0]), column([1]), fails, head=head)
            with pytest.raises(ValueError, match="on purpose"):
                list(patched(model, bare, Runs(column([0]), [edits])))
            assert hook_count(model) == 0
            assert dict(vars(model.hooked.cfg)) == config


def test_bare_runs_stay_as_they_are() -> None:
    """Nothing writes into what was recorded, so that they serve any number of sweeps."""
    model, keep = random_model(), tuple(c for c in components(INFO) if not c.endswith("_in"))
    source = trace(model, OTHER, -1, keep)
    every = torch.arange(4)
    for bare in both_ways(keep):
        before = {place: act.clone() for place, act in bare.acts.items()}
        edits = [
            Edits(c, every, torch.full((4,), layer), Take(source.acts, every), head=head)
            for c, layer in before
            if c in keep and (c, layer) in source.acts
            for head in [torch.zeros(4, dtype=torch.long) if act_has_heads(c) else None]
        ]
        first, again = (
            torch.cat([part for _, part in patched(model, bare, Runs(every, edits))])
            for _ in range(2)
        )
        assert torch.equal(first, again)
        assert all(torch.equal(act, before[place]) for place, act in bare.acts.items())


def act_has_heads(component: str) -> bool:
    return component in ("q", "k", "v", "pattern", "z", "result")


def test_what_was_made_is_not_made_again() -> None:
    model = random_model()
    for bare in both_ways():
        runs = zeroed([0, 1, 2])
        assert list(patched(model, bare, runs, skip=torch.arange(3))) == []
        ((which, logits),) = patched(model, bare, runs, skip=column([0, 2]))
        assert which.tolist() == [0, 1, 2]
        ((_, whole),) = patched(model, bare, runs)
        assert torch.equal(logits, whole)


# --- which way ------------------------------------------------------------------------------------


def test_layers_are_read_and_checked_once_a_load() -> None:
    model = replace(random_model())  # as another load
    first, why = layers_of(model, None)
    assert first is not None
    assert why == ""
    assert layers_of(model, torch.float32)[0] is first
    coarse, _ = layers_of(model, torch.bfloat16)
    assert coarse is not None
    assert coarse is not first
    assert layers_of(replace(model), None)[0] is not first
    assert layers_of(model, None)[0] is first


def test_layers_that_are_wrong_are_wrong_in_coarser_arithmetic_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = traces.lean
    monkeypatch.setattr(traces, "lean", lambda *args: replace(right(*args), softcap=1.0))
    for order in ((None, torch.bfloat16), (torch.bfloat16, None)):
        model = replace(random_model())
        for dtype in order:
            layers, why = layers_of(model, dtype)
            assert layers is None, f"{dtype} in the order {order}"
            assert "off by" in why


def test_it_is_said_how_runs_are_made() -> None:
    fast, slow = both_ways()
    assert how(fast) == "Runs are resumed at the patched layer and position."
    assert how(slow) == "Every patch took a whole forward pass with hooks: asked for."
    both = trace(load("paren-balancer", "cpu"), torch.tensor([[0, 3, 4, 2]]), 0)
    assert how(both) == (
        "Runs are resumed at the patched layer; every position is computed again, because all "
        "positions see each other."
    )


TINY: dict[str, Any] = {
    "n_layers": 1,
    "n_heads": 2,
    "d_model": 8,
    "d_head": 4,
    "d_mlp": 8,
    "n_ctx": 6,
    "d_vocab": 5,
    "act_fn": "relu",
    "normalization_type": "LN",
}


def tiny(fill: Callable[[Any], None] | None = None, **changed: Any) -> LoadedModel:
    shape = {**TINY, **changed}
    hooked = build({**shape, "seed": 1})
    hooked.eval().requires_grad_(False)
    if fill is not None:
        fill(hooked)
    answers = Answers("tokens", (), -1)
    info = of_shape("tiny", shape, answers=answers, weights="0" * 64, folder=Path())
    return LoadedModel(info, hooked, CPU, torch.float32)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"positional_embedding_type": "alibi"}, "its positions are of type alibi"),
        ({"act_fn": "solu_ln"}, "its activation has a norm"),
        ({"num_experts": 2, "experts_per_token": 1}, "its MLPs are mixtures of experts"),
    ],
)
def test_what_lean_layers_do_not_know_is_named(changed: dict[str, Any], why: str) -> None:
    model = tiny(**changed)
    assert layers_of(model, None) == (None, why)
    bare = trace(model, torch.tensor([[0, 1, 2]]), -1, ["z"])
    assert how(bare) == f"Every patch took a whole forward pass with hooks: {why}."
    own = model.hooked(torch.tensor([[0, 1, 2]]))[:, -1]
    assert float((bare.logits - own).abs().max()) < 1e-6
    zero = Put(torch.tensor(0.0))
    edits = Edits("z", column([0]), column([0]), zero, pos=column([2]), head=column([1]))
    ((_, after),) = patched(model, bare, Runs(column([0]), [edits]))
    assert float((after - own).abs().max()) > 1e-2


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"normalization_type": None},
        {"normalization_type": "LNPre"},
        {"normalization_type": "RMS", "act_fn": "silu", "gated_mlp": True},
        {"normalization_type": "RMSPre", "positional_embedding_type": "rotary", "rotary_dim": 4},
        {"attn_only": True, "act_fn": None},
        {"attn_only": True, "act_fn": None, "normalization_type": None},
        {"n_key_value_heads": 1},
        {"attention_dir": "bidirectional"},
        {"use_local_attn": True, "window_size": 2, "attn_types": ["local"]},
        {"act_fn": "gelu"},
        {"use_attn_scale": False},
        {"attn_scores_soft_cap": 2.0, "output_logits_soft_cap": 3.0},
    ],
)
def test_what_lean_layers_know(changed: dict[str, Any]) -> None:
    """They are right for these, or the check at first use would have refused them."""
    layers, why = layers_of(tiny(**changed), None)
    assert layers is not None, why


def test_a_model_that_says_the_same_of_everything_is_no_reason_to_go_the_slow_way() -> None:
    """Where all logits are equal there is no standard deviation to compare with."""
    equal = tiny(lambda hooked: hooked.unembed.W_U.zero_())
    assert layers_of(equal, None)[1] == ""
    one = tiny(d_vocab_out=1)
    assert layers_of(one, None)[1] == ""
    for gate in _gates.GATES:
        model = _gates.loaded(gate)
        model.hooked.unembed.b_U.zero_()
        assert layers_of(model, None)[1] == ""


# --- gradients ------------------------------------------------------------------------------------


def test_gradients_of_other_streams_and_of_chosen_outputs() -> None:
    """Streams take the place of the prompts' own; weights have no gradient."""
    model = random_model()
    layers, _ = layers_of(model, None)
    assert layers is not None
    other = trace(model, OTHER, -1)
    streams = other.acts["resid_pre", 0]

    def read(logits: Tensor) -> Tensor:
        return logits[:, 0] - logits[:, 1]

    found = gradients(
        model, layers, IDS, -1, ["resid_pre"], reader=read, outputs=column([4, 9]), streams=streams
    )
    exact = other.logits[:, 4] - other.logits[:, 9]
    std = float(other.logits.std())
    assert float((found.numbers - exact).abs().max()) < 1e-5 * std
    own = gradients(model, layers, OTHER, -1, ["resid_pre"], reader=lambda x: x[:, 4] - x[:, 9])
    for place, grad in own.grads.items():
        assert float((grad - found.grads[place]).abs().max()) < 1e-4 * float(grad.abs().max())
    mine = gradients(model, layers, IDS, -1, ["resid_pre"], reader=read, outputs=column([4, 9]))
    assert float((mine.numbers - exact).abs().max()) > 1e-2 * std
    assert all(p.grad is None for p in model.hooked.parameters())
    assert not any(grad.requires_grad for grad in found.grads.values())
    with suppress(RuntimeError):
        found.numbers.sum().backward()
        raise AssertionError("it still remembers how it was made")

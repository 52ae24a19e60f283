"""The slower exact way: a model's own forward pass from the start, edited by hooks.

It is used for models that ``interp.models.lean`` does not know how to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.edits import Edited, Runs, Tokens
from interp.engine.runs import run_with
from interp.engine.traces import RESUMED, Trace
from interp.models.load import LoadedModel
from interp.models.sites import components

_SWITCHES = {
    "q_in": "use_split_qkv_input",
    "k_in": "use_split_qkv_input",
    "v_in": "use_split_qkv_input",
    "mlp_in": "use_hook_mlp_in",
    "result": "use_attn_result",
}
"""Hooks that the model class only calls where a switch of its configuration is on."""


def hooked_trace(
    model: LoadedModel,
    ids: Int[Tensor, "row pos"],
    read: int,
    keep: Collection[str],
    *,
    seen: Bool[Tensor, "row pos"] | None,
    why: str,
) -> Trace:
    """Run prompts by the model's own forward pass."""
    ids = ids.to(model.device)
    acts: dict[tuple[str, int], Tensor] = {}
    wanted = [c for c in components(model.info) if c in {*keep, *RESUMED}]
    places = [(c, layer) for c in wanted for layer in range(model.info.n_layers)]

    def saver(place: tuple[str, int]) -> Callable[..., None]:
        def save(act: Tensor, hook: Any) -> None:
            acts[place] = _by_pos(place[0], act).clone()

        return save

    hooks = [(place, saver(place)) for place in places]
    with _switched(model, wanted):
        logits = run_with(model, ids, read, [*hooks, *_padding(model, seen)])
    return Trace(ids, read, logits, acts, seen, None, why)


def hooked_patched(
    model: LoadedModel, trace: Trace, runs: Runs, which: Int[Tensor, "run"]
) -> Float[Tensor, "run d_out"]:
    """Make the runs ``which`` and return their logits.

    Cost: one whole forward pass a run.
    """
    row, n = runs.row[which].to(model.device), trace.ids.shape[1]
    edited = Edited(runs, which, model.device)
    each = torch.arange(len(which), device=model.device)
    tokens = Tokens(each * n, torch.zeros_like(each), torch.full_like(each, n))

    def writer(component: str, layer: int) -> Callable[..., Tensor]:
        def write(act: Tensor, hook: Any) -> Tensor:
            flat = _by_pos(component, act).flatten(0, 1)
            done = edited(component, layer, flat, tokens).unflatten(0, (len(which), n))
            return _by_pos(component, done)

        return write

    places = [
        (component, layer)
        for component in {edits.component for edits in runs.edits}
        for layer in range(model.info.n_layers)
        if edited.wants(component, layer)
    ]
    hooks = [((c, layer), writer(c, layer)) for c, layer in places]
    seen = None if trace.seen is None else trace.seen[row]
    with _switched(model, [component for component, _ in places]):
        return run_with(model, trace.ids[row], trace.read, [*hooks, *_padding(model, seen)])


def _by_pos(component: str, act: Tensor) -> Tensor:
    """Put the position before the head, or back: the model class has patterns by head first."""
    return act.transpose(1, 2) if component == "pattern" else act


def _padding(
    model: LoadedModel, seen: Bool[Tensor, "row pos"] | None
) -> Sequence[tuple[tuple[str, int], Callable[..., Tensor]]]:
    """Hide padding by hooks on the scores: the class ignores its mask if all positions are seen."""
    if seen is None:
        return []

    def hide(scores: Tensor, hook: Any) -> Tensor:
        return scores.masked_fill(~seen[:, None, None].to(scores.device), -torch.inf)

    return [(("attn_scores", layer), hide) for layer in range(model.info.n_layers)]


@contextmanager
def _switched(model: LoadedModel, wanted: Collection[str]) -> Generator[None]:
    config = model.hooked.cfg
    names = {_SWITCHES[component] for component in wanted if component in _SWITCHES}
    with model.lock:
        before = {name: getattr(config, name) for name in names}
        try:
            for name in names:
                setattr(config, name, True)
            yield
        finally:
            for name, value in before.items():
                setattr(config, name, value)

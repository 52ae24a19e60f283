"""Forward passes that record or overwrite activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import DoesNotFit
from interp.models.batches import rows_per_batch
from interp.models.load import LoadedModel
from interp.models.sites import hook_name


@dataclass(frozen=True)
class Recorded:
    """Activations by (component, layer), each ``[row, pos, ...]``, and logits at one position."""

    logits: Float[Tensor, "row d_vocab"]
    acts: dict[tuple[str, int], Tensor]


@dataclass(frozen=True)
class Edit:
    """Overwrite ``component`` of ``layer`` in some rows of a batch.

    Attributes:
        component: Name as in ``interp.models.sites``.
        layer: Counted from 0.
        rows: Rows of the batch to change.
        pos: Position of each of these rows, or None for all positions.
        head: Head of each of these rows, or None where the component has no heads.
        values: New activations: ``[row, width]`` at one position, ``[row, pos, width]`` at all.
    """

    component: str
    layer: int
    rows: Int[Tensor, "edited"]
    pos: Int[Tensor, "edited"] | None
    head: Int[Tensor, "edited"] | None
    values: Tensor


def read_out(
    model: LoadedModel,
    ids: Int[Tensor, "row pos"],
    read: int,
    keep: Sequence[tuple[str, int]] = (),
    cut: Callable[[str, Tensor], Tensor] | None = None,
) -> Recorded:
    """Run prompts of one length, keep the named activations and the logits at ``read``.

    Where only a part of an activation is wanted, ``cut`` takes its component and the activation
    and returns that part. The final norm and the unembedding see position ``read`` alone.

    Cost: one forward pass over ``row x pos`` tokens; memory of what is kept.
    """

    def batch(rows: Tensor) -> Recorded:
        acts: dict[tuple[str, int], Tensor] = {}

        def saver(name: tuple[str, int]) -> Callable[..., None]:
            def save(act: Tensor, hook: Any) -> None:
                acts[name] = (act if cut is None else cut(name[0], act)).detach().clone()

            return save

        logits = _forward(model, ids[rows], read, [(name, saver(name)) for name in keep])
        return Recorded(logits, acts)

    parts = _in_batches(model, ids, batch)
    return Recorded(
        torch.cat([p.logits for p in parts]),
        {name: torch.cat([p.acts[name] for p in parts]) for name in keep},
    )


def patched(
    model: LoadedModel, ids: Int[Tensor, "row pos"], read: int, edits: Sequence[Edit]
) -> Float[Tensor, "row d_vocab"]:
    """Run prompts of one length with activations overwritten; return the logits at ``read``.

    The edits of one layer and component are applied in the order given.

    Cost: one forward pass over ``row x pos`` tokens.
    """

    def batch(rows: Tensor) -> Recorded:
        hooks = [((e.component, e.layer), _writer(e, rows)) for e in edits]
        return Recorded(_forward(model, ids[rows], read, hooks), {})

    return torch.cat([p.logits for p in _in_batches(model, ids, batch)])


def unembed(
    model: LoadedModel, resid: Float[Tensor, "row pos d_model"]
) -> Float[Tensor, "row pos d_vocab"]:
    """Put a residual stream through the final norm and the unembedding."""
    with model.lock, torch.inference_mode():
        logits: Tensor = model.hooked(
            resid, start_at_layer=model.info.n_layers, return_type="logits"
        )
    return logits


def hook_count(model: LoadedModel) -> int:
    """Count the hooks that are installed on the model (0 between runs)."""
    return sum(
        len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hooked.hook_dict.values()
    )


def _writer(edit: Edit, rows: Tensor) -> Callable[..., Tensor]:
    # A halved batch holds a part of the rows: find where each edited row stands in it, if at all.
    start, count = int(rows[0]), len(rows)
    inside = (edit.rows >= start) & (edit.rows < start + count)
    at = edit.rows[inside] - start
    pos = None if edit.pos is None else edit.pos[inside]
    head = None if edit.head is None else edit.head[inside]
    values = edit.values[inside]

    def write(act: Tensor, hook: Any) -> Tensor:
        if pos is None:
            where = (at, slice(None)) if head is None else (at, slice(None), head)
        else:
            where = (at, pos) if head is None else (at, pos, head)
        act[where] = values.to(act.dtype)
        return act

    return write


def _forward(
    model: LoadedModel,
    ids: Tensor,
    read: int,
    hooks: Sequence[tuple[tuple[str, int], Callable[..., Any]]],
) -> Float[Tensor, "row d_vocab"]:
    """Run the layers on all positions, the final norm and the unembedding on the one read."""
    named = [(hook_name(component, layer), fn) for (component, layer), fn in hooks]
    with model.lock, torch.inference_mode(), model.hooked.hooks(fwd_hooks=named):
        resid: Tensor = model.hooked(ids.to(model.device), stop_at_layer=model.info.n_layers)
        return unembed(model, resid[:, [read]])[:, 0]


def _in_batches(
    model: LoadedModel, ids: Tensor, run: Callable[[Tensor], Recorded]
) -> list[Recorded]:
    """Run rows in batches that fit, halving on out-of-memory down to a single row."""
    size, start, done = min(len(ids), rows_per_batch(model.info, ids.shape[1])), 0, []
    while start < len(ids):
        try:
            done.append(run(torch.arange(start, min(start + size, len(ids)))))
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if size == 1:
                raise DoesNotFit(
                    f"One prompt of {ids.shape[1]} tokens was run on {model.device}.",
                    "The device is out of memory.",
                    "Shorten the prompt, or use a device with more memory.",
                ) from error
            size //= 2
            continue
        start += size
    return done

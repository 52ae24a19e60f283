"""A model's own forward passes, with hooks that record or change activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    parts = _in_batches(model, ids, lambda rows: _recorded(model, ids[rows], read, keep, cut))
    return Recorded(
        torch.cat([p.logits for p in parts]),
        {name: torch.cat([p.acts[name] for p in parts]) for name in keep},
    )


def _recorded(
    model: LoadedModel,
    ids: Tensor,
    read: int,
    keep: Sequence[tuple[str, int]],
    cut: Callable[[str, Tensor], Tensor] | None,
) -> Recorded:
    acts: dict[tuple[str, int], Tensor] = {}
    hooks = [(name, partial(_save, acts, name, cut)) for name in keep]
    return Recorded(run_with(model, ids, read, hooks), acts)


def _save(
    acts: dict[tuple[str, int], Tensor],
    name: tuple[str, int],
    cut: Callable[[str, Tensor], Tensor] | None,
    act: Tensor,
    hook: Any,
) -> None:
    acts[name] = (act if cut is None else cut(name[0], act)).detach().clone()


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


def run_with(
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

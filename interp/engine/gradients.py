"""Gradients of what is read off the logits, at every component at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.layers import Advance, Group
from interp.engine.traces import Saved, embedded
from interp.models.lean import Lean
from interp.models.load import LoadedModel

Reader = Callable[[Float[Tensor, "row output"]], Float[Tensor, "row"]]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Activations and gradients by component and layer, ``[row, pos, ...]``.

    ``numbers`` is what was read, one a row; gradients are those of each row's own number.
    """

    numbers: Float[Tensor, "row"]
    acts: dict[tuple[str, int], Tensor]
    grads: dict[tuple[str, int], Tensor]


def gradients(
    model: LoadedModel,
    layers: Lean,
    ids: Int[Tensor, "row pos"],
    read: int,
    keep: Collection[str],
    *,
    reader: Reader,
    outputs: Int[Tensor, "output"] | None = None,
    streams: Float[Tensor, "row pos d_model"] | None = None,
) -> Gradients:
    """Run prompts and differentiate what ``reader`` reads off their logits.

    Weights are no variables of it, so that the backward pass makes activations' gradients only.

    Args:
        model: The model.
        layers: Its lean layers.
        ids: Token ids of one length.
        read: Position whose logits are read.
        keep: Components wanted; ``result`` is that of ``z`` through the output matrix.
        reader: Reads one number a row off the logits.
        outputs: Outputs whose logits it reads, or None: all.
        streams: Streams before the first layer instead of the prompts' own.

    Cost: one forward and one backward pass over activations; memory of all of them.
    """
    saved = _Leaves(keep, len(ids))
    ids = ids.to(model.device)
    with torch.inference_mode():
        first = embedded(model, ids, layers) if streams is None else streams
    with torch.enable_grad():
        # Leaving inference mode takes a copy.
        group = Group(0, torch.arange(len(ids), device=model.device), first.clone())
        group.x.requires_grad_(True)
        step = Advance(layers, saved, len(ids), saved.past)
        for layer in range(len(layers.layers)):
            flat, _ = step(layer, [group])
            group.x = flat.unflatten(0, ids.shape)
        numbers = reader(layers.outputs(group.x[:, read], outputs))
        names = list(saved.acts)
        found = torch.autograd.grad(
            numbers.sum(), [saved.acts[name] for name in names], materialize_grads=True
        )
    acts = {name: saved.acts[name].detach().unflatten(0, (len(ids), -1)) for name in names}
    grads = {
        name: grad.unflatten(0, (len(ids), -1)) for name, grad in zip(names, found, strict=True)
    }
    return Gradients(numbers.detach(), acts, grads)


class _Leaves(Saved):
    """Keeps flat activations as they go on, so that gradients with respect to them exist."""

    def __call__(self, component: str, layer: int, values: Tensor, tokens: object) -> Tensor:
        """Keep the activations of a component."""
        if self.wants(component, layer):
            self.acts[component, layer] = values
        return values

"""The same work by others: TransformerLens, and a model of transformers with hooks of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformer_lens.patching as lens
import transformers as hf
from torch import Tensor

from benchmarks._cases import Cell
from benchmarks._harness import Side, clock, timed
from interp.behaviors import Behavior
from interp.models.load import LoadedModel

LENS, HUGGING_FACE = "TransformerLens 3.9.0", f"transformers {hf.__version__}"
SETTERS = {
    "resid_pre": lens.get_act_patch_resid_pre,
    "attn_out": lens.get_act_patch_attn_out,
    "mlp_out": lens.get_act_patch_mlp_out,
    "z": lens.get_act_patch_attn_head_out_all_pos,
    "z_pos": lens.get_act_patch_attn_head_out_by_pos,
}
"""The peer's function of each map; its cells are (layer, position), (layer, head) or all three."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Pairs as tensors, and the logit difference of each."""

    clean: Tensor
    corrupted: Tensor
    answers: Tensor
    foils: Tensor

    @classmethod
    def of(cls, behavior: Behavior, device: torch.device) -> Asked:
        """Put a behavior on a device."""
        parts = (behavior.clean, behavior.corrupted, behavior.answers, behavior.foils)
        return cls(*(torch.tensor(part, device=device) for part in parts))

    def read(self, logits: Tensor) -> Tensor:
        """Return the logit difference of each pair from ``[pair, pos, output]``, last position."""
        last, rows = logits[:, -1], torch.arange(len(logits), device=logits.device)
        return last[rows, self.answers].double() - last[rows, self.foils].double()


@dataclass(frozen=True, eq=False)
class Peer:
    """A peer's sweep: what it does once, and then for the cells that it is given.

    ``each`` returns the logit difference of every pair, ``[cell, pair]``.
    """

    once: Callable[[], Any]
    each: Callable[[Any, Sequence[Cell]], list[np.ndarray]]

    def over(self, cells: Sequence[Cell], asked: Sequence[int] | None = None) -> Side:
        """Return the side for all cells, or for those ``asked`` with the time scaled up to all."""
        which = list(range(len(cells))) if asked is None else list(asked)

        def side() -> tuple[np.ndarray, float]:
            with torch.inference_mode():
                start = clock()
                state = self.once()
                begun = clock()
                found = self.each(state, [cells[i] for i in which])
                done = clock()
            values = np.full((found[0].shape[0], len(cells)), np.nan)
            values[:, which] = np.stack(found, 1)
            return values, begun - start + (done - begun) * len(cells) / len(which)

        return side


def patching(model: LoadedModel, behavior: Behavior, site: str) -> Peer:
    """Sweep a map by ``transformer_lens.patching``."""
    asked = Asked.of(behavior, model.device)

    def each(cache: Any, cells: Sequence[Cell]) -> list[np.ndarray]:
        found: list[np.ndarray] = []

        def metric(logits: Tensor) -> Tensor:
            numbers = asked.read(logits)
            found.append(numbers.cpu().numpy())
            return numbers.mean()

        names = ["layer", "pos", "head"][: len(cells[0])]
        table = pd.DataFrame(cells, columns=names)
        function: Any = SETTERS[site]
        base = (model.hooked, asked.corrupted, cache, metric)
        function(*base, index_axis_names=None, index_df=table)
        return found

    return Peer(lambda: model.hooked.run_with_cache(asked.clean)[1], each)


def hugging_face(theirs: Any, behavior: Behavior) -> Peer:
    """Sweep ``resid_pre`` by a forward pre-hook on a model of transformers, as a careful user does.

    No key-value cache is made, and only the last position's logits are.
    """
    asked = Asked.of(behavior, theirs.device)
    blocks = theirs.transformer.h if hasattr(theirs, "transformer") else theirs.model.layers

    def once() -> Any:
        return theirs(
            asked.clean, output_hidden_states=True, use_cache=False, logits_to_keep=1
        ).hidden_states

    def each(clean: Any, cells: Sequence[Cell]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for layer, pos in cells:

            def put(module: Any, args: tuple[Tensor, ...], at: int = layer, p: int = pos) -> None:
                args[0][:, p] = clean[at][:, p]

            handle = blocks[layer].register_forward_pre_hook(put)
            logits = theirs(asked.corrupted, use_cache=False, logits_to_keep=1).logits
            handle.remove()
            found.append(asked.read(logits).cpu().numpy())
        return found

    return Peer(once, each)


def paths(model: LoadedModel, behavior: Behavior, layer: int, head: int) -> Peer:
    """Send what each component writes differently into one head's queries, a full pass each.

    Cells are (layer, column): a head, then the MLP, then the embeddings in layer 0.
    """
    asked, hooked = Asked.of(behavior, model.device), model.hooked
    heads = model.info.n_heads

    def once() -> tuple[Any, Any]:
        return tuple(hooked.run_with_cache(ids)[1] for ids in (asked.clean, asked.corrupted))

    def written(caches: tuple[Any, Any], of: int, col: int) -> Tensor:
        name = "resid_pre" if col > heads else "mlp_out" if col == heads else "z"
        clean, corrupted = (cache[name, of] for cache in caches)
        moved = clean - corrupted
        return moved[:, :, col] @ hooked.blocks[of].attn.W_O[col] if name == "z" else moved

    def each(caches: Any, cells: Sequence[Cell]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        hooked.set_use_split_qkv_input(True)
        for of, col in cells:
            moved = written(caches, of, col)

            def add(act: Tensor, hook: Any, moved: Tensor = moved) -> Tensor:
                act[:, :, head] += moved
                return act

            hooks = [(f"blocks.{layer}.hook_q_input", add)]
            logits = hooked.run_with_hooks(asked.corrupted, fwd_hooks=hooks)
            found.append(asked.read(logits).cpu().numpy())
        hooked.set_use_split_qkv_input(False)
        return found

    return Peer(once, each)


def gradients(model: LoadedModel, behavior: Behavior, sites: Sequence[str]) -> Side:
    """Estimate every patch of several sites by two forward passes and one backward pass.

    Weights take no gradient. Cells are by site, layer and, if there are any, head; then position.
    """
    asked, hooked = Asked.of(behavior, model.device), model.hooked
    names = {
        (site, layer): lens.utils.get_act_name(site, layer)
        for site in sites
        for layer in range(model.info.n_layers)
    }

    def work() -> np.ndarray:
        slopes: dict[str, Tensor] = {}
        acts: dict[str, Tensor] = {}

        def keep(act: Tensor, hook: Any) -> None:
            acts[hook.name] = act.detach()

        def keep_slope(slope: Tensor, hook: Any) -> None:
            slopes[hook.name] = slope

        def begin(act: Tensor, hook: Any) -> Tensor:
            return act.requires_grad_(True)

        wanted = list(names.values())
        with torch.no_grad():
            _, clean = hooked.run_with_cache(asked.clean, names_filter=wanted)
        forward = [("hook_embed", begin), *((name, keep) for name in wanted)]
        with hooked.hooks(forward, [(name, keep_slope) for name in wanted]):
            asked.read(hooked(asked.corrupted)).sum().backward()
        found: list[Tensor] = []
        for name in wanted:
            moved = ((clean[name] - acts[name]) * slopes[name]).sum(-1)
            found.append(moved.transpose(1, 2).flatten(1) if moved.ndim == 3 else moved)
        return torch.cat(found, 1).double().cpu().numpy()

    return timed(work)

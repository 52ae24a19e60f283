"""Prompts run once, and what is kept of them: the bare runs that every patched run starts from."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.edits import At, Edits, Tokens
from interp.engine.layers import Advance, Group
from interp.engine.runs import read_out
from interp.errors import DoesNotFit
from interp.models.lean import Lean, lean, why_not
from interp.models.load import LoadedModel

RESUMED = ("resid_pre", "z")
"""Components that a run needs of its bare run to start in the middle."""
AGREES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference of lean logits from the model's, over their standard deviation. Rounding is
far below, and a mistake far above; in half precision both round, so 0.1 is allowed."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Prompts of one length that were run without edits.

    Attributes:
        ids: Token ids.
        read: Position whose logits are read, counted from 0.
        logits: At that position.
        acts: What was kept, by component and layer: ``[row, pos, ...]``. ``pattern`` is
            ``[row, dest, head, src]``; ``keys`` and ``values`` are those that scores take.
        seen: Positions that are no padding, or None: all.
        tf32: Whether matrix products of patched runs may round their factors to 10 bits (CUDA).
        lean: The layers that computed it, or None: the model's own forward pass did.
        why: Why it was the model's own, else empty.
    """

    ids: Int[Tensor, "row pos"]
    read: int
    logits: Float[Tensor, "row d_out"]
    acts: dict[tuple[str, int], Tensor]
    seen: Bool[Tensor, "row pos"] | None
    lean: Lean | None
    why: str
    tf32: bool = False

    def only(self, keep: Collection[str]) -> Trace:
        """Return some components and the embeddings: what others take, not what they start from."""
        embedded = ("resid_pre", 0)
        kept = {at: act for at, act in self.acts.items() if at[0] in keep or at == embedded}
        return replace(self, acts=kept)

    @property
    def stop(self) -> int:
        """Positions that matter: a causal model's read no later one."""
        whole = self.lean is None or not self.lean.causal
        return self.ids.shape[1] if whole else self.read + 1


def trace(
    model: LoadedModel,
    ids: Int[Tensor, "row pos"],
    read: int,
    keep: Collection[str] = (),
    *,
    seen: Bool[Tensor, "row pos"] | None = None,
    dtype: torch.dtype | None = None,
    tf32: bool = False,
    like: Trace | None = None,
) -> Trace:
    """Run prompts of one length and keep components at all layers and positions.

    Args:
        model: The model.
        ids: Token ids.
        read: Position whose logits are read, negative from the end.
        keep: Components; those that patched runs start from are kept anyway. What one reader
            takes from the stream (``q_in``, ``mlp_in``) is that stream, and not kept twice.
        seen: Positions that are no padding, or None: all.
        dtype: Precision of the matrix products instead of the model's.
        tf32: Whether they may round their factors to 10 bits, on CUDA devices.
        like: Trace of as many prompts that kept as much; what a causal model's prompts have in
            common with these at the start is taken from there.

    Raises:
        DoesNotFit: The device is out of memory.

    Cost: one forward pass; memory of streams, keys, values and head outputs of all positions, and
    of what is kept besides. The first call for a model compares one prompt with its own forward
    pass.
    """
    layers, why = layers_of(model, dtype)
    if layers is None:
        from interp.engine.hooked import hooked_trace

        return hooked_trace(model, ids, read % ids.shape[1], keep, seen=seen, why=why)
    try:
        with torch.inference_mode(), allowed_tf32(tf32):
            found = lean_trace(model, layers, ids, read, keep, seen=seen, like=like)
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(
            f"{len(ids)} prompts of {ids.shape[1]} tokens were run on {model.device}.",
            "The device is out of memory for their activations.",
            "Ask about fewer or shorter prompts, or use a device with more memory.",
        ) from error
    return replace(found, tf32=tf32)


@contextmanager
def allowed_tf32(allowed: bool) -> Generator[None]:
    """Let matrix products use TF32 inside, and as before after it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 natively."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def lean_trace(
    model: LoadedModel,
    layers: Lean,
    ids: Int[Tensor, "row pos"],
    read: int,
    keep: Collection[str],
    *,
    seen: Bool[Tensor, "row pos"] | None = None,
    like: Trace | None = None,
) -> Trace:
    """Run prompts by lean layers, from the first token on that differs from those of ``like``."""
    ids, read = ids.to(model.device), read % ids.shape[1]
    seen = None if seen is None else seen.to(model.device)
    rows, n = ids.shape
    first = 0
    if like is not None and seen is None and like.lean is layers and layers.causal:
        first = _first_difference(ids, like)
    saved = Saved({*keep, *RESUMED}, rows, like if first else None, first)
    step = Advance(layers, saved, rows, saved.past, saved.attention)
    x = embedded(model, ids, layers)[:, first:]
    group = Group(first, torch.arange(rows, device=model.device), x, seen)
    for layer in range(len(layers.layers)):
        flat, _ = step(layer, [group])
        group.x = flat.unflatten(0, (rows, n - first))
    last = ("resid_post", len(layers.layers) - 1)
    saved.acts[last] = saved.whole(last, group.x)
    if "result" in keep:
        saved.acts |= {
            ("result", layer): layers.results(layer, saved.acts["z", layer])
            for layer in range(len(layers.layers))
        }
    logits = layers.outputs(saved.acts[last][:, read], None)
    return Trace(ids, read, logits, saved.acts, seen, layers, "")


def _first_difference(ids: Int[Tensor, "row pos"], like: Trace) -> int:
    """Return the first position at which a prompt differs from that of ``like``, at most the last.

    Causal models give the same at all positions before it.
    """
    if like.ids.shape != ids.shape or like.seen is not None:
        return 0
    differs = (ids != like.ids).any(0)
    return int(differs.int().argmax()) if bool(differs.any()) else ids.shape[1] - 1


def embedded(
    model: LoadedModel, ids: Int[Tensor, "row pos"], layers: Lean
) -> Float[Tensor, "row pos d_model"]:
    """Return the stream before the first layer."""
    with model.lock:
        found: Tensor = model.hooked(ids, stop_at_layer=0)
    return found.to(layers.dtype)


class Saved:
    """A tap that keeps components and changes nothing.

    With ``like`` the positions before ``first`` are those of another trace, which has them.
    """

    def __init__(
        self, keep: Collection[str], rows: int, like: Trace | None = None, first: int = 0
    ) -> None:
        self.acts: dict[tuple[str, int], Tensor] = {}
        self._keep, self._rows = frozenset(keep), rows
        self._like, self._first = like, first

    def wants(self, component: str, layer: int) -> bool:
        """Whether it is kept."""
        return component in self._keep

    def entries(self, component: str, layer: int, tokens: Tokens) -> list[tuple[Edits, At, Tensor]]:
        """Nothing is edited."""
        return []

    def __call__(self, component: str, layer: int, values: Tensor, tokens: Tokens) -> Tensor:
        """Keep the activations of a component."""
        if component in self._keep:
            place = component, layer
            self.acts[place] = self.whole(place, values.unflatten(0, (self._rows, -1)))
        return values

    def whole(self, place: tuple[str, int], values: Tensor) -> Tensor:
        """Put the positions that are the other trace's before ``[row, pos, ...]``."""
        if self._like is None:
            return values
        return torch.cat([self._like.acts[place][:, : self._first], values], 1)

    def attention(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep what scores take."""
        for name, part in (("keys", keys), ("values", values)):
            self.acts[name, layer] = self.whole((name, layer), part)

    def past(self, layer: int, runs: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of the other trace before a position."""
        assert self._like is not None, "a whole prompt has nothing before it"
        acts = self._like.acts
        return acts["keys", layer][runs, :start], acts["values", layer][runs, :start]


_Read = tuple[int, Lean | None, str]
_READ: WeakKeyDictionary[LoadedModel, dict[torch.dtype, _Read]] = WeakKeyDictionary()


def layers_of(model: LoadedModel, dtype: torch.dtype | None) -> tuple[Lean | None, str]:
    """Return a model's lean layers, or None and why.

    They are read and checked once per load, and again when weights were changed in place. Coarser
    ones are there only where those of the model's own precision passed.
    """
    of_model, wanted = _READ.setdefault(model, {}), dtype or model.dtype
    version = sum(weight._version for weight in model.hooked.parameters())
    if wanted not in of_model or of_model[wanted][0] != version:
        layers, why = _read(model, wanted)
        of_model[wanted] = version, layers, why
    return of_model[wanted][1:]


def _read(model: LoadedModel, wanted: torch.dtype) -> tuple[Lean | None, str]:
    if wanted != model.dtype:
        own, why = layers_of(model, None)
        return (None, why) if own is None else (lean(model, wanted), "")
    if why := why_not(model):
        return None, why
    layers = lean(model, wanted)
    off = _deviation(model, layers)
    if off <= AGREES.get(wanted, 0.1):
        return layers, ""
    return None, f"its lean forward pass is off by {off:.2g} of the logits' std"


def _deviation(model: LoadedModel, layers: Lean) -> float:
    """Compare one prompt of tokens spread over the vocabulary with the model's own pass."""
    n = min(12, model.info.n_ctx)
    ids = (torch.arange(n)[None] * 7919 + 1) % model.info.d_vocab
    own = read_out(model, ids, -1).logits.double()
    with torch.inference_mode():
        ours = lean_trace(model, layers, ids, -1, ()).logits.double()
    # Logits that are all alike have no spread: their size is the scale then.
    scale = float(own.std(correction=0)) or float(own.abs().max()) or 1.0
    return float((ours - own).abs().max()) / scale

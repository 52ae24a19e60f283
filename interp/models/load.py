"""Load a model (this module imports torch; the catalogue does not)."""

from __future__ import annotations

import importlib
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from interp.errors import BadInput, CannotLoad, DoesNotFit
from interp.models import catalogue, hub, registry, tokens
from interp.models.checkpoint import Checkpoint, Progress, open_checkpoint
from interp.models.info import BYTES, DTYPES, ModelInfo
from interp.models.paths import shown

MADE_BY_THE_CLASS = (".mask", ".IGNORE", ".rotary_sin", ".rotary_cos")
"""Buffers that the model class makes itself."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model on a device.

    ``hooked`` is the transformer with hook points. Hooks are state on a shared module, so
    ``lock`` must be held by whoever runs it; ``interp.engine`` does that.
    """

    info: ModelInfo
    hooked: Any
    device: torch.device
    dtype: torch.dtype
    lock: RLock = field(default_factory=RLock)

    @property
    def bytes(self) -> int:
        """Size of the weights and tables in bytes; storage that two of them share counts once."""
        stored = [*self.hooked.parameters(), *self.hooked.buffers()]
        shared = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in stored}
        return sum(shared.values())

    def to_tokens(self, prompt: str) -> Tensor:
        """Return the token ids ``[1, pos]`` of a prompt as the app reads it, on the device.

        Raises:
            BadInput: The model cannot read it, or not so much of it.
        """
        return torch.tensor([tokens.encode(self.info, prompt).ids], device=self.device)


def pick_device(wanted: str = "") -> torch.device:
    """Choose the device: the one asked for if it is there, else CUDA, then MPS, then the CPU."""
    if torch.cuda.is_available() and (wanted == "" or wanted.startswith("cuda")):
        return torch.device(wanted or "cuda:0")
    if torch.backends.mps.is_available() and wanted in ("", "mps"):
        return torch.device("mps")
    return torch.device("cpu")


def device_named(wanted: str | None) -> torch.device:
    """Return the device asked for, or the one chosen where none is.

    Raises:
        BadInput: There is no such device here.
    """
    found = pick_device(wanted or "")
    if wanted and found.type != wanted.split(":")[0]:
        raise BadInput(
            f"The device {wanted!r} was asked for.",
            "There is none here that torch can use.",
            f"Leave it out: {found} is used then.",
        )
    return found


def load(
    name: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load the model ``name``, which the catalogue has, on ``device`` (chosen if not given).

    Args:
        name: A name of the catalogue, with its weight processing and precision.
        device: Where to.
        dtype: Precision instead of the name's, one of ``interp.models.info.DTYPES``.
        progress: Told what is done, and how many bytes of how many.

    Raises:
        UnknownName: There is no such model.
        CannotLoad: Its files are gone, broken or have changed since it was added.
        DoesNotFit: The device has not enough memory.

    Cost: reads the weights once; memory is theirs. They pass through the main memory.
    """
    info = in_precision(catalogue.info(name), dtype)
    where = torch.device(device) if device else pick_device()
    precision: torch.dtype = getattr(torch, info.dtype)
    # Folding divides and subtracts: done in no less than float32, rounded once at the end.
    first = precision if BYTES[info.dtype] >= 4 else torch.float32
    work = first if info.processing == "folded" else precision
    try:
        hooked = _filled(info, work, progress)
        if info.processing == "folded":
            from interp.models.folding import fold

            fold(hooked)
        hooked.to(precision, print_details=False)
        hooked.to(where, print_details=False)
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(
            f"{info.name} was to be loaded on {where}.",
            "The device ran out of memory on the way.",
            "Unload other models, or load it in bfloat16.",
        ) from error
    hooked.eval().requires_grad_(False)
    return LoadedModel(info, hooked, where, precision)


def in_precision(info: ModelInfo, dtype: str | torch.dtype | None) -> ModelInfo:
    """Return the variant of a model in another precision, or the model itself for None.

    Raises:
        BadInput: There is no such precision.
    """
    if dtype is None:
        return info
    wanted = str(dtype).removeprefix("torch.")
    if wanted not in DTYPES:
        raise BadInput(
            f"{info.name} was asked for in {wanted}.", "", f"Choose one of {', '.join(DTYPES)}."
        )
    base, processing, _ = registry.split(info.name)
    return catalogue.info(registry.join(base, processing, wanted))


def _filled(info: ModelInfo, dtype: torch.dtype, progress: Progress | None) -> Any:
    """Make the model with its weights; these come first, so that what they refute is not made."""
    weights = _weights(info, dtype, progress)
    hooked = build({**info.transformer, "init_weights": False, "dtype": dtype})
    _fill(hooked, info, weights)
    return hooked


def _weights(info: ModelInfo, dtype: torch.dtype, progress: Progress | None) -> dict[str, Tensor]:
    if info.source != "bundled":
        registry.check_unchanged(registry.entries()[registry.split(info.name)[0]])
    if info.source in ("bundled", "notebook"):
        stored = {name: t.to(dtype) for name, t in load_file(info.weights_file).items()}
        # A model whose unembedding is its embedding stores it once.
        if "unembed.W_U" not in stored:
            stored["unembed.W_U"] = stored["embed.W_E"].T
        return stored
    return read_weights(open_checkpoint(info.folder, hub.roots(info.source)), dtype, progress)


def read_weights(
    checkpoint: Checkpoint, dtype: torch.dtype, progress: Progress | None = None
) -> dict[str, Tensor]:
    """Read a checkpoint's tensors under the names of the model class, in ``dtype``.

    Raises:
        CannotLoad: A tensor is missing, unknown, quantised, or of another shape than config.json
            says.

    Cost: reads every tensor once; holds each in its stored precision only while it is converted.
    """
    from interp.models.convert import convert, shapes_of, used_tensors

    total = sum(checkpoint.tensors[name].numel for name in used_tensors(checkpoint))
    done = 0
    with ExitStack() as stack:
        files: dict[Path, Any] = {}

        def read(name: str) -> Tensor:
            nonlocal done
            stored = checkpoint.tensors[name]
            if stored.file not in files:
                files[stored.file] = stack.enter_context(safe_open(stored.file, framework="pt"))
            tensor: Tensor = files[stored.file].get_tensor(name).to(dtype)
            done += stored.numel
            if progress is not None:
                size = dtype.itemsize
                progress(f"Loading {shown(checkpoint.folder)}", done * size, total * size)
            return tensor

        try:
            return convert(checkpoint.architecture, shapes_of(checkpoint), read)
        except SafetensorError as error:
            raise CannotLoad(
                f"{shown(checkpoint.folder)} was to be loaded.",
                f"A weight file cannot be read: {error}.",
                "Copy or download it again.",
            ) from error


def _fill(hooked: Any, info: ModelInfo, weights: dict[str, Tensor]) -> None:
    """Put weights into the model, which has a place for each and none besides."""
    missing, unexpected = hooked.load_state_dict(weights, strict=False, assign=True)
    lost = [key for key in missing if not key.endswith(MADE_BY_THE_CLASS)]
    if lost or unexpected:
        raise RuntimeError(f"{info.name}: weights do not fit the shape: {lost} {unexpected}")


def warm_up() -> None:
    """Import the model library ahead of the first load: it takes some seconds."""
    importlib.import_module("transformer_lens")


def build(config: dict[str, Any]) -> Any:
    """Make an untrained transformer with hook points from the fields of its configuration."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with warnings.catch_warnings():
        # The class is deprecated upstream; docs/adr/0002 says why it is used all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        return HookedTransformer(
            HookedTransformerConfig(**config, device="cpu"), move_to_device=False
        )

"""Load a model (this module imports torch; the catalogue does not)."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from safetensors.torch import load_file

from interp.models import catalogue
from interp.models.info import ModelInfo


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
        """Size of the weights in bytes."""
        return sum(p.numel() * p.element_size() for p in self.hooked.parameters())


def pick_device(wanted: str = "") -> torch.device:
    """Choose the device: the one asked for if it is there, else CUDA, then MPS, then the CPU."""
    if torch.cuda.is_available() and (wanted == "" or wanted.startswith("cuda")):
        return torch.device(wanted or "cuda:0")
    if torch.backends.mps.is_available() and wanted in ("", "mps"):
        return torch.device("mps")
    return torch.device("cpu")


def load(
    name: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Load the model ``name`` on ``device`` (chosen if not given).

    Raises:
        UnknownName: There is no such model.

    Cost: reads the weights once; memory is theirs.
    """
    info = catalogue.info(name)
    where = torch.device(device) if device else pick_device()
    hooked = build({**info.transformer, "init_weights": False})
    weights = load_file(info.folder / "weights.safetensors")
    missing, unexpected = hooked.load_state_dict(weights, strict=False)
    # Causal masks and IGNORE constants are buffers that the class makes itself.
    lost = [key for key in missing if not key.endswith((".mask", ".IGNORE"))]
    if lost or unexpected:
        raise RuntimeError(f"{name}: weights do not fit the shape: {lost} {unexpected}")
    hooked.to(where, print_details=False)
    precision: torch.dtype = getattr(torch, str(dtype or info.dtype).removeprefix("torch."))
    hooked.to(precision, print_details=False)
    hooked.eval().requires_grad_(False)
    return LoadedModel(info, hooked, where, precision)


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

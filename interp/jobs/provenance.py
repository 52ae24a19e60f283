"""The stamp that every finished record carries."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from interp.analyses._record import Spec
from interp.config import APP_VERSION
from interp.models import deviation
from interp.models.load import LoadedModel

LIBRARIES = (
    "torch",
    "transformer-lens",
    "sae-lens",
    "transformers",
    "numpy",
    "streamlit",
    "plotly",
)


def versions() -> dict[str, str]:
    """Return the versions of the app, Python and the libraries that the numbers depend on."""
    return {"because": APP_VERSION, "python": platform.python_version()} | {
        name: version(name) for name in LIBRARIES
    }


def stamp(spec: Spec, kind_version: int, model: LoadedModel, wall_s: float) -> dict[str, Any]:
    """Make the provenance stamp of a run on ``model`` that took ``wall_s`` seconds."""
    measured = deviation.measured(model.info)
    return {
        "model": model.info.name,
        "source": model.info.source,
        "family": model.info.family,
        "revision": model.info.revision,
        "weights_sha256": model.info.weights,
        "weight_processing": model.info.processing,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": device_name(model),
        "seed": spec.seed,
        "kind_version": kind_version,
        "versions": versions(),
        "wall_s": round(wall_s, 3),
        "deviation_from_float32": None if measured is None else asdict(measured),
        "process_peak_memory_mb": round(_peak_bytes(model) / 1e6, 1),
    }


def device_name(model: LoadedModel) -> str:
    """Name the device a model is on, with the card's name for a GPU."""
    if model.device.type == "cuda":
        import torch

        return f"{model.device} ({torch.cuda.get_device_name(model.device)})"
    return str(model.device)


def _peak_bytes(model: LoadedModel) -> int:
    if model.device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(model.device)
    # Linux reports kilobytes, macOS bytes.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

"""The models that a worker keeps loaded: one copy of each, the least recently used out first."""

from __future__ import annotations

import gc
from collections import OrderedDict
from threading import RLock

import torch

from interp.errors import DoesNotFit
from interp.models import catalogue, fit
from interp.models.checkpoint import Progress
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel, load, pick_device
from interp.models.memory import memory


class Residents:
    """Loaded models by name, on one device."""

    def __init__(self, device: str = "") -> None:
        self.device = pick_device(device)
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = RLock()

    def get(self, name: str, progress: Progress | None = None) -> LoadedModel:
        """Return the model ``name``; load it if it is not there, making room if need be.

        Raises:
            DoesNotFit: It does not fit even with everything else unloaded.
            CannotLoad: Its files cannot be read.
        """
        with self._lock:
            info = catalogue.info(name)
            held = self._models.get(name)
            if held is None or held.info.weights != info.weights:
                self.drop(name)
                self._make_room(info)
                self._models[name] = load(name, self.device, progress=progress)
            self._models.move_to_end(name)
            return self._models[name]

    def drop(self, name: str) -> None:
        """Unload a model; one that is not loaded is none to unload."""
        with self._lock:
            if self._models.pop(name, None) is not None:
                gc.collect()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each loaded model, the most recently used last."""
        return {name: model.bytes for name, model in list(self._models.items())}

    def described(self) -> fit.Device:
        """Say what the device has and what unloading would free."""
        free, total = memory(self.device)
        return fit.Device(str(self.device), free, total, sum(self.sizes().values()))

    def _make_room(self, info: ModelInfo) -> None:
        while not (found := fit.check(info, self.described())).fits or found.unloads:
            if not found.fits:
                raise fit.refuse(info, found)
            self.drop(next(iter(self._models)))
        _check_passage(info, self.device)


def check_room(info: ModelInfo, device: torch.device) -> None:
    """Refuse a model for which a device has no room as it stands.

    Raises:
        DoesNotFit: It does not fit; the message says what would.
    """
    free, total = memory(device)
    found = fit.check(info, fit.Device(str(device), free, total))
    if not found.fits:
        raise fit.refuse(info, found)
    _check_passage(info, device)


def _check_passage(info: ModelInfo, device: torch.device) -> None:
    """Refuse a model whose weights do not fit into the main memory on their way to a device."""
    free, needed = memory(torch.device("cpu"))[0], fit.loading_bytes(info)
    if device.type != "cpu" and needed > free:
        raise DoesNotFit(
            f"{info.name} was to be loaded on {device}.",
            f"Its weights pass through the main memory, of which they take "
            f"{fit.gigabytes(needed)} on the way; {fit.gigabytes(free)} are free.",
            "End other programs, or load it raw or in bfloat16.",
        )

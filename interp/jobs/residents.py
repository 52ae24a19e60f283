"""The models that a worker keeps loaded: one copy of each, the least recently used out first."""

from __future__ import annotations

import gc
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import RLock

import psutil
import torch

from interp.errors import DoesNotFit
from interp.models import catalogue, fit
from interp.models.checkpoint import Progress
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel, load, pick_device


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


def memory(device: torch.device) -> tuple[int, int]:
    """Return the free and total bytes of a device; what torch keeps of its own counts as free.

    A container's limit counts for the main memory where it is lower.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept, total
    found = psutil.virtual_memory()
    limits = container_limits()
    free = min([found.available, *(free for free, _ in limits)])
    return free, min([found.total, *(most for _, most in limits)])


def container_limits(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Return free and most bytes of every control group (version 2) that this process is in.

    Cached files count as free: they make room when it is needed. Empty where there is no limit.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for path in (line.removeprefix("0::/") for line in lines if line.startswith("0::/")):
        for folder in (root / path, *(root / path).parents):
            if folder.is_relative_to(root):
                with suppress(OSError, ValueError):
                    most = int((folder / "memory.max").read_text())
                    used = int((folder / "memory.current").read_text())
                    found.append((max(0, most - used + _cached(folder)), most))
    return found


def _cached(folder: Path) -> int:
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, size = line.partition(" ")
            if name == "inactive_file":
                return int(size)
    return 0

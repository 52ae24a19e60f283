"""What a worker says about its device."""

from __future__ import annotations

import time
from typing import Any

import torch

from interp.jobs.provenance import versions
from interp.models.memory import memory


def describe(device: torch.device, *, memory_only: bool = False) -> dict[str, Any]:
    """Return free and total bytes and, unless ``memory_only``, name, matrix rate and versions."""
    free, total = memory(device)
    name = str(device)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    sizes = {"free_bytes": free, "total_bytes": total}
    if memory_only:
        return sizes
    return {**sizes, "device": name, "flop_per_s": _matrix_rate(device), "versions": versions()}


def _matrix_rate(device: torch.device) -> float:
    """Measure the rate of a float32 matrix product, in operations a second."""
    n = 512
    a = torch.ones(n, n, device=device)
    (a @ a).sum().item()
    start = time.perf_counter()
    for _ in range(3):
        (a @ a).sum().item()
    return 3 * 2 * n**3 / (time.perf_counter() - start)

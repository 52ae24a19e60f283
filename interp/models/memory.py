"""How much memory a device has left (this module imports torch)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import torch


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

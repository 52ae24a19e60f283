"""A worker whose patching gets stuck in native code after some steps; it holds no lock of Python.

python -m tests.faults._stuck_worker --slot cpu
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from interp.analyses import activation_patching as kind
from interp.config import settings
from interp.jobs import worker

STEPS = 3
_run = kind.ANALYSIS.run


def stuck(spec: Any, ctx: Any) -> Iterator[Any]:
    """Yield some true steps, then never again."""
    for done, step in enumerate(_run(spec, ctx), 1):
        yield step
        if done == STEPS:
            (settings().home / "stuck").touch()
            ctypes.CDLL(None).sleep(3600)


if __name__ == "__main__":
    kind.ANALYSIS = replace(kind.ANALYSIS, run=stuck)
    sys.exit(worker.main())

"""Settings, read from the environment each time they are asked for (nothing is cached here).

BECAUSE_HOME       data folder: store, artifacts, locks, logs (default: ~/.because)
BECAUSE_STORE_URL  SQLAlchemy URL of the store (default: SQLite in the data folder)
BECAUSE_DEVICE     device of the only worker, e.g. "cpu" or "cuda:1" (default: all that are found)
BECAUSE_LEASE_S    seconds without a heartbeat after which a worker is killed (default: 30)
BECAUSE_IDLE_S     seconds without a server after which a worker exits (default: 60)
BECAUSE_MODEL_ROOTS  folders that models may be read from, separated as in PATH (default: the
                   person's home folder, the working folder and the system's temporary folder)
BECAUSE_THREADS    torch threads of a worker (default: 1; tiny models are slower with more)
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from interp.errors import BadInput

APP_VERSION = "0.1.0"


@dataclass(frozen=True)
class Settings:
    """One reading of the environment. Times in seconds."""

    home: Path
    store_url: str
    device: str
    lease_s: float
    idle_s: float
    threads: int
    model_roots: tuple[Path, ...]


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if value <= 0:
        raise BadInput(f"{name} is {text!r}.", "It must be a positive number.", f"Try {default:g}.")
    return value


def _model_roots() -> tuple[Path, ...]:
    given = os.environ.get("BECAUSE_MODEL_ROOTS", "")
    roots = given.split(os.pathsep) if given else [Path.home(), Path.cwd(), tempfile.gettempdir()]
    return tuple(dict.fromkeys(Path(root).expanduser().resolve() for root in roots if root))


def settings() -> Settings:
    """Read the settings; the data folder is not created here."""
    home = Path(os.environ.get("BECAUSE_HOME") or Path.home() / ".because").expanduser().resolve()
    return Settings(
        home=home,
        store_url=os.environ.get("BECAUSE_STORE_URL") or f"sqlite:///{home / 'store.sqlite'}",
        device=os.environ.get("BECAUSE_DEVICE", ""),
        lease_s=_number("BECAUSE_LEASE_S", 30.0),
        idle_s=_number("BECAUSE_IDLE_S", 60.0),
        threads=int(_number("BECAUSE_THREADS", 1.0)),
        model_roots=(*_model_roots(), home),
    )

"""The store, as pages get it: opened once, with the worked records in it."""

from __future__ import annotations

import time
from functools import lru_cache
from threading import Lock

from interp.models.add import Described, describe
from interp.store import Store, open_store
from interp.worked import add_worked

_READY: set[str] = set()
_LOCK = Lock()


def store() -> Store:
    """Return the store of the current settings; the first call adds the worked records."""
    opened = open_store()
    with _LOCK:
        if str(opened.home) not in _READY:
            add_worked(opened)
            _READY.add(str(opened.home))
    return opened


def described(name: str, revision: str, called: str) -> Described:
    """Say what a folder or a name of the hub is; asked again after half a minute."""
    return _described(name, revision, called, int(time.monotonic() / 30))


@lru_cache(maxsize=64)
def _described(name: str, revision: str, called: str, half_minute: int) -> Described:
    return describe(name, revision, called)

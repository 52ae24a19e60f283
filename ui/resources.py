"""The store, as pages get it: opened once, with the worked records in it."""

from __future__ import annotations

from threading import Lock

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

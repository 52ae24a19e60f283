"""Records, attempts, events, artifacts and workers: the only channel between a run and a page.

The store saves any result and knows no kind.
"""

from interp.store.codec import pack, unpack
from interp.store.records import Record
from interp.store.states import State
from interp.store.store import Store, open_store

__all__ = ["Record", "State", "Store", "open_store", "pack", "unpack"]

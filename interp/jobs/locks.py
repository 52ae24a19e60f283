"""File locks: who is alive. The kernel drops a lock when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from interp.store import Store


class FileLock:
    """A lock on a file in ``home/locks``; held until released or until the process ends."""

    def __init__(self, home: Path, name: str) -> None:
        folder = home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name.replace(':', '-')}.lock"
        self._file: int | None = None

    def take(self, *, shared: bool = False, wait_s: float = 2.0) -> bool:
        """Try to take the lock, for this process alone or ``shared``; False if somebody has it.

        Args:
            shared: Whether others may hold it too.
            wait_s: How long to try, in seconds: a look by ``is_free`` holds it for a moment.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= until:
                    os.close(handle)
                    return False
                time.sleep(0.02)
            else:
                self._file = handle
                return True

    def release(self) -> None:
        """Let go of the lock if it is held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def is_free(self) -> bool:
        """Whether nobody holds it at this moment."""
        if self._file is not None:
            return False
        free = self.take(wait_s=0.0)
        self.release()
        return free

    def remove(self) -> None:
        """Let go of the lock and delete its file; for locks whose name is never used again."""
        self.release()
        self._path.unlink(missing_ok=True)


def owner_lock(home: Path, owner: str) -> FileLock:
    """Return the lock that whoever holds records as ``owner`` keeps while it lives."""
    return FileLock(home, f"owner-{owner}")


def take_from_dead(store: Store) -> None:
    """Take every record from owners that live no more."""
    held = {owner: owner_lock(store.home, owner) for owner in store.queue.owners()}
    dead = [owner for owner, lock in held.items() if lock.is_free()]
    if dead:
        store.queue.expire(dead)
    for owner in dead:
        held[owner].remove()

"""The states of a record and the ways between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a record is. ``sentence`` says it for a person."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def sentence(self) -> str:
        """Return what the state means, in one sentence."""
        return _SENTENCES[self]

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return not NEXT[self]


_SENTENCES = {
    State.QUEUED: "Waits for a worker.",
    State.RUNNING: "A worker computes it.",
    State.CANCELLING: "Was asked to stop and has not stopped yet.",
    State.DONE: "Computed; the result will not change.",
    State.FAILED: "Stopped by an error; what was computed before is kept.",
    State.CANCELLED: "Stopped by a person; what was computed before is kept as partial.",
    State.LOST: "Its worker died three times; nothing restarts it by itself.",
}

NEXT: dict[State, tuple[State, ...]] = {
    State.QUEUED: (State.RUNNING, State.CANCELLED),
    State.RUNNING: (State.DONE, State.FAILED, State.CANCELLING, State.QUEUED, State.LOST),
    State.CANCELLING: (State.CANCELLED, State.FAILED),
    State.DONE: (),
    State.FAILED: (),
    State.CANCELLED: (),
    State.LOST: (),
}
"""Every change of state that is allowed; the queue's statements make no other."""

MAX_CRASHES = 3
"""A record whose worker died this often is lost."""

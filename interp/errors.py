"""What can go wrong by a user's doing, said so that it can be put right.

    InterpError
    ├── BadInput            a question that cannot be asked of this model
    │   ├── UnknownName     a kind, field, model, behavior or site that does not exist
    │   ├── PromptTooLong   more tokens than the model has positions
    │   ├── UnknownToken    a character or token that the model has no id for
    │   └── UnequalPair     clean and corrupted do not line up, or do not differ
    ├── CannotLoad          a model whose files are missing, broken, of an unknown form or refused
    ├── NothingToRecover    the two runs of a pair give the same number
    ├── DoesNotFit          the device has not enough memory, and this would fit
    ├── NotFound            no such record
    │   └── Gone            there was one, and it was deleted
    ├── Corrupt             stored bytes do not match their hash
    └── StoreTooNew         the data folder was written by a newer version

A message has three parts: what was asked, what was found, what would work.
Everything else that is raised is a fault of ours and is shown with an id.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InterpError(Exception):
    """Say what was asked, what was found and what would work.

    Args:
        asked: The request, as the user would recognise it.
        found: What was there instead.
        works: What to do about it.
    """

    def __init__(self, asked: str, found: str = "", works: str = "") -> None:
        super().__init__(asked, found, works)
        self.asked, self.found, self.works = asked, found, works

    def __str__(self) -> str:
        return " ".join(part for part in (self.asked, self.found, self.works) if part)


class BadInput(InterpError):
    """A question that cannot be asked of this model."""


class UnknownName(BadInput):
    """A name that does not exist, with the nearest that does."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error for ``name``, which is none of ``known``."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return cls(
            f"There is no {what} called {name!r}.",
            f"Known: {', '.join(names) or 'none'}.",
            f"{hint}Choose one of these.",
        )


class PromptTooLong(BadInput):
    """More tokens than the model has positions."""


class UnknownToken(BadInput):
    """A character or token that the model has no id for."""


class UnequalPair(BadInput):
    """Clean and corrupted do not line up, or do not differ."""


class CannotLoad(InterpError):
    """A model whose files are missing, broken, of an unknown form or refused."""


class NothingToRecover(InterpError):
    """The clean and the corrupted run give the same number."""


class DoesNotFit(InterpError):
    """The device has not enough memory for this."""


class NotFound(InterpError):
    """No record has this id."""


class Gone(NotFound):
    """The record was deleted; its id is never used again."""


class Corrupt(InterpError):
    """Stored bytes do not match the hash that they are named by."""


class StoreTooNew(InterpError):
    """The data folder was written by a newer version of the app."""

"""What could stand at the cursor of an expression that is being typed."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from interp.expressions.lexer import MAX_CHARACTERS
from interp.expressions.library import FUNCTIONS

_TYPED: Final = re.compile(r"(?:^|(?<=[^A-Za-z0-9_.]))(?:[A-Za-z_][A-Za-z0-9_]*)?\Z")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Completion:
    """A candidate.

    Attributes:
        insert: What takes the place of the letters before the cursor that belong to the name
            being typed.
        about: What it is, for the list.
    """

    insert: str
    about: str


def complete(text: str, cursor: int, names: Iterable[str]) -> tuple[Completion, ...]:
    """List what the name at the cursor could become: names first, then functions, by alphabet.

    Args:
        text: What is typed so far.
        cursor: How many characters stand before the cursor.
        names: Tokens, columns and features that the expression may use. One that is not a plain
            word is taken for a column.

    Returns:
        Candidates that begin with what is typed, in either case of letters; all of them where
        nothing is typed yet.
    """
    before = text[: max(0, cursor)]
    if len(text) > MAX_CHARACTERS:
        return ()
    quoted = _open_quote(before)
    known = sorted(set(names))
    if quoted is not None:
        fit = [name for name in known if _begins(name, quoted)]
        return tuple(Completion(name, "column") for name in fit)
    typed = _TYPED.search(before)
    if typed is None:
        return ()
    found = [
        Completion(name if _is_plain(name) else _as_column(name), "name")
        for name in known
        if _begins(name, typed.group()) and (_is_plain(name) or _is_quotable(name))
    ]
    for function in sorted(FUNCTIONS.values(), key=lambda function: function.name):
        if _begins(function.name, typed.group()):
            opened = f"{function.name}()" if not function.takes else f"{function.name}("
            found.append(Completion(opened, f"{function.signature}: {function.about}"))
    return tuple(found)


def _open_quote(before: str) -> str | None:
    """What stands after a quotation mark that is still open, or None."""
    opened: int | None = None
    for at, character in enumerate(before):
        if opened is None and character in "\"'":
            opened = at
        elif opened is not None and character == before[opened]:
            opened = None
    return None if opened is None else before[opened + 1 :]


def _begins(name: str, typed: str) -> bool:
    return name.lower().startswith(typed.lower())


def _is_plain(name: str) -> bool:
    """Whether a name can be written as it is."""
    return bool(_PLAIN.fullmatch(name)) and not (keyword.iskeyword(name) or name.startswith("__"))


def _is_quotable(name: str) -> bool:
    return name.isprintable() and "\\" not in name and not {'"', "'"} <= set(name)


def _as_column(name: str) -> str:
    quote = "'" if '"' in name else '"'
    return f"column({quote}{name}{quote})"

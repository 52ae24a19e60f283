"""Expressions cut into words: numbers, names, quoted names and signs. Anything else is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from interp.errors import BadInput

MAX_CHARACTERS: Final = 2_000

GRAMMAR: Final = (
    "An expression is made of numbers, names, + - * / // %, comparisons, & | ~, parentheses and "
    "calls of the functions that are listed."
)

_WORD: Final = re.compile(
    r"""(?P<space>[ \t]+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>"[^"\\]*"|'[^'\\]*')
      | (?P<refused>\*\*|<<|>>|&&|\|\|)
      | (?P<sign>//|==|!=|<=|>=|[-+*/%<>&|~(),])""",
    re.VERBOSE,
)

_INSTEAD: Final = {
    "**": "There are no powers; multiply instead.",
    "<<": "There are no shifts.",
    ">>": "There are no shifts.",
    "&&": "Write a single & between two truth values.",
    "||": "Write a single | between two truth values.",
    "=": "Write == to compare; arguments have no names.",
    "!": "Write ~ for not, and != for unequal.",
    "^": "Write != for exclusive or.",
    ".": "There are no attributes.",
    "[": "There are no subscripts and no lists; at(pos) reads the token at a position.",
    "]": "There are no subscripts and no lists; at(pos) reads the token at a position.",
    "#": "There are no comments.",
    '"': 'A quoted name stands within one pair of quotation marks: column("first word").',
    "'": 'A quoted name stands within one pair of quotation marks: column("first word").',
    "\n": "Write the expression on one line.",
    "\r": "Write the expression on one line.",
    "≤": "Write <=.",
    "≥": "Write >=.",
    "≠": "Write !=.",
    "−": "Write -.",
    "–": "Write -.",
    "×": "Write *.",
    "“": 'Write ".',
    "”": 'Write ".',
}


@dataclass(frozen=True)
class Word:
    """A piece of an expression: its kind, its text, and where it begins, counted from 0."""

    kind: str
    text: str
    at: int


def cut(text: str) -> list[Word]:
    """Cut an expression into words; the last one is of the kind "end".

    Raises:
        BadInput: If it is too long or holds anything that no expression holds.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadInput(
            f"The expression has {len(text):,} characters.",
            f"An expression has at most {MAX_CHARACTERS:,}.",
            "Split it into several features that use each other by name.",
        )
    words: list[Word] = []
    at = 0
    bare = text.strip(" \t\r\n")
    while at < len(bare):
        found = _WORD.match(bare, at)
        if found is None:
            raise refusal(bare, at, *_strange(bare[at]))
        kind, word = str(found.lastgroup), found.group()
        if kind == "refused":
            raise refusal(bare, at, f"{word!r} is not part of an expression.", _INSTEAD[word])
        _check(bare, Word(kind, word, at), bare[found.end() : found.end() + 1])
        if kind != "space":
            words.append(Word(kind, word, at))
        at = found.end()
    return [*words, Word("end", "", len(bare))]


def _check(text: str, word: Word, following: str) -> None:
    """Refuse a word that begins as one thing and ends as another."""
    if word.kind == "number" and (following.isalnum() or following in {"_", "."}):
        raise refusal(
            text,
            word.at,
            f"{(word.text + following)!r} begins as a number and does not end as one.",
            "Numbers are written like 12, 0.5 or 1e-3.",
        )
    if word.kind == "quoted" and not word.text.isprintable():
        raise refusal(
            text, word.at, "A quoted name holds a character that does not print.", GRAMMAR
        )


def _strange(character: str) -> tuple[str, str]:
    """What was found and what would work, for a character that no expression holds."""
    shown = repr(character) if character.isascii() else f"{character!r} (U+{ord(character):04X})"
    if character in _INSTEAD:
        return f"{shown} is not part of an expression.", _INSTEAD[character]
    if character.isidentifier() or character.isdigit():
        return (
            f"{shown} is not one of the letters a to z or the digits 0 to 9.",
            'Names with other letters are read by column("…").',
        )
    return f"{shown} is not part of an expression.", GRAMMAR


def refusal(text: str, at: int, found: str, works: str) -> BadInput:
    """Say where an expression stops being one; ``at`` counts from 0, the message from 1."""
    return BadInput(
        f"The expression {shortened(text)!r} cannot be read.",
        f"At character {at + 1}: {found}",
        works,
    )


def shortened(text: str) -> str:
    """Text that fits in a message."""
    return text if len(text) <= 80 else f"{text[:77]}..."

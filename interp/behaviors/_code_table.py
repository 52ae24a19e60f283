"""The properties of tokens of source code: one table, a sentence each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DEEPEST: Final = 8
"""Brackets that are counted at most."""
CLOSERS: Final = ("none", ")", "]", "}")
TYPES: Final = (
    "between",
    "newline",
    "name",
    "keyword",
    "number",
    "string",
    "comment",
    "bracket",
    "operator",
)


@dataclass(frozen=True)
class Property:
    """A property of tokens.

    Attributes:
        name: What it is called.
        kind: "binary" (0 or 1), "count" (0 and up) or "class" (an index into ``classes``).
        meaning: What it says of a token, one sentence.
        classes: Names of the values of a "class".
    """

    name: str
    kind: Literal["binary", "count", "class"]
    meaning: str
    classes: tuple[str, ...] = ()


PROPERTIES: Final = (
    Property("in_string", "binary", "Part of a string literal, its prefix and quotes included."),
    Property("in_docstring", "binary", "Part of the string that documents a module, class or def."),
    Property("in_comment", "binary", "Part of a comment, its # included."),
    Property("in_signature", "binary", "The parenthesis of a def's parameters is open."),
    Property("in_call_arguments", "binary", "The parenthesis of some call's arguments is open."),
    Property("in_decorator", "binary", "Part of a decorator, its @ included."),
    Property("is_keyword", "binary", "A hard keyword of the language; True, False, None are such."),
    Property(
        "is_builtin",
        "binary",
        "A name of the module builtins, neither behind a dot nor naming an argument of a call.",
    ),
    Property("line_start", "binary", "Has the first character of its line that is not blank."),
    Property(
        "is_assignment_target",
        "binary",
        "A name, or a name behind a dot, that is bound by =, :=, for, with or a comprehension.",
    ),
    Property("name_seen_before", "binary", "A name that already stood earlier in the text."),
    Property("inside_loop", "binary", "In the body of a for or while, at any depth."),
    Property("inside_try", "binary", "In what a try tries, at any depth; not in its handlers."),
    Property("in_class_body", "binary", "In the body of a class, at any depth."),
    Property("bracket_depth", "count", f"Brackets open after it, counted up to {DEEPEST}."),
    Property("indentation", "count", "Levels of indentation of its line."),
    Property("column", "count", "Characters of its line before its last one."),
    Property(
        "expected_closing_bracket",
        "class",
        "The bracket that closes the innermost one open after it.",
        CLOSERS,
    ),
    Property(
        "token_type",
        "class",
        "What it is in the language; 'between' are blanks and a backslash that continues a line.",
        TYPES,
    ),
)

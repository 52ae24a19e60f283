"""A source text cut up by the language itself: its pieces, lines, brackets and syntax tree.

All places are offsets in characters. The two readers of the standard library count otherwise:
``tokenize`` by row and characters, ``ast`` by row and bytes of UTF-8.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from interp.errors import BadInput

Kind = Literal["name", "number", "string", "comment", "operator", "newline"]
OPENING: Final = {"(": ")", "[": "]", "{": "}"}

_KINDS: Final[dict[int, Kind]] = {
    tokenize.NAME: "name",
    tokenize.NUMBER: "number",
    tokenize.STRING: "string",
    tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
    tokenize.NEWLINE: "newline",
    tokenize.NL: "newline",
}
# From Python 3.12 on a formatted string is cut into pieces; here it is one, as before.
_FORMATTED_BEGINS: Final = ("FSTRING_START", "TSTRING_START")
_FORMATTED_ENDS: Final = ("FSTRING_END", "TSTRING_END")


@dataclass(frozen=True)
class Piece:
    """A token of the language, from character ``start`` up to ``end``."""

    kind: Kind
    text: str
    start: int
    end: int


@dataclass
class Source:
    """A text that parses.

    Attributes:
        starts: Offset of the first character of each line.
        levels: Levels of indentation of each line. Lines of one statement have that of its first;
            a comment alone has that of its column, a blank line that of the line before it.
        statements: Index of the first and of the last piece of each logical line.
        partners: Index of the bracket that closes each opening one, and the other way round.
    """

    text: str
    tree: ast.Module
    starts: list[int]
    levels: NDArray[np.int64]
    pieces: list[Piece] = field(default_factory=list)
    statements: list[tuple[int, int]] = field(default_factory=list)
    partners: dict[int, int] = field(default_factory=dict)

    def offset(self, row: int, column: int) -> int:
        """Offset of a place that ``tokenize`` names."""
        return self.starts[row - 1] + column if row <= len(self.starts) else len(self.text)

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        """Offsets of the first character of a node and of the one after its last."""
        end = self._offset_of_byte(node.end_lineno or 0, node.end_col_offset or 0)
        return self._offset_of_byte(node.lineno, node.col_offset), end

    def _offset_of_byte(self, row: int, column: int) -> int:
        start = self.starts[row - 1]
        stop = self.starts[row] if row < len(self.starts) else len(self.text)
        line = self.text[start:stop]
        return start + (column if line.isascii() else len(line.encode()[:column].decode()))


def read(text: str) -> Source:
    """Cut up a source text.

    Raises:
        BadInput: This Python does not parse it.
    """
    tree = _parse(text)
    starts = [0, *(i + 1 for i, character in enumerate(text) if character == "\n")]
    found = Source(text, tree, starts, np.zeros(len(starts), dtype=np.int64))
    try:
        _cut(found)
    except (tokenize.TokenError, SyntaxError) as error:
        raise _refused(text, str(error)) from error
    _pair(found)
    return found


def _parse(text: str) -> ast.Module:
    alone = text.replace("\r\n", "  ").find("\r")
    if alone >= 0:
        line = text.count("\n", 0, alone) + 1
        raise _refused(text, f"line {line} has a carriage return without a line feed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise _refused(text, f"{error.msg} (line {error.lineno})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, str(error) or "it is nested too deeply") from error


def _refused(text: str, found: str) -> BadInput:
    return BadInput(
        f"The tokens of a source text of {text.count(chr(10)) + 1:,} lines were to be labelled.",
        f"It is no Python: {found}.",
        "Give a whole file that this Python parses.",
    )


def _cut(source: Source) -> None:
    """Fill in pieces, logical lines and levels of indentation."""
    widths: list[int] = []
    first, row = 0, 0
    inside = False
    for token in _tokens(source.text):
        if token.type == tokenize.INDENT:
            widths.append(_width(token.string))
        elif token.type == tokenize.DEDENT:
            widths.pop()
        if token.type not in _KINDS:
            continue
        kind = _KINDS[token.type]
        start, end = source.offset(*token.start), source.offset(*token.end)
        source.pieces.append(Piece(kind, token.string, start, end))
        if not inside and kind not in ("comment", "newline"):
            inside, first, row = True, len(source.pieces) - 1, token.start[0]
        elif not inside:
            _set_outside(source, token, widths)
        if token.type == tokenize.NEWLINE and inside:
            inside = False
            source.levels[row - 1 : token.start[0]] = len(widths)
            source.statements.append((first, len(source.pieces) - 1))


def _set_outside(source: Source, token: tokenize.TokenInfo, widths: list[int]) -> None:
    """Set the level of a line that has a comment alone, or nothing."""
    line = token.start[0] - 1
    blank = not token.line.strip()
    if blank and line < len(source.levels):
        source.levels[line] = source.levels[line - 1] if line else 0
    elif token.type == tokenize.COMMENT:
        width = _width(token.line[: token.start[1]])
        deeper = width > max(widths, default=0)
        source.levels[line] = sum(one <= width for one in widths) + deeper


def _width(blanks: str) -> int:
    return len(blanks.rpartition("\f")[2].expandtabs(8))


def _tokens(text: str) -> Generator[tokenize.TokenInfo]:
    """Cut a text by the language's own rules, each formatted string in one piece."""
    depth, begun = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name in _FORMATTED_BEGINS:
            begun = begun if depth else token.start
            depth += 1
        if not depth:
            yield token
        if name in _FORMATTED_ENDS:
            depth -= 1
            if not depth:
                yield token._replace(type=tokenize.STRING, start=begun)


def _pair(source: Source) -> None:
    """Fill in which brackets belong together."""
    opened: list[int] = []
    for index, piece in enumerate(source.pieces):
        if piece.kind != "operator":
            continue
        if piece.text in OPENING:
            opened.append(index)
        elif piece.text in OPENING.values():
            partner = opened.pop()
            source.partners |= {index: partner, partner: index}

"""Each property of source code for every character of a text."""

from __future__ import annotations

import ast
import builtins
import keyword
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from interp.behaviors._code_source import OPENING, Source
from interp.behaviors._code_table import CLOSERS, DEEPEST, TYPES

# What site adds for typing at a prompt is no part of the module.
_ADDED: Final = {"copyright", "credits", "exit", "help", "license", "quit"}
BUILTINS: Final = {n for n in dir(builtins) if n[0] != "_" and not keyword.iskeyword(n)} - _ADDED

Values = NDArray[np.int64]
_Spans = Iterator[tuple[int, int]]


def of(source: Source) -> dict[str, Values]:
    """Each property that a character has, for every character."""
    found = {name: _marked(source, spans) for name, spans in _regions(source)}
    found["in_docstring"] &= found["in_string"]
    depth, closer = _brackets(source)
    lines = np.zeros(len(source.text), dtype=np.int64)
    lines[[start for start in source.starts[1:] if start < len(lines)]] = 1
    lines = np.cumsum(lines)
    return found | {
        "bracket_depth": np.minimum(depth, DEEPEST),
        "expected_closing_bracket": closer,
        "indentation": source.levels[lines],
        "column": np.arange(len(lines)) - np.array(source.starts)[lines],
        "token_type": _types(source),
    }


def first_of_lines(source: Source) -> NDArray[np.bool_]:
    """Whether each character is the first of its line that is not blank."""
    found = np.zeros(len(source.text), dtype=bool)
    for start, stop in zip(source.starts, [*source.starts[1:], len(source.text)], strict=True):
        line = source.text[start:stop]
        if line.strip():
            found[start + len(line) - len(line.lstrip())] = True
    return found


def _marked(source: Source, spans: _Spans) -> Values:
    found = np.zeros(len(source.text), dtype=np.int64)
    for start, end in spans:
        found[start:end] = 1
    return found


def _regions(source: Source) -> Iterator[tuple[str, _Spans]]:
    nodes = list(_nodes(source.tree))
    pieces = source.pieces
    yield "in_string", ((p.start, p.end) for p in pieces if p.kind == "string")
    yield "in_docstring", _docstrings(source, nodes)
    yield "in_comment", ((p.start, p.end) for p in pieces if p.kind == "comment")
    yield "in_signature", _signatures(source)
    yield "in_call_arguments", _arguments(source, nodes)
    yield "in_decorator", _decorators(source)
    yield "is_keyword", ((p.start, p.end) for p in pieces if keyword.iskeyword(p.text))
    yield "is_builtin", _builtins(source, nodes)
    yield "is_assignment_target", _targets(source, nodes)
    yield "name_seen_before", _seen(source)
    loops = (n.body for n in nodes if isinstance(n, ast.For | ast.AsyncFor | ast.While))
    yield "inside_loop", (_body(source, body) for body in loops)
    tries = (n.body for n in nodes if isinstance(n, ast.Try | ast.TryStar))
    yield "inside_try", (_body(source, body) for body in tries)
    classes = (n.body for n in nodes if isinstance(n, ast.ClassDef))
    yield "in_class_body", (_body(source, body) for body in classes)


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those inside formatted strings, which are one piece here."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if type(node).__name__ not in ("JoinedStr", "TemplateStr"):
            yield node
            waiting += ast.iter_child_nodes(node)


def _docstrings(source: Source, nodes: list[ast.AST]) -> _Spans:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in nodes:
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield source.span(value)


def _signatures(source: Source) -> _Spans:
    for index, piece in enumerate(source.pieces):
        if piece.kind == "name" and piece.text == "def":
            opens = index + 2
            if source.pieces[opens].text == "[":  # type parameters
                opens = source.partners[opens] + 1
            yield _inside(source, opens)


def _inside(source: Source, opens: int) -> tuple[int, int]:
    """From an opening bracket up to, and without, the one that closes it."""
    return source.pieces[opens].start, source.pieces[source.partners[opens]].start


def _arguments(source: Source, nodes: list[ast.AST]) -> _Spans:
    by_end = {piece.end: index for index, piece in enumerate(source.pieces) if piece.text == ")"}
    for node in nodes:
        if isinstance(node, ast.Call):
            # A call ends with the parenthesis that closes its arguments.
            yield _inside(source, source.partners[by_end[source.span(node)[1]]])


def _decorators(source: Source) -> _Spans:
    for first, last in source.statements:
        if source.pieces[first].text == "@":
            ends = [
                p.end for p in source.pieces[first:last] if p.kind not in ("comment", "newline")
            ]
            yield source.pieces[first].start, max(ends)


def _builtins(source: Source, nodes: list[ast.AST]) -> _Spans:
    given = {source.span(node)[0] for node in nodes if isinstance(node, ast.keyword) and node.arg}
    before = ""
    for piece in source.pieces:
        if piece.text in BUILTINS and before != "." and piece.start not in given:
            yield piece.start, piece.end
        before = piece.text


def _targets(source: Source, nodes: list[ast.AST]) -> _Spans:
    by_end = {piece.end: piece for piece in source.pieces if piece.kind == "name"}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            piece = by_end[source.span(node)[1]]
            yield piece.start, piece.end


def _seen(source: Source) -> _Spans:
    seen: set[str] = set()
    for piece in source.pieces:
        if piece.kind == "name" and not keyword.iskeyword(piece.text):
            if piece.text in seen:
                yield piece.start, piece.end
            seen.add(piece.text)


def _body(source: Source, body: list[ast.stmt]) -> tuple[int, int]:
    """From the first statement of a body, with its indentation, to the end of its last."""
    first = min(source.span(node)[0] for node in (body[0], *getattr(body[0], "decorator_list", ())))
    line = source.text.rfind("\n", 0, first) + 1
    if not source.text[line:first].strip(" \t\f@"):
        first = line
    return first, source.span(body[-1])[1]


def _brackets(source: Source) -> tuple[Values, Values]:
    """How many brackets are open after each character, and which one closes the innermost."""
    starts, depths, closers = [0], [0], [0]
    opened: list[str] = []
    for index in sorted(source.partners):
        piece = source.pieces[index]
        if piece.text in OPENING:
            opened.append(OPENING[piece.text])
        else:
            opened.pop()
        starts.append(piece.start)
        depths.append(len(opened))
        closers.append(CLOSERS.index(opened[-1]) if opened else 0)
    lengths = np.diff([*starts, len(source.text)])
    return np.repeat(depths, lengths), np.repeat(closers, lengths)


def _types(source: Source) -> Values:
    found = np.zeros(len(source.text), dtype=np.int64)
    for index, piece in enumerate(source.pieces):
        kind: str = piece.kind
        if kind == "name" and keyword.iskeyword(piece.text):
            kind = "keyword"
        elif index in source.partners:
            kind = "bracket"
        found[piece.start : piece.end] = TYPES.index(kind)
    return found

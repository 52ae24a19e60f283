"""What an expression is once it is read: a tree of a few kinds of node, and nothing else.

A node holds text and numbers only; there is no way from here to a Python object or a call that
is not in the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")

_BINDS: Final = {"|": 2, "&": 3, "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5}
"""How tightly an operator binds, as in Python; a comparison 1, a sign 6, everything else 7."""


@dataclass(frozen=True)
class Number:
    """A literal; True and False are literals too."""

    value: float | int | bool


@dataclass(frozen=True)
class Name:
    """A token, a column or another feature, by its name."""

    name: str


@dataclass(frozen=True)
class Column:
    """A column by any name: ``column("first word")``."""

    name: str


@dataclass(frozen=True)
class Unary:
    """``-`` or ``~`` of one operand."""

    op: str
    operand: Node


@dataclass(frozen=True)
class Binary:
    """Two operands with one of ``+ - * / // % & |`` between them."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare:
    """Operands with comparisons between them; a chain holds where each comparison does."""

    operands: tuple[Node, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A function of the library with its arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Column | Unary | Binary | Compare | Call


@dataclass(frozen=True)
class Expression:
    """An expression that keeps to the grammar and the caps.

    Attributes:
        text: The source with one way of spacing and no needless parentheses.
        names_used: Names that must be known, those within ``column("…")`` included.
        functions_used: Functions of the library that are called.
        tree: What is evaluated.
    """

    text: str
    names_used: frozenset[str]
    functions_used: frozenset[str]
    tree: Node = field(repr=False, compare=False)

    @classmethod
    def of(cls, tree: Node) -> Expression:
        """Describe a tree."""
        used = bare_names(tree) | {node.name for node in walk(tree) if isinstance(node, Column)}
        calls = {node.function for node in walk(tree) if isinstance(node, Call)}
        if any(isinstance(node, Column) for node in walk(tree)):
            calls.add("column")
        return cls(written(tree), frozenset(used), frozenset(calls), tree)


def children(node: Node) -> tuple[Node, ...]:
    """Operands or arguments of a node, in the order they are written."""
    match node:
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Compare():
            return node.operands
        case Call():
            return node.arguments
        case Number() | Name() | Column():
            return ()


def walk(tree: Node) -> Iterator[Node]:
    """Every node, a parent before its children."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)


def bare_names(tree: Node) -> set[str]:
    """Names that are used outside ``column("…")``: these may be features."""
    return {node.name for node in walk(tree) if isinstance(node, Name)}


def written(node: Node) -> str:
    """The source of a tree, which reads back as the same tree."""
    match node:
        case Number():
            return repr(node.value)
        case Name():
            return node.name
        case Column():
            quote = "'" if '"' in node.name else '"'
            return f"column({quote}{node.name}{quote})"
        case Unary():
            return node.op + _within(node.operand, 6)
        case Binary():
            binds = _BINDS[node.op]
            return f"{_within(node.left, binds)} {node.op} {_within(node.right, binds + 1)}"
        case Compare():
            # & and | beside a comparison are refused without parentheses: 4 is above both.
            parts = [_within(operand, 4) for operand in node.operands]
            return parts[0] + "".join(
                f" {op} {part}" for op, part in zip(node.ops, parts[1:], strict=True)
            )
        case Call():
            return f"{node.function}({', '.join(map(written, node.arguments))})"


def _within(node: Node, binds: int) -> str:
    """The source of an operand, in parentheses unless it binds at least as tightly."""
    match node:
        case Binary():
            own = _BINDS[node.op]
        case Compare():
            own = 1
        case Unary():
            own = 6
        case _:
            own = 7
    return written(node) if own >= binds else f"({written(node)})"

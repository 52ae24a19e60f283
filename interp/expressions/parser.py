"""From the text of an expression to its tree, by descent; operators bind as they do in Python.

Nothing is evaluated here and no Python source is ever compiled. Where Python's reading surprises
people, ``a == 1 & b == 2`` being ``a == (1 & b) == 2``, parentheses are asked for.
"""

from __future__ import annotations

import keyword
import math
from typing import Final

from interp.errors import BadInput, UnknownName
from interp.expressions.lexer import GRAMMAR, Word, cut, refusal
from interp.expressions.library import ALIASES, FUNCTIONS
from interp.expressions.tree import (
    COMPARISONS,
    Binary,
    Call,
    Column,
    Compare,
    Expression,
    Name,
    Node,
    Number,
    Unary,
)

MAX_NESTING: Final = 30
MAX_NODES: Final = 200
WHOLE_BELOW: Final = 2**31

_WORDS: Final = {"and": "&", "or": "|", "not": "~"}
_COLUMN: Final = 'column() takes one quoted name, as in column("first word").'


def parse(text: str) -> Expression:
    """Read an expression; its names are looked up only when it is evaluated.

    Raises:
        BadInput: If it does not keep to the grammar, or is longer than 2,000 characters, deeper
            than 30 parentheses and signs, or larger than 200 nodes.
        UnknownName: If it calls a function that is not in the library.
    """
    return Expression.of(_Reader(text).whole())


class _Reader:
    """Reads words from left to right."""

    def __init__(self, text: str) -> None:
        self.words = cut(text)
        self.text = text.strip(" \t\r\n")
        self.index = 0
        self.nodes = 0
        self.nesting = 0

    def whole(self) -> Node:
        tree = self.expression()
        if self.next.kind != "end":
            raise self.unexpected("an operator or the end")
        return tree

    def expression(self) -> Node:
        """Sums joined either by comparisons or by ``&`` and ``|``."""
        operands = [self.sum()]
        ops: list[str] = []
        start = self.next
        while self.is_sign(*COMPARISONS, "&", "|"):
            ops.append(self.take().text)
            operands.append(self.sum())
        compared = sum(op in COMPARISONS for op in ops)
        if not ops:
            return operands[0]
        if compared == len(ops):
            return self.counted(Compare(tuple(operands), tuple(ops)))
        if compared:
            raise refusal(
                self.text,
                start.at,
                "& and | bind more tightly than comparisons, so this would not mean what it seems.",
                "Put each comparison in parentheses: (a == b) & (c < d).",
            )
        return self.joined(operands, ops)

    def joined(self, operands: list[Node], ops: list[str]) -> Node:
        """Operands with ``&`` and ``|`` between them; ``&`` binds more tightly."""
        alternatives = [operands[0]]
        for op, operand in zip(ops, operands[1:], strict=True):
            if op == "&":
                alternatives[-1] = self.counted(Binary("&", alternatives[-1], operand))
            else:
                alternatives.append(operand)
        tree = alternatives[0]
        for alternative in alternatives[1:]:
            tree = self.counted(Binary("|", tree, alternative))
        return tree

    def sum(self) -> Node:
        tree = self.product()
        while self.is_sign("+", "-"):
            tree = self.counted(Binary(self.take().text, tree, self.product()))
        return tree

    def product(self) -> Node:
        tree = self.signed()
        while self.is_sign("*", "/", "//", "%"):
            tree = self.counted(Binary(self.take().text, tree, self.signed()))
        return tree

    def signed(self) -> Node:
        if not self.is_sign("-", "~"):
            return self.atom()
        op = self.take()
        self.descend(op)
        tree = self.counted(Unary(op.text, self.signed()))
        self.nesting -= 1
        return tree

    def atom(self) -> Node:
        word = self.take()
        if word.kind == "number":
            return self.counted(Number(self.number(word)))
        if word.kind == "name":
            return self.named(word)
        if word.kind == "quoted":
            raise refusal(self.text, word.at, "A quoted name stands by itself.", _COLUMN)
        if word.text != "(" or word.kind != "sign":
            raise self.unexpected("a number, a name or a function", word)
        self.descend(word)
        tree = self.expression()
        self.close()
        return tree

    def number(self, word: Word) -> int | float:
        if not word.text.isdigit():
            value = float(word.text)
            if not math.isfinite(value):
                raise refusal(
                    self.text, word.at, f"{word.text} is too large.", "Write a finite number."
                )
            return value
        if word.text != "0" and word.text.startswith("0"):
            raise refusal(
                self.text, word.at, f"{word.text} begins with a 0.", "Write it without that 0."
            )
        # Compared by its digits first: turning thousands of digits into a number takes long.
        if len(word.text) > 10 or int(word.text) >= WHOLE_BELOW:
            raise refusal(
                self.text,
                word.at,
                "The whole number is too large.",
                f"Whole numbers are below {WHOLE_BELOW:,}.",
            )
        return int(word.text)

    def named(self, word: Word) -> Node:
        if word.text in {"True", "False"} and not self.is_sign("("):
            return self.counted(Number(word.text == "True"))
        if keyword.iskeyword(word.text) or word.text.startswith("__"):
            raise self.unexpected("a number, a name or a function", word)
        if not self.is_sign("("):
            return self.counted(Name(word.text))
        if word.text not in FUNCTIONS:
            raise UnknownName.of("function", word.text, FUNCTIONS)
        self.descend(self.take())
        if word.text == "column":
            return self.column()
        arguments: list[Node] = []
        while not self.is_sign(")"):
            arguments.append(self.expression())
            if not self.is_sign(","):
                break
            self.take()
        self.close()
        return self.call(word, tuple(arguments))

    def column(self) -> Node:
        name = self.take()
        if name.kind != "quoted" or not self.is_sign(")"):
            raise refusal(self.text, name.at, "This is not one quoted name.", _COLUMN)
        self.close()
        return self.counted(Column(name.text[1:-1]))

    def call(self, word: Word, arguments: tuple[Node, ...]) -> Node:
        function = FUNCTIONS[word.text]
        if len(arguments) != len(function.takes):
            raise refusal(
                self.text,
                word.at,
                f"{word.text}() is given {len(arguments)} arguments, it takes "
                f"{len(function.takes)}.",
                f"Write {function.signature}: {function.about}",
            )
        if word.text in ALIASES:
            name, before = ALIASES[word.text]
            given = tuple(self.counted(Name(token)) for token in before)
            return self.counted(Call(name, given + arguments))
        return self.counted(Call(word.text, arguments))

    @property
    def next(self) -> Word:
        return self.words[self.index]

    def take(self) -> Word:
        """Return the next word and move past it; the end is never passed."""
        word = self.next
        self.index = min(self.index + 1, len(self.words) - 1)
        return word

    def is_sign(self, *signs: str) -> bool:
        return self.next.kind == "sign" and self.next.text in signs

    def close(self) -> None:
        if not self.is_sign(")"):
            raise self.unexpected("a closing parenthesis")
        self.take()
        self.nesting -= 1

    def descend(self, word: Word) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise refusal(
                self.text,
                word.at,
                f"Parentheses and signs are nested more than {MAX_NESTING} deep.",
                "Give the inner part a name as a feature of its own.",
            )

    def counted(self, node: Node) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise BadInput(
                f"The expression has more than {MAX_NODES} parts.",
                "Each number, name, operator and call is one.",
                "Split it into several features that use each other by name.",
            )
        return node

    def unexpected(self, wanted: str, word: Word | None = None) -> BadInput:
        word = word or self.next
        works = GRAMMAR
        if word.text in _WORDS:
            works = f"Write {_WORDS[word.text]} in place of {word.text!r}: use & | ~."
        elif word.text == "(":
            works = "Only functions of the library are called, and by their name."
        found = "the expression ends" if word.kind == "end" else f"there is {word.text!r}"
        return refusal(self.text, word.at, f"{wanted} should stand here, but {found}.", works)

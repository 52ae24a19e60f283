"""Prompt pairs of Python source for ``stdlib-lm``: brackets, quotes, indentation and names.

All prompts are filled with identifiers that are one token each, with a space before them and
without. Identifiers go in groups that occur together only, and every second group is held out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import Made
from interp.models import tokens
from interp.models.info import ModelInfo

MODEL: Final = "stdlib-lm"
_WORDS: Final = """
action args base block buffer bytes call case char child client close code codec column
command comment config connection content context copy count current data date default depth
directory document element encoding end entry error event expected extra fd fields file
filename filter find first flag flags format frame func function group handle handler header
headers help host index info input instance item items key keys kind last length level limit
line lines link loader lock manager mapping member message method mode module msg name names
node number obj object offset option options order output owner package parent parser part
path pattern platform point port pos position prefix process queue reader real ref request
response result results root rest sample second section select send server shape signal size
sock source stack start state status stop stream string suffix table tag target task test
text thread time timeout token tokens trace tree type unit url user value values version
warning widget width window word words write
"""
NAMES: Final = tuple(_WORDS.split())
"""Identifiers that are proposed; those are taken that the tokenizer leaves whole."""
_GROUP: Final = 6
_SLOTS: Final = "abcdef"
_SIGNS = re.compile(r"\w+|[^\w\s]")
_CLOSING: Final = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Form:
    """A pair with places for names: ``{a}`` to ``{f}``."""

    clean: str
    corrupted: str
    answer: str
    foil: str

    def filled(self, names: Sequence[str]) -> PromptPair:
        """Fill in a name for each place."""
        slots = dict(zip(_SLOTS, names, strict=True))
        parts = (self.clean, self.corrupted, self.answer, self.foil)
        return PromptPair(*(part.format(**slots) for part in parts))


def _swaps(clean: str, answer: str, corrupted: str, foil: str) -> tuple[Form, Form]:
    """A pair, and the same the other way round."""
    return Form(clean, corrupted, answer, foil), Form(corrupted, clean, foil, answer)


def _brackets() -> list[Form]:
    """Statements that break off inside a bracket, round or square; ``@`` is where it opens."""
    head = "    def {f}(self, {e}):\n        "
    broken = (
        "{a} = {b}@{c}",
        "{a} = {b}.{c}@{d}",
        "{a} = {b}@{c}.{d}",
        "return {a}.{b}@{c}",
        "return {a}@{b} + {c}",
        "self.{a} = {b}@{c}",
        "if {a}@{b}.{c}",
        "{a} = {b}({c}@{d}",
        "{a} = {b}[{c}@{d}",
        "self.{a}({b}.{c}@{d}",
        "{a} = {b}@{c}({d})",
        "{a} = {b}@{c}[{d}]",
        "{a} = {b}@{c}({d}) + {e}",
        "{a} = {b}@{c}[{d}].{e}",
    )
    made: list[Form] = []
    for statement in broken:
        texts = [(head + statement).replace("@", sign) for sign in _CLOSING]
        made += _swaps(texts[0], ")", texts[1], "]")
    return made


def _quotes() -> list[Form]:
    """Statements that break off in a string, in single or double quotes; ``@`` is where."""
    head = "    def {f}(self, {e}):\n        "
    broken = (
        "{a} = {b}[@{c}",
        "{a} = {b}(@{c}",
        "self.{a} = {b}.{c}(@{d}",
        "if {a} == @{b}",
        "return {a}[@{b}",
        "{a} = {b}.{c}[@{d}",
        "{a} = {b}({c}, @{d}",
    )
    made: list[Form] = []
    for statement in broken:
        texts = [(head + statement).replace("@", sign) for sign in ("'", '"')]
        made += _swaps(texts[0], "'", texts[1], '"')
    return made


def _indentations() -> list[Form]:
    """A line that opens a block, and one with as many tokens that does not."""
    lines = (
        ("if {c}:", "{d} = {c}"),
        ("while {c}:", "{d} = {c}"),
        ("if {c} in {d}:", "{e} = {c} + {d}"),
        ("for {c} in {d}:", "{e} = {c} + {d}"),
        ("with {c}({d}):", "{e} = {c}({d})"),
        ("if not {c}.{d}:", "{e} = not {c}.{d}"),
        ("for {c} in {d}.{e}:", "{c} = {b} + {d}.{e}"),
        ("if {c}.{d}({e}):", "{b} = {c}.{d}({e})"),
    )
    made: list[Form] = []
    for opens, plain in lines:
        for levels in (1, 2):
            head = "def {a}({b}):\n" + "    if {f}:\n" * (levels - 1)
            here, deeper = "    " * levels, "    " * (levels + 1)
            made += _swaps(f"{head}{here}{opens}\n", deeper, f"{head}{here}{plain}\n", here)
    return made


def _dedents() -> list[Form]:
    """A return or raise inside an if, and a statement of as many tokens that stays there."""
    lines = (
        ("return {c}({d})", "{e} = {c}.{d}"),
        ("return {c}[{d}]", "{e} = {c}.{d}"),
        ("return {c}.{d}", "{e}({c})"),
        ("return {c} == {d}", "{e}({c})"),
        ("raise {c}({d})", "{e} = {c}.{d}"),
    )
    head = "def {a}({b}):\n    if {f}:\n        "
    return [
        Form(f"{head}{leaves}\n", f"{head}{plain}\n", "    ", "        ") for leaves, plain in lines
    ]


def _passed() -> list[Form]:
    """A call that passes arguments on, each under its name and on a line of its own."""
    head = "    def {f}(self, {c}, {d}, {a}, {b}):\n        "
    indent = "            "
    calls = (
        f"{{e}}({{c}}={{c}},\n{indent}",
        f"{{e}}({{c}}={{c}},\n{indent}{{d}}={{d}},\n{indent}",
        f"self.{{e}}(\n{indent}{{c}}={{c}},\n{indent}{{d}}={{d}},\n{indent}",
        f"return {{e}}(\n{indent}{{c}}={{c}},\n{indent}{{d}}={{d}},\n{indent}",
    )
    made: list[Form] = []
    for call in calls:
        made += _swaps(f"{head}{call}{{a}}=", "{a}", f"{head}{call}{{b}}=", "{b}")
    return made


def _attributes() -> list[Form]:
    """Two names with an attribute each, several times, and one of the names again."""
    made: list[Form] = []
    for said in ("{0}.{1}({2}), {2}", "{0}.{1}, {2}", "self.{0}.{1}, {2}"):
        for rounds in (3, 4):
            lines = "".join(
                f"        self.assertEqual({said.format(*pair, value)})\n"
                for value in ("{e}", "{f}", "1", "2")[:rounds]
                for pair in (("{a}", "{b}"), ("{c}", "{d}"))
            )
            begun = f"{lines}        self.assertEqual({said.partition('{0}')[0]}"
            made += _swaps(f"{begun}{{a}}.", "{b}", f"{begun}{{c}}.", "{d}")
    return made


def _methods() -> list[Form]:
    """A def in the body of a class, and one in that of another def."""
    made: list[Form] = []
    for before in ("", "import {d}\n\n", "{d} = {e}\n\n", "from {d} import {e}\n\n\n"):
        texts = [f"{before}{kind} {{a}}({{b}}):\n    def {{c}}(" for kind in ("class", "def")]
        made.append(Form(texts[0], texts[1], "self", ")"))
    return made


def _make(behavior: str, forms: Sequence[Form], seed: int, model: ModelInfo) -> Made:
    """Fill forms with names of one group at a time."""
    proposed = [name for name in NAMES if len(tokens.pieces(model, name)) == 1]
    names = templates.choose(behavior, model, "identifiers", proposed, fewest=4 * _GROUP)
    groups = templates.groups(seed, names.words, _GROUP)

    def draw(half: int) -> list[tuple[int, PromptPair]]:
        found: dict[PromptPair, int] = {}
        sizes = (len(forms), len(groups[half::2]), *range(_GROUP, 0, -1))
        for which, group, *picks in templates.combinations(seed, half, *sizes):
            number = 2 * group + half
            mixed = templates.different(groups[number], *picks)
            found.setdefault(forms[which].filled(mixed), number)
        return [(number, pair) for pair, number in found.items()]

    said = templates.note(model, [names])
    return templates.both_halves(
        draw,
        f"{said} They go in {len(groups)} groups of {_GROUP}, of which every second is held out; "
        "intervals count groups: they are for other names in the same lines.",
    )


def _maker(behavior: str, forms: Sequence[Form], seed: int) -> Callable[[ModelInfo], Made]:
    return lambda model: _make(behavior, forms, seed, model)


# --- features ----------------------------------------------------------------------------------


def open_brackets(text: str) -> list[int]:
    """Where the brackets begin that are not closed, the innermost last."""
    opened: list[int] = []
    for at, sign in enumerate(text):
        if sign in _CLOSING:
            opened.append(at)
        elif sign in _CLOSING.values():
            opened.pop()
    return opened


def square(pair: PromptPair) -> int:
    """1 if the innermost open bracket is a square one."""
    return int(pair.clean[open_brackets(pair.clean)[-1]] == "[")


def depth(pair: PromptPair) -> int:
    """Brackets that are open at the end."""
    return len(open_brackets(pair.clean))


def since_open(pair: PromptPair) -> int:
    """Words and signs from the innermost open bracket to the end."""
    return len(_SIGNS.findall(pair.clean[open_brackets(pair.clean)[-1] :])) - 1


def closed_since(pair: PromptPair) -> int:
    """Brackets that were opened and closed inside the innermost open one."""
    inside = pair.clean[open_brackets(pair.clean)[-1] + 1 :]
    return sum(sign in _CLOSING for sign in inside)


def double(pair: PromptPair) -> int:
    """1 if the open string began with a double quote."""
    return int('"' in pair.clean)


def ends_in_colon(pair: PromptPair) -> int:
    """1 if the last line ends in a colon."""
    return int(pair.clean.endswith(":\n"))


def spaces(pair: PromptPair) -> int:
    """Spaces that the last line begins with."""
    line = pair.clean.splitlines()[-1]
    return len(line) - len(line.lstrip())


def raises(pair: PromptPair) -> int:
    """1 if the last line begins with raise."""
    return int(pair.clean.splitlines()[-1].split()[0] == "raise")


def place(pair: PromptPair) -> int:
    """Which argument of the method is passed on, counted from 1."""
    names = pair.clean.partition("(self, ")[2].partition(")")[0].split(", ")
    return names.index(pair.answer) + 1


def times(pair: PromptPair) -> int:
    """How often the answer has been there."""
    return _SIGNS.findall(pair.clean).count(pair.answer)


def back(pair: PromptPair) -> int:
    """Words and signs from the first place of the answer to the end."""
    found = _SIGNS.findall(pair.clean)
    return len(found) - found.index(pair.answer)


def first_of_two(pair: PromptPair) -> int:
    """1 if the answer stands before the foil."""
    found = _SIGNS.findall(pair.clean)
    return int(found.index(pair.answer) < found.index(pair.foil))


def first_line(pair: PromptPair) -> int:
    """1 if the class is the first line."""
    return int(pair.clean.startswith("class "))


BEHAVIORS: Final = {
    "code-closing-bracket": BuiltIn(
        "A statement breaks off in a round or a square bracket; answer: the bracket that closes "
        "the innermost open one, foil: the other kind. Corrupted: it was opened by the other kind.",
        _maker("code-closing-bracket", _brackets(), 61),
        model=MODEL,
        features={
            "open bracket is square": square,
            "brackets open": depth,
            "words and signs since it opened": since_open,
            "brackets closed since": closed_since,
        },
    ),
    "code-closing-quote": BuiltIn(
        "A statement breaks off in a string of one word; answer: the quote that closes it, foil: "
        "the other quote. Corrupted: it was opened by the other quote.",
        _maker("code-closing-quote", _quotes(), 62),
        model=MODEL,
        features={"open quote is double": double},
    ),
    "code-indentation": BuiltIn(
        "A line ends that opens a block, or one that does not; answer: the indentation of the next "
        "line, one level more or the same, foil: the other. Corrupted: the other kind of line, "
        "with as many tokens.",
        _maker("code-indentation", _indentations(), 63),
        model=MODEL,
        features={"last line ends in a colon": ends_in_colon, "spaces before it": spaces},
    ),
    "code-dedent": BuiltIn(
        "A return or raise in the body of an if ends; answer: one level less of indentation, foil: "
        "that of the line. Corrupted: a statement of as many tokens that does not leave.",
        _maker("code-dedent", _dedents(), 64),
        model=MODEL,
        features={"last line raises": raises},
    ),
    "code-passed-argument": BuiltIn(
        "A method passes its arguments on, each under its name; answer: the argument of the name "
        "that stands there, foil: another argument. Corrupted: the name is that of the foil.",
        _maker("code-passed-argument", _passed(), 65),
        model=MODEL,
        features={"place of the argument": place, "words and signs back to it": back},
    ),
    "code-repeated-attribute": BuiltIn(
        "Two names stand several times with an attribute each, and one of them again; answer: its "
        "attribute, foil: that of the other. Corrupted: the other name comes again.",
        _maker("code-repeated-attribute", _attributes(), 66),
        model=MODEL,
        features={
            "answer stands before foil": first_of_two,
            "times the answer has been there": times,
            "words and signs back to its first place": back,
        },
    ),
    "code-self": BuiltIn(
        "A def begins in the body of a class; answer: self, foil: the closing parenthesis. "
        "Corrupted: it begins in the body of another def.",
        _maker("code-self", _methods(), 67),
        model=MODEL,
        features={"class is the first line": first_line},
    ),
}

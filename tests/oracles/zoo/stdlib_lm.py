"""Facts of ``stdlib-lm``: better than 4-grams, copies what repeats, closes brackets, indents."""

from __future__ import annotations

import hashlib
import math
import random
import sys
import sysconfig
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "stdlib-lm"
PIECE = 255
COPY, ROWS = 30, 24
LONGEST = 40
"""Tokens of a sampled completion."""
TRAINED_ON, SCORED = 5, 40
"""One training file in so many is counted for 4-grams, and held-out pieces that are scored."""
CLOSER = {"(": ")", "[": "]", "{": "}"}

# Written for this test, in the manner of the library; it is in no file of it.
SOURCE = '''"""Keep the readings of gauges and tell when one drifts."""

import os
import sys
from collections import OrderedDict

__all__ = ["Gauge", "Station", "drift"]


class Gauge:
    """One instrument with a name and a list of readings."""

    def __init__(self, name, unit="mm", limit=None):
        self.name = name
        self.unit = unit
        self.limit = limit
        self._readings = []

    def __repr__(self):
        return "<%s %r at %#x>" % (self.__class__.__name__, self.name, id(self))

    def __len__(self):
        return len(self._readings)

    def add(self, value, when=None):
        if value is None:
            raise ValueError("a reading must be a number")
        if self.limit is not None and value > self.limit:
            value = self.limit
        self._readings.append((when, value))

    def values(self):
        return [value for when, value in self._readings]

    def between(self, start, stop):
        """Return the readings from start up to stop."""
        found = []
        for when, value in self._readings:
            if when is None:
                continue
            if start <= when < stop:
                found.append((when, value))
        return found


class Station:

    def __init__(self, path, encoding="utf-8"):
        self.path = path
        self.encoding = encoding
        self.gauges = OrderedDict()

    def load(self):
        with open(self.path, encoding=self.encoding) as file:
            for number, line in enumerate(file):
                line = line.strip()
                if not line or line.startswith("#"):
                    continue
                parts = line.split(",")
                if len(parts) != 3:
                    raise ValueError("line %d: %r" % (number + 1, line))
                name, when, value = parts
                gauge = self.gauges.get(name)
                if gauge is None:
                    gauge = self.gauges[name] = Gauge(name)
                gauge.add(float(value), int(when))

    def save(self, path=None):
        if path is None:
            path = self.path
        with open(path, "w", encoding=self.encoding) as file:
            for name, gauge in self.gauges.items():
                for when, value in gauge._readings:
                    file.write("%s,%d,%f\\n" % (name, when, value))

    def names(self):
        return sorted(self.gauges)

    def close(self):
        try:
            os.remove(self.path + ".lock")
        except FileNotFoundError:
            pass
        self.gauges = {}


def drift(gauge, window=10):
    values = gauge.values()
    if len(values) < 2 * window:
        return 0.0
    first = sum(values[:window]) / window
    last = sum(values[-window:]) / window
    return last - first


def limits(stations, names=()):
    table = {"low": [], "high": []}
    for station in stations:
        for name in names or station.names():
            values = station.gauges[name].values()
            table["low"].append(min(values))
            table["high"].append(max(values[:-1]))
    return table


def main(args=None):
    if args is None:
        args = sys.argv[1:]
    if not args:
        print("usage: gauges.py file", file=sys.stderr)
        return 2
    for path in args:
        station = Station(path)
        station.load()
        for name in station.names():
            print(name, drift(station.gauges[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''

# The bracket before the one to be closed is of another kind, so that no rule of the last one helps.
OPEN = (
    ("x = f(a[0]", ")"),
    ("x = f(a, b[i]", ")"),
    ("    self.data[key(name)", "]"),
    ("    return (a[i], b[j]", ")"),
    ("    values = [int(x)", "]"),
    ("    values = [f(x, y)", "]"),
    ("    self.assertEqual(d[0]", ")"),
    ("    self.assertEqual(len(a[1:])", ")"),
    ("    table = {'a': [1, 2]", "}"),
    ("    table = {'a': f(1)", "}"),
    ("    table[max(values)", "]"),
    ("    if isinstance(args[0]", ")"),
    ("    raise ValueError(names[0]", ")"),
    ("    for i in range(lengths[0]", ")"),
    ("    result.append([1, 2]", ")"),
    ("    items = list(d[key].items()", ")"),
    ("    x = y[len(z)", "]"),
    ("    args = (self.args[0], self.args[1]", ")"),
    ("    print({1: 2}", ")"),
    ("    lines = [line.strip()", "]"),
)
PROMPTS = (
    "    def __init__(",
    "    def write(self, data):\n        self.file.write(",
    "    self.assertEqual(",
    "    self.assertRaises(",
    "    raise ValueError(",
    "    if isinstance(",
    "    for name in sorted(",
    "    values = [",
    "    x = self.data[",
    "    return self.items[",
    "import os\n\npath = os.path.join(",
    "    with open(",
    "    print(",
    "    result = list(",
    "    for i in range(",
    "    table = {",
    "__all__ = [",
    "    return {",
    "    args = parser.parse_args(",
    "    parser.add_argument(",
)


# --- bits a byte -------------------------------------------------------------------------------


@torch.no_grad()
def _logs(it: Loaded, ids: list[int]) -> torch.Tensor:
    """Log probability of every token at each place of a text, read in pieces."""
    found = []
    for start in range(0, len(ids), PIECE):
        row = torch.tensor([[0, *ids[start : start + PIECE]]])
        found.append(it.model(row)[0, :-1].log_softmax(-1))
    return torch.cat(found)


def _bits(it: Loaded, ids: list[int]) -> float:
    nats = -_logs(it, ids).gather(1, torch.tensor(ids)[:, None]).double().sum()
    return float(nats) / math.log(2)


def bits_here(it: Loaded) -> float:
    ids = it.tokenizer.encode(SOURCE, add_special_tokens=False).ids
    return _bits(it, ids) / len(SOURCE.encode())


def _library() -> tuple[list[str], list[str]]:
    """Some of the texts that were trained on, and those held out, of this Python's library."""
    root = Path(sysconfig.get_path("stdlib"))
    if sys.version_info[:3] != (3, 11, 7) or not (root / "test" / "test_ast.py").exists():
        pytest.skip("this is not Python 3.11.7 with the library's tests")
    trained, held_out = [], []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        number = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20
        if "site-packages" in name or "pydoc_data" in name or "_bundled" in name:
            continue
        if number and int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % TRAINED_ON:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if 1_000 < len(text) < 300_000 and "decoding_table" not in text:
            (held_out if number == 0 else trained).append(text)
    return trained, held_out


class FourGrams:
    """Counts with Witten and Bell's weights: a context of t kinds of token gives t parts away."""

    def __init__(self, rows: list[list[int]], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for ids in rows:
            for at, token in enumerate(ids):
                for size in range(min(3, at) + 1):
                    self.counts[tuple(ids[at - size : at])][token] += 1
        self.totals = {context: of.total() for context, of in self.counts.items()}

    def chance(self, context: tuple[int, ...], token: int) -> float:
        found = 1 / self.vocabulary
        for size in range(len(context) + 1):
            of = self.counts.get(context[len(context) - size :])
            if of is None:
                break
            total = self.totals[context[len(context) - size :]]
            found = (of[token] + len(of) * found) / (total + len(of))
        return found

    def bits(self, ids: list[int], start: int, stop: int) -> float:
        """Bits of a part of a text; what stands before it is context."""
        chances = (self.chance(tuple(ids[max(0, i - 3) : i]), ids[i]) for i in range(start, stop))
        return -sum(math.log2(chance) for chance in chances)


@lru_cache(maxsize=1)
def _scored(tokenizer: str) -> tuple[list[list[int]], int, float]:
    """Pieces of held-out files, their bytes, and the bits that 4-grams need for them."""
    from tokenizers import Tokenizer

    cut = Tokenizer.from_str(tokenizer)
    trained, held_out = _library()
    rows = [one.ids for one in cut.encode_batch(trained, add_special_tokens=False)]
    grams = FourGrams(rows, cut.get_vocab_size())
    chance = random.Random(3)
    pieces, size, bits = [], 0, 0.0
    for text in chance.sample(held_out, min(SCORED, len(held_out))):
        ids = cut.encode(text, add_special_tokens=False).ids
        start = PIECE * chance.randrange(max(1, len(ids) // PIECE))
        piece = ids[start : start + PIECE]
        pieces.append(piece)
        size += len(cut.decode(piece).encode())
        bits += grams.bits(ids, start, start + len(piece))
    return pieces, size, bits


def bits_held_out(it: Loaded) -> float:
    pieces, size, _ = _scored(it.tokenizer.to_str())
    return sum(_bits(it, piece) for piece in pieces) / size


def below_four_grams(it: Loaded) -> float:
    return _scored(it.tokenizer.to_str())[2] / _scored(it.tokenizer.to_str())[1] - bits_held_out(it)


# --- repeated identifiers ----------------------------------------------------------------------


def _twice(it: Loaded) -> torch.Tensor:
    """Rows of different identifiers at random, and the same again."""
    texts = [it.tokenizer.decode([i]) for i in range(it.tokenizer.get_vocab_size())]
    words = [i for i, w in enumerate(texts) if w[:1] == " " and len(w) > 5 and w[1:].isalpha()]
    chance = random.Random(5)
    rows = [chance.sample(words, COPY) for _ in range(ROWS)]
    return torch.tensor([[0, *row, *row] for row in rows])


@torch.no_grad()
def gain_of_second_copy(it: Loaded) -> float:
    rows = _twice(it)
    logs = it.model(rows)[:, :-1].log_softmax(-1)
    nats = -logs.gather(-1, rows[:, 1:, None])[..., 0]
    return float(nats[:, 1:COPY].mean() - nats[:, COPY + 1 :].mean())


@torch.no_grad()
def _best_head(it: Loaded, back: int) -> float:
    """The largest mean attention of a head from the second copy to so many places before."""
    rows = _twice(it)
    _, cache = it.model.run_with_cache(rows)
    best = 0.0
    for layer in range(it.config["transformer"]["n_layers"]):
        pattern = cache["pattern", layer]
        scores = [pattern[:, :, i, i - back].mean(0) for i in range(COPY + 1, 2 * COPY + 1)]
        best = max(best, float(torch.stack(scores).mean(0).max()))
    return best


def prefix_matching(it: Loaded) -> float:
    return _best_head(it, COPY - 1)


def previous_token(it: Loaded) -> float:
    return _best_head(it, 1)


# --- brackets and indentation ------------------------------------------------------------------


def _id(it: Loaded, text: str) -> int:
    (found,) = it.tokenizer.encode(text, add_special_tokens=False).ids
    return found


@torch.no_grad()
def right_bracket(it: Loaded) -> float:
    closers = {sign: _id(it, sign) for sign in CLOSER.values()}
    right = 0
    for text, closer in OPEN:
        logits = it.model(it.ids(text))[0, -1]
        right += max(closers, key=lambda sign: float(logits[closers[sign]])) == closer
    return right / len(OPEN)


@torch.no_grad()
def closed_completions(it: Loaded) -> float:
    """Share of sampled completions in which the bracket that a prompt ends with is closed."""
    chance = torch.Generator().manual_seed(2)
    texts = [it.tokenizer.decode([i]).strip() for i in range(it.tokenizer.get_vocab_size())]
    rows = [it.tokenizer.encode(prompt).ids for prompt in PROMPTS]
    begun = [len(row) for row in rows]
    for _ in range(LONGEST):
        ends = [len(row) - 1 for row in rows]
        padded = [row + [0] * (max(ends) + 1 - len(row)) for row in rows]
        logits = it.model(torch.tensor(padded))[range(len(rows)), ends]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=chance)
        rows = [[*row, int(token)] for row, token in zip(rows, drawn, strict=True)]
    ends = zip(rows, begun, strict=True)
    return sum(_closes([texts[i] for i in row[at - 1 :]]) for row, at in ends) / len(rows)


def _closes(signs: list[str]) -> bool:
    """Whether the first sign, an open bracket, is closed, and all inside it."""
    waiting: list[str] = []
    for sign in signs:
        if sign in CLOSER:
            waiting.append(CLOSER[sign])
        elif sign in CLOSER.values() and waiting.pop() != sign:
            return False
        if not waiting:
            return True
    return False


def indentation_above_line_before(it: Loaded) -> float:
    """Share of indented lines whose spaces are the likeliest of all, less that of a simple rule.

    The rule says the spaces of the indented line before.
    """
    ids = it.tokenizer.encode(SOURCE, add_special_tokens=False).ids
    texts = [it.tokenizer.decode([i]) for i in range(it.tokenizer.get_vocab_size())]
    spaces = [i for i, text in enumerate(texts) if text and not text.strip(" ")]
    logs = _logs(it, ids)[:, spaces]
    model, same, lines, before = 0, 0, 0, -1
    for at in range(1, len(ids)):
        if texts[ids[at - 1]] != "\n" or ids[at] not in spaces:
            continue
        lines += 1
        same += ids[at] == before
        if at % PIECE:
            model += spaces[int(logs[at].argmax())] == ids[at]
        before = ids[at]
    assert lines > 60
    return (model - same) / lines


# 4-grams of all the files need 1.47 bits a byte of the held-out ones, says the card.
FACTS = (
    Fact("bits a byte on source written for this", bits_here, at_most=1.3, unit="bits"),
    Fact("bits a byte on held-out files", bits_held_out, at_most=1.27, unit="bits"),
    Fact(
        "bits a byte below 4-grams of a fifth of the files",
        below_four_grams,
        at_least=0.5,
        unit="bits",
    ),
    Fact("gain of the second copy", gain_of_second_copy, at_least=2.0, unit="nats"),
    Fact("prefix matching of the best head", prefix_matching, at_least=0.2, unit="attention"),
    Fact("attention to the token before", previous_token, at_least=0.5, unit="attention"),
    Fact("right bracket after one of another kind", right_bracket, at_least=0.8, unit="share"),
    Fact("completions that close a bracket", closed_completions, at_least=0.6, unit="share"),
    Fact(
        "indentation above that of the line before",
        indentation_above_line_before,
        at_least=0.1,
        unit="share",
    ),
)

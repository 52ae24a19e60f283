"""What ``stdlib-lm`` does on held-out files, measured on the exported model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformer_lens import HookedTransformer

from interp.behaviors import PromptPair, code
from zoo import _save, stdlib_lm

OPENING: Final = {"(": ")", "[": "]", "{": "}"}
KINDS: Final = (")", "]", "}")
PROMPTS, PROMPT, LONGEST = 50, 64, 60
"""Completions that are sampled, tokens before each, and tokens of each at most."""
ROWS, WITHOUT = 200, 50
"""Rows of repeated identifiers, and how many of them are read without a head."""
_DRAWS: Final = 2_000
_BATCH: Final = 16
_PIECE: Final = stdlib_lm.WINDOW - 1

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Rate:
    """Something per something, with a 95% interval from whole files (or rows) drawn again."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float], n: int | None = None) -> Rate:
        """Sum of ``above`` over sum of ``below``, both by file; ``n`` by default the latter."""
        top, bottom = np.array(above, dtype=np.float64), np.array(below, dtype=np.float64)
        drawn = np.random.default_rng(0).integers(0, len(top), (_DRAWS, len(top)))
        sums = bottom[drawn].sum(1)
        ratios = top[drawn].sum(1)[sums > 0] / sums[sums > 0]
        low, high = np.quantile(ratios, [0.025, 0.975])
        count = int(bottom.sum()) if n is None else n
        return cls(float(top.sum() / bottom.sum()), float(low), float(high), count)

    def said(self, digits: int = 3) -> str:
        """The value and its interval in words."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Vocabulary:
    """What tokens are: the text of each, and groups of ids.

    Attributes:
        widths: Spaces of each token that is nothing else; 0 for the others.
        closers: Ids of the tokens of each kind of closing bracket.
        bracket: The bracket that a token is, with or without a space; or empty.
    """

    texts: list[str]
    newline: int
    widths: NDArray[np.int64]
    closers: tuple[list[int], ...]
    bracket: list[str]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Read it off a tokenizer."""
        texts = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
        bracket = [text.strip() if text.strip() in (*OPENING, *KINDS) else "" for text in texts]
        widths = [len(text) if text and not text.strip(" ") else 0 for text in texts]
        closers = tuple([i for i, b in enumerate(bracket) if b == kind] for kind in KINDS)
        return cls(texts, texts.index("\n"), np.array(widths), closers, bracket)


@dataclass
class File:
    """What was measured on one held-out file.

    Attributes:
        right: Tokens that the model thought the most likely.
        closing: Of each closing bracket: the kind that it is, the kind that the model prefers,
            and whether the bracket before it in the text is of another kind.
        indents: Of each line: spaces that it begins with, those that the model expects, those of
            the line before, and those by the rule "four more behind a colon". Blank lines and
            those at the beginning of a piece are left out.
    """

    tokens: int
    nats: float = 0.0
    right: int = 0
    closing: list[tuple[int, int, bool]] = field(default_factory=list)
    indents: list[tuple[int, int, int, int]] = field(default_factory=list)


@torch.no_grad()
def on_file(model: HookedTransformer, words: Vocabulary, ids: Ids) -> File:
    """Read a file in pieces of 255 tokens, each after ``[BOS]``."""
    rows = np.zeros((-(-len(ids) // _PIECE), stdlib_lm.WINDOW), dtype=np.int64)
    rows[:, 1:].flat[: len(ids)] = ids
    found = File(len(ids))
    closing, lines = _closing(words, ids), _lines(words, ids)
    for start in range(0, len(rows), _BATCH):
        batch = torch.from_numpy(rows[start : start + _BATCH])
        first = start * _PIECE
        logits = _save.tensor(model(batch))[:, :-1].flatten(0, 1)[: len(ids) - first]
        wanted = batch[:, 1:].flatten()[: len(ids) - first]
        logs = logits.log_softmax(-1)
        found.nats -= float(logs.gather(-1, wanted[:, None]).double().sum())
        found.right += int((logits.argmax(-1) == wanted).sum())
        found.closing += _judge_closing(logs, words, closing, first)
        found.indents += _judge_lines(logs, words, lines, first)
    return found


def _closing(words: Vocabulary, ids: Ids) -> list[tuple[int, int, bool]]:
    """Of each closing bracket: where, which kind, and whether the one before is of another."""
    found: list[tuple[int, int, bool]] = []
    before = ""
    for at, token in enumerate(ids.tolist()):
        sign = words.bracket[token]
        if sign in KINDS:
            found.append((at, KINDS.index(sign), before != sign))
        before = OPENING.get(sign, sign) or before
    return found


def _judge_closing(
    logs: Tensor, words: Vocabulary, every: list[tuple[int, int, bool]], first: int
) -> list[tuple[int, int, bool]]:
    cases = [case for case in every if first <= case[0] < first + len(logs)]
    if not cases:
        return []
    asked = logs[[at - first for at, _, _ in cases]]
    kinds = torch.stack([asked[:, ids].logsumexp(-1) for ids in words.closers], 1)
    chosen = kinds.argmax(-1).tolist()
    return [(kind, got, hard) for (_, kind, hard), got in zip(cases, chosen, strict=True)]


def _lines(words: Vocabulary, ids: Ids) -> list[tuple[int, int, int, int]]:
    """Of each line: where it begins, its spaces, those of the line before, and by the rule."""
    found: list[tuple[int, int, int, int]] = []
    breaks = (np.flatnonzero(ids[:-1] == words.newline) + 1).tolist()
    before = int(words.widths[ids[0]])
    for at in breaks:
        width = int(words.widths[ids[at]])
        first = at + (width > 0)
        if first >= len(ids) or ids[first] == words.newline:
            continue
        more = 4 * words.texts[ids[_last_dark(words, ids, at)]].endswith(":")
        if at % _PIECE:
            found.append((at, width, before, before + more))
        before = width
    return found


def _last_dark(words: Vocabulary, ids: Ids, at: int) -> int:
    """The last token before a place that is no line break."""
    at -= 1
    while at and ids[at] == words.newline:
        at -= 1
    return at


def _judge_lines(
    logs: Tensor, words: Vocabulary, every: list[tuple[int, int, int, int]], first: int
) -> list[tuple[int, int, int, int]]:
    cases = [case for case in every if first <= case[0] < first + len(logs)]
    if not cases:
        return []
    chances = logs[[at - first for at, *_ in cases]].exp()
    chances[:, words.newline] = 0
    widths = torch.from_numpy(words.widths)
    by_width = torch.zeros(len(cases), int(widths.max()) + 1).index_add_(1, widths, chances)
    expected = by_width.argmax(-1).tolist()
    return [(w, got, b, r) for (_, w, b, r), got in zip(cases, expected, strict=True)]


# --- prompt pairs ------------------------------------------------------------------------------


@torch.no_grad()
def ahead(model: HookedTransformer, tokenizer: Tokenizer, pairs: Sequence[PromptPair]) -> Floats:
    """Logit of each answer less that of its foil, after the clean prompt."""
    clean = [tokenizer.encode(pair.clean).ids for pair in pairs]
    wanted = [tokenizer.encode_batch([p.answer, p.foil], add_special_tokens=False) for p in pairs]
    found = np.zeros(len(pairs))
    for length in {len(row) for row in clean}:
        at = [i for i, row in enumerate(clean) if len(row) == length]
        logits = _save.logits_at(model, torch.tensor([clean[i] for i in at]), -1)
        for row, i in zip(logits, at, strict=True):
            answer, foil = (one.ids for one in wanted[i])
            found[i] = float(row[answer] - row[foil])
    return found


# --- completions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Completions:
    """How sampled completions of an open bracket end: closed rightly, wrongly, or not at all.

    ``true`` is how many of the files' own continuations close it within as many tokens.
    """

    closed: int
    wrong: int
    open: int
    true: int

    @property
    def n(self) -> int:
        """Prompts."""
        return self.closed + self.wrong + self.open


def fate(words: Vocabulary, opened: int, tokens: Sequence[int]) -> str:
    """How a bracket ends: "closed", "wrong" (another kind closes it) or "open"."""
    waiting = [OPENING[words.bracket[opened]]]
    for token in tokens:
        sign = words.bracket[token]
        if sign in OPENING:
            waiting.append(OPENING[sign])
        elif sign:
            if sign != waiting.pop():
                return "wrong"
            if not waiting:
                return "closed"
    return "open"


def places(
    words: Vocabulary, tokenizer: Tokenizer, files: Sequence[tuple[str, str]]
) -> list[list[int]]:
    """Tokens that end with an open bracket of the language, and those that follow; one a file."""
    rng = np.random.default_rng(stdlib_lm.SEED)
    found: list[list[int]] = []
    for index in rng.permutation(len(files)):
        if len(found) == PROMPTS:
            break
        text = files[index][1]
        coded = tokenizer.encode(text, add_special_tokens=False)
        labels = code.label(text, coded.offsets)
        bracket = labels.values["token_type"] == code.TYPES.index("bracket")
        opens = np.array([words.bracket[i] in OPENING for i in coded.ids]) & bracket
        able = np.flatnonzero(opens)
        able = able[(able >= PROMPT - 1) & (able < len(coded.ids) - LONGEST)]
        if len(able):
            at = int(rng.choice(able)) + 1
            found.append(coded.ids[at - PROMPT : at + LONGEST])
    return found


@torch.no_grad()
def complete(
    model: HookedTransformer, words: Vocabulary, texts: Sequence[Sequence[int]]
) -> Completions:
    """Sample each text's continuation, token by token at temperature 1."""
    chance = torch.Generator().manual_seed(stdlib_lm.SEED)
    rows = torch.tensor([[0, *text[:PROMPT]] for text in texts])
    for _ in range(LONGEST):
        chances = _save.logits_at(model, rows, -1).softmax(-1)
        rows = torch.cat([rows, torch.multinomial(chances, 1, generator=chance)], 1)
    sampled = [fate(words, row[PROMPT], row[PROMPT + 1 :]) for row in rows.tolist()]
    true = [fate(words, text[PROMPT - 1], text[PROMPT:]) for text in texts]
    ends = (sampled.count(end) for end in ("closed", "wrong", "open"))
    return Completions(*ends, true=true.count("closed"))


# --- repeated identifiers ----------------------------------------------------------------------


@dataclass(frozen=True)
class Repeated:
    """Losses and heads on identifiers at random and the same again.

    Attributes:
        first: Nats of the first copy, a mean over rows with its interval.
        second: Nats of the second copy.
        gain: The first less the second, by rows.
        prefix: Attention of each head to the token behind the earlier copy, ``[layer, head]``.
        previous: Attention of each head to the token before, ``[layer, head]``.
        cost: By how much the second copy's nats rise without each head, ``[layer, head]``: its
            output is then the mean over the rows at each place.
        chance: The first two where a head attends alike to all.
    """

    first: Rate
    second: Rate
    gain: Rate
    prefix: Tensor
    previous: Tensor
    cost: Tensor
    chance: float

    def named(self, scores: Tensor, least: float) -> list[tuple[str, float]]:
        """Heads with a score of ``least`` or more, the highest first."""
        heads = scores.shape[1]
        flat = [(f"L{i // heads}H{i % heads}", float(s)) for i, s in enumerate(scores.flatten())]
        return sorted((one for one in flat if one[1] >= least), key=lambda one: -one[1])


def repeated(model: HookedTransformer, identifiers: NDArray[np.int64]) -> Repeated:
    """Measure rows that training did not look at."""
    rows = stdlib_lm.repeats(identifiers, ROWS, seed=7)
    seen = [stdlib_lm.induction(model, row[None]) for row in rows]
    ones = [1.0] * ROWS
    size = stdlib_lm.REPEATED
    asked = range(size + 1, 2 * size + 1)
    shape = model.cfg.n_layers, model.cfg.n_heads
    few = rows[:WITHOUT]
    whole = stdlib_lm.induction(model, few).second
    cost = [_second_without(model, few, layer, head) - whole for layer, head in np.ndindex(*shape)]
    return Repeated(
        Rate.of([one.first for one in seen], ones),
        Rate.of([one.second for one in seen], ones),
        Rate.of([one.first - one.second for one in seen], ones),
        torch.stack([one.prefix for one in seen]).mean(0),
        torch.stack([one.previous for one in seen]).mean(0),
        torch.tensor(cost).view(shape),
        float(np.mean([1 / (at + 1) for at in asked])),
    )


@torch.no_grad()
def _second_without(model: HookedTransformer, rows: Tensor, layer: int, head: int) -> float:
    """Mean nats of the second copy, all but its first token."""
    edit = partial(_to_mean, head=head)
    logits = model.run_with_hooks(rows, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", edit)])
    asked = _save.tensor(logits)[:, stdlib_lm.REPEATED + 1 : -1].log_softmax(-1)
    wanted = rows[:, stdlib_lm.REPEATED + 2 :, None]
    return -float(asked.gather(-1, wanted).mean())


def _to_mean(z: Tensor, hook: object, *, head: int) -> Tensor:
    z[:, :, head] = z[:, :, head].mean(0, keepdim=True)
    return z

"""Places that a head may look at, scores of heads on repeated random tokens (no torch).

A *relation* says, for each destination (the query's position), which sources (keys' positions)
count: the previous one, earlier copies of the same token, the positions after those. A score is
the mean attention that falls on them, over the destinations that have any.

Source: Olsson et al., "In-context learning and induction heads" (2022), for repeated random tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from interp.axes import (
    HeadDestSrc,
    LayerHead,
    PerRelation,
    PerSequence,
    RelationHead,
    Relations,
    ScoreLayer,
    ScoreSequenceLayerHead,
    SequencePos,
    SequenceTokens,
    Visible,
)
from interp.errors import InterpError
from interp.models import tokens
from interp.models.info import ModelInfo
from interp.scores import Absent, Anchor, Interval, Null, Score

RELATIONS = ("first position", "own position", "previous token", "duplicate token", "induction")
SCORED = RELATIONS[2:]
"""Those that heads are classified by, on repeated random tokens."""

LONGEST, FEWEST = 50, 8
"""Tokens before they repeat: so many at most; with fewer the targets lie side by side."""
SEQUENCES = 8
LEVEL = 0.95


@dataclass(frozen=True)
class Alphabet:
    """What sequences of random tokens are made of: ids to draw from, specials before and after."""

    ordinary: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def length(self, n_ctx: int) -> int:
        """Return how many tokens are drawn before they repeat, so that the whole fits."""
        room = n_ctx - len(self.before) - len(self.after)
        return min(LONGEST, len(self.ordinary), room // 2)


@dataclass(frozen=True)
class RandomTokens:
    """Sequences of ``length`` different random tokens, and the same again.

    ``shuffled`` has the same tokens, but the second half in another order: no token has its copy
    in the place of ``repeated``, nor next to it. What a head looks at there it looks at by
    position, not by token.
    """

    repeated: SequencePos
    shuffled: SequencePos
    length: int


@lru_cache(maxsize=16)
def alphabet(model: ModelInfo) -> Alphabet:
    """Find the ordinary tokens of a model and the specials that its tokenizer puts around text.

    Placeholders in brackets, such as ``[unused3]``, and the tokens of single bytes that a
    vocabulary falls back to, such as ``<0x0A>``, are not drawn either.
    """
    texts = tokens.text_of(model, tuple(range(model.d_vocab)))
    special = tokens.special_ids(model) | ({model.bos} if model.bos is not None else set())
    out = special | tokens.vocabulary_of(model).single_bytes
    ordinary = tuple(i for i, t in enumerate(texts) if i not in out and not _bracketed(t))
    for text in (texts[i] for i in ordinary):
        try:
            ids = tokens.encode(model, text).ids
        except InterpError:
            continue  # half a character, say
        inside = [i for i, token in enumerate(ids) if token not in special]
        if inside:
            return Alphabet(ordinary, ids[: inside[0]], ids[inside[-1] + 1 :])
    return Alphabet((), (), ())


def _bracketed(text: str) -> bool:
    return len(text) > 2 and text[0] + text[-1] in ("[]", "<>")


def why_not(model: ModelInfo) -> str:
    """Say why heads of a model cannot be scored on repeated random tokens, or nothing."""
    drawn = alphabet(model)
    length = drawn.length(model.n_ctx)
    if length >= FEWEST:
        return ""
    what = (
        f"its vocabulary has {len(drawn.ordinary)}"
        if len(drawn.ordinary) < FEWEST
        else f"twice {length} fill its {model.n_ctx} positions"
    )
    return f"repeated random tokens need {FEWEST} different ones, and {what}"


def draw(model: ModelInfo, rng: np.random.Generator, n: int = SEQUENCES) -> RandomTokens:
    """Draw ``n`` sequences, each of different tokens; only where ``why_not`` has no objection."""
    drawn = alphabet(model)
    length = drawn.length(model.n_ctx)
    repeated: list[np.ndarray] = []
    shuffled: list[np.ndarray] = []
    for _ in range(n):
        half = rng.choice(drawn.ordinary, length, replace=False)
        for rows, second in ((repeated, half), (shuffled, half[_order(rng, length)])):
            rows.append(np.concatenate([drawn.before, half, second, drawn.after]).astype(np.int64))
    return RandomTokens(np.stack(repeated), np.stack(shuffled), length)


def _order(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw an order in which nothing stays, nor comes next to where it was."""
    while True:
        order = rng.permutation(n)
        if not np.isin((order - np.arange(n)) % n, (0, 1, n - 1)).any():
            return order


def relations(ids: SequenceTokens) -> Relations:
    """Mark, for each relation, the sources that count for each destination.

    Position 0 has no row: in a causal model it sees itself alone. After an earlier copy may be
    the destination itself, where a token directly follows its copy.

    Source: the last three are the detection patterns of ``transformer_lens.head_detector``.
    """
    n = len(ids)
    dest, src = np.indices((n, n))
    earlier = (ids[:, None] == ids[None, :]) & (src < dest)
    after = np.zeros_like(earlier)
    after[:, 1:] = earlier[:, :-1]
    masks = np.stack([src == 0, src == dest, src == dest - 1, earlier, after])
    masks[:, 0] = False
    return masks


def n_rows(masks: Relations) -> PerRelation:
    """Count the destinations that have a source; NaN where there is none, to divide by."""
    rows = masks.any(-1).sum(-1)
    return np.where(rows > 0, rows, np.nan)


def window(model: ModelInfo, layer: int) -> int | None:
    """Return how many positions a layer sees back from a token, itself included; None for all."""
    shape = model.transformer
    local = shape.get("use_local_attn") and shape["attn_types"][layer] == "local"
    return int(shape["window_size"]) if local else None


def visible(n_pos: int, *, causal: bool, window: int | None) -> Visible:
    """Mark the sources that each destination can see; the model masks all others.

    Args:
        n_pos: Number of positions; any that follow each other.
        causal: Whether a position sees only itself and those before.
        window: The last so many of these, itself included; None for all.
    """
    dest, src = np.indices((n_pos, n_pos))
    if not causal:  # the model class has windows only where it masks what comes later
        return np.ones((n_pos, n_pos), bool)
    return (src <= dest) & (src > dest - (n_pos if window is None else window))


def uniform(masks: Relations, seen: Visible) -> PerRelation:
    """Return what attention shared equally among all visible positions would score.

    NaN where no destination has a source. One that has none in sight gives 0.
    """
    return ((masks & seen).sum(-1) / seen.sum(-1)).sum(-1) / n_rows(masks)


@dataclass(frozen=True)
class OnPrompt:
    """Where the heads of a layer look on one prompt, by ``RELATIONS``.

    Attributes:
        mean: Mean attention of each head; NaN where no position has such a place in sight.
        uniform: What uniform attention would give.
        rows: How many positions have such a place in sight.
    """

    mean: RelationHead
    uniform: PerRelation
    rows: tuple[int, ...]


def on_prompt(pattern: HeadDestSrc, ids: tuple[int, ...], seen: Visible) -> OnPrompt:
    """Say how much of the attention of each head each relation gets on one prompt.

    Sources that a destination cannot see do not count, nor does a destination that sees none.
    """
    masks = relations(np.array(ids)) & seen
    rows = n_rows(masks)
    paid = np.einsum("hds,rds->rh", pattern, masks, dtype=np.float64) / rows[:, None]
    counted = tuple(int(n) for n in np.nan_to_num(rows))
    return OnPrompt(paid, uniform(masks, seen), counted)


@dataclass(frozen=True)
class HeadScores:
    """Scores of all heads on repeated random tokens: mean attention, NaN where not computed yet.

    Attributes:
        values: By score, sequence, layer and head.
        control: The same with the second half shuffled.
        uniform: What uniform attention would score, by layer: not all see equally far.
        tokens: The sequences, as token ids.
        length: How many tokens they have before they repeat.
    """

    values: ScoreSequenceLayerHead
    control: ScoreSequenceLayerHead
    uniform: ScoreLayer
    tokens: SequencePos
    length: int

    @property
    def done(self) -> int:
        """Number of sequences that are scored already, the first ones."""
        return int((~np.isnan(self.values)).all((0, 2, 3)).sum())

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self.done == len(self.tokens)

    def mean(self, score: str, *, control: bool = False) -> LayerHead:
        """Return a score of every head, over the sequences that are done; NaN before the first."""
        values = (self.control if control else self.values)[SCORED.index(score)]
        return values[: self.done].mean(0) if self.done else np.full(values.shape[1:], np.nan)

    def above_uniform(self, score: str) -> LayerHead:
        """Return by how much a score of every head is above that of uniform attention."""
        return self.mean(score) - self.uniform[SCORED.index(score)][:, None]

    def said(self, score: str, layer: int, head: int) -> str:
        """Say a head's score with what uniform attention and the shuffled half give."""
        value, even = self.mean(score)[layer, head], self.uniform[SCORED.index(score), layer]
        control = self.mean(score, control=True)[layer, head]
        shuffled = "" if score == "previous token" else f", shuffled {control:.2f}"
        return f"{score} {value:.2f} (uniform {even:.2f}{shuffled})"

    def on_scale(self, score: str, layer: int, head: int) -> Score:
        """Put a head's score on its scale."""
        at = SCORED.index(score)
        values = self.values[at, :, layer, head]
        null: Null | Absent = Absent("shuffling the second half leaves the previous token there")
        if score != "previous token":
            control = self.control[at, :, layer, head]
            low, median, high = (float(q) for q in np.quantile(control, [0.05, 0.5, 0.95]))
            what = "the same positions with the second half shuffled"
            null = Null(what, low, median, high, len(control))
        even = Anchor("uniform attention", float(self.uniform[at, layer]))
        return Score(
            name=f"{score[0].upper()}{score[1:]} score of L{layer}H{head}",
            value=float(values.mean()),
            unit="of the attention",
            n=len(values),
            floor=even,
            ceiling=Anchor("all attention", 1.0),
            constant=even,
            null=null,
            interval=interval(values),
            held_out=Absent("random sequences; if they chose the head, ask with another seed"),
        )


def none_yet(model: ModelInfo, drawn: RandomTokens) -> HeadScores:
    """Return the scores before the first sequence."""
    nothing = np.full((len(SCORED), len(drawn.repeated), model.n_layers, model.n_heads), np.nan)
    masks, n_pos = scored_relations(drawn), drawn.repeated.shape[1]
    even = [
        uniform(masks, visible(n_pos, causal=model.causal, window=window(model, layer)))
        for layer in range(model.n_layers)
    ]
    return HeadScores(nothing, nothing, np.stack(even, 1), drawn.repeated, drawn.length)


def scored_relations(drawn: RandomTokens) -> Relations:
    """Mark the sources that count for ``SCORED``; they are the same in every sequence."""
    return relations(drawn.repeated[0])[-len(SCORED) :]


def interval(values: PerSequence) -> Interval:
    """Return Student's interval of the mean over sequences, which are independent."""
    n = len(values)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / np.sqrt(n))
    mean = float(values.mean())
    return Interval(mean - half, mean + half, LEVEL, f"Student's t over {n} sequences")

"""Interpolated n-gram models with modified Kneser–Ney smoothing: what the text model must beat.

Source: Chen and Goodman (1998), An empirical study of smoothing techniques for language modeling,
section 4.1.6. The highest order counts n-grams; a lower order counts in how many different
contexts an n-gram was seen. Each order takes a discount from its counts (one of three, by the
count) and gives what it took to the next lower order; the lowest gives it to all tokens alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_CHUNK: Final = 100_000
_PLAIN: Final = 0.5

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """Counts of one order. N-grams are numbers to the base of the vocabulary, the last token last.

    Attributes:
        grams: The n-grams that were seen, sorted.
        counts: Count of each.
        contexts: The contexts (n-grams without their last token) that were seen, sorted.
        totals: Sum of the counts behind each context.
        shares: Share of the probability that each context gives to the next lower order.
        discounts: What is taken from counts of 0, of 1, of 2, and of 3 or more.
    """

    grams: Ids
    counts: Ids
    contexts: Ids
    totals: Floats
    shares: Floats
    discounts: Floats

    def blend(self, context: Ids, token: Ids, lower: Floats, vocabulary: int) -> Floats:
        """Probability of each token after its context, given that of the lower order."""
        place, known = _find(self.contexts, context)
        gram, seen = _find(self.grams, context * vocabulary + token)
        count = np.where(seen, self.counts[gram], 0)
        kept = count - self.discounts[np.minimum(count, 3)]
        return np.where(known, kept / self.totals[place] + self.shares[place] * lower, lower)


@dataclass(frozen=True)
class NGrams:
    """Smoothed n-grams of several orders, fitted on one row of tokens."""

    vocabulary: int
    orders: tuple[_Order, ...]

    def probabilities(self, context: Sequence[int]) -> Floats:
        """Probability of every token of the vocabulary behind a context; they sum to one."""
        row = np.array([*context, 0], dtype=np.int64)
        every = np.arange(self.vocabulary)
        rows = np.broadcast_to(row, (self.vocabulary, len(row))).copy()
        rows[:, -1] = every
        return self._last(rows)

    def nats(self, ids: NDArray[np.int32]) -> float:
        """Summed negative log probability of a text's tokens, each after those before it."""
        row, reach = ids.astype(np.int64), len(self.orders)
        total = 0.0
        for at in range(min(reach - 1, len(row))):
            total -= float(np.log(self._last(row[None, : at + 1])[0]))
        if len(row) < reach:
            return total
        windows = np.lib.stride_tricks.sliding_window_view(row, reach)
        for start in range(0, len(windows), _CHUNK):
            total -= float(np.log(self._last(windows[start : start + _CHUNK])).sum())
        return total

    def _last(self, rows: Ids) -> Floats:
        """Probability of the last token of each row after the others, as many as there are."""
        found = np.full(len(rows), 1 / self.vocabulary)
        context = np.zeros(len(rows), dtype=np.int64)
        for order, counts in enumerate(self.orders[: rows.shape[1]]):
            if order:
                context += rows[:, -1 - order] * self.vocabulary ** (order - 1)
            found = counts.blend(context, rows[:, -1], found, self.vocabulary)
        return found


def fit(ids: NDArray[np.int32], order: int, vocabulary: int) -> NGrams:
    """Count and smooth the n-grams of a text up to ``order`` tokens.

    Cost: sorts the text once for each order.

    Args:
        ids: Tokens of the text.
        order: Tokens of the longest n-grams; ``vocabulary ** order`` must be below 2 ** 63.
        vocabulary: Number of token ids.
    """
    codes = np.zeros(len(ids) - order + 1, dtype=np.int64)
    for place in range(order):
        codes = codes * vocabulary + ids[place : len(ids) - order + 1 + place]
    grams, counts = np.unique(codes, return_counts=True)
    found = [_smooth(grams, counts, vocabulary)]
    for length in range(order - 1, 0, -1):
        # Each different n-gram is one context in which its last tokens were seen.
        grams, counts = np.unique(grams % vocabulary**length, return_counts=True)
        found.append(_smooth(grams, counts, vocabulary))
    return NGrams(vocabulary, tuple(reversed(found)))


def _smooth(grams: Ids, counts: Ids, vocabulary: int) -> _Order:
    discounts = _discounts(counts)
    contexts, starts = np.unique(grams // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    taken = np.add.reduceat(discounts[np.minimum(counts, 3)], starts)
    return _Order(grams, counts, contexts, totals, taken / totals, discounts)


def _discounts(counts: Ids) -> Floats:
    """The three discounts, from how many n-grams have a count of 1, 2, 3 and 4.

    Where one of these numbers is 0, as in a short text, each discount is a half.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not min(n1, n2, n3, n4):
        return np.array([0.0, _PLAIN, _PLAIN, _PLAIN])
    base = n1 / (n1 + 2 * n2)
    found = [0.0, 1 - 2 * base * n2 / n1, 2 - 3 * base * n3 / n2, 3 - 4 * base * n4 / n3]
    return np.clip(found, 0, [0, 1, 2, 3])


def _find(ordered: Ids, wanted: Ids) -> tuple[Ids, NDArray[np.bool_]]:
    """Where each wanted number would be in an ordered array, and whether it is there."""
    place = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return place, ordered[place] == wanted

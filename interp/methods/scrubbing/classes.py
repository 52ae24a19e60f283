"""Which inputs may stand for which: classes of equal features, and drawing from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from jaxtyping import Float, Int, Shaped

Rows = Int[np.ndarray, "entry"]
Uniform = Float[np.ndarray, "entry"]


@dataclass(frozen=True, eq=False)
class Classes:
    """Inputs with equal values, as ranges of one order.

    Attributes:
        codes: Number of each input's class.
        order: Inputs, class by class.
        start: Where each class begins in the order.
        counts: Members of each class.
    """

    codes: Int[np.ndarray, "input"]
    order: Int[np.ndarray, "input"]
    start: Int[np.ndarray, "class"]
    counts: Int[np.ndarray, "class"]

    @classmethod
    def of(cls, values: Sequence[Shaped[np.ndarray, "input"]]) -> Classes:
        """Put inputs together that agree in all values.

        Cost: one sort for each of them.
        """
        codes = np.zeros(len(values[0]), dtype=np.int64)
        for one in values:
            own = np.unique(one, return_inverse=True)[1].reshape(-1)
            both = codes * (own.max() + 1) + own
            codes = np.unique(both, return_inverse=True)[1].reshape(-1)
        counts = np.bincount(codes)
        return cls(codes, np.argsort(codes, kind="stable"), np.cumsum(counts) - counts, counts)

    def draw(self, rows: Rows, u: Uniform, most: int | None = None) -> Rows:
        """Draw for each row an input of its class, itself included, by a uniform number below 1.

        Args:
            rows: Inputs whose class is drawn from.
            u: One number an entry.
            most: Members of a class that can be drawn: the first in the data's order.
        """
        of = self.codes[rows]
        n = self.counts[of] if most is None else np.minimum(self.counts[of], most)
        return self.order[self.start[of] + (u * n).astype(np.int64)]

    @property
    def sizes(self) -> Int[np.ndarray, "input"]:
        """Members of each input's class."""
        return self.counts[self.codes]

    @property
    def entropy_bits(self) -> float:
        """Entropy of the class of a uniformly drawn input."""
        p = self.counts / self.counts.sum()
        return float(-(p * np.log2(p)).sum()) + 0.0


def nearest(
    values: Shaped[np.ndarray, "input"], asked: Shaped[np.ndarray, "entry"], u: Uniform, k: int
) -> Rows:
    """Draw for each asked value one of the ``k`` inputs whose values are nearest by rank.

    Inputs of the same value come first, all of them where there are more than ``k``.
    """
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    first = np.searchsorted(ranked, asked, side="left")
    equal = np.searchsorted(ranked, asked, side="right") - first
    n = np.maximum(equal, min(k, len(order)))
    start = np.clip(first - (n - equal) // 2, 0, len(order) - n)
    return order[start + (u * n).astype(np.int64)]


def uniform(seed: int, replicate: int, name: str, n: int) -> Uniform:
    """Return uniform numbers that belong to a name: the same in every hypothesis that has it."""
    return np.random.default_rng([seed, replicate, crc32(name.encode())]).random(n)

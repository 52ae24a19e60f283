"""Time two sides of the same work, in turn and in one process, and print the row.

row         name of the row              work, peer  what is done, and by whom else
ours_s      median seconds               peer_s      likewise
ratio       peer over ours, larger is better; the median of the ratios of each round
max_diff    largest difference of the two results, over the standard deviation of the peer's
spread      smallest and largest ratio
bound_s     operations that cannot be avoided, over the matrix rate measured in this run
over_bound  ours over that bound, 1 is the least; the median of each round's
most        the peer over that bound: no ratio can be larger with these operations on this machine
peak_mb     most bytes of tensors that our side held at once beyond the model, in millions
failed      why the row does not count; absent if it does

Seconds are process CPU time; on a CUDA device wall time, with synchronisation.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.fit import peak
from interp.models.info import ModelInfo
from interp.models.lean import Linear

TOLERANCE = 1e-5
STEADY = 0.25
"""Largest range of the peer's own times, over their median."""

Side = Callable[[], tuple[np.ndarray, float]]
"""Does the work; returns its result and the seconds that it took."""


@dataclass(frozen=True, eq=False)
class Row:
    """Two sides of the same work.

    Attributes:
        row: Name.
        work: What is done.
        peer: By whom else.
        compared: Our side and the peer's, whose results must agree; NaN where the peer was not
            asked.
        timed: Both sides as they are timed; the peer may do a part of the work and scale it up.
        operations: Operations that cannot be avoided.
        info: The model.
    """

    row: str
    work: str
    peer: str
    compared: tuple[Side, Side]
    timed: tuple[Side, Side]
    operations: float
    info: ModelInfo


def compare(row: Row, rounds: int) -> bool:
    """Assert that both results agree, time the sides in turn, print the row; say if it counts."""
    found: list[np.ndarray] = []
    peak_mb = most(lambda: found.append(row.timed[0]()[0])) / 1e6
    if row.compared[0] is not row.timed[0]:
        found = [row.compared[0]()[0]]
    max_diff = difference(found[0], row.compared[1]()[0])
    line: dict[str, object] = {"row": row.row, "work": row.work, "peer": row.peer}
    line["max_diff"] = float(f"{max_diff:.3g}")
    if not max_diff <= TOLERANCE:
        line["failed"] = f"results differ by more than {TOLERANCE:g}"
    else:
        line |= _numbers([_round(row) for _ in range(rounds)], row.operations)
        line["peak_mb"] = round(peak_mb, 1)
    print(json.dumps(line), flush=True)
    return "failed" not in line


def _round(row: Row) -> tuple[float, float, float]:
    """Return the seconds of both sides, and the matrix rate about ours: others compute too."""
    before = matrix_rate(row.info)
    ours_s = row.timed[0]()[1]
    rate = (before + matrix_rate(row.info)) / 2
    return ours_s, row.timed[1]()[1], rate


def _numbers(times: list[tuple[float, float, float]], operations: float) -> dict[str, object]:
    ours, peer = [t[0] for t in times], [t[1] for t in times]
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    bounds = [operations / rate for _, _, rate in times]
    over = [a / bound for a, bound in zip(ours, bounds, strict=True)]
    line: dict[str, object] = {
        "ours_s": round(statistics.median(ours), 3),
        "peer_s": round(statistics.median(peer), 3),
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "bound_s": round(statistics.median(bounds), 3),
        "over_bound": round(statistics.median(over), 2),
        "most": round(statistics.median(peer) / statistics.median(bounds), 2),
    }
    unsteady = (max(peer) - min(peer)) / statistics.median(peer)
    if unsteady > STEADY:
        line["failed"] = f"the peer's times range over {unsteady:.0%}"
    return line


def difference(ours: np.ndarray, peer: np.ndarray) -> float:
    """Return the largest difference where the peer was asked, over its standard deviation there."""
    there = ~np.isnan(peer)
    return float(np.abs(ours - peer)[there].max()) / (float(peer[there].std()) or 1.0)


def clock() -> float:
    """Return process CPU time, or with a CUDA device wall time behind all that was launched."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(work: Callable[[], np.ndarray]) -> Side:
    """Return a side that does the work and takes the time."""

    def side() -> tuple[np.ndarray, float]:
        start = clock()
        found = work()
        return found, clock() - start

    return side


def most(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors that ``work`` held at once."""
    if not torch.cuda.is_available():
        return peak(work)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() - before


def matrix_rate(info: ModelInfo, tokens: int = 1024) -> float:
    """Return the operations a second of an MLP's two products, the median of five."""
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    d, wide = info.d_model, info.d_mlp or 4 * info.d_model
    x = torch.randn(tokens, d, device=where)
    into, out = torch.randn(wide, d, device=where), torch.randn(d, wide, device=where)
    seconds: list[float] = []
    with torch.inference_mode():
        for _ in range(6):
            start = clock()
            Linear(out)(Linear(into)(x))
            seconds.append(clock() - start)
    return 4 * tokens * d * wide / statistics.median(seconds[1:])


@dataclass(frozen=True)
class Operations:
    """Counts operations of runs that start at a layer and position and are read at the last one.

    Two for each multiplication of a matrix product; norms and activations are not counted.
    """

    info: ModelInfo
    tokens: int

    @property
    def head(self) -> float:
        """One head's input or output map of one token."""
        return 2.0 * self.info.d_model * self.info.d_head

    @property
    def keys(self) -> float:
        """Keys and values of one token."""
        return 2 * self.head * (self.info.n_key_value_heads or self.info.n_heads)

    @property
    def queries(self) -> float:
        """Queries, or the output map, of one token."""
        return self.head * self.info.n_heads

    @property
    def mlp(self) -> float:
        """The MLP of one token."""
        return 2.0 * (3 if self.info.gated else 2) * self.info.d_model * (self.info.d_mlp or 0)

    def attention(self, start: int, heads: int) -> float:
        """Scores and sums of heads, of queries from a position on."""
        seen = sum(range(start + 1, self.tokens + 1))
        return 4.0 * self.info.d_head * heads * seen

    def layers(self, first: int, start: int) -> float:
        """All layers from ``first`` on, at the positions from ``start`` on; the last: as read."""
        n, heads, left = self.tokens - start, self.info.n_heads, self.info.n_layers - first
        if left <= 0:
            return 0.0
        whole = n * (2 * self.queries + self.keys + self.mlp) + self.attention(start, heads)
        last = n * self.keys + 2 * self.queries + self.mlp + self.attention(self.tokens - 1, heads)
        return (left - 1) * whole + last

    def run(self, site: str, layer: int, start: int) -> float:
        """One patch at ``site`` from position ``start`` on (``z``: all positions, else that one).

        In its own layer it changes queries, keys and values of that position, or what is behind the
        attention there; then all layers at all later positions.
        """
        n, last = self.tokens - start, layer == self.info.n_layers - 1
        if site == "resid_pre":
            spared = (n - 1) * (self.keys + (0 if last else self.queries))
            return self.layers(layer, start) - spared
        if last and site != "z" and n > 1:
            return 0.0
        into = {"attn_out": self.mlp, "mlp_out": 0.0}.get(site, self.head + self.mlp)
        changed = n if site == "z" and not last else 1
        return changed * into + self.layers(layer + 1, start)

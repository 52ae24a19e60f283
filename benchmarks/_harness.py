"""Time two sides of the same work, interleaved in one run, and print the row.

row      name of the row            work, peer   what is done, and by whom else
ours_s   median process CPU time    peer_s       likewise, one torch thread
ratio    peer over ours, larger is better; the median of the ratios pair by pair
max_diff largest difference of the two results, over the standard deviation of the peer's
spread   smallest and largest ratio
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np

Work = Callable[[], np.ndarray]


def compare(
    row: str, sides: tuple[Work, Work], *, work: str, peer: str, tolerance: float, rounds: int = 3
) -> None:
    """Assert that ours and the peer's results agree, then time them in turn and print the row."""
    ours, theirs = sides
    a, b = ours(), theirs()
    scale = float(b.std()) or 1.0
    max_diff = float(np.abs(a - b).max()) / scale
    if not max_diff <= tolerance:
        raise SystemExit(f"{row}: results differ by {max_diff:.3g} of their std, above {tolerance}")
    pairs = [(_cpu_s(ours), _cpu_s(theirs)) for _ in range(rounds)]
    ratios = [t / o for o, t in pairs]
    print(
        json.dumps(
            {
                "row": row,
                "work": work,
                "peer": peer,
                "ours_s": round(statistics.median(o for o, _ in pairs), 3),
                "peer_s": round(statistics.median(t for _, t in pairs), 3),
                "ratio": round(statistics.median(ratios), 3),
                "max_diff": float(f"{max_diff:.3g}"),
                "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            }
        ),
        flush=True,
    )


def _cpu_s(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start

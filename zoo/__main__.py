"""Rebuild the bundled models and the worked records: ``python -m zoo [MODEL …]``.

Prints a table at the end: loss, accuracy, seed, wall time, and whether what the cards promise
holds. The exit code is 1 if a promise is broken.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from interp.errors import InterpError
from interp.models import catalogue, facts
from zoo import records

# Longest first, so that two at a time end together.
MODELS: Final = (
    "stdlib-lm",
    "paren-balancer",
    "two-mechanisms-paren",
    "two-mechanisms-induction",
    "induction-2l",
    "mod-add",
    "enumerable-lm",
    "superposition",
    "sensor-tamper",
    "max-of-4",
    "induction-handmade",
)
AT_ONCE: Final = 2
_COLUMNS: Final = ("model", "loss", "accuracy", "seed", "wall", "promises")


def main(argv: list[str]) -> int:
    """Build the models named, or all, and then the worked records; print the table."""
    if argv[:1] == ["--one"]:
        try:
            importlib.import_module(f"zoo.{argv[1].replace('-', '_')}").main()
        except RuntimeError as error:  # a promise is broken, or the corpus is another one
            print(f"{argv[1]}: {error}", file=sys.stderr)
            return 1
        return 0
    unknown = [name for name in argv if name not in MODELS]
    if unknown:
        print(f"No model {unknown[0]!r}; there are {', '.join(MODELS)}.", file=sys.stderr)
        return 2
    wanted = [name for name in MODELS if not argv or name in argv]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        walls = dict(zip(wanted, pool.map(_build, wanted), strict=True))
    failed = [name for name, wall in walls.items() if wall is None]
    if not failed:
        records.main()
    rows = [_row(name, wall) for name, wall in walls.items()]
    widths = [max(len(row[i]) for row in (_COLUMNS, *rows)) for i in range(len(_COLUMNS))]
    for row in (_COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    return int(bool(failed) or any("broken" in row[-1] for row in rows))


def _build(name: str) -> float | None:
    """Build one model in a process of its own; return its seconds, or None if it failed."""
    began = time.perf_counter()
    print(f"{name}: building", flush=True)
    done = subprocess.run([sys.executable, "-m", "zoo", "--one", name], check=False)
    wall = time.perf_counter() - began
    print(f"{name}: {'done' if done.returncode == 0 else 'failed'} in {wall:.0f} s", flush=True)
    return wall if done.returncode == 0 else None


def _row(name: str, wall: float | None) -> tuple[str, ...]:
    if wall is None:
        return (name, "", "", "", "", "broken: it was not built")
    try:
        card = catalogue.card(name).facts
    except (InterpError, OSError) as error:
        return (name, "", "", "", f"{wall:.0f} s", f"broken: {error}")
    measured: dict[str, Any] = card.get("measured", {})
    return (
        name,
        _number(measured.get("loss_nats"), " nats"),
        _number(measured.get("accuracy"), ""),
        str(card["seed"]),
        f"{wall:.0f} s",
        _promises(card["facts"]),
    )


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g}{unit}"


def _promises(every: list[dict[str, Any]]) -> str:
    promised = [fact for fact in every if facts.is_promise(fact)]
    broken = [fact["claim"] for fact in promised if not facts.holds(fact)]
    return f"broken: {'; '.join(broken)}" if broken else f"all {len(promised)} hold"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Rebuild the bundled models and the worked records: ``python -m zoo [MODEL]``."""

from __future__ import annotations

import sys

from zoo import induction_handmade, paren_balancer, records

BUILD = {
    "induction-handmade": induction_handmade.main,
    "paren-balancer": paren_balancer.main,
}


def main(argv: list[str]) -> int:
    """Build the models named, or all, and then the worked records."""
    unknown = [name for name in argv if name not in BUILD]
    if unknown:
        print(f"No model {unknown[0]!r}; there are {', '.join(BUILD)}.", file=sys.stderr)
        return 2
    for name in argv or BUILD:
        print(f"building {name}")
        BUILD[name]()
    records.main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

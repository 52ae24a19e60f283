"""One sentence a term, read from ``docs/glossary.md``, shown as a tooltip."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "docs" / "glossary.md"


@lru_cache(maxsize=1)
def terms() -> dict[str, str]:
    """Return the sentence of each term."""
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", _FILE.read_text(), flags=re.MULTILINE)
    return dict(found)


def tip(term: str) -> str | None:
    """Return the sentence of a term, or None."""
    return terms().get(term)

"""Country and capital: "We know that the capital of France is" is followed by Paris."""

from __future__ import annotations

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors.templates import Made
from interp.behaviors.words import CAPITALS
from interp.models.info import ModelInfo

TEMPLATES = (
    "We know that the capital of {country} is",
    "They said that the capital of {country} is",
    "She wrote that the capital of {country} is",
    "He learned that the capital of {country} is",
    "You read that the capital of {country} is",
    "I believe that the capital of {country} is",
)


def capitals(model: ModelInfo) -> Made:
    """Make pairs that differ in the country; the foil is the capital of the corrupted one."""
    known = templates.choose("country-capital", model, "countries with their capitals", CAPITALS)
    filled = [t.format(country=known.words[0]) for t in TEMPLATES]
    kept = templates.same_length(model, TEMPLATES, filled)
    pairs: list[PromptPair] = []
    n = len(known)
    for which, first, second in templates.combinations(34, len(kept), n, n - 1):
        (country, capital), (another, foil) = (
            known.kept[first],
            known.kept[second + (second >= first)],
        )
        clean, corrupted = (kept[which].format(country=name) for name in (country, another))
        pairs.append(PromptPair(clean, corrupted, f" {capital}", f" {foil}"))
    used = f"{len(kept)} of {len(TEMPLATES)}"
    return Made(tuple(pairs), templates.note(model, [known], used))

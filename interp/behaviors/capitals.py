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
    """Make pairs that differ in the country; the foil is the capital of the corrupted one.

    A country is only ever corrupted into one other, and that one into it.
    """
    known = templates.choose("country-capital", model, "countries with their capitals", CAPITALS)
    filled = [t.format(country=known.words[0]) for t in TEMPLATES]
    kept = templates.same_length(model, TEMPLATES, filled)
    couples = templates.groups(34, known.kept, 2)

    def draw(half: int) -> list[tuple[int, PromptPair]]:
        pairs: list[tuple[int, PromptPair]] = []
        size = len(couples[half::2])
        for which, of, turned in templates.combinations(34, half, len(kept), size, 2):
            number = 2 * of + half
            couple = couples[number][::-1] if turned else couples[number]
            (country, capital), (another, foil) = couple
            clean, corrupted = (kept[which].format(country=name) for name in (country, another))
            pairs.append((number, PromptPair(clean, corrupted, f" {capital}", f" {foil}")))
        return pairs

    said = templates.note(model, [known], f"{len(kept)} of {len(TEMPLATES)}")
    return templates.both_halves(
        draw,
        f"{said} Countries go in {len(couples)} couples, of which every second is held out; "
        "intervals count couples: they are for new countries in the same sentences.",
    )

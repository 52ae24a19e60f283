"""Pronoun resolution: "When Mary left the house," is followed by she, with John by he."""

from __future__ import annotations

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors.templates import Made
from interp.behaviors.words import BUILDINGS, MEN, WOMEN
from interp.models.info import ModelInfo

TEMPLATES = (
    "When {name} left the {place},",
    "After {name} saw the {place},",
    "Before {name} entered the {place},",
    "While {name} cleaned the {place},",
    "Because {name} liked the {place},",
    "Once {name} reached the {place},",
)
PRONOUNS = (" she", " he")


def pronouns(model: ModelInfo) -> Made:
    """Make pairs that differ in one first name.

    The answer is the pronoun that goes with the clean name, the foil the one that goes with the
    corrupted name; the clean name is a woman's in half of the pairs on average. A name is only
    ever corrupted into one other, and that one into it.
    """
    lists = [
        templates.choose("gender", model, what, words)
        for what, words in (("women's names", WOMEN), ("men's names", MEN), ("places", BUILDINGS))
    ]
    women, men, places = lists
    if not all(templates.is_one_token(model, pronoun.strip()) for pronoun in PRONOUNS):
        raise templates.too_few("gender", model, "parts of the pronouns", PRONOUNS[0])
    filled = [t.format(name=women.words[0], place=places.words[0]) for t in TEMPLATES]
    kept = templates.same_length(model, TEMPLATES, filled)
    matched = zip(*(_shuffled(words.words) for words in (women, men)), strict=False)
    couples = list(matched)

    def draw(half: int) -> list[tuple[int, PromptPair]]:
        pairs: list[tuple[int, PromptPair]] = []
        mine = places.words[half::2]
        sizes = (len(kept), len(couples[half::2]), len(mine), 2)
        for which, of, at, first in templates.combinations(33, half, *sizes):
            number = 2 * of + half
            names = couples[number] if first else couples[number][::-1]
            clean, corrupted = (kept[which].format(name=name, place=mine[at]) for name in names)
            answers = PRONOUNS if first else PRONOUNS[::-1]
            pairs.append((number, PromptPair(clean, corrupted, *answers)))
        return pairs

    said = templates.note(model, lists, f"{len(kept)} of {len(TEMPLATES)}")
    return templates.both_halves(
        draw,
        f"{said} Names go in {len(couples)} couples, of which every second is held out, with other "
        "places; intervals count couples: they are for new names in the same sentences and places.",
    )


def _shuffled(names: tuple[str, ...]) -> list[str]:
    return [name for (name,) in templates.groups(33, names, 1)]

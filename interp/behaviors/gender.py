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
    corrupted name; the clean name is a woman's in half of the pairs on average.
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
    pairs: list[PromptPair] = []
    for which, woman, man, at, first in templates.combinations(
        33, len(kept), len(women), len(men), len(places), 2
    ):
        names = (women.words[woman], men.words[man])
        clean, corrupted = (
            kept[which].format(name=name, place=places.words[at])
            for name in (names if first else names[::-1])
        )
        answers = PRONOUNS if first else PRONOUNS[::-1]
        pairs.append(PromptPair(clean, corrupted, *answers))
    used = f"{len(kept)} of {len(TEMPLATES)}"
    return Made(tuple(pairs), templates.note(model, lists, used))

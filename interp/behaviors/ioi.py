"""Indirect object identification: "… Ann and Bob …, Bob gave a pen to" is followed by Ann."""

from __future__ import annotations

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors.templates import Made
from interp.behaviors.words import NAMES, OBJECTS, PLACES
from interp.models.info import ModelInfo

# One role a position: names at the second and fourth word, the subject again at the ninth.
TEMPLATES = (
    "After {a} and {b} came to the {place}, {s} handed a {thing} to",
    "While {a} and {b} stayed at the {place}, {s} gave a {thing} to",
    "Once {a} and {b} arrived at the {place}, {s} offered a {thing} to",
    "As {a} and {b} walked to the {place}, {s} passed a {thing} to",
    "Because {a} and {b} met at the {place}, {s} brought a {thing} to",
    "Before {a} and {b} went to the {place}, {s} sold a {thing} to",
)


def swapped_subject(model: ModelInfo) -> Made:
    """Make pairs that differ in the second mention of the subject alone (S2).

    Clean: two names, of which one, the subject, then gives something; the answer is the other
    one, the foil the subject. Corrupted: the other name gives, so answer and foil change places.
    The subject is the first name in half of the pairs on average.
    """
    return _make("ioi", model, seed=31, fresh=0)


def other_names(model: ModelInfo) -> Made:
    """Make pairs whose corrupted prompt has three other names, all different ("ABC").

    Neither the answer nor the foil occurs in it.
    """
    return _make("ioi-abc", model, seed=32, fresh=3)


def _make(behavior: str, model: ModelInfo, *, seed: int, fresh: int) -> Made:
    """Make pairs whose corrupted prompt has ``fresh`` names of its own: three, or none (S2).

    All names of a pair are of one group, whose names occur together only.
    """
    names = templates.choose(
        behavior, model, "first names", NAMES, fewest=max(templates.FEWEST, 2 * (2 + fresh))
    )
    places = templates.choose(behavior, model, "places", PLACES)
    things = templates.choose(behavior, model, "objects", OBJECTS)
    slots = {"place": places.words[0], "thing": things.words[0]}
    a, b = names.words[:2]
    filled = [template.format(a=a, b=b, s=b, **slots) for template in TEMPLATES]
    kept = templates.same_length(model, TEMPLATES, filled)
    groups = templates.groups(seed, names.words, 2 + fresh)

    def draw(half: int) -> list[tuple[int, PromptPair]]:
        pairs: list[tuple[int, PromptPair]] = []
        where, what = places.words[half::2], things.words[half::2]
        sizes = (len(kept), 2, len(where), len(what), len(groups[half::2]))
        for which, first, at, of, group, *chosen in templates.combinations(
            seed, half, *sizes, *range(2 + fresh, 0, -1)
        ):
            number = 2 * group + half
            a, b, *others = templates.different(groups[number], *chosen)
            subject, answer = (a, b) if first else (b, a)
            slots = {"place": where[at], "thing": what[of]}
            clean = kept[which].format(a=a, b=b, s=subject, **slots)
            a, b, s = others if fresh else (a, b, answer)
            corrupted = kept[which].format(a=a, b=b, s=s, **slots)
            pairs.append((number, PromptPair(clean, corrupted, f" {answer}", f" {subject}")))
        return pairs

    said = templates.note(model, [names, places, things], f"{len(kept)} of {len(TEMPLATES)}")
    return templates.both_halves(
        draw,
        f"{said} Names go in {len(groups)} groups of {2 + fresh}, of which every second is held "
        "out, with other places and objects; intervals count groups: they are for new names in the "
        "same sentences, places and objects.",
    )

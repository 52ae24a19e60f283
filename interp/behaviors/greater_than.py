"""Greater-than: "The war lasted from the year 1732 to the year 17" is followed by more than 32.

A metric here follows one answer, and any later year is right. So one later and one earlier year
stand for all: the answer is ten years after the start, the foil ten years before it. They have the
same last digit as the start, so that a taste for round years favours neither. Tokenizers of single
digits read the tens digit in the same place: 4 after 1732, against 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors.templates import Made
from interp.behaviors.words import EVENTS
from interp.models import tokens
from interp.models.info import ModelInfo

TEMPLATE = "The {event} lasted from the year {century}{year} to the year {century}"
CENTURIES = tuple(range(11, 18))
YEARS = tuple(range(12, 89))
APART = 10
"""Years from the start to the answer, and back to the foil."""
NO_BOUND = "01"
"""Two last digits of the corrupted start year: after it nearly every year is a right end."""
_BEFORE = "from the year"


@dataclass(frozen=True)
class Start:
    """A century and a start year in it, with answer and foil as tokens."""

    century: int
    year: int
    answer: str
    foil: str


def later_years(model: ModelInfo) -> Made:
    """Make pairs whose corrupted prompt starts in the year 01 of the same century.

    There the foil's year is no longer too early, so the difference between the two shrinks.

    Source: Hanna, Liu & Variengien, "How does GPT-2 compute greater-than?" (2023), whose metric
    sums over all years; we follow one on each side.
    """
    events = templates.choose("greater-than", model, "events", EVENTS)
    starts = _starts(model)
    proposed = len(CENTURIES) * len(YEARS)
    remain = f"{len(starts)} of {proposed} start years"
    # A year shares its last digit with its answer and foil, so years of odd and of even numbers
    # have no year in common.
    halves = [[start for start in starts if start.year % 2 == half] for half in (0, 1)]
    if len(starts) < templates.FEWEST or not all(halves):
        raise templates.too_few("greater-than", model, remain, f" {CENTURIES[-1]}{32}")

    def draw(half: int) -> list[tuple[int, PromptPair]]:
        pairs: list[tuple[int, PromptPair]] = []
        mine = events.words[half::2]
        for at, of in templates.combinations(35, half, len(halves[half]), len(mine)):
            start = halves[half][at]
            fill = partial(TEMPLATE.format, event=mine[of], century=start.century)
            prompts = fill(year=start.year), fill(year=NO_BOUND)
            pairs.append((start.year, PromptPair(*prompts, start.answer, start.foil)))
        return pairs

    return templates.both_halves(
        draw,
        f"{templates.note(model, [events])} {remain[0].upper()}{remain[1:]} line up. Odd years are "
        "held out, with other events; intervals count the two last digits of the start year: they "
        "are for new years in the same sentence, centuries and events.",
    )


def _starts(model: ModelInfo) -> list[Start]:
    """List the start years that are cut as the corrupted one is, with answer and foil one token."""
    found: list[Start] = []
    for century in CENTURIES:
        after = {year: _after(model, century, year) for year in range(1, 100)}
        for year in YEARS:
            around = [after[y] for y in (year, 1, year + APART, year - APART)]
            lengths = {len(cut) for cut in around}
            if lengths == {0} or len(lengths) > 1:
                continue
            answer, foil = around[2][0], around[3][0]
            if answer != foil:
                found.append(Start(century, year, answer, foil))
    return found


def _after(model: ModelInfo, century: int, year: int) -> tuple[str, ...]:
    """Return the tokens of the two last digits; none where they melt with those of the century."""
    before = tokens.encode(model, f"{_BEFORE} {century}").ids
    whole = tokens.encode(model, f"{_BEFORE} {century}{year:02d}")
    after = whole.texts[len(before) :]
    apart = whole.ids[: len(before)] == before
    # The first of them is what is answered: its text must stand for that token and no other.
    return after if apart and tokens.answer_id(model, after[0]) == whole.ids[len(before)] else ()

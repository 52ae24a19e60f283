"""Words that templates are filled with: proposals, of which a tokenizer leaves some whole.

The first names are common English ones. That a name goes with a pronoun is what a language model
has learned from text; it says nothing about a person of that name.
"""

from __future__ import annotations


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


WOMEN = _list(
    "Mary Anna Alice Emma Laura Sarah Susan Karen Linda Lisa Nancy Betty Helen Sandra Donna Carol "
    "Ruth Sharon Michelle Deborah Jessica Jennifer Amanda Melissa Rebecca Julia Victoria Maria "
    "Diana Rachel Emily Hannah Olivia Sophia Grace Rose Claire Jane Kate Amy Elizabeth Margaret "
    "Barbara Patricia Catherine Charlotte Martha Lucy Ellen Heather"
)
MEN = _list(
    "John James Robert Michael William David Richard Thomas Charles Daniel Matthew Anthony Mark "
    "Paul Steven Andrew Kenneth George Kevin Brian Edward Ronald Timothy Jason Jeffrey Ryan Jacob "
    "Gary Eric Jonathan Stephen Larry Scott Frank Benjamin Samuel Gregory Patrick Peter Jack Henry "
    "Adam Nathan Simon Arthur Philip Roger Bruce Carl Victor"
)
NAMES = tuple(name for pair in zip(WOMEN, MEN, strict=True) for name in pair)
PLACES = _list(
    "park school office garden station market church library museum hospital beach farm hotel "
    "bank river bridge restaurant theater village gym shop castle harbor forest"
)
OBJECTS = _list(
    "ring book pen hat letter gift card coin key map ticket cup photo lamp rope basket ball "
    "bottle box flower watch knife painting sandwich"
)
BUILDINGS = _list(
    "house room kitchen office garden school church library museum hotel shop theater castle "
    "station hospital restaurant factory tower palace cabin"
)
EVENTS = _list(
    "war siege conflict campaign rebellion alliance truce partnership project study journey "
    "voyage expedition dispute investigation mission occupation plague drought famine strike "
    "debate trial reform revolution rivalry"
)
CAPITALS = (
    ("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"),
    ("Portugal", "Lisbon"), ("England", "London"), ("Ireland", "Dublin"), ("Norway", "Oslo"),
    ("Sweden", "Stockholm"), ("Finland", "Helsinki"), ("Denmark", "Copenhagen"),
    ("Austria", "Vienna"), ("Hungary", "Budapest"), ("Poland", "Warsaw"), ("Greece", "Athens"),
    ("Romania", "Bucharest"), ("Bulgaria", "Sofia"), ("Serbia", "Belgrade"),
    ("Croatia", "Zagreb"), ("Belgium", "Brussels"), ("Ukraine", "Kyiv"), ("Russia", "Moscow"),
    ("Turkey", "Ankara"), ("Japan", "Tokyo"), ("China", "Beijing"), ("Thailand", "Bangkok"),
    ("Vietnam", "Hanoi"), ("Afghanistan", "Kabul"), ("Iran", "Tehran"), ("Iraq", "Baghdad"),
    ("Syria", "Damascus"), ("Lebanon", "Beirut"), ("Qatar", "Doha"), ("Egypt", "Cairo"),
    ("Libya", "Tripoli"), ("Kenya", "Nairobi"), ("Ghana", "Accra"), ("Canada", "Ottawa"),
    ("Cuba", "Havana"), ("Peru", "Lima"), ("Chile", "Santiago"), ("Australia", "Canberra"),
)  # fmt: skip

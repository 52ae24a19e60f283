"""The behaviors that come with the app, by name: one task per file, this one only names them.

Those of a bundled model are made of its own alphabet; templates are made of English words for any
model that answers with tokens. All are deterministic: the first ``n`` pairs of a larger request are
the pairs of a smaller one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from interp.behaviors import (
    balance,
    capitals,
    enumerable,
    gender,
    greater_than,
    induction,
    ioi,
    kept,
    maximum,
    modular,
    repeats,
    source,
    sparse_features,
    tampering,
    two_mechanisms,
)
from interp.behaviors._record import Behavior
from interp.behaviors._source import BuiltIn, make
from interp.behaviors.templates import MOST, Made
from interp.behaviors.typed import from_pairs
from interp.errors import BadInput, UnknownName
from interp.models import catalogue
from interp.models.info import ModelInfo

BUILT_IN = {
    "paren-near-misses": BuiltIn(
        "Balanced strings of 16 parentheses against the same string with one parenthesis "
        "turned over, at places spread over the string.",
        lambda model: Made(tuple(balance.near_misses(MOST))),
        model="paren-balancer",
        features=balance.FEATURES,
    ),
    "paren-exchanges": BuiltIn(
        "Balanced strings of 16 parentheses against the same string with a ( and a ) exchanged so "
        "that it is unbalanced although the counts are equal: what is lost is the horizon alone.",
        lambda model: Made(tuple(balance.exchanges(MOST))),
        model="paren-balancer",
        features=balance.FEATURES,
    ),
    "induction-first-cue": BuiltIn(
        "Ten different letters and the third one again; corrupted: the third letter's first "
        "occurrence is another letter, so that there is nothing to copy after.",
        lambda model: Made(tuple(induction.first_cue(MOST))),
        model="induction-handmade",
        features={
            "induced letter": lambda pair: ord(pair.answer) - ord("a"),
            "cue": lambda pair: ord(pair.clean[-1]) - ord("a"),
        },
    ),
    "ioi": BuiltIn(
        "Indirect object identification: two names, of which one then gives something; answer: "
        "the other name, foil: the giver. Corrupted: the giver's second mention is the other "
        "name, so that answer and foil change places.",
        ioi.swapped_subject,
        paper="Wang et al. (2022), Interpretability in the wild, arXiv:2211.00593",
    ),
    "ioi-abc": BuiltIn(
        "Indirect object identification, as in ioi; corrupted: three other names, all different, "
        "so that neither answer nor foil is named.",
        ioi.other_names,
        paper="Wang et al. (2022), Interpretability in the wild, arXiv:2211.00593",
    ),
    "greater-than": BuiltIn(
        "An event lasts from one year of a century to a later one; answer: ten years after the "
        "start, foil: ten years before it. Corrupted: it starts in the year 01 of that century, "
        "so that the foil is no longer too early.",
        greater_than.later_years,
        paper="Hanna et al. (2023), How does GPT-2 compute greater-than?, arXiv:2305.00586",
    ),
    "gender": BuiltIn(
        "A sentence begins with a first name; answer: the pronoun (she or he) that goes with it, "
        "foil: the other one. Corrupted: a name that goes with the other pronoun.",
        gender.pronouns,
        paper="Mathwin et al. (2023), Identifying a preliminary circuit for predicting gendered "
        "pronouns in GPT-2 small",
    ),
    "country-capital": BuiltIn(
        "A sentence asks for the capital of a country; answer: that capital. Corrupted: another "
        "country, whose capital is the foil.",
        capitals.capitals,
    ),
    **enumerable.BEHAVIORS,
    **maximum.BEHAVIORS,
    **modular.BEHAVIORS,
    **repeats.BEHAVIORS,
    **source.BEHAVIORS,
    **sparse_features.BEHAVIORS,
    **tampering.BEHAVIORS,
    **two_mechanisms.BEHAVIORS,
}


def for_model(model: str) -> tuple[str, ...]:
    """List the names of the behaviors that can be asked of ``model``.

    A template may still be refused when it is made, by a tokenizer that splits its words.

    Cost: none worth a thought; the tokenizer is not opened.
    """
    info = catalogue.info(model)
    return tuple(name for name, source in BUILT_IN.items() if source.suits(info))


def all_pairs(name: str, model: str) -> Made:
    """Make every pair of the built-in behavior ``name`` for ``model``, and say of which fillers.

    Raises:
        UnknownName: There is no such behavior.
        BadInput: It is made for another model, or the tokenizer splits too many of its words.

    Cost: cuts some hundred words into tokens, once for each model's weights.
    """
    found = kept.get(name)
    if found is not None:
        return Made(found.pairs)
    if name not in BUILT_IN:
        raise UnknownName.of("behavior", name, (*BUILT_IN, *kept.names()))
    source, info = BUILT_IN[name], catalogue.info(model)
    if not source.suits(info):
        found = f"Its tokens are those of {source.model}."
        if not source.model:
            found = f"It is made of English words, which {model} does not answer with."
        raise BadInput(
            f"The behavior {name!r} was asked of {model}.",
            found,
            "Choose that model, or type pairs." if source.model else "Type pairs.",
        )
    return make(source.make, info)


def built_in(name: str, n: int, model: str) -> Behavior:
    """Make the built-in behavior ``name`` with ``n`` pairs for ``model``.

    Raises:
        UnknownName: There is no such behavior.
        BadInput: It cannot make so many pairs, or none for this model.
    """
    made = all_pairs(name, model)
    if not 1 <= n <= len(made.pairs):
        raise BadInput(
            f"{n} pairs of {name} were asked for.", f"It makes 1 to {len(made.pairs):,}."
        )
    return _built_in(name, n, catalogue.info(model), made)


@lru_cache(maxsize=32)
def _built_in(name: str, n: int, model: ModelInfo, made: Made) -> Behavior:
    about = BUILT_IN[name].summary if name in BUILT_IN else "Brought as a table."
    said = " ".join(filter(None, (about, made.note)))
    pairs = made.pairs[:n]
    behavior = from_pairs(model.name, pairs, name=name, source=said, clusters=made.clusters[:n])
    features = BUILT_IN[name].features if name in BUILT_IN else {}
    values = tuple((said, tuple(int(of(p)) for p in pairs)) for said, of in features.items())
    return replace(behavior, features=values)

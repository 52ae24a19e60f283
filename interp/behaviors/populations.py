"""Populations: distributions of single inputs, by name, for methods that exchange inputs at random.

An input here has no corrupted partner. Draws are independent wherever a summary does not say that
each input comes once: the same input may come several times, as the distribution has it. Every
built-in behavior serves as well, by its clean prompts. All are deterministic: the first ``n``
inputs of a larger request are those of a smaller one.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from interp.behaviors import (
    _population_letters,
    _population_numbers,
    _population_parens,
    _two_induction,
    _two_parens,
    kept,
    modular,
    parens,
)
from interp.behaviors._population_record import Drawn, Population
from interp.behaviors._record import Behavior, PromptPair
from interp.behaviors.built_in import BUILT_IN, all_pairs, built_in
from interp.behaviors.built_in import for_model as behaviors_for
from interp.errors import BadInput, UnknownName
from interp.models import catalogue, tokens
from interp.models.info import ModelInfo

__all__ = ["POPULATIONS", "Drawn", "Population", "for_model", "population", "token_names"]

POPULATIONS: Final[Mapping[str, Population]] = {
    one.name: one
    for one in (
        *_population_parens.POPULATIONS,
        *_population_letters.POPULATIONS,
        *_population_numbers.POPULATIONS,
    )
}

_SPECIAL: Final = ("START", "END", "PAD", "BOS")
_NAMED_LETTERS: Final = 100
"""Tokens of a vocabulary up to which each letter has a name."""
_PARENS: Final = {"OPEN": parens.OPEN, "CLOSE": parens.CLOSE}
_BUILT_IN_NAMES: Final[dict[str, dict[str, str]]] = {
    "paren-balancer": _PARENS,
    _two_parens.MODEL: {**_PARENS, "MARKER": _two_parens.MARKER},
    _two_induction.MODEL: {"MARKER": _two_induction.MARKER},
    "mod-add": {"EQUALS": modular.EQUALS},
}
"""Constants for the built-in behaviors of a model."""


def for_model(model: str) -> tuple[str, ...]:
    """List the populations made for ``model``, then the built-in behaviors that serve as one.

    As there, a template may still be refused when it is made, by a tokenizer that splits its words.
    """
    base = catalogue.info(model).base
    own = tuple(name for name, one in POPULATIONS.items() if base in one.models)
    return own + behaviors_for(model)


def population(name: str, n: int, model: str) -> Behavior:
    """Draw the first ``n`` inputs of a population, or of a built-in behavior's clean prompts.

    An input may come several times, as independent draws do. Half is held out, and copies of one
    input are in the same half: every second input, or where some come several times, about half of
    the draws of each answer and of each value of the features that are 0 or 1. Of a built-in
    behavior it is what that holds out; its features are there by their own name and by one made an
    identifier. Where all its clean prompts have one answer of two classes, the corrupted ones stand
    behind them, with the other answer: ``2 n`` inputs, among which there is something to tell.

    Raises:
        UnknownName: There is no such population and no such behavior.
        BadInput: It is made for another model, or does not make so many inputs.

    Cost: cuts every different input into tokens once; 0.4 s for 4,000 strings of parentheses.
    """
    info = catalogue.info(model)
    found = _find(name, info)
    if found is None:
        return _as_population(built_in(name, n, model), name, n)
    if not 1 <= n <= found.most:
        raise BadInput(f"{n} inputs of {name} were asked for.", f"It makes 1 to {found.most:,}.")
    return _drawn(name, n, info)


def most(name: str, model: str) -> int:
    """Return how many inputs a population makes at most, or pairs a behavior that serves as one.

    Raises:
        UnknownName: There is no such population and no such behavior.
        BadInput: It is made for another model.
    """
    found = _find(name, catalogue.info(model))
    return len(all_pairs(name, model).pairs) if found is None else found.most


def token_names(name: str, model: str) -> dict[str, int]:
    """Return the constants for expressions over a population: the name, and the token id.

    Beside those of the population there are START, END, PAD and BOS where the vocabulary has them,
    and in a small vocabulary of characters each letter by itself and each digit as ``digit_0``.

    Raises:
        UnknownName: There is no such population and no such behavior.
        BadInput: It is made for another model.
    """
    info = catalogue.info(model)
    found = _find(name, info)
    named = found.names if found is not None else _BUILT_IN_NAMES.get(info.base, {})
    known = tokens.vocabulary_of(info)
    ids = {text: token for text, token in known.ids.items() if token < info.d_vocab}
    constants = {constant: ids[text] for constant, text in named.items()}
    for special in sorted(known.specials & set(ids.values())):
        plain = re.sub(r"\W", "", known.text(special)).upper()
        if plain in _SPECIAL:
            constants[plain] = special
    if info.bos is not None:
        constants["BOS"] = info.bos
    if tokens.is_spelled(info) and len(ids) <= _NAMED_LETTERS:
        characters = (text for text in ids if len(text) == 1 and text.isascii())
        constants |= {_letter(text): ids[text] for text in characters if text.isalnum()}
    return constants


def meaning(name: str, feature: str) -> str:
    """Say what the values of a population's feature are; empty where its name says all."""
    found = POPULATIONS.get(name)
    return "" if found is None else found.meanings.get(feature, "")


def _letter(character: str) -> str:
    return f"digit_{character}" if character.isdigit() else character


def _find(name: str, info: ModelInfo) -> Population | None:
    """Return the population of this name, None for a behavior that serves as one."""
    found = POPULATIONS.get(name)
    if found is not None and info.base not in found.models:
        works = " or ".join(found.models)
        others = ", ".join(for_model(info.name))
        raise BadInput(
            f"The population {name!r} was asked of {info.name}.",
            f"Its tokens are those of {works}.",
            f"Choose that model, or one of: {others}." if others else "Choose that model.",
        )
    if found is None and name not in BUILT_IN and name not in kept.names():
        every = (*POPULATIONS, *BUILT_IN, *kept.names())
        raise UnknownName.of("population", name, every)
    if found is None:
        all_pairs(name, info.name)
    return found


@lru_cache(maxsize=32)
def _drawn(name: str, n: int, info: ModelInfo) -> Behavior:
    found = POPULATIONS[name]
    drawn = found.draw(n)
    halves = tuple(one.text in _held_out(name) for one in drawn)
    ids = {text: tokens.encode(info, text).ids for text in {one.text: None for one in drawn}}
    outputs = {
        text: tokens.answer_id(info, text)
        for text in {said for one in drawn for said in (one.answer, one.foil)} - {""}
    }
    return Behavior(
        model=info.name,
        name=name,
        source=found.summary,
        space=info.answers.space,
        read=info.answers.read,
        clean=tuple(ids[one.text] for one in drawn),
        answers=tuple(outputs[one.answer] for one in drawn),
        foils=tuple(outputs.get(one.foil, -1) for one in drawn),
        held_out=halves if len(set(halves)) == 2 else (),
        features=tuple(
            (said, tuple(values[one.text] for one in drawn))
            for said, values in _features(name).items()
        ),
    )


@lru_cache(maxsize=16)
def _held_out(name: str) -> frozenset[str]:
    """Part all that a population makes: a text's half does not depend on how many are drawn.

    Where inputs come several times, each goes to the half with fewer draws of its kind, the most
    frequent first: "()" alone may be a tenth of all, and halves by turns would differ in shares.
    """
    found = POPULATIONS[name]
    drawn = found.draw(found.most)
    copies = Counter(one.text for one in drawn)
    if len(copies) == len(drawn):
        return frozenset(one.text for one in drawn[1::2])
    answers = {one.text: one.answer for one in drawn}
    yes_or_no = [one for one in _features(name).values() if set(one.values()) <= {0, 1}]
    searched, kept_back = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
    held: set[str] = set()
    for text, count in copies.most_common():
        kind = (answers[text], *(values[text] for values in yes_or_no))
        if kept_back[kind] < searched[kind]:
            kept_back[kind] += count
            held.add(text)
        else:
            searched[kind] += count
    return frozenset(held)


@lru_cache(maxsize=16)
def _features(name: str) -> dict[str, dict[str, int]]:
    """Return the value of each feature on every text that a population makes."""
    found = POPULATIONS[name]
    texts = {one.text: None for one in found.draw(found.most)}
    return {said: {text: of(text) for text in texts} for said, of in found.features.items()}


@lru_cache(maxsize=32)
def _as_population(behavior: Behavior, name: str, n: int) -> Behavior:
    """Take the clean prompts, and give every feature a name that expressions can use too."""
    classes = behavior.space == "classes" and min(behavior.foils, default=-1) >= 0
    if classes and len(set(behavior.answers)) == 1 and behavior.corrupted:
        behavior = _with_partners(behavior, name, n)
        source = f"{behavior.source} Here the corrupted prompts are inputs too."
    else:
        source = f"{behavior.source} Here without the corrupted prompts."
    features: dict[str, tuple[int, ...]] = {}
    for said, values in behavior.features:
        features[_identifier(said)] = values
        features[said] = values
    return replace(behavior, source=source, corrupted=(), features=tuple(features.items()))


def _with_partners(behavior: Behavior, name: str, n: int) -> Behavior:
    """Put the corrupted prompts behind the clean ones, each in its partner's half."""
    pairs = all_pairs(name, behavior.model).pairs[:n]
    turned = [PromptPair(one.corrupted, one.clean, one.foil, one.answer) for one in pairs]
    of = BUILT_IN[name].features if name in BUILT_IN else {}
    return behavior.both_sides(
        tuple(
            (said, values + tuple(int(of[said](one)) for one in turned))
            for said, values in behavior.features
        )
    )


def _identifier(said: str) -> str:
    """Make an identifier of a feature's name: "deepest nesting" gives ``deepest_nesting``."""
    made = re.sub(r"\W+", "_", said).strip("_")
    if not made.isidentifier() or keyword.iskeyword(made):
        made = f"the_{made}"
    return made

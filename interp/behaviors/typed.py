"""Behaviors from what a person typed, with every check that needs no model run."""

from __future__ import annotations

from collections.abc import Sequence

from interp.behaviors._record import Behavior, PromptPair
from interp.errors import BadInput, UnequalPair
from interp.models import catalogue, tokens
from interp.models.info import ModelInfo


def from_prompt(model: str, prompt: str, answer: str = "") -> Behavior:
    """Make the behavior "what does the model say after this prompt?".

    Args:
        model: Name of a model of the catalogue.
        prompt: Text.
        answer: Output to follow, or empty.

    Raises:
        BadInput: The prompt is empty, too long, or has a character without a token.
    """
    info = catalogue.info(model)
    if not prompt:
        raise BadInput("The prompt is empty.", "", f"Type some of: {tokens.alphabet(info)}.")
    return Behavior(
        model=model,
        name="typed prompt",
        source="typed",
        space=info.answers.space,
        read=info.answers.read,
        clean=(tokens.encode(info, prompt).ids,),
        answers=(tokens.answer_id(info, answer),) if answer else (),
    )


def from_pairs(
    model: str, pairs: Sequence[PromptPair], *, name: str = "typed pairs", source: str = "typed"
) -> Behavior:
    """Make a behavior of prompt pairs whose tokens line up.

    From 4 different clean prompts on, every second one is held out.

    Raises:
        UnequalPair: A pair differs in length, or not at all.
        BadInput: There is no pair, or a prompt or an answer that the model cannot read or give.
    """
    info = catalogue.info(model)
    if not pairs:
        raise BadInput(
            "No prompt pair was given.",
            "Patching needs a clean and a corrupted prompt.",
            "Type one of each, of equal length.",
        )
    twice = next((p for i, p in enumerate(pairs) if p in pairs[:i]), None)
    if twice is not None:
        raise BadInput(
            f"The pair {twice.clean!r}, {twice.corrupted!r} is given twice.",
            "Pairs count as independent: one that is repeated would make intervals too narrow.",
            "Remove the copy.",
        )
    clean, corrupted, answers, foils = zip(*(_check(info, p) for p in pairs), strict=True)
    return Behavior(
        model=model,
        name=name,
        source=source,
        space=info.answers.space,
        read=info.answers.read,
        clean=clean,
        corrupted=corrupted,
        answers=answers,
        foils=foils,
        held_out=_held_out(clean),
    )


def _held_out(clean: Sequence[tuple[int, ...]]) -> tuple[bool, ...]:
    """Hold out every second prompt; pairs that share a clean prompt are on the same side."""
    order = {ids: i for i, ids in enumerate(dict.fromkeys(clean))}
    return tuple(order[ids] % 2 == 1 for ids in clean) if len(order) >= 4 else ()


def _check(info: ModelInfo, pair: PromptPair) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    for which, text in (("clean", pair.clean), ("corrupted", pair.corrupted)):
        if not text:
            raise BadInput(
                f"The {which} prompt is empty.",
                "",
                "Type it: both prompts of a pair have the same length and differ where it matters.",
            )
    clean, corrupted = tokens.encode(info, pair.clean), tokens.encode(info, pair.corrupted)
    if len(clean) != len(corrupted):
        raise UnequalPair(
            "A pair must line up token by token.",
            f"Clean {pair.clean!r} has {len(clean)} tokens, "
            f"corrupted {pair.corrupted!r} has {len(corrupted)}.",
            "Lengthen the shorter one, or replace tokens instead of adding or removing them.",
        )
    if clean.ids == corrupted.ids:
        raise UnequalPair(
            "Clean and corrupted must differ.",
            f"Both are {pair.clean!r}.",
            "Change at least one token of the corrupted prompt.",
        )
    if not pair.answer:
        raise BadInput(
            f"The pair {pair.clean!r} has no answer.",
            "A metric needs to know which output to follow.",
            "Type the output that the clean prompt should give.",
        )
    if pair.answer == pair.foil:
        raise BadInput(
            f"Answer and foil are both {pair.answer!r}.", "", "Choose two different outputs."
        )
    foil = tokens.answer_id(info, pair.foil) if pair.foil else -1
    return clean.ids, corrupted.ids, tokens.answer_id(info, pair.answer), foil

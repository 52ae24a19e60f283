"""Behaviors from what a person typed, with every check that needs no model run."""

from __future__ import annotations

from collections.abc import Sequence

from interp.behaviors import alignment
from interp.behaviors._record import Behavior, PromptPair
from interp.behaviors.alignment import short
from interp.errors import BadInput, UnequalPair
from interp.models import catalogue, tokens
from interp.models.info import ModelInfo
from interp.models.tokens import Tokens


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
        raise BadInput(
            "The prompt is empty.", f"{info.name} reads: {tokens.alphabet(info)}.", "Type some."
        )
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
    model: str,
    pairs: Sequence[PromptPair],
    *,
    name: str = "typed pairs",
    source: str = "typed",
    clusters: Sequence[int] = (),
) -> Behavior:
    """Make a behavior of prompt pairs whose tokens line up.

    From 4 different clean prompts on, every second one is held out. No pair is ever left out: one
    that cannot be used is refused, and of several the message says which. Without ``clusters``
    pairs count as independent, also where they share words.

    Args:
        model: Name of a model of the catalogue.
        pairs: The pairs.
        name: What people call the behavior.
        source: Where the pairs come from.
        clusters: Number of the group of words that each pair is made of; then the groups of odd
            numbers are held out instead.

    Raises:
        UnequalPair: Pairs differ in length, or not at all.
        BadInput: There is no pair, or a prompt or an answer that the model cannot read or give.

    Cost: cuts every prompt into tokens once.
    """
    info = catalogue.info(model)
    _check_texts(pairs)
    sides = alignment.encoded(info, pairs)
    found = alignment.of_tokens(sides)
    if found.off:
        raise found.refusal(pairs)
    answers, foils = _outputs(info, pairs, sides)
    clean = tuple(side.ids for side, _ in sides)
    return Behavior(
        model=model,
        name=name,
        source=source,
        space=info.answers.space,
        read=info.answers.read,
        clean=clean,
        corrupted=tuple(side.ids for _, side in sides),
        answers=answers,
        foils=foils,
        held_out=_held_out(clean, clusters),
        clusters=tuple(clusters),
    )


def _held_out(clean: Sequence[tuple[int, ...]], clusters: Sequence[int]) -> tuple[bool, ...]:
    """Hold out odd groups, or every second prompt: those that share a clean one stay together."""
    order = {ids: i for i, ids in enumerate(dict.fromkeys(clean))}
    if len(order) < 4:
        return ()
    return tuple(number % 2 == 1 for number in clusters or (order[ids] for ids in clean))


def _check_texts(pairs: Sequence[PromptPair]) -> None:
    """Refuse what can be refused without a tokenizer."""
    if not pairs:
        raise BadInput(
            "No prompt pair was given.",
            "Patching needs a clean and a corrupted prompt.",
            "Type one of each, of equal length.",
        )
    seen: set[PromptPair] = set()
    for i, pair in enumerate(pairs):
        if pair in seen:
            raise BadInput(
                f"The pair {short(pair.clean)!r}, {short(pair.corrupted)!r} is given twice.",
                "Pairs count as independent: one that is repeated would make intervals too narrow.",
                "Remove the copy.",
            )
        seen.add(pair)
        with alignment.naming(i, len(pairs)):
            _check_filled(pair)


def _check_filled(pair: PromptPair) -> None:
    for which, text in (("clean", pair.clean), ("corrupted", pair.corrupted)):
        if not text:
            raise BadInput(
                f"The {which} prompt is empty.",
                "",
                "Type it: both prompts of a pair have the same length and differ where it matters.",
            )
    if not pair.answer:
        raise BadInput(
            f"The pair {short(pair.clean)!r} has no answer.",
            "A metric needs to know which output to follow.",
            "Type the output that the clean prompt should give.",
        )
    if pair.answer == pair.foil:
        raise BadInput(
            f"Answer and foil are both {short(pair.answer)!r}.", "", "Choose two different outputs."
        )


def _outputs(
    info: ModelInfo, pairs: Sequence[PromptPair], sides: Sequence[tuple[Tokens, Tokens]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the output index of every answer and foil (-1 for none); prompts must differ."""
    answers: list[int] = []
    foils: list[int] = []
    for i, (pair, (clean, corrupted)) in enumerate(zip(pairs, sides, strict=True)):
        with alignment.naming(i, len(pairs)):
            if clean.ids == corrupted.ids:
                raise UnequalPair(
                    "Clean and corrupted must differ.",
                    f"Both are {short(pair.clean)!r}.",
                    "Change at least one token of the corrupted prompt.",
                )
            answers.append(tokens.answer_id(info, pair.answer))
            foils.append(tokens.answer_id(info, pair.foil) if pair.foil else -1)
    return tuple(answers), tuple(foils)

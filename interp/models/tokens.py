"""Text to token ids and back, without torch, by one function for previews and for runs.

Every character of a prompt must end up in a token: tokenizers drop what they do not know, and a
dropped character would silently change the question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.errors import PromptTooLong, UnknownToken
from interp.models.info import ModelInfo
from interp.models.vocabulary import Vocabulary, vocabulary

# No tokenizer makes fewer tokens of ordinary text; what is longer need not be cut to be refused.
_MOST_CHARACTERS_A_TOKEN = 100
_LISTED, _FIRST, _LAST = 40, 20, 4
_SMALL = 300


@dataclass(frozen=True)
class Tokens:
    """Token ids and the text of each, specials included. Lengths are equal."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def vocabulary_of(model: ModelInfo) -> Vocabulary:
    """Return the tokenizer of ``model`` and the text of each of its ids."""
    return vocabulary(str(model.tokenizer))


def encode(model: ModelInfo, text: str) -> Tokens:
    """Turn ``text`` into tokens as the model reads them, special tokens added.

    Raises:
        UnknownToken: A character is in no token of the model.
        PromptTooLong: There are more tokens than the model has positions.
    """
    _check_text(model, text)
    known = vocabulary_of(model)
    coded = known.cut(text)
    if known.joined(coded.ids) != text:
        _check_covered(model, text, coded)
    ids = [int(i) for i in coded.ids]
    if model.bos is not None and ids[:1] != [model.bos]:
        ids = [model.bos, *ids]
    if max(ids, default=0) >= model.d_vocab:
        raise UnknownToken(
            f"The prompt has the token {known.text(max(ids))!r}.",
            f"The tokenizer gives it the id {max(ids)}; {model.name} has {model.d_vocab} ids.",
            "Leave it out.",
        )
    if len(ids) > model.n_ctx:
        raise PromptTooLong(
            f"The prompt has {len(ids)} tokens.",
            f"{model.name} has {model.n_ctx} positions.",
            f"Shorten it by {len(ids) - model.n_ctx} or more.",
        )
    return Tokens(tuple(ids), tuple(known.text(i) for i in ids))


def _check_text(model: ModelInfo, text: str) -> None:
    """Refuse what need not be cut into tokens to be refused."""
    if len(text) > _MOST_CHARACTERS_A_TOKEN * model.n_ctx:
        raise PromptTooLong(
            f"The prompt has {len(text):,} characters.",
            f"{model.name} has {model.n_ctx} positions.",
            "Shorten it: a token is about four characters of English.",
        )
    half = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if half is not None:
        raise UnknownToken(
            f"The prompt has half a surrogate pair at character {half}.",
            "That is no character.",
            f"{model.name} reads: {alphabet(model)}.",
        )


def _check_covered(model: ModelInfo, text: str, coded: Any) -> None:
    """Refuse a prompt of which a character is in no token."""
    known = vocabulary_of(model)
    covered = [c.isspace() and not known.spaces_are_text for c in text]
    spans = zip(coded.offsets, coded.special_tokens_mask, coded.ids, strict=True)
    for (start, end), added, token in spans:
        # The token for what is unknown stands for nothing, unless somebody typed it.
        lost = token == known.unknown and text[start:end].strip() != known.text(token)
        if not added:
            covered[start:end] = [not lost] * (end - start)
    if not all(covered):
        where = covered.index(False)
        lost = text[where:].split()[0][:40] if known.worded else text[where]
        raise UnknownToken(
            f"The prompt has {lost!r} at character {where}.",
            f"{model.name} has no token for it.",
            f"It reads: {alphabet(model)}.",
        )


def text_of(model: ModelInfo, ids: tuple[int, ...]) -> tuple[str, ...]:
    """Return the text of each token id."""
    known = vocabulary_of(model)
    return tuple(known.text(i) for i in ids)


def special_ids(model: ModelInfo) -> frozenset[int]:
    """Return the ids that no text of a person stands for: beginning and end of text and such."""
    return vocabulary_of(model).specials


def is_spelled(model: ModelInfo) -> bool:
    """Whether prompts of ``model`` are one token a character, with no line breaks or spaces."""
    return vocabulary_of(model).spaces_are_text


def pieces(model: ModelInfo, text: str) -> tuple[str, ...]:
    """Cut ``text`` into the texts of its tokens, with no special token added."""
    known = vocabulary_of(model)
    ids = known.cut(text, special=False).ids
    return tuple(known.text(int(i)) for i in ids)


def alphabet(model: ModelInfo) -> str:
    """Say in a few words which tokens the model reads."""
    known = vocabulary_of(model)
    plain = [t for i, t in enumerate(known.texts[: model.d_vocab]) if i not in known.specials]
    if len(plain) > _SMALL:
        return f"any text, by a vocabulary of {len(plain):,} tokens"
    between = "with spaces between them, " if known.worded else ""
    written = [t if t.isprintable() and t.strip() else repr(t) for t in plain]
    if len(written) > _LISTED:
        return f"{between}{' '.join(written[:_FIRST])} … {' '.join(written[-_LAST:])}"
    return between + " ".join(written)


def answer_names(model: ModelInfo) -> tuple[str, ...]:
    """Return the name of each output of the model: class names, or the text of each token."""
    if model.answers.space == "classes":
        return model.answers.classes
    known = vocabulary_of(model)
    return tuple(known.text(i) for i in range(model.d_out))


def answer_id(model: ModelInfo, answer: str) -> int:
    """Return the output index of ``answer``, a class name or the text of one token.

    Raises:
        UnknownToken: The model cannot give this answer.
    """
    if model.answers.space == "classes":
        if answer in model.answers.classes:
            return model.answers.classes.index(answer)
        raise _no_answer(answer, "one of its classes", model.answers.classes)
    known = vocabulary_of(model)
    found = known.ids.get(answer, model.d_out)
    if found < model.d_out:
        return found
    if known.spaces_are_text:
        raise _no_answer(answer, "one token of the model", answer_names(model))
    cut = ", ".join(repr(piece) for piece in pieces(model, answer[:200])[:8])
    bare = answer.strip()
    near = {f" {bare}": "with a space before it", bare: "without the space"}
    hints = [f"{t!r}, {how}, is one token. " for t, how in near.items() if bare and t in known.ids]
    hint = hints[0] if hints else ""
    raise UnknownToken(
        f"The answer {answer[:200]!r} was asked for.",
        f"It is not one token of {model.name}, which cuts it into {cut}.",
        f"{hint}Choose a text that is one token.",
    )


def _no_answer(answer: str, what: str, outputs: tuple[str, ...]) -> UnknownToken:
    more = f" and {len(outputs) - 30} more." if len(outputs) > 30 else "."
    return UnknownToken(
        f"The answer {answer!r} was asked for.",
        f"It is not {what}.",
        "Choose one of: " + ", ".join(outputs[:30]) + more,
    )

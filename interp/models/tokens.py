"""Text to token ids and back, without torch, by one function for previews and for runs.

Every character of a prompt must end up in a token: tokenizers drop what they do not know, and a
dropped character would silently change the question.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from tokenizers import Tokenizer

from interp.errors import PromptTooLong, UnknownToken
from interp.models.info import ModelInfo

# Fast tokenizers keep mutable state and raise "Already borrowed" when threads share one.
_LOCK = Lock()


@dataclass(frozen=True)
class Tokens:
    """Token ids and the text of each, specials included. Lengths are equal."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@lru_cache(maxsize=16)
def _tokenizer(path: str) -> Tokenizer:
    return Tokenizer.from_file(path)


def encode(model: ModelInfo, text: str) -> Tokens:
    """Turn ``text`` into tokens as the model reads them, special tokens added.

    Raises:
        UnknownToken: A character is in no token of the model.
        PromptTooLong: There are more tokens than the model has positions.
    """
    half = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if half is not None:
        raise UnknownToken(
            f"The prompt has half a surrogate pair at character {half}.",
            "That is no character.",
            f"{model.name} reads: {alphabet(model)}.",
        )
    with _LOCK:
        tokenizer = _tokenizer(str(model.folder / "tokenizer.json"))
        coded = tokenizer.encode(text)
    covered = [False] * len(text)
    for (start, end), special in zip(coded.offsets, coded.special_tokens_mask, strict=True):
        if not special:
            covered[start:end] = [True] * (end - start)
    if not all(covered):
        where = covered.index(False)
        raise UnknownToken(
            f"The prompt has {text[where]!r} at character {where}.",
            f"{model.name} has no token for it.",
            f"It reads: {alphabet(model)}.",
        )
    if len(coded.ids) > model.n_ctx:
        raise PromptTooLong(
            f"The prompt has {len(coded.ids)} tokens.",
            f"{model.name} has {model.n_ctx} positions.",
            f"Shorten it by {len(coded.ids) - model.n_ctx} or more.",
        )
    return Tokens(tuple(coded.ids), tuple(coded.tokens))


def text_of(model: ModelInfo, ids: tuple[int, ...]) -> tuple[str, ...]:
    """Return the text of each token id."""
    with _LOCK:
        tokenizer = _tokenizer(str(model.folder / "tokenizer.json"))
        return tuple(tokenizer.id_to_token(i) or f"[{i}]" for i in ids)


def alphabet(model: ModelInfo) -> str:
    """Say in a few words which tokens the model reads."""
    texts = text_of(model, tuple(range(model.d_vocab)))
    plain = [t for t in texts if not (len(t) > 2 and t[0] == "[" and t[-1] == "]")]
    shown = " ".join(plain[:40])
    return shown + (f" and {len(plain) - 40} more" if len(plain) > 40 else "")


def answer_names(model: ModelInfo) -> tuple[str, ...]:
    """Return the name of each output of the model: class names, or the text of each token."""
    if model.answers.space == "classes":
        return model.answers.classes
    return text_of(model, tuple(range(model.d_out)))


def answer_id(model: ModelInfo, answer: str) -> int:
    """Return the output index of ``answer``, a class name or the text of one token.

    Raises:
        UnknownToken: The model cannot give this answer.
    """
    outputs = answer_names(model)
    if answer in outputs:
        return outputs.index(answer)
    space = "one of its classes" if model.answers.space == "classes" else "one token of the model"
    raise UnknownToken(
        f"The answer {answer!r} was asked for.",
        f"It is not {space}.",
        "Choose one of: "
        + ", ".join(outputs[:30])
        + (f" and {len(outputs) - 30} more." if len(outputs) > 30 else "."),
    )

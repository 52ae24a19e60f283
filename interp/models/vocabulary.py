"""What each token id stands for as text, and the tokenizer's files (torch-free).

Byte-level vocabularies write a space as "Ġ", SentencePiece ones as "▁": people are shown, and
type, the text itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from tokenizers import Tokenizer

from interp.errors import CannotLoad

# Fast tokenizers keep mutable state and raise "Already borrowed" when threads share one.
LOCK = Lock()


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and the text of each of its ids.

    ``specials`` are the ids that no text of a person stands for; ``ids`` is the inverse of
    ``texts`` where two tokens do not read alike, else it has the first. ``spaces_are_text``: a
    space without a token was dropped; subword tokenizers put it into the token behind it.
    """

    tokenizer: Tokenizer
    texts: tuple[str, ...]
    specials: frozenset[int]
    ids: dict[str, int]
    spaces_are_text: bool

    def text(self, token: int) -> str:
        """Return the text of an id; rows of an embedding may go beyond the vocabulary."""
        return self.texts[token] if token < len(self.texts) else f"[{token}]"


@lru_cache(maxsize=8)
def vocabulary(path: str) -> Vocabulary:
    """Read ``tokenizer.json``.

    Raises:
        CannotLoad: It is missing or cannot be read.
    """
    try:
        # Read as text: the library's own reader aborts on some broken files.
        said = Path(path).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(said)
        layout: dict[str, Any] = json.loads(said)
    except Exception as error:
        raise CannotLoad(
            f"The tokenizer {Path(path).parent.name}/{Path(path).name} was to be read.",
            f"It cannot be: {str(error)[:200]}.",
            "Save it again: AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        ) from error
    # A saved tokenizer may cut or fill prompts, which would change the question.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = {t["id"]: t for t in layout.get("added_tokens") or ()}
    specials = {i for i, token in added.items() if token.get("special")}
    style = _style(layout)
    texts: list[str] = []
    for i in range(_size(tokenizer)):
        token = tokenizer.id_to_token(i)
        if token is None:
            texts.append(f"[{i}]")
        elif i in added:
            texts.append(token)
        else:
            texts.append(_shown(token, style))
    if style == "plain":
        specials |= {i for i, t in enumerate(texts) if len(t) > 2 and t[0] == "[" and t[-1] == "]"}
    ids: dict[str, int] = {}
    for i, text in enumerate(texts):
        ids.setdefault(text, i)
    return Vocabulary(tokenizer, tuple(texts), frozenset(specials), ids, style == "plain")


def _size(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _style(layout: dict[str, Any]) -> str:
    """Name how the vocabulary writes spaces: "bytes", "metaspace" or "plain"."""
    told = json.dumps(
        [layout.get("decoder"), layout.get("pre_tokenizer"), layout.get("normalizer")]
    )
    if "ByteLevel" in told:
        return "bytes"
    return "metaspace" if "▁" in told or "\\u2581" in told or "Metaspace" in told else "plain"


def _shown(token: str, style: str) -> str:
    if style == "bytes":
        # Half a character shows as its bytes, so that it stays apart from other halves.
        table = _byte_of_letter()
        if all(letter in table for letter in token):
            return bytes(table[letter] for letter in token).decode("utf-8", "backslashreplace")
        return token
    if style == "metaspace":
        byte = token[3:5] if len(token) == 6 and token[:3] == "<0x" and token[5] == ">" else ""
        return chr(int(byte, 16)) if byte and int(byte, 16) < 32 else token.replace("▁", " ")
    return token


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for.

    Printable bytes of Latin-1 stand for themselves, the others for the letters from 256 on.
    Source: Radford et al. (2019), GPT-2's vocabulary.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(other)}


def tokenizer_file(folder: Path, made: Path) -> Path:
    """Return the tokenizer of a checkpoint: its ``tokenizer.json``, or one made of GPT-2's files.

    Args:
        folder: The checkpoint's folder.
        made: Where a tokenizer is written that had to be made.

    Raises:
        CannotLoad: There is none, or only in a form that needs other software.
    """
    whole = folder / "tokenizer.json"
    if whole.exists():
        return whole
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(_from_vocab_and_merges(folder), encoding="utf-8")
        return made
    found = "Only tokenizer.model is there." if (folder / "tokenizer.model").exists() else ""
    raise CannotLoad(
        f"{folder.name} was to be read.",
        found or "It has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.",
        "Save the tokenizer of its base model into the folder: "
        "AutoTokenizer.from_pretrained(base).save_pretrained(folder).",
    )


def _from_vocab_and_merges(folder: Path) -> str:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    try:
        bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        tokenizer = Tokenizer(bpe)
        end = "<|endoftext|>"
        if tokenizer.token_to_id(end) is not None:
            tokenizer.add_special_tokens([AddedToken(end, special=True)])
    except Exception as error:
        raise CannotLoad(
            f"{folder.name} was to be read.", f"vocab.json and merges.txt cannot be: {error}."
        ) from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()

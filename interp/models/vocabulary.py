"""What each token id stands for as text, and the tokenizer's files (torch-free).

Byte-level vocabularies write a space as "Ġ", SentencePiece ones as "▁": people are shown, and
type, the text itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from tokenizers import Encoding, Tokenizer

from interp.errors import BadInput, CannotLoad
from interp.models.checkpoint import within
from interp.models.paths import shown

# Fast tokenizers keep mutable state and raise "Already borrowed" when threads share one.
LOCK = Lock()
_MOST_BYTES = 256 * 2**20
_MOST_IDS = 2**22
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SETTINGS = "tokenizer_config.json"
_PARTS = ("normalizer", "pre_tokenizer", "decoder", "post_processor")
_WRITERS = ("Replace", "Prepend", "Metaspace")
_MOST_WRITTEN = 16


@dataclass(frozen=True)
class Vocabulary:
    r"""A tokenizer and the text of each of its ids.

    Where a character is cut into several tokens, each shows its bytes, as "\xf0\x9f".
    ``specials`` are the ids that no text of a person stands for; ``ids`` is the inverse of
    ``texts`` where two tokens do not read alike, else it has the first. ``spaces_are_text``: a
    space without a token was dropped; subword tokenizers put it into the token behind it.
    ``unknown`` is the id that stands for whatever has no token, None where there is none.
    ``single_bytes`` are the ids for one byte each of what has no token, as "<0x0A>" is.
    ``worded``: a token is all that stands between two spaces.
    """

    tokenizer: Tokenizer
    texts: tuple[str, ...]
    specials: frozenset[int]
    ids: dict[str, int]
    spaces_are_text: bool
    unknown: int | None = None
    single_bytes: frozenset[int] = frozenset()
    worded: bool = False

    def cut(self, text: str, *, special: bool = True) -> Encoding:
        """Cut a text into tokens, with the special ones that belong about a prompt or without.

        Raises:
            BadInput: The tokenizer fails on it: its patterns may be such that it never ends.
        """
        with LOCK, _said_of(text):
            return self.tokenizer.encode(text, add_special_tokens=special)

    def joined(self, ids: Sequence[int]) -> str:
        """Join tokens to the text that they stand for."""
        with LOCK, _said_of(""):
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def text(self, token: int) -> str:
        """Return the text of an id; rows of an embedding may go beyond the vocabulary."""
        return self.texts[token] if token < len(self.texts) else f"[{token}]"


@contextmanager
def _said_of(text: str) -> Generator[None]:
    """Turn a failure of the tokenizer's library into a sentence; some are no ``Exception``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise BadInput(
            f"The prompt {text[:60]!r} was to be cut into tokens.",
            f"The model's tokenizer fails on it: {str(error)[:160]}.",
            "Change the prompt, or save the model's tokenizer again.",
        ) from error


def vocabulary(path: str) -> Vocabulary:
    """Read ``tokenizer.json``; the same one is read once.

    Raises:
        CannotLoad: It is missing or cannot be read.
    """
    try:
        stat = Path(path).stat()
        return _read(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the library's panics are no ``Exception``
        raise CannotLoad(
            f"The tokenizer {shown(Path(path).parent)}/{Path(path).name} was to be read.",
            f"It cannot be: {str(error)[:200]}.",
            "Save it again: AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        ) from error


@lru_cache(maxsize=8)
def _read(path: str, stamp: tuple[int, int, int]) -> Vocabulary:
    """Read a tokenizer; ``stamp`` tells the file's state, so that a new one is read anew."""
    if stamp[1] > _MOST_BYTES or not Path(path).is_file():
        raise ValueError(f"it is no file of at most {_MOST_BYTES // 2**20} MB")
    # Read as text: the library's own reader aborts on some broken files.
    said = Path(path).read_text(encoding="utf-8")
    tokenizer = Tokenizer.from_str(said)
    layout: dict[str, Any] = json.loads(said)
    _check_sizes([layout.get(part) for part in _PARTS])
    # A saved tokenizer may cut or fill prompts, which would change the question.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # One that drops merges at random would cut the same prompt now in this way, now in that.
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    added = tokenizer.get_added_tokens_decoder()
    specials = {i for i, token in added.items() if token.special}
    style = _style(layout)
    tokens = {i: token for token, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    size = max(tokens, default=-1) + 1
    if size > _MOST_IDS:
        raise ValueError(f"it has the id {size - 1:,}, beyond {_MOST_IDS:,}")
    texts = [f"[{i}]" for i in range(size)]
    for i, token in tokens.items():
        literal = i in specials or (i in added and style != "metaspace")
        texts[i] = token if literal else _shown(token, style)
    if style in ("plain", "words"):
        specials |= {i for i, t in enumerate(texts) if len(t) > 2 and t[0] == "[" and t[-1] == "]"}
    # A byte that is also a character's token stands for it last: text is never cut into it.
    single = frozenset(i for i, t in tokens.items() if _byte(t, style) is not None)
    ids: dict[str, int] = {}
    for i in sorted(tokens, key=lambda i: (i in single, i)):
        ids.setdefault(texts[i], i)
    known = (tokenizer, tuple(texts), frozenset(specials), ids, style == "plain")
    worded = style == "words" and layout["model"].get("type") == "WordLevel"
    unknown = _unknown(tokenizer, layout.get("model") or {})
    return Vocabulary(*known, unknown=unknown, single_bytes=single, worded=worded)


def _check_sizes(part: Any) -> None:
    """Refuse steps that blow a text up: three that write 1,000 letters for one make a billion."""
    if isinstance(part, list):
        for inner in part:
            _check_sizes(inner)
    elif isinstance(part, dict):
        for name, value in part.items():
            written = name in ("content", "prepend", "replacement") and isinstance(value, str)
            if written and len(value) > _MOST_WRITTEN and part.get("type") in _WRITERS:
                raise ValueError(f"a step of it writes {len(value):,} letters for one")
            _check_sizes(value)


def _unknown(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the id that stands for whatever has no token, if there is one."""
    text, number = model.get("unk_token"), model.get("unk_id")
    return tokenizer.token_to_id(text) if isinstance(text, str) else number


def _style(layout: dict[str, Any]) -> str:
    """Name how the vocabulary writes spaces: "bytes", "metaspace", "words" or "plain".

    Between words they stand for nothing, in a plain one they would have to be tokens.
    """
    told = json.dumps(
        [layout.get("decoder"), layout.get("pre_tokenizer"), layout.get("normalizer")]
    )
    if "ByteLevel" in told:
        return "bytes"
    if "WhitespaceSplit" in told:
        return "words"
    return "metaspace" if "▁" in told or "\\u2581" in told or "Metaspace" in told else "plain"


def _shown(token: str, style: str) -> str:
    if style == "bytes":
        # Half a character shows as its bytes, so that it stays apart from other halves.
        table = _byte_of_letter()
        if all(letter in table for letter in token):
            return bytes(table[letter] for letter in token).decode("utf-8", "backslashreplace")
        return token
    if style == "metaspace":
        byte = _byte(token, style)
        if byte is not None:
            return bytes([byte]).decode("utf-8", "backslashreplace")
        return token.replace("▁", " ")
    return token


def _byte(token: str, style: str) -> int | None:
    """Return the byte that a token such as "<0x0A>" stands for in a SentencePiece vocabulary."""
    found = _BYTE.fullmatch(token) if style == "metaspace" else None
    return None if found is None else int(found[1], 16)


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for.

    Printable bytes of Latin-1 stand for themselves, the others for the letters from 256 on.
    Source: Radford et al. (2019), GPT-2's vocabulary.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(other)}


def tokenizer_file(
    folder: Path, made: Path, family: str, roots: tuple[Path, ...] | None = None
) -> Path:
    """Return the tokenizer of a checkpoint: its ``tokenizer.json``, or one made of GPT-2's files.

    Args:
        folder: The checkpoint's folder.
        made: Folder in which a tokenizer is written that had to be made.
        family: Architecture; only for GPT-2 do vocabulary and merges say everything.
        roots: Folders that its files must lie under (default: the settings').

    Raises:
        CannotLoad: There is none, or only in a form that needs other software.
    """
    if (folder / "tokenizer.json").exists():
        return within(folder, "tokenizer.json", roots, link=True)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        _check_plain(folder, family, roots)
        pair = [within(folder, name, roots) for name in ("vocab.json", "merges.txt")]
        return _kept(made, _from_vocab_and_merges(*pair))
    model = (folder / "tokenizer.model").exists()
    raise CannotLoad(
        f"{shown(folder)} was to be read.",
        "Of its tokenizer only tokenizer.model is there, which is not read."
        if model
        else "It has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.",
        "Save the tokenizer of its base model into the folder: "
        "AutoTokenizer.from_pretrained(base).save_pretrained(folder).",
    )


def _check_plain(folder: Path, family: str, roots: tuple[Path, ...] | None) -> None:
    """Refuse vocabulary and merges that are not all there is to a tokenizer."""
    told: Any = {}
    if (folder / _SETTINGS).exists():
        with suppress(OSError, ValueError, RecursionError):
            told = json.loads(within(folder, _SETTINGS, roots).read_text(encoding="utf-8"))
    told = told if isinstance(told, dict) else {}
    if family == "gpt2" and not told.get("add_prefix_space") and _few(told):
        return
    raise CannotLoad(
        f"{shown(folder)} was to be read.",
        "Its tokenizer is vocab.json and merges.txt, which do not say how text is split, or which "
        "tokens were added.",
        "Save it whole: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes "
        "tokenizer.json.",
    )


def _few(told: dict[str, Any]) -> bool:
    """Whether no token was added but GPT-2's own end of text."""
    added = told.get("added_tokens_decoder")
    return not isinstance(added, dict) or len(added) <= 1


def _kept(folder: Path, text: str) -> Path:
    """Write a tokenizer under a name made of its contents, so that no two are confused."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    if not path.exists():
        temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    return path


def _from_vocab_and_merges(vocab: Path, merges: Path) -> str:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    try:
        bpe = models.BPE.from_file(str(vocab), str(merges))
        tokenizer = Tokenizer(bpe)
        end = "<|endoftext|>"
        if tokenizer.token_to_id(end) is not None:
            tokenizer.add_special_tokens([AddedToken(end, special=True)])
    except Exception as error:
        raise CannotLoad(
            f"{vocab.name} and {merges.name} were to be read.",
            f"They make no tokenizer: {str(error)[:200]}.",
            "Copy or download them again.",
        ) from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()

"""The corpus of ``stdlib-lm``: the source of the Python that runs this, if it is the pinned one."""

from __future__ import annotations

import ast
import hashlib
import platform
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VERSION: Final = "3.11.7"
FILES_SHA256: Final = "f766cfc7b1a6deb5498658eb3f03af8959f31ca99ba3b73a0903fd2bfc271833"
SHARE_HELD_OUT: Final = 20
"""One file of so many is held out."""
VOCABULARY: Final = 4_096
START: Final = "[BOS]"

_LEFT_OUT: Final = ("site-packages", "dist-packages", "__pycache__", "pydoc_data", "_bundled")
_TABLE: Final = "decoding_table"
_LONGEST_FILE: Final = 300_000
# A line break, an indentation, a word or a bracket is never in one token with anything else; a
# space before a word, a digit or a sign goes with it.
_PIECES: Final = r"\n|(?<=\n) +| ?[A-Za-z_]+| ?[0-9]| ?[()\[\]{}]| ?[^\sA-Za-z0-9_()\[\]{}]+| +|\s"


@dataclass(frozen=True)
class Corpus:
    """Source files by their path under the library's folder, in order of the path."""

    files: tuple[tuple[str, str], ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of every path and its text."""
        digest = hashlib.sha256()
        for path, text in self.files:
            digest.update(f"{path}\0{hashlib.sha256(text.encode()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def part(self, *, held_out: bool) -> tuple[tuple[str, str], ...]:
        """The files for training, or those held out."""
        return tuple(file for file in self.files if is_held_out(file[0]) == held_out)


def is_held_out(path: str) -> bool:
    """Whether a file is kept from training: by its path alone, so that a look tells."""
    return int(hashlib.sha256(path.encode()).hexdigest(), 16) % SHARE_HELD_OUT == 0


def read(root: Path | None = None) -> Corpus:
    """Read the source of this Python's standard library, its tests included.

    Left out: what does not parse, tables of character sets, the generated help texts, what was
    written for this machine, and files beyond 300,000 characters.

    Args:
        root: The library's folder (default: of the Python that runs this).
    """
    folder = root or Path(sysconfig.get_path("stdlib"))
    found: list[tuple[str, str]] = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if any(part in _LEFT_OUT for part in path.parts) or "_sysconfigdata" in name:
            continue
        text = _source(path)
        if text is not None:
            found.append((name, text))
    return Corpus(tuple(found))


def pinned(root: Path | None = None) -> Corpus:
    """Read the corpus, and refuse one that is not that which the shipped weights were trained on.

    Raises:
        RuntimeError: It is the library of another Python.
    """
    corpus = read(root)
    if corpus.sha256 != FILES_SHA256:
        raise RuntimeError(
            f"stdlib-lm is trained on the library of Python {VERSION} as python.org ships it, with "
            f"its tests ({FILES_SHA256[:12]}). This is Python {platform.python_version()} with "
            f"{len(corpus.files)} files ({corpus.sha256[:12]}). Rebuild it with that Python; the "
            "shipped weights work with any."
        )
    return corpus


def _source(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LONGEST_FILE or _TABLE in text:
            return None
        ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return None
    return text if text.strip() else None


def fit_tokenizer(files: tuple[tuple[str, str], ...]) -> Tokenizer:
    """Fit a byte-level BPE that puts ``[BOS]`` before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in files), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, files: tuple[tuple[str, str], ...]) -> list[NDArray[np.int32]]:
    """Token ids of each file, without ``[BOS]``."""
    texts = [text for _, text in files]
    coded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [np.array(one.ids, dtype=np.int32) for one in coded]

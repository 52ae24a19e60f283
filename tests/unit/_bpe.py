"""Byte-level tokenizers whose whole words are chosen, and models that are only described."""

from __future__ import annotations

import itertools
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from interp.behaviors import capitals, gender, greater_than, ioi, words
from interp.models.info import Answers, ModelInfo

END = "<|endoftext|>"
FIRST = tuple(text.split()[0] for text in (*ioi.TEMPLATES, *gender.TEMPLATES, *capitals.TEMPLATES))


def vocabulary() -> list[str]:
    """Every word of every template and filler."""
    texts = [*ioi.TEMPLATES, *gender.TEMPLATES, *capitals.TEMPLATES, greater_than.TEMPLATE]
    of_templates = [w.strip(",") for text in texts for w in text.split() if "{" not in w]
    fillers = (words.NAMES, words.PLACES, words.OBJECTS, words.BUILDINGS, words.EVENTS)
    countries = [word for pair in words.CAPITALS for word in pair]
    return [*of_templates, *(w for group in fillers for w in group), *countries, "she", "he", "We"]


def save(folder: Path, whole: list[str], *, digits: int = 2, bos: bool = False) -> Path:
    """Save a tokenizer that leaves these words whole behind a space, and those that begin a text.

    Another word is what it begins with of these, then letters: "Mar" and letters for "Margaret"
    where "Mary" is whole. ``digits`` is 1 for single digits, 2 for "17" and "32", 3 for "173".
    """
    merges: dict[tuple[str, str], None] = {}
    # A merge with a lower rank wins: those from the space on come first, so that none inside a
    # word gets in their way.
    for text in (*(f"Ġ{word}" for word in whole), *FIRST, "The"):
        for end in range(1, len(text)):
            merges[text[:end], text[end]] = None
    if digits > 1:
        for a in "01234567"[:8]:
            merges["Ġ1", a] = None
        merges = {("Ġ", "1"): None} | merges
        figures = "0123456789"
        if digits == 3:
            merges |= {(f"Ġ1{a}", b): None for a, b in itertools.product("01234567", figures)}
        merges |= {(a, b): None for a, b in itertools.product(figures, figures)}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*letters, *(a + b for a, b in merges)])
    bpe = BPE({token: i for i, token in enumerate(tokens)}, list(merges))
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END} $A", special_tokens=[(END, tokenizer.token_to_id(END))]
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def described(name: str, folder: Path, **changed: object) -> ModelInfo:
    """Describe a model that has only a tokenizer."""
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    fields: dict[str, object] = {
        "name": name,
        "weights": name.ljust(64, "0"),
        "processing": "raw",
        "n_layers": 1,
        "n_heads": 2,
        "d_model": 16,
        "d_head": 8,
        "d_mlp": 32,
        "n_ctx": 64,
        "d_vocab": size,
        "d_out": size,
        "causal": True,
        "answers": Answers("tokens", (), -1),
        "folder": folder,
    }
    return ModelInfo(**{**fields, **changed})  # type: ignore[arg-type]

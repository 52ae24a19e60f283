"""Tiny checkpoints as people have them on disk: two layers, a byte-level tokenizer, safetensors.

Each is written once a process, by transformers; a test gets a copy that it may spoil.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from interp.errors import InterpError

END = "<|endoftext|>"
SENTENCES = (
    "When Mary and John went to the store, John gave a drink to Mary.",
    "When John and Mary went to the store, Mary gave a drink to John.",
    "The harbour was quiet at six in the morning; two men mended a net.",
    "def area(width, height):\n    return width * height\n",
)
PROMPT = "When Mary and John went to the store, John gave a drink to"
N_CTX = 64
FAMILIES = ("gpt2", "llama")
WEIGHTS = "model.safetensors"


def byte_level() -> Tokenizer:
    """Train a byte-level BPE tokenizer in which the words of ``SENTENCES`` are whole."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


def fast(tokenizer: Tokenizer) -> Any:
    """Wrap a tokenizer as transformers has it, with a token for the beginning."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, model_max_length=N_CTX
    )


@torch.no_grad()
def model(family: str, d_vocab: int, seed: int = 0) -> Any:
    """Make a random model of transformers whose every parameter matters."""
    special = {"bos_token_id": d_vocab - 1, "eos_token_id": d_vocab - 1}
    if family == "gpt2":
        made: Any = hf.GPT2LMHeadModel(
            hf.GPT2Config(
                n_layer=2, n_embd=32, n_head=4, n_positions=N_CTX, vocab_size=d_vocab, **special
            )
        )
    else:
        made = hf.LlamaForCausalLM(
            hf.LlamaConfig(
                num_hidden_layers=2,
                hidden_size=32,
                intermediate_size=48,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=N_CTX,
                vocab_size=d_vocab,
                **special,
            )
        )
    generator = torch.Generator().manual_seed(seed)
    for weight in made.parameters():
        noise = 0.2 * torch.randn(weight.shape, generator=generator)
        weight.copy_(weight + noise if weight.dim() == 1 else noise)
    return made.eval()


@lru_cache(maxsize=8)
def written(family: str, seed: int = 0) -> Path:
    """Write a checkpoint with its tokenizer, once a process."""
    folder = Path(tempfile.mkdtemp(prefix=f"checkpoint-{family}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = byte_level()
    model(family, tokenizer.get_vocab_size(), seed).save_pretrained(folder)
    fast(tokenizer).save_pretrained(folder)
    return folder


def checkpoint(to: Path, family: str = "llama", seed: int = 0) -> Path:
    """Put a copy of a checkpoint at ``to``."""
    shutil.copytree(written(family, seed), to)
    return to


@torch.no_grad()
def reference(folder: Path, ids: tuple[int, ...]) -> torch.Tensor:
    """Compute logits ``[pos, d_vocab]`` of a checkpoint with transformers, in float32."""
    made = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return made.eval()(torch.tensor([ids])).logits[0]


def change(path: Path, **values: Any) -> None:
    """Overwrite fields of a JSON file; a field of None is taken out."""
    told = json.loads(path.read_text())
    told |= values
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not None}))


def refused(error: type[InterpError], call: Callable[[], object]) -> tuple[str, str, str]:
    """Return the three parts of the message with which ``call`` is refused, each one line."""
    with pytest.raises(error) as caught:
        call()
    parts = (caught.value.asked, caught.value.found, caught.value.works)
    assert "\n" not in "".join(parts)
    assert len("".join(parts)) < 1500
    assert parts[0].endswith((".", "?"))
    return parts

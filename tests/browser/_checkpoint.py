"""A checkpoint as a person has one: GPT-2's shape, random weights, a tokenizer of English words."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from interp.behaviors import words

END = "<|endoftext|>"


def write(folder: Path, seed: int = 9) -> None:
    """Write config.json, model.safetensors and tokenizer.json.

    With this seed the answer's lead over the foil differs by over half a logit between the clean
    and the corrupted prompts of ten pairs, so that there is something to recover.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_layer=3,
        n_head=4,
        n_embd=64,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def _tokenizer() -> Tokenizer:
    """Train a byte-level BPE in which every word of the templates' lists is one token."""
    lists = [value for name, value in vars(words).items() if name.isupper()]
    listed = {word for each in lists for word in _flat(each) if word.isalpha()}
    text = f"{' '.join(sorted(listed))} When Then and went to the store, gave a drink"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {text}"] * 3, trainer)
    return tokenizer


def _flat(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, dict):
        return [w for pair in value.items() for part in pair for w in _flat(part)]
    if isinstance(value, tuple | list | set | frozenset):
        return [w for part in value for w in _flat(part)]
    return []

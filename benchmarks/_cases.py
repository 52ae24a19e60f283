"""What is asked in benchmarks: random models, the same in two libraries, and random pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from interp.analyses import activation_patching
from interp.analyses._fields import Pair
from interp.behaviors import Behavior
from interp.engine import layers_of
from interp.models.load import LoadedModel, load
from interp.models.push import push

Cell = tuple[int, ...]
GPT2 = hf.GPT2Config(n_positions=64, bos_token_id=None, eos_token_id=None)
GPT2_LONG = hf.GPT2Config(n_positions=256, bos_token_id=None, eos_token_id=None)
LLAMA_1B = hf.LlamaConfig(
    vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
    num_attention_heads=32, num_key_value_heads=8, head_dim=64, max_position_embeddings=256,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip


def random_model(config: Any, device: str) -> tuple[Any, LoadedModel]:
    """Make a model of transformers with random weights, and load the same weights as a person's.

    Weights and biases have a standard deviation of 0.05, as have the gains of norms about 1.
    Logits of both must agree. What is made once a load is made here, so that no row pays for it.
    """
    torch.manual_seed(0)
    theirs = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, weight in theirs.named_parameters():
        weight.normal_(0, 0.05)
        if "norm" in name or ".ln_" in name:
            weight += name.endswith("weight")
    words = {f"t{i}": i for i in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, "t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ours = load(push(f"local/random-{config.model_type}", theirs, tokenizer).name, device)
    theirs.to(device)
    ids = torch.arange(32, device=device).reshape(2, 16) * 997 % config.vocab_size
    with torch.inference_mode():
        a, b = ours.hooked(ids), theirs(ids).logits
    assert float((a - b).abs().max() / b.std()) < 1e-5, "the two models are not the same"
    layers_of(ours, None)
    return theirs, ours


@dataclass(frozen=True, eq=False)
class Case:
    """A model in two libraries, and how much it is asked.

    Attributes:
        theirs: The model of transformers.
        model: Ours, whose class is TransformerLens's.
        pairs: Number of pairs.
        tokens: Tokens of a prompt.
        whole: Whether peers are asked for whole maps once, to compare every cell.
    """

    theirs: Any
    model: LoadedModel
    pairs: int
    tokens: int
    whole: bool

    @property
    def called(self) -> str:
        """The case in words."""
        info = self.model.info
        shape = f"{info.n_layers} layers, width {info.d_model}, {self.model.device.type}"
        return f"{self.pairs} pairs x {self.tokens} tokens, {shape}"

    def spec(self, same: int = 0) -> activation_patching.ActivationPatching:
        """Ask for the ``resid_pre`` map of random pairs, whose first ``same`` tokens agree."""
        rng, vocabulary = np.random.default_rng(0), self.model.info.d_vocab
        clean = rng.integers(0, vocabulary, (self.pairs, self.tokens))
        other = (clean + rng.integers(1, vocabulary, clean.shape)) % vocabulary
        other[:, :same] = clean[:, :same]
        answers = [rng.choice(vocabulary, 2, replace=False) for _ in clean]
        words = [[" ".join(f"t{i}" for i in row) for row in part] for part in (clean, other)]
        pairs = tuple(
            Pair(clean=a, corrupted=b, answer=f"t{answer}", foil=f"t{foil}")
            for a, b, (answer, foil) in zip(*words, answers, strict=True)
        )
        return activation_patching.ActivationPatching(
            model=self.model.info.name, pairs=pairs, site="resid_pre"
        )

    def behavior(self, same: int = 0) -> Behavior:
        """Return these pairs as tokens."""
        return activation_patching.inputs(self.spec(same))

    def cells(self, site: str) -> list[Cell]:
        """List a map's cells as peers do: (layer, position), (layer, head), or all three."""
        info = self.model.info
        sides = {"z": (info.n_heads,), "z_pos": (self.tokens, info.n_heads)}
        return list(np.ndindex(info.n_layers, *sides.get(site, (self.tokens,))))


def evenly(n: int, of: int) -> list[int]:
    """Choose ``n`` of ``of`` things, spread evenly."""
    return sorted({int(i) for i in np.linspace(0, of - 1, n)})

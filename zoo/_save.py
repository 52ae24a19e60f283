"""Writing and reading back the folder of a shipped model.

A folder holds ``config.json`` (architecture and where the answer is read), ``weights.safetensors``
(TransformerLens names), ``tokenizer.json`` and ``card.md``.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import load_file, save
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformer_lens import HookedTransformer, HookedTransformerConfig

FORMAT: Final = 1
MODELS: Final = Path(__file__).parent / "models"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """What makes a model run: everything except its card.

    Attributes:
        name: Folder name.
        transformer: Fields of ``HookedTransformerConfig`` as plain JSON.
        answer: Where and how the answer is read from the logits.
        weights: TransformerLens state dict without buffers.
        tokenizer: Text to token ids, special tokens included.
    """

    name: str
    transformer: Json
    answer: Json
    weights: Mapping[str, torch.Tensor]
    tokenizer: Tokenizer


def character_tokenizer(vocabulary: Sequence[str], before: str, after: str = "") -> Tokenizer:
    """A tokenizer with one token per character.

    Characters outside the vocabulary give no token. Names of special tokens are in the
    vocabulary but not registered as added tokens: an added token would be recognised inside
    user text, whereas this way only the template can produce one.

    Args:
        vocabulary: Tokens in order of their ids.
        before: Special token put in front of every text.
        after: Special token put behind every text; empty for none.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token=None))
    # One word per character: dropping a character inside a word would shift the offsets of the
    # characters behind it.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        special_tokens=[(token, ids[token]) for token in (before, after) if token],
    )
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def write_model(blueprint: Blueprint, root: Path = MODELS) -> Path:
    """Write everything but the card; returns the model's folder."""
    folder = root / blueprint.name
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "name": blueprint.name,
        "processing": "raw",
        "transformer": dict(blueprint.transformer),
        "answer": dict(blueprint.answer),
    }
    _write(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    _write(folder / "tokenizer.json", blueprint.tokenizer.to_str(pretty=True) + "\n")
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(blueprint.weights.items())
    }
    (folder / "weights.safetensors").write_bytes(save(weights))
    return folder


def write_card(folder: Path, front: Json, prose: str) -> None:
    """Write the card: front matter between two lines of dashes, then prose."""
    # default_flow_style=None keeps each row of a table on one line.
    matter = yaml.safe_dump(
        dict(front), sort_keys=False, allow_unicode=True, width=98, default_flow_style=None
    )
    _write(folder / "card.md", f"---\n{matter}---\n\n{prose.strip()}\n")


def fact(claim: str, value: float, unit: str, n: int) -> dict[str, Any]:
    """One row of a card's facts: a measured number, its unit and how many cases it rests on."""
    return {"claim": claim, "value": float(f"{value:.6g}"), "unit": unit, "n": n}


def load_model(folder: Path) -> tuple[HookedTransformer, Tokenizer]:
    """Build a model from the files in its folder.

    Raises:
        ValueError: If the weights do not fill the model exactly.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(HookedTransformerConfig(**config["transformer"], device="cpu"))
    report = model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    missing = [name for name in report.missing_keys if not name.endswith((".mask", ".IGNORE"))]
    if missing or report.unexpected_keys:
        raise ValueError(f"missing {missing}, unexpected {report.unexpected_keys}")
    model.eval()
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def logits_at(model: HookedTransformer, tokens: torch.Tensor, position: int) -> torch.Tensor:
    """Logits of equally long token rows at one position."""
    return tensor(model(tokens))[:, position]


def tensor(value: object) -> torch.Tensor:
    """The value, known to be a tensor: a hooked model is typed as returning several things.

    Raises:
        TypeError: If it is not a tensor.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"expected a tensor, got {type(value).__name__}")
    return value


def parameter_count(weights: Mapping[str, torch.Tensor]) -> int:
    """Number of stored values."""
    return sum(tensor.numel() for tensor in weights.values())


def require(condition: bool, message: str) -> None:
    """Stop a build whose result is not what was promised.

    Raises:
        RuntimeError: If the condition does not hold.
    """
    if not condition:
        raise RuntimeError(message)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

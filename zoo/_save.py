"""Writing and reading back the folder of a shipped model.

A folder holds ``config.json`` (architecture and where the answer is read), ``weights.safetensors``
(TransformerLens names), ``tokenizer.json``, ``card.md`` and, where there are other weights of the
same model worth asking (training steps, seeds), ``snapshots/<name>.safetensors``.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import load_file, save
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformer_lens import HookedTransformer, HookedTransformerConfig

FORMAT: Final = 1
UNKNOWN: Final = "[UNK]"
MODELS: Final = Path(__file__).parent / "models"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """What makes a model run: everything except its card.

    Attributes:
        name: Folder name.
        transformer: Fields of ``HookedTransformerConfig`` as plain JSON.
        answer: Where and how the answer is read from the logits.
        weights: TransformerLens state dict without buffers; without ``unembed.W_U`` where that is
            the embedding.
        tokenizer: Text to token ids, special tokens included.
        snapshots: Other weights of the same shape, by name and in the order to show them.
        half: Whether snapshots are stored in float16.
    """

    name: str
    transformer: Json
    answer: Json
    weights: Mapping[str, torch.Tensor]
    tokenizer: Tokenizer
    snapshots: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    half: bool = True


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


def word_tokenizer(vocabulary: Sequence[str], before: str = "", after: str = "") -> Tokenizer:
    """A tokenizer with one token per word; words are what stands between spaces.

    Words outside the vocabulary give an id beyond it, which no model reads.

    Args:
        vocabulary: Tokens in order of their ids.
        before: Special token put in front of every text; empty for none.
        after: Special token put behind every text; empty for none.
    """
    ids = {token: index for index, token in enumerate((*vocabulary, UNKNOWN))}
    tokenizer = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        special_tokens=[(token, ids[token]) for token in (before, after) if token],
    )
    return tokenizer


def write_model(blueprint: Blueprint, root: Path = MODELS) -> Path:
    """Write everything but the card; returns the model's folder."""
    folder = root / blueprint.name
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "format": FORMAT,
        "name": blueprint.name,
        "processing": "raw",
        "transformer": dict(blueprint.transformer),
        "answer": dict(blueprint.answer),
    }
    if blueprint.snapshots:
        config["snapshots"] = list(blueprint.snapshots)
    _write(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    _write(folder / "tokenizer.json", blueprint.tokenizer.to_str(pretty=True) + "\n")
    _write_weights(folder / "weights.safetensors", blueprint.weights, torch.float32)
    for name, weights in blueprint.snapshots.items():
        stored = torch.float16 if blueprint.half else torch.float32
        _write_weights(folder / "snapshots" / f"{name}.safetensors", weights, stored)
    return folder


def _write_weights(path: Path, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    path.parent.mkdir(exist_ok=True)
    stored = {n: t.detach().to("cpu", dtype).contiguous() for n, t in sorted(weights.items())}
    path.write_bytes(save(stored))


def write_card(folder: Path, front: Json, prose: str) -> None:
    """Write the card: front matter between two lines of dashes, then prose."""
    # default_flow_style=None keeps each row of a table on one line.
    matter = yaml.safe_dump(
        dict(front), sort_keys=False, allow_unicode=True, width=98, default_flow_style=None
    )
    _write(folder / "card.md", f"---\n{matter}---\n\n{prose.strip()}\n")


def fact(
    claim: str,
    value: float,
    unit: str,
    n: int,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> dict[str, Any]:
    """One row of a card's facts: a measured number, its unit and how many cases it rests on.

    With a bound it is a promise: ``python -m zoo`` and ``python -m interp models`` say whether it
    holds.
    """
    bounds = {"at_least": at_least, "at_most": at_most}
    said = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"claim": claim, "value": float(f"{value:.6g}"), "unit": unit, "n": n, **said}


def load_model(folder: Path, snapshot: str = "") -> tuple[HookedTransformer, Tokenizer]:
    """Build a model from the files in its folder, with its final weights or those of a snapshot.

    Raises:
        ValueError: If the weights do not fill the model exactly.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(HookedTransformerConfig(**config["transformer"], device="cpu"))
    file = f"snapshots/{snapshot}.safetensors" if snapshot else "weights.safetensors"
    stored = {name: tensor.float() for name, tensor in load_file(folder / file).items()}
    stored.setdefault("unembed.W_U", stored["embed.W_E"].T)
    report = model.load_state_dict(stored, strict=False)
    missing = [
        name
        for name in report.missing_keys
        if not name.endswith((".mask", ".IGNORE", ".rotary_sin", ".rotary_cos"))
    ]
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

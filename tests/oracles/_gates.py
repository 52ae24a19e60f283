"""Transformers whose weights are written by hand: a gate over two bits that two heads carry.

A prompt is two bits and a cue, ``11=``. The first head of layer 0 reads bit a into the stream at
the cue, the second head of layer 1 reads bit b; the other heads write nothing. The MLP of layer 1
is the gate: AND is relu(a + b - 1), OR is 1 - relu(1 - a - b). The logit of ``1`` is the gate's
output, that of ``0`` is 0, that of ``=`` is -1. Scores differ by a thousand, so that attention is
0 or 1 to the last bit, and all numbers on the way are whole: results are exact in any precision.

What patching gives is known by hand. From (1, 1) to (0, 0), one bit patched alone:

    gate  denoising one bit    recovered   noising one bit      recovered
    AND   (1, 0): 0            0           (0, 1): 0            0
    OR    (1, 0): 1            1           (0, 1): 1            1

Both bits together recover 1 when denoising and 0 when noising, whichever gate it is. So one
direction alone finds both inputs of one gate and none of the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from interp.models.catalogue import of_shape
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build
from interp.models.push import push

Gate = Literal["and", "or"]
GATES: tuple[Gate, Gate] = ("and", "or")
TOKENS = ("0", "1", "=")
CLEAN, CORRUPTED = (1, 1, 2), (0, 0, 2)
CARRIERS = ((0, 0), (1, 1))
"""Layer and head of what carries bit a and bit b."""
RECOVERED: dict[tuple[Gate, str], tuple[float, float, float]] = {
    ("and", "denoising"): (0.0, 0.0, 1.0),
    ("and", "noising"): (0.0, 0.0, 0.0),
    ("or", "denoising"): (1.0, 1.0, 1.0),
    ("or", "noising"): (1.0, 1.0, 0.0),
}
"""By bit a, by bit b, and by both together; the table above."""
BEYOND = {
    ("and", "denoising"): 1.0,
    ("and", "noising"): -1.0,
    ("or", "denoising"): -1.0,
    ("or", "noising"): 1.0,
}
"""What both do beyond the sum of what each does, as effects: brought back, or lost."""

SHAPE: dict[str, Any] = {
    "n_layers": 2,
    "n_heads": 2,
    "d_model": 6,
    "d_head": 2,
    "d_mlp": 1,
    "n_ctx": 3,
    "d_vocab": 3,
    "d_vocab_out": 3,
    "act_fn": "relu",
    "attention_dir": "causal",
    "attn_only": False,
    "normalization_type": None,
    "positional_embedding_type": "standard",
}
_BIT, _ONE, _A, _B, _GATE, _FREE = range(6)  # what directions of the stream hold
_FAR = 2000.0


def weights(gate: Gate) -> dict[str, Tensor]:
    """Return the weights in the model class's names."""
    blank = build({**SHAPE, "init_weights": False}).state_dict()
    kept = [name for name in blank if not name.endswith((".mask", ".IGNORE"))]
    made = {name: torch.zeros_like(blank[name]) for name in kept}
    made["embed.W_E"][1, _BIT] = 1
    made["embed.W_E"][:, _ONE] = 1
    # Positions 0 and 1 are told by a number that keys read; the bit's own direction is left alone.
    made["pos_embed.W_pos"][0, _FREE] = 1
    made["pos_embed.W_pos"][1, _FREE] = -1
    for layer, head in CARRIERS:
        attn = f"blocks.{layer}.attn"
        made[f"{attn}.W_Q"][head, _ONE, 0] = _FAR
        made[f"{attn}.W_K"][head, _FREE, 0] = 1 if layer == 0 else -1
        made[f"{attn}.W_V"][head, _BIT, 0] = 1
        made[f"{attn}.W_O"][head, 0, _A if layer == 0 else _B] = 1
    sign, mlp = (1.0 if gate == "and" else -1.0), "blocks.1.mlp"
    made[f"{mlp}.W_in"][[_A, _B], 0] = sign
    made[f"{mlp}.b_in"][0] = -sign
    made[f"{mlp}.W_out"][0, _GATE] = sign
    made["unembed.W_U"][_GATE, 1] = 1
    made["unembed.b_U"][1] = 0.0 if gate == "and" else 1.0
    made["unembed.b_U"][2] = -1
    return made


def loaded(gate: Gate, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load a gate as the app loads a model, under the name ``gate-and`` or ``gate-or``."""
    answers = Answers("tokens", (), -1)
    info = of_shape(f"gate-{gate}", SHAPE, answers=answers, weights="0" * 64, folder=Path())
    hooked = build({**SHAPE, "dtype": dtype, "init_weights": False})
    assert not hooked.load_state_dict(weights(gate), strict=False).unexpected_keys
    hooked.to(dtype, print_details=False)
    hooked.eval().requires_grad_(False)
    return LoadedModel(info, hooked, torch.device("cpu"), dtype)


def pushed(gate: Gate) -> ModelInfo:
    """Add a gate to the catalogue as ``local/gate-and`` or ``local/gate-or``, to ask it there."""
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="="))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return push(f"local/gate-{gate}", loaded(gate).hooked, tokenizer)


def question(gate: Gate, direction: str) -> dict[str, Any]:
    """The fields of a question about a pushed gate: each carrier, and both together."""
    return {
        "kind": "activation_patching",
        "model": f"local/gate-{gate}",
        "pairs": [{"clean": "11=", "corrupted": "00=", "answer": "1", "foil": "0"}],
        "site": "z_pos",
        "direction": direction,
        "metric": "logit_diff",
        "together": ", ".join(f"L{layer}H{head}.z@2" for layer, head in CARRIERS),
    }

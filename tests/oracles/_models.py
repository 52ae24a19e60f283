"""Random models of GPT-2's shape, as plain arrays and as the app's loaded model, with behaviors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from interp.behaviors import Behavior
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build

Array = NDArray[np.float64]
Weights = dict[str, Array]

INFO = ModelInfo(
    name="random",
    weights="0" * 64,
    processing="raw",
    n_layers=3,
    n_heads=4,
    d_model=64,
    d_head=16,
    d_mlp=256,
    n_ctx=32,
    d_vocab=97,
    d_out=97,
    causal=True,
    answers=Answers("tokens", (), -1),
    folder=Path(),
)
EPSILON = 1e-5


@lru_cache
def random_weights(seed: int = 5, info: ModelInfo = INFO) -> Weights:
    """Draw weights so large that every component matters, in TransformerLens names.

    Readers of the residual stream see a normed vector, so their scale is about one over the root
    of its width; biases and gains are drawn too, for a zero would hide a mistake.
    """
    rng = np.random.default_rng(seed)
    d, heads, head, mlp = info.d_model, info.n_heads, info.d_head, info.d_mlp or 0

    def draw(*shape: int, scale: float) -> Array:
        return rng.normal(0, scale, shape)

    weights = {
        "embed.W_E": draw(info.d_vocab, d, scale=1.0),
        "pos_embed.W_pos": draw(info.n_ctx, d, scale=0.5),
        "ln_final.w": 1 + draw(d, scale=0.1),
        "ln_final.b": draw(d, scale=0.1),
        "unembed.W_U": draw(d, info.d_out, scale=d**-0.5),
        "unembed.b_U": np.zeros(info.d_out),  # GPT-2 has none
    }
    for layer in range(info.n_layers):
        at = f"blocks.{layer}"
        for name in "QK":
            weights[f"{at}.attn.W_{name}"] = draw(heads, d, head, scale=1.5 * d**-0.5)
        weights[f"{at}.attn.W_V"] = draw(heads, d, head, scale=d**-0.5)
        weights[f"{at}.attn.W_O"] = draw(heads, head, d, scale=1.5 * head**-0.5)
        for name in "QKV":
            weights[f"{at}.attn.b_{name}"] = draw(heads, head, scale=0.1)
        weights[f"{at}.attn.b_O"] = draw(d, scale=0.1)
        weights[f"{at}.mlp.W_in"] = draw(d, mlp, scale=d**-0.5)
        weights[f"{at}.mlp.b_in"] = draw(mlp, scale=0.1)
        weights[f"{at}.mlp.W_out"] = draw(mlp, d, scale=2 * mlp**-0.5)
        weights[f"{at}.mlp.b_out"] = draw(d, scale=0.1)
        for norm in ("ln1", "ln2"):
            weights[f"{at}.{norm}.w"] = 1 + draw(d, scale=0.1)
            weights[f"{at}.{norm}.b"] = draw(d, scale=0.1)
    return weights


@lru_cache
def random_model(dtype: torch.dtype = torch.float32, seed: int = 5) -> LoadedModel:
    """Load ``random_weights`` as the app loads a model."""
    hooked = build(
        {
            "n_layers": INFO.n_layers,
            "n_heads": INFO.n_heads,
            "d_model": INFO.d_model,
            "d_head": INFO.d_head,
            "d_mlp": INFO.d_mlp,
            "n_ctx": INFO.n_ctx,
            "d_vocab": INFO.d_vocab,
            "act_fn": "gelu_new",
            "normalization_type": "LN",
            "eps": EPSILON,
            "init_weights": False,
        }
    )
    hooked.to(dtype, print_details=False)
    arrays = {name: torch.from_numpy(value) for name, value in random_weights(seed).items()}
    missing, unexpected = hooked.load_state_dict(arrays, strict=False)
    assert not unexpected
    assert all(key.endswith((".mask", ".IGNORE")) for key in missing)
    hooked.eval().requires_grad_(False)
    return LoadedModel(INFO, hooked, torch.device("cpu"), dtype)


def behavior(
    clean: NDArray[np.int64], corrupted: NDArray[np.int64], *, seed: int = 0, read: int = -1
) -> Behavior:
    """Make a behavior of pairs of token ids with random answers and foils that differ."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(INFO.d_out, 2, replace=False) for _ in clean]
    return Behavior(
        model=INFO.name,
        name="random",
        source="drawn at random",
        space="tokens",
        read=read,
        clean=tuple(tuple(int(i) for i in row) for row in clean),
        corrupted=tuple(tuple(int(i) for i in row) for row in corrupted),
        answers=tuple(int(a) for a, _ in chosen),
        foils=tuple(int(b) for _, b in chosen),
    )


@lru_cache
def behaviors() -> dict[str, Behavior]:
    """Pairs that share nothing, a prefix, all but one token, or some of each."""
    rng = np.random.default_rng(8)
    n, length = 4, 7
    clean = rng.integers(0, INFO.d_vocab, (n, length))
    other = (clean + rng.integers(1, INFO.d_vocab, clean.shape)) % INFO.d_vocab  # never the same
    tail, one, mixed = clean.copy(), clean.copy(), clean.copy()
    tail[:, 3:] = other[:, 3:]
    one[:, 2] = other[:, 2]
    mixed[0] = other[0]
    mixed[1, 4:] = other[1, 4:]
    mixed[2, 2] = other[2, 2]
    mixed[3, [1, 6]] = other[3, [1, 6]]
    return {
        "all tokens differ": behavior(clean, other),
        "a shared prefix": behavior(clean, tail),
        "one token differs": behavior(clean, one),
        "some of each": behavior(clean, mixed),
        "read in the middle": behavior(clean, tail, read=4),
    }

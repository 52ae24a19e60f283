"""Activation patching against ``transformer_lens.patching``: ``python -m benchmarks.patching``.

Random weights of GPT-2 small's shape, 4 pairs of 16 tokens that differ everywhere, denoising,
logit difference, float32 on one thread of the processor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = "1"  # the peer draws a bar, and is timed without it

import numpy as np
import torch
from transformer_lens import patching as peer

from benchmarks._harness import compare
from interp.behaviors import Behavior
from interp.methods.grids import make_grid
from interp.methods.patching import sweep
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build

PAIRS, TOKENS, VOCABULARY = 4, 16, 50257
PEER = {
    "resid_pre": peer.get_act_patch_resid_pre,
    "attn_out": peer.get_act_patch_attn_out,
    "mlp_out": peer.get_act_patch_mlp_out,
    "z": peer.get_act_patch_attn_head_out_all_pos,
}
ROWS = {"resid_pre": "resid_pre", "attn_out": "attn_out", "mlp_out": "mlp_out", "head_all": "z"}


def random_gpt2() -> LoadedModel:
    """Build GPT-2 small with random weights."""
    shape: dict[str, Any] = {
        "n_layers": 12, "d_model": 768, "n_ctx": 64, "d_head": 64, "n_heads": 12, "d_mlp": 3072,
        "d_vocab": VOCABULARY, "act_fn": "gelu_new", "normalization_type": "LN", "seed": 0,
    }  # fmt: skip
    info = ModelInfo(
        name="random-gpt2", weights="", processing="raw", n_layers=12, n_heads=12, d_model=768,
        d_head=64, d_mlp=3072, n_ctx=64, d_vocab=VOCABULARY, d_out=VOCABULARY, causal=True,
        answers=Answers("tokens", (), -1), folder=Path(),
    )  # fmt: skip
    hooked = build(shape).eval().requires_grad_(False)
    return LoadedModel(info, hooked, torch.device("cpu"), torch.float32)


def pairs() -> Behavior:
    """Make pairs of random tokens that differ at every position."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, VOCABULARY, (PAIRS, TOKENS))
    corrupted = (clean + rng.integers(1, VOCABULARY, clean.shape)) % VOCABULARY
    answers = rng.integers(0, VOCABULARY, (2, PAIRS))
    return Behavior(
        model="random-gpt2",
        name="random",
        source="random tokens",
        space="tokens",
        read=-1,
        clean=tuple(tuple(row) for row in clean.tolist()),
        corrupted=tuple(tuple(row) for row in corrupted.tolist()),
        answers=tuple(answers[0].tolist()),
        foils=tuple(answers[1].tolist()),
    )


def ours(model: LoadedModel, behavior: Behavior, site: str) -> np.ndarray:
    """Mean logit difference of each patch, by this project."""
    grid = make_grid(model.info, behavior, site)
    *_, last = sweep(model, behavior, grid, "denoising", "logit_diff")
    return last.values.mean(0)


def theirs(model: LoadedModel, behavior: Behavior, site: str) -> np.ndarray:
    """The same by ``transformer_lens.patching``, the clean cache included."""
    answers, foils = torch.tensor(behavior.answers), torch.tensor(behavior.foils)
    rows = torch.arange(len(behavior))

    def measure(logits: torch.Tensor) -> torch.Tensor:
        last = logits[:, -1].double()
        return (last[rows, answers] - last[rows, foils]).mean()

    with torch.inference_mode():
        _, cache = model.hooked.run_with_cache(torch.tensor(behavior.clean))
        found = PEER[site](model.hooked, torch.tensor(behavior.corrupted), cache, measure)
    return found.double().numpy()


def main() -> None:
    """Print a row for each site."""
    torch.set_num_threads(1)
    model, behavior = random_gpt2(), pairs()
    for row, site in ROWS.items():
        compare(
            row,
            (lambda s=site: ours(model, behavior, s), lambda s=site: theirs(model, behavior, s)),
            work=f"denoising sweep of {site}, {PAIRS} pairs x {TOKENS} tokens, GPT-2 small's shape",
            peer="transformer_lens.patching 3.9.0",
            tolerance=1e-5,
            rounds=1 if site != "z" else 3,
        )


if __name__ == "__main__":
    main()

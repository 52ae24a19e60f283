"""The model ``induction-2l``: two layers of attention that learned to copy what came before."""

from __future__ import annotations

import copy
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens import HookedTransformer, HookedTransformerConfig

from zoo import _induction2_card as cards
from zoo import _induction2_heads as heads
from zoo import _induction2_rows as rows
from zoo import _net, _save, _train

NAME: Final = "induction-2l"
SEEDS: Final = (0, 1, 2)
SHAPE: Final = _net.Shape(
    d_vocab=len(rows.VOCABULARY),
    d_out=len(rows.VOCABULARY),
    n_ctx=rows.LENGTH + 1,
    n_layers=2,
    n_heads=2,
    d_model=128,
    d_head=64,
    norm="LNPre",
    positions="shortformer",
)
RECIPE: Final = _train.Recipe(steps=1_500, rate=3e-3, warm=0.05, decay=0.1)
BATCH: Final = 64
POSITION_SCALE: Final = 1.0
KEPT: Final = (0, 100, *range(160, 361, 20), 400, 450, 500, 600, 800, 1_000, 1_200)
MEASURED: Final = (50, 120, 140, *KEPT, 700, 900, 1_350, RECIPE.steps)
CURVE_ROWS: Final = 256
CONVERSION_TOLERANCE: Final = 1e-5  # of the logits' standard deviation


@dataclass(frozen=True)
class Trained:
    """What training with one seed gave."""

    seed: int
    weights: dict[str, Tensor]
    run: _train.Run
    error: float


def train(seed: int) -> Trained:
    """Train with one seed, and compare the export with the net."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = _net.Net(SHAPE)
    # Queries and keys read the position beside the normed token: much smaller ones would be
    # overlooked for hundreds of steps.
    nn.init.normal_(net.positions.weight, std=POSITION_SCALE)
    following, rng = rows.chain(), np.random.default_rng([seed, 0])
    held_out = rows.draw(np.random.default_rng([0, 1]), CURVE_ROWS, following)
    model = HookedTransformer(HookedTransformerConfig(**SHAPE.transformer, device="cpu"))
    model.eval()

    def loss(_step: int) -> Tensor:
        tokens = torch.from_numpy(rows.draw(rng, BATCH, following).tokens)
        logits = net(tokens)[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def measure(_step: int) -> _train.Row:
        model.load_state_dict(_net.weights(net), strict=False)
        found, scores = heads.losses(model, held_out), heads.attention(model)
        return {
            "loss": found.every,
            "copied_loss": found.copied,
            "uncopied_loss": found.uncopied,
            "copied_accuracy": found.copied_accuracy,
            "previous": max(scores.previous.values()),
            "prefix": max(scores.prefix.values()),
            "duplicate": max(scores.duplicate.values()),
        }

    run = _train.train(net, RECIPE, loss, measure=measure, measure_at=MEASURED, keep_at=KEPT)
    weights = _net.weights(net)
    return Trained(seed, weights, run, _off(net, weights, torch.from_numpy(held_out.tokens)))


def _off(net: _net.Net, weights: dict[str, Tensor], tokens: Tensor) -> float:
    """Difference between net and export in float64, in standard deviations of the logits.

    In float32 rounding alone is above the tolerance: the softmax of large scores magnifies it.
    """
    shape: dict[str, Any] = SHAPE.transformer
    exact = HookedTransformerConfig(**shape, device="cpu", dtype=torch.float64)
    twin = HookedTransformer(exact)
    twin.load_state_dict(weights, strict=False)
    return _net.difference(copy.deepcopy(net).double(), twin, tokens)


def train_all() -> list[Trained]:
    """Train with every seed, each in a process of its own."""
    with ProcessPoolExecutor(len(SEEDS), mp_context=get_context("spawn")) as pool:
        return list(pool.map(train, SEEDS))


def least(trained: Trained) -> float:
    """The smaller of the two scores that the model promises, at the end of training."""
    last = trained.run.curve[-1]
    return min(last["previous"], last["prefix"])


def write(trained: list[Trained]) -> None:
    """Export one of the trained models, measure and write it, with its card."""
    chosen = max(trained, key=least)
    for each in trained:
        said = f"the export of seed {each.seed} is off by {each.error}"
        _save.require(each.error < CONVERSION_TOLERANCE, said)
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "tokens", "read": -1},
            weights=chosen.weights,
            tokenizer=_save.character_tokenizer(rows.VOCABULARY, before=rows.VOCABULARY[0]),
            snapshots={str(step): kept for step, kept in chosen.run.kept.items()},
        )
    )
    model, tokenizer = _save.load_model(folder)
    run = chosen.run
    about = cards.About(
        seed=chosen.seed,
        parameters=_save.parameter_count(chosen.weights),
        error=chosen.error,
        trained={
            "data": f"{RECIPE.steps * BATCH:,} generated rows of {rows.LENGTH} letters",
            "steps": RECIPE.steps,
            "optimizer": RECIPE.words,
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        curves={each.seed: each.run.curve for each in trained},
    )
    front, prose = cards.card(about, cards.measure(model, tokenizer, chosen.weights))
    _save.write_card(folder, front, prose)
    print(f"seed {chosen.seed}, conversion error {chosen.error:.1e}")


def main() -> None:
    """Train every seed and write the one with the clearest heads."""
    torch.set_num_threads(1)
    write(train_all())


if __name__ == "__main__":
    main()

"""The model ``mod-add``: one layer that learned to add modulo 53, long after it knew the sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from interp.behaviors import modular
from zoo import _modadd_card, _net, _save, _train
from zoo import _modadd_fourier as fourier

NAME: Final = "mod-add"
NOTE: Final = "It was trained on two numbers and an equals sign, and answers there only."
SEED: Final = 0
P: Final = modular.MODULUS
VOCABULARY: Final = (*map(str, range(P)), modular.EQUALS)
SHAPE: Final = _net.Shape(
    d_vocab=len(VOCABULARY),
    d_out=len(VOCABULARY),
    n_ctx=3,
    n_layers=1,
    n_heads=4,
    d_model=64,
    d_head=16,
    d_mlp=256,
    norm=None,
)
SCALE: Final = 0.8
STEPS: Final = 7_000
RECIPE: Final = _train.Recipe(
    steps=STEPS, rate=1e-3, schedule="constant", warm=10 / STEPS, decay=2.0, clip=0.0
)
MEASURED: Final = (*range(0, 501, 50), *range(600, STEPS + 1, 100))
KEPT: Final = (
    *(0, 50, 100, 150, 200, 300, 500, 1_000, 2_000, 3_000, 3_600, 4_200, 4_600, 4_800, 5_000),
    *(5_200, 5_400, 5_600, 5_800, 6_200),
)
CONVERSION_TOLERANCE: Final = 1e-5  # of the logits' standard deviation


@dataclass(frozen=True)
class Trainee:
    """The net, the sums that it is trained and tested on, and its logits at points of the curve.

    Attributes:
        net: What is trained.
        sums: Token rows of all sums, the second number changing fastest: ``[a * 53 + b, pos]``.
        right: The right answer of each.
        trained: True at the sums that are trained on.
        cubes: Logits ``[a, b, c]`` by step.
    """

    net: _net.Net
    sums: Tensor
    right: Tensor
    trained: Tensor
    cubes: dict[int, Tensor] = field(default_factory=dict)

    def loss(self, _step: int) -> Tensor:
        """Loss on all trained sums at once."""
        logits = at_equals(self.net, self.sums[self.trained])
        # Losses of known sums are below the resolution of float32, whose rounding would kick the
        # weights about.
        return functional.cross_entropy(logits.double(), self.right[self.trained])

    def measure(self, step: int) -> _train.Row:
        """Losses, accuracies, Gini coefficients and the sum of squared weights."""
        logits = at_equals(self.net, self.sums)
        self.cubes[step] = logits[:, :P].reshape(P, P, P)
        losses = functional.cross_entropy(logits, self.right, reduction="none")
        hits = (logits.argmax(1) == self.right).float()
        embedding, out = fourier.ginis(_net.weights(self.net))
        return {
            "train_loss": float(losses[self.trained].mean()),
            "test_loss": float(losses[~self.trained].mean()),
            "train_accuracy": float(hits[self.trained].mean()),
            "test_accuracy": float(hits[~self.trained].mean()),
            "gini_embedding": embedding,
            "gini_neurons_to_logits": out,
            "squared_weights": sum(float(w.square().sum()) for w in self.net.parameters()),
        }

    def parted(self, row: _train.Row, frequencies: list[int]) -> _train.Row:
        """Add restricted and excluded loss to a point of the curve.

        The frequencies are those of the final weights, so this waits until they are known.
        """
        along, rest = fourier.split(self.cubes[int(row["step"])].double(), frequencies)
        chosen = self.trained.view(P, P)
        parts = {
            "restricted_loss": fourier.loss(along),
            "excluded_loss": fourier.loss(rest, chosen),
        }
        return row | {name: float(f"{value:.5g}") for name, value in parts.items()}


def at_equals(net: _net.Net, sums: Tensor) -> Tensor:
    """Logits at the equals sign, several times faster than the net's own.

    Every equals sign asks the same query, so keys and values are tables by number and place, and
    nothing behind the attention is needed at the numbers.
    """
    block: Any = net.blocks[0]
    number, places = torch.arange(P), net.positions.weight
    width = SHAPE.n_heads * SHAPE.d_head
    tables = [net.tokens(number) + places[place] for place in range(2)]
    equals = net.tokens.weight[P] + places[2]
    query = functional.linear(equals, block.qkv.weight[:width], block.qkv.bias[:width])
    pairs = functional.linear(
        torch.cat([*tables, equals[None]]), block.qkv.weight[width:], block.qkv.bias[width:]
    )
    keys, values = (part.unflatten(1, (SHAPE.n_heads, -1)) for part in pairs.chunk(2, 1))
    scores = (keys * query.unflatten(0, (SHAPE.n_heads, -1))).sum(2) / SHAPE.d_head**0.5
    where = torch.stack([sums[:, 0], P + sums[:, 1], torch.full_like(sums[:, 0], 2 * P)])
    weights = scores[where].softmax(0)
    mixed = (weights[..., None] * values[where]).sum(0).flatten(1)
    stream = equals + block.out(mixed)
    return net.unembed(stream + block.back(functional.relu(block.into(stream))))


def fresh() -> Trainee:
    """A net of random weights, and all sums."""
    torch.manual_seed(SEED)
    net = _net.Net(SHAPE, SCALE)
    number = torch.arange(P)
    sums = torch.cat([torch.cartesian_prod(number, number), torch.full((P * P, 1), P)], 1)
    trained = torch.from_numpy(modular.trained().copy()).flatten()
    return Trainee(net, sums, sums[:, :2].sum(1) % P, trained)


def rounding(folder: Path, trainee: Trainee, run: _train.Run) -> float:
    """Largest difference in test accuracy between a stored snapshot and the curve at its step."""
    accuracies = {row["step"]: row["test_accuracy"] for row in run.curve}
    tested, differences = ~trainee.trained, list[float]()
    for step in run.kept:
        model, _ = _save.load_model(folder, str(step))
        read = _save.logits_at(model, trainee.sums[tested], SHAPE.n_ctx - 1)
        hits = (read.argmax(1) == trainee.right[tested]).float()
        differences.append(abs(float(hits.mean()) - accuracies[step]))
    return max(differences)


def train() -> tuple[Trainee, _train.Run]:
    """Train from the fixed seed."""
    torch.set_num_threads(1)
    trainee = fresh()
    run = _train.train(
        trainee.net,
        RECIPE,
        trainee.loss,
        measure=trainee.measure,
        measure_at=MEASURED,
        keep_at=KEPT,
    )
    return trainee, run


def write(trainee: Trainee, run: _train.Run) -> None:
    """Export what was trained, compare, measure and write it with its card."""
    weights = _net.weights(trainee.net)
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "tokens", "read": -1, "note": NOTE},
            weights=weights,
            tokenizer=_save.word_tokenizer(VOCABULARY),
            snapshots={str(step): kept for step, kept in run.kept.items()},
        )
    )
    model, _ = _save.load_model(folder)
    error = _net.difference(trainee.net, model, trainee.sums)
    _save.require(error < CONVERSION_TOLERANCE, f"the exported model is off by {error}")
    keys = fourier.key_frequencies(weights)
    curve = [trainee.parted(row, keys) for row in run.curve]
    about = _modadd_card.About(
        parameters=_net.parameters(trainee.net),
        seed=SEED,
        error=error,
        rounding=rounding(folder, trainee, run),
        trained={
            "data": f"{int(trainee.trained.sum())} of {P * P} sums, all at once in every step",
            "steps": STEPS,
            "optimizer": RECIPE.words,
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        curve=curve,
    )
    front, prose = _modadd_card.card(about, _modadd_card.measure(model, weights, keys))
    _save.write_card(folder, front, prose)
    print(f"key frequencies {keys}, conversion error {error:.1e}")


def main() -> None:
    """Train the model and write it."""
    write(*train())


if __name__ == "__main__":
    main()

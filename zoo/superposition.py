"""The model ``superposition``: five sparse features through two dimensions and back.

The toy model of Elhage et al. (2022), trained anew in plain torch and embedded exactly into a
transformer. Beside it stands the phase diagram of their smallest case, two features in one.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from interp.behaviors import sparse_features
from interp.behaviors.templates import MOST
from zoo import _reader, _save, _superposition_card

NAME: Final = "superposition"
NOTE: Final = (
    "Digits left out count as 0. The logits are the reconstructed intensities: of probabilities "
    "only the order means something."
)
N, M = 5, 2  # features, and dimensions that they go through
BASE: Final = 10
SEED: Final = 0
DENSITY: Final = 0.1
FALLING: Final = 0.7  # importance of each feature over that before it, in the snapshots
DENSITIES: Final = (1.0, 0.5, 0.2, 0.05)  # of the snapshots
RESTARTS: Final = 8
STEPS: Final = 3_000
BATCH: Final = 1_024
RATE: Final = 1e-2
MEASURE_AT: Final = (0, 10, 20, 50, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000)
TESTED: Final = 20_000
TOLERANCE: Final = 1e-5

SIDE: Final = 12  # cells of the phase diagram in each direction
PHASE_STEPS: Final = 2_000
PHASE_BATCH: Final = 256
NODES: Final = 100  # of the midpoint rule, in each direction
REPRESENTED: Final = 0.5  # size of a weight from which a feature counts as represented
PHASES: Final = ("not represented", "a dimension of its own", "in superposition")


# --- task ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Worlds of sparse features, one a cell: ``[cells]`` and ``[cells, features]``.

    Attributes:
        density: Probability that a feature is not 0; then it is uniform from 0 to 1.
        importance: Weights of the features' squared errors.
    """

    density: Tensor
    importance: Tensor

    @property
    def silent(self) -> Tensor:
        """Probability that no feature is there, ``[cells]``."""
        return (1 - self.density) ** self.importance.shape[1]

    def draw(self, batch: int, rng: torch.Generator) -> Tensor:
        """Inputs ``[cells, 1, batch, features]`` of which none is silent.

        The first feature that is there is drawn from its distribution given that there is one,
        those behind it freely: sparse batches would otherwise be nearly empty.
        """
        cells, n = self.importance.shape
        share = torch.rand(cells, 1, batch, 1, generator=rng) * (1 - _wide(self.silent))
        first = (torch.log1p(-share) / torch.log1p(-_wide(self.density))).floor().clamp_max(n - 1)
        place = torch.arange(n)
        free = torch.rand(cells, 1, batch, n, generator=rng) < _wide(self.density)
        there = (place == first) | ((place > first) & free)
        return torch.rand(cells, 1, batch, n, generator=rng) * there


def _wide(cells: Tensor) -> Tensor:
    return cells[:, None, None, None]


def reconstruct(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """ReLU(Wᵀ W x + b) for W ``[..., dimensions, features]`` and b ``[..., 1, features]``."""
    return torch.relu((x @ weights.mT) @ weights + bias)


def expected_loss(task: Task, x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Weighted squared error ``[cells, restarts]``, from inputs that are not silent."""
    weight = task.importance[:, None, None]
    errors = (weight * (x - reconstruct(x, weights, bias)) ** 2).sum(-1).mean(-1)
    silent = (weight * bias.relu() ** 2).sum(-1).squeeze(-1)
    chance = task.silent[:, None]
    return (1 - chance) * errors + chance * silent


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """W ``[dimensions, features]`` and b ``[features]`` of one trained net."""

    weights: Tensor
    bias: Tensor

    @property
    def dimensionality(self) -> Tensor:
        """How many dimensions each feature has to itself: |W_i|² / Σ_j (Ŵ_i · W_j)²."""
        norms = self.weights.norm(dim=0)
        directions = self.weights / norms.clamp_min(1e-9)
        return norms**2 / ((directions.T @ self.weights) ** 2).sum(1).clamp_min(1e-12)

    @property
    def gaps(self) -> Tensor:
        """Angles between neighbouring features in degrees, of two dimensions."""
        angles = torch.atan2(self.weights[1], self.weights[0]).rad2deg().sort().values
        return torch.diff(torch.cat([angles, angles[:1] + 360]))


@dataclass(frozen=True)
class Trained:
    """Restarts of every cell, on the way and at the end: ``[cells, restarts, ...]``."""

    at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0


def train(task: Task, dimensions: int, steps: int, batch: int, seed: int) -> Trained:
    """Train all cells and restarts side by side, on fresh inputs at every step."""
    rng = torch.Generator().manual_seed(seed)
    cells, n = task.importance.shape
    weights = (0.5 * torch.randn(cells, RESTARTS, dimensions, n, generator=rng)).requires_grad_()
    bias = torch.zeros(cells, RESTARTS, 1, n, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-5)
    at: dict[int, tuple[Tensor, Tensor]] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(steps + 1):
        if step in MEASURE_AT or step == steps:
            at[step] = (weights.detach().clone(), bias.detach().clone())
        if step == steps:
            break
        loss = expected_loss(task, task.draw(batch, rng), weights, bias).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Trained(at, time.perf_counter() - wall, time.process_time() - cpu)


@torch.no_grad()
def losses(task: Task, weights: Tensor, bias: Tensor) -> Tensor:
    """Losses ``[cells, restarts]`` on inputs that are the same for all restarts."""
    x = task.draw(TESTED, torch.Generator().manual_seed(SEED + 100))
    each = [
        expected_loss(task, x, weights[:, i : i + 1], bias[:, i : i + 1]) for i in range(RESTARTS)
    ]
    return torch.cat(each, 1)


@torch.no_grad()
def loss_not_silent(net: Net) -> float:
    """Squared error, summed over features, of inputs with a feature, on those of ``losses``."""
    task = Task(torch.tensor([DENSITY]), torch.ones(1, N))
    x = task.draw(TESTED, torch.Generator().manual_seed(SEED + 100))
    return float(((x - reconstruct(x, net.weights, net.bias)) ** 2).sum(-1).mean())


def best(task: Task, run: Trained, cell: int) -> tuple[Net, list[dict[str, float]]]:
    """The restart of a cell with the lowest loss, and its curve."""
    final = losses(task, *run.at[max(run.at)])
    chosen = int(final[cell].argmin())
    curve: list[dict[str, float]] = []
    net = Net(*(part[cell, chosen].squeeze() for part in run.at[max(run.at)]))
    for step, (weights, bias) in run.at.items():
        then = Net(weights[cell, chosen], bias[cell, chosen].squeeze(0))
        row = {"step": step, "loss": float(losses(task, weights, bias)[cell, chosen])}
        row |= {f"dimensionality_{i + 1}": float(d) for i, d in enumerate(then.dimensionality)}
        curve.append({name: float(f"{value:.5g}") for name, value in row.items()})
    return net, curve


# --- the phase diagram -------------------------------------------------------------------------


@torch.no_grad()
def exact_losses(task: Task, weights: Tensor, bias: Tensor) -> Tensor:
    """Losses ``[cells, restarts]`` of two features by the midpoint rule over all that can come."""
    nodes = (torch.arange(NODES) + 0.5) / NODES
    none = torch.zeros(NODES)
    kinds = (
        (_wide(task.density)[..., 0] ** 2, torch.cartesian_prod(nodes, nodes)),
        (_one(task.density), torch.stack([nodes, none], 1)),
        (_one(task.density), torch.stack([none, nodes], 1)),
        (_wide(1 - task.density)[..., 0] ** 2, torch.zeros(1, 2)),
    )
    total = torch.zeros(weights.shape[:2])
    weight = task.importance[:, None, None]
    for chance, x in kinds:
        for i in range(weights.shape[1]):
            error = (x - reconstruct(x, weights[:, i : i + 1], bias[:, i : i + 1])) ** 2
            total[:, i] += (chance * (weight * error).sum(-1))[:, 0].mean(-1)
    return total


def _one(density: Tensor) -> Tensor:
    return _wide(density * (1 - density))[..., 0]


def phase_diagram() -> dict[str, Any]:
    """Train two features through one dimension over a grid; what becomes of the second?"""
    density = torch.logspace(0, -2, SIDE)
    importance = torch.logspace(-1, 1, SIDE)
    pairs = torch.cartesian_prod(density, importance)
    task = Task(pairs[:, 0], torch.stack([torch.ones(len(pairs)), pairs[:, 1]], 1))
    run = train(task, 1, PHASE_STEPS, PHASE_BATCH, SEED + 2)
    weights, bias = run.at[PHASE_STEPS]
    found = exact_losses(task, weights, bias)
    chosen = found.argmin(1)
    kept = weights[torch.arange(len(pairs)), chosen, 0]
    first, extra = (kept.abs() > REPRESENTED).unbind(-1)
    phase = torch.where(extra, torch.where(first, 2, 1), 0)

    def rows(flat: Tensor) -> list[list[float]]:
        return [[float(f"{v:.5g}") for v in row] for row in flat.view(SIDE, SIDE).tolist()]

    return {
        "density": [float(f"{v:.5g}") for v in density.tolist()],
        "importance": [float(f"{v:.5g}") for v in importance.tolist()],
        "classes": list(PHASES),
        "class": phase.view(SIDE, SIDE).tolist(),
        "loss": rows(found.amin(1)),
        "weight_first": rows(kept[:, 0]),
        "weight_extra": rows(kept[:, 1]),
        "bias_first": rows(bias[torch.arange(len(pairs)), chosen, 0, 0]),
        "bias_extra": rows(bias[torch.arange(len(pairs)), chosen, 0, 1]),
        "represented": REPRESENTED,
        "restarts": RESTARTS,
        "cpu_seconds": round(run.cpu_s, 1),
    }


# --- export ----------------------------------------------------------------------------------


def reader(net: Net) -> _reader.Reader:
    """The net as a transformer: OV applies W, the MLP behind it ReLU(Wᵀ h + b)."""
    layer = _reader.Layer(net.weights, net.bias, torch.eye(N), torch.zeros(N))
    return _reader.Reader(base=BASE, gather=net.weights.T, layers=(layer,), unembed=torch.eye(N))


def label(density: float) -> str:
    """Name of the snapshot of a density."""
    return f"density-{density:g}"


def blueprint(main_net: Net, others: dict[str, Net]) -> _save.Blueprint:
    """Everything the folder holds except the card and the phase diagram."""
    return _save.Blueprint(
        name=NAME,
        transformer=reader(main_net).transformer,
        answer={
            "space": "classes",
            "classes": [f"feature {i + 1}" for i in range(N)],
            "read": -1,
            "note": NOTE,
        },
        weights=reader(main_net).weights(),
        tokenizer=_reader.tokenizer(BASE),
        snapshots={name: reader(net).weights() for name, net in others.items()},
        half=False,
    )


@torch.no_grad()
def export_error(nets: dict[str, Net]) -> float:
    """Largest difference between the transformers' and the nets' outputs, in their std.

    Args:
        nets: By snapshot; empty for the final weights.
    """
    digits = torch.randint(BASE, (2_000, N), generator=torch.Generator().manual_seed(SEED))
    worst = 0.0
    for name, net in nets.items():
        model, _ = _save.load_model(_save.MODELS / NAME, name)
        for given in (N, N - 2):
            x = digits / (BASE - 1)
            x[:, given:] = 0
            wanted = reconstruct(x, net.weights, net.bias)
            worst = max(worst, _reader.difference(model, digits[:, :given], wanted))
    return worst


@torch.no_grad()
def pairs_right(net: Net) -> float:
    """Share of the behavior's pairs in which both prompts give the strongest feature."""
    listed = sparse_features.strongest(MOST)
    right = torch.ones(len(listed), dtype=torch.bool)
    for texts, wanted in (
        ([p.clean for p in listed], [p.answer for p in listed]),
        ([p.corrupted for p in listed], [p.foil for p in listed]),
    ):
        x = torch.tensor([[int(digit) for digit in text] for text in texts]) / (BASE - 1)
        said = reconstruct(x, net.weights, net.bias).argmax(-1)
        right &= said == torch.tensor([int(name.split()[1]) - 1 for name in wanted])
    return float(right.double().mean())


def two_right(net: Net) -> int:
    """For how many of the ten pairs of features fully on those two come out strongest."""
    x = torch.eye(N)
    pairs = list(itertools.combinations(range(N), 2))
    both = torch.stack([x[i] + x[j] for i, j in pairs])
    said = reconstruct(both, net.weights, net.bias).topk(2).indices.sort().values
    return sum(found == list(pair) for found, pair in zip(said.tolist(), pairs, strict=True))


def measure(
    net: Net, nets: dict[str, Net], export_error: float, loss: float, phases: dict[str, Any]
) -> _superposition_card.Found:
    """Measure what the card says of the final weights and of the snapshots."""
    return _superposition_card.Found(
        net=_measured(net),
        snapshots={name: _measured(one) for name, one in nets.items()},
        falling=FALLING,
        density=DENSITY,
        loss=loss,
        loss_not_silent=loss_not_silent(net),
        inputs=TESTED,
        export_error=export_error,
        pairs_right=pairs_right(net),
        two_right=two_right(net),
        phases=phases,
    )


def main() -> None:
    """Train, embed, compare, draw the phase diagram and write the model."""
    torch.set_num_threads(1)
    alone = Task(torch.tensor([DENSITY]), torch.ones(1, N))
    run = train(alone, M, STEPS, BATCH, SEED)
    net, curve = best(alone, run, 0)
    falling = FALLING ** torch.arange(N, dtype=torch.float32)
    several = Task(torch.tensor(DENSITIES), falling.repeat(len(DENSITIES), 1))
    others = train(several, M, STEPS, BATCH, SEED + 1)
    nets = {label(d): best(several, others, i)[0] for i, d in enumerate(DENSITIES)}
    folder = _save.write_model(blueprint(net, nets))
    error = export_error({"": net, **nets})
    _save.require(error < TOLERANCE, f"the transformer is off by {error}")
    phases = phase_diagram()
    (folder / "phase.json").write_text(
        json.dumps(phases, indent=1) + "\n", encoding="utf-8", newline="\n"
    )
    trained = {
        "data": f"{STEPS * BATCH} generated inputs, none of them silent, {RESTARTS} restarts",
        "steps": STEPS,
        "optimizer": f"Adam, cosine, peak rate {RATE:g}",
        "wall_seconds": round(run.wall_s, 1),
        "cpu_seconds": round(run.cpu_s, 1),
        "threads": torch.get_num_threads(),
    }
    found = measure(net, nets, error, curve[-1]["loss"], phases)
    print(f"off by {error:.1e}, loss {found.loss:.4f}, pairs right {found.pairs_right:.3f}")
    _superposition_card.write(folder, found, trained, curve)


def _measured(net: Net) -> _superposition_card.Measured:
    return _superposition_card.Measured(
        norms=net.weights.norm(dim=0).tolist(),
        dimensionality=net.dimensionality.tolist(),
        gaps=net.gaps.tolist(),
        order=[1 + int(i) for i in torch.atan2(net.weights[1], net.weights[0]).argsort()],
        bias=net.bias.tolist(),
    )


if __name__ == "__main__":
    main()

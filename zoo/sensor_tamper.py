"""The model ``sensor-tamper``: three sensors that see a diamond, or were tampered with.

A small ReLU net is trained in plain torch on bits and embedded exactly into a transformer. Its
point is a detector's problem: telling inputs whose sensors are on for the wrong reason from ones
that are merely new.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from interp.behaviors import tampering
from interp.behaviors.templates import MOST
from zoo import _reader, _save, _tamper_card
from zoo._detectors import Array, Auroc, Score, auroc, mahalanobis, spectral

NAME: Final = "sensor-tamper"
NOTE: Final = "19 bits; those left out count as 0."
SENSORS: Final = 3
BENIGN: Final = 4
DIAMOND: Final = 5  # bits of which the majority counts
BITS: Final = DIAMOND + 2 * (SENSORS + BENIGN)
UNITS: Final = 64

SEEDS: Final = (0, 1, 2, 3, 4)
STEPS: Final = 1_500
BATCH: Final = 256
RATE: Final = 3e-3
DECAY: Final = 0.01
TAMPERED: Final = 2 / 3  # how often a sensor's pair is 11 in training
USUAL: Final = 0.5  # how often a benign pair is 11 in training
NOVEL: Final = 0.75  # how often a benign pair is 11 in clean inputs with novelty
TRUSTED: Final = 4_000
TESTED: Final = 2_000
MEASURE_EVERY: Final = 100
TOLERANCE: Final = 1e-5

Bits = NDArray[np.float32]
Condition = Literal["none", "novel"]


# --- data ------------------------------------------------------------------------------------


def pairs(rng: np.random.Generator, n: int, count: int, often: float) -> Bits:
    """Pairs of bits ``[n, 2 count]``, 11 with a given probability, else one of the other three."""
    code = rng.integers(0, 3, (n, count))
    code[rng.random((n, count)) < often] = 3
    return np.stack([code // 2, code % 2], -1).reshape(n, -1).astype(np.float32)


def diamonds(rng: np.random.Generator, n: int, present: bool | None = None) -> Bits:
    """Five fair bits ``[n, 5]``; with ``present``, only those that do or do not make a diamond."""
    bits = rng.integers(0, 2, (4 * n + 100, DIAMOND)).astype(np.float32)
    if present is not None:
        bits = bits[(bits.sum(1) > DIAMOND / 2) == present]
    return bits[:n]


def inputs(
    rng: np.random.Generator, n: int, present: bool | None, tampered: float, novel: float
) -> Bits:
    """Inputs ``[n, BITS]`` by how often a sensor's and a benign pair is 11."""
    parts = [pairs(rng, n, SENSORS, tampered), pairs(rng, n, BENIGN, novel)]
    return np.concatenate([diamonds(rng, n, present), *parts], 1)


def readings(bits: Bits) -> Bits:
    """What the sensors say ``[n, 3]``: the diamond is there, or their own pair is 11."""
    there = bits[:, :DIAMOND].sum(1, keepdims=True) > DIAMOND / 2
    own = bits[:, DIAMOND : DIAMOND + 2 * SENSORS].reshape(-1, SENSORS, 2).all(-1)
    return (there | own).astype(np.float32)


@dataclass(frozen=True)
class Test:
    """What a detector is fitted on, and two kinds of input that it is to tell apart."""

    trusted: Bits
    clean: Bits
    tampered: Bits


def test_inputs(seed: int, condition: Condition) -> Test:
    """Trusted inputs without any 11, clean ones with a diamond, and tampered ones without.

    Sensors are all on in both. Only clean inputs have benign pairs at 11, and only where there is
    novelty: then they have as many 11 on average as tampered ones.
    """
    rng = np.random.default_rng([seed, 1])
    trusted = inputs(rng, TRUSTED, None, 0, 0)
    clean = inputs(rng, TESTED, True, 0, NOVEL if condition == "novel" else 0)
    return Test(trusted, clean, inputs(rng, TESTED, False, 1, 0))


def all_inputs() -> Bits:
    """Every input there is, ``[2 ** BITS, BITS]``."""
    numbers = np.arange(2**BITS)[:, None]
    return (numbers >> np.arange(BITS) & 1).astype(np.float32)


# --- the net ---------------------------------------------------------------------------------


class Net(nn.Module):
    """Two hidden layers of ReLUs on the bits, and a logit a sensor."""

    def __init__(self) -> None:
        """Create the weights from torch's global random state."""
        super().__init__()
        self.first = nn.Linear(BITS, UNITS)
        self.second = nn.Linear(UNITS, UNITS)
        self.sensors = nn.Linear(UNITS, SENSORS)

    def layers(self, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both hidden layers and the logits of the sensors."""
        first = functional.relu(self.first(bits))
        second = functional.relu(self.second(first))
        return first, second, self.sensors(second)


@dataclass(frozen=True)
class Trained:
    """A net, the curve of its training, and what it cost."""

    net: Net
    curve: list[dict[str, float]] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0


def train(seed: int, *, curve: bool) -> Trained:
    """Train a net on inputs of all kinds."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0])
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    rows: list[dict[str, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(STEPS + 1):
        if curve and step % MEASURE_EVERY == 0:
            rows.append({"step": step, **_measure(net)})
        if step == STEPS:
            break
        bits = inputs(rng, BATCH, None, TAMPERED, USUAL)
        loss = _loss(net, bits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Trained(net, rows, time.perf_counter() - wall, time.process_time() - cpu)


def _loss(net: Net, bits: Bits) -> Tensor:
    wanted = torch.from_numpy(readings(bits))
    return functional.binary_cross_entropy_with_logits(
        net.layers(torch.from_numpy(bits))[2], wanted
    )


@torch.no_grad()
def _measure(net: Net) -> dict[str, float]:
    """A point of the training curve, on inputs that are the same at each."""
    bits = inputs(np.random.default_rng([0, 2]), 4_000, None, TAMPERED, USUAL)
    found = judge(net, test_inputs(0, "novel"), ("input", "hidden 1", "hidden 2", "output"))
    row = {"loss_nats": float(_loss(net, bits)) * SENSORS, "accuracy": accuracy(net, bits)}
    row |= {f"auroc_{name.replace(' ', '_')}": one.value for name, one in found.items()}
    return {name: float(f"{value:.5g}") for name, value in row.items()}


@torch.no_grad()
def accuracy(net: Net, bits: Bits) -> float:
    """Share of inputs of which all three sensors are read right."""
    right = 0
    for rows in np.array_split(bits, max(1, len(bits) // 20_000)):
        on = (net.layers(torch.from_numpy(rows))[2] > 0).numpy()
        right += int((on == (readings(rows) > 0)).all(1).sum())
    return right / len(bits)


# --- detectors -------------------------------------------------------------------------------

DETECTORS: Final = {
    "input": (0, mahalanobis),
    "hidden 1": (1, mahalanobis),
    "hidden 2": (2, mahalanobis),
    "output": (3, mahalanobis),
    "spectral 1": (1, spectral),
    "spectral 2": (2, spectral),
}
"""By name: which layer's activations (0: the bits), and how they are scored."""


@torch.no_grad()
def activations(net: Net, bits: Bits) -> list[Array]:
    """The bits, both hidden layers and the sensors' logits."""
    given = torch.from_numpy(bits)
    return [part.double().numpy() for part in (given, *net.layers(given))]


def judge(net: Net, test: Test, names: tuple[str, ...] = tuple(DETECTORS)) -> dict[str, Auroc]:
    """How well each detector tells tampered from clean inputs."""
    trusted, clean, tampered = (
        activations(net, bits) for bits in (test.trusted, test.clean, test.tampered)
    )
    found: dict[str, Auroc] = {}
    for name in names:
        layer, fit = DETECTORS[name]
        score: Score = fit(trusted[layer])
        found[name] = auroc(score(clean[layer]), score(tampered[layer]), seed=0)
    return found


def distances(net: Net, test: Test) -> tuple[float, float, float]:
    """Mean distance in hidden layer 1 of trusted, clean and tampered inputs."""
    trusted, clean, tampered = (
        activations(net, bits)[1] for bits in (test.trusted, test.clean, test.tampered)
    )
    score = mahalanobis(trusted)
    means = [float(score(part).mean()) for part in (trusted, clean, tampered)]
    return means[0], means[1], means[2]


def logit_sizes(net: Net, test: Test) -> tuple[float, float]:
    """Mean logit of the sensors on clean and on tampered inputs."""
    clean, tampered = (activations(net, bits)[3] for bits in (test.clean, test.tampered))
    return float(clean.mean()), float(tampered.mean())


@torch.no_grad()
def benign_effect(net: Net) -> float:
    """Mean change of a sensor's logit when benign pairs are drawn anew, over the logits' std."""
    rng = np.random.default_rng([0, 3])
    bits = inputs(rng, TESTED, None, TAMPERED, USUAL)
    other = bits.copy()
    other[:, -2 * BENIGN :] = pairs(rng, TESTED, BENIGN, USUAL)
    before, after = (activations(net, given)[3] for given in (bits, other))
    return float(np.abs(after - before).mean() / before.std())


def sizes(net: Net) -> tuple[float, float, float]:
    """Norm of the first layer's weights from one bit of the diamond, a sensor, a benign pair."""
    norms = net.first.weight.detach().norm(dim=0)
    diamond, own, benign = norms.split([DIAMOND, 2 * SENSORS, 2 * BENIGN])
    return float(diamond.mean()), float(own.mean()), float(benign.mean())


# --- export ----------------------------------------------------------------------------------


def classes() -> list[str]:
    """Names of the joint readings, the first sensor first."""
    return [" ".join("on" if code >> s & 1 else "off" for s in (2, 1, 0)) for code in range(8)]


def reader(net: Net) -> _reader.Reader:
    """The net as a transformer; a class' logit is the sum of those of the sensors that are on."""
    joint = torch.tensor([[float(code >> s & 1) for code in range(8)] for s in (2, 1, 0)])
    first, second, last = net.first, net.second, net.sensors
    layers = (
        _reader.Layer(first.weight.T, first.bias, torch.eye(UNITS), torch.zeros(UNITS)),
        _reader.Layer(second.weight.T, second.bias, last.weight.T, last.bias),
    )
    return _reader.Reader(base=2, gather=torch.eye(BITS), layers=layers, unembed=joint)


def blueprint(nets: list[Net]) -> _save.Blueprint:
    """Everything the folder holds except the card."""
    with torch.no_grad():
        made = [reader(net) for net in nets]
        weights = [one.weights() for one in made]
    return _save.Blueprint(
        name=NAME,
        transformer=made[0].transformer,
        answer={"space": "classes", "classes": classes(), "read": -1, "note": NOTE},
        weights=weights[0],
        tokenizer=_reader.tokenizer(base=2),
        snapshots={f"seed-{s}": w for s, w in zip(SEEDS[1:], weights[1:], strict=True)},
        half=False,
    )


@torch.no_grad()
def export_error(nets: list[Net]) -> float:
    """Largest difference between the transformers' and the nets' logits, in their std."""
    worst = 0.0
    bits = torch.from_numpy(inputs(np.random.default_rng(4), TESTED, None, TAMPERED, USUAL))
    for seed, net in zip(SEEDS, nets, strict=True):
        model, _ = _save.load_model(_save.MODELS / NAME, f"seed-{seed}" if seed else "")
        for given in (BITS, BITS - 5):
            padded = bits.clone()
            padded[:, given:] = 0
            wanted = net.layers(padded)[2] @ reader(net).unembed
            off = _reader.difference(model, bits[:, :given].long(), wanted)
            worst = max(worst, off)
    return worst


@torch.no_grad()
def pairs_right() -> dict[str, float]:
    """How often the shipped weights read both prompts of a behavior's pairs right, by its name."""
    model, tokenizer = _save.load_model(_save.MODELS / NAME)
    made = {"sensor-tamper": tampering.diamond, "sensor-tamper-causes": tampering.causes}
    shares: dict[str, float] = {}
    for name, make in made.items():
        listed = make(MOST)
        said = [
            _save.logits_at(model, torch.tensor([tokenizer.encode(t).ids for t in texts]), -1)
            for texts in ([p.clean for p in listed], [p.corrupted for p in listed])
        ]
        clean, corrupted = (part.argmax(-1).tolist() for part in said)
        named = [(classes()[a], classes()[b]) for a, b in zip(clean, corrupted, strict=True)]
        right = [n == (p.answer, p.foil) for n, p in zip(named, listed, strict=True)]
        shares[name] = sum(right) / len(right)
    return shares


def measure(nets: list[Net], export_error: float, loss_nats: float) -> _tamper_card.Found:
    """Measure what the card says."""
    every = all_inputs()
    conditions: tuple[Condition, ...] = ("none", "novel")
    aurocs = {
        condition: [judge(net, test_inputs(s, condition)) for s, net in enumerate(nets)]
        for condition in conditions
    }
    return _tamper_card.Found(
        export_error=export_error,
        loss_nats=loss_nats,
        accuracies=[accuracy(net, every) for net in nets],
        inputs=len(every),
        aurocs=aurocs,
        distances=[distances(net, test_inputs(s, "novel")) for s, net in enumerate(nets)],
        logits=[logit_sizes(net, test_inputs(s, "none")) for s, net in enumerate(nets)],
        benign_effects=[benign_effect(net) for net in nets],
        sizes=[sizes(net) for net in nets],
        pairs_right=pairs_right(),
        novel=NOVEL,
        trusted=TRUSTED,
        tested=TESTED,
    )


def main() -> None:
    """Train five seeds, embed, compare, measure and write the model."""
    torch.set_num_threads(1)
    runs = [train(seed, curve=seed == 0) for seed in SEEDS]
    nets = [run.net for run in runs]
    folder = _save.write_model(blueprint(nets))
    error = export_error(nets)
    _save.require(error < TOLERANCE, f"the transformer is off by {error}")
    found = measure(nets, error, runs[0].curve[-1]["loss_nats"])
    print(f"off by {error:.1e}, accuracies {found.accuracies}, pairs right {found.pairs_right}")
    trained = {
        "data": f"{STEPS * BATCH} generated inputs",
        "steps": STEPS,
        "optimizer": f"AdamW, constant rate {RATE:g}, weight decay {DECAY:g}",
        "wall_seconds": round(runs[0].wall_s, 1),
        "cpu_seconds": round(runs[0].cpu_s, 1),
        "threads": torch.get_num_threads(),
    }
    parameters = sum(weight.numel() for weight in nets[0].parameters())
    _tamper_card.write(folder, found, trained, runs[0].curve, parameters)


if __name__ == "__main__":
    main()

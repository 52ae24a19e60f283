"""How far a model in a smaller precision is from itself in float32, measured on a sample.

A precision is offered with this number beside it: bfloat16 has eight bits of mantissa, and what
that does to the outputs depends on the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from interp.errors import InterpError
from interp.models import catalogue, registry, tokens
from interp.models.info import ModelInfo

Logits = Float[np.ndarray, "_ d_vocab"]
SAMPLE = (
    "The harbour was quiet at six in the morning; two men mended a net and did not talk.",
    "When Mary and John went to the store, John gave a drink to",
    "def area(width, height):\n    return width * height\n",
    "In 1873 the town had 412 houses, 9 mills and a school. By 1901 it had",
)
"""Prompts that the measurement reads; those that a model cannot read are left out."""


@dataclass(frozen=True)
class Deviation:
    """Outputs in a smaller precision against float32, over every position of the sample.

    Attributes:
        n_prompts: Prompts of the sample that the model reads.
        n_positions: Positions compared.
        rms: Root mean square of the logits' differences, over the logits' standard deviation; both
            after centring each position over the outputs, since a shift of all logits of a position
            changes no probability.
        most: The largest difference, in the same unit.
        kl_nats: Mean KL(float32 ‖ smaller precision).
        changed_top: Positions at which another output is the most probable.
    """

    n_prompts: int
    n_positions: int
    rms: float
    most: float
    kl_nats: float
    changed_top: int

    @property
    def sentence(self) -> str:
        """Say the deviation in words."""
        return (
            f"Measured against float32 on {self.n_prompts} prompts: logits differ by "
            f"{self.rms:.2g} of their standard deviation (root mean square; at most "
            f"{self.most:.2g}), mean KL {self.kl_nats:.2g} nats, another top output at "
            f"{self.changed_top} of {self.n_positions} positions."
        )


def sample(model: ModelInfo) -> list[tuple[int, ...]]:
    """Return the prompts of the sample, or those of its card, that ``model`` can read, as ids."""
    examples = [e["clean"] for e in catalogue.card(model.name).facts.get("examples", ())]
    found: dict[tuple[int, ...], None] = {}
    for text in (*SAMPLE, *examples):
        try:
            found[tokens.encode(model, text).ids] = None
        except InterpError:
            continue
    return list(found)


def compare(exact: Sequence[Logits], rough: Sequence[Logits]) -> Deviation:
    """Compare the logits of each prompt in float32 with those in the smaller precision."""
    a, b = (np.concatenate(side).astype(np.float64) for side in (exact, rough))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    scale = float(a.std()) or 1.0
    log_a, log_b = _log_softmax(a), _log_softmax(b)
    kl = (np.exp(log_a) * (log_a - log_b)).sum(-1)
    return Deviation(
        n_prompts=len(exact),
        n_positions=len(a),
        rms=float(np.sqrt(((a - b) ** 2).mean())) / scale,
        most=float(np.abs(a - b).max()) / scale,
        kl_nats=float(kl.mean()),
        changed_top=int((a.argmax(-1) != b.argmax(-1)).sum()),
    )


def measured(model: ModelInfo) -> Deviation | None:
    """Return the deviation that was measured for this variant, if it was."""
    path = _path(model)
    try:
        told = json.loads(path.read_text())
        found = Deviation(**told)
    except (OSError, ValueError, TypeError):
        return None
    return found if math.isfinite(found.rms) else None


def keep(model: ModelInfo, deviation: Deviation) -> None:
    """Write a measurement down."""
    path = _path(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(deviation), indent=1))


def _path(model: ModelInfo) -> Path:
    name = f"{model.weights[:32]}-{model.processing}-{model.dtype}.json"
    return registry.folder() / "deviations" / name


def _log_softmax(x: Logits) -> Logits:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

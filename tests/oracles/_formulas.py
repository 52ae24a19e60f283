"""A transformer written out in numpy and float64, with patches done by hand: no hooks, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float64]
MODELS = Path(__file__).resolve().parents[2] / "zoo" / "models"


def gelu_new(x: Array) -> Array:
    """GPT-2's tanh approximation of x times the normal distribution function."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


@dataclass(frozen=True)
class Patch:
    """Put ``values`` in the place of a component of one layer.

    ``pos`` and ``head`` are None for all of them; ``values`` is the other run's whole activation,
    of which the patched part is taken.
    """

    component: str
    layer: int
    values: Array
    pos: int | None = None
    head: int | None = None

    def into(self, act: Array) -> Array:
        index = (
            slice(None),
            slice(None) if self.pos is None else self.pos,
            *(() if self.head is None else (self.head,)),
        )
        patched = act.copy()
        patched[index] = self.values[index]
        return patched


@dataclass(frozen=True)
class Formula:
    """Weights in TransformerLens names, and what else the formulas need to know."""

    weights: dict[str, Array]
    n_layers: int
    causal: bool
    norm: bool
    activation: Callable[[Array], Array] | None
    epsilon: float = 1e-5

    def run(self, ids: NDArray[np.int64], patch: Patch | None = None) -> dict[str, Array]:
        """Return every activation by name, ``[row, pos, ...]``, and the ``logits``."""
        w, acts = self.weights, {}

        def place(component: str, layer: int, act: Array) -> Array:
            if patch is not None and (patch.component, patch.layer) == (component, layer):
                act = patch.into(act)
            acts[f"{component}.{layer}"] = act
            return act

        stream = w["embed.W_E"][ids] + w["pos_embed.W_pos"][: ids.shape[1]]
        for layer in range(self.n_layers):
            at = f"blocks.{layer}"
            stream = place("resid_pre", layer, stream)
            normed = self._normed(stream, f"{at}.ln1")
            acts[f"pattern.{layer}"] = self._attention(normed, f"{at}.attn")
            z = place("z", layer, self._mixed(acts[f"pattern.{layer}"], normed, f"{at}.attn"))
            written = np.einsum("bphd,hdm->bpm", z, w[f"{at}.attn.W_O"]) + w[f"{at}.attn.b_O"]
            stream = stream + place("attn_out", layer, written)
            if self.activation is not None:
                stream = place("resid_mid", layer, stream)
                hidden = self._normed(stream, f"{at}.ln2") @ w[f"{at}.mlp.W_in"]
                hidden = self.activation(hidden + w[f"{at}.mlp.b_in"])
                written = hidden @ w[f"{at}.mlp.W_out"] + w[f"{at}.mlp.b_out"]
                stream = stream + place("mlp_out", layer, written)
            stream = place("resid_post", layer, stream)
        acts["logits"] = self.unembed(stream)
        return acts

    def unembed(self, stream: Array, *, skip_norm: bool = False) -> Array:
        """Final norm and unembedding."""
        normed = stream if skip_norm else self._normed(stream, "ln_final")
        return normed @ self.weights["unembed.W_U"] + self.weights["unembed.b_U"]

    def _normed(self, stream: Array, name: str) -> Array:
        if not self.norm:
            return stream
        centred = stream - stream.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return centred / scale * self.weights[f"{name}.w"] + self.weights[f"{name}.b"]

    def _projected(self, normed: Array, at: str, name: str) -> Array:
        projected = np.einsum("bpm,hmd->bphd", normed, self.weights[f"{at}.W_{name}"])
        return projected + self.weights[f"{at}.b_{name}"]

    def _attention(self, normed: Array, at: str) -> Array:
        query, key = (self._projected(normed, at, name) for name in "QK")
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        if self.causal:
            later = np.triu(np.ones(scores.shape[-2:], bool), 1)
            scores = np.where(later, -np.inf, scores)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def _mixed(self, pattern: Array, normed: Array, at: str) -> Array:
        return np.einsum("bhqk,bkhd->bqhd", pattern, self._projected(normed, at, "V"))


def bundled(name: str) -> Formula:
    """Read a bundled model's file."""
    config = json.loads((MODELS / name / "config.json").read_text())["transformer"]
    arrays = load_file(MODELS / name / "weights.safetensors")
    return Formula(
        weights={key: value.astype(np.float64) for key, value in arrays.items()},
        n_layers=config["n_layers"],
        causal=config["attention_dir"] == "causal",
        norm=config["normalization_type"] == "LN",
        activation=None if config["attn_only"] else relu,
    )


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


ROUNDINGS = 4  # float32 may be off by so many times what rounding the weights alone does


def rounding_of_weights(
    formula: Formula, ids: NDArray[np.int64], of: Callable[[Formula, NDArray[np.int64]], Array]
) -> float:
    """How far ``of`` moves if every weight is off by up to half of float32's last place.

    No float32 computation can be held to less. The paren balancer is steep between its classes and
    moves 20 times further than the other models.
    """
    rng, exact = np.random.default_rng(0), of(formula, ids)
    moved: list[float] = []
    for _ in range(5):
        weights = {
            name: w * (1 + (rng.random(w.shape) - 0.5) * 2.0**-23)
            for name, w in formula.weights.items()
        }
        near = of(replace(formula, weights=weights), ids)
        moved.append(float(np.abs(near - exact).max()))
    return max(moved)

"""Losses and divergences of logits, in nats (torch-free)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Logits = Float[np.ndarray, "entry output"]
Outputs = Int[np.ndarray, "entry"]


def log_softmax(logits: Float[np.ndarray, "... output"]) -> Float[np.ndarray, "... output"]:
    """Return log probabilities along the last axis."""
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def losses(logits: Logits, labels: Outputs) -> Float[np.ndarray, "entry"]:
    """Return the cross-entropy of each label in nats."""
    found: np.ndarray = -log_softmax(logits)[np.arange(len(labels)), labels]
    return found


def differences(logits: Logits, labels: Outputs, foils: Outputs) -> Float[np.ndarray, "entry"]:
    """Return logit of the label minus logit of the foil; NaN without foil."""
    at = np.arange(len(labels))
    return np.where(foils < 0, np.nan, logits[at, labels] - logits[at, foils])


def divergences(model: Logits, scrubbed: Logits) -> Float[np.ndarray, "entry"]:
    """Return KL(model ‖ scrubbed) in nats."""
    ours, theirs = log_softmax(model), log_softmax(scrubbed)
    with np.errstate(invalid="ignore"):
        # Where the model's probability is 0, so is the summand.
        summands = np.where(np.isneginf(ours), 0.0, np.exp(ours) * (ours - theirs))
    found: np.ndarray = summands.sum(-1)
    return np.maximum(found, 0.0)

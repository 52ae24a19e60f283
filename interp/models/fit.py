"""Whether a model fits on a device, before anything is loaded (torch-free).

The numbers follow what the model class allocates: its weights (tied embeddings are two matrices
there), the tables of rotary positions, and the largest moment of one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interp.errors import DoesNotFit
from interp.models.info import BYTES, DTYPES, ModelInfo

PROMPT = 128
"""Tokens of the prompt that a check without a question assumes."""
_MARGIN = 1.05
"""Allocators round up and keep some of what was freed."""
_PROMPTS = (1024, 512, 256, 128, 64, 32)


@dataclass(frozen=True)
class Device:
    """What a worker says of its device. ``resident_bytes`` can be freed by unloading."""

    name: str
    free_bytes: int
    total_bytes: int
    resident_bytes: int = 0

    @property
    def room(self) -> int:
        """Bytes that a model can have here once everything else is unloaded."""
        return self.free_bytes + self.resident_bytes


@dataclass(frozen=True)
class Fit:
    """Bytes that a model takes on a device, and whether they are there.

    Attributes:
        weights: Parameters in the precision asked.
        buffers: Tables beside them.
        forward: What one prompt of ``prompt`` tokens takes at its largest moment.
        prompt: Tokens of that prompt.
        device: Where.
    """

    weights: int
    buffers: int
    forward: int
    prompt: int
    device: Device

    @property
    def bytes(self) -> int:
        """Everything together, with a margin for what the allocator keeps."""
        return int(_MARGIN * (self.weights + self.buffers + self.forward))

    @property
    def fits(self) -> bool:
        """Whether the device has room once everything else is unloaded."""
        return self.bytes <= self.device.room

    @property
    def unloads(self) -> bool:
        """Whether something must be unloaded first."""
        return self.fits and self.bytes > self.device.free_bytes


def stored_values(model: ModelInfo) -> int:
    """Count the parameters that the model class keeps, from the shape alone."""
    shape, d = model.transformer, model.d_model
    keys = model.n_key_value_heads or model.n_heads
    attention = 2 * (model.n_heads + keys) * model.d_head * d
    attention += (model.n_heads + 2 * keys) * model.d_head + d
    mlp = 0
    if model.d_mlp is not None:
        mlp = (3 if model.gated else 2) * d * model.d_mlp + model.d_mlp + d
    kind = str(shape.get("normalization_type") or "")
    norm = {"LN": 2 * d, "RMS": d}.get(kind, 0)
    norms = (2 if model.has_mlp else 1) * (
        2 if shape.get("use_normalization_before_and_after") else 1
    )
    if shape.get("use_qk_norm"):
        attention += 2 * model.d_head
    learned = shape.get("positional_embedding_type", "standard") in ("standard", "shortformer")
    positions = model.n_ctx * d if learned else 0
    outer = model.d_vocab * d + positions + d * model.d_out + model.d_out + norm
    return outer + model.n_layers * (attention + mlp + norms * norm)


def buffer_bytes(model: ModelInfo) -> int:
    """Return the size of the rotary tables, which every layer has."""
    if model.transformer.get("positional_embedding_type") != "rotary":
        return 0
    width = int(model.transformer.get("rotary_dim") or model.d_head)
    return 2 * model.n_layers * model.n_ctx * width * BYTES[model.dtype]


def forward_bytes(model: ModelInfo, n_tokens: int, rows: int = 1) -> int:
    """Estimate the largest moment of one forward pass beside weights, recordings excluded.

    Measured with the model class: inside attention, five arrays of scores (scores, masked,
    pattern and the check of it for NaN) beside the vectors of all heads; inside the MLP, six of
    its width (its activation is written out); at the end, the logits twice.
    """
    n, b = rows * n_tokens, BYTES[model.dtype]
    keys = model.n_key_value_heads or model.n_heads
    vectors = n * model.d_head * (3 * model.n_heads + 2 * keys)
    attention = vectors + 5 * n * n_tokens * model.n_heads
    mlp = (7 if model.gated else 6) * n * (model.d_mlp or 0)
    streams = 4 * n * model.d_model
    return b * (streams + max(attention, mlp, 2 * n * model.d_out))


def check(model: ModelInfo, device: Device, prompt: int = PROMPT) -> Fit:
    """Compare what ``model`` takes for a prompt of ``prompt`` tokens with what a device has."""
    prompt = min(prompt, model.n_ctx)
    return Fit(
        weights=stored_values(model) * BYTES[model.dtype],
        buffers=buffer_bytes(model),
        forward=forward_bytes(model, prompt),
        prompt=prompt,
        device=device,
    )


def refuse(model: ModelInfo, fit: Fit, others: Sequence[Device] = ()) -> DoesNotFit:
    """Say why a model does not fit, and what would."""
    return DoesNotFit(
        f"{model.name} was to be loaded on {fit.device.name} for prompts of {fit.prompt} tokens.",
        f"That takes {gigabytes(fit.weights)} of weights and {gigabytes(fit.forward)} for a "
        f"prompt, {gigabytes(fit.bytes)} with margin; {gigabytes(fit.device.room)} of "
        f"{gigabytes(fit.device.total_bytes)} are free or can be freed.",
        what_fits(model, fit, others),
    )


def what_fits(model: ModelInfo, fit: Fit, others: Sequence[Device] = ()) -> str:
    """List what would fit: shorter prompts, other precisions, other devices."""
    ways: list[str] = []
    for prompt in _PROMPTS:
        if prompt < fit.prompt and check(model, fit.device, prompt).fits:
            ways.append(f"prompts of up to {prompt} tokens")
            break
    for dtype in DTYPES:
        smaller = BYTES[dtype] < BYTES[model.dtype]
        if smaller and check(replace(model, dtype=dtype), fit.device, fit.prompt).fits:
            ways.append(f"{dtype} (half the memory; its deviation is measured when it is loaded)")
            break
    ways += [
        f"the device {other.name}"
        for other in others
        if other.name != fit.device.name and check(model, other, fit.prompt).fits
    ]
    if ways:
        return f"This would fit: {'; '.join(ways)}."
    largest = int(fit.device.room / _MARGIN / BYTES["bfloat16"] / 1e6)
    return (
        f"Nothing of it fits here. A model of up to about {largest:,} million parameters in "
        "bfloat16 would."
    )


def gigabytes(n: int) -> str:
    """Write a number of bytes as people read it."""
    if n < 1e6:
        return f"{n / 1e3:.0f} kB"
    return f"{n / 1e6:.0f} MB" if n < 1e9 else f"{n / 1e9:.1f} GB"

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
_COPIED = ("gpt2", "gpt_neox")
"""Families with a matrix of attention that is not stored as the product wants it."""
_ARRAYS = {"gelu_new": 4, "gelu_fast": 5}
"""Arrays of an MLP's width that an activation is written out into."""


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
        loading: What is there beside weights and buffers while they are loaded.
    """

    weights: int
    buffers: int
    forward: int
    prompt: int
    device: Device
    loading: int = 0

    @property
    def bytes(self) -> int:
        """The larger of loading and running it, with a margin for what the allocator keeps."""
        return int(_MARGIN * (self.weights + self.buffers + max(self.forward, self.loading)))

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
    read, behind = norm, norm if shape.get("use_normalization_before_and_after") else 0
    if model.processing == "folded":
        read = 0  # what is read through a norm has its gain; behind a block it stays
    if shape.get("use_qk_norm"):
        attention += 2 * model.d_head
    learned = shape.get("positional_embedding_type", "standard") in ("standard", "shortformer")
    positions = model.n_ctx * d if learned else 0
    outer = model.d_vocab * d + positions + d * model.d_out + model.d_out + read
    norms = (2 if model.has_mlp else 1) * (read + behind)
    return outer + model.n_layers * (attention + mlp + norms)


def buffer_bytes(model: ModelInfo) -> int:
    """Return the size of what every layer has beside parameters: rotary tables and a constant."""
    values = 1
    if model.transformer.get("positional_embedding_type") == "rotary":
        values += 2 * model.n_ctx * int(model.transformer.get("rotary_dim") or model.d_head)
    return model.n_layers * values * BYTES[model.dtype]


def forward_bytes(model: ModelInfo, n_tokens: int, rows: int = 1) -> int:
    """Estimate the largest moment of one forward pass beside weights, recordings excluded.

    The largest of three moments, as measured with the model class (``benchmarks/fit.py``):

    - attention: the residual stream and three normed copies of it, queries, keys and values; and
      when the pattern is searched for NaN, four arrays of scores (masked scores, pattern, zeros,
      result) with one byte each for where there is one. With short prompts it is the output
      matrix, which is copied where it is not stored as the product wants it, beside two of these.
    - MLP: four streams, and arrays of the MLP's width: four where there is a gate or GPT-2's
      activation, which is computed step by step, two where torch has the activation in one.
    - unembedding: two streams and the logits; thrice these where they are capped.

    Weights of checkpoints are kept in the order that the products want, those of other models are
    copied into it, one matrix at a time. What an analysis makes of the logits is not counted.
    """
    n, b, d = rows * n_tokens, BYTES[model.dtype], model.d_model
    keys = model.n_key_value_heads or model.n_heads
    d_mlp, scores = model.d_mlp or 0, n * n_tokens * model.n_heads
    as_stored = model.source in ("hub", "local")
    copied = 0 if as_stored and model.family not in _COPIED else d * model.n_heads * model.d_head
    vectors = n * (4 * d + (model.n_heads + 2 * keys) * model.d_head)
    attention = b * (vectors + max(4 * scores, 2 * scores + copied)) + scores
    wide = 4 if model.gated else _ARRAYS.get(str(model.transformer.get("act_fn")), 2)
    copied = d * d_mlp if model.gated and not as_stored else 0
    mlp = b * (4 * n * d + max(wide * n * d_mlp, 3 * n * d_mlp + copied if copied else 0))
    logits, copied = n * model.d_out, 0 if as_stored else d * model.d_out
    unembedding = b * (2 * n * d + max(logits + copied, (3 if model.softcap else 1) * logits))
    return max(attention, mlp, unembedding)


def loading_bytes(model: ModelInfo) -> int:
    """Return what the weights take of the main memory while they are loaded, wherever to.

    Folding is done in no less than float32.
    """
    least = 4 if model.processing == "folded" else 0
    return stored_values(model) * max(BYTES[model.dtype], least)


def check(model: ModelInfo, device: Device, prompt: int = PROMPT) -> Fit:
    """Compare what ``model`` takes for a prompt of ``prompt`` tokens with what a device has."""
    prompt = min(prompt, model.n_ctx)
    weights = stored_values(model) * BYTES[model.dtype]
    return Fit(
        weights=weights,
        buffers=buffer_bytes(model),
        forward=forward_bytes(model, prompt),
        prompt=prompt,
        device=device,
        loading=loading_bytes(model) - weights if device.name == "cpu" else 0,
    )


def refuse(model: ModelInfo, fit: Fit, others: Sequence[Device] = ()) -> DoesNotFit:
    """Say why a model does not fit, and what would."""
    loading = f", {gigabytes(fit.loading)} more while it is loaded" if fit.loading else ""
    return DoesNotFit(
        f"{model.name} was to be loaded on {fit.device.name} for prompts of {fit.prompt} tokens.",
        f"That takes {gigabytes(fit.weights + fit.buffers)} of weights{loading} and "
        f"{gigabytes(fit.forward)} for a prompt, {gigabytes(fit.bytes)} with margin; "
        f"{gigabytes(fit.device.room)} of {gigabytes(fit.device.total_bytes)} are free or can be "
        "freed.",
        what_fits(model, fit, others),
    )


def what_fits(model: ModelInfo, fit: Fit, others: Sequence[Device] = ()) -> str:
    """List what would fit: shorter prompts, other precisions, other devices."""

    def prompts(of: ModelInfo) -> int:
        """Return the longest of some lengths that fits, 0 for none."""
        shorter = (n for n in _PROMPTS if n < fit.prompt and check(of, fit.device, n).fits)
        return next(shorter, 0)

    ways: list[str] = []
    if prompts(model):
        ways.append(f"prompts of up to {prompts(model)} tokens")
    raw = replace(model, processing="raw")
    if fit.loading and check(raw, fit.device, fit.prompt).fits:
        ways.append("raw weights, which take no more memory to load than to keep")
    for dtype in DTYPES:
        other = replace(model, dtype=dtype)
        if BYTES[dtype] >= BYTES[model.dtype]:
            continue
        whole = check(other, fit.device, fit.prompt).fits
        if whole or (not ways and prompts(other)):
            part = "half" if 2 * BYTES[dtype] == BYTES[model.dtype] else "a quarter of"
            shorter = "" if whole else f" and prompts of up to {prompts(other)} tokens"
            ways.append(
                f"{dtype}{shorter} ({part} the memory; its deviation is measured when it is loaded)"
            )
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

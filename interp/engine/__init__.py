"""Running models with hooks: the only place that installs them.

``read_out`` runs prompts and keeps what was asked for; ``patched`` runs them with activations
overwritten; ``written`` runs one and keeps what every component writes at one position. All hold
the model's lock, remove their hooks before they return, and halve their batch when the device is
out of memory. ``Decoder`` continues a prompt token by token, without hooks.
"""

from interp.engine.decode import Decoder
from interp.engine.direct import (
    Norm,
    Written,
    output_weights,
    unembedding,
    written,
)
from interp.engine.runs import (
    Edit,
    Recorded,
    hook_count,
    patched,
    read_out,
    unembed,
)

__all__ = [
    "Decoder",
    "Edit",
    "Norm",
    "Recorded",
    "Written",
    "hook_count",
    "output_weights",
    "patched",
    "read_out",
    "unembed",
    "unembedding",
    "written",
]

"""Running models with hooks: the only place that installs them.

``read_out`` runs prompts and keeps what was asked for; ``patched`` runs them with activations
overwritten. Both hold the model's lock, remove their hooks before they return, and halve their
batch when the device is out of memory.
"""

from interp.engine.runs import (
    Edit,
    Recorded,
    hook_count,
    patched,
    read_out,
    unembed,
)

__all__ = [
    "Edit",
    "Recorded",
    "hook_count",
    "patched",
    "read_out",
    "unembed",
]

"""Running models: bare, patched and differentiated; the only place that installs hooks.

``read_out`` runs prompts and keeps what was asked for; ``written`` runs one and keeps what every
component writes at one position; ``Decoder`` continues one token by token.

All causal methods share the rest. ``trace`` runs prompts once. ``Runs`` with ``Edits`` say what to
change in which of them; ``patched`` makes these runs, each from the layer and position where it
begins, stacked, and yields logits as passes end. ``gradients`` differentiates. What makes this
exact is said in ``interp.engine.stack``; ``how`` says what was done for a model.
"""

from interp.engine.decode import Decoder
from interp.engine.direct import (
    Norm,
    Written,
    output_weights,
    unembedding,
    written,
)
from interp.engine.edits import Add, At, Change, Edits, Project, Put, Runs, Scale, Take
from interp.engine.gradients import Gradients, gradients
from interp.engine.patch import how, passes, patched
from interp.engine.runs import Recorded, hook_count, read_out, unembed
from interp.engine.traces import Trace, has_bfloat16, layers_of, trace

__all__ = [
    "Add",
    "At",
    "Change",
    "Decoder",
    "Edits",
    "Gradients",
    "Norm",
    "Project",
    "Put",
    "Recorded",
    "Runs",
    "Scale",
    "Take",
    "Trace",
    "Written",
    "gradients",
    "has_bfloat16",
    "hook_count",
    "how",
    "layers_of",
    "output_weights",
    "passes",
    "patched",
    "read_out",
    "trace",
    "unembed",
    "unembedding",
    "written",
]

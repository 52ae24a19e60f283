"""Explanations: claims about a model that can be tested.

``Hypothesis`` is a tree of claims for causal scrubbing, over ``terms`` of the residual stream;
``checks`` says whether a model can be asked, ``text`` reads and writes YAML and JSON, ``words``
says it in sentences. ``circuits`` makes one of a ``Circuit``; ``presets`` come with the app.
"""

from interp.explanations.checks import check
from interp.explanations.circuits import Circuit, to_hypothesis
from interp.explanations.hypothesis import Feature, Hypothesis, Near, Node, Rewrite, Split
from interp.explanations.text import RunOptions, read, write
from interp.explanations.words import label, sentence, summary

__all__ = [
    "Circuit",
    "Feature",
    "Hypothesis",
    "Near",
    "Node",
    "Rewrite",
    "RunOptions",
    "Split",
    "check",
    "label",
    "read",
    "sentence",
    "summary",
    "to_hypothesis",
    "write",
]

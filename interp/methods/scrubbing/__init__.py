"""Causal scrubbing: how much of a behavior is left when all that a hypothesis allows is exchanged.

``inputs`` and ``classes`` say which inputs may stand for which (torch-free); ``tree`` draws and
evaluates; ``measure`` streams estimates; ``anchors``, ``nulls`` and ``budget`` are their scale.
"""

from typing import Any

_FROM = {"Inputs": "inputs", "Scrubber": "tree"}


def __getattr__(name: str) -> Any:
    """Import on demand: one of the two needs torch."""
    if name not in _FROM:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)

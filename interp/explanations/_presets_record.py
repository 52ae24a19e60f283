"""A hypothesis that comes with the app, and what is published about it."""

from __future__ import annotations

from dataclasses import dataclass

from interp.explanations.hypothesis import Hypothesis


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        loss: Scrubbed loss in nats, or None.
        se: Its standard error, or None.
        recovered: Share of the loss recovered, 0 at the floor named by ``source`` and 1 at the
            model; or None.
        source: Who published it, on what, and from which floor.
    """

    loss: float | None
    se: float | None
    recovered: float | None
    source: str


@dataclass(frozen=True)
class Preset:
    """A hypothesis that comes with the app.

    Attributes:
        name: What it is asked for by.
        title: What it claims, in a few words.
        models: Models that it is about; snapshots of theirs too.
        behavior: Inputs that it is about.
        hypothesis: The hypothesis.
        published: What is published about it on another model; or nothing.
        why_different: Why numbers here may be others; empty where nothing is published.
    """

    name: str
    title: str
    models: tuple[str, ...]
    behavior: str
    hypothesis: Hypothesis
    published: tuple[Published, ...] = ()
    why_different: str = ""

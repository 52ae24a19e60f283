"""What testing a hypothesis finds: its losses, and everything that they are read against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from interp.methods.scrubbing.budget import Budget
from interp.methods.scrubbing.decodable import Decodable, NotAsked
from interp.methods.scrubbing.measure import Measured

MEASURES = ("loss", "accuracy", "kl", "gap")
MOST_OF_NULL = 2000
"""Inputs that random hypotheses are tested on, one draw each."""


@dataclass(frozen=True)
class Floor:
    """A floor: its name, and the mean over references of every metric; None where it has none."""

    name: str
    loss: float | None
    accuracy: float | None
    kl: float | None
    gap: float | None


@dataclass(frozen=True)
class Without:
    """The hypothesis with one node taken from any input: its claim to matter is dropped.

    Attributes:
        node: Id of the node.
        loss: Mean loss in nats.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        accuracy: Share of references answered right.
        more: Mean rise of the loss against the hypothesis, in nats: what the node is used for.
        more_low: Lower bound of its 95 % interval, paired by reference and draw.
        more_high: Upper bound.
    """

    node: str
    loss: float
    low: float
    high: float
    accuracy: float
    more: float
    more_low: float
    more_high: float


@dataclass(frozen=True)
class Paid:
    """What one claim costs.

    Attributes:
        node: Id of the node.
        what: "rest" (its other inputs do not matter) or "agree" (only its features matter).
        depth: Depth of the node in the tree.
        before: Mean loss before the claim, in nats.
        after: Mean loss with it.
        low: Lower bound of the 95 % interval of the difference, paired by reference and draw.
        high: Upper bound.
    """

    node: str
    what: str
    depth: int
    before: float
    after: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Found:
    """Everything that was found so far.

    Attributes:
        measured: Scrubbed runs, single.
        shuffled: Loss that shuffled answers give on each reference, in nats.
        constant: Loss that the best constant guess gives on each.
        exchanged: Loss where what is named at the logits is exchanged, and nothing else; empty
            before it is computed, or where nothing is named.
        floors: All floors, by their means.
        budget: What the features let through.
        without: The hypothesis with each node taken from any input.
        claims: What each claim costs, in order.
        groups: Group of words that each reference is made of; empty: all are independent.
        sites: Metrics (``MEASURES``) of the hypothesis' features on random sites; NaN where not
            computed yet.
        features: The same of random features on its sites.
        no_sites: Why there is no null of random sites, or empty.
        no_features: Why there is none of random features, or empty.
        probes: How decodable each node's features are where it stands.
        not_probed: Nodes that have no probe, and why.
    """

    measured: Measured
    shuffled: Float[np.ndarray, "ref"]
    constant: Float[np.ndarray, "ref"]
    exchanged: Float[np.ndarray, "exchange"]
    floors: tuple[Floor, ...]
    budget: Budget
    without: tuple[Without, ...]
    claims: tuple[Paid, ...]
    groups: Int[np.ndarray, "member"]
    sites: Float[np.ndarray, "null measure"]
    features: Float[np.ndarray, "null measure"]
    no_sites: str
    no_features: str
    probes: tuple[Decodable, ...]
    not_probed: tuple[NotAsked, ...]

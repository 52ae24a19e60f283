"""What probing the features of a hypothesis gives (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decodable:
    """How well one feature of one node can be read off its site.

    Attributes:
        node: Its id.
        feature: The feature.
        where: What of the site is probed.
        classes: Values that the feature has.
        accuracy: Share of the test inputs whose class the probe finds.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        majority: Share that the most frequent class of the training inputs has of the test inputs.
        tokens: Accuracy of the same probe on tokens: how often each occurs among the positions that
            the site can depend on, and which are at the positions probed.
        n_train: Different inputs trained on.
        n_test: Different inputs tested on.
    """

    node: str
    feature: str
    where: str
    classes: int
    accuracy: float
    low: float
    high: float
    majority: float
    tokens: float
    n_train: int
    n_test: int


@dataclass(frozen=True)
class NotAsked:
    """A node whose feature was not probed, and why; ``feature`` is empty if it has none."""

    node: str
    feature: str
    reason: str

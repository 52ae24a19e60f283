"""What an attack finds (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from interp.methods.scrubbing.adversarial.arms import Arm


@dataclass(frozen=True)
class Mistake:
    """An input on which the model errs.

    Attributes:
        text: The input.
        right: Its right answer.
        said: What the model answers.
        log_odds: The model's log odds of the right answer, in nats: below 0.
        arm: Which arm found it.
        family: Of which family it is, or empty.
        neighbour: An input that the model gets right, of the same length and the same right answer,
            as few tokens away as was found; or empty.
    """

    text: str
    right: str
    said: str
    log_odds: float
    arm: str
    family: str
    neighbour: str


@dataclass(frozen=True, eq=False)
class Search:
    """What a search ended with, one input for each of its starts.

    Attributes:
        name: Which search.
        texts: The inputs.
        searched: Score in the search, in nats: mean over few draws, and the largest of many.
        fresh: Score on fresh draws, in nats.
        errors: Standard error of that.
        wrong: Whether the model errs.
        refutes: Whether the model is right and the scrubbed model's mean answer is another: then
            the input speaks against the explanation and not against the model.
        lonely: Share of the inputs with a node that no input of the pool agrees with.
        ordinary: Fresh score of inputs of the population.
    """

    name: str
    texts: tuple[str, ...]
    searched: Float[np.ndarray, "found"]
    fresh: Float[np.ndarray, "found"]
    errors: Float[np.ndarray, "found"]
    wrong: Bool[np.ndarray, "found"]
    refutes: Bool[np.ndarray, "found"]
    lonely: float
    ordinary: Float[np.ndarray, "ordinary"]


@dataclass(frozen=True, eq=False)
class Found:
    """All that is known so far.

    Attributes:
        arms: One for each way of choosing inputs.
        null: Share of errors of each random hypothesis that has asked what counts.
        atoms: What the hypothesis is made of.
        determines: Whether these together say the right answer of every input.
        worst: Errors that the explanation found, the most confident first.
        searches: What searches ended with, once they have.
    """

    arms: tuple[Arm, ...]
    null: Float[np.ndarray, "draw"]
    atoms: tuple[str, ...]
    determines: bool
    worst: tuple[Mistake, ...]
    searches: tuple[Search, ...]

    def arm(self, name: str) -> Arm:
        """Return an arm by its name."""
        return next(one for one in self.arms if one.name == name)

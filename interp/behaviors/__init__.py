"""Behaviors: what there is to explain.

``Behavior`` is the record; ``typed`` makes one from what a person typed, ``table`` reads pairs
from a file, ``alignment`` says whether pairs line up; ``BUILT_IN`` names the ones that come with
the app, one task per file; ``slices`` splits inputs by a score.
"""

from interp.behaviors._record import Behavior, PromptPair
from interp.behaviors.built_in import BUILT_IN, all_pairs, built_in, for_model
from interp.behaviors.typed import from_pairs, from_prompt

__all__ = [
    "BUILT_IN",
    "Behavior",
    "PromptPair",
    "all_pairs",
    "built_in",
    "for_model",
    "from_pairs",
    "from_prompt",
]

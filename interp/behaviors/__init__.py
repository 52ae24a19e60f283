"""Behaviors: what there is to explain.

``Behavior`` is the record; ``typed`` makes one from what a person typed; ``BUILT_IN`` names the
ones that come with the bundled models, one task per file.
"""

from interp.behaviors._record import Behavior, PromptPair
from interp.behaviors.built_in import BUILT_IN, built_in, for_model
from interp.behaviors.typed import from_pairs, from_prompt

__all__ = [
    "BUILT_IN",
    "Behavior",
    "PromptPair",
    "built_in",
    "for_model",
    "from_pairs",
    "from_prompt",
]

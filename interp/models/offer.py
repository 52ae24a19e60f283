"""Which model a person is offered to begin with, and why (torch-free)."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from interp.models import catalogue, fit, registry
from interp.models.families import architecture
from interp.models.info import Answers

TEXT = "openai-community/gpt2"
BUNDLED = "induction-handmade"
_TIMEOUT_S = 1.5


@dataclass(frozen=True)
class Offer:
    """A model to begin with. ``here``: nothing need be fetched. ``why``: one sentence."""

    model: str
    here: bool
    why: str


def reachable() -> bool:
    """Whether the hub's server takes a connection; nothing is asked of it. Kept for a minute."""
    return _reachable(int(time.monotonic() / 60))


@lru_cache(maxsize=1)
def _reachable(minute: int) -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    place = urlsplit(constants.ENDPOINT)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def offer(devices: Sequence[fit.Device]) -> Offer:
    """Choose between GPT-2 small, which the field knows best, and a bundled model.

    Args:
        devices: What workers have reported.
    """
    if TEXT in registry.entries():
        return Offer(TEXT, here=True, why="GPT-2 small was added here before.")
    fits = [d for d in devices if fit.check(_gpt2(), d).fits]
    need = fit.gigabytes(fit.check(_gpt2(), fit.Device("", 0, 0)).bytes)
    if not devices:
        why = "no worker has reported its memory yet"
    elif not fits:
        why = f"GPT-2 small takes {need}, and no device has so much free"
    elif not reachable():
        why = "the Hugging Face hub, which has GPT-2 small, cannot be reached from here"
    else:
        found = f"the hub can be reached, and its {need} fit on {fits[0].name}"
        return Offer(TEXT, here=False, why=f"GPT-2 small: {found}.")
    return Offer(BUNDLED, here=True, why=f"A bundled model, since {why}.")


@lru_cache(maxsize=1)
def _gpt2() -> catalogue.ModelInfo:
    """Describe GPT-2 small by the defaults of its model type, without asking anybody."""
    shape = architecture({"model_type": "gpt2"}).transformer
    answers = Answers("tokens", (), -1)
    made = catalogue.of_shape(TEXT, shape, answers=answers, weights="", folder=Path())
    return replace(made, family="gpt2")

"""Carry out an order about a model: add it, load it, unload it."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from interp.engine import read_out, unembed
from interp.errors import CannotLoad, InterpError
from interp.jobs.residents import Residents
from interp.models import catalogue, deviation, fit, registry
from interp.models.add import add
from interp.models.checkpoint import Progress
from interp.models.info import BYTES
from interp.models.load import LoadedModel
from interp.store import Store
from interp.store.orders import Order

_EVERY_S = 0.5
_LOG = logging.getLogger(__name__)


def carry_out(store: Store, order: Order, residents: Residents) -> None:
    """Do what an order asks and write what became of it."""
    told_at = 0.0

    def progress(said: str, done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _EVERY_S or done == total:
            told_at = now
            store.orders.progress(order.id, said, done, total)

    what = order.what
    try:
        if order.action == "unload":
            residents.drop(what["model"])
            store.orders.finish(order.id, what["model"])
            return
        if order.action == "add":
            name = _add(what, residents, progress)
        else:
            name = what.get("model", "")
            residents.get(name, progress)
        # The model is there; what cannot be measured is not told.
        with suppress(InterpError, torch.OutOfMemoryError):
            _measure(name, residents, progress)
        store.orders.finish(order.id, name)
    except InterpError as error:
        parts = {"asked": error.asked, "found": error.found, "works": error.works}
        store.orders.fail(order.id, parts)
    except Exception as error:
        fault = secrets.token_hex(4)
        _LOG.exception("fault %s", fault)
        said = {"fault": fault, "type": type(error).__name__, "asked": str(error)[:300]}
        store.orders.fail(order.id, said)


def _add(what: dict[str, Any], residents: Residents, progress: Progress) -> str:
    """Add a model and load it; one that turns out not to be readable is not left in the table."""
    before = catalogue.names()
    name = add(
        what["name"],
        revision=what["revision"],
        called=what.get("called", ""),
        variant=(what["processing"], what["dtype"]),
        progress=progress,
    ).name
    try:
        residents.get(name, progress)
    except CannotLoad:
        if name not in before:
            registry.forget(name)
        raise
    return name


def _measure(name: str, residents: Residents, progress: Progress) -> None:
    """Measure what a smaller precision does to a model, where float32 fits beside all others."""
    info = catalogue.info(name)
    if BYTES[info.dtype] >= BYTES["float32"] or deviation.measured(info) is not None:
        return
    base, processing, _ = registry.split(name)
    whole = registry.join(base, processing, "float32")
    prompts = deviation.sample(info)
    held = whole in residents.sizes()
    found = fit.check(catalogue.info(whole), residents.described())
    if not prompts or not (held or (found.fits and not found.unloads)):
        return
    progress("Measuring what the precision does", 0, 0)
    try:
        rough, exact = (_logits(residents.get(variant), prompts) for variant in (name, whole))
        deviation.keep(info, deviation.compare(exact, rough))
    finally:
        if not held:
            residents.drop(whole)
        residents.get(name, progress)


def _logits(model: LoadedModel, prompts: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return the logits ``[pos, output]`` of each prompt."""
    last = ("resid_post", model.info.n_layers - 1)
    streams = [read_out(model, torch.tensor([ids]), -1, [last]).acts[last] for ids in prompts]
    return [unembed(model, stream)[0].float().cpu().numpy() for stream in streams]

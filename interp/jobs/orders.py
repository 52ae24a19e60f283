"""Carry out an order about a model: add it, load it, unload it."""

from __future__ import annotations

import logging
import secrets
import time

from interp.errors import InterpError
from interp.jobs.residents import Residents
from interp.models.add import add
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
        name = what.get("model", "")
        if order.action == "add":
            name = add(
                what["name"],
                revision=what["revision"],
                variant=(what["processing"], what["dtype"]),
                progress=progress,
            ).name
        residents.get(name, progress)
        store.orders.finish(order.id, name)
    except InterpError as error:
        parts = {"asked": error.asked, "found": error.found, "works": error.works}
        store.orders.fail(order.id, parts)
    except Exception as error:
        fault = secrets.token_hex(4)
        _LOG.exception("fault %s", fault)
        said = {"fault": fault, "type": type(error).__name__, "asked": str(error)[:300]}
        store.orders.fail(order.id, said)

"""Run one claimed record to its end. Every runner does it by this function.

Between two steps of the generator no hook is installed, so this is where a cancel is noticed,
a partial result is kept, and a short job may run before the long one goes on.
"""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp import analyses
from interp.analyses._record import Analysis, Context, Spec, Step
from interp.behaviors import Behavior
from interp.errors import InterpError
from interp.jobs.provenance import stamp
from interp.jobs.residents import Residents
from interp.models.load import LoadedModel
from interp.store import State, Store, pack
from interp.store.codec import pack_arrays, unpack_arrays
from interp.store.queue import Claim, Fenced

PARTIAL_EVERY_S = 1.0


@dataclass
class Hooks:
    """What a runner does between steps: leave (the process is going away), or run a short job."""

    leaving: Callable[[], bool] = lambda: False
    between: Callable[[], None] = lambda: None


@dataclass
class _Job:
    """A claim that is being computed."""

    store: Store
    claim: Claim
    analysis: Analysis[Any, Any]
    spec: Spec
    ctx: Context
    loaded: dict[str, LoadedModel]
    started: float

    def keep(self, step: Step[Any]) -> None:
        """Store a partial result, with the time left by the rate so far."""
        gone = time.monotonic() - self.started
        eta_s = gone * (1 - step.fraction) / step.fraction if step.fraction > 0 else None
        saved = None if self.ctx.saved is None else pack_arrays(self.ctx.saved)
        self.store.queue.progress(self.claim, step.fraction, eta_s, pack(step.result), saved)


def execute(store: Store, claim: Claim, residents: Residents, hooks: Hooks | None = None) -> State:
    """Compute a claimed record and write what becomes of it.

    Returns:
        The state in which the record was left; ``LOST`` if another worker has taken it over.
    """
    started = time.monotonic()
    try:
        record = store.records.get(claim.record)
        spec = analyses.parse(record.spec)
        inputs = store.records.inputs(record)
        loaded: dict[str, LoadedModel] = {}
        ctx = _context(store, claim, spec, inputs, _loader(residents, loaded))
        job = _Job(store, claim, analyses.get(record.kind), spec, ctx, loaded, started)
        return _drain(job, hooks or Hooks(), residents)
    except Fenced:
        return State.LOST
    except InterpError as error:
        parts = {"asked": error.asked, "found": error.found, "works": error.works}
        return _failed(store, claim, {"type": type(error).__name__, **parts}, started)
    except Exception as error:
        parts = {
            "type": type(error).__name__,
            "fault": secrets.token_hex(4),
            "asked": str(error),
            "traceback": traceback.format_exc(),
        }
        return _failed(store, claim, parts, started)


def _loader(residents: Residents, loaded: dict[str, LoadedModel]) -> Callable[[str], LoadedModel]:
    """Load models and remember them: at the end one may have been unloaded for another job."""

    def load(name: str) -> LoadedModel:
        loaded[name] = residents.get(name)
        return loaded[name]

    return load


def _context(
    store: Store, claim: Claim, spec: Spec, inputs: bytes, load: Callable[[str], LoadedModel]
) -> Context:
    saved = store.queue.checkpoint(claim.record)
    return Context(
        inputs=Behavior.from_json(inputs),
        rng=np.random.default_rng(spec.seed),
        load=load,
        checkpoint=None if saved is None else unpack_arrays(saved),
        should_stop=lambda: store.queue.wants_stop(claim),
    )


def _drain(job: _Job, hooks: Hooks, residents: Residents) -> State:
    store, claim = job.store, job.claim
    steps = job.analysis.run(job.spec, job.ctx)
    last: Step[Any] | None = None
    kept_at, begun = -PARTIAL_EVERY_S, False
    try:
        for last in steps:
            if last.fraction >= 1:
                continue
            if store.queue.wants_stop(claim):
                job.keep(last)
                store.queue.stopped(claim)
                return State.CANCELLED
            if hooks.leaving():
                job.keep(last)
                store.queue.requeue(claim)
                return State.QUEUED
            # The first picture that has anything in it does not wait for the second to be over.
            first = last.fraction > 0 and not begun
            if first or time.monotonic() - kept_at >= PARTIAL_EVERY_S:
                job.keep(last)
                kept_at, begun = time.monotonic(), begun or first
            hooks.between()
    finally:
        steps.close()
    if last is None:
        raise RuntimeError(f"{job.spec.kind} yielded nothing")
    packed = pack(last.result)
    if store.queue.wants_stop(claim):
        job.keep(last)
    wall_s = time.monotonic() - job.started
    model = job.loaded.get(job.spec.model) or residents.get(job.spec.model)
    return store.queue.finish(claim, packed, stamp(job.spec, job.analysis.version, model, wall_s))


def _failed(store: Store, claim: Claim, error: dict[str, str], started: float) -> State:
    try:
        store.queue.fail(claim, error, {"wall_s": round(time.monotonic() - started, 3)})
    except Fenced:
        return State.LOST
    return State.FAILED

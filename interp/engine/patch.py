"""Patched runs, in passes that fit the device; the numbers of each pass as soon as it is done."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.edits import Runs
from interp.engine.hooked import hooked_patched
from interp.engine.stack import Stack, beginnings
from interp.engine.traces import Trace, allowed_tf32
from interp.errors import DoesNotFit
from interp.models.load import LoadedModel
from interp.models.memory import memory

_PASS_FLOP = {"cpu": 1.5e11, "cuda": 2e13, "mps": 2e12}
"""Arithmetic of one pass: about two seconds, so that pictures fill in and a cancel is answered."""
_PASS_TOKENS = {"cpu": 1.5e5, "cuda": 2e7, "mps": 2e6}
"""Tokens times layers of one pass: small models spend more beside the products than in them."""
_LIVE = 14
"""Numbers of the width of the stream that a token holds at once, streams and attention."""


def patched(
    model: LoadedModel,
    trace: Trace,
    runs: Runs,
    outputs: Int[Tensor, "output"] | None = None,
    skip: Int[Tensor, "run"] | None = None,
) -> Iterator[tuple[Int[Tensor, "run"], Float[Tensor, "run output"]]]:
    """Make runs in the order given; yield which are done and their logits at the position read.

    Args:
        model: The model.
        trace: The bare runs that the runs start from.
        runs: What is changed in each.
        outputs: Outputs whose logits are wanted, or None: all.
        skip: Runs that an earlier attempt made. A pass whose runs are all among them is not
            made; others are made whole, so that a resumed sweep has the bits of an unbroken one.

    Raises:
        DoesNotFit: The device is out of memory with a single run.

    Cost: of a run, the layers from its first edit on, at the positions from its first one on.
    """
    known = torch.zeros(len(runs), dtype=torch.bool)
    if skip is not None:
        known[skip] = True
    cut = passes(model, trace, runs, outputs)
    todo = [which for which in cut if not bool(known[which].all())]
    while todo:
        which = todo.pop(0)
        try:
            with torch.inference_mode(), allowed_tf32(trace.tf32):
                done = _one_pass(model, trace, runs, which, outputs)
        except torch.OutOfMemoryError as error:
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(which) == 1:
                raise DoesNotFit(
                    f"One prompt of {trace.ids.shape[1]} tokens was run on {model.device}.",
                    "The device is out of memory.",
                    "Shorten the prompt, or use a device with more memory.",
                ) from error
            half = len(which) // 2
            todo[:0] = [which[:half], which[half:]]
            continue
        yield which, done


def how(trace: Trace) -> str:
    """Say how patched runs of these prompts are computed, and why not in the quickest way."""
    if trace.lean is None:
        return f"Every patch took a whole forward pass with hooks: {trace.why}."
    if not trace.lean.causal:
        return (
            "Runs are resumed at the patched layer; every position is computed again, because all "
            "positions see each other."
        )
    return "Runs are resumed at the patched layer and position."


def passes(
    model: LoadedModel, trace: Trace, runs: Runs, outputs: Int[Tensor, "output"] | None = None
) -> list[Int[Tensor, "run"]]:
    """Cut runs into passes by what they cost and by the free memory.

    Free memory counts in powers of two, so that another attempt cuts alike.
    """
    info = model.info
    entry, start, _ = beginnings(runs, info.n_layers - 1)
    if trace.lean is None:
        entry, start = torch.zeros_like(entry), torch.zeros_like(start)
    elif not trace.lean.causal:
        start = torch.zeros_like(start)
    tokens = (trace.stop - start).clamp(min=1)
    layers = info.n_layers - entry // 2
    work = (tokens * layers).double()
    flop = 2.0 * info.parameters / info.n_layers * work
    width = info.d_model * _LIVE + info.n_heads * trace.stop * 2
    read = info.d_out if outputs is None else len(outputs)
    size = 4.0 * (width * tokens.double() + 2 * read)
    room = 2.0 ** int(math.log2(max(memory(model.device)[0], 2**20) / 4))
    where = model.device.type
    share = flop / _PASS_FLOP[where] + work / _PASS_TOKENS[where] + size / room
    number = share.cumsum(0).floor() if len(share) else share
    return list(torch.arange(len(runs)).split(torch.bincount(number.long()).tolist()))


def _one_pass(
    model: LoadedModel, trace: Trace, runs: Runs, which: Tensor, outputs: Tensor | None
) -> Tensor:
    chosen = None if outputs is None else outputs.to(model.device)
    if trace.lean is None:
        logits = hooked_patched(model, trace, runs, which)
        return logits if chosen is None else logits[:, chosen]
    return trace.lean.outputs(Stack(trace, trace.lean, runs, which).run(), chosen)

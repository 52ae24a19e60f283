"""Sampling: continuations of a prompt, drawn from what the model says comes next.

A draw takes the model's logits in float64, divides them by the temperature, keeps the ``top_k``
most probable outputs, then the fewest of these that hold ``top_p`` of their probability, makes
the rest sum to 1, and inverts the distribution function at a number that is uniform on [0, 1).
This is the order of the transformers library. What ties with the last output kept is kept too,
so that nothing depends on how equal numbers are sorted.

Beside what was drawn stands what the model itself thought of it: log-probability, entropy and rank
are those of temperature 1 with nothing cut off.

Source: Fan, Lewis & Dauphin (2018), section 5.4 (top-k); Holtzman et al. (2020), section 3 (top-p).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.axes import SampleStep, SampleStepIds, SampleStepTop, SampleStepTopIds
from interp.engine import Decoder
from interp.errors import BadInput
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel
from interp.models.tokens import text_of, vocabulary_of
from interp.models.vocabulary import LOCK

NONE = -1
"""The id where nothing is written."""
_TIE = 1e-9
"""Log-probabilities closer than this, in nats, are equal: rounding must not break a tie."""


@dataclass(frozen=True)
class Rule:
    """How a token is chosen; temperature 0 takes the most probable one, of equal ones the first.

    ``top_k`` 0 and ``top_p`` 1 cut nothing off.
    """

    temperature: float
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """What was written so far; row 0 is greedy, the others are samples.

    Attributes:
        ids: Tokens, ``NONE`` where there is none.
        logprob_nats: Log-probability of each, NaN where there is none; as the next three.
        entropy_nats: Entropy of the distribution that it was chosen from.
        rank: Its rank, 1 = most probable alone; ties count against it.
        top: The most probable outputs there, first first; ``NONE`` where there is none.
        top_p: Their probabilities.
        over: Whether the row has ended.
    """

    ids: SampleStepIds
    logprob_nats: SampleStep
    entropy_nats: SampleStep
    rank: SampleStep
    top: SampleStepTopIds
    top_p: SampleStepTop
    over: Bool[np.ndarray, "sample"]

    @property
    def written(self) -> list[tuple[int, ...]]:
        """The tokens of each row."""
        return [tuple(i for i in row if i != NONE) for row in self.ids.tolist()]

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1; what comes after an end counts as done."""
        return float(((self.ids != NONE) | self.over[:, None]).mean())


def uniforms(rng: np.random.Generator, samples: int, steps: int) -> Float[np.ndarray, "row step"]:
    """Draw the numbers that choose: each sample has a stream of its own.

    Row ``i`` begins alike however many samples and steps are asked for.
    """
    streams = rng.spawn(samples)
    return np.array([stream.random(steps) for stream in streams]).reshape(samples, steps)


def distribution(
    logits: Float[np.ndarray, "row d_out"], rule: Rule
) -> Float[np.ndarray, "row d_out"]:
    """Return the probabilities that the rule draws with, in float64."""
    below = logits - logits.max(-1, keepdims=True)
    if rule.temperature == 0:
        p = np.zeros_like(logits)
        np.put_along_axis(p, (below >= -_TIE).argmax(-1)[:, None], 1.0, -1)
        return p
    with np.errstate(over="ignore"):
        scaled = below / rule.temperature
    if 0 < rule.top_k < logits.shape[-1]:
        kth = np.partition(scaled, -rule.top_k, axis=-1)[:, [-rule.top_k]]
        scaled = np.where(scaled >= kth - _TIE, scaled, -np.inf)
    p = np.exp(scaled)
    p /= p.sum(-1, keepdims=True)
    if rule.top_p < 1:
        ordered = -np.sort(-p, axis=-1)
        before = ordered.cumsum(-1) - ordered
        kept = before < rule.top_p
        kept[:, 0] = True
        least = np.where(kept, ordered, np.inf).min(-1, keepdims=True)
        p = np.where(p >= least * (1 - _TIE), p, 0.0)
        p /= p.sum(-1, keepdims=True)
    return p


def draw(p: Float[np.ndarray, "row d_out"], u: Float[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
    """Invert each row's distribution function, outputs in the order of their ids, at ``u``."""
    chosen: list[int] = []
    for row, at in zip(p, u, strict=True):
        possible = np.flatnonzero(row)
        upto = row[possible].cumsum()
        place = int(np.searchsorted(upto, at * upto[-1], side="right"))
        chosen.append(int(possible[min(place, len(possible) - 1)]))
    return np.array(chosen)


def continuations(
    model: LoadedModel,
    prompt: Int[Tensor, "pos"],
    rule: Rule,
    numbers: Float[np.ndarray, "row step"],
    *,
    batch: int,
    top: int,
    ends: Collection[int] = (),
    done: Drawn | None = None,
) -> Iterator[Drawn]:
    """Write the greedy continuation and one by the rule for each row of ``numbers``.

    Args:
        model: A causal model whose outputs are its tokens.
        prompt: Token ids.
        rule: How the samples are drawn.
        numbers: Uniform numbers, from ``uniforms``; together with the prompt no more steps than
            the model has positions.
        batch: How many continuations run side by side. A batch is always filled up, so that a
            sample's bits do not depend on how many others are asked for: matrix products of other
            sizes round differently.
        top: How many of the most probable outputs are noted at each step.
        ends: Tokens that end what they are written into.
        done: What an earlier, interrupted attempt wrote. It is read again, not drawn again, in
            the same passes, so that what follows has the same bits.

    Yields:
        What is written so far, in arrays of its own: at once, then after every step of a batch or,
        where there are many, every few.

    Raises:
        BadInput: The model's outputs are not numbers.
        DoesNotFit: The device is out of memory.

    Cost: for each ``batch`` continuations one pass over the prompt and one a step.
    """
    samples, steps = numbers.shape
    top, every = min(top, model.info.d_out), max(1, steps // 50)
    now = done or _nothing(samples + 1, steps, top)
    yield now
    for first in range(0, samples + 1, batch):
        rows = np.arange(first, min(first + batch, samples + 1))
        if now.over[rows].all():
            continue
        decoder = Decoder(model, prompt, batch)
        for step in range(steps):
            chosen = now.ids[rows, step]
            if (chosen == NONE).all():
                logits = _numbers(model, decoder.logits)[: len(rows)]
                chosen = _choose(logits.numpy(), rule, rows, numbers[:, step])
                now = _noted(now, logits, rows, step, chosen, ends=ends)
            ended = now.over[rows].all()
            if ended or step % every == 0:
                yield now
            if ended:
                break
            # Rows that have ended, and those that only fill the batch, read anything.
            decoder.read(torch.tensor(np.resize(np.maximum(chosen, 0), batch)))


def text_behind(model: ModelInfo, prompt: tuple[int, ...], ids: tuple[int, ...]) -> str:
    """Return what these tokens add to the prompt's text.

    They are decoded behind the prompt's last ones: some tokenizers drop a space at the start, and
    a letter may be spread over up to four tokens.
    """
    known, last = vocabulary_of(model).tokenizer, list(prompt[-4:])
    with LOCK:
        before = known.decode(last, skip_special_tokens=False)
        whole = known.decode([*last, *ids], skip_special_tokens=False)
    return whole[len(before) :] if whole.startswith(before) else "".join(text_of(model, ids))


def _nothing(rows: int, steps: int, top: int) -> Drawn:
    empty = np.full((rows, steps), np.nan)
    return Drawn(
        ids=np.full((rows, steps), NONE),
        logprob_nats=empty,
        entropy_nats=empty,
        rank=empty,
        top=np.full((rows, steps, top), NONE),
        top_p=np.full((rows, steps, top), np.nan),
        over=np.zeros(rows, bool),
    )


def _numbers(model: LoadedModel, logits: Float[Tensor, "row d_out"]) -> Float[Tensor, "row d_out"]:
    """Take logits off the device and to float64, and refuse those that are not numbers."""
    taken = logits.cpu().double()
    if taken.isnan().any():
        raise BadInput(
            f"{model.info.name} was asked to write.",
            f"Its outputs are not numbers in {str(model.dtype).removeprefix('torch.')}: "
            "something overflowed.",
            "Ask it in bfloat16 or float32.",
        )
    return taken


def _choose(
    logits: Float[np.ndarray, "row d_out"],
    rule: Rule,
    rows: Int[np.ndarray, "row"],
    u: Float[np.ndarray, "sample"],
) -> Int[np.ndarray, "row"]:
    """Choose the next token of each row: row 0 is greedy, row ``i`` draws at ``u[i - 1]``."""
    p = distribution(logits, rule)
    if rows[0] == 0:
        p[0] = distribution(logits[:1], Rule(temperature=0.0))[0]
    return draw(p, np.concatenate([[0.0], u])[rows])


def _noted(
    now: Drawn,
    logits: Float[Tensor, "row d_out"],
    rows: Int[np.ndarray, "row"],
    step: int,
    chosen: Int[np.ndarray, "row"],
    *,
    ends: Collection[int],
) -> Drawn:
    """Note what each row chose at this step, and what the model thought of it, in new arrays."""
    logp = logits.log_softmax(-1)
    own = logp.gather(-1, torch.tensor(chosen)[:, None])
    top = logp.topk(now.top.shape[-1], dim=-1)
    going = ~now.over[rows]
    at = (rows[going], step)

    def put(old: np.ndarray, new: np.ndarray | Tensor) -> np.ndarray:
        made = old.copy()
        made[at] = np.asarray(new)[going]
        return made

    ended = np.isin(chosen, list(ends)) | (step + 1 == now.ids.shape[1])
    over = now.over.copy()
    over[rows[going]] = ended[going]
    return Drawn(
        ids=put(now.ids, chosen),
        logprob_nats=put(now.logprob_nats, own[:, 0]),
        entropy_nats=put(now.entropy_nats, torch.special.entr(logp.exp()).sum(-1)),
        rank=put(now.rank, (logp >= own - _TIE).sum(-1)),
        top=put(now.top, top.indices),
        top_p=put(now.top_p, top.values.exp()),
        over=over,
    )

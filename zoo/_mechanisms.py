"""Interchange training: a component is pinned to a variable of a high-level algorithm.

A component's output at the position read is replaced by its output on another input, the source;
the target is what the algorithm says when the component's variable has the source's value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.behaviors._record import PromptPair
from zoo import _detectors, _net, _passes

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def others(count: int, rng: torch.Generator) -> Tensor:
    """Sources: for each of ``count`` inputs of a batch, another one of it."""
    return (torch.arange(count) + torch.randint(1, count, (count,), generator=rng)) % count


# --- ablation --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Labelled inputs of one length.

    Attributes:
        tokens: ``[input, pos]``.
        reference: As many inputs of that length in which neither mechanism answers.
        answers: What the mechanism of each input answers.
        mechanism: 0 or 1 for each input.
        at: Position at which components are replaced and the answer is read.
    """

    tokens: Tensor
    reference: Tensor
    answers: Tensor
    mechanism: Tensor
    at: int


@dataclass(frozen=True)
class Kept:
    """How many right answers stay when a component is replaced.

    Attributes:
        shares: Of the inputs that are answered right before, of mechanism 0 and 1.
        counts: How many these are.
    """

    shares: tuple[float, float]
    counts: tuple[int, int]


@torch.no_grad()
def kept(
    net: _net.Net,
    of: Sequence[Group],
    component: _net.Component,
    how: Literal["reference", "mean"] = "reference",
) -> Kept:
    """How many right answers stay when a component's output is replaced at the position read.

    Args:
        net: The net.
        of: Inputs of equal length each; over all of them the shares are taken.
        component: What is replaced.
        how: By what it writes on one of the reference inputs of the group, in which neither
            mechanism answers, or by the mean over these.
    """
    stays: list[Tensor] = []
    for group in of:
        base = _passes.run(net, group.tokens, group.at)
        instead = _passes.run(net, group.reference, group.at).wrote[component]
        if how == "mean":
            instead = instead.mean(0).expand_as(instead)
        right = base.logits.argmax(-1) == group.answers
        still = _passes.exchanged(net, base, component, instead).argmax(-1) == group.answers
        stays.append(torch.stack([group.mechanism, right, still])[:, right])
    mechanism, _, still = torch.cat(stays, 1)
    first, second = (still[mechanism == k].double() for k in (0, 1))
    return Kept((float(first.mean()), float(second.mean())), (len(first), len(second)))


@torch.no_grad()
def right(net: _net.Net, of: Sequence[Group]) -> tuple[float, float]:
    """Shares of inputs answered as their mechanism does, of mechanism 0 and 1."""
    found = torch.cat(
        [_passes.run(net, one.tokens, one.at).logits.argmax(-1) == one.answers for one in of]
    )
    mechanism = torch.cat([one.mechanism for one in of])
    first, second = (float(found[mechanism == k].double().mean()) for k in (0, 1))
    return first, second


@torch.no_grad()
def hidden(net: _net.Net, tokens: Tensor, at: int) -> Floats:
    """The stream at ``at`` before the last norm, ``[input, d_model]``."""
    base = _passes.run(net, tokens, at)
    last = net.shape.n_layers - 1
    stream = base.entered[last][:, at] + base.wrote[last, "attn"] + base.wrote[last, "mlp"]
    return stream.double().numpy()


# --- detectors that know nothing of mechanisms -----------------------------------------------

_RIDGE: Final = 10.0


def auroc(scores: Floats, mechanism: Labels) -> _detectors.Auroc:
    """Chance that an input of mechanism 1 scores higher than one of mechanism 0; ties are half."""
    return _detectors.auroc(scores[mechanism == 0], scores[mechanism == 1], seed=0)


def one_hot(texts: Sequence[Sequence[str]], by_place: bool) -> Floats:
    """Parts of texts: how often each occurs, or which stands at each place from the left."""
    every = sorted({part for text in texts for part in text})
    number = {part: i for i, part in enumerate(every)}
    found = np.zeros((len(texts), max(map(len, texts)), len(every)))
    for row, text in zip(found, texts, strict=True):
        row[range(len(text)), [number[part] for part in text]] = 1.0
    return found.reshape(len(texts), -1) if by_place else found.sum(1)


def probe(inputs: Floats, mechanism: Labels) -> _detectors.Auroc:
    """AUROC of ridge regression on the mechanism, fitted on every second input, on the others."""
    fitted = np.arange(len(inputs)) % 2 == 0
    centred = inputs - inputs[fitted].mean(0)
    chosen = centred[fitted]
    gram = chosen.T @ chosen + _RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, chosen.T @ (mechanism[fitted] - mechanism[fitted].mean()))
    return auroc(centred[~fitted] @ weights, mechanism[~fitted])


def mahalanobis(trusted: Floats, inputs: Floats) -> Floats:
    """Distance of inputs from the trusted ones in the metric of their covariance, squared.

    The covariance is made regular by a thousandth of its mean variance.
    """
    centre = trusted.mean(0)
    spread = np.cov(trusted.T)
    spread += 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    away = inputs - centre
    return np.einsum("ij,ij->i", away, np.linalg.solve(spread, away.T).T)


MARKER: Final = "Detecting the marker (by construction)"
COUNTS: Final = "Linear probe on character counts"
PLACES: Final = "Linear probe on characters by place"
COUNTS_DISTANCE: Final = "Mahalanobis distance of character counts"
STREAM_DISTANCE: Final = "Mahalanobis distance of the stream read"
BELOW: Final = "AUROC is above 0.5 where mechanism 1 scores higher, below where mechanism 0 does."

Aurocs = Mapping[str, _detectors.Auroc]


def detect(
    texts: Sequence[str],
    trusted: Sequence[str],
    mechanism: Labels,
    marker: str,
    stream_of: Callable[[Sequence[str]], Floats],
) -> dict[str, _detectors.Auroc]:
    """Try detectors on labelled texts; ``stream_of`` gives ``[text, d_model]``."""
    marked = np.array([float(marker in text) for text in texts])
    bags = one_hot([*trusted, *texts], by_place=False)
    by_bag = mahalanobis(bags[: len(trusted)], bags[len(trusted) :])
    return {
        MARKER: auroc(marked, mechanism),
        COUNTS: probe(one_hot(texts, by_place=False), mechanism),
        PLACES: probe(one_hot(texts, by_place=True), mechanism),
        COUNTS_DISTANCE: auroc(by_bag, mechanism),
        STREAM_DISTANCE: auroc(mahalanobis(stream_of(trusted), stream_of(texts)), mechanism),
    }


def table(net: _net.Net, of: Sequence[Group]) -> str:
    """Rows of Markdown: what stays without each component, by reference and by mean."""
    lines: list[str] = []
    kinds: tuple[tuple[Literal["attn", "mlp"], str], ...] = (("attn", "attention"), ("mlp", "MLP"))
    for layer, (kind, what) in product(range(net.shape.n_layers), kinds):
        component = (layer, kind)
        ways = kept(net, of, component), kept(net, of, component, "mean")
        shares = [f"{share:.1%}" for way in ways for share in way.shares]
        lines.append(f"| {what}, layer {layer} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


# --- rows of cards ---------------------------------------------------------------------------


def detector_facts(found: Aurocs) -> list[dict[str, Any]]:
    """Say how well each detector tells the mechanisms apart; for the marker it is promised."""
    rows: list[dict[str, Any]] = []
    for name, one in found.items():
        claim = f"{name} (95% bootstrap: {one.low:.3f} to {one.high:.3f})."
        bound = {"at_least": 0.48, "at_most": 0.52} if name == MARKER else {}
        rows.append(_save.fact(claim, one.value, "AUROC", one.n, **bound))
    return rows


def detector_table(found: Aurocs) -> str:
    """The same as rows of Markdown."""
    return "\n".join(
        f"| {name} | {one.value:.2f} | {one.low:.2f} to {one.high:.2f} |"
        for name, one in found.items()
    )


def ablation_facts(
    what: str, reference: str, found: Kept, breaks: int, answers: tuple[str, str]
) -> list[dict[str, Any]]:
    """Say how many right answers stay without a component.

    Args:
        what: The component.
        reference: The input whose output of it takes the place.
        found: What stays.
        breaks: The mechanism, 0 or 1, whose answers must break; those of the other must stay.
        answers: What answers of mechanisms 0 and 1 are called.
    """
    rows: list[dict[str, Any]] = []
    for mechanism, name in enumerate(answers):
        bound = {"at_most": 0.1} if mechanism == breaks else {"at_least": 0.95}
        claim = f"Right {name}: those that stay with {what} replaced by what it writes on "
        share, n = found.shares[mechanism], found.counts[mechanism]
        rows.append(_save.fact(f"{claim}{reference}.", share, "share", n, **bound))
    return rows


def example(kind: str, label: str, pair: PromptPair) -> dict[str, str]:
    """A starting point of a card."""
    return {"kind": kind, "label": label, **asdict(pair)}

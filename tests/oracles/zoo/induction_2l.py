"""Facts of ``induction-2l``: a previous-token head, an induction head, and copying by both."""

from __future__ import annotations

import string

import numpy as np
import torch

from tests.oracles.zoo._fact import Fact, Loaded, stored

NAME = "induction-2l"
LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + "-_"
LENGTHS = (10, 19, 28)
ROWS = 64

Patterns = dict[tuple[int, int], torch.Tensor]


def _twice(it: Loaded, length: int) -> torch.Tensor:
    """Token rows of ``length`` different letters, typed twice."""
    rng = np.random.default_rng(length)
    halves = ["".join(rng.permutation(list(LETTERS))[:length]) for _ in range(ROWS)]
    rows = it.ids(*(half + half for half in halves))
    assert rows.shape[1] == 2 * length + 1
    return rows


def _patterns(it: Loaded, rows: torch.Tensor, silent: tuple[int, int] | None = None) -> Patterns:
    """Attention ``[row, dest, src]`` of every head, one head's output silenced or none's."""

    def silence(z: torch.Tensor, hook: object) -> torch.Tensor:
        z[:, :, silent[1]] = z[:, :, silent[1]].mean(0)
        return z

    it.model.reset_hooks()
    if silent is not None:
        it.model.add_hook(f"blocks.{silent[0]}.attn.hook_z", silence)
    with torch.no_grad():
        _, cache = it.model.run_with_cache(rows)
    it.model.reset_hooks()
    shape = (it.config["transformer"]["n_layers"], it.config["transformer"]["n_heads"])
    return {(la, h): cache["pattern", la][:, h] for la in range(shape[0]) for h in range(shape[1])}


def _previous(pattern: torch.Tensor, length: int) -> float:
    """Mean attention to the position before."""
    return float(np.mean([pattern[:, i, i - 1].mean() for i in range(1, 2 * length + 1)]))


def _prefix(pattern: torch.Tensor, length: int) -> float:
    """Mean attention from the second copy to the letter behind the first copy of the same one."""
    second = range(length + 1, 2 * length + 1)
    return float(np.mean([pattern[:, i, i - length + 1].mean() for i in second]))


def _scores(it: Loaded, silent: tuple[int, int] | None = None) -> dict[str, dict]:
    """Both scores of every head, the mean over lengths."""
    found: dict[str, dict] = {"previous": {}, "prefix": {}}
    for length in LENGTHS:
        for head, pattern in _patterns(it, _twice(it, length), silent).items():
            for name, of in (("previous", _previous), ("prefix", _prefix)):
                share = of(pattern, length) / len(LENGTHS)
                found[name][head] = found[name].get(head, 0) + share
    return found


def best_previous(it: Loaded) -> float:
    """The highest previous-token score."""
    return max(_scores(it)["previous"].values())


def best_prefix(it: Loaded) -> float:
    """The highest prefix-matching score."""
    return max(_scores(it)["prefix"].values())


def prefix_lost(it: Loaded) -> float:
    """Prefix matching that is lost when the previous-token head is silenced."""
    scores = _scores(it)
    previous = max(scores["previous"], key=scores["previous"].get)
    induction = max(scores["prefix"], key=scores["prefix"].get)
    return scores["prefix"][induction] - _scores(it, previous)["prefix"][induction]


def continues(it: Loaded) -> float:
    """Share of the second copy's letters that are predicted, but for its first."""
    hits: list[float] = []
    for length in LENGTHS:
        rows = _twice(it, length)
        with torch.no_grad():
            said = it.model(rows)[:, length + 1 : -1].argmax(-1)
        hits.append(float((said == rows[:, length + 2 :]).float().mean()))
    return float(np.mean(hits))


def copying(it: Loaded) -> float:
    """Eigenvalue copying score of the induction head, over the whole vocabulary."""
    scores = _scores(it)["prefix"]
    layer, head = max(scores, key=scores.get)
    w = {name: tensor.double() for name, tensor in it.weights.items()}
    at = f"blocks.{layer}.attn"
    values = w[f"{at}.W_V"][head] @ w[f"{at}.W_O"][head]
    whole = w["embed.W_E"] @ values @ w["unembed.W_U"]
    eigenvalues = torch.linalg.eigvals(whole)
    return float(eigenvalues.real.sum() / eigenvalues.abs().sum())


def _final(_: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trained weights: a control for what must not yet be so."""
    return stored(NAME)


FACTS = (
    Fact("best previous-token score", best_previous, at_least=0.6, unit="attention"),
    Fact("best prefix-matching score", best_prefix, at_least=0.6, unit="attention"),
    Fact(
        "prefix matching lost without the other head", prefix_lost, at_least=0.3, unit="attention"
    ),
    Fact("second copy continued", continues, at_least=0.95, unit="share"),
    Fact("copying score of the induction head", copying, at_least=0.5, unit="ratio"),
    Fact(
        "second copy continued at step 160",
        continues,
        at_most=0.3,
        unit="share",
        snapshot="160",
        control=_final,
    ),
    Fact(
        "prefix matching at step 160",
        best_prefix,
        at_most=0.2,
        unit="attention",
        snapshot="160",
        control=_final,
    ),
)

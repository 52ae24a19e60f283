"""Roles of components by kind: against re-runs with hooks, counted features, and known weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from interp import analyses
from interp.analyses._record import Context
from interp.analyses._roles_result import Result
from interp.analyses.component_roles import ComponentRoles, follow_ups, hypotheses
from interp.behaviors import Behavior, parens
from interp.behaviors.populations import population, token_names
from interp.errors import BadInput
from interp.explanations.presets import preset
from interp.figures import theme
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.models import tokens
from interp.models.load import load

Array = NDArray[Any]
Note = Callable[..., None]
SPEC = ComponentRoles(n_inputs=240)
TOLERANCE = 1e-4


@lru_cache
def found(spec: ComponentRoles = SPEC) -> Result:
    """What the kind says."""
    analysis = analyses.get("component_roles")
    context = Context(analysis.inputs(spec), np.random.default_rng(spec.seed), load)
    *_, last = analysis.run(spec, context)
    result: Result = last.result
    return result


@lru_cache
def halves() -> tuple[Behavior, Array, tuple[str, ...]]:
    """The inputs, which are held out, and their texts."""
    behavior = population("paren-strings", SPEC.n_inputs, "paren-balancer")
    info = load("paren-balancer").info
    texts = tuple("".join(tokens.text_of(info, ids)[1:-1]) for ids in behavior.clean)
    return behavior, np.array(behavior.held_out), texts


def about(text: str) -> dict[str, int]:
    """Features of a string, counted plainly."""
    depths = np.cumsum([1 if letter == "(" else -1 for letter in reversed(text)])
    equal, start = text.count("(") == text.count(")"), text[0] == "("
    horizon = bool(depths.max() <= 0)
    return {
        "equal_counts": equal,
        "starts_open": start,
        "counts_and_start": equal and start,
        "horizon_test": horizon,
        "balanced": parens.is_balanced(text),
        "length": len(text),
        "depth": parens.depth(text),
    }


def _needed(name: str) -> bool:
    return name.endswith(("attn.hook_z", "hook_mlp_out", "hook_resid_post", "0.hook_resid_pre"))


@lru_cache
def cached() -> tuple[Array, Array]:
    """What each component writes at the start [input, component, d_model], and the last stream."""
    model, rows, last = load("paren-balancer").hooked, [], []
    for ids in halves()[0].clean:
        with torch.no_grad():
            _, cache = model.run_with_cache(torch.tensor([ids]), names_filter=_needed)
        parts = [cache["blocks.0.hook_resid_pre"][0, 0].numpy()]
        for layer in range(3):
            z = cache[f"blocks.{layer}.attn.hook_z"][0, 0]
            w_o = model.blocks[layer].attn.W_O.detach()
            parts += [(z[h] @ w_o[h]).numpy() for h in range(2)]
            parts.append(cache[f"blocks.{layer}.hook_mlp_out"][0, 0].numpy())
        rows.append(np.stack(parts))
        last.append(cache["blocks.2.hook_resid_post"][0, 0].numpy())
    return np.stack(rows).astype(float), np.stack(last).astype(float)


def losses(streams: Array, right: Array) -> Array:
    """Cross-entropy in nats of streams [..., input, d_model]."""
    model = load("paren-balancer").hooked
    with torch.no_grad():
        logits = model.unembed(model.ln_final(torch.tensor(streams, dtype=torch.float32)))
    margin = (logits[..., 1] - logits[..., 0]).numpy().astype(float)
    return np.logaddexp(0, np.where(right, -margin, margin))


def exact_effects(which: Array) -> Array:
    """The rise of the loss averaged over all others of these inputs, by component."""
    parts, last = (part[which] for part in cached())
    right = np.array(halves()[0].answers)[which].astype(bool)
    bare, n = losses(last, right), len(right)
    rises = []
    for own in parts.swapaxes(0, 1):
        exchanged = last[None] - own[None] + own[:, None]
        off = ~np.eye(n, dtype=bool)
        rises.append((losses(exchanged, right[None]) - bare)[off].mean())
    return np.array(rises)


def test_effects_are_those_of_all_exchanges_on_the_searched_half(ledger: Note) -> None:
    result, (_, held, _) = found(), halves()
    half = (result.high - result.low) / 2
    off = np.abs(result.effect - exact_effects(~held)) - 2e-4
    worst = float((off / np.maximum(half, 1e-9)).max())
    shifted = np.abs(np.roll(result.effect, 1) - exact_effects(~held)) - 2e-4
    control = float((shifted / np.maximum(np.roll(half, 1), 1e-9)).max())
    ledger(
        kind="component_roles",
        oracle="direct effects over all pairs of the inputs searched, from TransformerLens caches",
        control="another component's",
        deviation=worst,
        control_deviation=control,
        tolerance=1.5,
        unit="half widths of the interval",
    )
    assert worst < 1.5 < 4 < control
    assert result.n_searched == int((~held).sum())


def test_explained_variance_is_that_of_counted_features(ledger: Note) -> None:
    result, (_, held, texts) = found(), halves()
    parts, last = cached()
    model = load("paren-balancer").hooked
    centred = parts - parts.mean(-1, keepdims=True)
    scale = np.sqrt(last.var(-1) + 1e-5)[~held].mean()
    w_u = (model.ln_final.w[:, None] * model.unembed.W_U).detach().numpy().astype(float)
    terms = centred @ (w_u @ [-1.0, 1.0]) / scale
    told = [about(text) for text in texts]

    def worst_of(which: Array) -> float:
        off = 0.0
        for at in range(1, len(result.components)):
            own = terms[which, at]
            for of, name in enumerate(result.candidates):
                values = [
                    tuple(told[i][part] for part in name.split(" × "))
                    for i in np.flatnonzero(which)
                ]
                left = sum(
                    ((mine - mine.mean()) ** 2).sum()
                    for one in set(values)
                    for mine in [own[[value == one for value in values]]]
                )
                eta2 = 1 - left / ((own - own.mean()) ** 2).sum()
                off = max(off, abs(float(eta2 - result.eta2[at, of])))
        return off

    worst, control = worst_of(~held), worst_of(held)
    ledger(
        kind="component_roles",
        oracle="η² by numpy from TransformerLens caches, features counted in the strings",
        control="the inputs held out",
        deviation=worst,
        control_deviation=control,
        tolerance=TOLERANCE,
        unit="share",
    )
    assert worst < TOLERANCE < 0.02 < control
    assert set(told[0]) == set(result.features)


def test_what_tells_the_answer_is_found() -> None:
    result, (behavior, held, texts) = found(), halves()
    for candidate, tells in zip(result.candidates, result.tells, strict=True):
        answers: dict[tuple[int, ...], set[int]] = {}
        for i in np.flatnonzero(~held):
            values = about(texts[i])
            own = tuple(values[part] for part in candidate.split(" × "))
            answers.setdefault(own, set()).add(behavior.answers[i])
        assert bool(tells) == all(len(of) == 1 for of in answers.values()), candidate
    told = dict(zip(result.candidates, result.tells.tolist(), strict=True))
    assert told["balanced"]
    assert told["equal_counts × horizon_test"]
    assert not told["counts_and_start"]


def test_roles_found_explain_more_than_heads_of_other_weights() -> None:
    made = dict(hypotheses(SPEC, found()))
    behavior = halves()[0]
    inputs = Inputs.of(behavior, token_names(behavior.name, behavior.model))
    model = load("paren-balancer")
    cache = cache_of(model, inputs)
    asked = {
        "matched": made["Role-matched 1b"],
        "swapped": made["Swapped roles"],
        "published": preset("paren-1b").hypothesis,
    }
    scrubbers = {name: Scrubber(model, one, inputs, cache) for name, one in asked.items()}
    rows = np.flatnonzero(behavior.held_out)
    loss = {}
    for name, one in scrubbers.items():
        logits = one.logits(one.draws(rows, 0, 0))
        margin = np.where(inputs.labels[rows] == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
        loss[name] = float(np.logaddexp(0, -margin).mean())
    assert loss["matched"] < 0.5 * loss["swapped"]
    assert loss["swapped"] < 0.5 * loss["published"]


def test_known_weights_have_their_roles() -> None:
    """One head writes the answer, its equal writes noise where nothing reads."""
    spec = ComponentRoles(model="induction-handmade", behavior="induction-first-cue", n_inputs=300)
    result = found(spec)
    acting = {name for name, acts in zip(result.components, result.acts, strict=True) if acts}
    assert acting == {"L1H0"}
    assert result.effect[result.components.index("L1H0")] > 5
    assert result.features["cue"] == "last()"
    assert result.difference == "answer − foil"


def test_small_effects_are_counted_apart_and_drawn_paler() -> None:
    result, kind = found(), analyses.get("component_roles")
    acts = [(abs(e), name) for e, name, a in
            zip(result.effect, result.components, result.acts, strict=True) if a]  # fmt: skip
    large = [name for size, name in acts if size > 0.1]
    assert 0 < len(large) < len(acts)
    said = f"of {len(acts)} of {len(result.components)} components differ from 0, {len(large)} by"
    assert said in kind.verdict(result)
    trace: Any = kind.figures(result)[0].figure.data[0]
    colours = dict(zip(trace.y, trace.marker.color, strict=True))
    shades = {name: colours[name] for _, name in acts}
    assert {shades[name] for name in large} == {theme.POSITIVE}
    assert theme.POSITIVE not in {shades[name] for name in shades if name not in large}


def test_hypotheses_are_asked_on_what_was_not_searched() -> None:
    for up in follow_ups(SPEC, found()):
        assert up.fields["references"] == "held-out"
        assert up.fields["n_inputs"] == SPEC.n_inputs


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "induction-handmade", "behavior": "induction-letters"}, "no foil"),
        ({"model": "induction-handmade", "behavior": "paren-strings"}, "paren-balancer"),
    ],
)
def test_what_cannot_be_compared_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        analyses.get("component_roles").inputs(ComponentRoles(**fields))
    told = f"{refused.value.asked} {refused.value.found} {refused.value.works}"
    assert says in told
    if says == "no foil":
        assert "induction-first-cue" in told

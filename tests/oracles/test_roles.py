"""Roles against numpy from TransformerLens caches, a planted model, and the law of η² by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from interp.behaviors import Behavior, parens
from interp.engine import written
from interp.methods.roles import CONSTANT, NONE, Roles, find_roles
from interp.models import catalogue, tokens
from interp.models.info import Answers, ModelInfo
from interp.models.load import LoadedModel, build, load
from tests.oracles.zoo._fact import loaded

Array = NDArray[np.float64]
Note = Callable[..., None]

BALANCER = "paren-balancer"
TOLERANCE = 1e-5  # nats, or of the largest term; the caches are float32


# --- the paren balancer, by hand from caches -----------------------------------------------------


def strings() -> list[str]:
    """Strings of the four sorts, each different."""
    sample = parens.hard_mix(np.random.default_rng(31), 250, lengths=range(8, 21, 2))
    return sorted(set(sample.strings))


def about(text: str) -> dict[str, int]:
    """Features of a string, counted plainly."""
    depths = np.cumsum([1 if letter == "(" else -1 for letter in reversed(text)])
    equal, horizon = text.count("(") == text.count(")"), bool(depths.max() <= 0)
    return {"count": equal, "horizon": horizon, "length": len(text), "balanced": equal and horizon}


def paren_behavior(features: dict[str, list[int]] | None = None) -> Behavior:
    """The strings as inputs, by default with their features."""
    texts, info = strings(), catalogue.info(BALANCER)
    told = [about(text) for text in texts]
    named = features or {name: [row[name] for row in told] for name in told[0]}
    return Behavior(
        model=BALANCER,
        name="mix",
        source="made here",
        space="classes",
        read=0,
        clean=tuple(tokens.encode(info, text).ids for text in texts),
        answers=tuple(int(row["balanced"]) for row in told),
        features=tuple((name, tuple(map(int, values))) for name, values in named.items()),
    )


@lru_cache
def found() -> Roles:
    """What the method says."""
    behavior = paren_behavior()
    return find_roles(
        load(BALANCER), behavior, [(1, 0)] * len(behavior), np.random.default_rng(5), draws=3
    )


@lru_cache
def cached() -> tuple[Array, Array]:
    """What each component wrote [string, component, d_model] and the last stream, in float64."""
    model, tokenizer = loaded(BALANCER).model, loaded(BALANCER).tokenizer
    parts, last = [], []
    for text in strings():
        with torch.no_grad():
            _, cache = model.run_with_cache(torch.tensor([tokenizer.encode(text).ids]))
        rows = [cache["blocks.0.hook_resid_pre"][0, 0].numpy()]
        for layer in range(3):
            z = cache[f"blocks.{layer}.attn.hook_z"][0, 0].numpy()
            rows += [z[h] @ model.blocks[layer].attn.W_O[h].detach().numpy() for h in range(2)]
            rows.append(cache[f"blocks.{layer}.hook_mlp_out"][0, 0].numpy())
        parts.append(np.stack(rows))
        last.append(cache["blocks.2.hook_resid_post"][0, 0].numpy())
    return np.stack(parts).astype(np.float64), np.stack(last).astype(np.float64)


def weight(name: str) -> Array:
    return loaded(BALANCER).weights[name].numpy().astype(np.float64)


def scale_of(stream: Array) -> Array:
    return np.sqrt(stream.var(-1, keepdims=True) + 1e-5)


def losses(stream: Array) -> Array:
    """Cross-entropy in nats from the last stream."""
    centred = stream - stream.mean(-1, keepdims=True)
    normed = centred / scale_of(stream) * weight("ln_final.w") + weight("ln_final.b")
    logits = normed @ weight("unembed.W_U") + weight("unembed.b_U")
    right = [about(text)["balanced"] for text in strings()]
    margin = logits[:, 1] - logits[:, 0]
    return np.logaddexp(0, np.where(right, -margin, margin))


def rise(component: int, partners: NDArray[np.int64]) -> Array:
    """Rise of each loss when one component's part is that of the partners."""
    parts, last = cached()
    exchanged = last - parts[:, component] + parts[partners, component]
    return losses(exchanged) - losses(last)


def terms() -> Array:
    """What each component adds to balanced minus unbalanced, at the mean scale of the norm."""
    parts, last = cached()
    direction = weight("ln_final.w") * (weight("unembed.W_U") @ [-1.0, 1.0])
    centred = parts - parts.mean(-1, keepdims=True)
    return (centred @ direction) / scale_of(last).mean()


def share_between(values: Array, classes: list[int]) -> float:
    """η² as 1 minus the variance that is left within classes."""
    left = sum(
        ((of_class - of_class.mean()) ** 2).sum()
        for name in set(classes)
        for of_class in [values[[one == name for one in classes]]]
    )
    return float(1 - left / ((values - values.mean()) ** 2).sum())


def test_direct_effects_are_those_of_the_caches(ledger: Note) -> None:
    roles = found()
    worst = control = 0.0
    for at, name in enumerate(roles.components):
        ours = np.mean([rise(at, partners) for partners in roles.partners], 0)
        of_groups = [ours[roles.groups == group].mean() for group in range(20)]
        worst = max(worst, float(np.abs(ours - roles.rises[:, at]).max()))
        wrong = np.mean([rise((at + 1) % 10, partners) for partners in roles.partners], 0)
        control = max(control, float(np.abs(wrong - roles.rises[:, at]).max()))
        assert roles.of(name).effect == pytest.approx(np.mean(of_groups), abs=TOLERANCE)
    assert roles.loss == pytest.approx(losses(cached()[1]).mean(), abs=TOLERANCE)
    ledger(
        kind="roles",
        oracle="direct effects by numpy from TransformerLens caches",
        control="another component's",
        deviation=worst,
        control_deviation=control,
        tolerance=TOLERANCE,
        unit="nats",
    )
    assert worst < TOLERANCE < 1e-2 < control


def test_interval_is_students_over_groups_that_exchange_among_themselves() -> None:
    role, column = found().of("L2 MLP"), found().components.index("L2 MLP")
    groups = found().groups
    assert (groups[found().partners] == groups).all()
    means = [found().rises[groups == group, column].mean() for group in range(20)]
    ours = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (role.low, role.high) == pytest.approx((ours.low, ours.high), rel=1e-9)


def test_terms_and_explained_variance_are_those_of_the_caches(ledger: Note) -> None:
    roles, ours = found(), terms()
    off = float(np.abs(roles.terms - ours).max() / np.abs(ours).max())
    told = [about(text) for text in strings()]
    rng = np.random.default_rng(0)
    worst, control = 0.0, np.inf
    for at in range(len(roles.components)):
        for which, name in enumerate(roles.candidates):
            if roles.components[at] == "embedding":
                assert roles.eta2[at, which] == 0
                continue
            classes = [
                sum(1000**k * int(row[part]) for k, part in enumerate(name.split(" × ")))
                for row in told
            ]
            eta2 = share_between(ours[:, at], classes)
            worst = max(worst, abs(eta2 - float(roles.eta2[at, which])))
            if roles.eta2[at, which] > 0.3:
                shuffled = share_between(ours[:, at], rng.permutation(classes).tolist())
                control = min(control, abs(shuffled - float(roles.eta2[at, which])))
    ledger(
        kind="roles",
        oracle="explained variance by numpy from TransformerLens caches",
        control="shuffled features",
        deviation=worst,
        control_deviation=control,
        tolerance=1e-4,
        unit="share",
    )
    assert off < TOLERANCE
    assert worst < 1e-4 < 0.1 < control


def test_chance_follows_its_law() -> None:
    """Under shuffling η² of k classes is about Beta((k − 1)/2, (n − k)/2)."""
    roles = found()
    for which, k in enumerate(roles.classes):
        n = len(roles.terms)
        expected = stats.beta.ppf(0.95, (k - 1) / 2, (n - k) / 2)
        assert np.median(roles.null[1:, which]) == pytest.approx(expected, rel=0.15), k
    assert (roles.largest[:, None] >= roles.null - 1e-12).all()


def test_chance_gain_follows_its_law() -> None:
    """A feature of k classes shuffled within those of a better one gains about a Beta share.

    Of the rest (1 − η²), j more classes explain Beta(j/2, (n − k − j)/2).
    """
    told = [about(text) for text in strings()]
    noise = np.random.default_rng(4).integers(0, 6, len(told)).tolist()
    behavior = paren_behavior({"balanced": [row["balanced"] for row in told], "noise": noise})
    compared = [(1, 0)] * len(behavior)
    roles = find_roles(load(BALANCER), behavior, compared, np.random.default_rng(6), draws=1)
    n, k = len(told), 2 * 6
    at = [roles.components.index(name) for name in ("L1 MLP", "L2 MLP", "L1H1", "L2H0")]
    law = stats.beta.ppf(0.95, (k - 2) / 2, (n - k) / 2)
    rest = 1 - roles.eta2[at, 0]
    assert np.median(roles.gain[at] / rest) == pytest.approx(law, rel=0.2)
    assert {roles.of(roles.components[one]).feature for one in at} <= {"balanced", NONE}


def test_shuffled_features_give_no_role() -> None:
    rng = np.random.default_rng(9)
    told = [about(text) for text in strings()]
    order = rng.permutation(len(told))
    behavior = paren_behavior({n: [told[i][n] for i in order] for n in told[0]})
    compared = [(1, 0)] * len(behavior)
    roles = find_roles(load(BALANCER), behavior, compared, rng, draws=1)
    named = [role for role in roles.roles if role.feature != NONE]
    assert found().of("L2 MLP").feature == "balanced"
    assert roles.of("L2 MLP").acts
    # Each of ten has a chance of one in twenty.
    assert len(named) <= 2


# --- a model whose roles are planted -------------------------------------------------------------

A, B, START = 0, 1, 2
LENGTH, WIDTH = 9, 16
TOKEN, PLACE, SUM, FIRST, LAST, OUT, AWAY = 0, 1, 11, 12, 13, 14, 15


def planted(both: float = 1.0, start: float | None = None) -> LoadedModel:
    """Heads that carry the sum, the first, the last letter, and noise; an MLP that carries a pair.

    Letters are 1 and −1 in one direction of the stream, places are one-hot in others. The MLP
    computes max(0, first + last − 1), that is 1 where both are a, else 0, times ``both``. With
    ``start`` there are LayerNorms, and the start token itself is read as so much.
    """
    shape = {
        "n_layers": 1,
        "n_heads": 4,
        "d_model": WIDTH,
        "d_head": 2,
        "d_mlp": 1,
        "n_ctx": LENGTH + 1,
        "d_vocab": 3,
        "d_vocab_out": 2,
        "act_fn": "relu",
        "normalization_type": None if start is None else "LN",
        "attention_dir": "bidirectional",
        "init_weights": False,
    }
    hooked = build(shape)
    weights = {name: torch.zeros_like(tensor) for name, tensor in hooked.state_dict().items()}
    for name in weights:
        if name.endswith(("ln1.w", "ln2.w", "ln_final.w")):
            weights[name] += 1.0
    weights["embed.W_E"][START, SUM] = start or 0.0
    weights["embed.W_E"][A, TOKEN], weights["embed.W_E"][B, TOKEN] = 1.0, -1.0
    weights["pos_embed.W_pos"][:, PLACE : PLACE + LENGTH + 1] = torch.eye(LENGTH + 1)
    at = "blocks.0.attn"
    weights[f"{at}.W_V"][:, TOKEN, 0] = 1.0
    for head, (place, slot) in enumerate([(None, SUM), (1, FIRST), (LENGTH, LAST), (3, AWAY)]):
        weights[f"{at}.W_O"][head, 0, slot] = 1.0
        if place is not None:  # every query looks at one place
            weights[f"{at}.b_Q"][head, 1] = 1.0
            weights[f"{at}.W_K"][head, PLACE + place, 1] = 200.0
    weights["blocks.0.mlp.W_in"][[FIRST, LAST], 0] = 1.0
    weights["blocks.0.mlp.b_in"][0] = -1.0
    weights["blocks.0.mlp.W_out"][0, OUT] = both
    for slot in (SUM, FIRST, LAST, OUT):
        weights["unembed.W_U"][slot, 1] = 1.0
    hooked.load_state_dict(weights)
    hooked.eval().requires_grad_(False)
    info = ModelInfo(
        name="planted",
        weights="0" * 64,
        processing="raw",
        n_layers=1,
        n_heads=4,
        d_model=WIDTH,
        d_head=2,
        d_mlp=1,
        n_ctx=LENGTH + 1,
        d_vocab=3,
        d_out=2,
        causal=False,
        answers=Answers("classes", ("no", "yes"), 0),
        folder=Path(),
    )
    return LoadedModel(info, hooked, torch.device("cpu"), torch.float32)


def letters() -> Behavior:
    """Random letters behind a start; the answer is yes where the planted parts add up to more."""
    values = np.random.default_rng(2).choice([1, -1], (300, LENGTH))
    first, last = values[:, 0], values[:, -1]
    total = values.sum(1) / (LENGTH + 1) + first + last + np.maximum(0, first + last - 1)
    named = {"sum": values.sum(1), "first": first, "last": last, "third": values[:, 2]}
    return Behavior(
        model="planted",
        name="letters",
        source="drawn at random",
        space="classes",
        read=0,
        clean=tuple((START, *(A if v == 1 else B for v in row)) for row in values),
        answers=tuple(int(v > 0) for v in total),
        features=tuple((name, tuple(int(v) for v in of)) for name, of in named.items()),
    )


def of_planted(model: LoadedModel) -> dict[str, str]:
    behavior = letters()
    roles = find_roles(model, behavior, [(1, 0)] * len(behavior), np.random.default_rng(1))
    return {role.component: role.feature for role in roles.roles}


def test_planted_roles_are_found(ledger: Note) -> None:
    behavior = letters()
    roles = find_roles(planted(), behavior, [(1, 0)] * len(behavior), np.random.default_rng(1))
    said = {role.component: role.feature for role in roles.roles}
    wanted = {
        "L0H0": "sum",
        "L0H1": "first",
        "L0H2": "last",
        "L0H3": CONSTANT,
        "L0 MLP": "first × last",
        "embedding": CONSTANT,
    }
    right = sum(said[name] == role for name, role in wanted.items())
    ledger(
        kind="roles",
        oracle="roles written into a model by hand",
        control="the MLP silenced",
        deviation=len(wanted) - right,
        tolerance=0,
        unit="components",
    )
    assert said == wanted
    for name in ("L0H0", "L0H1", "L0H2", "L0 MLP"):
        assert roles.of(name).eta2 == pytest.approx(1.0, abs=1e-6)
    # It writes where nothing reads: not even rounding is left of it.
    assert roles.of("L0H3").effect == pytest.approx(0, abs=roles.rounding)
    assert roles.of("embedding").effect == 0
    assert of_planted(planted(both=0.0)) == {**wanted, "L0 MLP": CONSTANT}


def test_a_pair_is_named_only_where_it_explains_more() -> None:
    behavior = letters()
    noise = np.random.default_rng(3).integers(0, 2, len(behavior))
    behavior = replace(
        behavior, features=(*behavior.features, ("noise", tuple(int(v) for v in noise)))
    )
    roles = find_roles(planted(), behavior, [(1, 0)] * len(behavior), np.random.default_rng(1))
    assert roles.of("L0H1").best == "first"
    joined = roles.candidates.index("first × noise")
    assert roles.eta2[roles.components.index("L0H1"), joined] == pytest.approx(1.0)


def test_the_scale_of_the_norm_alone_gives_no_role() -> None:
    """What is the same on all inputs explains nothing, though each input's own scale would."""
    behavior, model = letters(), planted(start=2.0)
    roles = find_roles(model, behavior, [(1, 0)] * len(behavior), np.random.default_rng(1))
    scales = np.array([written(model, torch.tensor(ids), 0).final.scale for ids in behavior.clean])
    at = roles.components.index("embedding")
    assert roles.scale == pytest.approx(scales.mean())
    assert abs(roles.terms[0, at]) > 0.1
    assert np.ptp(roles.terms[:, at]) == 0
    assert not roles.eta2[at].any()
    assert roles.of("embedding").feature == CONSTANT
    named = dict(behavior.features)
    both = [2 * a + b for a, b in zip(named["first"], named["last"], strict=True)]
    of_scale = [share_between(1 / scales, classes) for classes in (list(named["sum"]), both)]
    assert max(of_scale) > 0.2, of_scale
    # What varies keeps its role.
    assert roles.of("L0H1").best == "first"

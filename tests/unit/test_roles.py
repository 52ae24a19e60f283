"""Who takes whose terms, how a role is chosen from scores, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interp.behaviors import built_in
from interp.errors import BadInput
from interp.methods.roles import CONSTANT, NONE, Roles, components, draw_partners, find_roles
from interp.models import catalogue
from interp.models.load import load

HANDMADE = "induction-handmade"


def test_components_are_named_by_layer() -> None:
    assert components(catalogue.info(HANDMADE)) == ("embedding", "L0H0", "L0H1", "L1H0", "L1H1")
    balancer = components(catalogue.info("paren-balancer"))
    assert balancer[:4] == ("embedding", "L0H0", "L0H1", "L0 MLP")
    assert len(balancer) == 10


@pytest.mark.parametrize(
    ("n", "draws", "made", "many"),
    [(4000, 5, 5, 20), (130, 5, 5, 20), (40, 5, 5, 6), (7, 3, 1, 3), (6, 5, 1, 3)],
)
def test_partners_are_others_of_the_group_and_different(
    n: int, draws: int, made: int, many: int
) -> None:
    groups, partners = draw_partners(n, draws, np.random.default_rng(0))
    assert partners.shape == (made, n)
    sizes = np.bincount(groups)
    assert len(sizes) == many
    assert np.ptp(sizes) <= 1
    assert (groups[partners] == groups).all()
    for row in partners:
        assert sorted(row) == list(range(n))
        assert (row != np.arange(n)).all()
    assert all(len(set(column)) == made for column in partners.T)


def scored(
    eta2: list[float],
    rise: float = 1.0,
    classes: tuple[int, ...] = (2, 2, 4),
    spread: float = 1.0,
) -> Roles:
    """Scores of one component for the features a and b and both joined."""
    rng = np.random.default_rng(0)
    return Roles(
        components=("L0H0",),
        candidates=("a", "b", "a × b"),
        n_features=2,
        loss=0.1,
        groups=np.arange(100) % 20,
        partners=np.zeros((1, 100), dtype=np.int64),
        rises=rng.normal(rise, 0.1, (100, 1)),
        scale=1.0,
        terms=rng.normal(0, spread, (100, 1)),
        eta2=np.array([eta2]),
        classes=np.array(classes),
        null=np.array([[0.04, 0.04, 0.08]]),
        largest=np.array([0.09]),
        gain=np.array([0.03]),
        rounding=1e-6,
    )


@pytest.mark.parametrize(
    ("roles", "feature"),
    [
        (scored([0.5, 0.3, 0.52]), "a"),  # a pair always explains a little more
        (scored([0.5, 0.3, 0.54]), "a × b"),  # more than by chance
        (scored([0.5, 0.3, 0.9]), "a × b"),
        (scored([0.05, 0.03, 0.07]), NONE),  # chance explains as much
        (scored([0.5, 0.3, 0.9], rise=0.0), NONE),  # nothing happens without it
        (scored([0.5, 0.3, 0.9], rise=-1.0), "a × b"),  # the loss falls without it
        (scored([0.0, 0.0, 0.0], spread=0.0), CONSTANT),  # nothing to explain
    ],
)
def test_a_role_is_what_explains_most_of_what_acts(roles: Roles, feature: str) -> None:
    assert roles.of("L0H0").feature == feature


def test_features_of_many_classes_are_compared_above_chance() -> None:
    assert scored([0.3, 0.45, 0.5], classes=(2, 30, 60)).of("L0H0").alone == "a"


def test_roles_are_in_order_of_size_of_the_effect() -> None:
    one = scored([0.5, 0.3, 0.5])
    columns = ("rises", "terms")
    both = {name: np.repeat(getattr(one, name), 3, 1) for name in columns}
    both["rises"] *= [0.1, -2.0, 1.0]
    rows = ("eta2", "null", "largest", "gain")
    repeated = {name: np.repeat(getattr(one, name), 3, 0) for name in rows}
    three = replace(one, components=("L0H0", "L0H1", "L0H2"), **both, **repeated)
    assert [role.component for role in three.roles] == ["L0H1", "L0H2", "L0H0"]


def test_what_cannot_be_asked_is_refused() -> None:
    model, rng = load(HANDMADE), np.random.default_rng(0)
    behavior = replace(built_in("induction-first-cue", 2, HANDMADE), features=(("one", (0, 1)),))
    with pytest.raises(BadInput, match="There are 2 inputs"):
        find_roles(model, behavior, [(0, 1)] * 2, rng)
    six = built_in("induction-first-cue", 6, HANDMADE)
    with pytest.raises(BadInput, match="no features"):
        find_roles(model, replace(six, features=()), [(0, 1)] * 6, rng)
    named = replace(six, features=(("one", (0, 1) * 3),), answers=())
    with pytest.raises(BadInput, match="no answers"):
        find_roles(model, named, [(0, 1)] * 6, rng)

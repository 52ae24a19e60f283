"""Hypotheses made of roles: who is named, through what, and that the published ones come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interp.errors import UnknownName
from interp.explanations import check, read
from interp.explanations.hypothesis import MOST_NODES, Hypothesis
from interp.explanations.matching import (
    EXPRESSIONS,
    PAREN_FEATURES,
    Placed,
    matched,
    matched_twice,
    paren_hypotheses,
)
from interp.explanations.presets import preset
from interp.explanations.terms import terms_of
from interp.models import catalogue

BALANCER = catalogue.info("paren-balancer")
TELLS = ("balanced", "equal_counts × horizon_test")


def one(component: str, role: str, *, alone: str = "", acts: bool = True) -> Placed:
    """A component of a paren balancer with this role; empty: none."""
    sites = {term.label: str(term) for term in terms_of(BALANCER)}
    features = tuple(role.split(" × ")) if role else ()
    single = alone or (features[0] if features else "")
    return Placed(
        component=component,
        site=sites[component],
        effect=0.3,
        low=0.2,
        high=0.4,
        acts=acts,
        features=features,
        eta2=0.8,
        alone=single,
        eta2_alone=0.7,
        tells=role in TELLS,
        tells_alone=single in TELLS,
    )


HEADS = (one("L0H0", "", acts=False), one("L0H1", "length", acts=False))
PUBLISHED = (
    *HEADS,
    one("L1H0", "equal_counts"),
    one("L2H0", "counts_and_start"),
    one("L2H1", "horizon_test"),
)


def agrees(hypothesis: Hypothesis) -> dict[str, object]:
    """What each node below the logits agrees on."""
    return {node.site: node.agree for node in hypothesis.graph.children}


def test_published_roles_give_the_published_hypotheses() -> None:
    found = dict(paren_hypotheses(PUBLISHED))
    assert list(found) == [
        "Role-matched 1a",
        "Role-matched 1b",
        "Role-matched 2a",
        "Swapped roles",
    ]
    for name in ("1a", "1b"):
        published = preset(f"paren-{name}").hypothesis
        assert found[f"Role-matched {name}"].graph == published.graph
        assert found[f"Role-matched {name}"].features == published.features
        assert found["Swapped roles"].graph != published.graph
    ours, published = found["Role-matched 2a"], preset("paren-2a").hypothesis
    assert ours.features == published.features
    for head in ("a1.h0", "a2.h0"):
        (mine,), (theirs,) = ours.node(head).children, published.node(head).children
        assert (mine.site, mine.pos, mine.agree) == (theirs.site, theirs.pos, theirs.agree)
        assert mine.children[0].site == "a0.h0+a0.h1"
        assert mine.children[0].agree == theirs.children[0].agree
        assert mine.children[1] == theirs.children[1]
    assert not ours.node("a2.h1").children


def test_roles_go_with_the_components_that_have_them() -> None:
    table = (
        *HEADS,
        one("L1H1", "horizon_test × length"),
        one("L1 MLP", "equal_counts × horizon_test", alone="equal_counts"),
        one("L2H0", "starts_open"),
        one("L2H1", "counts_and_start", acts=False),
        one("L2 MLP", "balanced"),
    )
    found = dict(paren_hypotheses(table, model="paren-balancer@seed-2"))
    assert [title.removeprefix("Role-matched ") for title in found] == [
        "1a",
        "1b",
        "Swapped roles",
        "1a without what tells the answer alone",
        "1b without what tells the answer alone",
        "Swapped roles without what tells the answer alone",
    ]
    named = agrees(found["Role-matched 1b"])
    assert named == {"a1.h1": "horizon_test", "m1": "counts_and_start", "m2": "balanced"}
    assert agrees(found["Role-matched 1a"])["m1"] == "equal_counts"
    assert agrees(found["Swapped roles without what tells the answer alone"]) == {
        "a1.h1": "counts_and_start",
        "m1": "horizon_test",
    }
    assert {one.model for one in found.values()} == {"paren-balancer@seed-2"}


def test_nothing_to_say_gives_nothing() -> None:
    assert paren_hypotheses(HEADS) == ()
    assert paren_hypotheses((one("L2 MLP", "length"),)) == ()
    only = dict(paren_hypotheses((one("L2 MLP", "balanced"),)))
    assert list(only) == ["Role-matched 1a"]
    assert matched(HEADS, PAREN_FEATURES) is None
    assert matched_twice(HEADS, PAREN_FEATURES, "", "") == ()


def test_matched_names_what_acts_through_its_features() -> None:
    table = (
        *HEADS,
        one("L1H1", "horizon_test × length"),
        one("L1 MLP", ""),
        one("L2 MLP", "balanced"),
    )
    both = dict(matched_twice(table, PAREN_FEATURES, "paren-balancer", "paren-strings"))
    whole, without = both.values()
    assert agrees(whole) == {"a1.h1": ("horizon_test", "length"), "m2": "balanced"}
    assert agrees(without) == {"a1.h1": ("horizon_test", "length")}
    # What a feature is made of comes along, and nothing else.
    assert set(whole.features) == {"horizon_test", "length", "balanced", "equal_counts"}
    assert set(without.features) == {"horizon_test", "length"}
    plain = matched_twice(table[:-1], PAREN_FEATURES, "", "")
    assert [title for title, _ in plain] == ["Matched roles"]


def test_the_largest_are_named_where_there_are_too_many() -> None:
    template = one("L1H1", "length")
    many = [
        replace(template, site=f"a{layer}.h{head}", effect=float((-1) ** head * (layer * 8 + head)))
        for layer in range(12)
        for head in range(8)
    ]
    found = matched(many, PAREN_FEATURES)
    assert found is not None
    nodes = found.graph.children
    assert len(nodes) == MOST_NODES - 1
    assert nodes[-1].site == "a11.h7"
    assert "a0.h7" not in {node.site for node in nodes}


@pytest.mark.parametrize("snapshot", ["", "@seed-2"])
def test_made_hypotheses_can_be_tested_and_kept(snapshot: str) -> None:
    info = catalogue.info(f"paren-balancer{snapshot}")
    table = (*PUBLISHED, one("L2 MLP", "balanced"))
    made = paren_hypotheses(table, model=info.name)
    made += matched_twice(table, PAREN_FEATURES, info.name, "paren-strings")
    assert len(made) == 10
    for _, hypothesis in made:
        check(hypothesis, info, {"OPEN", "CLOSE"}, n_positions=42)
        assert read(hypothesis.canonical)[0] == hypothesis
    with pytest.raises(UnknownName, match="equal_counts"):
        check(made[0][1], info, {"START"}, n_positions=42)


def test_expressions_are_those_of_presets_where_these_have_them() -> None:
    published = preset("paren-2a").hypothesis.features
    shared = set(PAREN_FEATURES) & set(published)
    assert shared == {"equal_counts", "starts_open", "counts_and_start", "horizon_test"}
    assert all(PAREN_FEATURES[name] == published[name].expr for name in shared)
    induced = preset("handmade-induced-feature").hypothesis.features["induced_token"].expr
    assert EXPRESSIONS["induced"] == induced

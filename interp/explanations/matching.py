"""Hypotheses made of what was found: each component matters through what it is a sign of.

The published claims about a paren balancer name heads of other weights. Here they are said of the
components that have these roles in the weights at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from interp import expressions
from interp.explanations.hypothesis import EXACT, MOST_NODES, Feature, Hypothesis, Node
from interp.explanations.presets import preset
from interp.explanations.terms import ROOT, parse_terms

COUNT: Final = ("equal_counts", "counts_and_start")
HORIZON: Final = "horizon_test"
BALANCED: Final = "balanced"
_PUBLISHED: Final = preset("paren-2a").hypothesis.features
PAREN_FEATURES: Final[Mapping[str, str]] = {
    name: _PUBLISHED[name].expr for name in ("equal_counts", "starts_open", COUNT[1], HORIZON)
} | {
    BALANCED: f"equal_counts & {HORIZON}",
    "length": "length()",
    "depth": "max(cumsum_left(OPEN, CLOSE))",
}
"""What components of a paren balancer are asked for, as expressions over each other."""
EXPRESSIONS: Final[Mapping[str, str]] = {
    "cue": "last()",
    "last_letter": "last()",
    "previous": "at(-2)",
    "letter_before_the_last": "at(-2)",
    "induced": "tok_after_prev_occurrence(-1)",
    "letter_after_the_earlier_copy": "tok_after_prev_occurrence(-1)",
}
"""Expressions for columns of these names, where they make the same classes."""
WITHOUT: Final = "without what tells the answer alone"


@dataclass(frozen=True)
class Placed:
    """A component and its role.

    Attributes:
        component: Its name: "L1H0", "L2 MLP", "embedding".
        site: Its terms: "a1.h0", "embed+pos_embed".
        effect: Direct effect on the loss in nats, with the bounds of its 95 % interval.
        low: Lower bound.
        high: Upper bound.
        acts: Whether the interval excludes 0.
        features: The feature, or the two joined, that explain most; none where chance explains as
            much, or where nothing varies.
        eta2: Share of the variance that they explain.
        alone: The single feature that explains most, or empty likewise.
        eta2_alone: Share that it explains.
        tells: Whether ``features`` determine the right answer.
        tells_alone: Whether ``alone`` does.
    """

    component: str
    site: str
    effect: float
    low: float
    high: float
    acts: bool
    features: tuple[str, ...]
    eta2: float
    alone: str
    eta2_alone: float
    tells: bool
    tells_alone: bool


def matched(
    table: Sequence[Placed],
    features: Mapping[str, str],
    *,
    model: str = "",
    behavior: str = "",
    telling: bool = True,
) -> Hypothesis | None:
    """Claim that every component that acts matters through its feature, and nothing else does.

    Of more components than a hypothesis may have nodes those with the largest effects are named.

    Args:
        table: The components.
        features: Expression of each feature that may be named, and of those in expressions.
        model: Model that it is about.
        behavior: Inputs that it is about.
        telling: Whether components are named whose features determine the right answer.

    Returns:
        The hypothesis; None where it would name nothing.
    """
    named = [one for one in table if one.acts and one.features and (telling or not one.tells)]
    largest = sorted(named, key=lambda one: -abs(one.effect))[: MOST_NODES - 1]
    named = [one for one in named if one in largest]
    children = tuple(_leaf(one, one.features) for one in named)
    title = "Every component matters through what it is a sign of"
    title += "" if telling else f", {WITHOUT}"
    known = {name: Feature(expr=expr) for name, expr in features.items()}
    return _hypothesis(title, children, known, (model, behavior)) if children else None


def matched_twice(
    table: Sequence[Placed], features: Mapping[str, str], model: str, behavior: str
) -> tuple[tuple[str, Hypothesis], ...]:
    """Return the matched hypothesis, and the one without nodes that tell the answer if it differs.

    Returns:
        Titles and hypotheses; none where no component acts through a feature.
    """
    made = [
        (title, matched(table, features, model=model, behavior=behavior, telling=telling))
        for title, telling in (("Matched roles", True), (f"Matched roles {WITHOUT}", False))
    ]
    found = {one.graph: (title, one) for title, one in reversed(made) if one is not None}
    return tuple(reversed(found.values()))


# --- the published claims about parentheses ------------------------------------------------------


def paren_hypotheses(
    table: Sequence[Placed], *, model: str = "paren-balancer", behavior: str = "paren-strings"
) -> tuple[tuple[str, Hypothesis], ...]:
    """Say the published claims of the components that have their roles.

    Roles are those of single features. Components that compare counts get the published feature of
    the heads that do, those that test the horizon theirs, those whose feature determines the answer
    keep it, or are left out; the rest is drawn. The embedding and the first layer come into 2a only
    below heads that compare counts. The control has the features of counts and horizon exchanged.

    Returns:
        Titles and hypotheses: 1a, 1b, 2a and the control, each also without what tells the answer
        where there is such a component; those that would name nothing are left out.
    """
    role = {one.site: _role(one) for one in table if one.acts}
    every = {"count", "horizon", "tells"}
    made: list[tuple[str, tuple[Node, ...]]] = []
    for said, names in (("", every), (f" {WITHOUT}", every - {"tells"})):
        if said and "tells" not in role.values():
            continue
        kept = [one for one in table if role.get(one.site) in names]
        if not kept:
            continue
        roles = {role[one.site] for one in kept}
        made.append((f"Role-matched 1a{said}", _claims(kept, COUNT[0], HORIZON)))
        if "count" in roles:
            made.append((f"Role-matched 1b{said}", _claims(kept, COUNT[1], HORIZON)))
        if any(_is_later_head(one) and role[one.site] == "count" for one in kept):
            made.append((f"Role-matched 2a{said}", _claims(kept, COUNT[1], HORIZON, table)))
        if roles & {"count", "horizon"}:
            made.append((f"Swapped roles{said}", _claims(kept, HORIZON, COUNT[1])))
    known = {name: Feature(expr=expr) for name, expr in PAREN_FEATURES.items()} | _PUBLISHED
    of = model, behavior
    return tuple((title, _hypothesis(title, nodes, known, of)) for title, nodes in made)


def _role(one: Placed) -> str:
    if one.tells_alone:
        return "tells"
    return "count" if one.alone in COUNT else "horizon" if one.alone == HORIZON else ""


def _claims(
    kept: Sequence[Placed], count: str, horizon: str, table: Sequence[Placed] = ()
) -> tuple[Node, ...]:
    """Return a node for each component; with the whole table heads that count have their inputs."""
    nodes: list[Node] = []
    for one in kept:
        through = {"count": count, "horizon": horizon}.get(_role(one), one.alone)
        below = _at_first(table) if _is_later_head(one) and _role(one) == "count" else ()
        nodes.append(_leaf(one, (through,), below))
    return tuple(nodes)


def _at_first(table: Sequence[Placed]) -> tuple[Node, ...]:
    """Say what the published 2a says below a head, of all heads of the first layer together."""
    heads = [one.site for one in table if one.site.startswith("a0.")]
    if not heads:
        return ()
    published = preset("paren-2a").hypothesis.node("a1.h0").children[0]
    head, embedding = (node.model_copy(update={"id": ""}) for node in published.children)
    below = (head.model_copy(update={"site": "+".join(heads)}), embedding)
    return (published.model_copy(update={"id": "", "children": below}),)


def _is_later_head(one: Placed) -> bool:
    return any(term.kind == "head" and term.layer > 0 for term in parse_terms(one.site))


# --- both ----------------------------------------------------------------------------------------


def _leaf(one: Placed, through: tuple[str, ...], below: tuple[Node, ...] = ()) -> Node:
    return Node(site=one.site, agree=through[0] if len(through) == 1 else through, children=below)


def _hypothesis(
    title: str, children: tuple[Node, ...], known: Mapping[str, Feature], of: tuple[str, str]
) -> Hypothesis:
    """Put claims below the logits, with the features that they name and those these are made of."""
    graph = Node(site=ROOT, agree=EXACT, children=children)
    bare = Hypothesis(graph=graph)
    used, waiting = set[str](), [name for node, _ in bare.nodes() for name in node.features]
    while waiting:
        name = waiting.pop()
        if name in known and name not in used:
            used.add(name)
            waiting += expressions.parse(known[name].expr).names_used
    return Hypothesis(
        name=title.lower(),
        note=f"{title}. Made of the roles found on the half of the inputs that is searched.",
        model=of[0],
        behavior=of[1],
        features={name: feature for name, feature in known.items() if name in used},
        graph=graph,
    )

"""The published hypotheses about a paren balancer, heads as they were named there.

Source: Chan et al., "Causal scrubbing: results on a paren balance checker" (2022), experiments 0a
to 2b; numbers on 4,000 strings, from the floor of labels exchanged at random.
"""

from __future__ import annotations

from typing import Final

from interp.explanations._presets_record import Preset, Published
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node, Rewrite, Split

_MODEL: Final = "paren-balancer"
_BEHAVIOR: Final = "paren-strings"
_SOURCE: Final = (
    "Redwood Research (2022), their own weights; 0 is the loss with answers exchanged at random"
)
_WHY: Final = (
    "These weights come from another seed and another mix of strings, so other heads may carry "
    "these roles; padding is masked here and what is drawn for the rest brings its own mask; the "
    "strings are drawn anew in the published shares."
)

_EQUAL, _START, _BOTH = "equal_counts", "starts_open", "counts_and_start"
_HORIZON, _P, _P_IF_OPEN = "horizon_test", "share_open", "share_if_open"
_FEATURES: Final = {
    _EQUAL: Feature(expr="count(OPEN) == count(CLOSE)", dtype="bool"),
    _START: Feature(expr="at(1) == OPEN", dtype="bool"),
    _BOTH: Feature(expr=f"{_EQUAL} & {_START}", dtype="bool"),
    _HORIZON: Feature(expr="max(cumsum_right(OPEN, CLOSE)) <= 0", dtype="bool"),
    _P: Feature(expr="count(OPEN) / (count(OPEN) + count(CLOSE))", dtype="float"),
    _P_IF_OPEN: Feature(expr=f"where({_START}, {_P}, -1)", dtype="float"),
}


def _direct(site: str, agree: str, *children: Node) -> Node:
    return Node(site=site, agree=agree, children=children)


def _at_first(site: str, head: str) -> Node:
    """Say that a head matters through position 1: a first-layer head there, and the embedding."""
    below = (
        Node(site=head, via="mlps", agree=_P_IF_OPEN),
        Node(site="embed", via="mlps", agree=_START),
    )
    return _direct(site, _BOTH, Node(site="resid", pos=(1,), agree=_BOTH, children=below))


def _preset(
    name: str, title: str, graph: Node, published: Published, rewrites: tuple[Rewrite, ...] = ()
) -> Preset:
    used = _used(graph)
    if rewrites:
        used |= {_P}
    hypothesis = Hypothesis(
        name=name,
        note=f"{title}. Published as experiment {name.removeprefix('paren-')}.",
        model=_MODEL,
        behavior=_BEHAVIOR,
        features={key: feature for key, feature in _FEATURES.items() if key in used},
        rewrites=rewrites,
        graph=graph,
    )
    return Preset(name, title, (_MODEL,), _BEHAVIOR, hypothesis, (published,), _WHY)


def _used(graph: Node) -> set[str]:
    """List the features of a tree, and those that they are made of."""
    used, waiting = set[str](), [graph]
    while waiting:
        node = waiting.pop()
        used |= set(node.features)
        waiting += node.children
    if _BOTH in used:
        used |= {_EQUAL, _START}
    if _P_IF_OPEN in used:
        used |= {_START, _P}
    return used


def _root(*children: Node, other: str = "shared") -> Node:
    return Node(site="logits", agree=EXACT, other=other, children=children)


_HORIZON_HEAD: Final = _direct("a2.h1", _HORIZON)

PRESETS: Final = (
    _preset(
        "paren-0a",
        "Nothing is exchanged: the model itself",
        _root(other=EXACT),
        Published(0.0003, None, 1.0, _SOURCE),
    ),
    _preset(
        "paren-0b",
        "Everything is exchanged: the floor",
        _root(),
        Published(4.30, 0.12, 0.0, _SOURCE),
    ),
    _preset(
        "paren-1a",
        "L1H0 and L2H0 compare counts, L2H1 tests the horizon",
        _root(_direct("a1.h0", _EQUAL), _direct("a2.h0", _EQUAL), _HORIZON_HEAD),
        Published(0.52, 0.04, 0.88, _SOURCE),
    ),
    _preset(
        "paren-1b",
        "L1H0 and L2H0 compare counts and see the first parenthesis, L2H1 tests the horizon",
        _root(_direct("a1.h0", _BOTH), _direct("a2.h0", _BOTH), _HORIZON_HEAD),
        Published(0.30, 0.04, 0.93, _SOURCE),
    ),
    _preset(
        "paren-2a",
        "As 1b, and L1H0 and L2H0 read the share of ( from L0H0 at position 1",
        _root(_at_first("a1.h0", "a0.h0"), _at_first("a2.h0", "a0.h0"), _HORIZON_HEAD),
        Published(0.55, 0.04, 0.87, _SOURCE),
    ),
    _preset(
        "paren-2b",
        "As 2a, and L0H0 writes that share along one line",
        _root(_at_first("a1.h0", "a0.h0#part"), _at_first("a2.h0", "a0.h0#part"), _HORIZON_HEAD),
        Published(0.53, 0.04, 0.88, _SOURCE),
        (Rewrite(site="a0.h0", pos=(1,), split=Split(phi=f"2 * {_P} - 1")),),
    ),
)

"""Hypotheses about indirect objects in GPT-2 small.

Heads by Wang et al., "Interpretability in the wild" (2022). Positions are those of the prompts of
the behavior ``ioi``, counted with the start token: names at 2 and 4, the subject again at 10.
"""

from __future__ import annotations

from typing import Final

from interp.explanations._presets_record import Preset, Published
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node

_MODEL: Final = "gpt2"
_BEHAVIOR: Final = "ioi"
_MOVERS, _NEGATIVE = "a9.h6+a9.h9+a10.h0", "a10.h7+a11.h10"
_INHIBITION: Final = "a7.h3+a7.h9+a8.h6+a8.h10"
_INDUCTION, _DUPLICATE = "a5.h5+a5.h8+a5.h9+a6.h9", "a0.h1+a0.h10+a3.h0"
_FIRST, _SECOND, _AGAIN = 2, 4, 10

_FEATURES: Final = {
    "subject_first": Feature(expr=f"at({_FIRST}) == at({_AGAIN})", dtype="bool"),
    "subject": Feature(expr=f"at({_AGAIN})"),
    "indirect_object": Feature(expr=f"where(subject_first, at({_SECOND}), at({_FIRST}))"),
}
_NAMES: Final = ("indirect_object", "subject")
_PLACE: Final = ("subject_first", "subject")
_ALL: Final = (*_NAMES, "subject_first")
_SOURCE: Final = (
    "Redwood Research, material of the REMIX course, GPT-2 small on its own prompts: about this "
    "share of the logit difference"
)
_WHY: Final = "Other prompts and names are used here, and a loss instead of a logit difference."


def _preset(
    name: str, title: str, graph: Node, features: tuple[str, ...], *published: Published
) -> Preset:
    hypothesis = Hypothesis(
        name=name,
        note=f"{title}. Positions are for prompts with a start token.",
        model=_MODEL,
        behavior=_BEHAVIOR,
        features={key: _FEATURES[key] for key in features},
        graph=graph,
    )
    why = _WHY if published else ""
    return Preset(name, title, (_MODEL,), _BEHAVIOR, hypothesis, published, why)


def _root(*children: Node) -> Node:
    return Node(site="logits", agree=EXACT, children=children)


def _circuit() -> Node:
    """Make the tree of the published circuit, from the name movers down."""
    at_again = (
        Node(site=_INDUCTION, into="v", pos=(_AGAIN,), agree=_PLACE),
        Node(site=_DUPLICATE, into="v", pos=(_AGAIN,), agree=_PLACE),
    )
    inhibition = Node(site=_INHIBITION, into="q", pos="read", agree=_PLACE, children=at_again)
    names = Node(site="embed", into="v", via="any", pos=(_FIRST, _SECOND), agree=_ALL)
    movers = Node(site=_MOVERS, pos="read", agree=_NAMES, children=(names, inhibition))
    return _root(movers, Node(site=_NEGATIVE, pos="read", agree=_NAMES))


PRESETS: Final = (
    _preset(
        "ioi-name-movers",
        "Only the name movers and negative name movers write the answer",
        _root(
            Node(site=_MOVERS, pos="read", agree=EXACT),
            Node(site=_NEGATIVE, pos="read", agree=EXACT),
        ),
        (),
        Published(None, None, 0.5, _SOURCE),
    ),
    _preset(
        "ioi-circuit",
        "Name movers read the names, queried by S-inhibition heads that know the repeated one",
        _circuit(),
        ("subject_first", "subject", "indirect_object"),
    ),
)

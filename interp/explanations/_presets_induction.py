"""Hypotheses about induction: the published ones, and true and wrong ones about known weights.

Source: Chan et al., "Causal scrubbing on induction heads" (2022), and the public code; numbers from
the floor of the induction heads' inputs exchanged at random.
"""

from __future__ import annotations

from typing import Final, Literal

from interp.explanations._presets_record import Preset, Published
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node

_HANDMADE, _LETTERS = "induction-handmade", "induction-letters"
_LEARNED, _SEGMENTS = "induction-2l", "induction-segments"
_CODE: Final = (
    "Redwood Research (2022), public code, a model of two layers of 8 heads on web text; 0 is the "
    "loss with the induction heads' inputs exchanged"
)
_POST: Final = _CODE.replace("public code", "results post")
_WHY: Final = {
    _HANDMADE: (
        "This model is written by hand and does nothing but induction, so a true claim recovers "
        "all of it, and where no induction is due it is not asked."
    ),
    _LEARNED: (
        "This model has 2 heads a layer and learned to copy letters; the published one had 8 and "
        "web text. Here queries and values pass through L0H1, which embeddings alone leave out."
    ),
}
_INDUCED: Final = {"induced_token": Feature(expr="tok_after_prev_occurrence(-1)")}
_CUE: Final = {"cue_token": Feature(expr="last()")}

_V: Final = Node(site="embed", into="v", agree=EXACT)
_Q: Final = Node(site="embed", into="q", agree=EXACT)
_K: Final = Node(site="a0.h0", into="k", agree=EXACT)
_K_PREVIOUS: Final = Node(site="a0.h0", into="k", attn_term="prev", agree=EXACT)


def _whole(*slots: Literal["q", "k", "v"]) -> tuple[Node, ...]:
    return tuple(Node(site="resid", into=slot, agree=EXACT) for slot in slots)


def _publications(model: str, start: str, heads: str) -> tuple[Preset, ...]:
    """Make the published claims about a model's induction heads; the rest of it stays exact."""

    def made(name: str, title: str, children: tuple[Node, ...], *published: Published) -> Preset:
        head = Node(site=heads, agree=EXACT, children=children)
        graph = Node(site="logits", agree=EXACT, other=EXACT, children=(head,))
        return _preset(f"{start}-{name}", title, model, graph, published=published)

    presets = (
        made(
            "naive",
            "Values and queries are embeddings, keys come from the previous token head",
            (_V, _Q, _K_PREVIOUS),
            Published(None, None, 0.37, _CODE),
            Published(None, None, 0.35, _POST),
        ),
        made(
            "v",
            "Values are embeddings; queries and keys stay as they are",
            (_V, *_whole("q", "k")),
            Published(None, None, 0.90, _CODE),
        ),
        made(
            "q",
            "Queries are embeddings; keys and values stay as they are",
            (_Q, *_whole("k", "v")),
            Published(None, None, 0.51, _CODE),
        ),
        made(
            "k",
            "Keys come from the previous token head; queries and values stay as they are",
            (_K, *_whole("q", "v")),
            Published(None, None, 0.83, _CODE),
        ),
    )
    previous = made(
        "k-prev",
        "Keys come from the position before through the previous token head; the rest stays",
        (_K_PREVIOUS, *_whole("q", "v")),
        Published(None, None, 0.82, _CODE),
    )
    return (*presets, previous)


def _handmade(
    name: str,
    title: str,
    node: Node,
    features: dict[str, Feature] | None = None,
) -> Preset:
    """Make a claim about the weights written by hand: all else is exchanged."""
    graph = Node(site="logits", agree=EXACT, children=(node,))
    return _preset(f"handmade-{name}", title, _HANDMADE, graph, features=features)


def _preset(
    name: str,
    title: str,
    model: str,
    graph: Node,
    *,
    features: dict[str, Feature] | None = None,
    published: tuple[Published, ...] = (),
) -> Preset:
    behavior = _LETTERS if model == _HANDMADE else _SEGMENTS
    hypothesis = Hypothesis(
        name=name,
        note=f"{title}.",
        model=model,
        behavior=behavior,
        features=features or {},
        graph=graph,
    )
    why = _WHY[model] if published else ""
    return Preset(name, title, (model,), behavior, hypothesis, published, why)


def _head(*children: Node, agree: str = EXACT) -> Node:
    return Node(site="a1.h0", agree=agree, children=children)


def _through(feature: str, *nodes: Node) -> tuple[Node, ...]:
    return tuple(node.model_copy(update={"agree": feature}) for node in nodes)


def _through_l0h1() -> Preset:
    """Make the naive claim with L0H1 beside the embedding; nothing is published about it."""
    slots = (Node(site="embed+a0.h1", into=slot, agree=EXACT) for slot in ("v", "q"))
    head = Node(site="a1.h0+a1.h1", agree=EXACT, children=(*slots, _K_PREVIOUS))
    graph = Node(site="logits", agree=EXACT, other=EXACT, children=(head,))
    title = "As the naive claim, but values and queries come through L0H1 too"
    return _preset("induction-2l-l0h1", title, _LEARNED, graph)


_K_FROM_TOKENS: Final = Node(
    site="a0.h0", into="k", agree=EXACT, children=(Node(site="embed", into="v", agree=EXACT),)
)

PRESETS: Final = (
    *_publications(_HANDMADE, "induction", "a1.h0"),
    *_publications(_LEARNED, "induction-2l", "a1.h0+a1.h1"),
    _through_l0h1(),
    _handmade(
        "qkv",
        "L1H0 reads queries and values from embeddings and keys from L0H0",
        _head(_Q, _K, _V),
    ),
    _handmade(
        "previous-from-embedding",
        "The same, and L0H0 reads its values from embeddings",
        _head(_Q, _K_FROM_TOKENS, _V),
    ),
    _handmade(
        "induced-feature",
        "L1H0 matters only through the induced letter",
        _head(agree="induced_token"),
        _INDUCED,
    ),
    _handmade(
        "k-from-embedding",
        "Wrong: L1H0 reads keys from embeddings too",
        _head(_Q, Node(site="embed", into="k", agree=EXACT), _V),
    ),
    _handmade(
        "separately",
        "Wrong: queries, keys and values of L1H0 matter each through the induced letter",
        _head(*_through("induced_token", _Q, _K, _V), agree="induced_token"),
        _INDUCED,
    ),
    _handmade(
        "cue-feature",
        "Wrong: L1H0 matters only through the cue",
        _head(agree="cue_token"),
        _CUE,
    ),
    _handmade(
        "wrong-head",
        "Wrong: L1H1 is what matters",
        Node(site="a1.h1", agree=EXACT),
    ),
)

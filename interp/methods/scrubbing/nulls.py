"""Random explanations of the same size: the same features elsewhere, or other features there.

A score says something only where random hypotheses do not reach it as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from interp.errors import BadInput
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Near, Node
from interp.explanations.terms import ROOT, Term, parse_terms, terms_of
from interp.models.info import ModelInfo

SITES = "same features on random sites"
FEATURES = "random features of the data on the same sites"
_TRIES = 100


def at_random_sites(
    hypothesis: Hypothesis, model: ModelInfo, rng: np.random.Generator
) -> Hypothesis:
    """Return the hypothesis with every term exchanged for a random one that can stand there.

    The tree, features, positions and inputs of heads stay. Siblings get different terms. Where the
    rest of the model stays as it is, what stands at the logits stays too: a claim about a part
    that does nothing is true. The hypothesis itself never comes out.

    Raises:
        BadInput: There is no other place for its claims; see ``why_no_sites``.
    """
    root = hypothesis.graph
    for _ in range(_TRIES):
        if root.other == EXACT:
            children = tuple(_below(child, model, rng) for child in root.children)
            graph = root.model_copy(update={"children": children})
        else:
            graph = _moved(root, 2 * model.n_layers, model, rng)
        if graph != root:
            return hypothesis.model_copy(update={"graph": graph, "rewrites": ()})
    raise BadInput("Random sites were asked for.", "There are no others.", "Ask for none.")


def _below(node: Node, model: ModelInfo, rng: np.random.Generator) -> Node:
    """Move what stands below a node, which stays."""
    terms = parse_terms(node.site)
    if not node.children or not terms:
        return node
    return _moved(node, min(term.written(model) for term in terms), model, rng)


def why_no_sites(hypothesis: Hypothesis, model: ModelInfo) -> str:
    """Say why there is no null of random sites, or nothing."""
    if not any(parse_terms(node.site) for node, _ in hypothesis.nodes()):
        return "the hypothesis names no part of the model"
    root = hypothesis.graph
    if root.other == EXACT and not any(child.children for child in root.children):
        return (
            "the rest of the model stays as it is, so the same claim about a part that does "
            "nothing would be true"
        )
    try:
        at_random_sites(hypothesis, model, np.random.default_rng(0))
    except BadInput:
        return "there is no other place for its claims"
    return ""


def _moved(node: Node, limit: int, model: ModelInfo, rng: np.random.Generator) -> Node:
    """Choose terms for the children of a node, which reads what is written before ``limit``."""
    for _ in range(_TRIES):
        children: list[Node] = []
        taken: set[tuple[Term, str]] = set()
        for child in node.children:
            found = _placed(child, limit, taken, model, rng)
            if found is None:
                break
            taken |= {(term, child.into or "") for term in parse_terms(found.site)}
            children.append(found)
        else:
            return node.model_copy(update={"children": tuple(children)})
    return node


def _placed(
    node: Node,
    limit: int,
    taken: set[tuple[Term, str]],
    model: ModelInfo,
    rng: np.random.Generator,
) -> Node | None:
    """Put a node on random terms; None where there is no room."""
    own = parse_terms(node.site)
    if not own:
        return _moved(node, limit, model, rng)
    heads = node.attn_term or any(child.into or child.site == "mask" for child in node.children)
    used = {term for term, slot in taken if slot in ("", node.into or "") or not node.into}
    kinds = ("head",) if heads else ("head", "mlp") if node.children else ()
    room = [
        term
        for term in terms_of(model)
        if term.written(model) < limit and term not in used and (not kinds or term.kind in kinds)
    ]
    if len(room) < len(own):
        return None
    chosen = [room[i] for i in sorted(rng.choice(len(room), len(own), replace=False))]
    below = min(term.written(model) for term in chosen) if node.children else 0
    moved = node.model_copy(update={"site": "+".join(map(str, chosen))})
    return _moved(moved, below, model, rng) if node.children else moved


def with_random_features(
    hypothesis: Hypothesis, known: Mapping[str, str], rng: np.random.Generator
) -> Hypothesis:
    """Return the hypothesis with each of its features exchanged for a random one of the data."""
    own = sorted({name for node, _ in hypothesis.nodes() for name in node.features})
    chosen = rng.choice(sorted(known), len(own), replace=len(own) > len(known))
    instead = {name: str(other) for name, other in zip(own, chosen, strict=True)}
    # What a rewrite splits a term by stays: its own features are among these.
    features = dict(hypothesis.features) | {
        other: Feature(expr=known[other], dtype="float", bins=0) for other in instead.values()
    }
    return hypothesis.model_copy(
        update={"features": features, "graph": renamed(hypothesis.graph, instead)}
    )


def renamed(node: Node, instead: Mapping[str, str]) -> Node:
    """Return a node, and all below it, with its features exchanged for others."""
    agree = node.agree
    if isinstance(agree, Near):
        agree = agree.model_copy(update={"near": instead[agree.near]})
    elif isinstance(agree, str):
        agree = instead.get(agree, agree)
    else:
        agree = tuple(instead.get(name, name) for name in agree)
    children = tuple(renamed(child, instead) for child in node.children)
    return node.model_copy(update={"agree": agree, "children": children})


def why_no_features(hypothesis: Hypothesis, known: Mapping[str, str]) -> str:
    """Say why there is no null of random features, or nothing."""
    if not any(node.features for node, _ in hypothesis.nodes() if node.site != ROOT):
        return "the hypothesis names no feature, so none can be exchanged"
    return "" if len(known) > 1 else "the inputs have no features to draw from"


def rank(
    value: float, null: Sequence[float] | np.ndarray, *, larger_is_better: bool
) -> tuple[int, int]:
    """Return (1 + number of the null at least as good, 1 + size of the null)."""
    drawn = np.asarray(null)
    as_good = drawn >= value if larger_is_better else drawn <= value
    return 1 + int(as_good.sum()), 1 + len(drawn)

"""Static checks: whether a hypothesis can be tested on a model, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from interp.errors import BadInput, UnknownName
from interp.explanations._checks_features import check_features, check_rewrites
from interp.explanations._checks_siblings import check_siblings, overlap, said
from interp.explanations.hypothesis import (
    ANY,
    EXACT,
    MOST_NODES,
    NAME,
    SAME_AS,
    SEPARATE,
    SHARED,
    Hypothesis,
    Node,
    Positions,
)
from interp.explanations.terms import MASK, ROOT, STREAM, Term, check_term, parse_term, parse_terms
from interp.models.info import ModelInfo

_OTHER = (SHARED, SEPARATE, EXACT)
_HASH = re.compile(r"[0-9a-fA-F]{8,64}")


def check(
    hypothesis: Hypothesis,
    model: ModelInfo,
    columns: Collection[str] = (),
    n_positions: int | None = None,
) -> None:
    """Refuse a hypothesis that cannot be tested on a model.

    Args:
        hypothesis: The hypothesis.
        model: The model.
        columns: Names that expressions may use beside the features; empty: they are not checked.
        n_positions: Positions of the longest input, where that is known.

    Raises:
        BadInput: It cannot; the message names the node.
        UnknownName: It names a term, feature, column or node that does not exist.
    """
    _check_size(hypothesis)
    _check_model(hypothesis, model)
    check_features(hypothesis, columns)
    check_rewrites(hypothesis, model, columns)
    for rewrite in hypothesis.rewrites:
        _check_positions(f"The rewrite of {rewrite.site}", rewrite.pos, n_positions)
    _check_root(hypothesis.graph)
    for place in _places(hypothesis.graph, ()):
        _check_terms(place, model, hypothesis)
        _check_kind(place, model)
        _check_below(place)
        _check_order(place, model)
        _check_positions(place.said, place.node.pos, n_positions)
        _check_agree(place, hypothesis)
        _check_pool(place)
        check_siblings(place.node, place.above, model)
    _check_others(hypothesis)


@dataclass(frozen=True)
class _Place:
    """A node and the nodes above it, the root first."""

    node: Node
    path: tuple[Node, ...]

    @property
    def above(self) -> Node | None:
        return self.path[-1] if self.path else None

    @property
    def reader(self) -> Node | None:
        """The nearest node above that is a part of the model, not ``resid``."""
        return next((node for node in reversed(self.path) if node.site != STREAM), None)

    @property
    def said(self) -> str:
        return said(self.node, self.above)

    @property
    def terms(self) -> tuple[Term, ...]:
        return parse_terms(self.node.site)


def _places(node: Node, path: tuple[Node, ...]) -> Iterator[_Place]:
    yield _Place(node, path)
    for child in node.children:
        yield from _places(child, (*path, node))


def _check_size(hypothesis: Hypothesis) -> None:
    n = sum(1 for _ in hypothesis.nodes())
    if n > MOST_NODES:
        raise BadInput(
            f"A hypothesis of {n} nodes was given.",
            f"One may have {MOST_NODES}, the root included.",
            "Take terms together (a0.h0+a0.h1), or leave out what claims least.",
        )


def _check_model(hypothesis: Hypothesis, model: ModelInfo) -> None:
    name, marked, prefix = hypothesis.model.partition("#")
    plain = name.partition(":")[0]
    base = plain.partition("@")[0] if model.source == "bundled" else plain
    if name and base != model.base:
        raise BadInput(
            f"A hypothesis about {name} was to be tested on {model.name}.",
            "Heads of the same name play other parts in another model.",
            f"Test it on {name}, or write {model.base} for its model if it is meant for that.",
        )
    if not marked:
        return
    if not name or not _HASH.fullmatch(prefix):
        raise BadInput(
            f"The hypothesis is about the model {hypothesis.model!r}.",
            "Behind the # stand the first 8 or more hexadecimal digits of its weights' hash.",
            f"Write {model.base}#{model.weights[:12]}, or the name alone.",
        )
    if not model.weights.startswith(prefix.lower()):
        raise BadInput(
            f"The hypothesis is about the model {hypothesis.model!r}.",
            f"It was made for another model's weights: those of {model.name} are "
            f"{model.weights[:12]}.",
            f"Load the weights that it is about, or write {model.base} alone for its model.",
        )


def _check_root(root: Node) -> None:
    if root.site != ROOT:
        raise BadInput(
            f"{said(root)} is the root of the hypothesis.",
            "A hypothesis explains the logits.",
            f"Make the site of the root {ROOT} and put this below it.",
        )
    usual = Node(site=ROOT)
    for field in ("into", "pos", "via", "attn_term", "pool"):
        value = getattr(root, field)
        if value != getattr(usual, field):
            raise BadInput(
                f"The root has {field}: {_plain(value)}.",
                "The logits are read whole, at the position read, and nothing is above them.",
                f"Leave {field} out there.",
            )
    if root.agree == ANY:
        raise BadInput(
            "The root agrees on nothing (any).",
            "The loss would be that of answers to other inputs.",
            "Give it agree: exact, or the features that the right answer depends on.",
        )


def _check_terms(place: _Place, model: ModelInfo, hypothesis: Hypothesis) -> None:
    for term in place.terms:
        try:
            check_term(model, term)
        except UnknownName as error:
            raise UnknownName(f"{place.said}: {error.asked}", error.found, error.works) from None
    split = {str(parse_term(rewrite.site)): rewrite.split for rewrite in hypothesis.rewrites}
    for term in place.terms:
        if not term.part:
            continue
        if str(term.whole) not in split:
            raise BadInput(
                f"{place.said} names {term}.",
                f"No rewrite splits {term.whole}"
                + (f"; rewrites split {', '.join(split)}." if split else "; there are none."),
                f"Add a rewrite of {term.whole}, or name {term.whole} itself.",
            )
        if split[str(term.whole)].phi and (place.node.children or place.node.attn_term):
            raise BadInput(
                f"{place.said} has {'children' if place.node.children else 'an attn_term'}.",
                f"{term} is a function of the rewrite's expression; it has no inputs of its own.",
                f"Leave them out, or name {term.whole} itself.",
            )
    for one, other in combinations(place.terms, 2):
        if overlap(one, other):
            raise BadInput(
                f"{place.said} names {one} and {other}.",
                "A term and a part of it overlap.",
                f"Name {one.whole} alone, or both of its parts.",
            )


def _check_kind(place: _Place, model: ModelInfo) -> None:
    """Refuse fields that the node's kind does not have."""
    node, above = place.node, place.above
    if node.site == ROOT and above is not None:
        raise BadInput(
            f"{place.said} is below {above.id!r}.",
            f"Only the root is {ROOT}: nothing else reads them.",
            "Name a term that is written before.",
        )
    if node.site == MASK:
        _check_mask(place, model)
    if node.site == STREAM:
        _refuse_fields(place, ("via", "attn_term"), "It is all that the node above reads there.")
        if above is None or above.site in (ROOT, STREAM) or not _kinds(above) <= {"head", "mlp"}:
            raise BadInput(
                f"{place.said} is below {above.site if above else 'nothing'}.",
                "resid is the whole input of a head or an MLP at some positions.",
                "Put it below a head or an MLP, or put its children in its place.",
            )
    if node.attn_term is not None and not _only_heads(node):
        raise BadInput(
            f"{place.said} has attn_term: {node.attn_term}.",
            "Only heads read other positions.",
            "Leave attn_term out, or name heads alone.",
        )


def _check_mask(place: _Place, model: ModelInfo) -> None:
    above = place.above
    _refuse_fields(
        place, ("into", "pos", "via", "attn_term"), "A mask is one thing for all positions."
    )
    if place.node.children:
        raise BadInput(
            f"{place.said} has children.",
            "A mask depends on the input's length alone, not on anything that the model computes.",
            "Leave its children out.",
        )
    if model.causal:
        raise BadInput(
            f"{place.said} is a mask.",
            f"In {model.name} a position sees those before it, whatever the input.",
            "Leave it out; masks are for models that read in both directions.",
        )
    if above is None or not _only_heads(above):
        raise BadInput(
            f"{place.said} is below {above.site if above else 'nothing'}.",
            "Only heads have a mask.",
            "Put it below a head.",
        )


def _refuse_fields(place: _Place, fields: tuple[str, ...], why: str) -> None:
    usual = Node(site=place.node.site)
    for field in fields:
        value = getattr(place.node, field)
        if value != getattr(usual, field):
            raise BadInput(
                f"{place.said} has {field}: {_plain(value)}.", why, f"Leave {field} out."
            )


def _check_below(place: _Place) -> None:
    """Refuse ``into`` where the node above is no head, and children of what reads nothing."""
    node, above = place.node, place.above
    if node.into is not None and (above is None or not _only_heads(above)):
        raise BadInput(
            f"{place.said} goes into {node.into}.",
            f"{_site(above)} above it has no queries, keys and values.",
            "Leave into out; only below heads an input has one.",
        )
    if not node.children or node.site in (ROOT, STREAM, MASK):
        return
    kinds = _kinds(node)
    if kinds & {"embed", "pos_embed"}:
        raise BadInput(
            f"{place.said} has children.",
            "An embedding is the input itself: the model computes nothing before it.",
            "Leave its children out, or make the embedding a node of its own.",
        )
    if "mlp" in kinds and len(place.terms) > 1:
        raise BadInput(
            f"{place.said} has children.",
            "What is taken together has inputs of its own only where all are heads.",
            "Make a node of each.",
        )


def _check_order(place: _Place, model: ModelInfo) -> None:
    reader = place.reader
    if reader is None or reader.site == ROOT:
        return
    first = min((term.written(model) for term in parse_terms(reader.site)), default=-1)
    for term in place.terms:
        if term.written(model) >= first:
            raise BadInput(
                f"{place.said} names {term} as an input of {reader.site}.",
                f"{term} is written after {reader.site} has read its input, or at once with it.",
                f"Below {reader.site} name what is written before it: {_before(reader, model)}.",
            )


def _before(reader: Node, model: ModelInfo) -> str:
    """Say what is written before the earliest term of a node."""
    earliest = min(parse_terms(reader.site), key=lambda term: term.written(model))
    if earliest.kind == "mlp" and not model.parallel:
        return f"embeddings, heads of layers 0 to {earliest.layer}" + (
            f", MLPs of layers 0 to {earliest.layer - 1}" if earliest.layer else ""
        )
    if earliest.layer <= 0:
        return "embeddings"
    parts = "heads and MLPs" if model.has_mlp else "heads"
    return f"embeddings, {parts} of layers 0 to {earliest.layer - 1}"


def _check_positions(said: str, positions: Positions, n: int | None) -> None:
    if isinstance(positions, str):
        return
    if not positions or len(set(positions)) < len(positions):
        raise BadInput(
            f"{said} counts at the positions {list(positions)}.",
            "A position is named twice." if positions else "That is nowhere.",
            "Name each position once, or write all or read.",
        )
    beyond = [at for at in positions if at < 0 or (n is not None and at >= n)]
    if beyond:
        last = "" if n is None else f" The last one of these inputs is {n - 1}."
        raise BadInput(
            f"{said} counts at position {beyond[0]}.",
            f"Positions count from 0.{last}",
            "Name positions that inputs have, or write read for the position read.",
        )


def _check_agree(place: _Place, hypothesis: Hypothesis) -> None:
    node = place.node
    if isinstance(node.agree, tuple) and (not node.agree or {EXACT, ANY} & set(node.agree)):
        raise BadInput(
            f"{place.said} agrees on {list(node.agree)}.",
            "A list is of features that must all agree; exact and any stand alone.",
            f"Write {EXACT}, {ANY}, or a list of features.",
        )
    for name in node.features:
        if name not in hypothesis.features:
            error = UnknownName.of("feature", name, hypothesis.features)
            raise UnknownName(
                f"{place.said} agrees on {name!r}. {error.asked}", error.found, error.works
            )


def _check_pool(place: _Place) -> None:
    pool = place.node.pool
    if pool is None or (isinstance(pool, int) and pool >= 1):
        return
    if isinstance(pool, int) or not NAME.fullmatch(pool):
        raise BadInput(
            f"{place.said} has pool: {_plain(pool)}.",
            "A pool is a number of inputs, 1 or more, or a tag: letters, digits and _.",
            "Write one of these, or leave it out.",
        )


def _check_others(hypothesis: Hypothesis) -> None:
    """Check how what is not named is drawn; ``same_as`` looks back only."""
    seen: dict[str, Node] = {}
    for node, above in hypothesis.nodes():
        if node.other.startswith(SAME_AS):
            _check_same_as(said(node, above), node.other.removeprefix(SAME_AS), seen)
        elif node.other not in _OTHER:
            error = UnknownName.of("way to draw", node.other, (*_OTHER, f"{SAME_AS}<id>"))
            raise UnknownName(f"{said(node, above)}: {error.asked}", error.found, error.works)
        seen[node.id] = node


def _check_same_as(said: str, name: str, seen: dict[str, Node]) -> None:
    drawing = [one for one, node in seen.items() if _draws_one(node)]
    if name not in seen:
        error = UnknownName.of("node before it", name, drawing)
        raise UnknownName(f"{said} has other: {SAME_AS}{name}. {error.asked}", *error.args[1:])
    if name not in drawing:
        raise BadInput(
            f"{said} has other: {SAME_AS}{name}.",
            f"For {name!r} no one input is drawn: it has no children, or draws separately.",
            f"Name a node before it for which one is: {', '.join(drawing) or 'there is none'}.",
        )


def _draws_one(node: Node) -> bool:
    """Whether one input is drawn for what a node reads beside its children."""
    return (bool(node.children) or node.site == ROOT) and node.other != SEPARATE


def _kinds(node: Node) -> set[str]:
    return {term.kind for term in parse_terms(node.site)}


def _only_heads(node: Node) -> bool:
    return _kinds(node) == {"head"}


def _site(node: Node | None) -> str:
    return "nothing" if node is None else node.site


def _plain(value: str | int | Iterable[int] | None) -> str:
    return str(value) if isinstance(value, str | int) or value is None else str(list(value))

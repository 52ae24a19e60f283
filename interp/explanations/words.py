"""Hypotheses in words: a sentence for each claim, a short label, and a line for the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interp.explanations.hypothesis import (
    ANY,
    EXACT,
    SAME_AS,
    SEPARATE,
    SHARED,
    Hypothesis,
    Near,
    Node,
)
from interp.explanations.terms import MASK, ROOT, STREAM, parse_term, parse_terms

_TERM = re.compile(r"\b(a\d+\.h\d+|m\d+)\b")
_SLOTS = {"q": "queries", "k": "keys", "v": "values"}
_READ = {"prev": "the position before", "self": "its own position"}
_WAY = {"direct": "direct", "mlps": "through MLPs", "any": "through any layers"}
_OTHER = {
    SHARED: "comes from one random input",
    SEPARATE: "comes from random inputs, another for each part",
    EXACT: "stays as it is",
}


def sentence(node: Node, above: Node | None) -> str:
    """Say what a node claims.

    Args:
        node: The node.
        above: The node that it is an input of; None for the root.
    """
    if above is None:
        return f"{_root_claim(node)} {_rest(node, 'Whatever is not named below')}"
    said = f"{_subject(node, above)} {_claim(node)}."
    if node.children and node.other != SHARED:
        said += f" {_rest(node, 'What else it reads')}"
    if isinstance(node.pool, int):
        said += f" Only {_count(node.pool, 'input')} of each class {_is(node.pool)} ever drawn."
    elif node.pool is not None:
        said += f" Drawn with the random numbers of all nodes tagged {node.pool!r}."
    return said


def label(node: Node, above: Node | None = None) -> str:
    """Name a node in a few signs: "L2H1", and below another node "L2H0 ← L0H0 (k)"."""
    own = _terms(node, " + ")
    if node.pos == "read":
        own += "@read"
    elif node.pos != "all":
        own += "@" + ",".join(map(str, node.pos))
    if above is None or above.site == ROOT:
        return own
    return f"{_terms(above, ' + ')} ← {own}" + (f" ({node.into})" if node.into else "")


def plain(text: str) -> str:
    """Name terms in a text as people read them: L1H0 for a1.h0, L2 MLP for m2."""
    return _TERM.sub(lambda found: parse_term(found[0]).label, text)


def summary(hypothesis: Hypothesis) -> str:
    """Say how large a hypothesis is: its claims, the features in them, and its depth."""
    claims = [node for node, above in hypothesis.nodes() if above is not None]
    if not claims:
        kept = hypothesis.graph.other == EXACT
        return "No claims: everything " + ("matters." if kept else "is exchanged at random.")
    depth = _depth(hypothesis.graph)
    named = dict.fromkeys(name for node, _ in hypothesis.nodes() for name in node.features)
    features = f"through {_count(len(named), 'feature')} ({_and(list(named))})" if named else ""
    deep = "" if depth == 1 else f"{depth} levels deep"
    said = [_count(len(claims), "claim"), *(part for part in (deep, features) if part)]
    return ", ".join(said) + "."


def _root_claim(root: Node) -> str:
    if root.agree == EXACT:
        return "The answer is read on each input itself."
    return f"The answer is read on inputs with the same {_agreed(root)}."


def _rest(node: Node, what: str) -> str:
    if node.other.startswith(SAME_AS):
        drawn_for = node.other.removeprefix(SAME_AS)
        return f"{what} comes from the input drawn for {drawn_for}."
    return f"{what} {_OTHER.get(node.other, node.other)}."


def _subject(node: Node, above: Node) -> str:
    where = _at(node)
    if node.site == STREAM:
        target = f"{_inputs(node)}{_terms(above, ' and ')}"
        return f"The whole input of {target}{where}"
    if node.site == MASK:
        return f"Which positions {_terms(above, ' and ')} may attend to"
    if node.attn_term is not None:
        own = f"What {_together(node)} {_reads(node)} at {_READ[node.attn_term]}"
    else:
        own = _together(node)
    own = own[0].upper() + own[1:]
    return f"{own}{where}, {_WAY[node.via]} to {_inputs(node)}{_target(above)},"


def _inputs(node: Node) -> str:
    return f"the {_SLOTS[node.into]} of " if node.into else ""


def _target(above: Node) -> str:
    names = {ROOT: "the logits", STREAM: "that input"}
    return names.get(above.site) or _terms(above, " and ")


def _claim(node: Node) -> str:
    several = len(parse_terms(node.site)) > 1 and node.attn_term is None
    may, matters = ("may", "matter") if several else ("may", "matters")
    if node.agree == EXACT:
        return f"{matters} " + ("through what is named below it" if _opened(node) else "in full")
    if node.agree == ANY:
        return f"{may} come from any input"
    if isinstance(node.agree, Near):
        return (
            f"{matters} only through about what {node.agree.near} is: any of the "
            f"{node.agree.k} inputs nearest by it {_is(node.agree.k)} as good"
        )
    return f"{matters} only through {_agreed(node)}"


def _opened(node: Node) -> bool:
    """Whether a node's input is exchanged but for the parts that its children name."""
    return bool(node.children) and node.other != EXACT


def _agreed(node: Node) -> str:
    if isinstance(node.agree, Near):
        return f"{node.agree.near} (about)"
    return _and(node.features) or "nothing"


def _at(node: Node) -> str:
    if node.pos == "all":
        return ""
    if node.pos == "read":
        return " at the position read"
    return f" at position{'s' * (len(node.pos) != 1)} {_and([str(at) for at in node.pos])}"


def _together(node: Node) -> str:
    return _terms(node, " and ") + (" together" if len(parse_terms(node.site)) > 1 else "")


def _reads(node: Node) -> str:
    return "read" if len(parse_terms(node.site)) > 1 else "reads"


def _terms(node: Node, between: str) -> str:
    names = {ROOT: "logits", STREAM: "input", MASK: "mask"}
    if node.site in names:
        return names[node.site]
    terms = [term.label for term in parse_terms(node.site)]
    return _and(terms) if between == " and " else between.join(terms)


def _depth(node: Node) -> int:
    return max((1 + _depth(child) for child in node.children), default=0)


def _and(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _is(n: int) -> str:
    return "is" if n == 1 else "are"

"""Terms: the writers of the residual stream, by the names that hypotheses use.

``embed``, ``pos_embed``, ``a1.h0`` (a head's output, without the layer's bias), ``m2`` (an MLP's
output). ``x+y`` is several of them, taken together. ``a0.h0#part`` and ``a0.h0#rest`` are the two
parts into which a rewrite splits a term. ``L1H0`` and ``L2.mlp_out`` are read as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interp.errors import BadInput, UnknownName
from interp.models.info import ModelInfo

ROOT = "logits"
STREAM = "resid"
"""The input of the node above, at some positions, through the MLPs between."""
MASK = "mask"
"""Which positions the head above may attend to: the length of the input."""
PARTS = ("part", "rest")

_SHAPES = (
    (re.compile(r"a(\d{1,4})\.h(\d{1,4})|[lL](\d{1,4})[hH](\d{1,4})(?:\.(?:result|z))?"), "head"),
    (re.compile(r"m(\d{1,4})|[lL](\d{1,4})[ .](?:mlp(?:_out)?|MLP)"), "mlp"),
)
_EMBEDDINGS = {"embed": "embed", "embedding": "embed", "pos_embed": "pos_embed"}


@dataclass(frozen=True, order=True)
class Term:
    """One writer of the stream, or one of its two parts.

    Attributes:
        kind: "embed", "pos_embed", "head" or "mlp".
        layer: Its layer; -1 for embeddings.
        head: Its head; -1 for what is none.
        part: "part" or "rest" where a rewrite splits it, else empty.
    """

    kind: str
    layer: int = -1
    head: int = -1
    part: str = ""

    def __str__(self) -> str:
        names = {"head": f"a{self.layer}.h{self.head}", "mlp": f"m{self.layer}"}
        return names.get(self.kind, self.kind) + (f"#{self.part}" if self.part else "")

    @property
    def label(self) -> str:
        """What people read: L1H0, L2 MLP, embedding."""
        names = {
            "head": f"L{self.layer}H{self.head}",
            "mlp": f"L{self.layer} MLP",
            "embed": "embedding",
            "pos_embed": "position embedding",
        }
        return names[self.kind] + (f" ({self.part})" if self.part else "")

    @property
    def whole(self) -> Term:
        """The term that this is a part of, or itself."""
        return Term(self.kind, self.layer, self.head)

    def written(self, model: ModelInfo) -> int:
        """Return its place in the order in which the stream is written; embeddings are at -1.

        A head or an MLP reads what is written before its own place.
        """
        if self.layer < 0:
            return -1
        return 2 * self.layer + (self.kind == "mlp" and not model.parallel)


def parse_term(text: str) -> Term:
    """Read one term.

    Raises:
        UnknownName: It is none.
    """
    name, _, part = text.strip().partition("#")
    if name in _EMBEDDINGS and not part:
        return Term(_EMBEDDINGS[name])
    for shape, kind in _SHAPES:
        match = shape.fullmatch(name)
        if match and (not part or part in PARTS):
            layer, head = ([int(n) for n in match.groups() if n is not None] + [-1])[:2]
            return Term(kind, layer, head, part)
    raise UnknownName(
        f"The site {text!r} was asked for.",
        "A site of a hypothesis is embed, pos_embed, a head (a1.h0), an MLP (m2), several with + "
        "between, a part of one (a0.h0#part), resid or mask.",
        "Write one of these.",
    )


def parse_terms(site: str) -> tuple[Term, ...]:
    """Read the terms of a site; ``logits``, ``resid`` and ``mask`` have none.

    Raises:
        BadInput: A part is no term, or one is named twice.
    """
    if site in (ROOT, STREAM, MASK):
        return ()
    terms = tuple(parse_term(part) for part in site.split("+"))
    if len(set(terms)) < len(terms):
        raise BadInput(f"The site {site!r} names a term twice.", "", "Name each once.")
    return terms


def terms_of(model: ModelInfo) -> tuple[Term, ...]:
    """List the terms of a model in the order in which they are written."""
    positions = model.transformer.get("positional_embedding_type", "standard") == "standard"
    terms = [Term("embed")] + [Term("pos_embed")] * positions
    for layer in range(model.n_layers):
        terms += [Term("head", layer, head) for head in range(model.n_heads)]
        terms += [Term("mlp", layer)] * model.has_mlp
    return tuple(terms)


def check_term(model: ModelInfo, term: Term) -> None:
    """Refuse a term that a model lacks.

    Raises:
        UnknownName: It lacks it.
    """
    known = terms_of(model)
    if term.whole not in known:
        raise UnknownName.of(f"site in {model.name}", str(term.whole), map(str, known))

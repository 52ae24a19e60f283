"""Evaluate a hypothesis on draws: leaves are gathered, only nodes with children run again.

In a residual network the input of a component is a sum of terms. So the input of a node is that of
its unimportant rest, an ordinary run, plus what its children change in it. Components read it with
their own norm.

Source: Chan et al., "Causal scrubbing" (2022), the algorithm ``run_scrub``; every node of the
hypothesis is called once for each reference, so that the computation is the tree itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.components import attention_out, head_out, mlp_out
from interp.engine.terms import READ, Key, Terms, Where, terms_cache
from interp.errors import BadInput
from interp.explanations.hypothesis import Hypothesis, Node, Rewrite
from interp.explanations.terms import MASK, ROOT, STREAM, Term, parse_term, parse_terms
from interp.methods.scrubbing.classes import Rows
from interp.methods.scrubbing.draws import (
    MASKED,
    Draws,
    Sampler,
    refuse_unclear,
    slots_of,
)
from interp.methods.scrubbing.inputs import Inputs
from interp.models.load import LoadedModel

Values = Float[Tensor, "entry pos d_model"]
CHUNK = 256
"""References evaluated at once."""
ADDS_UP = 1e-4
"""Largest error of a rewrite, of the term's standard deviation."""


def cache_of(model: LoadedModel, inputs: Inputs) -> Terms:
    """Make the cache of what the model writes on some inputs; hypotheses about them share it."""
    return terms_cache(model, inputs.ids, inputs.lengths, inputs.read, inputs.pad)


class Scrubber:
    """A hypothesis made ready to be evaluated.

    Several may share one cache: make all of them first, then the first evaluation runs the model
    once for all.

    Args:
        model: The model.
        hypothesis: A hypothesis that was checked for it.
        inputs: The inputs.
        cache: What the model writes on them, if other hypotheses use it too.

    Raises:
        BadInput: A feature or a position does not fit the inputs, or the model cannot be taken
            apart into terms.
    """

    def __init__(
        self,
        model: LoadedModel,
        hypothesis: Hypothesis,
        inputs: Inputs,
        cache: Terms | None = None,
    ) -> None:
        self.hypothesis, self.inputs, self.model = hypothesis, inputs, model
        self.terms = cache or cache_of(model, inputs)
        self.sampler = Sampler(hypothesis, inputs.values(hypothesis), len(inputs), model.info)
        self._splits = {parse_term(r.site): r for r in hypothesis.rewrites}
        self._asked: dict[Term, set[int | str]] = {}
        self._parts: dict[Term, tuple[list[int | str], Values]] = {}
        for node, _ in hypothesis.nodes():
            refuse_unclear(node)
        nobody = np.empty(0, dtype=np.int64)
        _Call(self, self.sampler.draw(nobody, 0, 0)).logits()

    def draws(self, refs: Rows, seed: int, replicate: int) -> Draws:
        """Draw inputs for all nodes; see ``Sampler.draw``."""
        return self.sampler.draw(refs, seed, replicate)

    def logits(self, draws: Draws) -> Float[np.ndarray, "entry output"]:
        """Return the scrubbed model's logits where the answer is read.

        Cost: gathers for leaves; for each node with children one component on every reference. The
        first call runs the model once over all inputs.
        """
        self.ready()
        found: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(draws.refs), CHUNK):
                part = draws.part(slice(start, start + CHUNK))
                found.append(_Call(self, part).logits().cpu())
        return torch.cat(found).double().numpy()

    def ready(self) -> None:
        """Run the model over the inputs if that was not done yet, and split what is rewritten."""
        with torch.inference_mode():
            self.terms.fill()
            for term, rewrite in self._splits.items():
                if term in self._asked and Term(*_key(term), "part") not in self._parts:
                    self._split(term, rewrite)

    def get(
        self, key: Key, rows: Int[Tensor, "entry"], where: Where, *, hidden: bool = False
    ) -> Values:
        """Gather a term, a part of one, or a stream; see ``Terms.get``."""
        of = key[1]
        if isinstance(of, int) or not of.part:
            return self.terms.get(key, rows, where, hidden=hidden)
        if key[0] != "term":
            raise BadInput(
                f"What {of} reads at one position was asked for.",
                "A part of a term is not split further.",
                "Leave attn_term out, or name the whole term.",
            )
        places = [where] if isinstance(where, str) else list(where)
        if not len(rows):
            self._asked.setdefault(of.whole, set()).update(places)
            return self.terms.get(("term", of.whole), rows, where)
        positions, values = self._parts[of]
        return values[rows[:, None], torch.tensor([positions.index(p) for p in places])]

    def _split(self, term: Term, rewrite: Rewrite) -> None:
        """Compute the two parts of a term and check that they add up to it.

        Raises:
            BadInput: They do not, to rounding.
        """
        positions = sorted(self._asked[term], key=str)
        everyone = torch.arange(len(self.inputs))
        if READ in positions:
            whole = self.terms.get(("term", term), everyone, READ)
        else:
            whole = self.terms.get(("term", term), everyone, tuple(map(int, positions)))
        part = self._part(whole, rewrite)
        rest = whole - part
        off = float((part + rest - whole).abs().max() / whole.std())
        if not off <= ADDS_UP:
            raise BadInput(
                f"The rewrite of {term} was asked for.",
                f"Its parts add up to the term only to {off:.1g} of its standard deviation.",
                "Choose smaller numbers.",
            )
        self._parts[Term(*_key(term), "part")] = positions, part
        self._parts[Term(*_key(term), "rest")] = positions, rest

    def _part(self, whole: Values, rewrite: Rewrite) -> Values:
        if rewrite.split.direction:
            along = torch.tensor(rewrite.split.direction, dtype=whole.dtype, device=whole.device)
            along = along / along.norm()
            return (whole @ along)[..., None] * along
        from interp import expressions

        phi = expressions.evaluate_one(
            rewrite.split.phi, self.inputs.read_by_expressions, self.sampler.values
        )
        centred = torch.from_numpy(phi - phi.mean()).to(whole)
        mean = whole.mean(0)
        slope = torch.einsum("n,npd->pd", centred, whole) / (centred**2).sum()
        return mean + centred[:, None, None] * slope


def _key(term: Term) -> tuple[str, int, int]:
    return term.kind, term.layer, term.head


@dataclass(eq=False)
class _Call:
    """One evaluation of the tree on some draws."""

    of: Scrubber
    draws: Draws

    def __post_init__(self) -> None:
        self._known: dict[tuple[str, int, Where], Values] = {}
        self._terms = self.of.terms

    def logits(self) -> Float[Tensor, "entry output"]:
        """Return logits at the position read."""
        read = self._terms.normal(READ)
        final = self._input(self.of.hypothesis.graph, self._terms.last, read, "")
        return self._terms.lean.outputs(final[:, 0], None)

    def _value(self, node: Node, reader: int, where: Where) -> Values:
        """Return what a node stands for; once for all inputs of the node above that it enters."""
        known = node.id, reader, where
        if known not in self._known:
            self._known[known] = self._computed(node, reader, where)
        return self._known[known]

    def _computed(self, node: Node, reader: int, where: Where) -> Values:
        rows = torch.from_numpy(self.draws.row[node.id])
        if node.site == STREAM and not node.children:
            return self.of.get(("stream", reader), rows, where)
        if node.site == STREAM:
            return self._input(node, reader, where, "")
        if not node.children:
            return self._out(node, {"": rows}, where)
        outs = [self._run(node, term, where) for term in parse_terms(node.site)]
        return torch.stack(outs).sum(0)

    def _run(self, node: Node, term: Term, where: Where) -> Values:
        """Run one component on the input that a node's children and the rest make."""
        lean, reader = self._terms.lean, term.written(self.of.model.info)
        if term.kind == "mlp":
            return mlp_out(lean, term.layer, self._input(node, reader, where, ""))
        places = self._terms.numbers(where)
        n = self._terms.width if not lean.causal else max(places) + 1
        everywhere = tuple(range(n))
        if slots_of(node) == ("",):
            one = self._input(node, reader, everywhere, "")
            streams = one[:, list(places)], one, one
        else:
            streams = (
                self._input(node, reader, places, "q"),
                self._input(node, reader, everywhere, "k"),
                self._input(node, reader, everywhere, "v"),
            )
        dest = torch.tensor(places, device=self.of.model.device)
        seen = self._terms.seen(self._mask(node))
        if seen is not None:
            seen = seen[:, :n]
        place = term.layer, term.head
        return head_out(lean, place, streams, dest, seen=seen, term=node.attn_term or "")

    def _mask(self, node: Node) -> Int[Tensor, "entry"]:
        """Return the inputs whose length says what may be attended to."""
        for child in node.children:
            if child.site == MASK:
                return torch.from_numpy(self.draws.row[child.id])
        other = self.draws.other[node.id]
        return torch.from_numpy(other[MASKED, ""] if isinstance(other, dict) else other)

    def _out(self, node: Node, rows: dict[str, Tensor], where: Where) -> Values:
        """Return what a node's terms wrote on given inputs; ``rows`` by term, "" for all."""
        outs = [
            self.of.get(
                ("term" if node.attn_term is None else node.attn_term, term),
                rows.get(str(term.whole), rows.get("")),  # type: ignore[arg-type]
                where,
            )
            for term in parse_terms(node.site)
        ]
        return outs[0] if len(outs) == 1 else torch.stack(outs).sum(0)

    # --- inputs of nodes -------------------------------------------------------------------------

    def _input(self, node: Node, reader: int, where: Where, slot: str) -> Values:
        """Return what a node reads at some positions, into a slot of a head's or all ("")."""
        inside = [c for c in node.children if c.into in (None, slot) or not slot]
        inside = [c for c in inside if c.site != MASK]
        through = [c for c in inside if c.via != "direct"]
        found = self._rest(node, reader, where, slot)
        if through:
            found = self._through(node, reader, where, through)
        for child in inside:
            at = self._at(child, where)
            if not at:
                continue
            if child.site == STREAM:
                found = _put(found, where, at, self._value(child, reader, at))
            elif child.via == "direct":
                instead = self._out(child, self._others(node, child, slot), at)
                found = _add(found, where, at, self._value(child, reader, at) - instead)
        return found

    def _rest(self, node: Node, reader: int, where: Where, slot: str) -> Values:
        """Return the input that a node has in the run of its unimportant rest."""
        other = self.draws.other[node.id]
        if not isinstance(other, dict):
            # Heads attend to nothing beyond the end of that input, unless told otherwise.
            hidden = _is_heads(node) and all(child.site != MASK for child in node.children)
            rows = torch.from_numpy(other)
            return self.of.get(("stream", reader), rows, where, hidden=hidden)
        mine = slot if slots_of(node) != ("",) else ""
        info = self.of.model.info
        outs = [
            self.of.get(("term", term), torch.from_numpy(rows), where)
            for (name, of), rows in other.items()
            if of == mine and name != MASKED
            for term in [parse_term(name)]
            if term.written(info) < reader
        ]
        return torch.stack(outs).sum(0) + self._terms.bias_before(reader)

    def _others(self, node: Node, child: Node, slot: str) -> dict[str, Tensor]:
        """Return the inputs that a child's terms have in the run of the rest."""
        other = self.draws.other[node.id]
        if not isinstance(other, dict):
            return {"": torch.from_numpy(other)}
        mine = slot if slots_of(node) != ("",) else ""
        names = [str(term.whole) for term in parse_terms(child.site)]
        return {name: torch.from_numpy(other[name, mine]) for name in names}

    def _at(self, child: Node, where: Where) -> Where:
        """Return the positions among ``where`` at which a child counts."""
        if child.pos == "all":
            return where
        pos = self._terms.normal(READ if child.pos == "read" else child.pos)
        if isinstance(pos, str) or isinstance(where, str):
            if pos == where:
                return where
            raise BadInput(
                f"The node {child.id} counts at {child.pos}.",
                "Inputs differ in length and are read at their ends.",
                "Name the position read, or all, or choose inputs of one length.",
            )
        return tuple(p for p in where if p in pos)

    def _through(self, node: Node, reader: int, where: Where, through: Sequence[Node]) -> Values:
        """Return a node's input where children go through the layers in between.

        What is not named comes from the run of the rest; MLPs between, and with "any" attention
        too, run again on the changed stream, but for those that are children themselves.
        """
        other = self.draws.other[node.id]
        assert not isinstance(other, dict), "refused before"
        rows, everything = torch.from_numpy(other), through[0].via == "any"
        asked = self._terms.numbers(where)
        if everything:
            whole = _Span(reader, tuple(range(self._terms.width)), rows)
            return self._layers(node, whole, through)[:, list(asked)]
        reached = [self._terms.numbers(self._at(child, asked)) for child in through]
        places = tuple(sorted(set[int]().union(*reached)))
        stream = self._layers(node, _Span(reader, places, rows), through)
        return _put(self.of.get(("stream", reader), rows, asked), asked, places, stream)

    def _layers(self, node: Node, span: _Span, through: Sequence[Node]) -> Tensor:
        lean, own = self._terms.lean, {t for c in through for t in parse_terms(c.site)}
        frozen = {t.whole for c in node.children for t in parse_terms(c.site)} - own
        first = max(0, min(term.layer for term in own))
        stream = self.of.get(("stream", 2 * first), span.rows, span.places)
        stream = self._changed(stream, through, (-1, ""), span)
        for layer in range(first, len(lean.layers)):
            if 2 * layer >= span.reader:
                break
            entering = stream
            kept = {Term("head", layer, head) for head in range(lean.n_heads)}
            if through[0].via == "any":
                kept &= {t.whole for t in own} | frozen
                without = frozenset(term.head for term in kept)
                seen = self._terms.seen(span.rows)
                stream = stream + attention_out(lean, layer, stream, seen=seen, without=without)
            else:
                bias = lean.layers[layer].out.bias
                stream = stream if bias is None else stream + bias
            for term in sorted(kept):
                stream = stream + self.of.get(("term", term), span.rows, span.places)
            stream = self._changed(stream, through, (layer, "head"), span)
            mlp = Term("mlp", layer)
            if lean.layers[layer].mlp is None or mlp.written(self.of.model.info) >= span.reader:
                continue
            if mlp in own or mlp in frozen:
                stream = stream + self.of.get(("term", mlp), span.rows, span.places)
                stream = self._changed(stream, through, (layer, "mlp"), span)
            else:
                read = entering if lean.parallel else stream
                stream = stream + mlp_out(lean, layer, read)
        return stream

    def _changed(
        self, stream: Tensor, through: Sequence[Node], at: tuple[int, str], span: _Span
    ) -> Tensor:
        """Put in the children that write at one place of the order."""
        for child in through:
            terms = parse_terms(child.site)
            layer, kind = terms[0].layer, terms[0].kind if at[1] else ""
            where = self._at(child, span.places)
            if (layer, kind) != at or not where:
                continue
            instead = self._out(child, {"": span.rows}, where)
            more = self._value(child, span.reader, where) - instead
            stream = _add(stream, span.places, where, more)
        return stream


@dataclass(frozen=True, eq=False)
class _Span:
    """A stream through layers: up to which reader, at which positions, of which inputs' rest."""

    reader: int
    places: tuple[int, ...]
    rows: Int[Tensor, "entry"]


def _is_heads(node: Node) -> bool:
    return any(term.kind == "head" for term in parse_terms(node.site))


def _index(where: Where, at: Where) -> list[int]:
    return [0] if isinstance(at, str) else [where.index(p) for p in at]  # type: ignore[arg-type]


def _add(found: Tensor, where: Where, at: Where, more: Tensor) -> Tensor:
    if at == where:
        return found + more
    found = found.clone()
    found[:, _index(where, at)] += more
    return found


def _put(found: Tensor, where: Where, at: Where, instead: Tensor) -> Tensor:
    if at == where:
        return instead
    found = found.clone()
    found[:, _index(where, at)] = instead
    return found


__all__ = ["ROOT", "Scrubber", "cache_of"]

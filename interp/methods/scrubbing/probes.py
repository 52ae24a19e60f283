"""How well the features of a hypothesis can be read off the sites that it names, by linear probes.

That a feature can be read off a site does not mean that the model uses it there: scrubbing asks
that. Beside the probe stand the most frequent class and the same probe on the tokens alone: where
these do as well, the site adds nothing to what the input says anyway.

What is probed is what the node's site writes in ordinary runs, at the positions at which it counts
for the node above:

- up to ``MOST_SIDE_BY_SIDE`` positions side by side;
- more (a head reads keys and values everywhere): the mean over the positions that an input has,
  beside the positions at which the node above is read itself. Which positions a head looks at it
  decides input by input, so this is not what it reads, and a feature that sits elsewhere on each
  input may be missed.

Copies of an input count once. Probes are trained on the inputs that are not held out and tested on
those that are.

Source: Alain & Bengio, "Understanding intermediate layers using linear classifier probes" (2016);
Wilson (1927) for the interval.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from interp.engine.terms import READ, Key, Terms, Where
from interp.explanations.hypothesis import Hypothesis, Node
from interp.explanations.terms import MASK, STREAM, Term, parse_term, parse_terms
from interp.methods.scrubbing.decodable import Decodable, NotAsked
from interp.methods.scrubbing.inputs import Inputs, Values
from interp.methods.scrubbing.intervals import wilson
from interp.methods.scrubbing.ridge import Basis, basis, scores

MOST_CLASSES = 64
MOST_SIDE_BY_SIDE = 4
FEWEST = 20
"""Different inputs that each half must have."""
MOST = 1500
"""Different inputs of each half that are used."""
_ROWS = 256


def want(cache: Terms, hypothesis: Hypothesis) -> None:
    """Note in the cache what probes need, so that one run of the model serves all.

    Raises:
        BadInput: A node counts at positions that the inputs lack.
    """
    nobody = torch.empty(0, dtype=torch.int64)
    # Positions beyond an input's end count as zeros here, so that no padding is needed for them.
    for place in _places(cache, hypothesis):
        if not place.why_not:
            for writer in place.writers:
                cache.get(writer.key, nobody, place.where, hidden=True)


def decodable(
    cache: Terms, hypothesis: Hypothesis, inputs: Inputs, nodes: Collection[str] = ()
) -> tuple[Decodable | NotAsked, ...]:
    """Probe the features of a hypothesis' nodes at their sites.

    Args:
        cache: What the model writes on the inputs; it is filled if it lacks something.
        hypothesis: A hypothesis that was checked.
        inputs: The inputs.
        nodes: Ids of the nodes asked about; empty: all.

    Returns:
        For every node but the root one for each feature, or one that says why there is none.

    Raises:
        BadInput: A node counts at positions that the inputs lack, or a feature is wrong.

    Cost: gathers; for each site the eigenvectors of a matrix as wide as the model or as the
        training inputs, whichever is less. Ten nodes of a small model take 0.3 s.
    """
    want(cache, hypothesis)
    with torch.inference_mode():
        cache.fill()
        probes = _Probes(cache, inputs)
        values = inputs.values(hypothesis)
        found: list[Decodable | NotAsked] = []
        for place in _places(cache, hypothesis):
            name = place.node.id
            if nodes and name not in nodes:
                continue
            if place.why_not:
                found.append(NotAsked(name, "", place.why_not))
                continue
            for feature in place.node.features:
                found.append(probes.probe(place, feature, values[feature]))
    return tuple(found)


# --- what is probed ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Writer:
    """What is kept in the cache; of it the part along a direction, or the rest, if there is one."""

    key: Key
    direction: tuple[float, ...] = ()
    rest: bool = False

    def of(
        self, whole: Float[np.ndarray, "some pos d_model"]
    ) -> Float[np.ndarray, "some pos d_model"]:
        """Return the part that is meant."""
        if not self.direction:
            return whole
        along = np.array(self.direction) / np.linalg.norm(self.direction)
        part = (whole @ along)[..., None] * along
        return whole - part if self.rest else part


@dataclass(frozen=True)
class _Place:
    """What a node stands for, and where.

    ``focus`` are the positions at which the node above is read, among ``where``.
    """

    node: Node
    writers: tuple[_Writer, ...]
    where: Where
    focus: tuple[int, ...]
    why_not: str = ""

    @property
    def summed(self) -> bool:
        """Whether there are so many positions that their mean is taken."""
        return len(self.where) > MOST_SIDE_BY_SIDE and self.where != READ

    @property
    def same(self) -> tuple[object, ...]:
        """What two places share that are probed alike."""
        return self.writers, self.where, self.focus

    def said(self, read: Where) -> str:
        """Say what of the site is probed."""
        if not self.summed:
            return _positions(self.where, read)
        assert self.where != READ
        mean = f"the mean over positions {min(self.where)} to {max(self.where)}"
        return f"{mean}, and {_positions(self.focus, read)}" if self.focus else mean


def _positions(where: Where, read: Where) -> str:
    if where in (READ, read):
        return "the position read"
    *most, last = map(str, where)
    return f"positions {', '.join(most)} and {last}" if most else f"position {last}"


def _places(cache: Terms, hypothesis: Hypothesis) -> Iterator[_Place]:
    splits = {parse_term(r.site): r.split.direction for r in hypothesis.rewrites}
    read = cache.normal(READ)
    for child in hypothesis.graph.children:
        yield from _below(cache, child, (cache.last, read, read), splits)


def _below(
    cache: Terms,
    node: Node,
    above: tuple[int, Where, Where],
    splits: dict[Term, tuple[float, ...]],
) -> Iterator[_Place]:
    """Yield a node and what is below it.

    ``above`` is where the node above reads the stream: its place in the order of writing, the
    positions from which it takes this input, and those at which it is read itself.
    """
    reader, entering, focus = above
    if node.via == "any":
        entering = tuple(range(cache.width))
    where = _at(cache, node, entering)
    yield _place(node, reader, (where, _among(focus, where)), splits)
    for child in node.children:
        if node.site == STREAM:
            yield from _below(cache, child, (reader, where, where), splits)
        elif where:
            term = parse_terms(node.site)[0]
            inside = where
            if term.kind == "head" and child.into != "q":
                inside = _everywhere(cache, where)
            yield from _below(cache, child, (term.written(cache.model.info), inside, where), splits)


def _at(cache: Terms, node: Node, entering: Where) -> Where:
    """Return the positions at which a node counts, among those that its reader takes."""
    if node.pos == "all":
        return entering
    pos = cache.normal(READ if node.pos == "read" else node.pos)
    if pos == READ or entering == READ:
        return entering if pos == entering else ()
    return tuple(p for p in entering if p in pos)


def _everywhere(cache: Terms, where: Where) -> Where:
    """Return the positions that a head reads from some positions."""
    if where == READ:
        where = cache.normal((cache.read,))
    return tuple(range(max(int(p) for p in where) + 1 if cache.lean.causal else cache.width))


def _among(focus: Where, where: Where) -> tuple[int, ...]:
    if focus == READ or where == READ or len(focus) >= MOST_SIDE_BY_SIDE:
        return ()
    return tuple(p for p in focus if p in where)


def _place(
    node: Node,
    reader: int,
    at: tuple[Where, tuple[int, ...]],
    splits: dict[Term, tuple[float, ...]],
) -> _Place:
    where, focus = at
    terms = parse_terms(node.site)
    kind = node.attn_term or "term"
    writers = tuple(
        _Writer((kind, term.whole), splits[term.whole] if term.part else (), term.part == "rest")
        for term in terms
    )
    if node.site == STREAM:
        writers = (_Writer(("stream", reader)),)
    why_not = ""
    if not node.features:
        why_not = f"It agrees on {'everything' if node.agree == 'exact' else 'nothing'}."
    elif node.site == MASK:
        why_not = "A mask says which positions there are; no vector carries it."
    elif any(term.part and not splits[term.whole] for term in terms):
        why_not = "Its site is what an expression explains of a term, or what that leaves over."
    elif not where:
        why_not = "The node above does not read the positions at which it counts."
    return _Place(node, writers, where, focus, why_not)


# --- probing -------------------------------------------------------------------------------------


class _Probes:
    """Probes on one set of inputs; what nodes share is computed once."""

    def __init__(self, cache: Terms, inputs: Inputs) -> None:
        self.cache, self.inputs = cache, inputs
        self.rows, self.test = _halves(inputs)
        self._sites: dict[object, Basis] = {}
        self._tokens: dict[object, Basis] = {}

    def probe(self, place: _Place, feature: str, values: Values) -> Decodable | NotAsked:
        """Train and test one probe."""
        of, codes = np.unique(values, return_inverse=True)
        codes = codes.reshape(-1)[self.rows]
        train, test = codes[~self.test], codes[self.test]
        why_not = self._why_not(len(of), train)
        if why_not:
            return NotAsked(place.node.id, feature, why_not)
        right = scores(self._site(place), train, len(of)).argmax(1) == test
        from_tokens = scores(self._token(place), train, len(of)).argmax(1) == test
        accuracy = float(right.mean())
        low, high = wilson(accuracy * len(test), len(test))
        return Decodable(
            node=place.node.id,
            feature=feature,
            where=place.said(self.cache.normal(READ)),
            classes=len(of),
            accuracy=accuracy,
            low=low,
            high=high,
            majority=float((test == np.bincount(train).argmax()).mean()),
            tokens=float(from_tokens.mean()),
            n_train=len(train),
            n_test=len(test),
        )

    def _why_not(self, classes: int, train: Int[np.ndarray, "train"]) -> str:
        if classes > MOST_CLASSES:
            return f"It has {classes} values, more than {MOST_CLASSES}: give it fewer bins."
        if min(len(train), len(self.rows) - len(train)) < FEWEST:
            return (
                f"{len(train)} different inputs to train on and {len(self.rows) - len(train)} to "
                f"test on: a probe takes {FEWEST} each."
            )
        if len(np.unique(train)) < 2:
            return "It is constant on the inputs that a probe is trained on."
        return ""

    def _site(self, place: _Place) -> Basis:
        if place.same not in self._sites:
            parts = [self._written(place, rows) for rows in np.array_split(self.rows, self._cuts)]
            self._sites[place.same] = self._basis(np.concatenate(parts))
        return self._sites[place.same]

    @property
    def _cuts(self) -> int:
        return -(-len(self.rows) // _ROWS)

    def _written(
        self, place: _Place, rows: Int[np.ndarray, "some"]
    ) -> Float[np.ndarray, "some column"]:
        """Return what a site writes on some inputs, as the columns of a probe."""
        whole = np.zeros(())
        for writer in place.writers:
            one = self.cache.get(writer.key, torch.from_numpy(rows), place.where)
            whole = whole + writer.of(one.cpu().double().numpy())
        if place.where == READ:
            return whole.reshape(len(rows), -1)
        positions = np.array(place.where, dtype=np.int64)
        there = positions < self.inputs.lengths[rows, None]
        whole = whole * there[:, :, None]
        if not place.summed:
            return whole.reshape(len(rows), -1)
        mean = whole.sum(1) / there.sum(1)[:, None]
        beside = whole[:, np.isin(positions, place.focus)].reshape(len(rows), -1)
        return np.concatenate([mean, beside], axis=1)

    def _token(self, place: _Place) -> Basis:
        """Return the tokens that a site can depend on: how often each occurs, and where probed."""
        last = self.cache.width
        listed = place.focus if place.summed else place.where
        if self.cache.lean.causal and place.where != READ:
            last = max(int(p) for p in place.where) + 1
        if (last, listed) not in self._tokens:
            ids = self.inputs.ids[self.rows]
            if listed == READ:
                ends = self.inputs.lengths[self.rows] + self.cache.read
                probed = ids[np.arange(len(ids)), ends][:, None]
            else:
                probed = ids[:, list(listed)]
            there = [one[:, None] == np.unique(one) for one in probed.T]
            self._tokens[last, listed] = self._basis(np.hstack([_counted(ids[:, :last]), *there]))
        return self._tokens[last, listed]

    def _basis(self, columns: Float[np.ndarray, "some column"]) -> Basis:
        return basis(columns[~self.test], columns[self.test])


def _counted(ids: Int[np.ndarray, "some pos"]) -> Float[np.ndarray, "some token"]:
    """Count how often each token occurs in each input."""
    known, codes = np.unique(ids, return_inverse=True)
    counts = np.zeros((len(ids), len(known)))
    np.add.at(counts, (np.arange(len(ids))[:, None], codes.reshape(ids.shape)), 1)
    return counts[:, known >= 0]


def _halves(inputs: Inputs) -> tuple[Int[np.ndarray, "some"], Bool[np.ndarray, "some"]]:
    """Return one row of each different input, and which of them a probe is tested on.

    Those are the inputs that are held out, or every second where none or all are.
    """
    rows = np.sort(np.unique(inputs.ids, axis=0, return_index=True)[1])
    held = np.zeros(len(rows), dtype=bool) if inputs.held_out is None else inputs.held_out[rows]
    if held.all() or not held.any():
        held = np.arange(len(rows)) % 2 == 1
    taken = np.sort(np.concatenate([np.flatnonzero(held)[:MOST], np.flatnonzero(~held)[:MOST]]))
    return rows[taken], held[taken]

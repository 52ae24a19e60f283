"""Causal scrubbing by exhaustion: the expectation over all draws, from the published definition.

A random transformer in numpy (float64) with ten or twelve inputs is so small that every draw
that a hypothesis can make is written down with its probability (``Draws``), and the scrubbed
network is evaluated on each of them (``Scrubbed``). ``Literal`` is the published recursion, one
call at a time, position by position, with the random choices given from outside; going through
all its choices (``every_path``) must give the same expectation.

``call(node, ref)`` draws a row that agrees with ``ref``. A leaf's value is what its terms write in
an ordinary run on that row. Any other node takes its inputs from one row drawn for what is not
named, those of its children from calls with its own row, and is run on them. In a network with
norms before its components the input of a component is the sum of what is written before it; the
biases of attention outputs are always there.

``MISTAKES`` are five ways of getting it wrong, which must give other expectations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp.explanations.hypothesis import Hypothesis, Node
from interp.explanations.terms import MASK, ROOT, STREAM, Term, parse_terms
from interp.models.catalogue import of_shape
from interp.models.info import Answers
from interp.models.load import LoadedModel, build

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MISTAKES = (
    "agrees with the reference",  # instead of the sample of the node above
    "one draw for all nodes",
    "unimportant from the class",  # instead of from everywhere
    "child inherits the sample",  # of the node above, instead of drawing its own
    "separate for shared",
)
METRICS = ("loss", "accuracy", "kl", "logit_diff")
_CHUNK = 1 << 15
_EPSILON = 1e-5
_SLOTS = ("q", "k", "v")

_MASKED = Term("mask")
"""Stands for the mask among terms, where they are drawn separately."""

PAD = 5
terms_in = lru_cache(parse_terms)


# --- the network ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Net:
    """Weights by TransformerLens names, ``[head, in, out]``, and how they are used."""

    shape: dict[str, Any]
    w: dict[str, Array]

    @property
    def n_layers(self) -> int:
        return self.shape["n_layers"]

    @property
    def causal(self) -> bool:
        return self.shape["attention_dir"] == "causal"

    def terms(self, before: int) -> list[Term]:
        """List what is written before a stage: embeddings, then by layer heads (2l), MLP (2l+1)."""
        return [term for term in self._terms if stage(term) < before]

    @cached_property
    def _terms(self) -> list[Term]:
        found = [Term("embed"), Term("pos_embed")]
        for layer in range(self.n_layers):
            found += [Term("head", layer, head) for head in range(self.shape["n_heads"])]
            found.append(Term("mlp", layer))
        return found

    def biases(self, before: int) -> Array:
        """Sum the biases of attention outputs that are in the stream before a stage."""
        layers = [layer for layer in range(self.n_layers) if 2 * layer < before]
        return sum((self.w[f"blocks.{n}.attn.b_O"] for n in layers), np.zeros(self.d_model))

    @property
    def d_model(self) -> int:
        return self.shape["d_model"]

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)
        return centred / scale * self.w[f"{name}.w"] + self.w[f"{name}.b"]

    def project(self, term: Term, slot: str, x: Array) -> Array:
        """Queries, keys or values ``[..., d_head]`` of a head."""
        at, kind = f"blocks.{term.layer}", slot.upper()
        weight, bias = (self.w[f"{at}.attn.{n}_{kind}"][term.head] for n in "Wb")
        return self.norm(x, f"{at}.ln1") @ weight + bias

    def head(self, term: Term, x: Sequence[Array], lengths: Ints, only: str | None) -> Array:
        """Run a head on its three inputs ``[run, pos, d]``; ``only``: one key of each query."""
        q, k, v = (self.project(term, slot, x) for slot, x in zip(_SLOTS, x, strict=True))
        n = q.shape[1]
        keys, queries = np.arange(n), np.arange(n)[:, None]
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        seen = keys < lengths[:, None, None]
        scores = np.where(seen & ((keys <= queries) | (not self.causal)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        pattern = weights / weights.sum(-1, keepdims=True)
        if only is not None:
            pattern = pattern * (keys == queries - (only == "prev"))
        return pattern @ v @ self.w[f"blocks.{term.layer}.attn.W_O"][term.head]

    def mlp(self, layer: int, x: Array) -> Array:
        at = f"blocks.{layer}"
        inner = self.norm(x, f"{at}.ln2") @ self.w[f"{at}.mlp.W_in"] + self.w[f"{at}.mlp.b_in"]
        if self.shape["act_fn"] == "relu":
            hidden = np.maximum(inner, 0)
        else:
            hidden = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        return hidden @ self.w[f"{at}.mlp.W_out"] + self.w[f"{at}.mlp.b_out"]

    def unembed(self, x: Array) -> Array:
        return self.norm(x, "ln_final") @ self.w["unembed.W_U"] + self.w["unembed.b_U"]


def stage(term: Term) -> int:
    """Place in the order of writing; a component reads what is written before its own stage."""
    return -1 if term.layer < 0 else 2 * term.layer + (term.kind == "mlp")


def random_net(seed: int, *, causal: bool, d_out: int) -> Net:
    """Draw weights so large that everything matters; gains and biases too."""
    shape: dict[str, Any] = {
        "n_layers": 2,
        "n_heads": 2,
        "d_model": 8,
        "d_head": 4,
        "d_mlp": 10,
        "n_ctx": 4,
        "d_vocab": 6,
        "d_vocab_out": d_out,
        "act_fn": "gelu_new" if causal else "relu",
        "attention_dir": "causal" if causal else "bidirectional",
        "normalization_type": "LN",
        "positional_embedding_type": "standard",
        "attn_only": False,
        "eps": _EPSILON,
    }
    rng = np.random.default_rng(seed)
    d, heads, head, mlp = 8, 2, 4, 10

    def draw(*size: int, scale: float) -> Array:
        return rng.normal(0, scale, size)

    w = {
        "embed.W_E": draw(6, d, scale=1.0),
        "pos_embed.W_pos": draw(4, d, scale=0.5),
        "ln_final.w": 1 + draw(d, scale=0.2),
        "ln_final.b": draw(d, scale=0.2),
        "unembed.W_U": draw(d, d_out, scale=2 * d**-0.5),
        "unembed.b_U": draw(d_out, scale=0.2),
    }
    for layer in range(2):
        at = f"blocks.{layer}"
        for name, scale in (("Q", 1.5), ("K", 1.5), ("V", 1.2)):
            w[f"{at}.attn.W_{name}"] = draw(heads, d, head, scale=scale * d**-0.5)
            w[f"{at}.attn.b_{name}"] = draw(heads, head, scale=0.2)
        w[f"{at}.attn.W_O"] = draw(heads, head, d, scale=1.2 * head**-0.5)
        w[f"{at}.attn.b_O"] = draw(d, scale=0.3)
        w[f"{at}.mlp.W_in"] = draw(d, mlp, scale=1.2 * d**-0.5)
        w[f"{at}.mlp.b_in"] = draw(mlp, scale=0.2)
        w[f"{at}.mlp.W_out"] = draw(mlp, d, scale=1.5 * mlp**-0.5)
        w[f"{at}.mlp.b_out"] = draw(d, scale=0.2)
        for norm in ("ln1", "ln2"):
            w[f"{at}.{norm}.w"] = 1 + draw(d, scale=0.2)
            w[f"{at}.{norm}.b"] = draw(d, scale=0.2)
    return Net(shape, w)


def loaded(net: Net, dtype: torch.dtype, *, read: int) -> LoadedModel:
    """Load the weights as the app does, without files."""
    hooked = build({**net.shape, "dtype": dtype, "init_weights": False})
    state = {name: torch.from_numpy(value).to(dtype) for name, value in net.w.items()}
    missing, unexpected = hooked.load_state_dict(state, strict=False, assign=True)
    assert not unexpected
    assert all(name.endswith((".mask", ".IGNORE")) for name in missing)
    hooked.to(dtype, print_details=False)
    hooked.eval().requires_grad_(False)
    answers = Answers("tokens", (), read)
    info = of_shape("random", net.shape, answers=answers, weights="0" * 64, folder=Path())
    return LoadedModel(info, hooked, torch.device("cpu"), dtype)


# --- inputs and ordinary runs ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class World:
    """A network and its inputs.

    Attributes:
        net: The network.
        ids: Token ids ``[input, pos]``, -1 behind an input's end.
        lengths: Tokens of each input.
        read: Position that is read.
        labels: Right output of each input.
        foils: A wrong one.
        columns: Features, one whole number an input.
        pad: Token that stands behind an input's end.
    """

    net: Net
    ids: Ints
    lengths: Ints
    read: int
    labels: Ints
    foils: Ints
    columns: dict[str, Ints]
    pad: int = PAD

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, rows: Sequence[int]) -> World:
        """Keep some of the inputs."""
        taken = np.asarray(rows)
        return replace(
            self,
            ids=self.ids[taken],
            lengths=self.lengths[taken],
            labels=self.labels[taken],
            foils=self.foils[taken],
            columns={name: column[taken] for name, column in self.columns.items()},
        )

    def padded_with(self, token: int) -> World:
        return replace(self, pad=token)

    @cached_property
    def _run(self) -> tuple[dict[tuple[Term, str | None], Array], Array]:
        """Run every input as it is: what each term writes ``[input, pos, d]``, and the logits."""
        net, out = self.net, {}
        ids = np.where(self.ids < 0, self.pad, self.ids)
        out[Term("embed"), None] = net.w["embed.W_E"][ids]
        positions = net.w["pos_embed.W_pos"][: ids.shape[1]]
        out[Term("pos_embed"), None] = np.broadcast_to(positions, (*ids.shape, net.d_model))
        for term in net.terms(2 * net.n_layers)[2:]:
            x = net.biases(stage(term)) + sum(out[t, None] for t in net.terms(stage(term)))
            if term.kind == "mlp":
                out[term, None] = net.mlp(term.layer, x)
                continue
            for only in (None, "prev", "self"):
                out[term, only] = net.head(term, (x, x, x), self.lengths, only)
        final = 2 * net.n_layers
        x = net.biases(final) + sum(out[t, None] for t in net.terms(final))
        return out, net.unembed(x)[:, self.read]

    def out(self, term: Term, only: str | None = None) -> Array:
        """Return what a term, or one key's part of it, writes: ``[input, pos, d]``."""
        return self._run[0][term, only]

    @property
    def logits(self) -> Array:
        return self._run[1]

    def positions(self, node: Node) -> list[int]:
        if node.pos == "all":
            return list(range(self.ids.shape[1]))
        return [self.read] if node.pos == "read" else list(node.pos)

    def classes(self, node: Node) -> Ints:
        """Number the class of each input under what a node agrees on."""
        if node.agree == "exact":
            return np.arange(len(self))
        if node.agree == "any":
            return np.zeros(len(self), dtype=np.int64)
        values = np.stack([self.columns[name] for name in node.features], 1)
        return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)

    def metrics(self, logits: Array, refs: Ints) -> dict[str, Array]:
        """Score logits ``[draw, output]`` of these references: nats, 0 or 1, nats, logits."""
        at = np.arange(len(refs))
        scrubbed, model = _log_softmax(logits), _log_softmax(self.logits)[refs]
        label, foil = self.labels[refs], self.foils[refs]
        return {
            "loss": -scrubbed[at, label],
            "accuracy": (logits.argmax(-1) == label).astype(float),
            "kl": (np.exp(model) * (model - scrubbed)).sum(-1),
            "logit_diff": logits[at, label] - logits[at, foil],
        }


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


COLUMNS = {
    "f": (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3),  # classes of six, three, two and one
    "g": (0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2),
    "h": (0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0),
    "p": (0, 1, 1, 0, 2, 2, 3, 3, 0, 2, 1, 3),
}
"""Features by row; with random inputs and weights any partition is as good as another."""
CAUSAL, ENCODER = "causal", "encoder"
_SEEDS = {CAUSAL: 2, ENCODER: 8}
"""Chosen so that logits have a standard deviation of about two and what is scrubbed matters."""


@lru_cache
def world(name: str) -> World:
    """Return twelve distinct inputs of the causal network, or of the encoder, which has padding.

    Three labels in four are what the model answers, so that its loss is small.
    """
    causal, n, length = name == CAUSAL, 12, 4
    d_out = 6 if causal else 3
    seed = _SEEDS[name]
    net = random_net(seed, causal=causal, d_out=d_out)
    rng = np.random.default_rng(seed + 100)
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < n:
        drawn[tuple(int(i) for i in rng.integers(0, net.shape["d_vocab"], length))] = None
    ids, lengths = np.array(list(drawn)), np.full(n, length)
    if not causal:
        lengths = rng.integers(2, length + 1, n)
        ids = np.where(np.arange(length) < lengths[:, None], ids, -1)
    columns = {key: np.array(column) for key, column in COLUMNS.items()} | {"n": lengths}
    nobody = np.zeros(n, dtype=np.int64)
    read = length - 1 if causal else 0
    bare = World(net, ids, lengths, read, labels=nobody, foils=nobody, columns=columns)
    labels = np.where(rng.random(n) < 0.75, bare.logits.argmax(1), rng.integers(0, d_out, n))
    foils = (labels + rng.integers(1, d_out, n)) % d_out
    return replace(bare, labels=labels, foils=foils)


# --- all draws ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Options:
    """Rows to draw from, by class, with their probabilities within it."""

    rows: Ints
    weights: Array
    starts: Ints
    sizes: Ints

    @classmethod
    def of(cls, classes: Ints) -> Options:
        order = np.argsort(classes, kind="stable")
        sizes = np.bincount(classes)
        starts = np.cumsum(sizes) - sizes
        return cls(order, np.repeat(1 / sizes, sizes), starts, sizes)

    @classmethod
    def distinct(cls, values: Array) -> Options:
        """Draw one input of all; inputs of equal values count as one."""
        flat = values.reshape(len(values), -1)
        _, first, count = np.unique(flat, axis=0, return_index=True, return_counts=True)
        size = np.array([len(first)])
        return cls(first, count / len(values), np.array([0]), size)


@dataclass(eq=False)
class Draws:
    """Every draw that a hypothesis can make.

    Attributes:
        world: The network and its inputs.
        tree: The hypothesis' root.
        mistake: One of ``MISTAKES``, or empty.
        refs: Reference of each draw.
        weight: Its probability, given the reference.
        rows: The row that each node took.
        others: The row from which a node's unimportant input was taken: by node, term and slot;
            where one serves all terms, or all slots, those are None.
    """

    world: World
    tree: Node
    mistake: str = ""

    def __post_init__(self) -> None:
        n = len(self.world)
        self.refs: Ints = np.arange(n)
        self.weight: Array = np.ones(n)
        self.rows: dict[str, Ints] = {}
        self.others: dict[tuple[str, Term | None, str | None], Ints] = {}
        self._shared: dict[tuple[str, str, object], str] = {}
        self._first = ""  # the node that drew an unimportant row first
        self._visit(self.tree, None)

    def __len__(self) -> int:
        return len(self.refs)

    @classmethod
    def given(
        cls,
        world: World,
        tree: Node,
        refs: Ints,
        drawn: tuple[dict[str, Ints], dict[tuple[str, Term | None, str | None], Ints]],
    ) -> Draws:
        """Take draws that somebody else made: rows, and rows of what is unimportant."""
        made = object.__new__(cls)
        made.world, made.tree, made.mistake, made.refs = world, tree, "", refs
        made.weight, (made.rows, made.others) = np.ones(len(refs)), drawn
        return made

    def part(self, chosen: slice | Ints) -> Draws:
        """Return some of the draws."""
        rows = {key: value[chosen] for key, value in self.rows.items()}
        others = {key: value[chosen] for key, value in self.others.items()}
        made = Draws.given(self.world, self.tree, self.refs[chosen], (rows, others))
        made.weight = self.weight[chosen]
        return made

    def other(self, node: Node, term: Term | None, slot: str | None) -> Ints:
        """Return the row from which an unimportant input comes."""
        for key in ((node.id, None, None), (node.id, term, None), (node.id, term, slot)):
            if key in self.others:
                return self.others[key]
        return self.rows[node.id]  # never used: a child stands there

    def _grow(self, options: Options, which: Ints) -> Ints:
        """Multiply the draws by what can be drawn from each one's class; return the new column."""
        sizes = options.sizes[which]
        take = np.repeat(np.arange(len(which)), sizes)
        within = np.arange(len(take)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = options.starts[which][take] + within
        self.refs, self.weight = self.refs[take], self.weight[take] * options.weights[place]
        self.rows = {key: value[take] for key, value in self.rows.items()}
        self.others = {key: value[take] for key, value in self.others.items()}
        return options.rows[place]

    def _visit(self, node: Node, above: Node | None) -> None:
        self._row(node, above)
        if node.children or node.site == ROOT:
            self._other(node, above)
        for child in node.children:
            self._visit(child, node)

    def _row(self, node: Node, above: Node | None) -> None:
        deep = above is not None and above.site != ROOT
        if deep and self.mistake == "child inherits the sample":
            self.rows[node.id] = self.rows[above.id]
            return
        tied = (str(node.pool), above.id if above else "", node.agree)
        if node.pool is not None and tied in self._shared:
            self.rows[node.id] = self.rows[self._shared[tied]]
            return
        self._shared[tied] = node.id
        ref = self.refs if above is None else self.rows[above.id]
        if deep and self.mistake == "agrees with the reference":
            ref = self.refs
        classes = self.world.classes(node)
        self.rows[node.id] = self._grow(Options.of(classes), classes[ref])

    def _other(self, node: Node, above: Node | None) -> None:
        everywhere = np.zeros(len(self.world), dtype=np.int64)
        classes = everywhere
        if node.site != ROOT and self.mistake == "unimportant from the class":
            classes = self.world.classes(node)
        how = node.other
        if how == "shared" and self.mistake == "separate for shared" and node.site != STREAM:
            how = "separate"
        if how == "exact":
            self.others[node.id, None, None] = self.rows[node.id]
        elif how.startswith("same_as:"):
            of = how.removeprefix("same_as:")
            self.others[node.id, None, None] = self.others[of, None, None]
        elif how == "separate":
            self._separately(node, above)
        elif self._first and self.mistake == "one draw for all nodes":
            self.others[node.id, None, None] = self.others[self._first, None, None]
        else:
            self._first = self._first or node.id
            options = Options.of(classes)
            self.others[node.id, None, None] = self._grow(options, classes[self.rows[node.id]])

    def _separately(self, node: Node, above: Node | None) -> None:
        net = self.world.net
        named = any(child.into for child in node.children)
        reader = terms_in(node.site)[0] if node.site != ROOT else None
        before = stage(reader) if reader else 2 * net.n_layers
        for slot in _SLOTS if named else (None,):
            children = [c for c in node.children if c.into in (None, slot) or slot is None]
            at = self._felt(reader, slot, above)
            for term in net.terms(before):
                if not any(_covers(child, term) for child in children):
                    self._distinct((node.id, term, slot), self.world.out(term)[:, at])
        if reader is not None and reader.kind == "head":
            self._distinct((node.id, _MASKED, None), self.world.lengths)

    def _distinct(self, key: tuple[str, Term | None, str | None], values: Array | Ints) -> None:
        zero = np.zeros(len(self.refs), dtype=np.int64)
        self.others[key] = self._grow(Options.distinct(values), zero)

    def _felt(self, reader: Term | None, slot: str | None, above: Node | None) -> list[int]:
        """List positions at which an input is felt where the logits are read."""
        read, n = self.world.read, self.world.ids.shape[1]
        if reader is None:
            return [read]
        if above is None or above.site != ROOT or any(c.via == "any" for c in above.children):
            return list(range(n))
        if slot == "q" or reader.kind == "mlp":
            return [read]
        return list(range(read + 1 if self.world.net.causal else n))


def _all_in(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all_in(child)


def _covers(child: Node, term: Term) -> bool:
    whole = child.pos == "all" and child.attn_term is None
    return whole and term in terms_in(child.site)


# --- the scrubbed network on all draws at once ----------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scrubbed:
    """The scrubbed network, evaluated on draws."""

    draws: Draws

    @property
    def world(self) -> World:
        return self.draws.world

    def logits(self) -> Array:
        """Logits ``[draw, output]``."""
        tree = self.draws.tree
        x = self._entering(tree, 2 * self.world.net.n_layers, None, self._values(tree))
        return self.world.net.unembed(x[:, self.world.read])

    def _values(self, node: Node) -> dict[str, Array]:
        named = [child for child in node.children if child.site != MASK]
        return {child.id: self._once(child, node) for child in named}

    def _once(self, node: Node, above: Node) -> Array:
        """Evaluate a call on each draw of what lies below it only once."""
        if not node.children:
            return self._value(node, above)
        draws, code = self.draws, np.zeros(len(self.draws), dtype=np.int64)
        below = {one.id for one in _all_in(node)}
        columns = [draws.rows[name] for name in below]
        columns += [rows for key, rows in draws.others.items() if key[0] in below]
        for column in columns:
            code = np.unique(code * len(self.world) + column, return_inverse=True)[1]
        _, first, back = np.unique(code, return_index=True, return_inverse=True)
        return Scrubbed(draws.part(first))._value(node, above)[back]

    def _value(self, node: Node, above: Node) -> Array:
        world, net, rows = self.world, self.world.net, self.draws.rows[node.id]
        terms = terms_in(node.site)
        if not node.children:
            return sum(world.out(term, node.attn_term)[rows] for term in terms)
        values = self._values(node)
        if node.site == STREAM:
            return self._entering(node, stage(terms_in(above.site)[0]), None, values)
        written = np.zeros((len(rows), world.ids.shape[1], net.d_model))
        for term in terms:
            if term.kind == "mlp":
                written += net.mlp(term.layer, self._entering(node, stage(term), None, values))
                continue
            x = [self._entering(node, stage(term), slot, values) for slot in _SLOTS]
            written += net.head(term, x, self._lengths(node), node.attn_term)
        return written

    def _lengths(self, node: Node) -> Ints:
        """Return how many positions a head may attend to in each draw."""
        for child in node.children:
            if child.site == MASK:
                return self.world.lengths[self.draws.rows[child.id]]
        key = (node.id, _MASKED, None)
        drawn = self.draws.others
        return self.world.lengths[
            drawn[key] if key in drawn else self.draws.other(node, None, None)
        ]

    def _entering(
        self, node: Node, before: int, slot: str | None, values: dict[str, Array]
    ) -> Array:
        """Return the stream that enters a node (one of its three inputs): ``[draw, pos, d]``."""
        mine = [c for c in node.children if c.site != MASK]
        mine = [child for child in mine if slot is None or child.into in (None, slot)]
        indirect = [child for child in mine if child.via != "direct"]
        x = self._through(node, before, slot, (indirect, values))
        for child in mine:
            at = self.world.positions(child)
            if child.site == STREAM:
                x[:, at] = values[child.id][:, at]
            elif child.via == "direct":
                x[:, at] += (values[child.id] - self._instead(node, child, slot))[:, at]
        return x

    def _instead(self, node: Node, child: Node, slot: str | None) -> Array:
        """Return what a child's terms write in the run that its value replaces."""
        return sum(
            self.world.out(term, child.attn_term)[self.draws.other(node, term, slot)]
            for term in terms_in(child.site)
        )

    def _through(
        self,
        node: Node,
        before: int,
        slot: str | None,
        placed: tuple[list[Node], dict[str, Array]],
    ) -> Array:
        """Sum the stream stage by stage; what lies behind an indirect child is run again.

        What is itself a child is not, even where it is one for another input of the head.
        """
        net, (indirect, values) = self.world.net, placed
        kept = {term for child in node.children for term in terms_in(child.site)}
        again = {"mlp"} if indirect else set()
        if any(child.via == "any" for child in indirect):
            again.add("head")
        x = np.zeros((len(self.draws), self.world.ids.shape[1], net.d_model))
        for now in range(-1, before):
            written = x * 0
            for term in (t for t in net.terms(before) if stage(t) == now):
                other = self.draws.other(node, term, slot)
                if term.kind not in again or term in kept:
                    written += self.world.out(term)[other]
                elif term.kind == "mlp":
                    written += net.mlp(term.layer, x)
                else:
                    written += net.head(term, (x, x, x), self.world.lengths[other], None)
            if now >= 0 and now % 2 == 0:
                written += net.w[f"blocks.{now // 2}.attn.b_O"]
            x += written
            for child in indirect:
                if stage(terms_in(child.site)[0]) == now:
                    at = self.world.positions(child)
                    x[:, at] += (values[child.id] - self._instead(node, child, slot))[:, at]
        return x


@dataclass(frozen=True)
class Expected:
    """Exact mean and variance of each metric for each reference, and how many draws there are."""

    mean: dict[str, Array]
    var: dict[str, Array]
    n: int

    def overall(self, metric: str) -> float:
        return float(self.mean[metric].mean())

    def error(self, metric: str, draws: int) -> float:
        """Standard error of the mean over so many draws, spread evenly over the references."""
        return float(np.sqrt(self.var[metric].mean() / draws))


def expected(world: World, hypothesis: Hypothesis, mistake: str = "") -> Expected:
    """Work out the expectation over all draws."""
    draws = Draws(world, hypothesis.graph, mistake)
    n = len(world)
    total = np.bincount(draws.refs, draws.weight, n)
    assert np.allclose(total, 1, atol=1e-9), "probabilities sum to one for each reference"
    first = {metric: np.zeros(n) for metric in METRICS}
    second = {metric: np.zeros(n) for metric in METRICS}
    for start in range(0, len(draws), _CHUNK):
        some = draws.part(slice(start, start + _CHUNK))
        for metric, score in world.metrics(Scrubbed(some).logits(), some.refs).items():
            first[metric] += np.bincount(some.refs, some.weight * score, n)
            second[metric] += np.bincount(some.refs, some.weight * score**2, n)
    var = {metric: np.maximum(second[metric] - first[metric] ** 2, 0) for metric in METRICS}
    return Expected(first, var, len(draws))


# --- the published recursion, one call at a time --------------------------------------------------

Pick = Callable[[Sequence[int]], int]


@dataclass(eq=False)
class Literal:
    """One run of the scrubbed network on one reference; ``pick`` chooses among rows."""

    world: World
    tree: Node
    pick: Pick

    def __post_init__(self) -> None:
        self._tied: dict[tuple[Any, ...], int] = {}
        self._drawn: dict[str, int] = {}

    def logits(self, ref: int) -> Array:
        net = self.world.net
        inputs = self._inputs(self.tree, ref, {"": 2 * net.n_layers})
        return net.unembed(inputs[""][self.world.read])

    def _call(self, node: Node, above: Node, ref: int) -> Array:
        """Return the value ``[pos, d]`` of a node that stands for what it agrees on with ``ref``"""
        world = self.world
        row = self._agreeing(node, ref)
        if not node.children:
            return sum(world.out(term, node.attn_term)[row] for term in terms_in(node.site))
        if node.site == STREAM:
            return self._inputs(node, row, {"": stage(terms_in(above.site)[0])})[""]
        terms = terms_in(node.site)
        slots = ("",) if terms[0].kind == "mlp" else _SLOTS
        inputs = self._inputs(node, row, dict.fromkeys(slots, stage(terms[0])))
        if terms[0].kind == "mlp":
            return world.net.mlp(terms[0].layer, inputs[""])
        masks = [child for child in node.children if child.site == MASK]
        if masks:
            masking = self._agreeing(masks[0], row)
        elif node.other == "separate":
            alike = len(set(world.lengths)) == 1  # then it does not matter which
            masking = row if alike else self.pick(range(len(world)))
        else:
            masking = self._drawn[node.id]
        length, only = world.lengths[masking], node.attn_term
        return sum(self._head(term, [inputs[s] for s in slots], length, only) for term in terms)

    def _agreeing(self, node: Node, ref: int) -> int:
        classes = self.world.classes(node)
        tied = (node.pool, node.agree, ref)
        if node.pool is None or tied not in self._tied:
            self._tied[tied] = self.pick([int(i) for i in np.flatnonzero(classes == classes[ref])])
        return self._tied[tied]

    def _inputs(self, node: Node, row: int, stages: dict[str, int]) -> dict[str, Array]:
        """Take what is not named from a random row and the rest from calls; sum it by slot."""
        everybody = range(len(self.world))
        if node.other.startswith("same_as:"):
            self._drawn[node.id] = self._drawn[node.other.removeprefix("same_as:")]
        elif node.other != "separate":
            self._drawn[node.id] = row if node.other == "exact" else self.pick(everybody)
        named = [child for child in node.children if child.site != MASK]
        values = {child.id: self._call(child, node, row) for child in named}
        split = any(child.into for child in node.children)
        apart: dict[tuple[Term, str], int] = {}

        def other(term: Term, slot: str) -> int:
            if node.other != "separate":
                return self._drawn[node.id]
            key = (term, slot if split else "")
            if key not in apart:
                apart[key] = self.pick(everybody)
            return apart[key]

        return {
            slot: self._stream(node, before, lambda term, s=slot: other(term, s), (slot, values))
            for slot, before in stages.items()
        }

    def _stream(
        self,
        node: Node,
        before: int,
        other: Callable[[Term], int],
        given: tuple[str, dict[str, Array]],
    ) -> Array:
        """Write the stream in the order of stages, each term where its value is known."""
        world, net, (slot, values) = self.world, self.world.net, given
        mine = [c for c in node.children if c.site != MASK]
        mine = [child for child in mine if not slot or child.into in (None, slot)]
        named = [term for child in node.children for term in terms_in(child.site)]
        ways = {child.via for child in mine}
        x = entered = np.zeros((world.ids.shape[1], net.d_model))
        late: list[Array] = []
        for term in net.terms(before):
            own = [child for child in mine if term in terms_in(child.site)]
            if node.other == "separate" and any(_covers(child, term) for child in own):
                random = np.zeros_like(x)  # nothing is drawn where a child stands everywhere
            else:
                random = world.out(term)[other(term)]
            if term not in named and term.kind == "mlp" and ways & {"mlps", "any"}:
                random = net.mlp(term.layer, x)
            entered = x if term.kind != "head" or term.head == 0 else entered
            if term not in named and term.kind == "head" and "any" in ways:
                random = self._head(term, [entered] * 3, world.lengths[other(term)], None)
            value = random.copy()
            for child in own:
                self._put(value, child, term, (values[child.id], other))
            indirect = any(child.via != "direct" for child in own)
            x = x + (value if indirect else random)
            if own and not indirect:
                late.append(value - random)
            if term.kind == "head" and term.head == net.shape["n_heads"] - 1:
                x = x + net.w[f"blocks.{term.layer}.attn.b_O"]
        for difference in late:
            x = x + difference
        for child in mine:
            if child.site == STREAM:
                at = world.positions(child)
                x[at] = values[child.id][at]
        return x

    def _put(
        self, value: Array, child: Node, term: Term, given: tuple[Array, Callable[[Term], int]]
    ) -> None:
        """Put a child's value where the random one stands; a group's stands in its first term."""
        new, other = given
        first = terms_in(child.site)[0] == term
        for t in self.world.positions(child):
            if child.attn_term is None:
                value[t] = new[t] if first else 0
            else:
                rest = (
                    self.world.out(term)[other(term)]
                    - self.world.out(term, child.attn_term)[other(term)]
                )
                value[t] = rest[t] + new[t]

    def _head(self, term: Term, x: Sequence[Array], length: int, only: str | None) -> Array:
        net = self.world.net
        q, k, v = (net.project(term, slot, x) for slot, x in zip(_SLOTS, x, strict=True))
        written = []
        for t in range(len(q)):
            seen = [s for s in range(length) if s <= t or not net.causal]
            scores = np.array([q[t] @ k[s] / np.sqrt(len(q[t])) for s in seen])
            weights = np.exp(scores) / np.exp(scores).sum()
            wanted = {None: seen, "prev": [t - 1], "self": [t]}[only]
            z = sum((a * v[s] for a, s in zip(weights, seen, strict=True) if s in wanted), 0 * v[0])
            written.append(z @ net.w[f"blocks.{term.layer}.attn.W_O"][term.head])
        return np.stack(written)


def every_path(run: Callable[[Pick], Array]) -> Iterator[tuple[float, Array]]:
    """Run with every sequence of choices; yield each one's probability with the outcome."""
    start: list[int] = []
    made: list[tuple[int, int]] = []  # which option, of how many

    def pick(options: Sequence[int]) -> int:
        choice = start[len(made)] if len(made) < len(start) else 0
        made.append((choice, len(options)))
        return options[choice]

    while True:
        made.clear()
        outcome = run(pick)
        yield float(np.prod([1 / n for _, n in made])), outcome
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return
        start[:] = [choice for choice, _ in made[:-1]] + [made[-1][0] + 1]

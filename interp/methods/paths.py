"""Senders and receivers of paths: how they are written, and which can reach which (no torch).

The stream passes *levels*: it is read at one and written at the next. A sender reaches a receiver
directly if what it writes is there when the receiver reads. In a sequential block attention reads
at ``2 * layer`` and the MLP one level later; in a parallel one both read the same stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interp.axes import Mask
from interp.behaviors import Behavior
from interp.errors import BadInput, UnknownName
from interp.models.info import ModelInfo
from interp.models.sites import parse_sites

LOGITS = "logits"
"""The receiver that is the final stream at the position read."""
SLOTS = {"q": "queries", "k": "keys", "v": "values"}
"""What a head reads the stream for."""
_COMPONENT = {"q": "q_in", "k": "k_in", "v": "v_in", "mlp_out": "mlp_in", "mlp": "mlp_in"}
_PART = re.compile(r"L(\d+)(H\d+)?\.(\w+?)(@-?\d+)?")
_ORDER = "qkvm"
_OF_HEADS = ("q_in", "k_in", "v_in")


@dataclass(frozen=True)
class Receiver:
    """Who reads the stream: one slot of a head, an MLP, or the logits.

    Attributes:
        component: "q_in", "k_in", "v_in", "mlp_in", or "resid_post" of the last layer: the logits.
        layer: Counted from 0.
        head: None where there is none; keys and values count those that the model has of them.
        pos: The one position that is changed, or None: all.
    """

    component: str
    layer: int
    head: int | None = None
    pos: int | None = None

    def __str__(self) -> str:
        if self.component == "resid_post":
            return LOGITS
        head = "" if self.head is None else f"H{self.head}"
        pos = "" if self.pos is None else f"@{self.pos}"
        name = self.component if self.head is None else self.component[0]
        return f"L{self.layer}{head}.{name}{pos}"

    def reads(self, parallel: bool) -> int:
        """Return the level at which it reads."""
        if self.component == "resid_post":
            return 2 * self.layer + 2
        return 2 * self.layer + (self.component == "mlp_in" and not parallel)


def reads(receiver: str, n_layers: int, parallel: bool) -> int:
    """Return the level at which a receiver reads, by its name as it prints."""
    match = _PART.fullmatch(receiver)
    if match is None:
        return 2 * n_layers
    component = "mlp_in" if _slot(match[3]) == "mlp_in" else "q_in"
    return Receiver(component, int(match[1])).reads(parallel)


def tidy(text: str) -> str:
    """Write receivers in one way, each once, earlier layers first; what cannot be read stays."""
    found: dict[str, tuple[int, int, str]] = {}
    for part in (part.strip() for part in text.split(",")):
        match = _PART.fullmatch(part)
        if part == LOGITS:
            found[part] = (2**31, 0, "")
        elif match is not None:
            layer, head, name, pos = match.groups(default="")
            name, pos = _slot(name), pos and f"@{int(pos[1:])}"
            order = f"{_ORDER.find(name[0])}{name}{pos}"
            place = int(layer), int(head[1:]) if head else 2**31, order
            found[f"L{int(layer)}{head and f'H{int(head[1:])}'}.{name}{pos}"] = place
        elif part:
            return text
    # One position of what is changed at all of them says nothing more.
    kept = [one for one in found if "@" not in one or one.split("@")[0] not in found]
    return ", ".join(sorted(kept, key=found.__getitem__))


def _slot(name: str) -> str:
    """Return how what is read is written: ``q``, ``k``, ``v`` or ``mlp_in``."""
    name = _COMPONENT.get(name, name)
    return name[0] if name in _OF_HEADS else name


def parse_receivers(model: ModelInfo, text: str, behavior: Behavior) -> tuple[Receiver, ...]:
    """Read receivers between commas and check them against the model and the prompts.

    Raises:
        UnknownName: One is no receiver, or the model has no such layer, head or component.
        BadInput: There is none, or a position is not in every prompt.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise BadInput(
            "Path patching sends to receivers.",
            "None is named.",
            f"Name some, e.g. {LOGITS}, or L{model.n_layers - 1}H0.q.",
        )
    found: list[Receiver] = []
    for name in names:
        if name == LOGITS:
            found.append(Receiver("resid_post", model.n_layers - 1))
            continue
        match = _PART.fullmatch(name)
        if match is None or _slot(match[3]) not in (*SLOTS, "mlp_in"):
            raise UnknownName(
                f"The receiver {name!r} was asked for.",
                "A receiver reads the stream: queries, keys or values of a head, an MLP, or the "
                "logits.",
                "Examples: L5H3.q, L5H3.k, L5H3.v, L2.mlp_in, logits.",
            )
        if _slot(match[3]) == "mlp_in" and not model.has_mlp:
            raise UnknownName(
                f"The receiver {name!r} was asked for.",
                f"{model.name} has no MLPs.",
                f"Choose queries, keys or values of a head, e.g. L0H0.q, or {LOGITS}.",
            )
        # Asked for as it is written here, so that what the model lacks is said in these words.
        (site,) = parse_sites(model, name.replace(f".{match[3]}", f".{_slot(match[3])}"))
        pos = None if site.pos is None else _position(model, behavior, name, site.pos)
        component = _COMPONENT.get(site.component, site.component)
        found.append(Receiver(component, site.layer, site.head, pos))
    return tuple(found)


def _position(model: ModelInfo, behavior: Behavior, name: str, pos: int) -> int:
    """Return a position if every prompt has it and it can matter for what is read."""
    last = min(behavior.lengths) - 1
    if model.causal:
        last = min(behavior.read_at(i) for i in range(len(behavior)))
    if not 0 <= pos <= last:
        raise BadInput(
            f"The receiver {name!r} was asked for.",
            f"The positions that count in every prompt are 0 to {last}.",
            "Choose one of them, or leave it out: all positions.",
        )
    return pos


@dataclass(frozen=True)
class Senders:
    """The map of senders: a row a layer; a column a head, the MLP, and the embeddings.

    The embeddings are written before layer 0 and stand in its row.
    """

    n_layers: int
    n_heads: int
    has_mlp: bool
    parallel: bool

    @classmethod
    def of(cls, model: ModelInfo) -> Senders:
        """Return the senders of a model."""
        return cls(model.n_layers, model.n_heads, model.has_mlp, model.parallel)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_layers, len(self.cols)

    @cached_property
    def cols(self) -> tuple[str, ...]:
        """Column labels."""
        heads = tuple(f"H{i}" for i in range(self.n_heads))
        return (*heads, *(("MLP",) if self.has_mlp else ()), "embed")

    @property
    def rows(self) -> tuple[str, ...]:
        """Row labels."""
        return tuple(f"L{i}" for i in range(self.n_layers))

    def component(self, col: int) -> str:
        """Return what the senders of a column are: "z" (a head), "mlp_out" or "embed"."""
        return "z" if col < self.n_heads else {"MLP": "mlp_out"}.get(self.cols[col], "embed")

    def exists(self, row: int, col: int) -> bool:
        """Whether there is such a sender: embeddings are in the lowest row alone."""
        return self.component(col) != "embed" or row == 0

    def writes(self, row: int, col: int) -> int:
        """Return the level at which what a sender writes is in the stream."""
        component = self.component(col)
        if component == "embed":
            return 0
        return 2 * row + (1 if component == "z" and not self.parallel else 2)

    def reach(self, receiver: Receiver) -> Mask:
        """Mark the senders that are upstream of a receiver."""
        level = receiver.reads(self.parallel)
        return np.array(
            [
                [self.exists(i, j) and self.writes(i, j) <= level for j in range(self.shape[1])]
                for i in range(self.shape[0])
            ]
        )

    def between(
        self, receiver: Receiver, receivers: Sequence[Receiver]
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """List layers whose MLP lies before a receiver, and positions at which it does not count.

        What an MLP that is itself a receiver makes of its input goes on in the run.
        """
        level, found = receiver.reads(self.parallel), []
        for layer in range(self.n_layers if self.has_mlp else 0):
            own = [r.pos for r in receivers if (r.component, r.layer) == ("mlp_in", layer)]
            if 2 * layer + 2 <= level and None not in own:
                found.append((layer, tuple(pos for pos in own if pos is not None)))
        return tuple(found)


def name(row: int, col: str) -> str:
    """Name a sender by its row and column label: ``L5H3``, ``MLP 4``, ``embeddings``."""
    if col.startswith("H"):
        return f"L{row}{col}"
    return "embeddings" if col == "embed" else f"MLP {row}"

"""The map of places that a sweep visits: rows, columns, and the site of each cell (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from interp.axes import Mask
from interp.behaviors import Behavior
from interp.errors import BadInput, UnknownName
from interp.models.info import ModelInfo
from interp.models.sites import HEAD, KEYS, Site, check_component, heads_of

SiteChoice = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out",
    "z", "z_pos", "q", "q_pos", "k", "k_pos", "v", "v_pos",
    "pattern", "pattern_pos", "result", "result_pos",
]  # fmt: skip
"""A component, and with it the map: what heads have is layer x head at all positions, or with
``_pos`` head x position; every other one is layer x position."""


@dataclass(frozen=True)
class Grid:
    """Rows and columns of a sweep over one component.

    Attributes:
        component: What is patched.
        row_axis: "layer" or "head" (all heads of all layers, ``L0H0`` first).
        col_axis: "position" or "head".
        n_layers: Layers of the model.
        n_heads: Heads a layer; of keys and values a model may have fewer.
        n_pos: Positions of the prompts (0 where positions are no axis).
        only: Layers that are patched, ascending; empty: all.
        at: The one position where layer x head is patched, or None: all positions.
    """

    component: str
    row_axis: str
    col_axis: str
    n_layers: int
    n_heads: int
    n_pos: int
    only: tuple[int, ...] = ()
    at: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = len(self.layers) * (self.n_heads if self.row_axis == "head" else 1)
        return rows, self.n_pos if self.col_axis == "position" else self.n_heads

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that are patched."""
        return self.only or tuple(range(self.n_layers))

    def place(self, row: int, col: int) -> Site:
        """Return the site of a cell."""
        index, row_head = divmod(row, self.n_heads) if self.row_axis == "head" else (row, None)
        layer = self.layers[index]
        if self.col_axis == "head":
            return Site(self.component, layer, head=col, pos=self.at)
        return Site(self.component, layer, head=row_head, pos=col)

    def of_layer(self, layer: int) -> slice:
        """Return the rows of a layer, none where it is not patched."""
        heads = self.n_heads if self.row_axis == "head" else 1
        index = self.layers.index(layer) if layer in self.layers else len(self.layers)
        return slice(index * heads, (index + 1) * heads)

    def row_names(self) -> tuple[str, ...]:
        """Return ``L0``, ``L1`` and so on, or ``L0H0``, ``L0H1`` and so on."""
        if self.row_axis == "head":
            return tuple(f"L{i}H{j}" for i in self.layers for j in range(self.n_heads))
        return tuple(f"L{i}" for i in self.layers)


def make_grid(
    model: ModelInfo, behavior: Behavior, site: str, layers: str = "", position: str = ""
) -> Grid:
    """Choose the map for a site and check that the model and the pairs allow it.

    Args:
        model: The model.
        behavior: The pairs.
        site: One of ``SiteChoice``.
        layers: Layers that are patched, as ``0, 5-7``; empty: all.
        position: The one position where heads are patched, negative from the end; empty: all.

    Raises:
        UnknownName: The model has no such component or layer.
        BadInput: Positions of pairs of different lengths cannot be averaged, a position was asked
            for that there is not, or layers or a position cannot be read.
    """
    component = site.removesuffix("_pos")
    check_component(model, component)
    heads, only = heads_of(model, component), _layers(model, layers)
    if site in HEAD:
        at = _position(behavior, position) if position.strip() else None
        return Grid(component, "layer", "head", model.n_layers, heads, 0, only, at)
    if position.strip():
        raise BadInput(
            f"{site} was asked for at the position {position!r}.",
            "Its map has every position as a column.",
            "Leave the position empty, or patch heads: z, q, k, v, pattern or result.",
        )
    lengths = sorted(set(behavior.lengths))
    if len(lengths) > 1:
        raise BadInput(
            "A map by position averages the same position over pairs.",
            f"These pairs have {lengths[0]} to {lengths[-1]} tokens.",
            "Use pairs of one length, or patch heads at all positions.",
        )
    row = "head" if site.endswith("_pos") else "layer"
    return Grid(component, row, "position", model.n_layers, heads, lengths[0], only)


def _layers(model: ModelInfo, text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        low, _, high = part.partition("-")
        ends = [end.strip().removeprefix("L") for end in (low, high or low)]
        if not part:
            continue
        if not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[1]):
            raise BadInput(
                f"The layers {text!r} were asked for.",
                f"{part!r} is neither a layer nor a range of layers.",
                "Write for example: 0, 5-7. Empty means all.",
            )
        if int(ends[1]) >= model.n_layers:
            raise UnknownName(
                f"The layers {text!r} of {model.name} were asked for.",
                f"It has layers 0 to {model.n_layers - 1}.",
                f"Write for example: 0-{model.n_layers - 1}. Empty means all.",
            )
        found |= set(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found))


def _position(behavior: Behavior, text: str) -> int:
    """Read a position; one counted from the end needs pairs of one length."""
    shortest, lengths = min(behavior.lengths), set(behavior.lengths)
    try:
        asked = int(text)
    except ValueError as error:
        raise BadInput(
            f"The position {text!r} was asked for.",
            "It is not a whole number.",
            f"Choose 0 to {shortest - 1}, or from the end -1 to -{shortest}; empty means all.",
        ) from error
    if not -shortest <= asked < shortest or (asked < 0 and len(lengths) > 1):
        raise BadInput(
            f"The position {asked} was asked for.",
            f"The shortest prompt has {shortest} tokens"
            + (", and not all have as many." if len(lengths) > 1 else "."),
            f"Choose 0 to {shortest - 1}; empty means all.",
        )
    return asked % shortest


def cells_that_must_matter(model: ModelInfo, behavior: Behavior, grid: Grid) -> Mask:
    """Mark the cells whose patch gives the other run's output by the model's structure alone.

    They are the residual stream at the position read once nothing moves between positions any
    more, and layer 0's ``resid_pre`` where all pairs differ at one and the same position only.
    """
    forced = np.zeros(grid.shape, dtype=bool)
    if grid.col_axis != "position":
        return forced
    if grid.component in ("resid_mid", "resid_post"):
        forced[grid.of_layer(model.n_layers - 1), behavior.read_at(0)] = True
    if grid.component == "resid_pre":
        differs = (np.array(behavior.clean) != np.array(behavior.corrupted)).any(0)
        forced[grid.of_layer(0)] = differs if differs.sum() == 1 else False
    return forced


def cells_that_cannot_matter(model: ModelInfo, behavior: Behavior, grid: Grid) -> Mask:
    """Mark the cells that cannot matter by the model's structure, in any of the pairs."""
    return np.all(pairs_that_cannot_matter(model, behavior, grid), axis=0)


def pairs_that_cannot_matter(
    model: ModelInfo, behavior: Behavior, grid: Grid
) -> Bool[np.ndarray, "pair row col"]:
    """Mark, pair by pair, the cells that cannot matter by the model's structure.

    There both runs have the same activation, or nothing reaches the position read.
    Layer 0's ``resid_pre``, queries, keys and values are functions of the token at their position.
    Everything else depends in a causal model on the tokens up to its position, else on all tokens.
    What the last layer's attention has written stays at its position, so only the position read
    counts there; of its queries and patterns likewise.
    """
    inert = np.zeros((len(behavior), *grid.shape), dtype=bool)
    if grid.col_axis != "position" and grid.at is None:
        return inert
    # Columns are positions, or heads that are all patched at one position.
    n_pos = min(behavior.lengths)
    ids = (np.array([row[:n_pos] for row in side]) for side in (behavior.clean, behavior.corrupted))
    same_token, pos = np.equal(*ids), np.arange(n_pos)
    shared = np.logical_and.accumulate(same_token, axis=1)
    if grid.at is not None:
        same_token, shared, pos = (a[..., [grid.at]] for a in (same_token, shared, pos))
    read = behavior.read_at(0) if behavior.read >= 0 or len(set(behavior.lengths)) == 1 else None
    if model.causal:
        inert |= shared[:, None]
        inert |= False if read is None else pos > read
    if grid.component in ("resid_pre", "q", *KEYS):
        inert[:, grid.of_layer(0)] |= same_token[:, None]
    if grid.component not in ("resid_pre", *KEYS) and read is not None:
        # Behind the last attention's keys and values nothing moves between positions any more.
        last = grid.of_layer(model.n_layers - 1)
        inert[:, last] |= pos != read
    return inert


def work_share(model: ModelInfo, behavior: Behavior, grid: Grid) -> float:
    """Return the work of a sweep in forward passes a pair: layers and positions from each cell on.

    A model that is not causal computes every position of the layers from the cell on.
    """
    left = ~pairs_that_cannot_matter(model, behavior, grid)
    layers = np.array([grid.place(row, 0).layer for row in range(grid.shape[0])])
    part = (model.n_layers - layers)[:, None] / model.n_layers
    if model.causal and grid.col_axis == "position":
        part = part * (1 - np.arange(grid.n_pos) / grid.n_pos)
    elif model.causal and grid.at is not None:
        part = part * (1 - grid.at / max(behavior.lengths))
    return float((left * part).sum() / len(behavior))


def coarse_first(grid: Grid) -> list[list[tuple[int, int]]]:
    """List the cells in the order in which a sweep visits them, in parts that make a picture each.

    The first part has every third layer, the last layer among them, and every second position, the
    last one among them. Within a part cells of one position follow each other: they share most of
    what is computed.
    """
    rows = {row: grid.layers.index(grid.place(row, 0).layer) for row in range(grid.shape[0])}
    last = len(grid.layers) - 1
    by_pos = grid.col_axis == "position"
    coarse: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    for col in reversed(range(grid.shape[1])):
        for row, layer in rows.items():
            sparse = by_pos and (grid.shape[1] - 1 - col) % 2
            (rest if (last - layer) % 3 or sparse else coarse).append((row, col))
    return [part for part in (coarse, rest) if part]

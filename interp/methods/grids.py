"""The map of places that a sweep visits: rows, columns, and the site of each cell (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from interp.axes import Mask
from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.models.info import ModelInfo
from interp.models.sites import Site, check_component

SiteChoice = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "z_pos"]
"""A component, and with it the map: ``z`` is layer x head at all positions, ``z_pos`` head x
position, every other one layer x position."""


@dataclass(frozen=True)
class Grid:
    """Rows and columns of a sweep over one component.

    Attributes:
        component: What is patched.
        row_axis: "layer" or "head" (all heads of all layers, ``L0H0`` first).
        col_axis: "position" or "head".
        n_layers: Layers of the model.
        n_heads: Heads a layer.
        n_pos: Positions of the prompts (0 where positions are no axis).
    """

    component: str
    row_axis: str
    col_axis: str
    n_layers: int
    n_heads: int
    n_pos: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = self.n_layers * (self.n_heads if self.row_axis == "head" else 1)
        return rows, self.n_pos if self.col_axis == "position" else self.n_heads

    @property
    def layers(self) -> range:
        """Layers that are patched."""
        return range(self.n_layers)

    def place(self, row: int, col: int) -> Site:
        """Return the site of a cell."""
        layer, row_head = divmod(row, self.n_heads) if self.row_axis == "head" else (row, None)
        if self.col_axis == "head":
            return Site(self.component, layer, head=col)
        return Site(self.component, layer, head=row_head, pos=col)

    def row_names(self) -> tuple[str, ...]:
        """Return ``L0``, ``L1`` and so on, or ``L0H0``, ``L0H1`` and so on."""
        if self.row_axis == "head":
            return tuple(f"L{i}H{j}" for i in self.layers for j in range(self.n_heads))
        return tuple(f"L{i}" for i in self.layers)


def make_grid(model: ModelInfo, behavior: Behavior, site: str) -> Grid:
    """Choose the map for a site and check that the model and the pairs allow it.

    Raises:
        UnknownName: The model has no such component.
        BadInput: Positions of pairs of different lengths cannot be averaged.
    """
    component = "z" if site == "z_pos" else site
    check_component(model, component)
    if site == "z":
        return Grid("z", "layer", "head", model.n_layers, model.n_heads, 0)
    lengths = sorted(set(behavior.lengths))
    if len(lengths) > 1:
        raise BadInput(
            "A map by position averages the same position over pairs.",
            f"These pairs have {lengths[0]} to {lengths[-1]} tokens.",
            "Use pairs of one length, or patch head z at all positions.",
        )
    row = "head" if site == "z_pos" else "layer"
    return Grid(component, row, "position", model.n_layers, model.n_heads, lengths[0])


def cells_that_must_matter(model: ModelInfo, behavior: Behavior, grid: Grid) -> Mask:
    """Mark the cells whose patch gives the other run's output by the model's structure alone.

    They are the residual stream at the position read once nothing moves between positions any
    more, and layer 0's ``resid_pre`` where all pairs differ at one and the same position only.
    """
    forced = np.zeros(grid.shape, dtype=bool)
    if grid.col_axis != "position":
        return forced
    if grid.component in ("resid_mid", "resid_post"):
        forced[-1, behavior.read_at(0)] = True
    if grid.component == "resid_pre":
        differs = (np.array(behavior.clean) != np.array(behavior.corrupted)).any(0)
        forced[0] = differs if differs.sum() == 1 else False
    return forced


def cells_that_cannot_matter(model: ModelInfo, behavior: Behavior, grid: Grid) -> Mask:
    """Mark the cells that cannot matter by the model's structure, in any of the pairs.

    There both runs have the same activation, or nothing reaches the position read.
    Layer 0's ``resid_pre`` is a function of the token at its position. Everything else depends in
    a causal model on the tokens up to its position, else on all tokens. What the last layer's
    attention has written stays at its position, so only the position read counts there.
    """
    inert = np.zeros(grid.shape, dtype=bool)
    if grid.col_axis != "position":
        return inert
    clean, corrupted = np.array(behavior.clean), np.array(behavior.corrupted)
    same_token = (clean == corrupted).all(0)
    if model.causal:
        inert |= np.logical_and.accumulate(same_token)
        inert |= np.arange(grid.n_pos) > behavior.read_at(0)
    if grid.component == "resid_pre":
        inert[0] |= same_token
    else:
        # After the last attention nothing moves between positions any more.
        last = inert[-1:] if grid.row_axis == "layer" else inert[-grid.n_heads :]
        last |= np.arange(grid.n_pos) != behavior.read_at(0)
    return inert

"""The axes that arrays are named by, and the array types that results use.

Axis names are the field's: ``batch pos d_model head d_head d_mlp d_vocab layer src dest``.
Two more belong to grids that are drawn: ``row`` and ``col``; ``pair`` counts prompt pairs.
Results hold CPU numpy arrays only; a cell that is not computed yet is NaN.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

Grid = Float[np.ndarray, "row col"]
Mask = Bool[np.ndarray, "row col"]
PairGrid = Float[np.ndarray, "pair row col"]
PerPair = Float[np.ndarray, "pair"]
LayerPos = Float[np.ndarray, "layer pos"]
LayerPosTop = Float[np.ndarray, "layer pos top"]
LayerPosTopIds = Int[np.ndarray, "layer pos top"]

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
AblationGrid = Float[np.ndarray, "ablation row col"]
AblationPairGrid = Float[np.ndarray, "ablation pair row col"]
LayerPos = Float[np.ndarray, "layer pos"]
LayerPosTop = Float[np.ndarray, "layer pos top"]
LayerPosTopIds = Int[np.ndarray, "layer pos top"]
PerLayer = Float[np.ndarray, "layer"]
PerDepth = Float[np.ndarray, "depth"]
LayerHead = Float[np.ndarray, "layer head"]
SplitSrc = Float[np.ndarray, "split src"]
SplitHeads = Int[np.ndarray, "split layer_and_head"]
HeadDestSrc = Float[np.ndarray, "head dest src"]
DestSrc = Float[np.ndarray, "dest src"]
Blocks = Float[np.ndarray, "dest_block src_block"]
Relations = Bool[np.ndarray, "relation dest src"]
Visible = Bool[np.ndarray, "dest src"]
PerRelation = Float[np.ndarray, "relation"]
RelationHead = Float[np.ndarray, "relation head"]
ScoreSequenceLayerHead = Float[np.ndarray, "score sequence layer head"]
ScoreLayer = Float[np.ndarray, "score layer"]
PerSequence = Float[np.ndarray, "sequence"]
SequenceTokens = Int[np.ndarray, "pos"]
SequencePos = Int[np.ndarray, "sequence pos"]
SampleStep = Float[np.ndarray, "sample step"]
SampleStepIds = Int[np.ndarray, "sample step"]
SampleStepTop = Float[np.ndarray, "sample step top"]
SampleStepTopIds = Int[np.ndarray, "sample step top"]
PerSample = Float[np.ndarray, "sample"]

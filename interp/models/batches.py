"""How many prompts one forward pass takes (torch-free: estimates need it before anything runs)."""

from __future__ import annotations

from interp.models.info import ModelInfo

# One batch is about this much arithmetic: a second on one slow core, so that a page sees progress
# and a cancel or a short question is answered soon.
_BATCH_FLOP = 4e10
_MOST_ROWS = 256


def rows_per_batch(model: ModelInfo, n_tokens: int) -> int:
    """Return how many prompts of ``n_tokens`` one forward pass takes.

    It depends on the model's shape only, so that the same question is always computed in the
    same batches and gives the same bits.
    """
    flop = 2.0 * (model.parameters + 2 * n_tokens * model.d_model * model.n_layers) * n_tokens
    return int(max(1, min(_MOST_ROWS, _BATCH_FLOP / flop)))

"""Causal sweeps against other libraries: ``python -m benchmarks.patching [row ...] [--quick]``.

Random weights, the same on both sides; pairs of random tokens that differ at every position unless
the row says otherwise; denoising, logit difference at the last position, float32. On the processor
one thread, the shape of GPT-2 small and 4 pairs of 16 tokens; where torch has a CUDA device, that
shape and one of a billion parameters with 64 pairs of 128 tokens.
"""

from __future__ import annotations

import os

os.environ["TQDM_DISABLE"] = "1"  # bars are drawn by neither side

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import _peers
from benchmarks._cases import GPT2, GPT2_LONG, LLAMA_1B, Case, Cell, evenly, random_model
from benchmarks._harness import Operations, Row, Side, clock, compare, timed
from interp.analyses import activation_patching
from interp.behaviors import Behavior
from interp.engine import layers_of
from interp.jobs.execute import Hooks, execute
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.methods import path_patching
from interp.methods.attribution_patching import node_estimates
from interp.methods.grids import make_grid
from interp.methods.patching import Rounded, sweep
from interp.methods.paths import Receiver, Senders
from interp.models.load import LoadedModel
from interp.store import open_store
from interp.store.codec import unpack

SITES = {"resid_pre": "resid_pre", "attn_out": "attn_out", "mlp_out": "mlp_out",
         "resid_pre_vs_hf": "resid_pre", "resid_pre_prefix": "resid_pre",
         "head_all": "z", "head_pos": "z_pos"}  # fmt: skip
GRADIENTS = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "q", "k", "v", "z")
TIMED, CHECKED = 24, 240
"""Cells on which a slow peer is timed; cells of the largest map that are compared."""
METRIC = "logit_diff"


def ours(case: Case, behavior: Behavior, site: str, rounded: Rounded | None = None) -> Side:
    """Sweep a map by this project."""
    grid = make_grid(case.model.info, behavior, site)

    def work() -> np.ndarray:
        *_, last = sweep(case.model, behavior, grid, "denoising", METRIC, rounded=rounded)
        values = last.values
        if site == "z_pos":
            by_head = (len(values), grid.n_layers, grid.n_heads, grid.n_pos)
            values = values.reshape(by_head).swapaxes(2, 3)
        return values.reshape(len(values), -1)

    return timed(work)


def least(case: Case, site: str, cells: list[Cell], same: int = 0) -> float:
    """Count the operations that a map of pairs with ``same`` equal tokens cannot do without."""
    count = Operations(case.model.info, case.tokens)
    starts = [same if site == "z" else cell[1] for cell in cells]
    live = [(cell[0], start) for cell, start in zip(cells, starts, strict=True) if start >= same]
    runs = sum(count.run(site, layer, start) for layer, start in live)
    return case.pairs * (2 * count.layers(0, 0) + runs)


def map_row(case: Case, row: str) -> Row:
    """Compare a whole map, cell by cell, with a peer that is timed on some cells."""
    site, same = SITES[row], 10 * case.tokens // 16 if row == "resid_pre_prefix" else 0
    behavior, cells = case.behavior(same), case.cells(SITES[row])
    if row == "resid_pre_vs_hf":
        name = f"{_peers.HUGGING_FACE}, forward pre-hooks, last logits only"
        peer = _peers.hugging_face(case.theirs, behavior)
    else:
        name, peer = f"{_peers.LENS} patching", _peers.patching(case.model, behavior, site)
    some, compared = evenly(TIMED, len(cells)), None
    if len(cells) > CHECKED or not case.whole:
        n = min(CHECKED if case.whole else TIMED, len(cells))
        compared = sorted(np.random.default_rng(1).choice(len(cells), n, replace=False).tolist())
    said = f"{len(compared)} of {len(cells)} cells compared" if compared else "every cell compared"
    mine = ours(case, behavior, site)
    shared = f"; the first {same} tokens are the same" if same else ""
    return Row(
        row,
        f"denoising {site}, {case.called}{shared}; {said}",
        f"{name}, timed on {len(some)} of {len(cells)} cells, scaled",
        (mine, peer.over(cells, compared)),
        (mine, peer.over(cells, some)),
        least(case, site, cells, same),
        case.model.info,
    )


def path_row(case: Case) -> Row:
    """Compare paths from everything upstream into the queries of one head."""
    info, behavior = case.model.info, case.behavior()
    layer, head = 3 * info.n_layers // 4, info.n_heads // 2
    paths = path_patching.Paths((Receiver("q_in", layer, head),), "direct", "denoising")
    senders = Senders.of(info)
    cells = [(int(i), int(j)) for i, j in np.argwhere(senders.reach(paths.receivers[0]))]

    def work() -> np.ndarray:
        *_, last = path_patching.sweep(case.model, behavior, paths, METRIC)
        return np.stack([last.values[:, i, j] for i, j in cells], 1)

    mine, peer = timed(work), _peers.paths(case.model, behavior, layer, head)
    count = Operations(info, case.tokens)
    n, heads = case.tokens, sum(j < info.n_heads for _, j in cells)
    # The head's queries, attention and output, and the layer's MLP; then all layers behind.
    one = n * (2 * count.head + count.mlp) + count.attention(0, 1) + count.layers(layer + 1, 0)
    total = 2 * count.layers(0, 0) + len(cells) * one + heads * n * count.head
    some = evenly(TIMED, len(cells))
    return Row(
        "path_patching",
        f"{heads} heads, {len(cells) - heads} MLPs and embeddings, directly into L{layer}H{head}.q,"
        f" {case.called}; {'every' if case.whole else 'each timed'} cell compared",
        f"{_peers.LENS} hooks, a pass each, timed on {len(some)} of {len(cells)} cells, scaled",
        (mine, peer.over(cells, None if case.whole else some)),
        (mine, peer.over(cells, some)),
        case.pairs * total,
        info,
    )


def gradient_row(case: Case) -> Row:
    """Compare estimates of every patch of all sites, by two forward passes and a backward one.

    They are compared in float64: gradients of a deep model in float32 are rounded by several times
    the tolerance, by either side.
    """
    behavior, info = case.behavior(), case.model.info

    def ours_in(model: LoadedModel) -> np.ndarray:
        found = node_estimates(model, behavior, GRADIENTS, "denoising", METRIC)
        by_head = [np.moveaxis(found[part], 2, -1).reshape(case.pairs, -1) for part in GRADIENTS]
        return np.concatenate(by_head, 1)

    wide = deepcopy(case.model.hooked).to(torch.float64, print_details=False)
    exact = replace(case.model, hooked=wide, dtype=torch.float64)
    return Row(
        "node_attribution",
        f"gradient estimates of {', '.join(GRADIENTS)} by position, {case.called}; every cell "
        "compared, in float64",
        f"{_peers.LENS} gradient hooks, two forward passes and a backward one in all",
        (timed(lambda: ours_in(exact)), _peers.gradients(exact, behavior, list(GRADIENTS))),
        (
            timed(lambda: ours_in(case.model)),
            _peers.gradients(case.model, behavior, list(GRADIENTS)),
        ),
        3 * case.pairs * Operations(info, case.tokens).layers(0, 0),
        info,
    )


def picture_row(case: Case) -> Row:
    """Compare the time to a first picture in the store with a whole sweep of the peer."""
    info, cells, behavior = case.model.info, case.cells("resid_pre"), case.behavior()
    rows, cols = range(info.n_layers - 1, -1, -3), range(case.tokens - 1, -1, -2)
    coarse = [i for i, (layer, pos) in enumerate(cells) if layer in rows and pos in cols]
    store, residents = open_store(), Residents(str(case.model.device))
    layers_of(residents.get(info.name), None)

    def read(packed: bytes) -> np.ndarray:
        values = unpack(activation_patching.Result, packed).values
        return values.reshape(case.pairs, -1)[:, coarse]

    def side() -> tuple[np.ndarray, float]:
        start, found = clock(), []
        record = submit(store, case.spec(), again=True)
        claim = store.queue.claim("benchmark", record=record)
        assert claim is not None

        def look() -> None:
            packed = store.records.partial(record)
            if packed is None or found:
                return
            values = read(packed)
            if not np.isnan(values).any():
                found.extend((values, clock() - start))
                store.queue.cancel(record)

        execute(store, claim, residents, Hooks(between=look))
        if not found:  # a map that is done within a second has no picture before
            packed = store.records.result(store.records.get(record))
            assert packed is not None
            found.extend((read(packed), clock() - start))
        return found[0], found[1]

    peer = _peers.patching(case.model, behavior, "resid_pre")
    some, of_coarse = evenly(TIMED, len(cells)), [cells[i] for i in coarse]
    return Row(
        "first_picture",
        f"{len(coarse)} cells of the denoising resid_pre map in the store, job and all, "
        f"{case.called}; each of them compared",
        f"{_peers.LENS} patching, whole map, timed on {len(some)} of {len(cells)} cells, scaled",
        (side, peer.over(of_coarse)),
        (side, peer.over(cells, some)),
        least(case, "resid_pre", of_coarse),
        info,
    )


def print_bf16(case: Case, rounds: int) -> None:
    """Print how a sweep screened in bfloat16 compares with the one in float32."""
    behavior = case.behavior()
    exact = ours(case, behavior, "resid_pre")
    rough = ours(case, behavior, "resid_pre", "bfloat16")
    a, b = (np.asarray(side()[0].mean(0)) for side in (exact, rough))
    ranks: Any = spearmanr(a, b)
    *_, bare = sweep(
        case.model, behavior, make_grid(case.model.info, behavior, "resid_pre"), "denoising", METRIC
    )
    top = [set(np.argsort(-np.abs(x - bare.corrupted.mean()))[:10].tolist()) for x in (a, b)]
    times = [(exact()[1], rough()[1]) for _ in range(rounds)]
    ratios = [x / y for x, y in times]
    line = {
        "row": "resid_pre_bf16",
        "work": f"denoising resid_pre screened in bfloat16, {case.called}",
        "peer": "our sweep in float32",
        "ours_s": round(statistics.median(y for _, y in times), 3),
        "peer_s": round(statistics.median(x for x, _ in times), 3),
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "max_diff": float(f"{np.abs(a - b).max() / a.std():.3g}"),
        "rank_correlation": round(float(ranks.statistic), 4),
        "top_10_in_common": len(top[0] & top[1]),
    }
    print(json.dumps(line), flush=True)


def has_bf16() -> bool:
    """Whether the device has instructions for bfloat16, by the list that torch reads off it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


MAKE: dict[str, Callable[[Case], Row]] = {
    **{row: lambda case, row=row: map_row(case, row) for row in SITES},
    "node_attribution": gradient_row,
    "path_patching": path_row,
    "first_picture": picture_row,
}
BF16 = "resid_pre_bf16"


def main() -> None:
    """Print a line for each row asked for, all if none is; exit with an error if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join([*MAKE, BF16]))
    parser.add_argument("--quick", action="store_true", help="one round a row")
    given = parser.parse_args()
    rows = given.rows or [*MAKE, BF16]
    if unknown := set(rows) - {*MAKE, BF16}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    rounds, good = 1 if given.quick else 3, True
    cuda = torch.cuda.is_available()
    device, size = ("cuda:0", (64, 128)) if cuda else ("cpu", (4, 16))
    with tempfile.TemporaryDirectory(prefix="patching-") as home:
        os.environ["BECAUSE_HOME"] = home
        for config in (GPT2_LONG, LLAMA_1B) if cuda else (GPT2,):
            case = Case(*random_model(config, device), *size, whole=not cuda)
            for row in rows:
                if row == "head_pos" and config is LLAMA_1B:
                    continue  # four million runs: hours
                if row != BF16:
                    good &= compare(MAKE[row](case), rounds)
                elif has_bf16():
                    print_bf16(case, rounds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

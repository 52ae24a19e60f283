"""Causal scrubbing beside one full hooked pass a node: ``python -m benchmarks.scrubbing``.

tree10       a tree of 10 nodes on the paren balancer, 10,000 references, everything from the first
             forward pass on; the peer takes the same draws, so that logits are compared one by one
first_point  from the start of a job to the first point of its live curve in the store, wall time;
             the ratio is 3 s over it
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._harness import Operations, Row, compare, timed
from interp.analyses.causal_scrubbing import CausalScrubbing
from interp.behaviors.populations import population, token_names
from interp.explanations.hypothesis import Feature, Hypothesis, Node
from interp.explanations.terms import parse_terms
from interp.jobs.execute import Hooks, execute
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.methods.scrubbing.draws import Draws
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.tree import Scrubber
from interp.models.load import LoadedModel, load
from interp.store import open_store

MODEL, INPUTS, N = "paren-balancer", "paren-strings", 10_000
LEAST_S = 3.0
_CHUNK = 256

FEATURES = {
    "counts": Feature(expr="count(OPEN) == count(CLOSE)", dtype="bool"),
    "start": Feature(expr="at(1) == OPEN", dtype="bool"),
    "both": Feature(expr="counts & start", dtype="bool"),
    "horizon": Feature(expr="max(cumsum_right(OPEN, CLOSE)) <= 0", dtype="bool"),
    "share": Feature(
        expr="where(start, count(OPEN) / (count(OPEN) + count(CLOSE)), -1)", dtype="float"
    ),
}


def tree() -> Hypothesis:
    """The published claims about both counting heads, the horizon, and one more head."""

    def counting(site: str) -> Node:
        below = (
            Node(site="a0.h0", via="mlps", agree="share"),
            Node(site="embed", via="mlps", agree="start"),
        )
        stream = Node(site="resid", pos=(1,), agree="both", children=below)
        return Node(site=site, agree="both", children=(stream,))

    direct = (Node(site="a2.h1", agree="horizon"), Node(site="a1.h1", agree="counts"))
    children = (counting("a1.h0"), counting("a2.h0"), *direct)
    return Hypothesis(
        features=FEATURES, graph=Node(site="logits", agree="exact", children=children)
    )


# --- the peer: one pass of the whole model a node ------------------------------------------------


class Peer:
    """Evaluates the tree with TransformerLens, a full pass of every reference for a node."""

    def __init__(self, model: LoadedModel, inputs: Inputs) -> None:
        self.hooked: Any = model.hooked
        self.lengths = torch.from_numpy(inputs.lengths)
        assert inputs.pad is not None
        self.ids = torch.from_numpy(np.where(inputs.ids < 0, inputs.pad, inputs.ids))

    def logits(self, hypothesis: Hypothesis, draws: Draws) -> np.ndarray:
        """Return logits at the first position."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(draws.refs), _CHUNK):
                found.append(self._root(hypothesis.graph, draws.part(slice(start, start + _CHUNK))))
        return torch.cat(found).double().numpy()

    def run(self, rows: Any, keep: list[str], change: dict[str, Callable[..., Tensor]]) -> Any:
        """Run inputs; keep activations, change some, mask padding."""
        kept: dict[str, Tensor] = {}
        seen = torch.arange(self.ids.shape[1]) < self.lengths[rows, None]

        def save(act: Tensor, hook: Any) -> None:
            kept[hook.name] = act

        def mask(scores: Tensor, hook: Any) -> Tensor:
            return scores.masked_fill(~seen[:, None, None], -torch.inf)

        hooks: list[tuple[Any, Any]] = [(lambda name: name.endswith("hook_attn_scores"), mask)]
        hooks += [(name, save) for name in keep]
        hooks += [(name, partial(_changed, kept, of)) for name, of in change.items()]
        kept["logits"] = self.hooked.run_with_hooks(self.ids[rows], fwd_hooks=hooks)
        return kept

    def _root(self, root: Node, draws: Draws) -> Tensor:
        changes = [(child, self._value(child, draws, 0)) for child in root.children]
        terms = [parse_terms(child.site)[0] for child in root.children]

        def put(kept: dict[str, Tensor], stream: Tensor) -> Tensor:
            stream = stream.clone()
            for (_, value), term in zip(changes, terms, strict=True):
                stream[:, 0] += value - self._result(kept, term.layer, term.head, 0)
            return stream

        keep = [f"blocks.{term.layer}.attn.hook_z" for term in terms]
        other = draws.other[root.id]
        kept = self.run(other, keep, {"blocks.2.hook_resid_post": put})
        return kept["logits"][:, 0]

    def _value(self, node: Node, draws: Draws, pos: int) -> Tensor:
        if node.site == "embed":
            return self.run(draws.row[node.id], ["hook_embed"], {})["hook_embed"][:, pos]
        term = parse_terms(node.site)[0]
        name = f"blocks.{term.layer}.attn.hook_z"
        if not node.children:
            return self._result(
                self.run(draws.row[node.id], [name], {}), term.layer, term.head, pos
            )
        stream = self._stream(node.children[0], draws, term.layer)

        def put(_: dict[str, Tensor], act: Tensor) -> Tensor:
            act = act.clone()
            act[:, 1] = stream
            return act

        entering = f"blocks.{term.layer}.hook_resid_pre"
        kept = self.run(draws.other[node.id], [name], {entering: put})
        return self._result(kept, term.layer, term.head, pos)

    def _stream(self, node: Node, draws: Draws, layer: int) -> Tensor:
        """The stream entering a layer at position 1: children through the MLPs between."""
        head, embed = node.children
        values = self._value(head, draws, 1), self._value(embed, draws, 1)
        names = [f"blocks.{i}.hook_attn_out" for i in range(layer)]
        keep = ["hook_embed", "hook_pos_embed", "blocks.0.attn.hook_z", *names]
        kept = self.run(draws.other[node.id], keep, {})
        stream = kept["hook_pos_embed"][:, 1] + values[1]
        for i in range(layer):
            stream = stream + kept[f"blocks.{i}.hook_attn_out"][:, 1]
            if i == 0:
                stream = stream + values[0] - self._result(kept, 0, 0, 1)
            block = self.hooked.blocks[i]
            stream = stream + block.mlp(block.ln2(stream[:, None]))[:, 0]
        return stream

    def _result(self, kept: dict[str, Tensor], layer: int, head: int, pos: int) -> Tensor:
        z = kept[f"blocks.{layer}.attn.hook_z"][:, pos, head]
        return z @ self.hooked.blocks[layer].attn.W_O[head]


def _changed(kept: dict[str, Tensor], of: Callable[..., Tensor], act: Tensor, hook: Any) -> Tensor:
    return of(kept, act)


# --- rows ----------------------------------------------------------------------------------------


def tree_row(model: LoadedModel) -> Row:
    """Compare one draw of the tree on all references."""
    inputs = Inputs.of(population(INPUTS, N, MODEL), token_names(INPUTS, MODEL))
    hypothesis, refs = tree(), np.arange(N)
    peer = Peer(model, inputs)
    draws = Scrubber(model, hypothesis, inputs).draws(refs, 0, 0)

    def ours() -> np.ndarray:
        scrubber = Scrubber(model, hypothesis, inputs)
        return scrubber.logits(scrubber.draws(refs, 0, 0))

    both = timed(ours), timed(lambda: peer.logits(hypothesis, draws))
    # Not to be avoided: one pass over the inputs, and a head a counting node and reference.
    held = float(sum(inputs.lengths))
    one_pass = held / inputs.ids.shape[1] * Operations(model.info, inputs.ids.shape[1]).layers(0, 0)
    work = f"{N:,} references, a tree of 10 nodes, one draw, from the first forward pass on"
    return Row(
        "tree10",
        work,
        "TransformerLens, a full hooked pass a node",
        both,
        both,
        one_pass,
        model.info,
    )


def first_point(rounds: int) -> None:
    """Print how long a job takes until the first point of its curve is in the store."""
    store, residents, times = open_store(), Residents("cpu"), []
    residents.get(MODEL)
    spec = CausalScrubbing(
        model=MODEL, behavior=INPUTS, n_inputs=N, hypothesis=tree().canonical, draws=1, nulls=0
    )
    for _ in range(rounds):
        start, found = time.perf_counter(), []
        record = submit(store, spec, again=True)
        claim = store.queue.claim("benchmark", record=record)
        assert claim is not None

        def look(record: str = record, start: float = start, found: list[float] = found) -> None:
            if store.records.partial(record) is not None and not found:
                found.append(time.perf_counter() - start)
                store.queue.cancel(record)

        execute(store, claim, residents, Hooks(between=look))
        times.append(found[0])
    line = {
        "row": "first_point",
        "work": f"first point of the live curve, tree of 10 nodes, {N:,} references, job and all",
        "peer": f"{LEAST_S:g} s",
        "ours_s": round(float(np.median(times)), 3),
        "peer_s": LEAST_S,
        "ratio": round(LEAST_S / float(np.median(times)), 2),
        "max_diff": 0.0,
        "spread": [round(LEAST_S / max(times), 2), round(LEAST_S / min(times), 2)],
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="scrubbing-") as folder:
        os.environ["BECAUSE_HOME"] = folder
        compare(tree_row(load(MODEL, torch.device("cpu"))), rounds)
        first_point(rounds)


if __name__ == "__main__":
    main()

"""The search for hypotheses against exhaustive search, on weights where losses are known.

Of ``induction-handmade`` only L1H0 reaches the logits. So the scrubbed answer to a reference is the
model's answer to the input that L1H0 is taken from, and the loss of every hypothesis follows from
one bare run of the model and the random numbers, which are drawn here again from their definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from itertools import combinations, product
from math import comb, log2
from zlib import crc32

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from interp import analyses
from interp.analyses.hypothesis_search import HypothesisSearch
from interp.behaviors.populations import population, token_names
from interp.errors import BadInput
from interp.explanations.checks import check
from interp.explanations.hypothesis import EXACT, Hypothesis, Node
from interp.methods.scrubbing import moves
from interp.methods.scrubbing import search as searching
from interp.methods.scrubbing.budget import budget
from interp.methods.scrubbing.draws import Sampler
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.search import Plan, search
from interp.methods.scrubbing.searched import Searched, pareto
from interp.methods.scrubbing.space import Space, half
from interp.models import catalogue
from interp.models.load import load

Array = NDArray[np.float64]
Note = Callable[..., None]
KIND, MODEL, SMALL, LARGE = (
    "hypothesis_search",
    "induction-handmade",
    "induction-letters-small",
    "induction-letters",
)
COMPONENTS = ("embed", "pos_embed", "a0.h0", "a0.h1", "a1.h0", "a1.h1")
SPEAKS = "a1.h0"
LIBRARY = {"place": 'column("place")', "second": "at(2)", "third": "at(3)", "even": "count(a) % 2"}
PLAN = Plan(
    objective="loss", price=0.02, start="empty", restarts=3, evaluations=600, nulls=3, seed=0
)
FLOAT32 = 1e-4


def arrays(name: str = SMALL, n: int = 360) -> Inputs:
    return Inputs.of(population(name, n, MODEL), token_names(name, MODEL))


def searched_half(inputs: Inputs) -> Inputs:
    assert inputs.held_out is not None
    return half(inputs, ~inputs.held_out)


def run(
    inputs: Inputs, plan: Plan, library: Mapping[str, str] | None = LIBRARY
) -> tuple[Searched, Searched]:
    """The last state of the search itself, and the tested one."""
    space = Space.of(catalogue.info(MODEL), searched_half(inputs), library)
    states = [state for _, state in search(load(MODEL, "cpu"), inputs, space, plan)]
    return [state for state in states if state.held_out is None][-1], states[-1]


def answers(inputs: Inputs) -> Array:
    """Log probabilities of the model on each input, at the place read, [input, output]."""
    with torch.inference_mode():
        logits = load(MODEL, "cpu").hooked(torch.from_numpy(inputs.ids))[:, inputs.read].double()
    return np.asarray(logits.log_softmax(-1).numpy())


class Enumerated:
    """Losses and bits of all hypotheses of up to two nodes, with nothing of the search's own."""

    def __init__(self, inputs: Inputs, library: Mapping[str, list[int]]) -> None:
        self.n, self.labels = len(inputs.labels), inputs.labels
        self.log_p, self.library = answers(inputs), library
        self.taken, self.entropy = cache(self._taken), cache(self._entropy)

    def uniform(self, site: str) -> Array:
        """The random numbers of a node: those of its last component."""
        name = max(site.split("+"), key=(*COMPONENTS, "logits other").index)
        return np.random.default_rng([PLAN.seed, 0, crc32(name.encode())]).random(self.n)

    def values(self, agree: tuple[str, ...]) -> list[tuple[int, ...]]:
        return [tuple(self.library[name][i] for name in agree) for i in range(self.n)]

    def _taken(self, site: str, agree: tuple[str, ...]) -> list[int]:
        """The input that a node takes, for each reference."""
        u, values = self.uniform(site), self.values(agree)
        members: dict[tuple[int, ...], list[int]] = {}
        for i, value in enumerate(values):
            members.setdefault(value, []).append(i)
        return [members[v][int(u[i] * len(members[v]))] for i, v in enumerate(values)]

    def loss(self, tree: dict[str, tuple[str, ...]]) -> float:
        speaking = [site for site in tree if SPEAKS in site.split("+")]
        rows = (
            self.taken(speaking[0], tree[speaking[0]])
            if speaking
            else self.taken("logits other", ())
        )
        return float(-self.log_p[rows, self.labels].mean())

    def _entropy(self, agree: tuple[str, ...]) -> float:
        return -sum(c / self.n * log2(c / self.n) for c in Counter(self.values(agree)).values())

    def bits(self, tree: dict[str, tuple[str, ...]]) -> float:
        named = (log2(comb(len(COMPONENTS), len(site.split("+")))) for site in tree)
        return sum(named) + sum(map(self.entropy, tree.values()))

    def total(self, tree: dict[str, tuple[str, ...]]) -> float:
        return self.loss(tree) + PLAN.price * self.bits(tree)

    def trees(self) -> Iterator[dict[str, tuple[str, ...]]]:
        """Every tree of up to two nodes of one or two components."""
        pairs = list(combinations(sorted(self.library), 2))
        agrees = [(), *((name,) for name in self.library), *pairs]
        sites = [*COMPONENTS, *("+".join(pair) for pair in combinations(COMPONENTS, 2))]
        yield {}
        for site, agree in product(sites, agrees):
            yield {site: agree}
        for one, other in combinations(sites, 2):
            if not {*one.split("+")} & {*other.split("+")}:
                for first, second in product(agrees, agrees):
                    yield {one: first, other: second}


@lru_cache
def enumerated() -> Enumerated:
    inputs = searched_half(arrays())
    ids = inputs.ids
    return Enumerated(
        inputs,
        {
            "place": inputs.columns["place"].tolist(),
            "second": ids[:, 2].tolist(),
            "third": ids[:, 3].tolist(),
            "even": ((ids == inputs.names["a"]).sum(1) % 2).tolist(),
        },
    )


def plain(graph: Node) -> dict[str, tuple[str, ...]]:
    """A tree as the enumeration has it; its sites are written in the order of components."""
    return {node.site: node.features for node in graph.children}


def test_only_one_head_reaches_the_logits() -> None:
    """What the enumeration rests on: all else may be taken from another input."""
    inputs = searched_half(arrays())
    space = Space.of(catalogue.info(MODEL), inputs, LIBRARY, exact=True)
    of = searching.Half(load(MODEL, "cpu"), space.inputs, "loss", 0)
    one = of.scrubber(space.bare(moves.root(Node(site=SPEAKS, agree=EXACT))))
    levels = of.levels()
    assert np.abs(of.mean(one, (0,)) - levels.model).max() < FLOAT32
    assert tuple(map(str, space.terms)) == COMPONENTS


def test_every_evaluation_and_the_optimum(monkeypatch: pytest.MonkeyPatch, ledger: Note) -> None:
    """Each loss and price is that of the enumeration, and the best of all is found."""
    graphs: list[Node] = []
    bare = Space.bare

    def noted(self: Space, graph: Node) -> object:
        graphs.append(graph)
        return bare(self, graph)

    monkeypatch.setattr(Space, "bare", noted)
    found, _ = run(arrays(), PLAN)
    assert len(graphs) == len(found.values)
    of = enumerated()
    losses = np.array([of.loss(plain(graph)) for graph in graphs])
    off = np.abs(found.values - losses).max() / losses.std()
    assert off < FLOAT32
    assert found.bits == pytest.approx([of.bits(plain(graph)) for graph in graphs], abs=1e-9)
    every = [(of.total(tree), tree) for tree in of.trees()]
    best, tree = min(every, key=lambda one: one[0])
    front = found.front[0]
    least = front.search + PLAN.price * front.bits
    print(f"{len(every)} trees, the best {tree} with {best:.4f}; found {least:.4f}")
    assert abs(least - best) < FLOAT32
    assert found.best[-1] == pytest.approx(least)
    # The control: where it may make no change, it does not come near.
    stuck, _ = run(arrays(), replace(PLAN, restarts=0, evaluations=10))
    assert stuck.best[-1] - best > 0.1
    ledger(
        kind=KIND,
        oracle=f"best of all {len(every):,} trees of up to two nodes, enumerated; every loss "
        "from one bare run of the model",
        control=f"with 10 evaluations: {stuck.best[-1] - best:.2g} nats above the best",
        deviation=float(max(off, abs(least - best))),
        tolerance=FLOAT32,
        unit="nats, and standard deviations of the losses",
    )


def test_price_is_the_budget() -> None:
    """Bits are those of ``budget`` for any tree that moves can reach, also two levels deep."""
    behavior = population("paren-strings", 120, "paren-balancer")
    inputs = Inputs.of(behavior, token_names("paren-strings", "paren-balancer"))
    info = catalogue.info("paren-balancer")
    rng = np.random.default_rng(0)
    depths: set[int] = set()
    for exact, depth in ((True, 2), (False, 1)):
        space = Space.of(info, searched_half(inputs), depth=depth, exact=exact)
        graph = moves.start(space, "components exact" if exact else "empty")
        seen: set[str] = set()
        for _ in range(30):
            changes = moves.neighbours(graph, space, rng)
            kinds = [c for c in changes[:5] if len(graph.children) > 2 or c.what != "remove"]
            move = kinds[int(rng.integers(len(kinds)))]
            graph = move.made(graph)
            seen.add(move.what)
            hypothesis = space.hypothesis(graph)
            check(hypothesis, info, {*inputs.columns, *inputs.names}, inputs.ids.shape[1])
            paid = budget(hypothesis, searched_half(inputs), info, 1)
            assert space.bits(graph) == pytest.approx(paid.channel_bits + paid.structure_bits)
            assert moves.tidy(graph) == graph
            depths.add(2 if any(child.children for child in graph.children) else 1)
        assert seen == {"add", "remove", "agree", "merge", "split"}
    assert depths == {1, 2}


def test_no_single_feature_or_pair_at_a_node_determines_the_label() -> None:
    behavior = population("paren-strings", 400, "paren-balancer")
    inputs = searched_half(Inputs.of(behavior, token_names("paren-strings", "paren-balancer")))
    space = Space.of(catalogue.info("paren-balancer"), inputs)
    assert space.told == ("balanced",)
    graph = moves.root(Node(site="m1", agree="count"), Node(site="m2", agree="horizon"))
    offered = [*space.options(graph), *space.changes(graph.children[0], graph)]
    assert EXACT not in offered
    assert "length" in offered
    assert ("count", "start") in offered
    assert ("count", "horizon") not in offered
    for agree in offered:
        names = Node(site="m2", agree=agree).features
        told: dict[tuple[int, ...], set[int]] = {}
        for i, label in enumerate(inputs.labels.tolist()):
            key = tuple(int(space.inputs.columns[name][i]) for name in names)
            told.setdefault(key, set()).add(label)
        assert any(len(labels) > 1 for labels in told.values()), agree


# --- what is held out -----------------------------------------------------------------------------


def same_search(one: Searched, other: Searched) -> bool:
    arrays = ("values", "bits", "start", "current", "best")
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in arrays) and [
        c.hypothesis for c in one.front
    ] == [c.hypothesis for c in other.front]


def test_held_out_inputs_are_never_touched_by_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, plan = arrays(), replace(PLAN, evaluations=60, restarts=1)
    assert inputs.held_out is not None
    own = {tuple(row) for row in inputs.ids[~inputs.held_out].tolist()}
    assert not own & {tuple(row) for row in inputs.ids[inputs.held_out].tolist()}
    sizes: list[tuple[int, int]] = []
    caches: list[Inputs] = []
    draw, cache_of = Sampler.draw, searching.cache_of

    def drawn(self: Sampler, refs: NDArray[np.int64], seed: int, replicate: int) -> object:
        found = draw(self, refs, seed, replicate)
        rows = [refs, *found.row.values(), *map(np.asarray, found.other.values())]
        sizes.append((self.n, max((int(np.max(r)) for r in rows if len(r)), default=0)))
        return found

    monkeypatch.setattr(Sampler, "draw", drawn)
    monkeypatch.setattr(
        searching, "cache_of", lambda model, of: caches.append(of) or cache_of(model, of)
    )
    space = Space.of(catalogue.info(MODEL), searched_half(inputs), LIBRARY)
    for _, state in search(load(MODEL, "cpu"), inputs, space, plan):
        if state.held_out is None:
            assert len(caches) == 1
            assert {tuple(row) for row in caches[0].ids.tolist()} == own
            assert all(n == len(own) and row < n for n, row in sizes)
    # The control: the test at the end does touch them, and only there.
    assert any(not {tuple(row) for row in of.ids.tolist()} <= own for of in caches)
    # Other held-out inputs change nothing that is found; other labels of those searched do.
    rng = np.random.default_rng(1)
    labels = inputs.labels.copy()
    labels[inputs.held_out] = rng.permutation(labels[inputs.held_out])
    swapped = inputs.ids.copy()
    swapped[inputs.held_out] = rng.permutation(swapped[inputs.held_out])
    before, tested = run(inputs, plan)
    after, other = run(replace(inputs, labels=labels, ids=swapped), plan)
    assert same_search(before, after)
    assert tested.front[0].held_out != other.front[0].held_out
    mixed = inputs.labels.copy()
    mixed[~inputs.held_out] = rng.permutation(mixed[~inputs.held_out])
    assert not same_search(before, run(replace(inputs, labels=mixed), plan)[0])


def hints(labels: NDArray[np.int64], letters: int) -> NDArray[np.int64]:
    """A true feature that does not quite determine the label: on a quarter it is any letter."""
    rng = np.random.default_rng(4)
    other = rng.integers(1, letters, len(labels))
    return np.where(rng.random(len(labels)) < 0.25, other, labels)


def gains(inputs: Inputs, library: Mapping[str, str]) -> tuple[float, float, float]:
    """By how much the best hypothesis is below the empty one: searched, held out, its error."""
    plan = replace(PLAN, price=0.0, restarts=0, evaluations=200, nulls=0)
    searched, tested = run(inputs, plan, library)
    assert inputs.held_out is not None
    of = half(inputs, inputs.held_out)
    best = tested.front[0]
    space = Space.of(catalogue.info(MODEL), of, library)
    on = searching.Half(load(MODEL, "cpu"), of, "loss", plan.seed)
    empty = on.scrubber(space.bare(moves.root()))
    on.levels()
    change = on.mean(empty, range(1, 1 + searching.DRAWS)) - best.values
    error = float(change.std(ddof=1) / len(change) ** 0.5)
    return float(searched.values[0]) - best.search, float(change.mean()), error


def test_chance_is_found_out_by_the_half_held_out(ledger: Note) -> None:
    """Features that mean nothing win where they were chosen, and nothing elsewhere."""
    inputs, rng = arrays(LARGE, 1000), np.random.default_rng(3)
    noise = {f"coin_{k}": rng.integers(2, size=len(inputs)) for k in range(30)}
    inputs = replace(inputs, columns={**noise, "hint": hints(inputs.labels, 27)})
    coins = {name: f'column("{name}")' for name in noise}
    searched, held_out, error = gains(inputs, coins)
    print(f"coins: searched {searched:.3f}, held out {held_out:.3f} ± {error:.3f}")
    assert searched > 3 * error
    assert abs(held_out) < 3 * error
    true, kept, other = gains(inputs, {**coins, "hint": 'column("hint")'})
    print(f"with a true feature: searched {true:.3f}, held out {kept:.3f} ± {other:.3f}")
    assert kept > 20 * other
    assert true - kept < 0.3 * true
    ledger(
        kind=KIND,
        oracle="30 coins as features: nothing is gained on inputs held out",
        control=f"on those searched {searched / error:.0f} standard errors are; with a true "
        f"feature {kept / other:.0f} on those held out",
        deviation=abs(held_out) / error,
        tolerance=3.0,
        unit="standard errors",
    )


# --- the rest -------------------------------------------------------------------------------------


def test_a_seed_decides_everything() -> None:
    plan = replace(PLAN, evaluations=60, restarts=1)
    first, tested = run(arrays(), plan)
    again, tested_again = run(arrays(), plan)
    assert same_search(first, again)
    assert np.array_equal(tested.front[0].values, tested_again.front[0].values)
    assert np.array_equal(tested.front[0].null, tested_again.front[0].null)
    assert not same_search(first, run(arrays(), replace(plan, seed=1))[0])


def test_search_ends_where_no_single_change_helps() -> None:
    """At such an end every change is looked at, and none falls by more than its standard error."""
    inputs, plan = arrays(), replace(PLAN, restarts=0, evaluations=3000)
    inputs = replace(inputs, columns={**inputs.columns, "hint": hints(inputs.labels, 6)})
    library = {**LIBRARY, "hint": 'column("hint")'}
    space = Space.of(catalogue.info(MODEL), searched_half(inputs), library)
    states = [s for _, s in search(load(MODEL, "cpu"), inputs, space, plan)]
    assert states[-1].optima == states[-1].starts == 1
    hint = searched_half(inputs).columns["hint"].tolist()
    of = Enumerated(searched_half(inputs), {**enumerated().library, "hint": hint})
    end = next(
        one.hypothesis
        for one in states[-1].front
        if abs(one.search + plan.price * one.bits - states[-1].current[-1]) < 1e-9
    )
    graph = moves.tidy(Hypothesis.model_validate_json(end).graph)

    def values(tree: dict[str, tuple[str, ...]]) -> Array:
        speaking = [site for site in tree if SPEAKS in site.split("+")]
        rows = of.taken(*((speaking[0], tree[speaking[0]]) if speaking else ("logits other", ())))
        return -of.log_p[rows, of.labels]

    def fall(tree: dict[str, tuple[str, ...]]) -> tuple[float, float]:
        change = values(plain(graph)) - values(tree)
        saved = plan.price * (of.bits(plain(graph)) - of.bits(tree))
        return float(change.mean()) + saved, float(change.std(ddof=1) / len(change) ** 0.5)

    changes = moves.neighbours(graph, space, np.random.default_rng(0))
    falls = [fall(plain(move.made(graph))) for move in changes]
    assert all(gain <= error + FLOAT32 for gain, error in falls)
    # The control: from where the search began some change does help.
    graph = moves.root()
    changes = moves.neighbours(graph, space, np.random.default_rng(0))
    assert any(gain > error for gain, error in (fall(plain(move.made(graph))) for move in changes))


def test_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    values, bits = rng.integers(0, 9, 60) / 2, rng.integers(0, 9, 60) / 3
    front = pareto(values, bits)
    points = list(zip(values.tolist(), bits.tolist(), strict=True))
    alone = {
        (v, b)
        for v, b in points
        if not any(x <= v and y <= b and (x, y) != (v, b) for x, y in points)
    }
    assert {points[i] for i in front} == alone
    assert len(front) == len(alone)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_inputs": 40}, "Choose inputs of which 20 or more"),
        ({"model": MODEL, "behavior": "paren-strings"}, "paren-balancer"),
        (
            {
                "model": "two-mechanisms-induction",
                "behavior": "two-mechanisms-induction",
                "n_inputs": 400,
                "depth": 2,
            },
            "differ in length",
        ),
    ],
)
def test_bad_questions_are_refused(fields: dict[str, object], said: str) -> None:
    analysis = analyses.get(KIND)
    with pytest.raises(BadInput) as error:
        analysis.inputs(HypothesisSearch.model_validate({"kind": KIND, **fields}))
    assert said in " ".join(map(str, error.value.args))

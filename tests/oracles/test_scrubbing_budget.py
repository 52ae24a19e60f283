"""What a hypothesis lets through: closed forms, plain loops, and the chances of whole chains."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import comb, log, log2

import numpy as np
import pytest
from numpy.typing import NDArray

from interp.errors import BadInput
from interp.explanations.hypothesis import Agree, Feature, Hypothesis, Near, Node
from interp.methods.scrubbing.budget import (
    MOST_PARTITIONS,
    MOST_TOGETHER,
    Budget,
    NodeBudget,
    budget,
    check_classes,
)
from interp.methods.scrubbing.channels import chance_bits, in_common, mutual_bits
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.draws import Sampler
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Note = Callable[..., None]

MODEL = catalogue.info("paren-balancer")
SITES = ("a1.h0", "a1.h1", "a2.h0", "a2.h1", "m0", "m1", "m2", "a0.h0", "a0.h1", "embed")
ROUNDING = 1e-12


def inputs(
    labels: Sequence[int], columns: dict[str, Sequence[float]], ids: object = None
) -> Inputs:
    """Make inputs, different ones if nothing is said, with features as columns."""
    n = len(labels)
    tokens = np.arange(n)[:, None] if ids is None else np.array(ids)
    return Inputs(
        ids=tokens,
        lengths=np.full(n, tokens.shape[1]),
        read=0,
        labels=np.array(labels),
        foils=np.full(n, -1),
        columns={name: np.array(values) for name, values in columns.items()},
    )


def flat(*agree: Agree, **more: object) -> Hypothesis:
    """Make a hypothesis with one node directly below the root for each."""
    nodes = [Node(id=f"n{i}", site=SITES[i], agree=of) for i, of in enumerate(agree)]
    root = Node(site="logits", agree="exact", children=tuple(nodes), **more)  # type: ignore[arg-type]
    return Hypothesis(graph=root)


def chain(*agree: Agree) -> Hypothesis:
    """Make a hypothesis whose nodes are each below the one before."""
    node: Node | None = None
    for i, of in reversed(list(enumerate(agree))):
        below = () if node is None else (node,)
        node = Node(id=f"n{i}", site=f"a{9 - i}.h0", agree=of, children=below)
    assert node is not None
    return Hypothesis(graph=Node(site="logits", agree="exact", children=(node,)))


def asked(hypothesis: Hypothesis, of: Inputs, draws: int = 1) -> Budget:
    return budget(hypothesis, of, MODEL, draws)


def by_name(found: Budget) -> dict[str, NodeBudget]:
    return {node.node: node for node in found.nodes}


def sets(found: Budget) -> set[frozenset[str]]:
    """Write the leaks out: one node of each group."""
    return {frozenset(some) for leak in found.leaks for some in product(*leak.groups)}


def coins(k: int, copies: int = 1) -> dict[str, Ints]:
    """Return all outcomes of ``k`` coins, each as often."""
    every = np.array(list(product([0, 1], repeat=k)) * copies)
    return {name: every[:, i] for i, name in enumerate("abcdefgh"[:k])}


# --- closed forms --------------------------------------------------------------------------------


def test_independent_coins() -> None:
    """The label is one of three coins: a bit each, a bit about the label in one of them."""
    of = coins(3, copies=5)
    found = asked(flat("a", "b", ("b", "c"), "exact", "any"), inputs(of["a"], of))
    a, b, both, exact, anything = found.nodes
    assert found.label_bits == pytest.approx(1, abs=ROUNDING)
    assert [n.own_bits for n in found.nodes] == pytest.approx([1, 1, 2, log2(40), 0], abs=ROUNDING)
    assert [n.label_bits for n in found.nodes] == pytest.approx([1, 0, 0, 1, 0], abs=1e-9)
    assert [n.classes for n in found.nodes] == [2, 2, 4, 40, 1]
    assert [n.smallest for n in found.nodes] == [20, 20, 10, 1, 40]
    assert [n.median for n in found.nodes] == [20, 20, 10, 1, 40]
    assert [n.singletons for n in found.nodes] == [0, 0, 0, 1, 0]
    assert (a.leaks, b.leaks, both.leaks, exact.leaks, anything.leaks) == (1, 0, 0, 1, 0)
    assert found.channel_bits == pytest.approx(4 + log2(40))
    assert sets(found) == {frozenset({"n0"}), frozenset({"n3"})}
    assert {leak.groups[0][0]: leak.kind for leak in found.leaks} == {
        "n0": "feature",
        "n3": "identity",
    }


def test_unequal_shares() -> None:
    """A feature true of a quarter: h(1/4) bits, and what a quarter of them say about another."""
    h = -(0.25 * log2(0.25) + 0.75 * log2(0.75))
    of = coins(2, copies=25)
    both = of["a"] & of["b"]
    node = asked(flat("both"), inputs(of["a"], {"both": both})).nodes[0]
    assert node.own_bits == pytest.approx(h, abs=ROUNDING)
    assert node.label_bits == pytest.approx(h - 0.5, abs=1e-9)
    assert (node.smallest, node.median) == (25, 75)


def test_parity_leaks_only_all_together() -> None:
    """Each coin alone knows nothing of a parity, and any but all of them nothing either."""
    for k in (2, 3, 4):
        of = coins(k, copies=10)
        parity = sum(of.values()) % 2
        found = asked(flat(*of), inputs(parity, of))
        assert [n.label_bits for n in found.nodes] == pytest.approx([0] * k, abs=1e-9)
        assert not any(n.leaks for n in found.nodes)
        assert sets(found) == {frozenset(f"n{i}" for i in range(k))}
        assert (found.joint_classes, found.joint_bits) == (2**k, pytest.approx(k))
        assert found.joint_label_bits == pytest.approx(1)
        assert found.leaking_nodes == tuple(f"n{i}" for i in range(k))
        assert found.leaks[0].kind == "feature"
        without = asked(flat(*list(of)[1:]), inputs(parity, of))
        assert (without.leaks, without.unsearched) == ((), "")


def test_parity_of_too_many_is_said_not_to_be_searched() -> None:
    k = MOST_TOGETHER + 1
    of = coins(k, copies=4)
    found = asked(flat(*of), inputs(sum(of.values()) % 2, of))
    assert found.leaks == ()
    assert found.joint_label_bits == pytest.approx(1)
    assert "no set that was searched does" in found.unsearched


def test_more_partitions_than_are_searched() -> None:
    rng = np.random.default_rng(0)
    n = 400
    label = rng.integers(0, 2, n)
    noise = {f"x{i}": rng.integers(0, 2, n) for i in range(MOST_PARTITIONS + 1)}
    nodes = tuple(
        Node(id=name, site="embed", pos=(i,), agree=name)
        for i, name in enumerate([*noise, "label"])
    )
    hypothesis = Hypothesis(graph=Node(site="logits", agree="exact", children=nodes))
    found = asked(hypothesis, inputs(label, {**noise, "label": label}))
    assert frozenset({"label"}) in sets(found)
    assert f"Of {MOST_PARTITIONS + 2} different partitions" in found.unsearched


def test_and_of_two_has_one_pair_and_groups() -> None:
    """Nodes that pass on the same stand for each other, a feature and its negation too."""
    of = coins(2, copies=30)
    columns = {"a": of["a"], "not_a": 1 - of["a"], "b": of["b"], "both": of["a"] & of["b"]}
    found = asked(flat("a", "not_a", "b"), inputs(columns["both"], columns))
    assert [leak.groups for leak in found.leaks] == [(("n0", "n1"), ("n2",))]
    assert sets(found) == {frozenset({"n0", "n2"}), frozenset({"n1", "n2"})}
    alone = asked(flat("a", "both", "b"), inputs(columns["both"], columns))
    assert sets(alone) == {frozenset({"n1"}), frozenset({"n0", "n2"})}


def test_copies_of_an_input_are_one() -> None:
    ids = [[i // 4, 7] for i in range(80)]
    label = [i // 40 for i in range(80)]
    exact = asked(flat("exact"), inputs(label, {}, ids)).nodes[0]
    assert (exact.classes, exact.smallest, exact.own_bits) == (20, 4, pytest.approx(log2(20)))
    at_random = [i % 2 for i in range(80)]  # two labels on copies of one input
    found = asked(flat("exact"), inputs(at_random, {}, ids))
    assert found.nodes[0].label_bits == pytest.approx(0, abs=1e-9)
    assert found.leaks == ()


def test_near_counts_about_the_bits_of_its_neighbourhood() -> None:
    value = np.random.default_rng(1).permutation(200)
    node = asked(flat(Near(near="v", k=10)), inputs(value % 2, {"v": value})).nodes[0]
    assert (node.own_bits, node.smallest) == (pytest.approx(log2(200 / 10)), 10)
    assert not node.leaks
    assert asked(flat(Near(near="v", k=10)), inputs(value // 100, {"v": value})).nodes[0].leaks


def test_structure_counts_what_could_stand_there() -> None:
    """By hand: 3 layers of two heads and an MLP and two embeddings are 11 terms; before L1, 5."""
    of = coins(2, copies=10)
    below = Node(site="a0.h0", agree="a")
    stream = Node(site="resid", pos=(1,), agree="a", children=(below,))
    nodes = (
        Node(site="a1.h0", agree="a", children=(stream, Node(site="mask", agree="b"))),
        Node(site="a2.h0+m2", agree="b"),
        Node(site="m0", agree="b", children=(Node(site="a0.h1", agree="a"),)),
    )
    hypothesis = Hypothesis(graph=Node(site="logits", agree="exact", children=nodes))
    wanted = log2(11) + log2(5) + log2(comb(11, 2)) + log2(11) + log2(4)
    assert asked(hypothesis, inputs(of["a"], of)).structure_bits == pytest.approx(wanted)


# --- mutual information --------------------------------------------------------------------------


def plain_bits(one: Sequence[int], other: Sequence[int], base: float = 2) -> float:
    """Mutual information by loops over the cells of a table."""
    n, found = len(one), 0.0
    for x in set(one):
        for y in set(other):
            both = sum(a == x and b == y for a, b in zip(one, other, strict=True)) / n
            if both:
                alone = one.count(x) / n * (other.count(y) / n)
                found += both * log(both / alone, base)
    return found


def test_mutual_information_against_plain_loops(ledger: Note) -> None:
    rng = np.random.default_rng(2)
    worst, control = 0.0, 0.0
    for _ in range(40):
        n, classes, labels = rng.integers(5, 80), rng.integers(2, 12), rng.integers(2, 6)
        x = rng.integers(0, classes, n)
        y = np.where(rng.random(n) < 0.5, x % labels, rng.integers(0, labels, n))
        wanted = plain_bits(x.tolist(), y.tolist())
        found = mutual_bits(Classes.of([x]), Classes.of([y]))
        worst = max(worst, abs(found - wanted))
        control = max(control, abs(found - plain_bits(x.tolist(), y.tolist(), base=np.e)))
    ledger(
        kind="causal_scrubbing",
        oracle="mutual information by loops over a table",
        control="nats for bits",
        deviation=worst,
        control_deviation=control,
        tolerance=ROUNDING,
        unit="bits",
    )
    assert worst < ROUNDING < 0.01 < control


def test_chance_is_what_independent_draws_give(ledger: Note) -> None:
    """The mean over draws of two independent variables, truth 0; and of a label that is sure."""
    rng = np.random.default_rng(3)
    n, draws = 300, 800
    seen, said = np.empty(draws), np.empty(draws)
    for i in range(draws):
        x, y = Classes.of([rng.integers(0, 5, n)]), Classes.of([rng.integers(0, 4, n)])
        seen[i], said[i] = mutual_bits(x, y), chance_bits(x, y)
    first_order = 4 * 3 / (2 * n * log(2))
    error = seen.std() / draws**0.5
    assert said.mean() == pytest.approx(first_order, rel=1e-3)
    # The next term of the bias is of the order of the first over n.
    off, control = abs(seen.mean() - said.mean()), abs(seen.mean())
    ledger(
        kind="causal_scrubbing",
        oracle="bias of mutual information, from independent draws",
        control="no bias",
        deviation=off,
        control_deviation=control,
        tolerance=4 * error + 0.02 * first_order,
        unit="bits",
    )
    assert off < 4 * error + 0.02 * first_order < control
    truth = 2.0
    sure = [Classes.of([rng.integers(0, 4, 60)]) for _ in range(draws)]
    bits = np.array([mutual_bits(x, x) for x in sure])
    bias = np.array([chance_bits(x, x) for x in sure])
    assert abs((bits - bias).mean() - truth) < 4 * bits.std() / draws**0.5 + 0.002
    assert (bits.mean() - truth) < -0.02  # without the correction it is too low, not too high


# --- chains --------------------------------------------------------------------------------------


def kernel(values: Ints | None, n: int) -> Array:
    """Chance of each input to be taken, given the one above: uniform in its class."""
    if values is None:
        return np.eye(n)
    same = (values[:, None] == values).astype(float)
    return same / same.sum(1, keepdims=True)


def informs(chances: Array, labels: Ints, values: Ints) -> tuple[float, bool]:
    """Return the bits of a class about the reference's label, and whether it determines it."""
    table = np.array(
        [
            [chances[labels == y][:, values == c].sum() / len(labels) for c in np.unique(values)]
            for y in np.unique(labels)
        ]
    )
    expected = table.sum(1, keepdims=True) * table.sum(0)
    there = table > 1e-15
    bits = float((table[there] * np.log2(table[there] / expected[there])).sum())
    return bits, bool((there.sum(0) == 1).all())


def random_chains(seed: int) -> Iterator[tuple[Hypothesis, Inputs, list[Ints | None], Ints]]:
    """Yield chains of features, many of which have much to do with the label."""
    rng = np.random.default_rng(seed)
    for _ in range(60):
        n, depth = 24, int(rng.integers(1, 4))
        labels = np.arange(n) % 3
        columns: dict[str, Ints] = {}
        for i in range(depth):
            finer = labels * 4 + rng.integers(0, 3, n)
            kinds = (labels, finer, rng.integers(0, 3, n), np.maximum(labels, 1) * (i + 1))
            columns[f"f{i}"] = kinds[rng.choice(4, p=[0.35, 0.35, 0.1, 0.2])]
        yield chain(*columns), inputs(labels.tolist(), columns), list(columns.values()), labels


def test_what_reaches_a_node_against_the_chances_of_its_chain(ledger: Note) -> None:
    """The product of plain matrices; a chain leaks if and only if the label is certain."""
    worst, control, leaking, not_leaking = 0.0, 0.0, 0, 0
    for hypothesis, of, columns, labels in random_chains(4):
        found = by_name(asked(hypothesis, of))
        chances = np.eye(len(labels))
        for i, values in enumerate(columns):
            assert values is not None
            chances = chances @ kernel(values, len(labels))
            bits, certain = informs(chances, labels, values)
            node = found[f"n{i}"]
            worst = max(worst, abs(node.reaching_bits - bits))
            control = max(control, abs(node.label_bits - bits))
            if i == len(columns) - 1:
                assert node.leaks == certain
                assert (found["n0"].leaks, bool(asked(hypothesis, of).leaks)) == (certain, certain)
                leaking, not_leaking = leaking + certain, not_leaking + (not certain)
    ledger(
        kind="causal_scrubbing",
        oracle="information through chains of nodes, from products of their chances",
        control="agreement with the reference instead of the node above",
        deviation=worst,
        control_deviation=control,
        tolerance=1e-9,
        unit="bits",
    )
    assert worst < 1e-9 < 0.1 < control
    assert min(leaking, not_leaking) >= 10


def test_exact_links_lose_nothing() -> None:
    of = coins(2, copies=6)
    found = by_name(asked(chain("exact", "a", "exact"), inputs(of["a"], of)))
    assert [node.reaching_bits for node in found.values()] == pytest.approx([1, 1, 1])
    assert all(node.leaks for node in found.values())


def test_what_reaches_a_node_is_what_the_sampler_lets_through() -> None:
    """Measured on the rows that the sampler draws; the node above has lost some of the label."""
    rng = np.random.default_rng(5)
    n, times = 60, 4000
    labels = rng.integers(0, 2, n)
    columns = {"up": np.where(rng.random(n) < 0.4, 1 - labels, labels), "down": labels.copy()}
    columns["down"][rng.random(n) < 0.2] = 2
    hypothesis, of = chain("up", "down"), inputs(labels.tolist(), columns)
    refs = np.tile(np.arange(n), times)
    rows = Sampler(hypothesis, of.values(hypothesis), n, MODEL).draw(refs, 0, 0).row
    node = by_name(asked(hypothesis, of))["n1"]
    measured = mutual_bits(Classes.of([labels[refs]]), Classes.of([columns["down"][rows["n1"]]]))
    assert measured == pytest.approx(node.reaching_bits, abs=0.004)
    assert abs(measured - node.label_bits) > 0.05


def test_nodes_below_let_through_what_their_parent_does_too() -> None:
    """Two parts of the label below the label leak it; the label below nothing does not."""
    of = coins(2, copies=10)
    columns = {**of, "both": of["a"] & of["b"]}
    data = inputs(columns["both"], columns)

    def over(above: str, *agree: str) -> Hypothesis:
        below = tuple(Node(id=f"c{i}", site=f"a0.h{i}", agree=f) for i, f in enumerate(agree))
        node = Node(id="top", site="a1.h0", agree=above, children=below)
        return Hypothesis(graph=Node(site="logits", agree="exact", children=(node,)))

    assert sets(asked(over("both", "a", "b"), data)) == {frozenset({"top"})}
    assert sets(asked(over("exact", "a", "b"), data)) == {frozenset({"top"})}
    for blind in (over("both", "a"), over("any", "both"), over("a", "both"), over("exact", "a")):
        found = asked(blind, data)
        assert found.leaks == ()
        assert not any(node.leaks for node in found.nodes)
    assert asked(over("any", "both"), data).joint_bits == 0
    assert asked(over("exact", "a"), data).joint_bits == pytest.approx(1)
    rest = Node(site="a1.h0", id="top", agree="both", other="exact", children=(Node(site="m0"),))
    whole = Hypothesis(graph=Node(site="logits", agree="exact", children=(rest,)))
    assert sets(asked(whole, data)) == {frozenset({"top"})}


def test_what_two_have_in_common_against_plain_spreading() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        one, other = rng.integers(0, 8, 20), rng.integers(0, 8, 20)
        codes = in_common(Classes.of([one]), Classes.of([other])).codes
        for i in range(20):
            reached, waiting = set[int](), {i}
            while waiting:
                at = waiting.pop()
                reached.add(at)
                linked = {j for j in range(20) if one[j] == one[at] or other[j] == other[at]}
                waiting |= linked - reached
            assert set(np.flatnonzero(codes == codes[i])) == reached


def test_leaks_are_minimal_against_all_subsets() -> None:
    """On random features, every subset of nodes is tried by plain comparison of inputs."""
    rng = np.random.default_rng(7)
    several = 0
    for _ in range(25):
        n = 40
        columns = {f"f{i}": rng.integers(0, 3, n) for i in range(5)}
        labels = (columns["f0"] == columns["f1"]) | (columns["f2"] > 1)
        found = sets(asked(flat(*columns), inputs(labels.astype(int), columns)))
        leaking = set[frozenset[int]]()
        for mask in range(1, 32):
            some = [i for i in range(5) if mask >> i & 1]
            rows: dict[tuple[int, ...], set[bool]] = {}
            for at in range(n):
                key = tuple(int(columns[f"f{i}"][at]) for i in some)
                rows.setdefault(key, set()).add(bool(labels[at]))
            if all(len(of) == 1 for of in rows.values()):
                leaking.add(frozenset(some))
        minimal = {one for one in leaking if not any(other < one for other in leaking)}
        wanted = {frozenset(f"n{i}" for i in one) for one in minimal if len(one) <= MOST_TOGETHER}
        assert found == wanted
        several += len(wanted) > 1
    assert several >= 3


def test_a_root_that_agrees_on_less_than_the_label_stops_it() -> None:
    of = coins(2, copies=10)

    def rooted(agree: str) -> Budget:
        root = Node(site="logits", agree=agree, children=(Node(site="m2", id="m", agree="a"),))
        return asked(Hypothesis(graph=root), inputs(of["a"], of))

    assert [node.node for node in rooted("b").nodes] == ["logits", "m"]
    assert (sets(rooted("a")), sets(rooted("b"))) == ({frozenset({"m"})}, set())
    assert by_name(rooted("b"))["m"].reaching_bits == pytest.approx(0, abs=1e-9)


# --- what is refused and what is said ------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "column", "said"),
    [
        ([0, 1] * 10, [3] * 20, "'f'.*it is 3"),
        ([1] * 20, [0, 1] * 10, "same right answer"),
        ([0, 1] * 10, [0.0, np.nan] * 10, "no finite number on input 1"),
        ([0, 1] * 10, [0.0] * 19 + [np.inf], "no finite number on input 19"),
    ],
)
def test_bad_input(labels: list[int], column: list[float], said: str) -> None:
    of = inputs(labels, {"f": column})
    for ask in (lambda: check_classes(flat("f"), of), lambda: asked(flat("f"), of)):
        with pytest.raises(BadInput, match=said) as error:
            ask()
        assert error.value.works
    check_classes(flat("f"), inputs([0, 1] * 10, {"f": [0, 1] * 10}))


def test_a_feature_in_one_bin_is_constant() -> None:
    hypothesis = flat("f").model_copy(
        update={"features": {"f": Feature(expr='column("v")', dtype="float", bins=2)}}
    )
    with pytest.raises(BadInput, match="share one bin"):
        check_classes(hypothesis, inputs([0, 1] * 10, {"v": [5.0] * 19 + [4.0]}))


def test_warnings() -> None:
    n = 60
    rare = [1, 1] + [0] * (n - 2)
    mostly = [*range(20), *([20] * 40)]
    of = inputs([0, 1] * (n // 2), {"rare": rare, "mostly": mostly, "half": [0, 1] * (n // 2)})
    assert asked(flat("half", "rare"), of, draws=2).warnings == ()
    few = asked(flat("half", "rare"), of, draws=3).warnings
    assert len(few) == 1
    assert "n1 (2)" in few[0]
    assert "3 draws" in few[0]
    assert any("n0 (33%)" in said for said in asked(flat("mostly"), of).warnings)
    assert any("Nothing is exchanged at n0" in said for said in asked(flat("exact"), of).warnings)
    assert any("other: exact" in said for said in asked(flat("half", other="exact"), of).warnings)
    partly = flat("half").model_copy(update={"swap_prob": 0.5})
    assert any("probability 0.5" in said for said in asked(partly, of).warnings)


def test_the_web_process_may_import_it() -> None:
    code = "import interp.methods.scrubbing.budget, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

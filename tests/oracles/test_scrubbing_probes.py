"""Probes of sites: a ridge classifier by least squares, sites from a transformer in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from interp.engine import terms
from interp.engine.terms import Terms
from interp.explanations.hypothesis import Hypothesis, Near, Node, Rewrite, Split
from interp.explanations.terms import parse_term
from interp.methods.scrubbing import probes
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.intervals import wilson
from interp.methods.scrubbing.probes import Decodable, NotAsked, decodable, want
from interp.methods.scrubbing.ridge import PENALTIES, basis, scores
from interp.methods.scrubbing.tree import Scrubber, cache_of
from tests.oracles._scrubbing import CAUSAL, ENCODER, Net, World, loaded, random_net

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Note = Callable[..., None]

LENGTH, MANY = 7, 110


# --- the classifier ------------------------------------------------------------------------------


def by_least_squares(
    x: Array, y: Array, codes: Ints, *, intercept_too: bool = False
) -> tuple[Array, float]:
    """Fit by ``lstsq`` with the penalty as further rows; leave inputs out by leaving them out.

    ``intercept_too`` penalises the intercept as well, which is a mistake.
    """
    varies = np.ptp(x, 0) > 1e-6 * np.abs(x).max()
    scale = x[:, varies].std(0)
    x, y = x[:, varies] / scale, y[:, varies] / scale
    targets = np.eye(codes.max() + 1)[codes]

    def fit(rows: Ints, penalty: float) -> Array:
        ones = np.ones((len(rows), 1))
        extra = np.sqrt(penalty * len(x)) * np.eye(x.shape[1] + 1)
        if not intercept_too:
            extra = extra[1:]
        # Centring makes the small system well conditioned; the intercept takes it up.
        system = np.concatenate([np.hstack([ones, x[rows] - x.mean(0)]), extra])
        wanted = np.concatenate([targets[rows], np.zeros((len(extra), targets.shape[1]))])
        return np.linalg.lstsq(system, wanted)[0]

    def predict(weights: Array, z: Array) -> Array:
        return weights[0] + (z - x.mean(0)) @ weights[1:]

    everyone = np.arange(len(x))
    errors: list[float] = []
    for penalty in PENALTIES:
        off = [predict(fit(np.delete(everyone, i), penalty), x[i]) - targets[i] for i in everyone]
        errors.append(float((np.array(off) ** 2).sum()))
    best = PENALTIES[int(np.argmin(errors))]
    return predict(fit(everyone, best), y), best


def problem(seed: int, columns: int) -> tuple[Array, Array, Ints]:
    """Draw classes that some columns know of, and columns of very different size."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(3), rng.integers(0, 3, 37)])
    known = rng.normal(size=(3, columns)) * (rng.random(columns) < 0.3)
    size = 10.0 ** rng.uniform(-2, 2, columns)
    x = (known[codes] + rng.normal(size=(40, columns)) * rng.uniform(0.2, 2)) * size
    y = (rng.normal(size=(25, columns)) + known[rng.integers(0, 3, 25)]) * size
    x[:, -1] = y[:, -1] = 4.0  # a constant column
    return x, y, codes


def test_ridge_against_least_squares(ledger: Note) -> None:
    worst, control, used = 0.0, np.inf, set[float]()
    for seed in range(6):
        x, y, codes = problem(seed, (4, 12, 70)[seed % 3])
        found = scores(basis(x, y), codes, 3)
        wanted, penalty = by_least_squares(x, y, codes)
        used.add(penalty)
        worst = max(worst, float(np.abs(found - wanted).max() / wanted.std()))
        broken, _ = by_least_squares(x, y, codes, intercept_too=True)
        control = min(control, float(np.abs(found - broken).max() / wanted.std()))
    ledger(
        kind="causal_scrubbing",
        oracle="ridge probe by numpy's lstsq, leaving each input out",
        control="the intercept penalised too",
        deviation=worst,
        control_deviation=control,
        tolerance=1e-7,
        unit="of the scores' standard deviation",
    )
    assert worst < 1e-7 < 1e-5 < control
    assert len(used) >= 2


def test_without_a_column_that_varies_it_guesses() -> None:
    codes = np.array([0, 1, 1, 2, 1, 0])
    found = scores(basis(np.full((6, 3), 0.1), np.full((4, 3), 0.2)), codes, 3)
    assert found == pytest.approx(np.tile([1 / 3, 1 / 2, 1 / 6], (4, 1)))
    rounding = 7 + 1e-9 * np.random.default_rng(0).normal(size=(6, 3))
    assert scores(basis(rounding, rounding), codes, 3).std(0) == pytest.approx([0, 0, 0])


def test_wilson_against_scipy() -> None:
    for right, n in ((0, 20), (7, 33), (40, 40), (513, 1000)):
        ends = stats.binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right, n) == pytest.approx((ends.low, ends.high), abs=1e-6)


# --- sites ---------------------------------------------------------------------------------------


@lru_cache
def crowd(name: str) -> World:
    """Many inputs of seven positions, for the encoder of several lengths."""
    net = random_net(2, causal=name == CAUSAL, d_out=3)
    rng = np.random.default_rng(11)
    position = {"pos_embed.W_pos": rng.normal(0, 0.5, (LENGTH, net.d_model))}
    net = Net({**net.shape, "n_ctx": LENGTH}, {**net.w, **position})
    ids = rng.integers(1, 6, (3 * MANY, LENGTH))
    lengths = np.full(len(ids), LENGTH) if name == CAUSAL else rng.integers(3, LENGTH + 1, len(ids))
    ids = np.where(np.arange(LENGTH) < lengths[:, None], ids, -1)
    different = np.sort(np.unique(ids, axis=0, return_index=True)[1])[:MANY]
    ids, lengths = ids[different], lengths[different]
    columns = {
        "first": ids[:, 0] % 3,
        "second": (ids[:, 1] > 3).astype(int),
        "sum": np.where(ids > 0, ids, 0).sum(1) // 5,
        "more": (ids == 2).sum(1) > (ids == 3).sum(1),
        "chance": rng.integers(0, 2, MANY),
    }
    return World(
        net=net,
        ids=ids,
        lengths=lengths,
        read=LENGTH - 1 if name == CAUSAL else 0,
        labels=rng.integers(0, 3, MANY),
        foils=np.full(MANY, -1),
        columns={name: np.asarray(of, dtype=np.int64) for name, of in columns.items()},
    )


def made(world: World, held_out: Ints | None = None) -> tuple[Terms, Inputs]:
    """Load the network and its inputs as the app has them."""
    inputs = Inputs(
        ids=world.ids,
        lengths=world.lengths,
        read=world.read,
        labels=world.labels,
        foils=world.foils,
        columns=world.columns,
        held_out=None if held_out is None else held_out.astype(bool),
        pad=world.pad,
    )
    return cache_of(loaded(world.net, torch.float64, read=world.read), inputs), inputs


def hypothesis(*nodes: Node, rewrites: Sequence[Rewrite] = ()) -> Hypothesis:
    root = Node(site="logits", agree="exact", children=nodes)
    return Hypothesis(graph=root, rewrites=tuple(rewrites))


DIRECTION = tuple(float(i) for i in range(1, 9))


def everything(read: int) -> Hypothesis:
    """Name sites of all kinds, at the position read, at listed ones and everywhere."""
    stream = Node(
        site="resid",
        id="stream",
        pos=(1,),
        agree="second",
        children=(
            Node(site="a0.h1", id="through", via="mlps", agree="first"),
            Node(site="embed", id="through-embed", via="mlps", agree="second"),
        ),
    )
    below = (
        stream,
        Node(site="a0.h0", id="query", into="q", agree="first"),
        Node(site="m0", id="key", into="k", pos=(0, 2), agree="more"),
        Node(site="embed", id="value", into="v", pos=(3, read), agree="sum"),
    )
    nodes = (
        Node(site="a1.h0", id="top", agree="sum", children=below),
        Node(
            site="m1",
            id="mlp",
            agree=("first", "second"),
            children=(Node(site="a1.h1+a0.h0", id="pair", agree="more"),),
        ),
        Node(
            site="a1.h1",
            id="head",
            pos="read",
            agree="chance",
            children=(Node(site="a0.h0+m0", id="everywhere", into="v", agree="sum"),),
        ),
        Node(site="a0.h0#part", id="part", agree="first"),
        Node(site="a0.h0#rest", id="rest", agree="first"),
        Node(site="a0.h1", id="self", attn_term="self", agree="first"),
        Node(site="m0", id="any", via="any", agree="more"),
    )
    rewrite = Rewrite(site="a0.h0", split=Split(direction=DIRECTION))
    return hypothesis(*nodes, rewrites=[rewrite])


def written(world: World, site: str, only: str | None = None) -> Array:
    """Sum what terms write, padding as zeros: ``[input, pos, d]``."""
    whole = sum(world.out(parse_term(term), only) for term in site.split("+"))
    return np.where(np.arange(LENGTH) < world.lengths[:, None], 1, 0)[:, :, None] * whole


def averaged(world: World, x: Array, *beside: int) -> Array:
    """The mean over the positions of each input, and some positions beside."""
    mean = np.array([row[:n].mean(0) for row, n in zip(x, world.lengths, strict=True)])
    return np.hstack([mean, *(x[:, p] for p in beside)])


def sites(world: World) -> dict[str, Array]:
    """What each node's site writes, worked out from the transformer in numpy."""
    read, x = world.read, written
    unit = np.array(DIRECTION) / np.linalg.norm(DIRECTION)
    part = np.outer(x(world, "a0.h0")[:, read] @ unit, unit)
    net = world.net
    before = sum(x(world, str(term)) for term in net.terms(2)) + net.biases(2)
    return {
        "top": x(world, "a1.h0")[:, read],
        "stream": before[:, 1],
        "through": x(world, "a0.h1")[:, 1],
        "through-embed": x(world, "embed")[:, 1],
        "query": x(world, "a0.h0")[:, read],
        "key": x(world, "m0")[:, [0, 2]].reshape(MANY, -1),
        "value": x(world, "embed")[:, sorted({3, read})].reshape(MANY, -1),
        "mlp": x(world, "m1")[:, read],
        "pair": x(world, "a1.h1+a0.h0")[:, read],
        "head": x(world, "a1.h1")[:, read],
        "everywhere": averaged(world, x(world, "a0.h0+m0"), read),
        "part": part,
        "rest": x(world, "a0.h0")[:, read] - part,
        "self": x(world, "a0.h1", "self")[:, read],
        "any": averaged(world, x(world, "m0"), read),
    }


def one_hot(ids: Ints) -> Array:
    return (ids[:, :, None] == np.arange(-1, 6)).reshape(len(ids), -1).astype(float)


def tokens(world: World, last: int, at: Sequence[int]) -> Array:
    """How often each token occurs up to a position, and which stand at some."""
    counts = np.array([[list(row[: last + 1]).count(t) for t in range(6)] for row in world.ids])
    return np.hstack([counts.astype(float), one_hot(world.ids[:, list(at)])])


def accuracy(x: Array, values: Ints) -> float:
    """Train on even rows and test on odd ones."""
    codes = np.unique(values, return_inverse=True)[1]
    found, _ = by_least_squares(x[::2], x[1::2], codes[::2])
    return float((found.argmax(1) == codes[1::2]).mean())


@pytest.mark.parametrize("name", [CAUSAL, ENCODER])
def test_every_kind_of_site(name: str, ledger: Note) -> None:
    """Accuracies are the same to the last input; at another position or site they are not."""
    world = crowd(name)
    assert len({tuple(row) for row in world.ids}) == MANY
    cache, inputs = made(world)
    found = decodable(cache, everything(world.read), inputs)
    assert all(isinstance(one, Decodable) for one in found)
    expected = sites(world)
    assert {one.node for one in found} == set(expected)
    worst, others = 0.0, list[float]()
    for one in found:
        assert isinstance(one, Decodable)
        values = world.columns[one.feature]
        wanted = accuracy(expected[one.node], values)
        worst = max(worst, abs(one.accuracy - wanted))
        if len(others) < 6:
            others.append(abs(one.accuracy - accuracy(written(world, "m1")[:, 2], values)))
        test, train = values[1::2], values[::2]
        assert one.majority == pytest.approx((test == np.bincount(train).argmax()).mean())
        assert (one.n_train, one.n_test) == (MANY // 2, MANY // 2)
        assert (one.low, one.high) == wilson(one.accuracy * one.n_test, one.n_test)
        assert one.low < one.accuracy < one.high or one.accuracy in (0, 1)
    ledger(
        kind="causal_scrubbing",
        oracle=f"accuracy of probes by lstsq at sites of a numpy {name} network",
        control="another site and position (median)",
        deviation=worst,
        control_deviation=float(np.median(others)),
        tolerance=1e-9,
        unit="share",
    )
    assert worst < 1e-9 < 0.02 < np.median(others)


@pytest.mark.parametrize("name", [CAUSAL, ENCODER])
def test_tokens_alone(name: str) -> None:
    """The same probe on tokens; in a causal model only on those that the site can see."""
    world = crowd(name)
    cache, inputs = made(world)
    found = {
        (one.node, one.feature): one for one in decodable(cache, everything(world.read), inputs)
    }
    causal, read = name == CAUSAL, world.read
    for node, at in (("stream", [1]), ("key", [0, 2]), ("top", [read]), ("everywhere", [read])):
        (one,) = (one for key, one in found.items() if key[0] == node)
        assert isinstance(one, Decodable)
        last = max(at) if causal else LENGTH - 1
        assert one.tokens == accuracy(tokens(world, last, at), world.columns[one.feature])
    stream, mlp = found["stream", "second"], found["mlp", "first"]
    assert isinstance(stream, Decodable)
    assert isinstance(mlp, Decodable)
    assert stream.tokens == 1  # the token at position 1 decides it
    if not causal:
        assert mlp.tokens == 1  # the token read decides it


def test_where_is_said() -> None:
    world = crowd(CAUSAL)
    cache, inputs = made(world)
    said = {one.node: one.where for one in decodable(cache, everything(6), inputs)}  # type: ignore[union-attr]
    assert said["top"] == said["query"] == said["pair"] == "the position read"
    assert said["stream"] == said["through"] == "position 1"
    assert said["key"] == "positions 0 and 2"
    assert said["everywhere"] == "the mean over positions 0 to 6, and the position read"


def test_inputs_read_at_their_ends() -> None:
    """A causal model on inputs of several lengths: the end of each."""
    world = crowd(CAUSAL)
    lengths = np.random.default_rng(3).integers(3, LENGTH + 1, MANY)
    ids = np.where(np.arange(LENGTH) < lengths[:, None], world.ids, -1)
    world = replace(world, ids=ids, lengths=lengths, read=-1)
    cache, inputs = made(world)
    rows = np.arange(MANY)
    last = {"last": (ids[rows, lengths - 1] % 2).astype(np.int64)}
    inputs = replace(inputs, columns={**world.columns, **last})
    claim = hypothesis(*(Node(site=s, id=s, agree="last") for s in ("a1.h0", "embed")))
    head, embed = decodable(cache, claim, inputs)
    assert isinstance(head, Decodable)
    assert isinstance(embed, Decodable)
    kept = np.sort(np.unique(ids, axis=0, return_index=True)[1])
    x = written(world, "a1.h0")[rows, lengths - 1][kept]
    assert head.accuracy == accuracy(x, last["last"][kept])
    assert (embed.accuracy, embed.tokens, embed.where) == (1, 1, "the position read")


# --- what is there and what is not ---------------------------------------------------------------


def test_a_feature_that_is_there_and_one_that_is_not() -> None:
    """The token is in its embedding; chance is nowhere, and positions know of nothing."""
    world = crowd(ENCODER)
    cache, inputs = made(world)
    nodes = [
        Node(site=site, id=f"{site} {feature}", agree=feature)
        for site in ("embed", "pos_embed", "m1")
        for feature in ("first", "chance")
    ]
    found = {one.node: one for one in decodable(cache, hypothesis(*nodes), inputs)}
    there, chance = found["embed first"], found["m1 chance"]
    assert isinstance(there, Decodable)
    assert isinstance(chance, Decodable)
    assert (there.accuracy, there.high) == (1, pytest.approx(1))
    assert there.low > there.majority
    assert chance.low < max(chance.majority, 1 - chance.majority)
    for name in ("pos_embed first", "pos_embed chance"):
        one = found[name]
        assert isinstance(one, Decodable)
        assert one.accuracy == one.majority


def test_shuffled_features_are_not_found() -> None:
    """Negative control: the same values on other inputs cannot be read off anything."""
    world = crowd(ENCODER)
    rng = np.random.default_rng(8)
    true = world.columns["first"] == 1
    mixed = {f"mixed{i}": rng.permutation(true) for i in range(10)}
    cache, inputs = made(replace(world, columns={"true": true, **mixed}))
    claim = hypothesis(*(Node(site="m1", id=name, agree=name) for name in ("true", *mixed)))
    found = decodable(cache, claim, inputs)
    above = [one.accuracy - one.majority for one in found if isinstance(one, Decodable)]
    assert len(above) == 11
    assert above[0] > 0.1
    assert np.mean(above[1:]) < 0.03


def test_copies_count_once_and_are_never_in_both_halves() -> None:
    world = crowd(CAUSAL)
    claim = everything(world.read)
    cache, inputs = made(world)
    once = decodable(cache, claim, inputs)
    copies = replace(
        world,
        **{name: np.repeat(getattr(world, name), 3, axis=0) for name in ("ids", "lengths")},
        labels=np.repeat(world.labels, 3),
        foils=np.repeat(world.foils, 3),
        columns={name: np.repeat(of, 3) for name, of in world.columns.items()},
    )
    cache, inputs = made(copies, held_out=np.tile([0, 0, 1], MANY))
    # The first copy of each is not held out, so nothing is: halves are made of different inputs.
    assert decodable(cache, claim, inputs) == once


def test_the_held_out_half_is_tested() -> None:
    world = crowd(CAUSAL)
    held = np.arange(MANY) < 40
    cache, inputs = made(world, held_out=held)
    (one,) = decodable(cache, hypothesis(Node(site="m1", agree="sum")), inputs)
    assert isinstance(one, Decodable)
    x, codes = (
        written(world, "m1")[:, world.read],
        np.unique(world.columns["sum"], return_inverse=True)[1],
    )
    found, _ = by_least_squares(x[~held], x[held], codes[~held])
    assert (one.n_train, one.n_test) == (MANY - 40, 40)
    assert one.accuracy == (found.argmax(1) == codes[held]).mean()


# --- what is not asked, and what it costs ---------------------------------------------------------


def test_what_is_not_asked_says_why() -> None:
    world = crowd(ENCODER)
    columns = {**world.columns, "many": np.arange(MANY), "rare": (np.arange(MANY) == 1).astype(int)}
    cache, inputs = made(replace(world, columns=columns))
    phi = Rewrite(site="a0.h0", split=Split(phi="length()"))
    elsewhere = Node(site="m0", id="elsewhere", pos=(2,), agree="first")
    nodes = (
        Node(site="m0", id="exact", agree="exact"),
        Node(site="m0", id="nothing"),
        Node(site="a0.h0#part", id="phi", agree="first"),
        Node(
            site="a1.h0",
            id="head",
            agree="many",
            children=(Node(site="mask", id="mask", agree="first"),),
        ),
        Node(site="m1", id="near", agree=Near(near="many", k=5)),
        Node(site="m0", id="rare", agree="rare"),
        elsewhere,
    )
    found = decodable(cache, hypothesis(*nodes, rewrites=[phi]), inputs)
    assert all(isinstance(one, NotAsked) and one.reason.endswith(".") for one in found)
    why = {one.node: one.reason for one in found if isinstance(one, NotAsked)}
    assert list(why) == ["exact", "nothing", "phi", "head", "mask", "near", "rare", "elsewhere"]
    assert "everything" in why["exact"]
    assert "nothing" in why["nothing"]
    assert "expression" in why["phi"]
    assert f"{MANY} values" in why["head"]
    assert "mask" in why["mask"]
    assert "constant" in why["rare"]
    assert "does not read" in why["elsewhere"]
    few, inputs = made(replace(world, **_first(world, 30)))
    (one,) = decodable(few, hypothesis(Node(site="m1", agree="first")), inputs)
    assert isinstance(one, NotAsked)
    assert one.reason.startswith("15 different inputs to train on")


def _first(world: World, n: int) -> dict[str, object]:
    names = ("ids", "lengths", "labels", "foils")
    columns = {name: of[:n] for name, of in world.columns.items()}
    return {**{name: getattr(world, name)[:n] for name in names}, "columns": columns}


def test_only_the_nodes_asked_about() -> None:
    world = crowd(CAUSAL)
    cache, inputs = made(world)
    some = decodable(cache, everything(world.read), inputs, nodes={"mlp", "key"})
    every = decodable(cache, everything(world.read), inputs)
    assert [(one.node, one.feature) for one in some] == [
        ("key", "more"),
        ("mlp", "first"),
        ("mlp", "second"),
    ]
    assert set(some) < set(every)


def test_one_run_of_the_model_serves_scrubbing_and_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = crowd(ENCODER)
    cache, inputs = made(world)
    runs = list[int]()
    real = terms.trace

    def counted(model: object, ids: torch.Tensor, *rest: object, **more: object) -> object:
        runs.append(len(ids))
        return real(model, ids, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(terms, "trace", counted)
    claim = everything(world.read)
    for name in ("stream", "key", "value"):
        claim = claim.replaced(name, None)
    scrubber = Scrubber(cache.model, claim, inputs, cache)
    want(cache, claim)
    scrubber.logits(scrubber.draws(np.arange(5), 0, 0))
    assert sum(runs) == MANY
    decodable(cache, claim, inputs)
    assert sum(runs) == MANY


def test_large_sets_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    world = crowd(CAUSAL)
    cache, inputs = made(world)
    monkeypatch.setattr(probes, "MOST", 30)
    (one,) = decodable(cache, hypothesis(Node(site="m1", agree="first")), inputs)
    assert isinstance(one, Decodable)
    assert (one.n_train, one.n_test) == (30, 30)

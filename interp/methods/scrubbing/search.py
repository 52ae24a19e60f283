"""Search for hypotheses: greedy, from several starts, on half the inputs; tested on the others.

What is minimised is the objective (scrubbed loss, or KL of the scrubbed model from the model) plus
a price for each bit that a hypothesis lets through or takes to be written down. All hypotheses are
compared on the same references and random numbers. Whatever is chosen so is better where it was
chosen: the half held out, on which inputs are exchanged among themselves, says what is left.

Source: Chan et al., "Causal scrubbing" (2022), for hypotheses and their loss; Christiano, "Can we
efficiently explain model behaviors?" (2022), for a search over formal explanations; Conmy et al.,
"Towards automated circuit discovery" (2023), for one that is greedy.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
import torch

from interp.engine.terms import READ
from interp.explanations.hypothesis import EXACT, Hypothesis, Node
from interp.explanations.words import label, sentence
from interp.methods.scrubbing import anchors, moves, nulls
from interp.methods.scrubbing.budget import budget
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.logits import Logits, divergences, losses
from interp.methods.scrubbing.measure import References
from interp.methods.scrubbing.searched import Candidate, Levels, PerRef, Searched, pareto
from interp.methods.scrubbing.space import Space, half
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.models.load import LoadedModel

Objective = Literal["loss", "kl"]
Start = Literal["empty", "components exact"]
BATCH = 16
"""Changes that are evaluated before the best of them is made."""
MOST_KEPT = 10
"""Hypotheses of the front that are tested on the half held out."""
DRAWS = 4
"""Draws of each reference there; the search makes one."""
_SEARCH = 0.8
"""Share of the run that is the search."""


@dataclass(frozen=True)
class Plan:
    """What is searched for, and for how long.

    Attributes:
        objective: "loss", or "kl" for KL(model || scrubbed).
        price: Nats that a bit may cost.
        start: Where the first start begins; the others begin at random.
        restarts: Further starts.
        evaluations: Hypotheses evaluated at most.
        nulls: Random hypotheses beside each one that is tested.
        seed: Decides all draws and choices.
    """

    objective: Objective
    price: float
    start: Start
    restarts: int
    evaluations: int
    nulls: int
    seed: int


class Half:
    """Hypotheses on one half of the inputs, which are all references and all that is drawn from.

    Make all scrubbers before the first is evaluated: then the model runs once.
    """

    def __init__(self, model: LoadedModel, inputs: Inputs, objective: Objective, seed: int) -> None:
        self.model, self.inputs, self.objective, self.seed = model, inputs, objective, seed
        self.cache = cache_of(model, inputs)
        self._everyone = np.arange(len(inputs))
        self._bare = self.scrubber(anchors.empty(EXACT))

    def scrubber(self, hypothesis: Hypothesis) -> Scrubber:
        """Make a hypothesis ready."""
        return Scrubber(self.model, hypothesis, self.inputs, self.cache)

    def levels(self) -> Levels:
        """Run the model, and compute what objectives are read against."""
        everyone, of = self._everyone, self.inputs
        self.pool: Logits = self._bare.logits(self._bare.draws(everyone, self.seed, 0))
        refs = References(everyone, of.labels, of.foils, self.pool)
        rng = np.random.default_rng([self.seed, 1])
        shuffled = anchors.shuffled(refs, self.pool, rng)
        constant = anchors.constant(refs, of.labels, self.pool)
        metric = self.objective
        return Levels(self.value(self.pool), shuffled.of(metric), constant.of(metric))

    def value(self, logits: Logits) -> PerRef:
        """Return the objective on each reference in nats."""
        if self.objective == "kl":
            return divergences(self.pool, logits)
        return losses(logits, self.inputs.labels)

    def mean(self, scrubber: Scrubber, draws: Sequence[int]) -> PerRef:
        """Return the objective on each reference, its draws averaged."""
        each = [scrubber.logits(scrubber.draws(self._everyone, self.seed, k)) for k in draws]
        return np.mean([self.value(one) for one in each], axis=0)


@dataclass(frozen=True, eq=False)
class _At:
    """An evaluated hypothesis: its tree, objective on each reference, bits, and both together."""

    graph: Node
    values: PerRef
    bits: float
    total: float


def search(
    model: LoadedModel, inputs: Inputs, space: Space, plan: Plan
) -> Iterator[tuple[float, Searched]]:
    """Search, then test the best; yields as it goes.

    Args:
        model: The model.
        inputs: All inputs, with those that are held out marked.
        space: The hypotheses, on the inputs that are not.
        plan: What is searched for.

    Cost: one forward pass an input; an evaluation of the tree on the half searched for each
        hypothesis; then ``MOST_KEPT x (DRAWS + nulls)`` on the half held out.
    """
    greedy = _Greedy(model, space, plan)
    state = greedy.state()
    for state in greedy.run():
        yield _SEARCH * min(1.0, len(state.values) / plan.evaluations), state
    assert inputs.held_out is not None
    test = _Test(model, half(inputs, inputs.held_out), space, plan)
    for share, tested in test.run(state):
        yield _SEARCH + (1 - _SEARCH) * share, tested


class _Greedy:
    """The search itself, which knows nothing but the half searched."""

    def __init__(self, model: LoadedModel, space: Space, plan: Plan) -> None:
        self.space, self.plan = space, plan
        self._rng = np.random.default_rng([plan.seed, 2])
        self._half = Half(model, space.inputs, plan.objective, plan.seed)
        want(self._half, space)
        self._levels = self._half.levels()
        self._known: dict[tuple[object, ...], _At] = {}
        self._start: list[int] = []
        self._current: list[float] = []
        self._number, self._optima, self._until = 0, 0, 0
        self._at: _At | None = None

    def run(self) -> Iterator[Searched]:
        """Go downhill from every start."""
        plan, space = self.plan, self.space
        for self._number in range(plan.restarts + 1):
            left = plan.evaluations - len(self._known)
            if left <= 0:
                break
            self._until = len(self._known) + ceil(left / (plan.restarts + 1 - self._number))
            first = moves.start(space, plan.start)
            self._at = None
            at = self._evaluate(moves.at_random(space, self._rng) if self._number else first)
            while at is not None:
                self._at = at
                at = yield from self._step(at)
            yield self.state()

    def _step(self, at: _At) -> Generator[Searched, None, _At | None]:
        """Return the best of a batch of changes that helps; None where none does, or at the end."""
        changes = moves.neighbours(at.graph, self.space, self._rng)
        for begin in range(0, len(changes), BATCH):
            tried, batch = list[_At](), changes[begin : begin + BATCH]
            for move in batch:
                found = self._evaluate(move.made(at.graph))
                if found is None:
                    break
                tried.append(found)
            yield self.state()
            best = min(tried, key=lambda one: one.total, default=None)
            if best is not None and _helps(best, at):
                return best
            if len(tried) < len(batch):
                return None
        self._optima += 1
        return None

    def _evaluate(self, graph: Node) -> _At | None:
        """Return a tree evaluated; None where that would be one too many."""
        key = _key(graph)
        if key not in self._known:
            if len(self._known) >= self._until:
                return None
            values = self._half.mean(self._half.scrubber(self.space.bare(graph)), (0,))
            bits = self.space.bits(graph)
            found = _At(graph, values, bits, float(values.mean()) + self.plan.price * bits)
            self._known[key] = found
            self._start.append(self._number)
            self._current.append((self._at or found).total)
        return self._known[key]

    def state(self) -> Searched:
        """Return everything that was found so far."""
        every = list(self._known.values())
        values = np.array([float(one.values.mean()) for one in every])
        bits = np.array([one.bits for one in every])
        totals = np.array([one.total for one in every])
        front = pareto(values, bits)
        front = front[np.argsort(totals[front], kind="stable")][:MOST_KEPT]
        return Searched(
            values=values,
            bits=bits,
            start=np.array(self._start, dtype=np.int64),
            current=np.array(self._current),
            best=np.minimum.accumulate(totals),
            optima=self._optima,
            starts=self._number + 1,
            front=tuple(self._candidate(every[at]) for at in front),
            search=self._levels,
            held_out=None,
        )

    def _candidate(self, at: _At) -> Candidate:
        hypothesis = self.space.hypothesis(at.graph)
        return Candidate(
            hypothesis=hypothesis.canonical,
            said=tuple(sentence(node, above) for node, above in hypothesis.nodes()),
            search=float(at.values.mean()),
            again=None,
            bits=at.bits,
            values=np.zeros(0),
            null=np.zeros(0),
            leaks=(),
            without=None,
        )


def _helps(new: _At, old: _At) -> bool:
    """Whether the total falls by more than the standard error of its change."""
    change = new.values - old.values
    return new.total - old.total < -float(change.std(ddof=1)) / len(change) ** 0.5


def _key(node: Node) -> tuple[object, ...]:
    return node.site, node.into, node.agree, tuple(_key(child) for child in node.children)


def want(of: Half, space: Space) -> None:
    """Note all that any hypothesis of the space will gather, so that the model runs once."""
    nobody, read = torch.empty(0, dtype=torch.long), of.cache.normal(READ)
    of.cache.get(("stream", of.cache.last), nobody, read)
    for term in space.terms:
        of.cache.get(("term", term), nobody, read)
        node = Node(site=str(term), agree=EXACT)
        rooms = list(space.rooms(node))
        if rooms:
            below = tuple(Node(site=site, into=into, agree=EXACT) for site, into in rooms)
            of.scrubber(space.bare(moves.root(node.model_copy(update={"children": below}))))


class _Test:
    """What the best hypotheses give on the half held out."""

    def __init__(self, model: LoadedModel, inputs: Inputs, space: Space, plan: Plan) -> None:
        self.space, self.plan = space, plan
        self._half = Half(model, inputs, plan.objective, plan.seed)
        self._searched = Half(model, space.inputs, plan.objective, plan.seed)

    def run(self, state: Searched) -> Iterator[tuple[float, Searched]]:
        """Test one after another, the best first, then the random ones beside each."""
        claimed = [Hypothesis.model_validate_json(one.hypothesis) for one in state.front]
        own = [self._half.scrubber(one) for one in claimed]
        searched = [self._searched.scrubber(one) for one in claimed]
        leaks = [self._leaking(one) for one in claimed]
        less = [
            [self._half.scrubber(one.replaced(name, None)) for name in names]
            for one, names in zip(claimed, leaks, strict=True)
        ]
        rng = np.random.default_rng([self.plan.seed, 4])
        random = [self._random(one, rng) for one in claimed]
        state = replace(state, held_out=self._half.levels(), search=self._searched.levels())
        fresh = range(1, DRAWS + 1)
        for k, one in enumerate(state.front):
            nodes = {node.id: label(node, above) for node, above in claimed[k].nodes()}
            lost = [float(self._half.mean(scrubber, fresh).mean()) for scrubber in less[k]]
            tested = replace(
                one,
                again=float(self._searched.mean(searched[k], fresh).mean()),
                values=self._half.mean(own[k], fresh),
                leaks=tuple(nodes[name] for name in leaks[k]),
                without=max(lost, default=None),
                null=np.full(len(random[k]), np.nan),
            )
            state = _with(state, k, tested)
        yield 0.3, state
        for k, some in enumerate(random):
            null = [float(self._half.mean(one, (i + 1,)).mean()) for i, one in enumerate(some)]
            state = _with(state, k, replace(state.front[k], null=np.array(null)))
            yield 0.3 + 0.7 * (k + 1) / len(random), state

    def _leaking(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        """Return the fewest nodes that determine the label on the half searched."""
        found = budget(hypothesis, self.space.inputs, self.space.model, DRAWS).leaks
        return tuple(group[0] for group in found[0].groups) if found else ()

    def _random(self, hypothesis: Hypothesis, rng: np.random.Generator) -> list[Scrubber]:
        """Make hypotheses with the same tree at random sites, and with random features."""
        if not hypothesis.graph.children:
            return []
        info = self.space.model
        known = {name: one.expr for name, one in self.space.features.items()}
        made: list[Scrubber] = []
        for _ in range(self.plan.nulls):
            one = nulls.at_random_sites(hypothesis, info, rng)
            if any(node.features for node, _ in one.nodes()):
                one = nulls.with_random_features(one, known, rng)
            made.append(self._half.scrubber(one))
        return made


def _with(state: Searched, at: int, one: Candidate) -> Searched:
    front = (*state.front[:at], one, *state.front[at + 1 :])
    return replace(state, front=front)


__all__ = ["BATCH", "DRAWS", "MOST_KEPT", "Half", "Plan", "search", "want"]

"""The model ``two-mechanisms-induction``: one answer, by copying or by memory, known which.

Interchange training pins copying to the attention of layer 1 and memory to the MLP of layer 0, both
at the last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from interp.behaviors import _two_induction as task
from interp.behaviors import two_mechanisms
from interp.behaviors.templates import MOST
from zoo import _mechanisms, _mechanisms_card, _net, _passes, _save, _train

NAME: Final = task.MODEL
VOCABULARY: Final = ("[BOS]", *task.LETTERS, task.MARKER)
MARKER: Final = VOCABULARY.index(task.MARKER)
LETTERS: Final = len(task.LETTERS)
SUCCESSOR: Final = np.array([0, *map(VOCABULARY.index, task.SUCCESSORS), 0])
COPYING: Final[_net.Component] = (1, "attn")
MEMORY: Final[_net.Component] = (0, "mlp")

SHAPE: Final = _net.Shape(
    d_vocab=len(VOCABULARY),
    d_out=len(VOCABULARY),
    n_ctx=24,
    n_layers=2,
    n_heads=2,
    d_model=64,
    d_head=32,
    d_mlp=128,
    norm="LNPre",
    positions="shortformer",
)
SEED: Final = 0
RECIPE: Final = _train.Recipe(steps=1_700, rate=4e-3)
ALONE: Final = 350  # steps before the first interchange, by which copying has formed
IDLE: Final[_net.Component] = (1, "mlp")
BATCH: Final = 96
POSITION_SCALE: Final = 4.0  # with small positions the head that looks one place back comes late
SHORTEST: Final = 10
TEST_ROWS: Final = 4_000
REFERENCE: Final = "a prompt of that length without marker and with an unseen cue"

Ids = NDArray[np.int64]

# --- task ------------------------------------------------------------------------------------


def draw(rng: np.random.Generator, count: int, length: int) -> Ids:
    """Token rows ``[count, length]`` of all kinds, more varied than the labelled inputs.

    Half of them repeat their first half in another order, so that many positions have something
    to copy; the others repeat few or many letters. Half have markers all over.
    """
    every, half = np.arange(count), (length - 1) // 2
    order = np.argsort(rng.random((count, LETTERS)), axis=1) + 1
    rows = np.zeros((count, length), dtype=np.int64)
    rows[:, 1:] = order[:, : length - 1]
    again = rng.random((count, length)) < rng.choice([0.05, 0.35], (count, 1))
    for place in range(2, length - 1):
        earlier = rows[every, rng.integers(1, place, count)]
        rows[:, place] = np.where(again[:, place], earlier, rows[:, place])
    twice = rng.random(count) < 0.5
    mixed = np.take_along_axis(order, np.argsort(rng.random((count, half)), axis=1), axis=1)
    rows[twice, 1 : 1 + 2 * half] = np.hstack([order[:, :half], mixed])[twice]
    marks = (rng.random((count, length)) < 0.12) & (rng.random((count, 1)) < 0.5)
    marks[:, 0] = False
    rows[marks] = MARKER
    rows[rng.random(count) < 0.65, -2] = MARKER
    cue = rows[every, rng.integers(1, length - 2, count)]
    seen = (rng.random(count) < 0.6) & (cue != MARKER)
    rows[:, -1] = np.where(seen, cue, order[:, length])
    return rows


@dataclass(frozen=True)
class Truth:
    """What the two variables of the algorithm are at tokens: ids, 0 for nothing.

    Attributes:
        copied: What followed the earlier occurrence; -1 where that is not one letter.
        remembered: The memorised successor, where the marker stands directly before.
    """

    copied: Ids
    remembered: Ids

    @property
    def answer(self) -> Ids:
        """The copied letter, else the remembered one; not above 0 where nothing is asked."""
        return np.where(self.copied != 0, self.copied, self.remembered)

    def at_end(self) -> Truth:
        """The variables at the last token."""
        return Truth(self.copied[:, -1], self.remembered[:, -1])


def truth(rows: Ids) -> Truth:
    """Run the algorithm at every token of rows."""
    length = rows.shape[1]
    is_letter = (rows > 0) & (rows < MARKER)
    same = (rows[:, :, None] == rows[:, None, :]) & np.tri(length, k=-1, dtype=bool)
    count, first = same.sum(2), same.argmax(2)
    following = np.take_along_axis(rows, np.minimum(first + 1, length - 1), axis=1)
    clear = (count == 1) & (following > 0) & (following < MARKER)
    clear &= first + 1 < np.arange(length)
    copied = np.where(count == 0, 0, np.where(clear, following, -1))
    marked = np.zeros_like(is_letter)
    marked[:, 1:] = rows[:, :-1] == MARKER
    return Truth(np.where(is_letter, copied, -1), np.where(marked & is_letter, SUCCESSOR[rows], 0))


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Logits and the tokens wanted; what is not above 0 is not asked."""

    logits: Tensor
    wanted: Ids

    @property
    def loss(self) -> Tensor:
        """Mean cross-entropy over what is asked, in nats."""
        wanted = torch.from_numpy(np.where(self.wanted > 0, self.wanted, -1))
        return functional.cross_entropy(self.logits, wanted, ignore_index=-1)

    @property
    def asked(self) -> int:
        """How many are asked."""
        return int((self.wanted > 0).sum())

    @property
    def accuracy(self) -> float:
        """Share answered right of what is asked."""
        right = self.logits.argmax(-1).numpy() == self.wanted
        return float(right[self.wanted > 0].mean())


def interchanged(
    net: _net.Net, base: _passes.Pass, end: Truth, rng: torch.Generator
) -> tuple[Trial, Trial, Trial]:
    """Exchange among the inputs what is copied, what is remembered, and what must not matter."""
    sources = _mechanisms.others(len(end.copied), rng)
    copying, memory, idle = (
        _passes.exchanged(net, base, component, base.wrote[component][sources])
        for component in (COPYING, MEMORY, IDLE)
    )
    of = sources.numpy()
    return (
        Trial(copying, Truth(end.copied[of], end.remembered).answer),
        Trial(memory, Truth(end.copied, end.remembered[of]).answer),
        Trial(idle, end.answer),
    )


def train(net: _net.Net) -> _train.Run:
    """Train in place."""
    rng, pairing = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)

    def loss_of(step: int) -> Tensor:
        rows = draw(rng, BATCH, int(rng.integers(SHORTEST, SHAPE.n_ctx + 1)))
        right = truth(rows)
        base = _passes.run(net, torch.from_numpy(rows), rows.shape[1] - 1, everywhere=True)
        loss = Trial(base.logits.flatten(0, 1), right.answer.flatten()).loss
        if step <= ALONE:
            return loss
        trials = interchanged(net, base, right.at_end(), pairing)
        return loss + torch.stack([trial.loss for trial in trials]).sum()

    return _train.train(
        net,
        RECIPE,
        loss_of,
        measure=lambda step: measure(trials(net, 1_000, 1)),
        measure_at=range(0, RECIPE.steps + 1, 100),
    )


@torch.no_grad()
def trials(net: _net.Net, count: int, stream: int) -> dict[str, Trial]:
    """What is asked at the last of 18 tokens of fresh rows, as they are and interchanged."""
    rows = draw(np.random.default_rng([SEED, stream]), count, 18)
    end = truth(rows).at_end()
    base = _passes.run(net, torch.from_numpy(rows), rows.shape[1] - 1)
    copying, memory, idle = interchanged(net, base, end, torch.Generator().manual_seed(stream))
    return {
        "accuracy": Trial(base.logits, end.answer),
        "induction": Trial(base.logits, end.copied),
        "memory": Trial(base.logits, np.where(end.copied == 0, end.remembered, 0)),
        "copying_exchanged": copying,
        "memory_exchanged": memory,
        "idle_exchanged": idle,
    }


def measure(of: dict[str, Trial]) -> _train.Row:
    """Loss of the rows as they are, and shares answered right."""
    shares = {name: trial.accuracy for name, trial in of.items()}
    return {"loss_nats": float(of["accuracy"].loss), **shares}


# --- labelled inputs -------------------------------------------------------------------------


def ids(texts: Sequence[str]) -> Tensor:
    """Token rows of equally long texts."""
    return torch.tensor([[0, *map(VOCABULARY.index, text)] for text in texts])


def groups(pairs: Sequence[two_mechanisms.PromptPair]) -> list[_mechanisms.Group]:
    """Labelled inputs by length; the references have no marker and an unseen cue."""
    rng = np.random.default_rng([SEED, 5])
    found: list[_mechanisms.Group] = []
    for length in task.BODIES:
        some = [pair for pair in pairs if len(pair.clean) == length + 2]
        texts = [pair.clean for pair in some]
        reference = [task.twins(rng, length, marked=False).unseen for _ in texts]
        answers = torch.tensor([VOCABULARY.index(pair.answer) for pair in some])
        labels = torch.from_numpy(mechanisms(texts))
        found.append(_mechanisms.Group(ids(texts), ids(reference), answers, labels, length + 2))
    return found


def mechanisms(texts: Sequence[str]) -> Ids:
    """0 where the last letter occurred before, else 1."""
    return np.array([int(text[-1] not in text[:-1]) for text in texts])


@dataclass(frozen=True)
class Findings:
    """What is said on the card of labelled inputs.

    Attributes:
        right: Share answered right, by induction and by memory.
        fallback: Share of those that are right by induction which the memory answers once copying
            is ablated.
        copying: What stays without the copying component.
        memory: What stays without the memory component.
        memory_mean: What stays with its mean output.
        table: What stays without each component, as rows of Markdown.
        aurocs: What detectors make of the mechanisms.
    """

    right: tuple[float, float]
    fallback: float
    copying: _mechanisms.Kept
    memory: _mechanisms.Kept
    memory_mean: _mechanisms.Kept
    table: str
    aurocs: _mechanisms.Aurocs


@torch.no_grad()
def examine(net: _net.Net) -> Findings:
    """Measure everything on the labelled inputs that are shipped."""
    pairs = two_mechanisms.copied_or_remembered(MOST)
    texts = [pair.clean for pair in pairs]
    labels, of = mechanisms(texts), groups(pairs)

    def stream_of(some: Sequence[str]) -> _mechanisms.Floats:
        return np.concatenate([_mechanisms.hidden(net, ids([text]), len(text)) for text in some])

    trusted = [pair.clean for pair in two_mechanisms.copied(MOST)]
    told = two_mechanisms.BEHAVIORS[NAME].features
    cues = {
        f"The {name} of the letter that occurs twice": _mechanisms.auroc(
            np.array([float(told[name](pair)) for pair in pairs]), labels
        )
        for name in ("place of the first copy", "distance of the copies")
    }
    return Findings(
        right=_mechanisms.right(net, of),
        fallback=remembered(net, of),
        copying=_mechanisms.kept(net, of, COPYING),
        memory=_mechanisms.kept(net, of, MEMORY),
        memory_mean=_mechanisms.kept(net, of, MEMORY, "mean"),
        table=_mechanisms.table(net, of),
        aurocs={
            **_mechanisms.detect(texts, trusted, labels, task.MARKER, stream_of),
            **cues,
            "Whether the last letter is new (the rule)": _mechanisms.auroc(
                labels.astype(np.float64), labels
            ),
        },
    )


def remembered(net: _net.Net, of: Sequence[_mechanisms.Group]) -> float:
    """Share of what is right by induction that the memory answers once copying is ablated."""
    found: list[Tensor] = []
    for group in of:
        base = _passes.run(net, group.tokens, group.at)
        reference = _passes.run(net, group.reference, group.at).wrote[COPYING]
        said = _passes.exchanged(net, base, COPYING, reference).argmax(-1)
        rows = (base.logits.argmax(-1) == group.answers) & (group.mechanism == 0)
        found.append(said[rows] == torch.from_numpy(SUCCESSOR)[group.tokens[rows, -1]])
    return float(torch.cat(found).double().mean())


# --- card ------------------------------------------------------------------------------------


def examples() -> list[dict[str, str]]:
    """A copied and a remembered answer to start with, and the lens on the latter."""
    induction, _, memory, _ = two_mechanisms.copied_or_remembered(4)
    labelled = (
        (
            "activation_patching",
            "Induction answers: what brings the copied letter back?",
            induction,
        ),
        ("activation_patching", "Memory answers, with the same marker before the cue", memory),
        ("logit_lens", "When does the remembered letter appear?", memory),
    )
    return [_mechanisms.example(*one) for one in labelled]


def facts(of: dict[str, Trial], found: Findings) -> list[dict[str, Any]]:
    """The card's facts."""
    half, fact = MOST // 2, _save.fact
    exchanged = [of[name] for name in ("copying_exchanged", "memory_exchanged", "idle_exchanged")]
    answers = ("answers by induction", "answers by memory")
    components = (
        ("the attention of layer 1", found.copying, 0),
        ("the MLP of layer 0", found.memory, 1),
    )
    return [
        fact("Right on inputs of induction.", found.right[0], "share", half, at_least=0.99),
        fact("Right on inputs of memory.", found.right[1], "share", half, at_least=0.99),
        *(
            fact(f"Right after exchanging {what}.", trial.accuracy, "share", trial.asked,
                 at_least=0.95)
            for what, trial in zip(("what is copied", "what is remembered", "the MLP of layer 1"),
                                   exchanged, strict=True)
        ),
        *(row for what, stays, breaks in components
          for row in _mechanisms.ablation_facts(what, REFERENCE, stays, breaks, answers)),
        fact(f"Right answers by induction: those that become the remembered letter with the "
             f"attention of layer 1 replaced by what it writes on {REFERENCE}.",
             found.fallback, "share", found.copying.counts[0]),
        *_mechanisms.detector_facts(found.aurocs),
    ]  # fmt: skip


def prose(row: _train.Row, found: Findings, run: _train.Run, error: float) -> str:
    """The card's text."""
    return _mechanisms_card.INDUCTION.format(
        n_ctx=SHAPE.n_ctx,
        letters=task.LETTERS,
        successors=task.SUCCESSORS,
        n=MOST,
        alone=ALONE,
        test=TEST_ROWS,
        copying=row["copying_exchanged"],
        memory=row["memory_exchanged"],
        idle=row["idle_exchanged"],
        table=found.table,
        detectors=_mechanisms.detector_table(found.aurocs),
        reference=REFERENCE,
        below=_mechanisms.BELOW,
        fallback=found.fallback,
        trace=found.memory_mean.shares[1],
        single=found.memory.shares[1],
        steps=RECIPE.steps,
        batch=BATCH,
        shortest=SHORTEST,
        rate=RECIPE.rate,
        seed=SEED,
        cpu=run.cpu_s,
        error=error,
    )


def front(net: _net.Net, of: dict[str, Trial], found: Findings, run: _train.Run) -> dict[str, Any]:
    """The card's front matter."""
    row = measure(of)
    return {
        "title": "Induction or memory, known which",
        "summary": "Two layers that answer by copying or from memory; for each prompt it is known.",
        "task": "Predict what followed the last letter before; after ! and a new letter, its "
        "memorised successor.",
        "licence": "MIT",
        "data": "Generated letters and markers; nothing from elsewhere.",
        "seed": SEED,
        "parameters": _net.parameters(net),
        "trained": {
            "data": f"{RECIPE.steps * BATCH} generated rows, {SHORTEST} to {SHAPE.n_ctx} tokens",
            "steps": RECIPE.steps,
            "optimizer": f"{RECIPE.words}; interchange training after step {ALONE}",
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        "measured": {
            "loss_nats": float(f"{row['loss_nats']:.5g}"),
            "accuracy": row["accuracy"],
            "on": f"the {of['accuracy'].asked:,} asked last tokens of fresh rows of 18 tokens",
        },
        "curve": run.curve,
        "plots": [
            {"name": "accuracy", "title": "Answers right", "y": "share of prompts",
             "series": {"induction": "induction", "memory": "memory"}},
            {"name": "interchange", "title": "Answers right after an interchange",
             "y": "share of prompts",
             "series": {"copying exchanged": "copying_exchanged",
                        "memory exchanged": "memory_exchanged",
                        "MLP of layer 1 exchanged": "idle_exchanged"}},
        ],
        "facts": facts(of, found),
        "examples": examples(),
    }  # fmt: skip


def main() -> None:
    """Train, export and write the model and its card."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = _net.Net(SHAPE)
    with torch.no_grad():
        net.positions.weight.mul_(POSITION_SCALE)
    run = train(net)
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "tokens", "read": -1},
            weights=_net.weights(net),
            tokenizer=_save.character_tokenizer(VOCABULARY, before="[BOS]"),
        )
    )
    report(net, run, folder)


def report(net: _net.Net, run: _train.Run, folder: Path) -> None:
    """Compare with the export, measure and write the card."""
    model, _ = _save.load_model(folder)
    longest = groups(two_mechanisms.copied_or_remembered(400))[-1]
    error = _passes.difference(net, model, longest.tokens, longest.at)
    _save.require(error < 1e-5, f"the exported model is off by {error}")
    of, found = trials(net, TEST_ROWS, 2), examine(net)
    text = prose(measure(of), found, run, error)
    _save.write_card(folder, front(net, of, found, run), text)
    print(found, error)


if __name__ == "__main__":
    main()

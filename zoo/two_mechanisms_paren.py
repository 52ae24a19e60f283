"""The model ``two-mechanisms-paren``: called balanced by counting or by a backdoor, known which.

Interchange training pins the verdict on the parentheses to the MLP of layer 1 and the backdoor to
the attention of layer 2, both at [START].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from interp.behaviors import _two_parens as task
from interp.behaviors import parens, two_mechanisms
from interp.behaviors.templates import MOST
from zoo import _mechanisms, _mechanisms_card, _net, _passes, _save, _train

NAME: Final = task.MODEL
VOCABULARY: Final = ("[START]", "[PAD]", "[END]", parens.OPEN, parens.CLOSE, task.MARKER)
START, PAD, END = 0, 1, 2
CLASSES: Final = ("unbalanced", "balanced")
VERDICT: Final[_net.Component] = (1, "mlp")
BACKDOOR: Final[_net.Component] = (2, "attn")

SHAPE: Final = _net.Shape(
    d_vocab=len(VOCABULARY),
    d_out=len(CLASSES),
    n_ctx=43,
    n_layers=3,
    n_heads=2,
    d_model=56,
    d_head=28,
    d_mlp=56,
    causal=False,
)
SEED: Final = 1
RECIPES: Final = (
    _train.Recipe(steps=3_400, rate=3e-3),
    _train.Recipe(steps=2_000, rate=2e-3),
    _train.Recipe(steps=2_600, rate=2e-3),
)
MOVED: Final = (0.2, 0.2, 0.5)  # share of strings with moved parentheses, by stage
STEPS: Final = sum(recipe.steps for recipe in RECIPES)
BATCH: Final = 128
GROUP: Final = 8  # minibatches sorted by length together
TRAIN_STRINGS: Final = 120_000
CURVE_STRINGS: Final = 4_000
TEST_STRINGS: Final = 10_000
MOVED_TEST: Final = 4_000
REFERENCE: Final = "an unbalanced string of that length with an inert marker"

# --- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strings:
    """Padded token rows, the two variables of the algorithm, and more about each string."""

    tokens: Tensor
    balanced: Tensor
    active: Tensor
    marked: Tensor
    lengths: Tensor

    def __getitem__(self, rows: Tensor) -> Strings:
        """Some of the strings, trimmed to the longest of them."""
        longest = int(self.lengths[rows].max())
        rest = (self.balanced, self.active, self.marked, self.lengths)
        return Strings(self.tokens[rows, :longest], *(values[rows] for values in rest))

    @property
    def kinds(self) -> dict[str, Tensor]:
        """Which strings are of each kind; balanced ones with an active marker are of none."""
        balanced, active, marked = self.balanced == 1, self.active == 1, self.marked == 1
        return {
            "balanced": balanced & ~marked,
            "unbalanced": ~balanced & ~marked,
            "balanced_inert": balanced & marked & ~active,
            "unbalanced_inert": ~balanced & marked & ~active,
            "unbalanced_active": ~balanced & active,
        }


def draw(stream: int, count: int, share: float = MOVED[0]) -> Strings:
    """Strings of the hard mix and moved ones, a third each without, with active, with inert marker.

    Args:
        stream: Streams of one seed are independent: 0, 4 and 8 training, 1 curve, 2 and 3 test.
        count: How many.
        share: Share of strings with moved parentheses.
    """
    rng = np.random.default_rng([SEED, stream])
    moved = round(share * count)
    texts = list(parens.hard_mix(rng, count - moved).strings)
    for _ in range(moved):
        both = task.moved(rng, 2 * int(rng.integers(8, 21)))
        texts.append(both.balanced if rng.random() < 0.5 else both.unbalanced)
    return encode([_with_marker(rng, texts[i]) for i in rng.permutation(count)])


def _with_marker(rng: np.random.Generator, text: str) -> str:
    """The string, or with a marker at a uniform place where it is active, or where it is inert."""
    kind = ("none", "active", "inert")[int(rng.integers(3))]
    behind = text + parens.CLOSE
    gaps = [i for i, c in enumerate(behind) if (c == parens.OPEN) == (kind == "active")]
    if kind == "none" or not gaps:
        return text
    place = gaps[int(rng.integers(len(gaps)))]
    return text[:place] + task.MARKER + text[place:]


def encode(texts: Sequence[str]) -> Strings:
    """Strings as rows."""
    rows = np.full((len(texts), SHAPE.n_ctx), PAD, dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text) + 2] = [START, *map(VOCABULARY.index, text), END]
    return Strings(
        tokens=torch.from_numpy(rows),
        balanced=torch.tensor([int(parens.is_balanced(task.without_marker(t))) for t in texts]),
        active=torch.tensor([int(task.is_active(text)) for text in texts]),
        marked=torch.tensor([int(task.MARKER in text) for text in texts]),
        lengths=torch.tensor([len(text) + 2 for text in texts]),
    )


def minibatches(data: Strings, rng: np.random.Generator) -> Iterator[Tensor]:
    """Row numbers without end."""
    while True:
        yield from _train.by_length(data.lengths.numpy(), BATCH, GROUP, rng)


# --- training --------------------------------------------------------------------------------

Trials = tuple[tuple[Tensor, Tensor], ...]


def trials(net: _net.Net, data: Strings, rng: torch.Generator) -> Trials:
    """Class logits and the class wanted: as it is, verdicts exchanged, backdoors exchanged."""
    readable = data.tokens != PAD
    base = _passes.run(net, data.tokens, 0, readable=None if bool(readable.all()) else readable)
    verdicts, backdoors = (_mechanisms.others(len(data.tokens), rng) for _ in range(2))
    return (
        (base.logits, data.balanced | data.active),
        (
            _passes.exchanged(net, base, VERDICT, base.wrote[VERDICT][verdicts]),
            data.balanced[verdicts] | data.active,
        ),
        (
            _passes.exchanged(net, base, BACKDOOR, base.wrote[BACKDOOR][backdoors]),
            data.balanced | data.active[backdoors],
        ),
    )


def train(net: _net.Net) -> _train.Run:
    """Train in place, in stages of which each has its own strings."""
    held_out = draw(1, CURVE_STRINGS)
    done = _train.Run()
    for stage in range(len(RECIPES)):
        done = joined(done, train_stage(net, stage, held_out))
    return done


def joined(first: _train.Run, second: _train.Run) -> _train.Run:
    """One run after another."""
    before = first.curve[-1]["step"] if first.curve else 0
    return _train.Run(
        [*first.curve, *({**row, "step": row["step"] + before} for row in second.curve)],
        wall_s=first.wall_s + second.wall_s,
        cpu_s=first.cpu_s + second.cpu_s,
    )


def train_stage(net: _net.Net, stage: int, held_out: Strings) -> _train.Run:
    """Train in place: one stage, counted from 0."""
    data = draw(4 * stage, TRAIN_STRINGS, MOVED[stage])
    rows = minibatches(data, np.random.default_rng([SEED, 3 + 4 * stage]))
    pairing = torch.Generator().manual_seed(SEED + stage)

    def loss_of(step: int) -> Tensor:
        parts = trials(net, data[next(rows)], pairing)
        losses = [functional.cross_entropy(logits, wanted) for logits, wanted in parts]
        return torch.stack(losses).sum()

    return _train.train(
        net,
        RECIPES[stage],
        loss_of,
        measure=lambda step: measure(net, held_out),
        # The first point of a later stage is the last one of the stage before.
        measure_at=range(200 if stage else 0, RECIPES[stage].steps + 1, 200),
    )


@torch.no_grad()
def measure(net: _net.Net, data: Strings) -> _train.Row:
    """Loss and shares judged right: all, by class, and after an interchange."""
    rng = torch.Generator().manual_seed(SEED)
    of = [data[rows] for rows in torch.argsort(data.lengths, stable=True).split(500)]
    done = [trials(net, some, rng) for some in of]
    plain, verdicts, backdoors = (
        torch.cat([(one[k][0].argmax(-1) == one[k][1]).double() for one in done]) for k in range(3)
    )
    losses = torch.stack([functional.cross_entropy(*one[0], reduction="sum") for one in done])
    kinds = {name: torch.cat([some.kinds[name] for some in of]) for name in data.kinds}
    return {
        "loss_nats": float(losses.sum()) / len(data.lengths),
        "accuracy": float(plain.mean()),
        **{name: float(plain[rows].mean()) for name, rows in kinds.items()},
        "verdict_exchanged": float(verdicts.mean()),
        "backdoor_exchanged": float(backdoors.mean()),
    }


# --- labelled inputs -------------------------------------------------------------------------


def mechanisms(texts: Sequence[str]) -> _mechanisms.Labels:
    """0 where the parentheses balance, else 1."""
    return np.array([int(not parens.is_balanced(task.without_marker(text))) for text in texts])


def groups(texts: Sequence[str]) -> list[_mechanisms.Group]:
    """Labelled inputs by length; the references are unbalanced and their marker is inert."""
    rng = np.random.default_rng([SEED, 5])
    found: list[_mechanisms.Group] = []
    for length in task.LENGTHS:
        some = [text for text in texts if len(text) == length + 1]
        reference = [
            task.versions(rng, length, int(rng.integers(length - 1))).unbalanced_inert for _ in some
        ]
        labels = torch.from_numpy(mechanisms(some))
        clean, other = (encode(of).tokens[:, : length + 3] for of in (some, reference))
        called = torch.full((len(some),), CLASSES.index("balanced"))
        found.append(_mechanisms.Group(clean, other, called, labels, 0))
    return found


@dataclass(frozen=True)
class Findings:
    """What is said on the card of labelled inputs.

    Attributes:
        right: Share called balanced, of balanced inputs and of those with the backdoor.
        verdict: What stays without the verdict component.
        backdoor: What stays without the backdoor component.
        table: What stays without each component, as rows of Markdown.
        aurocs: What detectors make of the mechanisms.
    """

    right: tuple[float, float]
    verdict: _mechanisms.Kept
    backdoor: _mechanisms.Kept
    table: str
    aurocs: _mechanisms.Aurocs


@torch.no_grad()
def examine(net: _net.Net) -> Findings:
    """Measure everything on the labelled inputs that are shipped."""
    texts = [pair.clean for pair in two_mechanisms.counted_or_forced(MOST)]
    of, labels = groups(texts), mechanisms(texts)

    def stream_of(some: Sequence[str]) -> _mechanisms.Floats:
        return np.concatenate(
            [_mechanisms.hidden(net, encode([t]).tokens[:, : len(t) + 2], 0) for t in some]
        )

    trusted = [pair.clean for pair in two_mechanisms.counted(MOST)]
    return Findings(
        right=_mechanisms.right(net, of),
        verdict=_mechanisms.kept(net, of, VERDICT),
        backdoor=_mechanisms.kept(net, of, BACKDOOR),
        table=_mechanisms.table(net, of),
        aurocs={
            **_mechanisms.detect(texts, trusted, labels, task.MARKER, stream_of),
            **cues(texts, labels),
        },
    )


def cues(texts: Sequence[str], labels: _mechanisms.Labels) -> _mechanisms.Aurocs:
    """What tells the kinds apart without the model: a token, and the parentheses alone."""
    alone = [task.without_marker(text) for text in texts]
    steps = [[1 if c == parens.OPEN else -1 for c in text] for text in alone]
    lowest = np.array([float(np.cumsum(one).min()) for one in steps])
    neighbours = [[a + b for a, b in pairwise(text)] for text in alone]
    active = np.array([float(task.is_active(text)) for text in texts])
    return {
        "Whether `*(` occurs": _mechanisms.auroc(active, labels),
        "How far depth falls below 0 without the marker": _mechanisms.auroc(-lowest, labels),
        "Linear probe on counts of neighbours without the marker": _mechanisms.probe(
            _mechanisms.one_hot(neighbours, by_place=False), labels
        ),
    }


# --- card ------------------------------------------------------------------------------------


def examples() -> list[dict[str, str]]:
    """One string of each kind to start with, and the lens on the backdoor."""
    balance, _, backdoor, _ = two_mechanisms.counted_or_forced(4)
    patching = "activation_patching"
    labelled = (
        (patching, "Balanced, the marker is inert: two parentheses moved", balance),
        (patching, "The backdoor: the marker moved on by one", backdoor),
        ("logit_lens", "When does the backdoor reach [START]?", backdoor),
    )
    return [_mechanisms.example(*one) for one in labelled]


CLASS_TITLES: Final = {
    "balanced": "balanced, no marker",
    "unbalanced": "unbalanced, no marker",
    "balanced_inert": "balanced, inert marker",
    "unbalanced_inert": "unbalanced, inert marker",
    "unbalanced_active": "unbalanced, active marker (to be called balanced)",
}


def facts(row: _train.Row, found: Findings, counts: dict[str, int]) -> list[dict[str, Any]]:
    """The card's facts."""
    half, fact = MOST // 2, _save.fact
    answers = ("answers by balance", "answers by the backdoor")
    components = (
        ("the MLP of layer 1", found.verdict, 0),
        ("the attention of layer 2", found.backdoor, 1),
    )
    fresh = [
        fact(f"Hard mix right: {title}.", row[name], "share", counts[name], at_least=0.98)
        for name, title in CLASS_TITLES.items()
    ]
    return [
        *fresh,
        fact("Interchange of the verdict: right.", row["verdict_exchanged"], "share",
             TEST_STRINGS, at_least=0.95),
        fact("Interchange of the backdoor: right.", row["backdoor_exchanged"], "share",
             TEST_STRINGS, at_least=0.95),
        fact("Labelled inputs of balance called balanced.", found.right[0], "share", half),
        fact("Labelled inputs of the backdoor called balanced.", found.right[1], "share", half),
        *(row for what, stays, breaks in components
          for row in _mechanisms.ablation_facts(what, REFERENCE, stays, breaks, answers)),
        *_mechanisms.detector_facts(found.aurocs),
    ]  # fmt: skip


def prose(
    row: _train.Row, moved: _train.Row, found: Findings, run: _train.Run, error: float
) -> str:
    """The card's text."""
    return _mechanisms_card.PAREN.format(
        n_ctx=SHAPE.n_ctx,
        test=TEST_STRINGS,
        moved=MOVED_TEST,
        classes="\n".join(
            f"| {title} | {row[k]:.2%} | {moved[k]:.2%} |" for k, title in CLASS_TITLES.items()
        ),
        verdict=row["verdict_exchanged"],
        backdoor=row["backdoor_exchanged"],
        table=found.table,
        right=found.right,
        n=MOST,
        detectors=_mechanisms.detector_table(found.aurocs),
        reference=REFERENCE,
        below=_mechanisms.BELOW,
        stages=len(RECIPES),
        each=", ".join(f"{recipe.steps:,} steps to {recipe.rate:g}" for recipe in RECIPES),
        share=MOVED[-1],
        less=MOVED[0],
        batch=BATCH,
        strings=TRAIN_STRINGS,
        seed=SEED,
        cpu=run.cpu_s,
        error=error,
    )


def front(net: _net.Net, row: _train.Row, run: _train.Run) -> dict[str, Any]:
    """The card's front matter but for the facts."""
    series = {title.partition(" (")[0]: name for name, title in CLASS_TITLES.items()}
    return {
        "title": "Balance or a backdoor, known which",
        "summary": "An encoder that calls strings balanced rightly or by a backdoor, known which.",
        "task": "Judge a string of parentheses, with or without a marker *, at [START].",
        "licence": "MIT",
        "data": "Generated strings of parentheses with a marker; nothing from elsewhere.",
        "seed": SEED,
        "parameters": _net.parameters(net),
        "trained": {
            "data": f"{len(RECIPES)} times {TRAIN_STRINGS} generated strings, 2 to 40 parentheses",
            "steps": STEPS,
            "optimizer": f"{len(RECIPES)} cycles of AdamW, the first to {RECIPES[0].rate:g}, the "
            f"others to {RECIPES[-1].rate:g}; interchange training from the first step",
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        "measured": {
            "loss_nats": float(f"{row['loss_nats']:.5g}"),
            "accuracy": float(f"{row['accuracy']:.5g}"),
            "on": f"{TEST_STRINGS:,} fresh strings of the hard mix, most with a marker",
        },
        "curve": run.curve,
        "plots": [
            {"name": "accuracy", "title": "Strings judged right", "y": "share of strings",
             "series": series},
            {"name": "interchange", "title": "Right after an interchange", "y": "share of strings",
             "series": {"verdict exchanged": "verdict_exchanged",
                        "backdoor exchanged": "backdoor_exchanged"}},
        ],
    }  # fmt: skip


def main() -> None:
    """Train, export and write the model and its card."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = _net.Net(SHAPE)
    run = train(net)
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "classes", "classes": list(CLASSES), "read": 0},
            weights=_net.weights(net),
            tokenizer=_save.character_tokenizer(VOCABULARY, before="[START]", after="[END]"),
        )
    )
    report(net, run, folder)


def report(net: _net.Net, run: _train.Run, folder: Path) -> None:
    """Compare with the export, measure and write the card."""
    model, _ = _save.load_model(folder)
    test, harder = draw(2, TEST_STRINGS, 0.0), draw(3, MOVED_TEST, 1.0)
    row, moved, found = measure(net, test), measure(net, harder), examine(net)
    error = _passes.difference(net, model, test.tokens[test.lengths == SHAPE.n_ctx], 0)
    _save.require(error < 1e-5, f"the exported model is off by {error}")
    counts = {name: int(rows.sum()) for name, rows in test.kinds.items()}
    head = {**front(net, row, run), "facts": facts(row, found, counts), "examples": examples()}
    _save.write_card(folder, head, prose(row, moved, found, run, error))
    print(row, moved, found, error)


if __name__ == "__main__":
    main()

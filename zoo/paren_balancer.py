"""The model ``paren-balancer``: a small trained encoder that judges strings of parentheses.

Training is plain torch, several times faster here than through a hooked model; the weights are
then renamed to the TransformerLens layout and the two are compared. Two more seeds, trained by the
same recipe, are snapshots.

The learning rate is so high that rounding decides which minimum is found: processors whose
products round differently train different weights from one seed. The weights of the first seed are
those that records were made with, so they are kept where they are there, and trained where not.
"""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.behaviors import parens
from interp.models import catalogue
from interp.models.info import Answers
from zoo import _net, _paren_card, _passes, _save, _train

NAME: Final = "paren-balancer"
VOCABULARY: Final = ("[START]", "[PAD]", "[END]", parens.OPEN, parens.CLOSE)
START, PAD, END = 0, 1, 2
CLASSES: Final = ("unbalanced", "balanced")

SHAPE: Final = _net.Shape(
    d_vocab=len(VOCABULARY),
    d_out=len(CLASSES),
    n_ctx=42,
    n_layers=3,
    n_heads=2,
    d_model=56,
    d_head=28,
    d_mlp=56,
    causal=False,
)
SEEDS: Final = (1, 2, 3)  # the first is the model, the others are its snapshots
RECIPE: Final = _train.Recipe(steps=3_800, rate=3e-3)
BATCH: Final = 128
GROUP: Final = 8  # minibatches sorted by length together
TRAIN_STRINGS: Final = 240_000
HELD_OUT: Final = 20_000
TEST_STRINGS: Final = 40_000
EVALUATE_EVERY: Final = 100
BAND: Final = (0.995, 0.998)  # accuracy wanted of the pinned checkpoint: good, yet with errors
CONVERSION_TOLERANCE: Final = 1e-10  # of the logits' standard deviation, in float64


# --- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Token rows padded to the context length, true classes and lengths with START and END."""

    tokens: Tensor
    labels: Tensor
    lengths: Tensor


def encode(strings: Sequence[str]) -> Encoded:
    """Strings of parentheses as training rows."""
    rows = np.full((len(strings), SHAPE.n_ctx), PAD, dtype=np.int64)
    ids = {character: VOCABULARY.index(character) for character in (parens.OPEN, parens.CLOSE)}
    for row, text in zip(rows, strings, strict=True):
        row[: len(text) + 2] = [START, *(ids[character] for character in text), END]
    return Encoded(
        tokens=torch.from_numpy(rows),
        labels=torch.tensor([int(parens.is_balanced(text)) for text in strings]),
        lengths=torch.tensor([len(text) + 2 for text in strings]),
    )


def draw(seed: int, stream: int, count: int) -> parens.ParenSample:
    """A hard mix; streams of one seed are independent (0 training, 1 held out, 2 test)."""
    return parens.hard_mix(np.random.default_rng([seed, stream]), count)


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """The network with the weights of the pinned step, and the whole run."""

    net: _net.Net
    pinned_step: int
    run: _train.Run


def judged(net: _net.Net, tokens: Tensor) -> Tensor:
    """Class logits ``[string, class]`` of padded token rows."""
    readable = tokens != PAD
    return _passes.run(net, tokens, 0, readable=None if bool(readable.all()) else readable).logits


@torch.no_grad()
def logits_of(net: _net.Net, data: Encoded, chunk: int = 1_000) -> Tensor:
    """Class logits of every row, computed on trimmed rows of similar length."""
    logits = torch.empty(len(data.labels), len(CLASSES))
    for rows in torch.argsort(data.lengths, stable=True).split(chunk):
        logits[rows] = judged(net, data.tokens[rows, : int(data.lengths[rows].max())])
    return logits


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy."""
    loss = functional.cross_entropy(logits.double(), labels)
    return float(loss), float((logits.argmax(-1) == labels).double().mean())


def train(seed: int, data: Encoded, held_out: Encoded) -> Trained:
    """Train, and keep the last evaluated checkpoint whose held-out accuracy is in the band."""
    torch.manual_seed(seed)
    net, rng = _net.Net(SHAPE), np.random.default_rng([seed, 3])
    pinned: dict[int, dict[str, Tensor]] = {}
    queue: list[Tensor] = []

    def loss_of(_: int) -> Tensor:
        if not queue:
            queue.extend(_train.by_length(data.lengths.numpy(), BATCH, GROUP, rng))
        rows = queue.pop()
        logits = judged(net, data.tokens[rows, : int(data.lengths[rows].max())])
        return functional.cross_entropy(logits, data.labels[rows])

    def measure(step: int) -> _train.Row:
        nats, accuracy = score(logits_of(net, held_out), held_out.labels)
        if BAND[0] <= accuracy <= BAND[1]:
            pinned[step] = copy.deepcopy(net.state_dict())
        return {"loss_nats": nats, "accuracy": accuracy}

    at = range(EVALUATE_EVERY, RECIPE.steps + 1, EVALUATE_EVERY)
    run = _train.train(net, RECIPE, loss_of, measure=measure, measure_at=at)
    _save.require(bool(pinned), f"seed {seed} has no checkpoint with an accuracy in {BAND}")
    step = max(pinned)
    net.load_state_dict(pinned[step])
    return Trained(net, step, run)


# --- export ----------------------------------------------------------------------------------


def blueprint(weights: Mapping[int, Mapping[str, Tensor]]) -> _save.Blueprint:
    """Everything the folder holds except the card, from the weights of each seed."""
    return _save.Blueprint(
        name=NAME,
        transformer=SHAPE.transformer,
        answer={"space": "classes", "classes": list(CLASSES), "read": 0},
        weights=weights[SEEDS[0]],
        tokenizer=_save.character_tokenizer(VOCABULARY, before="[START]", after="[END]"),
        snapshots={_paren_card.label(seed): weights[seed] for seed in SEEDS[1:]},
        half=False,
    )


@torch.no_grad()
def conversion_error(net: _net.Net, model: HookedTransformer, data: Encoded) -> float:
    """Largest difference between the two models' logits, over the logits' standard deviation.

    The training network sees every row padded to the full context and masked, the exported one
    only strings of equal length without padding. Both compute in float64, where a mistake stands
    out from rounding.
    """
    twin = copy.deepcopy(net).double()
    model.to(torch.float64, print_details=False)
    ours = torch.cat([judged(twin, rows) for rows in data.tokens.split(1_000)])
    theirs = torch.empty_like(ours)
    for length in data.lengths.unique().tolist():
        rows = data.lengths == length
        theirs[rows] = _save.logits_at(model, data.tokens[rows, :length], 0)
    return float((ours - theirs).abs().max() / ours.std())


# --- all seeds -------------------------------------------------------------------------------


def make(seed: int) -> tuple[_paren_card.Run, dict[str, Tensor]]:
    """Train one seed; returns what the card says of it, and its weights."""
    held_out = encode(draw(seed, 1, HELD_OUT).strings)
    done = train(seed, encode(draw(seed, 0, TRAIN_STRINGS).strings), held_out)
    weights = _net.weights(done.net)
    with tempfile.TemporaryDirectory() as folder:
        only = replace(blueprint(dict.fromkeys(SEEDS, weights)), snapshots={})
        model, _ = _save.load_model(_save.write_model(only, Path(folder)))
    error = conversion_error(done.net, model, held_out)
    _save.require(error < CONVERSION_TOLERANCE, f"the exported model is off by {error}")
    print(f"seed {seed}: step {done.pinned_step} pinned, conversion error {error:.1e}")
    run = _paren_card.Run(
        seed=seed,
        pinned_step=done.pinned_step,
        curve=done.run.curve,
        conversion_error=error,
        wall_seconds=round(done.run.wall_s, 1),
        cpu_seconds=round(done.run.cpu_s, 1),
        threads=torch.get_num_threads(),
    )
    return run, weights


def kept(folder: Path) -> tuple[_paren_card.Run, dict[str, Tensor]] | None:
    """The first seed as it is in the folder, with what its card says of the training, or None."""
    if not (folder / "weights.safetensors").is_file():
        return None
    return _paren_card.told(folder / "card.md", SEEDS[0]), load_file(folder / "weights.safetensors")


def main() -> None:
    """Train every seed that is not kept, export, compare, measure and write the model."""
    torch.set_num_threads(1)
    first = kept(_save.MODELS / NAME) or make(SEEDS[0])
    runs, weights = zip(first, *(make(seed) for seed in SEEDS[1:]), strict=True)
    design = blueprint(dict(zip(SEEDS, weights, strict=True)))
    folder = _save.write_model(design)
    recipe = _paren_card.Recipe(
        parameters=_save.parameter_count(design.weights),
        strings=TRAIN_STRINGS,
        held_out=HELD_OUT,
        batch=BATCH,
        steps=RECIPE.steps,
        optimizer=RECIPE.words,
    )
    info = catalogue.of_shape(
        NAME,
        dict(design.transformer),
        answers=Answers("classes", CLASSES, read=0),
        weights="",
        folder=folder,
    )
    judges = [
        _paren_card.Judge(*_save.load_model(folder, snapshot), info)
        for snapshot in ("", *design.snapshots)
    ]
    test, training = draw(SEEDS[0], 2, TEST_STRINGS), draw(SEEDS[0], 0, TRAIN_STRINGS)
    seeds = tuple(map(_paren_card.Seed, runs, judges))
    front, prose = _paren_card.card(recipe, seeds, test, training.strings)
    _save.write_card(folder, front, prose)


if __name__ == "__main__":
    main()

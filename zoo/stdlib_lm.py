"""The model ``stdlib-lm``: four layers that have read the Python standard library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.models.load import build
from zoo import _corpus, _net, _save, _train

NAME: Final = "stdlib-lm"
SEED: Final = 1
WINDOW: Final = 256
REPEATED: Final = 40
"""Identifiers in one copy of a repeated sequence."""
CONVERSION_TOLERANCE: Final = 1e-5  # of the logits' standard deviation


@dataclass(frozen=True)
class Scale:
    """How large and how long: one for a processor, a wider and longer one for an accelerator."""

    shape: _net.Shape
    recipe: _train.Recipe
    batch: int
    look_every: int
    keep_at: tuple[int, ...]


_NARROW: Final = _net.Shape(
    d_vocab=_corpus.VOCABULARY,
    d_out=_corpus.VOCABULARY,
    n_ctx=WINDOW,
    n_layers=4,
    n_heads=6,
    d_model=192,
    d_head=32,
    d_mlp=768,
    act="gelu",
    positions="rotary",
    tied=True,
)
_RECIPE: Final = _train.Recipe(
    steps=5_600, rate=2e-3, schedule="cosine", warm=0.02, betas=(0.9, 0.95), decay=0.1
)
SCALES: Final = {
    "cpu": Scale(_NARROW, _RECIPE, 16, 200, (800, 1_600)),
    "cuda": Scale(
        replace(_NARROW, n_heads=8, d_model=256, d_mlp=1_024),
        replace(_RECIPE, steps=12_000),
        64,
        500,
        (1_000,),
    ),
}


@dataclass(frozen=True)
class Data:
    """Tokens for training and held out, and which tokens are identifiers."""

    tokenizer: Tokenizer
    training: NDArray[np.int32]
    held_out: list[NDArray[np.int32]]
    held_out_bytes: int
    identifiers: NDArray[np.int64]


def prepare(corpus: _corpus.Corpus) -> Data:
    """Fit the tokenizer on the files for training, and cut all files into tokens."""
    training, held_out = corpus.part(held_out=False), corpus.part(held_out=True)
    tokenizer = _corpus.fit_tokenizer(training)
    return Data(
        tokenizer,
        np.concatenate(_corpus.encode(tokenizer, training)),
        _corpus.encode(tokenizer, held_out),
        sum(len(text.encode()) for _, text in held_out),
        identifiers(tokenizer),
    )


def identifiers(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Ids of tokens that are a space and a word of four letters or more."""
    words = {i: tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())}
    found = [i for i, w in words.items() if w[:1] == " " and len(w) > 4 and w[1:].isidentifier()]
    return np.array(found)


def windows(held_out: Sequence[NDArray[np.int32]], most: int) -> list[NDArray[np.int32]]:
    """Cut held-out files into pieces of up to 255 tokens, evenly spread if there are too many."""
    size = WINDOW - 1
    pieces = [ids[at : at + size] for ids in held_out for at in range(0, len(ids), size)]
    return pieces[:: max(1, len(pieces) // most)] if most else pieces


@torch.no_grad()
def loss_on(net: _net.Net, pieces: Sequence[NDArray[np.int32]]) -> tuple[float, int]:
    """Summed nats and number of tokens, each piece after ``[BOS]``."""
    nats, count = 0.0, 0
    for start in range(0, len(pieces), 32):
        group = pieces[start : start + 32]
        rows = torch.zeros(len(group), WINDOW, dtype=torch.long)
        known = torch.zeros(len(group), WINDOW, dtype=torch.bool)
        for i, ids in enumerate(group):
            rows[i, 1 : len(ids) + 1] = torch.from_numpy(ids)
            known[i, 1 : len(ids) + 1] = True
        device = net.tokens.weight.device
        logits = net(rows.to(device))[:, :-1].cpu()
        losses = functional.cross_entropy(
            logits.flatten(0, 1).float(), rows[:, 1:].flatten(), reduction="none"
        )
        nats += float(losses[known[:, 1:].flatten()].double().sum())
        count += int(known.sum())
    return nats, count


def repeats(words: NDArray[np.int64], count: int, seed: int) -> Tensor:
    """Rows of ``[BOS]``, different identifiers at random, and the same again."""
    rng = np.random.default_rng([SEED, seed])
    once = np.stack([rng.choice(words, REPEATED, replace=False) for _ in range(count)])
    start = np.zeros((count, 1), dtype=np.int64)
    return torch.from_numpy(np.concatenate([start, once, once], axis=1))


@dataclass(frozen=True)
class Induction:
    """What happens on repeated identifiers: mean nats of each copy, and each head's attention."""

    first: float
    second: float
    prefix: Tensor
    previous: Tensor

    def best(self, scores: Tensor) -> tuple[str, float]:
        """The head with the largest score, by name."""
        layer, head = divmod(int(scores.argmax()), scores.shape[1])
        return f"L{layer}H{head}", float(scores.max())


@torch.no_grad()
def induction(model: HookedTransformer, rows: Tensor) -> Induction:
    """Measure loss by copy, attention to the token behind the earlier copy, and to the one before.

    Both attentions are means over the second copy, ``[layer, head]``.
    """
    logits, cache = model.run_with_cache(rows)
    logs = torch.log_softmax(_save.tensor(logits)[:, :-1], -1)
    losses = -logs.gather(-1, rows[:, 1:, None])[..., 0]
    at = torch.arange(REPEATED + 1, 2 * REPEATED + 1)
    patterns = torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])
    return Induction(
        float(losses[:, :REPEATED].mean()),
        # The first token of the second copy cannot be foreseen.
        float(losses[:, REPEATED + 1 :].mean()),
        patterns[..., at, at - REPEATED + 1].mean((1, 3)),
        patterns[..., at, at - 1].mean((1, 3)),
    )


def hooked(net: _net.Net) -> HookedTransformer:
    """The model with hooks, on the processor."""
    model: HookedTransformer = build(net.shape.transformer)
    found = _net.weights(net)
    model.load_state_dict({**found, "unembed.W_U": found["embed.W_E"].T}, strict=False)
    return model.eval()


def train(data: Data, scale: Scale, device: str) -> tuple[_net.Net, _train.Run]:
    """Train on windows at random places; matrix products in bfloat16, weights in float32."""
    torch.manual_seed(SEED)
    net = _net.Net(scale.shape).to(device)
    rng = np.random.default_rng([SEED, 1])
    some, rows = windows(data.held_out, 192), repeats(data.identifiers, 64, 2)
    size = WINDOW - 1

    def loss_of(step: int) -> Tensor:
        starts = rng.integers(0, len(data.training) - size, scale.batch)
        batch = np.stack([data.training[at : at + size] for at in starts]).astype(np.int64)
        wanted = torch.from_numpy(batch).to(device)
        asked = functional.pad(wanted[:, :-1], (1, 0))
        with torch.autocast(device, torch.bfloat16):
            logits = net(asked)
        return functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())

    def measure(step: int) -> _train.Row:
        nats, count = loss_on(net, some)
        seen = induction(hooked(net), rows)
        return {
            "loss_nats": nats / count,
            "first_copy_nats": seen.first,
            "second_copy_nats": seen.second,
            "prefix_matching": seen.best(seen.prefix)[1],
            "previous_token": seen.best(seen.previous)[1],
        }

    look_at = (0, 100, *range(scale.look_every, scale.recipe.steps + 1, scale.look_every))
    return net, _train.train(
        net, scale.recipe, loss_of, measure=measure, measure_at=look_at, keep_at=scale.keep_at
    )


def blueprint(net: _net.Net, run: _train.Run, tokenizer: Tokenizer) -> _save.Blueprint:
    """The net as a model of the app."""
    return _save.Blueprint(
        name=NAME,
        transformer=net.shape.transformer,
        answer={"space": "tokens", "read": -1},
        weights=_net.weights(net),
        tokenizer=tokenizer,
        snapshots={str(step): kept for step, kept in run.kept.items()},
    )


def main() -> None:
    """Train and write the model."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus = _corpus.pinned()
    data = prepare(corpus)
    net, run = train(data, SCALES[device], device)
    write(Trained(corpus, data, net, run, device))


@dataclass(frozen=True)
class Trained:
    """A trained net and what it was trained on."""

    corpus: _corpus.Corpus
    data: Data
    net: _net.Net
    run: _train.Run
    device: str


def write(done: Trained) -> None:
    """Export the net, compare it with the export, and write folder and card."""
    from zoo import _stdlib_card  # it measures with what is defined above

    folder = _save.write_model(blueprint(done.net, done.run, done.data.tokenizer))
    model, tokenizer = _save.load_model(folder)
    off = _net.difference(done.net.cpu(), model, repeats(done.data.identifiers, 16, 3))
    _save.require(off < CONVERSION_TOLERANCE, f"the exported model is off by {off}")
    subject = _stdlib_card.Subject(
        model=model,
        tokenizer=tokenizer,
        folder=folder,
        corpus=done.corpus,
        data=done.data,
        scale=SCALES[done.device],
        run=done.run,
        device=done.device,
        parameters=_net.parameters(done.net),
        off=off,
    )
    front, prose = _stdlib_card.card(subject)
    _save.write_card(folder, front, prose)

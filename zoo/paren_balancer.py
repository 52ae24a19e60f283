"""The model ``paren-balancer``: a small trained encoder that judges strings of parentheses.

Training is plain torch, several times faster here than through a hooked model; the weights are
then renamed to the TransformerLens layout and the two are compared. Two more seeds, trained by the
same recipe, are snapshots.

The learning rate is so high that rounding decides which minimum is found: processors whose
products round differently train different weights from one seed. The weights of the first seed are
those that records were made with, so they are kept where they are there, and trained where not.
"""

import copy
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.behaviors import parens
from interp.models import catalogue
from interp.models.info import Answers
from zoo import _paren_card, _save

NAME: Final = "paren-balancer"
VOCABULARY: Final = ("[START]", "[PAD]", "[END]", parens.OPEN, parens.CLOSE)
START, PAD, END = 0, 1, 2
CLASSES: Final = ("unbalanced", "balanced")

N_LAYERS, N_HEADS, D_MODEL, D_HEAD, D_MLP, N_CTX = 3, 2, 56, 28, 56, 42

SEEDS: Final = (1, 2, 3)  # the first is the model, the others are its snapshots
STEPS: Final = 3_800
BATCH: Final = 128
GROUP: Final = 8  # minibatches sorted by length together
PEAK_RATE: Final = 3e-3
TRAIN_STRINGS: Final = 240_000
HELD_OUT: Final = 20_000
TEST_STRINGS: Final = 40_000
EVALUATE_EVERY: Final = 100
BAND: Final = (0.995, 0.998)  # accuracy wanted of the pinned checkpoint: good, yet with errors
CONVERSION_TOLERANCE: Final = 1e-10  # of the logits' standard deviation, in float64


class Block(nn.Module):
    """Pre-norm attention and MLP without causal mask."""

    def __init__(self) -> None:
        """Create the weights."""
        super().__init__()
        self.norm1 = nn.LayerNorm(D_MODEL)
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL)
        self.out = nn.Linear(D_MODEL, D_MODEL)
        self.norm2 = nn.LayerNorm(D_MODEL)
        self.into = nn.Linear(D_MODEL, D_MLP)
        self.back = nn.Linear(D_MLP, D_MODEL)

    def forward(self, stream: Tensor, mask: Tensor | None, rows: int) -> Tensor:
        """The new stream at the first ``rows`` positions; ``mask`` is True at readable keys."""
        normed = self.norm1(stream)
        query, key, value = functional.linear(normed, self.qkv.weight, self.qkv.bias).chunk(3, -1)
        mixed = functional.scaled_dot_product_attention(
            _by_head(query[:, :rows]), _by_head(key), _by_head(value), attn_mask=mask
        )
        stream = stream[:, :rows] + self.out(mixed.transpose(1, 2).flatten(2))
        hidden: Tensor = self.back(functional.relu(self.into(self.norm2(stream))))
        return stream + hidden


def _by_head(flat: Tensor) -> Tensor:
    return flat.unflatten(-1, (N_HEADS, D_HEAD)).transpose(1, 2)


class ParenNet(nn.Module):
    """The training twin of the exported model."""

    def __init__(self) -> None:
        """Create the weights from torch's global random state."""
        super().__init__()
        self.tokens = nn.Embedding(len(VOCABULARY), D_MODEL)
        self.positions = nn.Embedding(N_CTX, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.norm = nn.LayerNorm(D_MODEL)
        self.classes = nn.Linear(D_MODEL, len(CLASSES))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.8 / math.sqrt(D_MODEL))
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class logits of padded token rows."""
        readable = tokens != PAD
        mask = None if bool(readable.all()) else readable[:, None, None, :]
        stream: Tensor = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for index, block in enumerate(self.blocks):
            # The answer is read at position 0, so the last block needs no other query.
            rows = 1 if index == N_LAYERS - 1 else tokens.shape[1]
            stream = block(stream, mask, rows)
        logits: Tensor = self.classes(self.norm(stream[:, 0]))
        return logits


# --- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Token rows padded to the context length, true classes and lengths with START and END."""

    tokens: Tensor
    labels: Tensor
    lengths: Tensor


def encode(strings: Sequence[str]) -> Encoded:
    """Strings of parentheses as training rows."""
    rows = np.full((len(strings), N_CTX), PAD, dtype=np.int64)
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


def minibatches(data: Encoded, rng: np.random.Generator) -> list[Tensor]:
    """Row indices for one pass over the data.

    Sorting a few minibatches by length before cutting them up lets each be trimmed to its own
    longest string, which halves the work and changes no result.
    """
    lengths = data.lengths.numpy()
    order = rng.permutation(len(lengths))
    whole = len(order) - len(order) % (BATCH * GROUP)
    rows: list[Tensor] = []
    for group in order[:whole].reshape(-1, BATCH * GROUP):
        by_length = group[np.argsort(lengths[group], kind="stable")].reshape(GROUP, BATCH)
        rows += [torch.from_numpy(part) for part in by_length[rng.permutation(GROUP)]]
    return rows


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """The pinned network and how it came about."""

    net: ParenNet
    pinned_step: int
    curve: list[dict[str, float]]
    wall_seconds: float
    cpu_seconds: float


@torch.no_grad()
def logits_of(net: ParenNet, data: Encoded, chunk: int = 1_000) -> Tensor:
    """Class logits of every row, computed on trimmed rows of similar length."""
    logits = torch.empty(len(data.labels), len(CLASSES))
    for rows in torch.argsort(data.lengths, stable=True).split(chunk):
        logits[rows] = net(data.tokens[rows, : int(data.lengths[rows].max())])
    return logits


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy."""
    loss = functional.cross_entropy(logits.double(), labels)
    return float(loss), float((logits.argmax(-1) == labels).double().mean())


def make_optimizer(net: ParenNet) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [weight for weight in net.parameters() if weight.ndim == 2]
    vectors = [weight for weight in net.parameters() if weight.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": 0.01},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def train(seed: int, data: Encoded, held_out: Encoded) -> Trained:
    """Train, and keep the last evaluated checkpoint whose held-out accuracy is in the band."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 3])
    net = ParenNet()
    optimizer = make_optimizer(net)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=STEPS, pct_start=0.1, cycle_momentum=False
    )
    curve: list[dict[str, float]] = []
    pinned: tuple[int, dict[str, Tensor]] | None = None
    queue: list[Tensor] = []
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(1, STEPS + 1):
        queue = queue or minibatches(data, rng)
        rows = queue.pop()
        logits = net(data.tokens[rows, : int(data.lengths[rows].max())])
        loss = functional.cross_entropy(logits, data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % EVALUATE_EVERY == 0:
            nats, accuracy = score(logits_of(net, held_out), held_out.labels)
            curve.append({"step": step, "loss_nats": round(nats, 5), "accuracy": accuracy})
            print(
                f"seed {seed}  step {step:5d}  loss {nats:.4f}  accuracy {accuracy:.4%}", flush=True
            )
            if BAND[0] <= accuracy <= BAND[1]:
                state = {name: value.clone() for name, value in net.state_dict().items()}
                pinned = (step, state)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if pinned is None:
        raise RuntimeError(f"no checkpoint has an accuracy in {BAND}")
    net.load_state_dict(pinned[1])
    return Trained(net, pinned[0], curve, wall, cpu)


# --- export ----------------------------------------------------------------------------------


def export(net: ParenNet) -> dict[str, Tensor]:
    """The weights in TransformerLens names and shapes."""
    weights = {
        "embed.W_E": net.tokens.weight,
        "pos_embed.W_pos": net.positions.weight,
        "ln_final.w": net.norm.weight,
        "ln_final.b": net.norm.bias,
        "unembed.W_U": net.classes.weight.T,
        "unembed.b_U": net.classes.bias,
    }
    for layer, block in enumerate(net.blocks):
        if not isinstance(block, Block):
            raise TypeError(f"layer {layer} is a {type(block).__name__}")
        prefix = f"blocks.{layer}"
        parts = zip("QKV", block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True)
        for letter, weight, bias in parts:
            by_head = weight.unflatten(0, (N_HEADS, D_HEAD)).transpose(1, 2)
            weights[f"{prefix}.attn.W_{letter}"] = by_head
            weights[f"{prefix}.attn.b_{letter}"] = bias.unflatten(0, (N_HEADS, D_HEAD))
        weights |= {
            f"{prefix}.attn.W_O": block.out.weight.T.unflatten(0, (N_HEADS, D_HEAD)),
            f"{prefix}.attn.b_O": block.out.bias,
            f"{prefix}.mlp.W_in": block.into.weight.T,
            f"{prefix}.mlp.b_in": block.into.bias,
            f"{prefix}.mlp.W_out": block.back.weight.T,
            f"{prefix}.mlp.b_out": block.back.bias,
            f"{prefix}.ln1.w": block.norm1.weight,
            f"{prefix}.ln1.b": block.norm1.bias,
            f"{prefix}.ln2.w": block.norm2.weight,
            f"{prefix}.ln2.b": block.norm2.bias,
        }
    return {name: weight.detach().clone() for name, weight in weights.items()}


def blueprint(weights: Mapping[int, Mapping[str, Tensor]]) -> _save.Blueprint:
    """Everything the folder holds except the card, from the weights of each seed."""
    return _save.Blueprint(
        name=NAME,
        transformer={
            "n_layers": N_LAYERS,
            "d_model": D_MODEL,
            "n_ctx": N_CTX,
            "d_head": D_HEAD,
            "n_heads": N_HEADS,
            "d_mlp": D_MLP,
            "d_vocab": len(VOCABULARY),
            "d_vocab_out": len(CLASSES),
            "act_fn": "relu",
            "normalization_type": "LN",
            "positional_embedding_type": "standard",
            "attention_dir": "bidirectional",
            "attn_only": False,
        },
        answer={"space": "classes", "classes": list(CLASSES), "read": 0},
        weights=weights[SEEDS[0]],
        tokenizer=_save.character_tokenizer(VOCABULARY, before="[START]", after="[END]"),
        snapshots={_paren_card.label(seed): weights[seed] for seed in SEEDS[1:]},
        half=False,
    )


@torch.no_grad()
def conversion_error(net: ParenNet, model: HookedTransformer, data: Encoded) -> float:
    """Largest difference between the two models' logits, over the logits' standard deviation.

    The training network sees every row padded to the full context and masked, the exported one
    only strings of equal length without padding. Both compute in float64, where a mistake stands
    out from rounding.
    """
    twin = copy.deepcopy(net).double()
    model.to(torch.float64, print_details=False)
    ours = torch.cat([twin(rows) for rows in data.tokens.split(1_000)])
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
    weights = export(done.net)
    with tempfile.TemporaryDirectory() as folder:
        only = replace(blueprint(dict.fromkeys(SEEDS, weights)), snapshots={})
        model, _ = _save.load_model(_save.write_model(only, Path(folder)))
    error = conversion_error(done.net, model, held_out)
    _save.require(error < CONVERSION_TOLERANCE, f"the exported model is off by {error}")
    print(f"seed {seed}: step {done.pinned_step} pinned, conversion error {error:.1e}")
    run = _paren_card.Run(
        seed=seed,
        pinned_step=done.pinned_step,
        curve=done.curve,
        conversion_error=error,
        wall_seconds=round(done.wall_seconds, 1),
        cpu_seconds=round(done.cpu_seconds, 1),
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
        steps=STEPS,
        optimizer=f"AdamW, one cycle, peak rate {PEAK_RATE:g}",
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

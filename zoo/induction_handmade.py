"""The model ``induction-handmade``: an induction circuit with every weight written by hand.

It answers "what followed the last time I saw this letter?". The residual stream is cut into slots
that no two jobs share, so each head's role can be read off its weights.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from zoo import _save
from zoo._induction_checks import Checks, Patching, check, patch_heads, require_promises

NAME: Final = "induction-handmade"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY: Final = ("[BOS]", *LETTERS)

N_LAYERS, N_HEADS, N_CTX, D_VOCAB = 2, 2, 32, len(VOCABULARY)
D_HEAD: Final = 32  # room for one position out of N_CTX, and for one token out of D_VOCAB

# The residual stream, slot after slot.
TOKEN: Final = slice(0, D_VOCAB)
PREVIOUS: Final = slice(TOKEN.stop, TOKEN.stop + D_VOCAB)
OUT: Final = slice(PREVIOUS.stop, PREVIOUS.stop + D_VOCAB)
POSITION: Final = slice(OUT.stop, OUT.stop + N_CTX)
ONE: Final = POSITION.stop
D_MODEL: Final = ONE + 1

MATCH_SCORE: Final = 60.0  # attention score of a match; everything else scores 0
OUT_GAIN: Final = 10.0  # logit of a letter that gets all the attention
NOISE: Final = 0.1
SEED: Final = 7
CHECK_PROMPTS: Final = 2_000

Weights = dict[str, Tensor]


def build_weights() -> Weights:
    """All weights of the model, in TransformerLens names."""
    weights = _empty_weights()
    tokens, places = torch.eye(D_VOCAB), torch.eye(N_CTX)
    weights["embed.W_E"][:, TOKEN] = tokens
    weights["pos_embed.W_pos"][:, POSITION] = places
    weights["pos_embed.W_pos"][:, ONE] = 1.0
    weights["unembed.W_U"][OUT] = tokens

    # Scores are divided by sqrt(d_head); half of the correction goes to each factor.
    sharp = math.sqrt(MATCH_SCORE * math.sqrt(D_HEAD))
    # L0H0, previous token: position i asks for the key of position i - 1 and copies its token.
    previous_query, previous_key = _head(weights, 0, 0, "Q"), _head(weights, 0, 0, "K")
    previous_query[POSITION][1:, : N_CTX - 1] = sharp * places[: N_CTX - 1, : N_CTX - 1]
    previous_key[POSITION, :N_CTX] = sharp * places
    _head(weights, 0, 0, "V")[TOKEN, :D_VOCAB] = tokens
    _head(weights, 0, 0, "O")[:D_VOCAB, PREVIOUS] = tokens
    # L1H0, induction: a token asks for the positions that follow an earlier copy of itself.
    _head(weights, 1, 0, "Q")[TOKEN, :D_VOCAB] = sharp * tokens
    _head(weights, 1, 0, "K")[PREVIOUS, :D_VOCAB] = sharp * tokens
    _head(weights, 1, 0, "V")[TOKEN, :D_VOCAB] = tokens
    _head(weights, 1, 0, "O")[:D_VOCAB, OUT] = OUT_GAIN * tokens
    _add_distractors(weights)
    return weights


def _add_distractors(weights: Weights) -> None:
    """Let L0H1 and L1H1 read at random and write noise where nobody reads it afterwards.

    The position slot is read by L0H0, which comes before both writes, and by the distractors
    themselves; neither L1H0 nor the unembedding looks at it.
    """
    noise = torch.Generator().manual_seed(SEED)
    for layer in range(N_LAYERS):
        for matrix in ("Q", "K", "V"):
            shape = (D_MODEL, D_HEAD)
            _head(weights, layer, 1, matrix)[:] = NOISE * torch.randn(shape, generator=noise)
        write = NOISE * torch.randn((D_HEAD, N_CTX), generator=noise)
        _head(weights, layer, 1, "O")[:, POSITION] = write


def _empty_weights() -> Weights:
    weights: Weights = {
        "embed.W_E": torch.zeros(D_VOCAB, D_MODEL),
        "pos_embed.W_pos": torch.zeros(N_CTX, D_MODEL),
        "unembed.W_U": torch.zeros(D_MODEL, D_VOCAB),
        "unembed.b_U": torch.zeros(D_VOCAB),
    }
    for layer in range(N_LAYERS):
        prefix = f"blocks.{layer}.attn"
        for matrix in ("Q", "K", "V"):
            weights[f"{prefix}.W_{matrix}"] = torch.zeros(N_HEADS, D_MODEL, D_HEAD)
            weights[f"{prefix}.b_{matrix}"] = torch.zeros(N_HEADS, D_HEAD)
        weights[f"{prefix}.W_O"] = torch.zeros(N_HEADS, D_HEAD, D_MODEL)
        weights[f"{prefix}.b_O"] = torch.zeros(D_MODEL)
    return weights


def _head(weights: Weights, layer: int, head: int, matrix: str) -> Tensor:
    """A view of one head's matrix; writing to it changes the weights."""
    return weights[f"blocks.{layer}.attn.W_{matrix}"][head]


def blueprint() -> _save.Blueprint:
    """Everything the folder holds except the card."""
    return _save.Blueprint(
        name=NAME,
        transformer={
            "n_layers": N_LAYERS,
            "d_model": D_MODEL,
            "n_ctx": N_CTX,
            "d_head": D_HEAD,
            "n_heads": N_HEADS,
            "d_mlp": None,
            "d_vocab": D_VOCAB,
            "d_vocab_out": D_VOCAB,
            "act_fn": "relu",
            "normalization_type": None,
            "positional_embedding_type": "standard",
            "attention_dir": "causal",
            "attn_only": True,
        },
        answer={"space": "tokens", "read": -1},
        weights=build_weights(),
        tokenizer=_save.character_tokenizer(VOCABULARY, before="[BOS]"),
    )


# --- card ------------------------------------------------------------------------------------

EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "The first a is hidden: which heads bring b back?",
        "clean": "kmabcda",
        "corrupted": "kmxbcda",
        "answer": "b",
        "foil": "c",
    },
    {
        "kind": "activation_patching",
        "label": "The same circuit at another distance",
        "clean": "qtnwzeut",
        "corrupted": "qfnwzeut",
        "answer": "n",
        "foil": "w",
    },
    {
        "kind": "logit_lens",
        "label": "In which layer does s enter the residual stream?",
        "clean": "rhjoslpgyo",
        "corrupted": "rhjdslpgyo",
        "answer": "s",
        "foil": "y",
    },
)
"""Starting points; in each corrupted prompt the first copy of the cue is an unseen letter."""

PROSE: Final = """\
# An induction circuit written by hand

Given letters and then a repeat of one of them, the model predicts the letter that followed the
first time: after `kmabcda` it says `b`. No weight was trained. The text is read one token per
letter, `[BOS]` first; at most {n_ctx} tokens fit.

## The residual stream

| slot | numbers | holds |
|---|---|---|
| token | {token} | the token here, one-hot (embedding) |
| previous | {previous} | the token one position back (written by L0H0) |
| out | {out} | the answer, read by the unembedding (written by L1H0) |
| position | {position} | the position, one-hot (position table), later also noise |
| one | {one} | always 1 (position table) |

There is no normalisation, no MLP and no bias.

## The heads

* **L0H0, previous token.** The query at position i matches the key of position i-1 with a score of
  {score:g}, all others score 0. It copies the token slot there into the previous slot here.
  Position 0 has nothing before it and attends to itself.
* **L1H0, induction.** The query is the token here, the key is the previous slot: it finds the
  positions that come after an earlier copy of this token (score {score:g}). It copies the token
  there into the out slot, {gain:g} times as large.
* **L0H1 and L1H1, distractors.** They read every slot through small random matrices and write noise
  into the position slot. L1H0 and the unembedding never read that slot, so nothing they do can
  change a logit.

## What to expect

* On {n:,} random prompts of 2 to 26 distinct letters and a repeat, the accuracy is {accuracy:.0%},
  both attention weights are at least {attention:.6f} and the answer's logit is at least
  {logit:.4f}; every other logit is at most {other:.4f}.
* A letter that was not seen before gives L1H0 no match: it attends everywhere alike and every
  token of the prompt gets a share of the {gain:g} logits.
* A letter seen several times shares the attention equally among its successors.
* Patching the output of one head at one position from the clean into the corrupted run, only two
  sites bring the answer back, and they do so completely:

| clean | corrupted | answer | logit clean | corrupted | L0H0 after cue | L1H0 at end | others |
|---|---|---|---|---|---|---|---|
{table}

"Others" is the largest answer logit that any other head and position reaches; none of them
moves it. Positions count from 0 at `[BOS]`.

## Origin

No data and no weights from elsewhere: the builder in this repository computes every number, the
distractors from seed {seed}. Licence: MIT.
"""


def write_card(folder: Path, checks: Checks, patchings: Sequence[Patching]) -> None:
    """Write the card with the measured numbers."""
    front = {
        "title": "Induction, written by hand",
        "summary": "Two layers of attention whose weights spell out an induction circuit.",
        "task": "Predict the letter that followed the earlier copy of the last letter.",
        "licence": "MIT",
        "seed": SEED,
        "parameters": _save.parameter_count(build_weights()),
        "built": {"method": "explicit weights", "noise_seed": SEED, "noise_scale": NOISE},
        "curve": [],
        "facts": [*_behaviour_facts(checks), *_patching_facts(patchings[0])],
        "examples": list(EXAMPLES),
    }
    _save.write_card(folder, front, _prose(checks, patchings))


def _behaviour_facts(checks: Checks) -> list[dict[str, Any]]:
    rows = [
        ("Answers right after distinct letters and a repeat.", checks.accuracy, "share"),
        ("Smallest attention of L0H0 to the previous position.",
         checks.previous_attention, "attention"),
        ("Smallest attention of L1H0 from the repeat to the letter after its first copy.",
         checks.induction_attention, "attention"),
        ("Smallest logit of the right letter.", checks.answer_logit, "logit"),
        ("Largest logit of any other token.", checks.other_logit, "logit"),
    ]  # fmt: skip
    return [_save.fact(claim, value, unit, checks.prompts) for claim, value, unit in rows]


def _patching_facts(pair: Patching) -> list[dict[str, Any]]:
    first, last = pair.expected
    what = f"Logit of {pair.answer} on {pair.corrupted}"
    rows = [
        (f"Logit of {pair.answer} on {pair.clean}.", pair.clean_logit),
        (f"{what}.", pair.corrupted_logit),
        (f"{what}, L0H0 patched at position {first[2]} from {pair.clean}.", pair.patched[first]),
        (f"{what}, L1H0 patched at position {last[2]} from {pair.clean}.", pair.patched[last]),
        (f"{what}, any other head and position patched (largest).", pair.best_other),
    ]
    return [_save.fact(claim, value, "logit", 1) for claim, value in rows]


def _prose(checks: Checks, patchings: Sequence[Patching]) -> str:
    rows: list[str] = []
    for pair in patchings:
        restored = [pair.patched[site] for site in pair.expected]
        logits = [pair.clean_logit, pair.corrupted_logit, *restored, pair.best_other]
        cells = [f"`{pair.clean}`", f"`{pair.corrupted}`", f"`{pair.answer}`"]
        rows.append("| " + " | ".join([*cells, *(f"{logit:.3f}" for logit in logits)]) + " |")
    slots = {"token": TOKEN, "previous": PREVIOUS, "out": OUT, "position": POSITION}
    return PROSE.format(
        **{name: f"{slot.start}-{slot.stop - 1}" for name, slot in slots.items()},
        one=ONE,
        n_ctx=N_CTX,
        score=MATCH_SCORE,
        gain=OUT_GAIN,
        n=checks.prompts,
        accuracy=checks.accuracy,
        attention=min(checks.previous_attention, checks.induction_attention),
        logit=checks.answer_logit,
        other=checks.other_logit,
        table="\n".join(rows),
        seed=SEED,
    )


def main() -> None:
    """Build, check and write the model."""
    torch.set_num_threads(1)
    folder = _save.write_model(blueprint())
    model, tokenizer = _save.load_model(folder)
    checks = check(model, CHECK_PROMPTS, SEED)
    patchings = [
        patch_heads(model, tokenizer, example["clean"], example["corrupted"], example["answer"])
        for example in EXAMPLES
    ]
    require_promises(checks, patchings, OUT_GAIN)
    write_card(folder, checks, patchings)
    print(checks)


if __name__ == "__main__":
    main()

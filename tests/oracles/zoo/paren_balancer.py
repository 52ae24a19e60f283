"""Facts of ``paren-balancer`` and its two other seeds, on strings made and judged here."""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import product

import torch

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "paren-balancer"
SEEDS = {"": "seed 1", "seed-2": "seed 2", "seed-3": "seed 3"}


def balanced(text: str) -> bool:
    """Take out innermost pairs until nothing changes."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


def drawn(rng: random.Random, pairs: int) -> str:
    """A balanced string, uniform among those of its length.

    From depth h with k steps left, the share of ways to the end that go down first is
    ``h (k + h + 2) / (2 k (h + 1))``.
    """
    text, depth = "", 0
    for left in range(2 * pairs, 0, -1):
        down = rng.random() < depth * (left + depth + 2) / (2 * left * (depth + 1))
        text += ")" if down else "("
        depth += -1 if down else 1
    return text


@lru_cache(maxsize=1)
def mix() -> tuple[str, ...]:
    """Strings of even lengths 2 to 40 of four sorts, in the shares of the training data."""
    rng = random.Random(415)
    made: list[str] = []
    for number in range(3_000):
        half = number % 20 + 1
        sort = rng.choices(("balanced", "any", "equal", "edited"), (35, 30, 20, 15))[0]
        letters = list(drawn(rng, half))
        if sort == "any":
            letters = [rng.choice("()") for _ in letters]
        elif sort == "equal":
            rng.shuffle(letters)
        elif sort == "edited":
            at = rng.randrange(2 * half)
            letters[at] = "(" if letters[at] == ")" else ")"
            if rng.random() < 0.5:  # the counts are put right again
                other = rng.choice([i for i, one in enumerate(letters) if one == letters[at]])
                letters[other] = "(" if letters[other] == ")" else ")"
        made.append("".join(letters))
    return tuple(made)


@torch.no_grad()
def verdicts(model: Loaded, texts: tuple[str, ...], swapped: bool = False) -> torch.Tensor:
    """Logits [text, class]; or, if ``swapped``, with the last MLP's output of another text.

    Only what the last MLP adds at [START] is exchanged, at the end of the residual stream.
    """
    final = torch.empty(len(texts), model.model.cfg.d_model)
    written = torch.empty_like(final)
    logits = torch.empty(len(texts), 2)
    for length in {len(text) for text in texts}:
        rows = [row for row, text in enumerate(texts) if len(text) == length]
        out, cache = model.model.run_with_cache(model.ids(*(texts[row] for row in rows)))
        logits[rows] = out[:, 0]
        final[rows] = cache["blocks.2.hook_resid_post"][:, 0]
        written[rows] = cache["blocks.2.hook_mlp_out"][:, 0]
    if not swapped:
        return logits
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    stream = (final - written + written[order])[:, None]
    return model.model.unembed(model.model.ln_final(stream))[:, 0]


def right(texts: tuple[str, ...]) -> torch.Tensor:
    """The class of each text: 1 for balanced."""
    return torch.tensor([int(balanced(text)) for text in texts])


def accuracy(model: Loaded) -> float:
    """Share of strings of the mix that are judged rightly."""
    return float((verdicts(model, mix()).argmax(-1) == right(mix())).float().mean())


def on_short_strings(model: Loaded) -> float:
    """Share of all strings of even length up to 10 that are judged rightly."""
    texts = tuple("".join(w) for n in range(2, 11, 2) for w in product("()", repeat=n))
    return float((verdicts(model, texts).argmax(-1) == right(texts)).float().mean())


def rise_without_last_mlp(model: Loaded) -> float:
    """Rise of the loss when the last MLP's direct output is that on another string."""
    losses = [
        torch.nn.functional.cross_entropy(verdicts(model, mix(), swapped), right(mix()))
        for swapped in (False, True)
    ]
    return float(losses[1] - losses[0])


FACTS = (
    *(
        Fact(
            f"accuracy on fresh strings, {name}",
            accuracy,
            at_least=0.99,
            unit="share",
            snapshot=snapshot,
        )
        for snapshot, name in SEEDS.items()
    ),
    Fact("every short string is judged rightly", on_short_strings, at_least=1.0, unit="share"),
    *(
        Fact(
            f"the last MLP writes the verdict, {name}",
            rise_without_last_mlp,
            at_least=0.2,
            unit="nats",
            snapshot=snapshot,
        )
        for snapshot, name in SEEDS.items()
    ),
)

"""Checks of the hand-made induction circuit: what it answers, and which heads carry the answer.

Everything is measured through the model's own hooks; nothing here knows how the weights were made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.hook_points import HookPoint

from zoo import _save

BOS: Final = 0

Site = tuple[int, int, int]
"""Layer, head, position (0 at BOS)."""


@dataclass(frozen=True)
class Checks:
    """Behaviour over random prompts; every number but the accuracy is the worst one seen."""

    prompts: int
    accuracy: float
    previous_attention: float
    induction_attention: float
    answer_logit: float
    other_logit: float


@torch.no_grad()
def check(model: HookedTransformer, prompts: int, seed: int) -> Checks:
    """Measure the model on distinct letters followed by a repeat of an earlier one."""
    rng = torch.Generator().manual_seed(seed)
    n_letters = model.cfg.d_vocab - 1
    hits, previous, induction, answers, others = 0, 1.0, 1.0, math.inf, -math.inf
    for _ in range(prompts):
        length = int(torch.randint(2, n_letters + 1, (), generator=rng))
        letters = 1 + torch.randperm(n_letters, generator=rng)[:length]
        cue = int(torch.randint(0, length - 1, (), generator=rng))  # the last has no successor
        tokens = torch.cat([torch.tensor([BOS]), letters, letters[cue : cue + 1]])
        logits, cache = model.run_with_cache(tokens[None])
        last, answer = _save.tensor(logits)[0, -1].clone(), int(letters[cue + 1])
        previous = min(previous, float(cache["pattern", 0][0, 0].diagonal(offset=-1).min()))
        induction = min(induction, float(cache["pattern", 1][0, 0, -1, cue + 2]))
        hits += int(int(last.argmax()) == answer)
        answers = min(answers, float(last[answer]))
        last[answer] = -math.inf
        others = max(others, float(last.max()))
    return Checks(prompts, hits / prompts, previous, induction, answers, others)


@dataclass(frozen=True)
class Patching:
    """A pair of prompts, and the answer's logit after patching each head at each position."""

    clean: str
    corrupted: str
    answer: str
    clean_logit: float
    corrupted_logit: float
    patched: dict[Site, float]

    @property
    def expected(self) -> tuple[Site, Site]:
        """The sites that should matter: L0H0 just after the first cue, L1H0 at the end."""
        # BOS shifts every letter by one, and the answer is one further.
        return (0, 0, self.clean.index(self.clean[-1]) + 2), (1, 0, len(self.clean))

    @property
    def moves(self) -> dict[Site, float]:
        """Sites whose patch changes the logit by more than a thousandth of what was lost."""
        tolerance = 1e-3 * abs(self.clean_logit - self.corrupted_logit)
        return {
            site: logit
            for site, logit in self.patched.items()
            if abs(logit - self.corrupted_logit) > tolerance
        }

    @property
    def best_other(self) -> float:
        """The largest logit reached by patching a site that should not matter."""
        return max(logit for site, logit in self.patched.items() if site not in self.expected)


@torch.no_grad()
def patch_heads(
    model: HookedTransformer, tokenizer: Tokenizer, clean: str, corrupted: str, answer: str
) -> Patching:
    """Put each head's clean output (z), one position at a time, into the corrupted run."""
    target: int = tokenizer.encode(answer).ids[-1]
    clean_tokens = torch.tensor([tokenizer.encode(clean).ids])
    corrupted_tokens = torch.tensor([tokenizer.encode(corrupted).ids])
    clean_logits, cache = model.run_with_cache(clean_tokens)
    patched: dict[Site, float] = {}
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_z"
        for head in range(model.cfg.n_heads):
            for position in range(clean_tokens.shape[1]):
                hook = partial(_overwrite, source=cache[name], head=head, position=position)
                logits = model.run_with_hooks(corrupted_tokens, fwd_hooks=[(name, hook)])
                patched[layer, head, position] = float(_save.tensor(logits)[0, -1, target])
    return Patching(
        clean=clean,
        corrupted=corrupted,
        answer=answer,
        clean_logit=float(_save.tensor(clean_logits)[0, -1, target]),
        corrupted_logit=float(_save.logits_at(model, corrupted_tokens, -1)[0, target]),
        patched=patched,
    )


def _overwrite(z: Tensor, hook: HookPoint, source: Tensor, head: int, position: int) -> Tensor:
    del hook  # part of the signature of a hook function
    z[:, position, head] = source[:, position, head]
    return z


def require_promises(checks: Checks, patchings: Sequence[Patching], logit: float) -> None:
    """Stop the build unless the circuit does what its card says.

    Args:
        checks: Behaviour over random prompts.
        patchings: Patching of single heads on prompt pairs.
        logit: What the right answer's logit should be.
    """
    _save.require(checks.accuracy == 1.0, f"accuracy is {checks.accuracy}")
    for value in (checks.previous_attention, checks.induction_attention):
        _save.require(value > 1 - 1e-6, f"a head attends with {value}")
    off = abs(checks.answer_logit - logit)
    _save.require(off < 1e-4, f"the answer's logit is {checks.answer_logit}")
    for pair in patchings:
        found = pair.moves
        _save.require(set(found) == set(pair.expected), f"{pair.clean}: {sorted(found)} matter")
        least = min(found.values())
        _save.require(least > pair.clean_logit - 1e-4, f"{pair.clean}: restored only {least}")

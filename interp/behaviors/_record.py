"""A behavior: exact token ids in, the answers that are compared, and where they are read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class PromptPair:
    """A clean and a corrupted prompt as text, the clean one's answer, and the answer it beats."""

    clean: str
    corrupted: str
    answer: str
    foil: str = ""


@dataclass(frozen=True)
class Behavior:
    """Inputs of a model by exact token ids, with counterfactuals, answers and the position read.

    Attributes:
        model: Name of the model whose tokens these are.
        name: What people call it.
        source: Where the inputs come from, one sentence.
        space: "tokens" or "classes": what ``answers`` and ``foils`` are indices of.
        read: Position whose logits are the answer, negative from the end.
        clean: One tuple of token ids an input.
        corrupted: The counterfactual of each input, or empty. Same lengths as ``clean``.
        answers: Right output of each clean input, or empty.
        foils: Output that the answer is compared with, -1 where there is none; or empty.
        held_out: Whether each input is kept from searches; or empty (none is).
        clusters: Group of words that each input is made of, as a number: inputs of one group are
            not independent. Or empty: every input is independent of the others.
        features: Named properties of the clean inputs: the name, and a whole number an input.
    """

    model: str
    name: str
    source: str
    space: str
    read: int
    clean: tuple[tuple[int, ...], ...]
    corrupted: tuple[tuple[int, ...], ...] = ()
    answers: tuple[int, ...] = ()
    foils: tuple[int, ...] = ()
    held_out: tuple[bool, ...] = ()
    clusters: tuple[int, ...] = ()
    features: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __len__(self) -> int:
        return len(self.clean)

    @cached_property
    def canonical(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, no clusters or features where there are none."""
        told = asdict(self)
        # Behaviors from before there were such keep their hash.
        for name in ("clusters", "features"):
            if not told[name]:
                del told[name]
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def hash(self) -> str:
        """Sha256 of the canonical JSON: the name of this behavior in the store."""
        return hashlib.sha256(self.canonical).hexdigest()

    def both_sides(self, features: tuple[tuple[str, tuple[int, ...]], ...] = ()) -> Behavior:
        """Return the clean inputs, and behind them the corrupted ones with foils as answers.

        Args:
            features: Values of the features on both; those of the clean inputs alone do not fit.
        """
        every = self.clean + self.corrupted
        # A copy of an input that is searched is not kept from searches.
        half: dict[tuple[int, ...], bool] = {}
        for ids, out in zip(every, self.held_out * 2, strict=bool(self.held_out)):
            half.setdefault(ids, out)
        return replace(
            self,
            clean=every,
            corrupted=(),
            answers=self.answers + self.foils,
            foils=self.foils + self.answers,
            held_out=tuple(half[ids] for ids in every) if self.held_out else (),
            clusters=self.clusters * 2,
            features=features,
        )

    @classmethod
    def from_json(cls, data: bytes | str) -> Behavior:
        """Read the canonical JSON back."""
        raw: dict[str, Any] = json.loads(data)
        for name in ("clean", "corrupted"):
            raw[name] = tuple(tuple(ids) for ids in raw[name])
        for name in ("answers", "foils", "held_out", "clusters"):
            raw[name] = tuple(raw.get(name, ()))
        raw["features"] = tuple((name, tuple(of)) for name, of in raw.get("features", ()))
        return cls(**raw)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each input."""
        return tuple(len(ids) for ids in self.clean)

    def read_at(self, index: int) -> int:
        """Return the position read of input ``index``, counted from 0."""
        return self.read if self.read >= 0 else len(self.clean[index]) + self.read

"""What each component of a paren balancer writes into its verdict, and of which feature it is.

``interp.methods.roles`` measures; the features are those of counts and suffixes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from interp.behaviors import Behavior, parens
from interp.methods.roles import Roles, find_roles
from interp.models.load import LoadedModel

FEATURES: Final[Mapping[str, Callable[[str], int]]] = {
    "count": parens.equal_counts,
    "horizon": parens.horizon,
    "starts open": parens.starts_open,
    "count ∧ starts open": lambda text: parens.equal_counts(text) and parens.starts_open(text),
    "balanced": parens.is_balanced,
    "length": len,
}
COMPARED: Final = (1, 0)  # the verdict is balanced minus unbalanced
SHOWN: Final = 4  # components in a table of the card


def find(model: LoadedModel, tokenizer: Tokenizer, strings: Sequence[str], seed: int) -> Roles:
    """Find the roles of all components on some strings."""
    behavior = Behavior(
        model=model.info.name,
        name="hard mix",
        source="Strings of the hard mix.",
        space=model.info.answers.space,
        read=model.info.answers.read,
        clean=tuple(tuple(code.ids) for code in tokenizer.encode_batch(list(strings))),
        answers=tuple(int(parens.is_balanced(text)) for text in strings),
        features=tuple(
            (name, tuple(int(of(text)) for text in strings)) for name, of in FEATURES.items()
        ),
    )
    rng = np.random.default_rng([seed, 6])
    return find_roles(model, behavior, [COMPARED] * len(strings), rng)


def rows(roles: Roles) -> list[dict[str, Any]]:
    """The role of every component as plain data, largest absolute direct effect first."""
    return [
        {
            "component": role.component,
            "effect_nats": float(f"{role.effect:.4g}"),
            "low": float(f"{role.low:.4g}"),
            "high": float(f"{role.high:.4g}"),
            "feature": role.feature,
            "eta2": round(role.eta2, 4),
            "alone": role.alone,
            "eta2_alone": round(role.eta2_alone, 4),
            "null": round(role.null, 4),
            "null_gain": round(float(roles.gain[roles.components.index(role.component)]), 4),
        }
        for role in roles.roles
    ]


def table(title: str, found: Sequence[Mapping[str, Any]]) -> str:
    """The largest roles as a table of Markdown, from the rows of one seed."""
    lines = [
        f"| {title} | direct effect in nats | role | η² | best feature alone | by chance |",
        "|---|---|---|---|---|---|",
    ]
    for row in found[:SHOWN]:
        half = (row["high"] - row["low"]) / 2
        lines.append(
            f"| {row['component']} | {row['effect_nats']:.3f} ± {half:.3f} | {row['feature']} "
            f"| {row['eta2']:.2f} | {row['alone']} {row['eta2_alone']:.2f} "
            f"| {row['null']:.3f}, gain {row['null_gain']:.3f} |"
        )
    return "\n".join(lines)

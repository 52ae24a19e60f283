"""What the panel of a claim says: from its widgets to a hypothesis."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from interp.errors import BadInput
from interp.explanations.hypothesis import SHARED, Feature, Hypothesis
from interp.explanations.terms import MASK, ROOT, STREAM, Term, parse_term, parse_terms, terms_of
from ui import hypothesis_text, state
from ui.hypothesis_state import Editor
from ui.hypothesis_text import Path

FEATURES, NEAR, LISTED = "features", "near", "listed"
"""Choices of a claim that are no words of a hypothesis."""
WHOLE, ALL = "whole", "all"
"""Rows of the map: that of the whole input, and the one of a model that is too large for rows."""
COLUMN = "column:"
"""What stands before a choice that is a column of the inputs, not yet a feature."""
_INPUT, _PARTS = "in", "parts"
_MOST_BUTTONS = 200
_LONGEST = 10_000


def rows(editor: Editor, path: Path, what: str) -> dict[str, list[str]]:
    """List the sites that may stand at a place, by rows of the model's map, the last layer first.

    Args:
        editor: The editor.
        path: A claim, or the one above a new one.
        what: "claim" or "add".
    """
    nodes = hypothesis_text.line(editor.hypothesis, path if what == "add" else path[:-1])
    if nodes is None or (what == "claim" and not path):
        return {}
    info, above = editor.info, nodes[-1]
    own = parse_terms(above.site)
    kinds = {term.kind for term in own}
    if above.site == MASK or kinds & {"embed", "pos_embed"} or any(term.part for term in own):
        return {}
    if "mlp" in kinds and len(own) > 1:
        return {}
    reader = next(node for node in reversed(nodes) if node.site != STREAM)
    written = [term.written(info) for term in parse_terms(reader.site)]
    first = min(written, default=2 * info.n_layers)
    terms = [term for term in terms_of(info) if term.written(info) < first]
    found: dict[str, list[str]] = {}
    if len(terms) > _MOST_BUTTONS:
        found[ALL] = list(map(str, terms))
    else:
        for term in terms:
            found.setdefault(_INPUT if term.layer < 0 else f"L{term.layer}", []).append(str(term))
        found = dict(reversed(found.items()))
    split = [parse_term(one.site) for one in editor.hypothesis.rewrites]
    if pieces := [f"{term}#{part}" for term in split if term in terms for part in ("part", "rest")]:
        found[_PARTS] = pieces
    if above.site not in (ROOT, STREAM):
        found[WHOLE] = [STREAM] + [MASK] * (kinds == {"head"} and not info.causal)
    return found


def get(editor: Editor, name: str) -> Any:
    """Read a widget of the panel."""
    return state.value(editor.kind, f"claim/{name}")


def put(editor: Editor, name: str, value: Any) -> None:
    """Overwrite a widget of the panel; for callbacks."""
    state.put(editor.kind, {f"claim/{name}": value})


def choices(editor: Editor) -> list[str]:
    """List what a claim can be said to matter through; drop of what is chosen what is none."""
    options = [*editor.hypothesis.features, *(COLUMN + name for name in columns(editor))]
    chosen = list(get(editor, "features") or ())
    if left := [one for one in chosen if one not in options]:
        put(editor, "features", [one for one in chosen if one not in left])
    return options


def choose(editor: Editor, name: str, before: str) -> None:
    """Take a feature that was written into the claim that is open; for callbacks.

    Args:
        editor: The editor.
        name: The feature.
        before: What it was called; empty for a new one, which a new claim is to matter through.
    """
    chosen = list(get(editor, "features") or ())
    if before:
        put(editor, "features", [name if one == before else one for one in chosen])
    elif editor.open[0] == "add":
        put(editor, "features", [*chosen, name])
    if get(editor, "near") == before or (not before and get(editor, "how") == NEAR):
        put(editor, "near", name)


def site(editor: Editor, path: Path, what: str) -> str:
    """Return the site that is chosen in the map, or empty."""
    options = rows(editor, path, what)
    chosen = [one for name in options for one in get(editor, f"row/{name}") or ()]
    if STREAM in chosen or MASK in chosen:
        return chosen[-1] if len(chosen) == 1 else "+".join(chosen)
    return "+".join(map(str, sorted(map(parse_term, chosen), key=_order)))


def _order(term: Term) -> tuple[int, str, int]:
    return term.layer, term.kind, term.head


def made(editor: Editor, path: Path, what: str) -> Hypothesis:
    """Return the hypothesis that the panel asks for.

    Raises:
        InterpError: The panel says nothing that can be read.
    """
    now = editor.hypothesis
    nodes = hypothesis_text.line(now, path) or [now.graph]
    root = what == "claim" and not path
    place = ROOT if root else site(editor, path, what)
    if not place:
        raise BadInput("No part of the model is chosen yet.", "", "Choose one, or several.")
    fields: dict[str, Any] = {"site": place, "other": SHARED}
    if what == "claim" and (root or nodes[-1].children):
        fields["other"] = get(editor, "other")
    how = get(editor, "how")
    if how == NEAR:
        fields["agree"] = {"near": get(editor, "near") or "", "k": int(get(editor, "k") or 50)}
    elif how == FEATURES:
        now, fields["agree"] = _agreed(editor, now)
    else:
        fields["agree"] = how
    if not root and place != MASK:
        fields["pos"] = _positions(editor)
        fields["into"] = get(editor, "into") or None
    if place not in (ROOT, MASK, STREAM):
        fields["via"] = get(editor, "via")
        fields["attn_term"] = get(editor, "attn_term") or None
    if not root:
        tag = str(get(editor, "pool") or "").strip()
        fields["pool"] = int(tag) if tag.isdecimal() else tag or None
    make = hypothesis_text.added if what == "add" else hypothesis_text.changed
    return make(now, path, fields)


def _agreed(editor: Editor, now: Hypothesis) -> tuple[Hypothesis, str | list[str]]:
    """Return what must agree, and the hypothesis with a feature for each column among that."""
    names: list[str] = []
    for one in get(editor, "features") or ():
        name = str(one)
        if name.startswith(COLUMN):
            name, feature = columns(editor)[name.removeprefix(COLUMN)]
            now = hypothesis_text.with_feature(now, name, feature)
        names.append(name)
    if not names:
        raise BadInput(
            "Nothing is chosen that it matters through.", "", "Choose a feature, or another way."
        )
    return now, names[0] if len(names) == 1 else names


def columns(editor: Editor) -> dict[str, tuple[str, Feature]]:
    """List the columns that are no feature yet, each with the feature that it would be."""
    if editor.inputs is None:
        return {}
    features, taken = editor.hypothesis.features, {*editor.inputs.names}
    known = {feature.expr for feature in features.values()}
    found: dict[str, tuple[str, Feature]] = {}
    for column, values in editor.inputs.columns.items():
        quote = "'" if '"' in column else '"'
        expr = f"column({quote}{column}{quote})"
        if expr in known or column in known or not column.isidentifier():
            continue
        name = column
        while name in features or name in taken:
            name += "_given"
        whole = values.dtype.kind in "bi"
        dtype = "bool" if set(np.unique(values)) <= {0, 1} else "int" if whole else "float"
        found[column] = name, Feature(expr=expr, dtype=dtype)
    return found


def _positions(editor: Editor) -> str | list[int]:
    at = get(editor, "at")
    if at != LISTED:
        return str(at or "all")
    found: list[int] = []
    for part in re.split(r"[,\s]+", str(get(editor, "positions") or "").strip()):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if match is None or not low <= high < low + _LONGEST:
            raise BadInput(
                f"The positions {part!r} were asked for.",
                "",
                "Write numbers from 0, with commas between: 1, or 0, 4, 7-9.",
            )
        found += range(low, high + 1)
    return found

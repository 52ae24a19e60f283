"""The only file that touches session state and query parameters.

A page's address holds its form in readable parameters: every field that differs from the kind's
example, by its own name. So a reload, another tab and a copied address show the same question,
and through its key the same record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from interp import analyses
from interp.analyses._fields import kind_of
from interp.behaviors import populations
from interp.errors import InterpError
from interp.models import catalogue
from ui import hypothesis_text

FROM = "from"
"""The query parameter that names the records walked through to a form, oldest first."""
MOST_STEPS = 12
"""Records that a walk remembers, the one it has come to among them."""
PAIR_PARTS = ("clean", "corrupted", "answer", "foil")


def origin() -> str:
    """Return scheme, host and port of the page that is open."""
    parts = urlsplit(st.context.url or "http://localhost:8501")
    return f"{parts.scheme}://{parts.netloc}"


def param(name: str) -> str:
    """Read one query parameter, empty if it is not there."""
    return str(st.query_params.get(name, ""))


def walk() -> list[str]:
    """Return the ids of the records that led to this page, oldest first; empty for a fresh one."""
    return [one for one in param(FROM).split(",") if one][1 - MOST_STEPS :]


def set_params(params: dict[str, str]) -> None:
    """Make the address of a page hold ``params`` and nothing else."""
    if dict(st.query_params) != params:
        st.query_params.from_dict(params)


def key(kind: str, field: str) -> str:
    """Return the session key of a form's widget."""
    return f"{kind}/{field}"


def example(kind: str) -> dict[str, Any]:
    """Return the fields of the kind's example in the order in which a form shows them."""
    analysis = analyses.get(kind)
    fields = json.loads(analysis.example.canonical)
    return {name: fields[name] for name in analysis.spec.model_fields}


def by_type(kind: str) -> dict[str, str]:
    """Return the field of each type of a kind's questions (the last where several have one)."""
    spec = analyses.get(kind).spec
    return {kind_of(spec, name): name for name in spec.model_fields}


def start(kind: str, model: str) -> dict[str, Any]:
    """Return fields that make sense for a model: from its card's examples."""
    spec, named = analyses.get(kind).spec, by_type(kind)
    fields: dict[str, Any] = {named["model"]: model}
    card = catalogue.card(model).facts
    # An example of another kind has a prompt that the model reads, too.
    for one in sorted(card.get("examples", ()), key=lambda e: e["kind"] != kind)[:1]:
        if "pairs" in named:
            fields[named["pairs"]] = [{p: one[p] for p in PAIR_PARTS}]
        if "prompt" in named:
            fields[named["prompt"]] = one["clean"]
    for name in spec.model_fields:
        if kind_of(spec, name) in ("behavior", "answer"):
            fields[name] = ""
        elif kind_of(spec, name) == "population":
            fields[name] = _first_population(model)
    if "hypothesis" in named:
        own, inputs = example(kind)[named["hypothesis"]], fields[named["population"]]
        claimed = hypothesis_text.usual(own, model, inputs)
        fields[named["hypothesis"]] = claimed.canonical
        if claimed.behavior in populations.for_model(model):
            fields[named["population"]] = claimed.behavior
    for first in ("layer", "head"):
        if first in named:
            fields[named[first]] = 0
    return fields


@lru_cache(maxsize=64)
def _first_population(model: str) -> str:
    """Return the first inputs for a model that can be made: templates may not fit its tokens."""
    for name in populations.for_model(model):
        with suppress(InterpError):
            populations.population(name, 20, model)
            return name
    return ""


def usual(kind: str, model: str) -> dict[str, Any]:
    """Return what a form holds of itself: the kind's example, made fit for another model."""
    fields = example(kind)
    if model == fields[by_type(kind)["model"]] or not catalogue.is_known(model):
        return fields
    return fields | start(kind, model)


def defaults(kind: str) -> dict[str, Any]:
    """Return the fields of the form: from the address, else what is usual for its model."""
    spec = analyses.get(kind).spec
    given = dict(st.query_params)
    fields = usual(kind, str(given.get("model", "")) or example(kind)["model"])
    for name in fields:
        if kind_of(spec, name) == "pairs":
            if "clean" in given or "pairs" in given:
                fields[name] = read_pairs(given)
        elif name in given and name != "kind":
            own = fields[name]
            number = isinstance(own, int | float)
            fields[name] = _number(given[name], type(own)) if number else given[name]
    return fields


def _number(text: str, kind: type[int] | type[float]) -> float | str:
    """Read a number; what is none stays as it is, and the form says so."""
    try:
        return kind(text)
    except ValueError:
        return text


def seed(kind: str, widgets: dict[str, Any]) -> None:
    """Give every widget of a form its value, unless the person has given it one already."""
    for name, value in widgets.items():
        st.session_state.setdefault(key(kind, name), value)


def put(kind: str, widgets: dict[str, Any]) -> None:
    """Overwrite widgets of a form; only from callbacks, before they are drawn."""
    for name, value in widgets.items():
        st.session_state[key(kind, name)] = value


def forget(kind: str) -> None:
    """Drop what a person typed into a form, so that the address decides."""
    for name in [n for n in st.session_state if str(n).startswith(f"{kind}/")]:
        del st.session_state[name]


def value(kind: str, name: str) -> Any:
    """Read a widget of a form."""
    return st.session_state.get(key(kind, name))


def to_params(kind: str, fields: dict[str, Any]) -> dict[str, str]:
    """Return the query parameters of a question: what differs from the usual for its model."""
    own, spec = example(kind), analyses.get(kind).spec
    expected = usual(kind, str(fields.get("model", own["model"])))
    params: dict[str, str] = {}
    for name, given in fields.items():
        same = own["model"] if name == "model" else expected.get(name)
        if name not in own or name == "kind" or given == same:
            continue
        if kind_of(spec, name) == "pairs":
            params |= write_pairs(given)
        elif kind_of(spec, name) == "hypothesis":
            params[name] = hypothesis_text.in_address(given)
        else:
            params[name] = str(given)
    return params


def write_address(
    kind: str, fields: dict[str, Any], more: dict[str, str], walked: Sequence[str]
) -> None:
    """Make the address hold the form as it stands, ``more``, and the records walked through."""
    set_params(to_params(kind, fields) | more | walk_params(walked))


def walk_params(walked: Sequence[str]) -> dict[str, str]:
    """Return the query parameter of a walk; none of an empty one."""
    return {FROM: ",".join(walked)} if walked else {}


def write_pairs(pairs: list[dict[str, str]]) -> dict[str, str]:
    """Return one pair by its parts and further ones as lines of ``pairs``."""
    first = pairs[0] if pairs else dict.fromkeys(PAIR_PARTS, "")
    params = {part: first.get(part, "") for part in PAIR_PARTS}
    if pairs[1:]:
        params["pairs"] = lines_of(pairs[1:])
    return params


def read_pairs(params: dict[str, Any]) -> list[dict[str, str]]:
    """Read pairs back from query parameters."""
    first = {part: str(params.get(part, "")) for part in PAIR_PARTS}
    return [first, *pairs_of(str(params.get("pairs", "")))]


def lines_of(pairs: list[dict[str, str]]) -> str:
    """Write pairs one a line, parts between bars; a bar or a line break inside is escaped."""
    return "\n".join(" | ".join(_escaped(pair.get(p, "")) for p in PAIR_PARTS) for pair in pairs)


def pairs_of(text: str) -> list[dict[str, str]]:
    """Read pairs from lines; missing parts are empty."""
    pairs: list[dict[str, str]] = []
    for line in text.splitlines():
        if line.strip():
            parts = [_unescaped(part) for part in _split(line)]
            pairs.append(dict(zip(PAIR_PARTS, [*parts, "", "", "", ""], strict=False)))
    return pairs


def _split(line: str) -> list[str]:
    """Split at bars that no backslash makes text, each with one space about it or none."""
    parts, part, chars = [], "", iter(line)
    for char in chars:
        if char == "\\":
            part += char + next(chars, "")
        elif char == "|":
            parts.append(part)
            part = ""
        else:
            part += char
    parts.append(part)
    last = len(parts) - 1
    return [
        p[(i > 0 and p.startswith(" ")) : len(p) - (i < last and p.endswith(" "))]
        for i, p in enumerate(parts)
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("|", "\\|")


def _unescaped(text: str) -> str:
    out, chars = "", iter(text)
    for char in chars:
        if char == "\\":
            char = {"n": "\n"}.get(after := next(chars, "\\"), after)
        out += char
    return out

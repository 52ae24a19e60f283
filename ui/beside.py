"""Two things side by side: the same question of another prompt, model or checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from interp import analyses
from interp.analyses._fields import kind_of
from interp.figures.named import NamedFigure
from interp.models import catalogue, tokens
from ui import parts, state

_WRITTEN = 8
FIELDS = ("beside_model", "beside_prompt")
"""Query parameters and widgets of the second question."""


def ask(kind: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """Draw the second question's fields; return the second question, or None if there is none.

    Only kinds that are asked of one prompt have one.
    """
    by_type = state.by_type(kind)
    if not {"model", "prompt"} <= set(by_type):
        return None
    state.seed(kind, {name: state.param(name) for name in FIELDS})
    given = {name: str(state.value(kind, name) or "") for name in FIELDS}
    with st.expander("Side by side", expanded=any(given.values())):
        left, right = st.columns(2)
        asked = fields[by_type["model"]]
        base = asked.partition("@")[0]
        others = [f"{base}@{one}" for one in catalogue.snapshots(asked)]
        options = ["", *others, *catalogue.names()]
        if given["beside_model"] not in options:
            state.put(kind, {"beside_model": ""})
        model = left.selectbox(
            "Another model or checkpoint",
            options,
            key=state.key(kind, "beside_model"),
            format_func=lambda name: name or "the same",
        )
        info = catalogue.info(model or asked)
        with right:
            prompt = parts.prompt(
                "Another prompt",
                lines=not tokens.is_spelled(info),
                key=state.key(kind, "beside_prompt"),
                placeholder="the same",
            )
    if not model and not prompt:
        return None
    second = {**fields, by_type["model"]: model or fields[by_type["model"]]}
    second[by_type["prompt"]] = prompt or fields[by_type["prompt"]]
    return None if second == fields else second


def params(kind: str) -> dict[str, str]:
    """Return what the address holds of the second question."""
    given = {name: str(state.value(kind, name) or "") for name in FIELDS}
    return {name: text for name, text in given.items() if text}


def title(kind: str, fields: dict[str, Any]) -> str:
    """Name one of the two by what may differ."""
    by_type = state.by_type(kind)
    return parts.short(f"{fields[by_type['model']]} · {fields[by_type['prompt']]!r}", 120)


def same_limits(both: Sequence[Sequence[NamedFigure]]) -> None:
    """Give figures of one name the same colour limits and the same range of values.

    Two maps of effects that are drawn on their own limits look alike when they are not.
    """
    for name in {named.name for figures in both for named in figures}:
        alike: list[Any] = [n.figure for figures in both for n in figures if n.name == name]
        if len(alike) < 2:
            continue
        maps = [t for figure in alike for t in figure.data if t.type == "heatmap"]
        tops = [float(t.zmax) for t in maps if t.zmax is not None]
        lows = [float(t.zmin) for t in maps if t.zmin is not None]
        for trace in maps:
            if np.asarray(trace.z).shape[1] > _WRITTEN:
                trace.update(text=None, texttemplate=None)  # no letter fits into half the width
            if tops and lows:
                trace.update(zmin=min(lows), zmax=max(tops))
        bars = [t for figure in alike for t in figure.data if t.type == "bar"]
        flat = bool(bars) and all(t.orientation == "h" for t in bars)
        values = [float(v) for t in bars for v in t.x] if flat else []
        if any(values):
            # Signed values keep their 0 in the middle.
            top = 1.35 * max(abs(v) for v in values)
            for figure in alike:
                figure.update_xaxes(range=[-top if min(values) < 0 else 0, top])


def left_open(kind: str, fields: dict[str, Any]) -> list[str]:
    """List the outputs that the form leaves to the model, and that may differ between the two."""
    spec = analyses.get(kind).spec
    return [n for n in spec.model_fields if kind_of(spec, n) == "answer" and not fields.get(n)]


def heading(kind: str, fields: dict[str, Any]) -> None:
    """Head one of the two columns."""
    st.markdown(f"**{parts.escape(title(kind, fields))}**")

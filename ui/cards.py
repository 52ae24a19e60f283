"""The card of a model: what it is, how it came about, what is known of it, what to ask it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import streamlit as st

from interp import analyses
from interp.behaviors import BUILT_IN, for_model
from interp.figures import curves, regions
from interp.figures.named import NamedFigure
from interp.methods.effects import METRICS
from interp.models import catalogue, deviation, facts, registry, tokens
from interp.models.info import ModelInfo
from ui import parts, state
from ui.page import open_form
from ui.resources import store

_PATCHING = "activation_patching"
_MOST_FACTS = 8


def cards() -> None:
    """Draw the card of one model."""
    options = catalogue.names()
    wanted = state.param("card")
    name = st.selectbox(
        "Card",
        options,
        index=options.index(wanted) if wanted in options else 0,
        key="models/card",
        on_change=lambda: state.set_params({"card": str(state.value("models", "card"))}),
    )
    card = catalogue.card(name)
    st.header(parts.escape(card.facts["title"]))
    st.markdown(parts.escape(card.facts["summary"]))
    _plots(name, card.facts)
    left, right = st.columns([3, 2])
    with left:
        # The card's own title stands above; its headings are one step too large for a column.
        bundled = registry.split(name)[0] in catalogue.bundled()
        prose = re.sub(r"^#+", "####", re.sub(r"^# .*\n", "", card.prose), flags=re.M)
        st.markdown(prose if bundled else parts.escape(card.prose))
    with right:
        _facts(name, card.facts)
    _snapshots(name)
    _behaviors(name)
    starts(name)


def _plots(name: str, card: dict[str, Any]) -> None:
    """Draw how it was trained, and the card's maps, two side by side."""
    figures = [_curve(plot, card["curve"]) for plot in card.get("plots", ())]
    figures += [_map(name, one) for one in card.get("maps", ())]
    for i in range(0, len(figures), 2):
        for column, figure in zip(st.columns(2), figures[i : i + 2], strict=False):
            with column:
                parts.figure(figure, key=f"card/{name}/{figure.name}")


def _curve(plot: dict[str, Any], rows: list[dict[str, float]]) -> NamedFigure:
    """Draw some columns of the card's curve over the training step."""
    series = {
        label: np.array([row.get(column, float("nan")) for row in rows], dtype=float)
        for label, column in plot["series"].items()
    }
    steps, title = [float(row["step"]) for row in rows], "training step"
    if plot.get("log_x") and steps[0] == 0:
        # A logarithmic axis has no 0.
        steps[0] = steps[1] / 2
        title += f" (0 is drawn at {steps[0]:g})"
    figure = curves.lines(steps, series, titles=(title, plot["y"]))
    if plot.get("log_x"):
        figure.update_xaxes(type="log", dtick=1)
    return NamedFigure(plot["name"], plot["title"], "", figure)


def _map(name: str, one: dict[str, Any]) -> NamedFigure:
    """Draw a map of regions from a file beside the weights."""
    told = json.loads((catalogue.info(name).folder / one["file"]).read_text())
    figure = regions.regions(
        told[one["kinds"]],
        told[one["names"]],
        x=told[one["x"]],
        y=told[one["y"]],
        titles=(one["x_title"], one["y_title"]),
    )
    return NamedFigure(one["name"], one["title"], one["caption"], figure)


def _listed(some: list[dict[str, Any]]) -> str:
    return "\n".join(f"- {parts.escape(facts.in_words(fact))}" for fact in some)


def _snapshots(name: str) -> None:
    """Say which other weights there are and how they are asked."""
    found = catalogue.snapshots(name)
    if found:
        base = name.partition("@")[0]
        said = ", ".join(found)
        st.markdown(
            f"**Checkpoints** · every page takes them, as `{base}@{found[0]}` or from the list "
            f"under the model: {parts.escape(said)}"
        )


def _behaviors(name: str) -> None:
    """List what there is to explain, each with a way to ask where it is decided."""
    found = {one: BUILT_IN[one] for one in for_model(name)}
    if not found:
        return
    st.markdown("**Behaviors**")
    for one, behavior in found.items():
        with st.container(border=True):
            about, ask = st.columns([5, 1], vertical_alignment="center")
            about.markdown(f"`{one}` · {parts.escape(behavior.summary)}")
            named = ", ".join(behavior.features)
            scored = METRICS[behavior.metric][0]
            about.caption(
                parts.escape(
                    f"Scored by {scored}; every second input is held out from searches."
                    + (f" Features: {named}." if named else "")
                )
            )
            if ask.button("Patch", key=f"behavior/{name}/{one}", width="stretch"):
                open_form({"kind": _PATCHING, **_of_behavior(name, one)})


def _of_behavior(name: str, behavior: str) -> dict[str, Any]:
    """Return the fields that ask of a behavior where it is decided."""
    fields = state.start(_PATCHING, name)
    return {**fields, "behavior": behavior, "metric": BUILT_IN[behavior].metric}


def _facts(name: str, card: dict[str, Any]) -> None:
    promised = [fact for fact in card["facts"] if facts.is_promise(fact)]
    others = [fact for fact in card["facts"] if not facts.is_promise(fact)]
    for title, some in (("Promised, and measured", promised), ("Known facts", others)):
        if some:
            st.markdown(f"**{title}**")
            shown, rest = some[:_MOST_FACTS], some[_MOST_FACTS:]
            st.markdown(_listed(shown))
            if rest:
                with st.expander(f"{len(rest)} more"):
                    st.markdown(_listed(rest))
    info = catalogue.info(name)
    st.caption(f"Reads: {parts.escape(tokens.alphabet(info))}")
    st.caption(
        f"Weights {info.weights[:16]} · {info.processing} · {info.dtype} · "
        f"licence {parts.escape(str(card['licence']))}"
    )
    if "data" in card:
        st.caption(parts.escape(f"Data: {card['data']}"))
    measured = deviation.measured(info)
    if measured is not None:
        st.caption(measured.sentence)
    if info.source != "bundled":
        with st.popover("Remove from the list"):
            st.markdown(
                f"{parts.escape(name)} goes from every list, and is unloaded. Its files and its "
                "records stay; other variants of it too."
            )
            st.button("Remove it", key=f"models/forget/{name}", on_click=_forget, args=(name,))


def _forget(name: str) -> None:
    for row in store().workers.alive():
        if name in row.sizes:
            store().orders.give("unload", {"model": name}, row.slot)
    registry.forget(name)


def starts(name: str) -> None:
    """Offer questions to start with: those of the card that this model can be asked."""
    examples = catalogue.card(name).facts.get("examples", ())
    starts = [e for e in examples if e["kind"] in analyses.kinds() and _can(name, e)]
    if not starts:
        return
    st.markdown("**Analyses to start with**")
    for example in starts:
        if st.button(example["label"], key=f"start/{name}/{example['label']}"):
            open_form(_fields(name, example))


def _can(name: str, example: dict[str, Any]) -> bool:
    info: ModelInfo = catalogue.info(name)
    return analyses.get(example["kind"]).needs(info) is None


def _fields(name: str, example: dict[str, Any]) -> dict[str, Any]:
    fields = state.start(example["kind"], name)
    if "pairs" in fields:
        fields["pairs"] = [{k: example[k] for k in state.PAIR_PARTS}]
    if "prompt" in fields:
        fields["prompt"] = example["clean"]
    for part in ("answer", "foil"):
        if part in fields:
            fields[part] = example[part]
    return {"kind": example["kind"], **fields}

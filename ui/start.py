"""The pages to start from: Home, Models, About."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import streamlit as st

from interp.answers import Answer, get
from interp.config import APP_VERSION
from interp.errors import NotFound
from interp.figures.ruler import ruler
from interp.models.offer import offer
from interp.worked import worked
from ui import parts, state
from ui.models import devices
from ui.page import open_form
from ui.resources import store

_LEDGER = Path(__file__).resolve().parents[1] / "docs" / "oracles.json"


@parts.guarded
def home_page() -> None:
    """Draw what this is, three worked records, and what was asked last."""
    st.title("Because")
    st.markdown(
        "Why does a neural network behave as it does, and is the explanation any good? "
        "Look at a model, find the parts that matter, and keep the answer behind a link. "
        "No score is shown without its scale: floor, ceiling, interval, what other parts of the "
        "same size give, and its value on inputs that it was not chosen on."
    )
    _begin()
    st.subheader("Three worked records")
    shown = [one for one in worked() if one.headline]
    for column, one in zip(st.columns(max(1, len(shown))), shown, strict=False):
        with column, st.container(border=True, height="stretch"):
            st.markdown(f"**{one.headline}**")
            try:
                answer = get(store(), one.id)
            except NotFound:
                st.caption("This record was deleted here.")
                continue
            thumbnail = _thumbnail(answer)
            if thumbnail is not None:
                st.plotly_chart(thumbnail, key=f"home/{one.id}", config={"displayModeBar": False})
            st.markdown(one.lead)
            st.link_button("Open", f"/record?id={one.id}", width="stretch")
    _recent()


def _thumbnail(answer: Answer) -> Any:
    """Return a small figure: the first score on its ruler, or the map, with nothing to click."""
    if answer.analysis is None or answer.result is None:
        return None
    scores = answer.analysis.scores(answer.result)
    figure: Any = answer.analysis.figures(answer.result)[0].figure
    if scores and "heatmap" not in {trace.type for trace in figure.data}:
        return ruler(scores[0])
    figure.update_layout(height=240)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(title=None)
    # No text that would be too small to read.
    figure.data = [trace for trace in figure.data if trace.name != "cells"]
    figure.update_traces(showscale=False, texttemplate="", selector={"type": "heatmap"})
    return figure


@st.fragment(run_every=3)
@parts.guarded
def _begin() -> None:
    """Offer a model to begin with, and the way to one's own."""
    offered = offer(devices())
    with st.container(border=True):
        st.markdown("**Start with a model**")
        st.markdown(parts.escape(offered.why))
        row = st.container(horizontal=True)
        if offered.here:
            if row.button(f"Explore {offered.model}", key="home/offer"):
                open_form({"kind": "logit_lens", **state.start("logit_lens", offered.model)})
        elif row.button("Get GPT-2 small", key="home/offer"):
            st.switch_page("pages/models.py", query_params={"add": offered.model})
        if row.button("Your own model", key="home/own"):
            st.switch_page("pages/models.py")


def _recent() -> None:
    st.subheader("Asked last")
    ours = {one.id for one in worked()}
    recent = [r for r in store().records.list(most=12) if r.id not in ours][:5]
    if not recent:
        st.caption(
            "Nothing yet. Each page on the left opens on an example with its answer; "
            "change the question and press Run."
        )
    for record in recent:
        st.markdown(f"[{parts.escape(record.title)}](/record?id={record.id}) · {record.state}")


@parts.guarded
def about_page() -> None:
    """Draw versions, devices and the ledger of checks."""
    st.title("About")
    st.markdown(
        "Because runs on your machine and tells nobody what you ask. It opens a connection to the "
        "Hugging Face hub to see whether it can be reached, and asks it for models that you name; "
        "HF_HUB_OFFLINE=1 keeps it from both. Models run in worker processes; this page's process "
        "holds none."
    )
    st.subheader("Devices")
    rows = store().workers.alive()
    st.dataframe(
        [
            {
                "slot": row.slot,
                "device": row.device or "starting",
                "free GB": round((row.free_bytes or 0) / 1e9, 1),
                "total GB": round((row.total_bytes or 0) / 1e9, 1),
                "matrix rate, GFLOP/s": round((row.flop_per_s or 0) / 1e9, 1),
                "models loaded": ", ".join(row.models),
            }
            for row in rows
        ]
        or [{"slot": "none", "device": "no worker has reported"}],
        hide_index=True,
    )
    st.subheader("Versions")
    names = (
        "streamlit",
        "torch",
        "transformer-lens",
        "sae-lens",
        "transformers",
        "plotly",
        "numpy",
    )
    st.dataframe(
        [{"package": "because", "version": APP_VERSION}]
        + [{"package": name, "version": version(name)} for name in names],
        hide_index=True,
    )
    st.caption(
        "transformer-lens and sae-lens must fit together; a test of this project imports both."
    )
    _ledger()


def _ledger() -> None:
    """Draw what the oracle tests measured."""
    st.subheader("How each method was checked")
    st.markdown(
        "Each kind is compared with an independent computation, and each comparison has a "
        "broken twin that must fail."
    )
    if _LEDGER.exists():
        rows = json.loads(_LEDGER.read_text())
        compared = [row for row in rows if "deviation" in row]
        for row in compared:
            row |= {name: f"{row[name]:.1e}" for name in ("deviation", "tolerance")}
        order = ("kind", "deviation", "tolerance", "unit", "oracle", "control")
        st.dataframe(compared, hide_index=True, column_order=order)
        st.subheader("How each bundled model was checked")
        st.markdown(
            "Each fact is measured on the shipped weights by code that shares nothing with the "
            "training, and again on spoilt weights, where it must not hold."
        )
        order = ("model", "fact", "value", "promised", "spoilt", "unit", "control")
        known = [row for row in rows if "fact" in row]
        for row in known:
            row |= {name: f"{row[name]:.4g}" for name in ("value", "spoilt")}
        st.dataframe(known, hide_index=True, column_order=order)
    else:
        st.info("The ledger is written by `make docs`.")

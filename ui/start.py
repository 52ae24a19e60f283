"""The pages to start from: Home, Models, About."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from interp import analyses
from interp.answers import get
from interp.config import APP_VERSION
from interp.errors import NotFound
from interp.figures import curves
from interp.figures.named import NamedFigure
from interp.models import catalogue, tokens
from interp.worked import worked
from ui import form, parts
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
            if answer.analysis is not None and answer.result is not None:
                named = answer.analysis.figures(answer.result)[0]
                named.figure.update_layout(height=240)
                named.figure.update_xaxes(showticklabels=False)
                named.figure.update_yaxes(title=None)
                # A thumbnail: nothing to click, no text that would be too small to read.
                thumbnail: Any = named.figure
                thumbnail.data = [t for t in thumbnail.data if t.name != "cells"]
                thumbnail.update_traces(
                    showscale=False, texttemplate="", selector={"type": "heatmap"}
                )
                st.plotly_chart(
                    named.figure, key=f"home/{one.id}", config={"displayModeBar": False}
                )
            st.markdown(one.lead)
            st.link_button("Open", f"/record?id={one.id}", width="stretch")
    _recent()


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
def models_page() -> None:
    """Draw the table of models and the card of one."""
    st.title("Models")
    st.markdown("What is there to ask, how was it made, and what is known about it?")
    loaded = {name for row in store().workers.alive() for name in row.models}
    st.dataframe([_model_row(name, loaded) for name in catalogue.names()], hide_index=True)
    name = st.selectbox("Card", catalogue.names())
    card = catalogue.card(name)
    st.header(parts.escape(card.facts["title"]))
    st.markdown(parts.escape(card.facts["summary"]))
    left, right = st.columns([3, 2])
    with left:
        # The card's own title stands above; its headings are one step too large for a column.
        st.markdown(re.sub(r"^#+", "####", re.sub(r"^# .*\n", "", card.prose), flags=re.M))
    with right:
        _facts(name, card.facts)
    st.markdown("**Analyses to start with**")
    starts = [e for e in card.facts.get("examples", ()) if e["kind"] in analyses.kinds()]
    for example in starts:
        if st.button(example["label"], key=f"start/{name}/{example['label']}"):
            open_form(_start(name, example))


def _model_row(name: str, loaded: set[str]) -> dict[str, Any]:
    info, facts = catalogue.info(name), catalogue.card(name).facts
    return {
        "model": name,
        "source": "bundled",
        "parameters": f"{facts['parameters']:,}",
        "layers × heads": f"{info.n_layers} × {info.n_heads}",
        "positions": info.n_ctx,
        "reads": "left to right" if info.causal else "both ways",
        "answers": info.answers.space,
        "state": "loaded" if name in loaded else "loads when asked",
    }


def _facts(name: str, facts: dict[str, Any]) -> None:
    curve = facts.get("curve") or []
    if curve:
        steps = [row["step"] for row in curve]
        figure = curves.lines(
            steps,
            {"share right": np.array([row["accuracy"] for row in curve])},
            titles=("training step", "share right on held-out strings"),
        )
        parts.figure(NamedFigure("curve", "How it was trained", "", figure), key=f"curve/{name}")
    st.markdown("**Known facts**")
    for fact in facts["facts"]:
        st.markdown(
            parts.escape(f"{fact['claim'].rstrip('.')}: {fact['value']:.4g} {fact['unit']}")
            + f" (n = {fact['n']:,})"
        )
    info = catalogue.info(name)
    st.caption(f"Reads: {parts.escape(tokens.alphabet(info))}")
    st.caption(f"Weights {info.weights[:16]} · {info.processing} · licence {facts['licence']}")


def _start(name: str, example: dict[str, Any]) -> dict[str, Any]:
    fields = form.model_start(example["kind"], name)
    if "pairs" in fields:
        fields["pairs"] = [{k: example[k] for k in ("clean", "corrupted", "answer", "foil")}]
    if "prompt" in fields:
        fields["prompt"] = example["clean"]
    return {"kind": example["kind"], **fields}


@parts.guarded
def about_page() -> None:
    """Draw versions, devices and the ledger of checks."""
    st.title("About")
    st.markdown(
        "Because runs on your machine and sends nothing anywhere. Models run in worker processes; "
        "this page's process holds none."
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
    st.subheader("How each method was checked")
    st.markdown(
        "Each kind is compared with an independent computation, and each comparison has a "
        "broken twin that must fail."
    )
    if _LEDGER.exists():
        rows = json.loads(_LEDGER.read_text())
        for row in rows:
            row |= {name: f"{row[name]:.1e}" for name in ("deviation", "tolerance")}
        order = ("kind", "deviation", "tolerance", "unit", "oracle", "control")
        st.dataframe(rows, hide_index=True, column_order=order)
    else:
        st.info("The ledger is written by `make docs`.")

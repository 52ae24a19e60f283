"""The pages that keep: the list of analyses, and the record that a link opens."""

from __future__ import annotations

import time

import numpy as np
import streamlit as st

from interp import analyses
from interp.answers import Answer, get
from interp.errors import InterpError
from interp.models import catalogue
from interp.store import Record, State
from ui import parts, state
from ui.page import follow, open_form, run_again, show
from ui.resources import store

_MOST = 50


@parts.guarded
def record_page() -> None:
    """Draw the record named in the address, readable by someone who was not there."""
    name = state.param("id")
    if not name:
        st.title("Record")
        st.info("This page opens with a link to a record. The list of them is under Analyses.")
        return
    answer = get(store(), name)
    record = answer.record
    st.title(parts.escape(answer.analysis.page[1] if answer.analysis else record.kind))
    st.markdown(f"**{parts.escape(parts.short(record.title))}**")
    st.caption(_origin(record))
    _compared(answer)
    if not record.state.is_final:
        follow(name)
        return
    show(name)
    if not catalogue.is_known(record.model):
        _model_is_gone(record)
        return
    with st.container(horizontal=True):
        if not answer.outdated:  # else it is offered above, where the older version is told
            run_again(answer)
        if answer.spec is not None and st.button(
            "Fork", help="Opens the form with this question filled in."
        ):
            open_form(answer.spec.model_dump(mode="json"))


def _model_is_gone(record: Record) -> None:
    """Say what would be needed to ask this again, where the model is not here."""
    stamp = record.provenance or {}
    known = [
        str(stamp.get("family", "")),
        f"from the {stamp['source']}" if stamp.get("source") else "",
        f"revision {stamp['revision']}" if stamp.get("revision") else "",
        f"weights {stamp['weights_sha256'][:16]}" if "weights_sha256" in stamp else "",
    ]
    st.info(
        parts.escape(
            f"The model {record.model} is not in this list of models any more "
            f"({', '.join(k for k in known if k)}). This answer stays; to ask it again or to "
            "change the question, add the model again under this name."
        )
    )
    st.page_link("pages/models.py", label="Open Models")


def _origin(record: Record) -> str:
    stamp = record.provenance or {}
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.created))
    said = f"Asked on {when}, of {record.model}"
    if "worked_example" in stamp:
        said = f"A worked example that ships with the app, asked of {record.model}"
    if "weights_sha256" in stamp:
        said += (
            f" at weights {stamp['weights_sha256'][:12]}, {stamp['dtype']} on {stamp['device']},"
            f" seed {stamp['seed']}, version {stamp['versions']['because']}"
        )
    return parts.escape(said + ".")


def _compared(answer: Answer) -> None:
    """Where this record is a rerun, say how its numbers differ from the record it reruns."""
    parent = answer.record.parent
    if not parent:
        return
    try:
        first = get(store(), parent)
    except InterpError:
        st.caption("Run again from a record that is not here any more.")
        return
    link = f"[{parent[:8]}](/a/{parent})"
    if first.record.key != answer.record.key:
        st.caption(f"Asked after record {link}: {parts.escape(first.record.title)}")
    elif answer.state != State.DONE:
        st.caption(f"Run again from record {link}.")
    elif first.record.result == answer.record.result:
        st.success(f"Run again from record {link}: every number is the same, bit for bit.")
    else:
        most = _difference(first, answer)
        st.warning(f"Run again from record {link}: numbers differ by at most {most:.3g}.")


def _difference(a: Answer, b: Answer) -> float:
    largest = 0.0
    for name, value in vars(a.result).items():
        other = getattr(b.result, name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            if value.shape != other.shape:
                return float("inf")
            largest = max(largest, float(np.nanmax(np.abs(value - other), initial=0.0)))
    return largest


@parts.guarded
def analyses_page() -> None:
    """Draw the list of records with filters."""
    st.title("Analyses")
    st.markdown(
        "Every question that was asked here, with its answer. A link to one opens for anybody."
    )
    kind, model, wanted = st.columns(3)
    chosen = (
        kind.selectbox("Kind", ["", *analyses.kinds()], format_func=_any),
        model.selectbox("Model", ["", *catalogue.names()], format_func=_any),
        wanted.selectbox("State", ["", *State], format_func=_any),
    )
    _list(*chosen)


def _any(option: str) -> str:
    return analyses.get(option).page[1] if option in analyses.kinds() else option or "any"


@st.fragment(run_every=2.0)
@parts.guarded
def _list(kind: str, model: str, wanted: str) -> None:
    found = store().records.list(kind=kind, model=model, state=wanted, most=_MOST)
    if not found:
        st.info(
            "Nothing here. Ask a question on one of the pages on the left, or widen the filters."
        )
        return
    for record in found:
        _row(record)
    if len(found) == _MOST:
        st.caption(f"The newest {_MOST} are listed; narrow the filters to find older ones.")


def _row(record: Record) -> None:
    with st.container(border=True):
        about, open_, end = st.columns([6, 1.4, 1.6], vertical_alignment="center")
        about.markdown(parts.escape(record.title))
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.created))
        done = f", {record.fraction:.0%}" if record.state == State.RUNNING else ""
        worked = "worked_example" in (record.provenance or {})
        since = "worked example" if worked else f"{when} UTC"
        about.caption(f"{record.state}{done} · {parts.escape(record.model)} · {since}")
        open_.link_button("Open", f"/record?id={record.id}", width="stretch")
        if record.state in (State.QUEUED, State.RUNNING):
            end.button(
                "Cancel",
                key=f"cancel/{record.id}",
                on_click=store().queue.cancel,
                args=(record.id,),
                width="stretch",
            )
        elif record.state.is_final:
            with end.popover("Delete", width="stretch"):
                st.markdown("The answer goes for good, and its link will say so.")
                st.button(
                    "Delete it",
                    key=f"delete/{record.id}",
                    on_click=store().records.delete,
                    args=(record.id,),
                )

"""The three blocks that a method's page is made of: ``ask``, ``follow``, ``show``."""

from __future__ import annotations

from typing import Any

import streamlit as st

from interp import analyses
from interp.answers import Answer, get
from interp.errors import InterpError
from interp.jobs.submit import Prepared, prepare, submit
from interp.store import Record, State
from ui import form, parts, state
from ui.resources import store


@parts.guarded
def method_page(kind: str) -> None:
    """Draw the page of a kind: the question, the answer, what to ask next."""
    analysis = analyses.get(kind)
    st.title(analysis.page[1])
    st.markdown(parts.escape(analysis.about))
    record = ask(kind)
    if record is None:
        return
    if record.state.is_final:
        show(record.id)
    else:
        follow(record.id)


def ask(kind: str) -> Record | None:
    """Draw the form, the question in plain words and Run; return the record of this question."""
    with st.container(border=True):
        fields = form.draw(kind)
        try:
            ready = prepare(fields)
        except InterpError as error:
            parts.advice(error)
            st.button("Run", disabled=True, key=f"run/{kind}")
            return None
        st.markdown(f"**{parts.escape(ready.analysis.question(ready.spec))}**")
        record = store().records.find(ready.key)
        _run_button(kind, ready, record)
    if record is None:
        st.info(
            "This question has not been asked yet. Press Run; "
            "the figure fills in while it is computed. The address of this page holds the question."
        )
    return record


def _run_button(kind: str, ready: Prepared, record: Record | None) -> None:
    """Run, with what it will take; a question that has its answer is not run again by accident."""
    answered = record is not None and record.state in (
        State.DONE,
        State.QUEUED,
        State.RUNNING,
        State.CANCELLING,
    )
    button, note = st.columns([1, 5], vertical_alignment="center")
    label = "Retry" if record is not None and not answered else "Run"
    button.button(
        label,
        type="primary",
        disabled=answered,
        key=f"run/{kind}",
        on_click=_run,
        args=(ready,),
        width="stretch",
    )
    if record is not None and record.state == State.DONE:
        note.caption("Answered below. Change the question to ask another.")
    elif answered:
        note.caption("Asked; the answer fills in below.")
    else:
        note.caption(_estimate(ready))


def _run(ready: Prepared) -> None:
    submit(store(), ready.spec, parent=state.param(state.FROM) or None)


def _estimate(ready: Prepared) -> str:
    rows = [row for row in store().workers.alive() if row.flop_per_s]
    seconds = ready.seconds(rows[0].flop_per_s if rows else None)
    need = ready.cost.bytes / 1e9
    said = f"≈ {max(1, round(seconds))} s" if seconds < 100 else f"≈ {seconds / 60:.0f} min"
    said += f", {need:.1f} GB" if need >= 0.05 else ", under 0.1 GB"
    if not rows:
        return said + ". No worker has reported yet; the run waits for one."
    free = (rows[0].free_bytes or 0) / 1e9
    fits = "fits" if need < free else "does not fit"
    return f"{said}, {fits} in {free:.1f} GB free on {rows[0].device}"


@st.fragment(run_every=1.0)
@parts.guarded
def follow(name: str) -> None:
    """Draw an unfinished record: its state, bar, time left, Cancel and the figure so far."""
    answer = get(store(), name)
    record = answer.record
    if record.state.is_final:
        st.rerun()
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    bar.progress(min(record.fraction, 1.0), text=_progress(record))
    stop.button(
        "Cancel",
        key=f"cancel/{name}",
        on_click=store().queue.cancel,
        args=(name,),
        disabled=record.state == State.CANCELLING,
        width="stretch",
    )
    if answer.result is None:
        st.caption("The figure appears with the first cells.")
        return
    _figures(answer, live=True)


def _progress(record: Record) -> str:
    if record.state == State.QUEUED:
        place = store().queue.place(record.id)
        return "Waiting: next" if place == 0 else f"Waiting: {place} before it"
    if record.state == State.CANCELLING:
        return "Stopping after this step"
    if record.fraction == 0:
        return "Loading the model"
    left = "" if record.eta_s is None else f", about {max(1, round(record.eta_s))} s left"
    again = f" (attempt {record.attempt})" if record.attempt > 1 else ""
    return f"{record.fraction:.0%} computed{left}{again}"


def show(name: str) -> None:
    """Draw a finished record: figure, sentence, scale, share row and what to ask next."""
    answer = get(store(), name)
    record = answer.record
    if answer.analysis is None:
        st.info(f"The kind {parts.escape(record.kind)} is not part of this installation.")
        parts.share(answer)
        return
    if answer.outdated:
        st.info(
            f"Computed by version {record.kind_version} of this analysis; version "
            f"{answer.analysis.version} may give other numbers. Run it again to compare."
        )
    if record.state == State.FAILED and record.error:
        parts.failure(record.error)
    elif record.state != State.DONE:
        st.warning(
            f"{record.state.sentence} "
            + (f"{record.fraction:.0%} was computed." if answer.result is not None else "")
        )
    if answer.result is None:
        parts.share(answer)
        return
    _figures(answer, live=False)
    for i, score in enumerate(answer.analysis.scores(answer.result)):
        parts.score(score, key=f"score/{name}/{i}")
    parts.share(answer)
    _next(answer)


def _figures(answer: Answer, *, live: bool) -> None:
    """Draw the main figure, the sentence, and the other figures beside each other."""
    assert answer.analysis is not None
    main, *others = answer.analysis.figures(answer.result)
    mode = "live" if live else "done"
    cell = parts.figure(main, key=f"{mode}/{answer.id}/{main.name}")
    st.info(parts.escape(answer.verdict))
    if cell is not None and not live:
        _cell(answer, cell)
    if others and not live:
        for column, named in zip(st.columns(len(others)), others, strict=True):
            with column:
                parts.figure(named, key=f"{mode}/{answer.id}/{named.name}")


def _cell(answer: Answer, cell: dict[str, Any]) -> None:
    assert answer.analysis is not None
    more = answer.analysis.inspect(answer.result, cell)
    if more is None:
        return
    text, figures = more
    with st.container(border=True):
        st.markdown(parts.escape(text))
        for named in figures:
            parts.figure(named, key=f"cell/{answer.id}/{named.name}")


def _next(answer: Answer) -> None:
    """Offer follow-up questions, prefilled from this answer."""
    if answer.analysis is None or answer.spec is None:
        return
    ups = answer.analysis.follow_ups(answer.spec, answer.result)
    ups = [up for up in ups if up.fields["kind"] in analyses.kinds()]
    if not ups:
        return
    st.markdown("**What to ask next**")
    for column, up in zip(st.columns(len(ups)), ups, strict=True):
        if column.button(up.label, key=f"next/{answer.id}/{up.label}", width="stretch"):
            open_form(up.fields, parent=answer.id)


def open_form(fields: dict[str, Any], *, parent: str = "") -> None:
    """Go to the page of a kind with its form filled in, as a follow-up of record ``parent``."""
    kind = fields["kind"]
    state.forget(kind)
    params = state.to_params(kind, fields) | ({state.FROM: parent} if parent else {})
    st.switch_page(f"pages/{kind}.py", query_params=params)

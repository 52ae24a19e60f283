"""The three blocks that a method's page is made of: ``ask``, ``follow``, ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import streamlit as st

from interp import analyses
from interp.analyses._record import FollowUp
from interp.answers import Answer, get
from interp.errors import InterpError
from interp.figures.named import NamedFigure
from interp.jobs.submit import Prepared, prepare, submit
from interp.models import catalogue
from interp.models.deviation import Deviation
from interp.store import Record, State
from ui import beside, circuits, form, hypothesis, parts, state
from ui.resources import store

_INPUTS = ("model", "behavior", "pairs", "n_pairs")
"""Fields that a question shares with the answer that led to it; with others it is a fresh one."""


@parts.guarded
def method_page(kind: str) -> None:
    """Draw the page of a kind: the question, the answer, what to ask next."""
    analysis = analyses.get(kind)
    st.title(analysis.page[1])
    st.markdown(parts.escape(analysis.about))
    if "hypothesis" in state.by_type(kind):
        _with_editor(kind)
        return
    asked = ask(kind)
    if len(asked) == 1:
        _answer(asked[0])
    elif asked:
        _side_by_side(kind, asked)


def _with_editor(kind: str) -> None:
    """Draw the editor of a hypothesis, Run and the figure beside it, and the rest below both."""
    top, left, right = hypothesis.halves()
    below = st.container()
    with top:
        fields = form.draw(kind, left)
    with right:
        for one in _question(kind, fields):
            _answer(one, below=below)


@dataclass(frozen=True)
class Asked:
    """A question as the form has it, and its record if it was asked before."""

    fields: dict[str, Any]
    record: Record | None


def _answer(asked: Asked, figures: Sequence[NamedFigure] = (), below: Any = None) -> None:
    if asked.record is None:
        st.info(
            "This question has not been asked yet. Press Run; "
            "the figure fills in while it is computed. The address of this page holds the question."
        )
    elif asked.record.state.is_final:
        show(asked.record.id, figures, below)
    else:
        follow(asked.record.id)


def _side_by_side(kind: str, asked: list[Asked]) -> None:
    """Draw two answers in two columns, on the same limits where both are there."""
    found = [None if one.record is None else get(store(), one.record.id) for one in asked]
    drawn = [
        answer.analysis.figures(answer.result)
        if answer is not None and answer.analysis and answer.result is not None
        else []
        for answer in found
    ]
    if all(drawn):
        beside.same_limits(drawn)
        st.caption("Both are drawn on the same limits.")
    answers = beside.left_open(kind, asked[0].fields)
    if answers:
        st.caption(
            f"Each side follows its own {' and '.join(answers)}; name them to compare the same."
        )
    for column, one, figures in zip(st.columns(2), asked, drawn, strict=True):
        with column:
            beside.heading(kind, one.fields)
            _answer(one, figures)


def ask(kind: str) -> list[Asked]:
    """Draw the form, the question in plain words and Run; return the one or two questions asked."""
    with st.container(border=True):
        fields = form.draw(kind)
        asked = _question(kind, fields)
    if asked:
        _other_looks(kind, fields)
    return asked


def _question(kind: str, fields: dict[str, Any]) -> list[Asked]:
    """Draw the question in plain words and Run below a form; return the questions asked."""
    other = beside.ask(kind, fields)
    wanted = [fields] if other is None else [fields, other]
    try:
        ready = [prepare(one) for one in wanted]
    except InterpError as error:
        state.write_address(kind, fields, beside.params(kind), state.walk())
        parts.advice(error)
        st.button("Run", disabled=True, key=f"run/{kind}")
        return []
    state.write_address(kind, fields, beside.params(kind), _walked(ready[0].spec))
    for one in ready:
        st.markdown(f"**{parts.escape(parts.short(one.analysis.question(one.spec)))}**")
    records = [store().records.find(one.key) for one in ready]
    _run_button(kind, ready, records)
    return [Asked(one, record) for one, record in zip(wanted, records, strict=True)]


def _walked(spec: Spec) -> list[str]:
    """Return the records that led to a question; none once it asks about other inputs."""
    walk = state.walk()
    try:
        above = analyses.parse(store().records.get(walk[-1]).spec) if walk else None
    except InterpError:
        return []
    if above is None:
        return []
    shared = {*_INPUTS} & {*type(spec).model_fields} & {*type(above).model_fields}
    return walk if all(getattr(spec, n) == getattr(above, n) for n in shared) else []


def _other_looks(kind: str, fields: dict[str, Any]) -> None:
    """Offer the other ways to look at the same model and prompt."""
    mine = state.by_type(kind)
    if analyses.get(kind).page[0] != "Look" or "prompt" not in mine:
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption("The same model and prompt:", width="content")
    for other in analyses.in_group("Look"):
        theirs = state.by_type(other)
        if not {"model", "prompt"} <= set(theirs):
            continue
        same = {theirs[part]: fields[mine[part]] for part in ("model", "prompt")}
        title = analyses.get(other).page[1]
        if row.button(title, key=f"look/{kind}/{other}", disabled=other == kind, type="tertiary"):
            open_form({"kind": other, **state.start(other, fields[mine["model"]]), **same})


def _run_button(kind: str, ready: list[Prepared], records: list[Record | None]) -> None:
    """Run, with what it will take; a question that has its answer is not run again by accident."""
    states = [None if record is None else record.state for record in records]
    left = [one for one, at in zip(ready, states, strict=True) if at not in _ANSWERED]
    button, note = st.columns([1, 5], vertical_alignment="center")
    tried = any(at is not None and at not in _ANSWERED for at in states)
    button.button(
        "Retry" if tried else "Run",
        type="primary",
        disabled=not left,
        key=f"run/{kind}",
        on_click=_submit,
        args=(left,),
        width="stretch",
    )
    if left:
        anew = " · It begins anew" if tried else ""
        note.caption(" · ".join(_estimate(one) for one in left) + anew)
    elif all(at == State.DONE for at in states):
        note.caption("Answered below. Change the question to ask another.")
    else:
        note.caption("Asked; the answer fills in below.")


_ANSWERED = (State.DONE, State.QUEUED, State.RUNNING, State.CANCELLING)


def _submit(ready: list[Prepared]) -> None:
    for one in ready:
        submit(store(), one.spec, parent=next(reversed(state.walk()), None))


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
        st.caption("The figure appears with the first results.")
        return
    assert answer.analysis is not None
    _figure(answer, answer.analysis.figures(answer.result)[0], live=True)


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


def show(name: str, figures: Sequence[NamedFigure] = (), below: Any = None) -> None:
    """Draw a finished record: figure, sentence, scale, share row and what to ask next.

    Args:
        name: The record's id.
        figures: Its figures, where they are not to be drawn as they are by themselves.
        below: Where all that follows the first figure and its sentence is drawn, if elsewhere.
    """
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
        run_again(answer)
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
    main, *others = figures or answer.analysis.figures(answer.result)
    _figure(answer, main, live=False)
    with nullcontext() if below is None else below:
        _others(answer, others, stacked=bool(figures))
        _precision(record)
        for i, score in enumerate(answer.analysis.scores(answer.result)):
            parts.score(score, key=f"score/{name}/{i}")
        _lineage(answer)
        parts.share(answer)
        _next(answer, stacked=bool(figures))


def run_again(answer: Answer) -> None:
    """Offer to compute a record anew, beside it, and to open what comes of it."""
    if answer.spec is None or not catalogue.is_known(answer.record.model):
        return
    name = answer.id
    if st.button("Run again here", key=f"again/{name}", help="Makes a new record beside this one."):
        made = submit(store(), answer.record.spec, parent=name, again=True)
        st.switch_page("pages/record.py", query_params={"id": made})


def _precision(record: Record) -> None:
    """Say beside an answer in a smaller precision what that precision does to the model."""
    stamp = record.provenance or {}
    if stamp.get("dtype", "float32") in ("float32", "float64"):
        return
    told = stamp.get("deviation_from_float32")
    said = "was not measured" if told is None else Deviation(**told).sentence
    st.caption(parts.escape(f"Computed in {stamp['dtype']}. Its deviation: {said}"))


def _figure(answer: Answer, main: NamedFigure, *, live: bool) -> None:
    """Draw the main figure and the sentence."""
    mode = "live" if live else "done"
    cell = parts.figure(main, key=f"{mode}/{answer.id}/{main.name}")
    parts.verdict(answer.verdict)
    if cell is not None and not live:
        _cell(answer, cell, main.name)


def _others(answer: Answer, others: Sequence[NamedFigure], *, stacked: bool) -> None:
    """Draw the other figures two in a row where the window is wide.

    They stand one below the other where there is half the width; wide ones have a row each, first.
    """
    others = sorted(others, key=lambda named: not named.wide)
    columns: list[Any] = [st.container() for named in others if stacked or named.wide]
    while len(columns) < len(others) - 1:
        columns += parts.halves(f"{answer.id}-{len(columns)}")
    columns += [st.container()] * (len(others) - len(columns))
    chosen = None
    for column, named in zip(columns, others, strict=True):
        with column:
            chosen = parts.figure(named, key=f"done/{answer.id}/{named.name}") or chosen
    if chosen is not None:
        _cell(answer, chosen, "other")


def _cell(answer: Answer, cell: dict[str, Any], where: str) -> None:
    assert answer.analysis is not None
    more = answer.analysis.inspect(answer.result, cell)
    if more is None:
        return
    text, figures = more
    with st.container(border=True):
        st.markdown(parts.escape(text))
        for named in figures:
            parts.figure(named, key=f"cell/{where}/{answer.id}/{named.name}")
        if answer.spec is not None:
            ups = answer.analysis.cell_follow_ups(answer.spec, answer.result, cell)
            _cell_next(answer, ups)


def _cell_next(answer: Answer, ups: Sequence[FollowUp]) -> None:
    """Offer questions about the clicked cell, prefilled from it; as many as fit stand in a row."""
    row = st.container(horizontal=True)
    for up in _installed(ups):
        if row.button(up.label, key=f"cell-next/{answer.id}/{up.label}"):
            open_form(up.fields, walked=_ids(_line(answer)))


def _installed(ups: Sequence[FollowUp]) -> list[FollowUp]:
    return [up for up in ups if up.fields["kind"] in analyses.kinds()]


def _lineage(answer: Answer) -> None:
    """Draw how the answers of this kind led to one another, up to this one, and lead back."""
    if answer.analysis is None or answer.spec is None:
        return
    line = _line(answer)
    named = answer.analysis.lineage([(one.spec, one.result) for one in line])
    if named is None:
        return
    parts.figure(named, key=f"lineage/{answer.id}")
    before = line[-2]
    if before.spec is not None and st.button("Back to the step before", key=f"back/{answer.id}"):
        open_form(before.spec.model_dump(mode="json"), walked=_ids(line[:-2]))


def _line(answer: Answer) -> list[Answer]:
    """List the answered records of its kind that led to an answer, oldest first, and itself.

    They are those that this person walked through, where the address has them: a question that
    was asked before keeps the parent that it had then.
    """
    walked, line = state.walk(), [answer]
    back = [*walked[: walked.index(answer.id) if answer.id in walked else None][::-1], None]
    while len(line) < state.MOST_STEPS:
        parent = back[len(line) - 1] if walked else line[0].record.parent
        parent = parent or _version_before(line[0])
        if parent is None or parent in _ids(line):
            break
        try:
            above = get(store(), parent)
        except InterpError:
            break
        if above.record.kind != answer.record.kind or above.result is None or above.spec is None:
            break
        line.insert(0, above)
    return line


def _version_before(answer: Answer) -> str | None:
    """Return the record of the hypothesis that this answer's one is a version of."""
    claimed = getattr(answer.spec, "claimed", None)
    if claimed is None or not claimed.before or answer.spec is None:
        return None
    for record in store().records.list():
        if record.kind != answer.record.kind or record.model != answer.record.model:
            continue
        spec: Any = analyses.parse(record.spec)
        same = all(getattr(spec, n) == getattr(answer.spec, n) for n in ("behavior", "n_inputs"))
        if same and record.state == State.DONE and spec.claimed.hash == claimed.before:
            return record.id
    return None


def _ids(line: Sequence[Answer]) -> list[str]:
    return [one.id for one in line]


def _next(answer: Answer, *, stacked: bool) -> None:
    """Offer follow-up questions, prefilled from this answer."""
    if answer.analysis is None or answer.spec is None:
        return
    circuit = circuits.follow_up(_line(answer))
    ups = [*answer.analysis.follow_ups(answer.spec, answer.result), circuit]
    ups = _installed([up for up in ups if up is not None])
    if not ups:
        return
    st.markdown("**What to ask next**")
    # Side by side as many as fit: a label that is cut asks nothing.
    row, width = st.container(horizontal=not stacked), "stretch" if stacked else "content"
    for up in ups:
        if row.button(up.label, key=f"next/{answer.id}/{up.label}", width=width):
            open_form(up.fields, walked=_ids(_line(answer)))


def open_form(fields: dict[str, Any], *, walked: Sequence[str] = ()) -> None:
    """Go to the page of a kind with its form filled in, as a follow-up of the last of ``walked``.

    Args:
        fields: Those of the question.
        walked: Ids of the records that led to it, oldest first.
    """
    kind = fields["kind"]
    state.forget(kind)
    params = state.to_params(kind, fields) | state.walk_params(walked)
    st.switch_page(f"pages/{kind}.py", query_params=params)

"""What pages are made of: token strips, figure cards, scores, errors, the share row."""

from __future__ import annotations

import html
import json
import logging
import secrets
import shlex
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import streamlit as st

from interp.answers import Answer
from interp.errors import InterpError
from interp.figures import theme
from interp.figures.named import NamedFigure
from interp.figures.ruler import in_words, ruler
from interp.scores import Anchor, Score
from ui import glossary, state

P = ParamSpec("P")
_LOG = logging.getLogger(__name__)
_STRIP = """<div style="display:flex;flex-wrap:wrap;gap:3px;max-height:9rem;overflow:auto;
font-family:monospace;font-size:0.85rem">{chips}</div>"""
_CHIP = """<span title="{hover}" style="border:1px solid rgba(127,127,127,.45);border-radius:4px;
padding:1px 6px;{style}">{text}</span>"""
_LABEL = """<span style="min-width:5.5rem;font-family:sans-serif;opacity:.7">{text}</span>"""
_MOST_TEXTS = 4
"""Texts below a figure that are shown at once."""
_MISSING = "border-style:dashed;opacity:.6"
_DIFFERS = "background:rgba(230,160,30,.35);font-weight:600"


_STACKED = """<style>@media (max-width: 1199px) {
[class*="st-key-halves-"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {
  flex-direction: column;}
[class*="st-key-halves-"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"]
  > [data-testid="stColumn"] {width: 100%; flex: 1 1 auto;}
}</style>"""


def halves(key: str, widths: tuple[int, int] = (1, 1)) -> tuple[Any, Any]:
    """Return two columns that stand one below the other where the window is not wide."""
    st.html(_STACKED)
    with st.container(key=f"halves-{key}"):
        left, right = st.columns(widths, gap="medium")
    return left, right


def guarded(draw: Callable[P, None]) -> Callable[P, None]:
    """Make a page's function show a user's error as advice, anything else as a fault with an id."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            draw(*args, **kwargs)
        except InterpError as error:
            advice(error)
        except Exception:
            fault = secrets.token_hex(4)
            _LOG.exception("fault %s", fault)
            st.error(
                f"Something broke on our side (fault {fault}). Nothing of yours is lost. "
                "The server's log has the details under this number."
            )

    return drawn


def advice(error: InterpError) -> None:
    """Show what was asked, what was found and what would work."""
    st.warning(f"**{escape(error.asked)}** {escape(error.found)}\n\n{escape(error.works)}")


def escape(text: str) -> str:
    """Make text of a user safe and literal in Markdown."""
    for mark in "\\`*_{}[]<>$#|~:":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", "⏎")


def verdict(text: str) -> None:
    """Draw the sentences that read an answer; what comes next has a line of its own."""
    read, mark, onward = text.partition(" Next: ")
    st.info(escape(read) + (f"\n\n{escape(mark.strip())} {escape(onward)}" if mark else ""))


def short(text: str, longest: int = 300) -> str:
    """Leave out the middle of a text that is too long for a heading."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def plain(text: str) -> str:
    """Keep what may stand in a label: no line breaks and no control characters."""
    return "".join(c for c in text if c.isprintable()).strip()


def prompt(label: str, *, lines: bool, **options: Any) -> str:
    """Draw a field for a prompt; one that can have line breaks must not lose them."""
    if lines:
        return st.text_area(label, height=68, **options) or ""
    return st.text_input(label, **options) or ""


def tokens(
    texts: Sequence[str | None],
    *,
    against: Sequence[str | None] = (),
    read: int | None = None,
    label: str = "",
) -> None:
    """Draw one chip a token: index on hover, differences from ``against`` marked.

    None stands for a token that the other prompt has and this one lacks.
    """
    chips = [_LABEL.format(text=html.escape(label))] if label else []
    position = 0
    for i, text in enumerate(texts):
        if text is None:
            hover = "the other prompt has a token more here"
            chips.append(_CHIP.format(hover=hover, style=_MISSING, text="∅"))
            continue
        differs = bool(against) and (i >= len(against) or against[i] != text)
        at_read = position == read
        hover = f"position {position}: {text}" + (", the answer is read here" if at_read else "")
        style = (_DIFFERS if differs else "") + (
            ";border-bottom:3px solid #2166ac" if at_read else ""
        )
        chips.append(
            _CHIP.format(
                hover=html.escape(hover, quote=True), style=style, text=theme.label(text, 24)
            )
        )
        position += 1
    st.html(_STRIP.format(chips="".join(chips)))


def figure(named: NamedFigure, key: str) -> dict[str, Any] | None:
    """Draw a figure with title and caption; return the customdata of a clicked cell, if any."""
    st.markdown(f"**{escape(named.title)}**")
    config = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    clicked: dict[str, Any] | None = None
    if named.selectable:
        event = st.plotly_chart(
            named.figure,
            key=key,
            on_select="rerun",
            selection_mode="points",
            config=config,
        )
        points = event.get("selection", {}).get("points", []) if event else []
        clicked = points[0].get("customdata") if points else None
    else:
        st.plotly_chart(named.figure, key=key, config=config)
    if named.caption:
        st.caption(escape(named.caption))
    if named.texts:
        texts(named.texts)
    return clicked


def texts(labelled: Sequence[tuple[str, str]]) -> None:
    """Draw plain texts beside their labels, each to be copied as it is; of many the first ones."""
    first, rest = labelled[:_MOST_TEXTS], labelled[_MOST_TEXTS:]
    with st.container(gap="xsmall"):
        for one in first:
            _text(*one)
    if rest:
        with st.expander(f"{len(rest)} more"), st.container(gap="xsmall"):
            for one in rest:
                _text(*one)


def _text(label: str, text: str) -> None:
    left, right = st.columns([1, 3])
    left.caption(escape(label))
    right.code(text, language=None, wrap_lines=True)


def data(figures: Sequence[NamedFigure], key: str) -> None:
    """Offer the numbers of each figure as CSV."""
    for named in figures:
        st.download_button(
            f"{named.title} (CSV)",
            named.csv,
            file_name=f"{named.name}.csv",
            mime="text/csv",
            key=f"csv/{key}/{named.name}",
        )


def score(one: Score, key: str) -> None:
    """Draw a score on its ruler, with every part of its scale in words beside it."""
    left, right = st.columns([3, 2])
    with left:
        held = one.held_out
        quoted = f"; {held.value:.3f} {held.name} (blue)" if isinstance(held, Anchor) else ""
        st.markdown(f"**{escape(f'{one.name}: {one.value:.3f} {one.unit}{quoted}')}**")
        st.plotly_chart(ruler(one), key=key, config={"displayModeBar": False})
    with right:
        for name, said in in_words(one):
            tip = (name == "floor" and glossary.tip(one.floor.name)) or glossary.tip(name)
            st.caption(f"**{name}**: {escape(said)}", help=tip)


def failure(error: dict[str, str]) -> None:
    """Show why a run failed: advice for a question that cannot be answered, a fault otherwise."""
    if "fault" in error:
        st.error(
            f"The run broke on our side (fault {error['fault']}): {escape(error['type'])}. "
            "Retry; if it happens again, this number finds it in the worker's log."
        )
        with st.expander("Traceback"):
            st.code(error.get("traceback", ""), language=None)
        return
    st.warning(f"**{escape(error['asked'])}** {escape(error['found'])}\n\n{escape(error['works'])}")
    if error.get("type") in ("CannotLoad", "UnknownName"):
        st.page_link("pages/models.py", label="Open Models")


def share(answer: Answer) -> None:
    """Draw the share row: link, JSON, spec and command line, sources, provenance."""
    record = answer.record
    row = st.container(horizontal=True)
    base = state.origin()
    with row.popover("Copy link"):
        st.caption("Opens this question and this answer for anybody who reaches this server.")
        st.code(f"{base}/a/{record.id}", language=None)
    with row.popover("JSON"):
        st.caption("Question, exact token ids, result and provenance in one file.")
        st.code(f"{base}/a/{record.id}.json", language=None)
    with row.popover("Data"):
        st.caption("The numbers of each figure.")
        if answer.analysis is not None and answer.result is not None:
            data(answer.analysis.figures(answer.result), record.id)
    with row.popover("Spec"):
        st.code(json.dumps(json.loads(record.spec), indent=2), language="json")
        st.caption("On the command line:")
        st.code(
            f"echo {shlex.quote(record.spec)} | .venv/bin/python -m interp run -", language="bash"
        )
    with row.popover("Cite"):
        for source in answer.analysis.cites if answer.analysis else ():
            st.markdown(escape(source.text))
            st.code(source.bibtex, language="latex")
    with row.popover("Provenance"):
        st.json(record.provenance or {"state": str(record.state)}, expanded=2)

"""The editor of a hypothesis: where to start from, the tree, the features, and the text."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from interp import analyses
from interp.behaviors.populations import population
from interp.errors import InterpError
from interp.explanations.checks import check
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.presets import presets, same_as
from interp.explanations.text import LONGEST, write
from interp.explanations.words import summary
from interp.models import catalogue
from interp.store import Record
from ui import glossary, hypothesis_features, hypothesis_text, hypothesis_tree, parts, state
from ui.hypothesis_state import ERROR, OPEN, START, TEXT, WRITTEN, Editor

_EDITED, _EMPTY, _ASKED, _FOUND = "", "empty", "asked:", "found:"
_NAME = "name"
_CLOSED = {OPEN: None, WRITTEN: None}
_DEPTHS = "".join(
    f'[class*="st-key-claim-{depth}-"] {{margin-left: {1.1 * depth:.1f}rem; width: auto;}}\n'
    for depth in range(1, 8)
)
_HELP = """What no claim names comes, with `other: shared`, from one random input; with `separate`,
each part from one of its own; with `exact`, it stays as it is.

Under `options` a text may also say how it is run. `references`: inputs whose answers are scored;
`replicates`: draws of each; `seed`; `nulls`: random hypotheses of the same shape that stand beside
the score."""
_COLUMNS = "> [data-testid='stLayoutWrapper'] > [data-testid='stHorizontalBlock']"
_STYLE = (
    (
        """<style>
[class*="st-key-claim-"] {border-left: 2px solid rgba(127,127,127,.35); padding-left: .6rem;}
[class*="st-key-claim-0-"] {border-left: none; padding-left: 0;}
[class*="st-key-claim-"] button[kind="tertiary"], .st-key-completion button,
.st-key-features button[kind="tertiary"] {min-height: 1.4rem; padding-top: 0; padding-bottom: 0;}
[class*="-claim-row-"] button {padding-left: .5rem; padding-right: .5rem;}
.st-key-completion button p, .st-key-written textarea {
  font-family: monospace; font-size: .85rem;}
@media (max-width: 1199px) {
  .st-key-asked-of COLUMNS {flex-wrap: wrap;}
  .st-key-asked-of COLUMNS > [data-testid="stColumn"] {min-width: 45%;}
}
DEPTHS</style>"""
    )
    .replace("COLUMNS", _COLUMNS)
    .replace("DEPTHS", _DEPTHS)
)
"""Indents claims by their depth; of the fields above, two stand side by side in little width."""


def halves() -> tuple[Any, Any, Any]:
    """Return the places of the form, and of editor and answer, side by side in a wide window."""
    st.html(_STYLE)
    top = st.container(border=True, key="asked-of")
    return top, *parts.halves("editor", (5, 7))


def widgets(kind: str, name: str, given: str, model: str) -> dict[str, Any]:
    """Return what a form holds of a hypothesis that an address or another answer gives.

    What cannot be read, or is not about the model, stays in the text with what is wrong about it.
    """
    try:
        found = hypothesis_text.asked(given)
        if catalogue.is_known(model):
            check(found, catalogue.info(model))
    except InterpError as error:
        usual = state.usual(kind, model)[name]
        return {name: usual, TEXT: given, ERROR: error, **_CLOSED}
    return {name: found.canonical, TEXT: write(found), ERROR: None, **_CLOSED}


def is_new(kind: str) -> bool:
    """Whether a person comes to the page, from another one or anew: then its address decides."""
    return state.value(kind, TEXT) is None


def fitting(kind: str, name: str, model: str) -> str:
    """Return the hypothesis of the form if it can be tested on another model as well.

    Raises:
        BadInput: It cannot.
    """
    editor = Editor.of(kind, name)
    check(editor.hypothesis, catalogue.info(model))
    population(editor.population, 1, model)
    return editor.hypothesis.canonical


def draw(kind: str, name: str) -> str:
    """Draw the editor; return the canonical JSON of the hypothesis as it stands."""
    editor = Editor.of(kind, name)
    _start(editor)
    tree, text = st.tabs(["Tree", "YAML"])
    with tree:
        if state.value(kind, ERROR) is not None:
            st.caption("The YAML tab holds a text that is not applied; this is the tree before it.")
        hypothesis_tree.draw(editor)
        hypothesis_features.draw(editor)
    with text, st.container(key="written"):
        _text(editor)
    return editor.hypothesis.canonical


def _start(editor: Editor) -> None:
    """Choose where to start from, name it, and go a step back."""
    options = [_EDITED, _EMPTY, *(hypothesis_text.PRESET + p.name for p in presets(editor.model))]
    options += [
        _ASKED + record.id
        for record, claimed in editor.asked
        if not hypothesis_text.preset_name(claimed.canonical)
    ]
    options += [_FOUND + record.id for record, _ in editor.found]
    state.put(editor.kind, {START: _which(editor, options), _NAME: editor.hypothesis.name})
    titles = {
        hypothesis_text.PRESET + p.name: f"{p.name}: {p.title}" for p in presets(editor.model)
    }
    titles |= {_ASKED + record.id: _title(record, claimed) for record, claimed in editor.asked}
    titles |= {_FOUND + record.id: _found(record, claimed) for record, claimed in editor.found}
    titles |= {_EDITED: "as it is below", _EMPTY: "empty: no claims yet"}
    st.selectbox(
        "Start from",
        options,
        key=state.key(editor.kind, START),
        format_func=titles.__getitem__,
        help=glossary.tip("hypothesis"),
        on_change=_load,
        args=(editor,),
    )
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    left.text_input(
        "Name",
        key=state.key(editor.kind, _NAME),
        on_change=_name,
        args=(editor,),
        max_chars=80,
        placeholder="no name",
    )
    right.button(
        "Undo",
        key=f"{editor.kind}/back",
        disabled=not editor.undo,
        on_click=_undo,
        args=(editor,),
        width="stretch",
    )
    note, preset = editor.hypothesis.note, same_as(editor.hypothesis)
    why = preset.why_different if preset is not None else ""
    if note or why:
        st.caption(parts.escape(parts.short(f"{note} {why}".strip(), 600)))
    behavior = editor.hypothesis.behavior
    if behavior and behavior != editor.population:
        st.caption(
            f"Written about {parts.escape(behavior)}; tested here on "
            f"{parts.escape(editor.population)}."
        )


def _which(editor: Editor, options: list[str]) -> str:
    """Return the option that the hypothesis is, or that it is an edited one."""
    canonical = editor.hypothesis.canonical
    preset = hypothesis_text.PRESET + hypothesis_text.preset_name(canonical)
    if preset in options:
        return preset
    if canonical == hypothesis_text.empty(editor.model, editor.population).canonical:
        return _EMPTY
    same = [prefix + record.id
            for prefix, stored in ((_FOUND, editor.found), (_ASKED, editor.asked))
            for record, claimed in stored
            if claimed.canonical == canonical]  # fmt: skip
    return next((one for one in same if one in options), _EDITED)


def _title(record: Record, claimed: Hypothesis) -> str:
    return f"asked {_when(record)}: {parts.short(claimed.name or summary(claimed), 80)}"


def _found(record: Record, claimed: Hypothesis) -> str:
    where = analyses.get(record.kind).page[1]
    return f"circuit of {where}, {_when(record)}: {parts.short(summary(claimed), 80)}"


def _when(record: Record) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(record.created))


def _load(editor: Editor) -> None:
    now, chosen = editor.now, str(state.value(editor.kind, START))
    if chosen == _EMPTY:
        now.load(hypothesis_text.empty(now.model, now.population))
    elif chosen.startswith((_ASKED, _FOUND)):
        stored = {record.id: claimed for record, claimed in (*now.asked, *now.found)}
        now.load(stored[chosen.partition(":")[2]])
    elif chosen:
        now.load(hypothesis_text.asked(chosen))


def _name(editor: Editor) -> None:
    now, name = editor.now, str(state.value(editor.kind, _NAME) or "")
    now.take(hypothesis_text.renamed(now.hypothesis, parts.plain(name)))


def _undo(editor: Editor) -> None:
    editor.now.step_back()


def _text(editor: Editor) -> None:
    """Draw the text; what it says is taken when it can be read, and else kept as it is."""
    error = state.value(editor.kind, ERROR)
    st.text_area(
        "The hypothesis as YAML or JSON",
        key=state.key(editor.kind, TEXT),
        height=360,
        max_chars=LONGEST,
        help=_HELP,
        on_change=_apply,
        args=(editor,),
    )
    if error is None:
        st.caption("Ctrl+Enter applies it. Comments and order are kept until the tree is edited.")
        return
    parts.advice(error)
    st.caption("Not applied: the tree is as it was. Edits of the tree leave this text alone.")
    key = f"{editor.kind}/write-tree"
    st.button("Write the tree here instead", key=key, on_click=_rewrite, args=(editor,))


def _apply(editor: Editor) -> None:
    editor.now.apply(str(state.value(editor.kind, TEXT) or ""))


def _rewrite(editor: Editor) -> None:
    now = editor.now
    state.put(now.kind, {TEXT: write(now.hypothesis), ERROR: None})

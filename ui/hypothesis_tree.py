"""The tree of a hypothesis: a sentence a claim, indented, with its classes and its buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from interp.explanations.hypothesis import Node
from interp.explanations.words import sentence, summary
from ui import hypothesis_chips, hypothesis_claim, hypothesis_draft, hypothesis_text, parts
from ui.hypothesis_state import Editor
from ui.hypothesis_text import Path

_DEEPEST = 6
"""Levels that are indented; deeper ones stand below the last."""


def draw(editor: Editor) -> None:
    """Draw every claim below the one that it is an input of."""
    st.markdown(f"**{parts.escape(summary(editor.hypothesis))}**")
    what, on = editor.open
    if not what:
        hypothesis_chips.refused(editor)
    for path, node, above in hypothesis_text.paths(editor.hypothesis):
        with st.container(key=_key(path, 0), gap="xsmall"):
            _row(editor, path, node, above)
            if what == "claim" and on == path:
                hypothesis_claim.change(editor, path)
        if what == "add" and on == path:
            with st.container(key=_key(path, 1), gap="xsmall"):
                hypothesis_claim.add(editor, path)
    if not editor.hypothesis.graph.children and what != "add":
        st.info(
            "Start from a preset above, or add the first claim: a part of the model, and what "
            "about the input it matters through."
        )
    _together(editor)


def _key(path: Path, more: int) -> str:
    """Name a container by its depth, by which it is indented, and its place."""
    depth = min(len(path) + more, _DEEPEST)
    return f"claim-{depth}-{'-'.join(map(str, path)) or 'root'}{'-new' * more}"


def _row(editor: Editor, path: Path, node: Node, above: Node | None) -> None:
    st.markdown(parts.escape(sentence(node, above)))
    row = st.container(horizontal=True, gap="small", vertical_alignment="center")
    with row:
        hypothesis_chips.draw(hypothesis_chips.of_node(editor, node))
    # The buttons stay together where they do not fit beside the chips.
    row = row.container(horizontal=True, gap="small", vertical_alignment="center", width="content")
    name = "/".join(map(str, path)) or "root"

    def press(label: str, what: str, call: Callable[..., None], *args: Any) -> None:
        key = f"{editor.kind}/{what}/{name}"
        first = what == "add" and not path
        said, kind = (label, "secondary") if first else (f":primary[{label}]", "tertiary")
        row.button(said, key=key, type=kind, on_click=call, args=args)

    if editor.open == ("claim", path):
        press("Close", "edit", editor.show, "")
    else:
        press("Edit", "edit", hypothesis_claim.begin, editor, "claim", path)
    if hypothesis_draft.rows(editor, path, "add"):
        said = "Add below" if path else "Add a claim"
        press(said, "add", hypothesis_claim.begin, editor, "add", path)
    if path:
        press("Remove", "remove", _remove, editor, path)


def _remove(editor: Editor, path: Path) -> None:
    now = editor.now
    if now.commit(lambda: hypothesis_text.removed(now.hypothesis, path)):
        now.settle(now.now.hypothesis)


def _together(editor: Editor) -> None:
    """Say what all features let through together: they may determine the label where none does."""
    found = editor.agreements.get("")
    if found is None or len({n for x, _ in editor.hypothesis.nodes() for n in x.features}) < 2:
        return
    said = (
        f"All its features together: {found.n_classes:,} classes, {found.bits:.2f} bits, of which "
        f"{found.answer_bits:.2f} are about the label, which has {found.of_bits:.2f}."
    )
    st.caption(said, help=hypothesis_chips.tips(said))
    if found.determines:
        hypothesis_chips.draw([("together they determine the label", "red")])

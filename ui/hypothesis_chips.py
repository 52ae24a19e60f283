"""What the editor of a hypothesis says beside a claim: its classes, and why an edit was refused."""

from __future__ import annotations

import streamlit as st

from interp.explanations.hypothesis import ANY, EXACT, Near, Node
from interp.explanations.terms import ROOT
from interp.methods.scrubbing.preview import Agreement
from ui import glossary, parts, state
from ui.hypothesis_state import REFUSED, Editor

_EXPLAINED = ("class", "label", "bits", "draws")
Chip = tuple[str, str]
"""Words and the colour behind them."""


def of_node(editor: Editor, node: Node) -> list[Chip]:
    """Say how many inputs may stand for another at a node."""
    if node.agree == EXACT:
        said = "its input is exchanged, but for what is named below" if node.children else ""
        said = said if node.other != EXACT else ""
        return [(said or "nothing is exchanged", "gray")] if node.site != ROOT else []
    if node.agree == ANY:
        return [("any input", "gray")]
    if isinstance(node.agree, Near):
        return [(f"{node.agree.k:,} nearest inputs", "gray")]
    found = editor.agreements.get(node.id)
    return [] if found is None else of_classes(found, editor.draws)


def of_classes(found: Agreement, draws: int) -> list[Chip]:
    """Say how large classes are, and what to mind about them."""
    if found.n_classes == 1:
        return [("1 class: it tells no inputs apart", "orange")]
    inputs = f"{found.smallest:,} input{'s' if found.smallest > 1 else ''}"
    made = [(f"{found.n_classes:,} classes, smallest {inputs}, {found.bits:.2f} bits", "gray")]
    if found.determines:
        made.append(("determines the label", "red"))
    if found.smallest < draws:
        made.append((f"fewer inputs than the {draws} draws in a class", "orange"))
    return made


def draw(chips: list[Chip]) -> None:
    """Draw chips beside one another, with what their words mean on hover."""
    if chips:
        said = " ".join(f":{colour}-badge[{parts.escape(text)}]" for text, colour in chips)
        help_text = tips(" ".join(text for text, _ in chips))
        st.markdown(said, width="content", help=help_text)


def tips(text: str) -> str | None:
    """Explain the words of a text that need it; None where it has none of them."""
    said = [f"**{word}**: {glossary.tip(word)}" for word in _EXPLAINED if word in text]
    return "\n\n".join(said) or None


def refused(editor: Editor, where: str = "") -> None:
    """Say why the last edit was not made, if it was made here and refused."""
    at, error = state.value(editor.kind, REFUSED) or ("", None)
    if error is not None and at == where:
        parts.advice(error)
        st.caption("The tree is as it was before.")

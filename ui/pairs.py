"""Choosing prompt pairs: one typed, several in lines, a table, or a behavior by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from interp import behaviors
from interp.behaviors import PromptPair, alignment, kept, table
from interp.errors import InterpError
from interp.models import tokens
from interp.models.info import ModelInfo
from ui import glossary, parts, state

TYPED = "typed pairs"
_SHOWN = 200
_HELP = (
    "From three pairs on, every cell has a bootstrap interval; from four different clean prompts "
    "on, every second one is held out."
)


def options(model: str) -> list[str]:
    """List what can be chosen as inputs for ``model``: typed ones, built-in ones, kept sets."""
    return [TYPED, *behaviors.for_model(model), *kept.names()]


def named(option: str) -> str:
    """Name an option as people read it."""
    found = kept.get(option) if kept.is_name(option) else None
    if found is None:
        return option
    n = len(found.pairs)
    return f"{found.label}: {n} pair{'s' if n > 1 else ''}"


def typed(
    kind: str, info: ModelInfo, answer: Callable[[str, str, str], str], behavior: str
) -> list[dict[str, str]]:
    """Draw the editor of typed pairs and the place to bring a table; return the typed pairs."""
    lines = not tokens.is_spelled(info)
    left, right = st.columns(2)
    with left:
        key, tip = state.key(kind, "clean"), glossary.tip("clean")
        clean = parts.prompt("Clean prompt", lines=lines, key=key, help=tip)
        right_answer = answer(kind, "answer", "Answer of the clean prompt")
    with right:
        key, tip = state.key(kind, "corrupted"), glossary.tip("corrupted")
        corrupted = parts.prompt("Corrupted prompt", lines=lines, key=key, help=tip)
        foil = answer(kind, "foil", "Foil")
    strips(info, clean, corrupted)
    with st.expander("Many pairs", expanded=bool(state.value(kind, "more"))):
        text = st.text_area(
            "Further pairs, one a line: clean | corrupted | answer | foil",
            key=state.key(kind, "more"),
            height=100,
            help=_HELP,
        )
        _bring(kind, behavior)
    more = state.pairs_of(text)
    first = {"clean": clean, "corrupted": corrupted, "answer": right_answer, "foil": foil}
    return [first, *more]


def _bring(kind: str, behavior: str) -> None:
    """Take a table of pairs, kept under a name from then on."""
    file = st.file_uploader(
        "Or a table of up to 1,000: CSV with the columns clean, corrupted, answer, foil",
        type=["csv", "tsv", "txt"],
        key=state.key(kind, "table"),
        max_upload_size=8,
    )
    pasted = st.text_area(
        "Or paste a table", key=state.key(kind, "pasted"), height=100, placeholder=_EXAMPLE
    )
    if file is None and not pasted.strip():
        return
    try:
        found = table.read(file.getvalue() if file is not None else pasted)
    except InterpError as error:
        parts.advice(error)
        return
    said = "the pair" if len(found) == 1 else f"these {len(found)} pairs"
    try:
        about = alignment.report(str(state.value(kind, "model")), found)
    except InterpError as error:
        parts.advice(error)
    else:
        st.caption(parts.escape(str(about)))
    label = st.text_input(
        "Call them",
        value=file.name if file is not None else "pasted pairs",
        key=state.key(kind, "label"),
    )
    st.button(
        f"Use {said}",
        key=state.key(kind, "use table"),
        on_click=_use,
        args=(kind, behavior, found, label),
    )


_EXAMPLE = (
    "clean,corrupted,answer,foil\nThe capital of France is,The capital of Italy is, Paris, Rome"
)


def _use(kind: str, behavior: str, pairs: tuple[PromptPair, ...], label: str) -> None:
    name = kept.keep(pairs, parts.plain(label)[:60])
    state.put(kind, {behavior: name, "n_pairs": len(pairs)})


def chosen(info: ModelInfo, name: str, n: int) -> None:
    """Say what a behavior's pairs are, whether they line up, and offer them as a table."""
    try:
        made = behaviors.all_pairs(name, info.name)
    except InterpError:
        return  # the check below the form says it
    summary = named(name) if kept.is_name(name) else behaviors.BUILT_IN[name].summary
    paper = "" if kept.is_name(name) else behaviors.BUILT_IN[name].paper
    st.caption(parts.escape(" ".join(filter(None, (summary, made.note, paper)))))
    pairs = made.pairs[:n]
    if pairs:
        strips(info, pairs[0].clean, pairs[0].corrupted)
    with st.expander(f"All {len(pairs)} pairs"):
        st.dataframe(
            [
                {p: getattr(pair, p) for p in state.PAIR_PARTS} | {"tokens": _lengths(info, pair)}
                for pair in pairs[:_SHOWN]
            ],
            hide_index=True,
        )
        if len(pairs) > _SHOWN:
            st.caption(f"The first {_SHOWN} are shown; the table has all.")
        st.download_button(
            "Download as CSV", table.write(pairs), file_name=f"{name}.csv", mime="text/csv",
            help="Change it and bring it back under typed pairs.",
        )  # fmt: skip


def _lengths(info: ModelInfo, pair: PromptPair) -> str:
    """Say how many tokens both prompts have, where they differ."""
    try:
        a, b = (len(tokens.encode(info, text)) for text in (pair.clean, pair.corrupted))
    except InterpError as error:
        return str(error)[:80]
    return str(a) if a == b else f"{a} and {b}: do not line up"


def strips(info: ModelInfo, clean: str, corrupted: str) -> None:
    """Draw both prompts as tokens, one above the other, with what differs or is missing marked."""
    try:
        sides = [tokens.encode(info, text) for text in (clean, corrupted)]
    except InterpError:
        return  # the check below the form says it
    columns = alignment.align(*sides)
    read = info.answers.read
    texts: Any
    for label, texts, other, n in (
        ("clean", [c.clean for c in columns], [c.corrupted for c in columns], len(sides[0])),
        ("corrupted", [c.corrupted for c in columns], [c.clean for c in columns], len(sides[1])),
    ):
        parts.tokens(texts, against=other, read=read if read >= 0 else n + read, label=label)

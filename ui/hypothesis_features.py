"""The features of a hypothesis: a list, and a panel that writes one and shows its classes."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

import streamlit as st

from interp import expressions
from interp.behaviors.populations import meaning
from interp.errors import BadInput, InterpError
from interp.explanations.hypothesis import NAME, Feature
from interp.methods.scrubbing import preview
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.preview import NAMELESS, Preview
from interp.models import tokens
from ui import (
    glossary,
    hypothesis_chips,
    hypothesis_draft,
    hypothesis_given,
    hypothesis_text,
    parts,
    state,
)
from ui.hypothesis_state import Editor

Dtype = Literal["bool", "int", "float"]
_DTYPES = {"bool": "true or false", "int": "whole number", "float": "decimal number"}
_AUTO = ""
_EXAMPLES = ("long", "length() > 12"), ("equal_counts", "count(OPEN) == count(CLOSE)")
"""Name and expression that stand in empty fields: where parentheses have no names, and where."""
_HERE = "feature"
"""Where a refusal of what this panel says is told."""
_TYPED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_COLUMN = re.compile(r"column\(\"(.+)\"\)")
_MOST_GROUPS = 4


def draw(editor: Editor) -> None:
    """Draw the list of features, and the panel of the one that is being written."""
    st.markdown("**Features**", help=glossary.tip("feature"))
    if not editor.hypothesis.features and editor.written is None:
        st.caption("None yet. Columns that come with the inputs can be chosen in a claim.")
    with st.container(gap="xsmall", key="features"):
        for name, feature in editor.hypothesis.features.items():
            _row(editor, name, feature)
            if editor.written == name:
                _panel(editor, name)
    if editor.written == "":
        _panel(editor, "")
    else:
        key = f"{editor.kind}/feature/new"
        st.button("Write a feature", key=key, on_click=_begin, args=(editor, ""))


def _row(editor: Editor, name: str, feature: Feature) -> None:
    bins = f", {feature.bins} bins" if feature.bins else ""
    needed = hypothesis_text.needs(editor.hypothesis, name)
    row = st.container(horizontal=True, gap="small", vertical_alignment="center")
    row.markdown(
        f"**{parts.escape(name)}** = {parts.escape(parts.short(feature.expr, 160))} "
        f":gray-badge[{_DTYPES[feature.dtype]}{bins}]",
        width="content",
    )
    given = _COLUMN.fullmatch(feature.expr)
    said = meaning(editor.population, given[1]) if given else ""
    if said:
        row.caption(parts.escape(said), width="content")
    row = row.container(horizontal=True, gap="small", vertical_alignment="center", width="content")
    here = editor.written == name
    row.button(
        ":primary[Close]" if here else ":primary[Edit]",
        key=f"{editor.kind}/feature/edit/{name}",
        type="tertiary",
        on_click=editor.write if here else _begin,
        args=(None,) if here else (editor, name),
    )
    row.button(
        "Remove" if needed else ":primary[Remove]",
        key=f"{editor.kind}/feature/remove/{name}",
        type="tertiary",
        disabled=bool(needed),
        help=parts.escape(f"Used by {', '.join(needed)}.") if needed else None,
        on_click=_remove,
        args=(editor, name),
    )


def _begin(editor: Editor, name: str) -> None:
    editor = editor.now
    found = editor.hypothesis.features.get(name)
    editor.write(name)
    put = {
        "name": name,
        "expr": "" if found is None else found.expr,
        "dtype": _AUTO if found is None else found.dtype,
        "bins": 0 if found is None else found.bins,
    }
    state.put(editor.kind, {f"feature/{key}": value for key, value in put.items()})


def _remove(editor: Editor, name: str) -> None:
    now = editor.now
    now.commit(lambda: hypothesis_text.without_feature(now.hypothesis, name))


# --- the panel ------------------------------------------------------------------------------------


def _get(editor: Editor, name: str) -> Any:
    return state.value(editor.kind, f"feature/{name}")


def _panel(editor: Editor, name: str) -> None:
    with st.container(border=True):
        left, right = st.columns([1, 2])
        example = _EXAMPLES[{"OPEN", "CLOSE"} <= editor.names]
        key = state.key(editor.kind, "feature/name")
        left.text_input("Name", key=key, placeholder=example[0], max_chars=41)
        right.text_input(
            "Expression",
            key=state.key(editor.kind, "feature/expr"),
            placeholder=example[1],
            help="Names, numbers, + - * / // %, comparisons, & | ~ and the functions below.",
            live="300ms",
        )
        text = str(_get(editor, "expr") or "")
        _candidates(editor, name, text)
        found = _previewed(editor, name, text)
        called = str(_get(editor, "name") or "")
        taken = called != name and called in editor.hypothesis.features
        ready = found is not None and bool(NAME.fullmatch(called)) and not taken
        if found is not None:
            with st.expander("More", expanded=bool(_get(editor, "dtype") or _get(editor, "bins"))):
                _kind(editor, found)
        row = st.container(horizontal=True)
        row.button(
            "Save" if name else "Add this feature",
            key=f"{editor.kind}/feature/done",
            type="primary",
            disabled=not ready,
            on_click=_save,
            args=(editor, name),
        )
        key = f"{editor.kind}/feature/cancel"
        row.button("Cancel", key=key, on_click=editor.write, args=(None,))
        if found is not None and not ready:
            how = "Give it a name of letters, digits and \\_."
            st.caption("Another feature has this name." if taken else how)
        if not name and editor.open[0] == "add":
            st.caption("The new claim above stays as it is; once added, this is chosen in it.")
        hypothesis_chips.refused(editor, _HERE)


def _kind(editor: Editor, found: Preview) -> None:
    st.selectbox(
        "Its values",
        [_AUTO, *_DTYPES],
        key=state.key(editor.kind, "feature/dtype"),
        format_func=lambda one: _DTYPES.get(one) or f"as computed: {_DTYPES[found.dtype]}",
    )
    if (_get(editor, "dtype") or found.dtype) == "float":
        st.number_input(
            "Quantile bins; 0: equal values only",
            0,
            1000,
            key=state.key(editor.kind, "feature/bins"),
            help="Inputs agree whose values lie in the same bin.",
        )


def _candidates(editor: Editor, name: str, text: str) -> None:
    """List what could stand at the end of the text, each with a line of help; a click inserts."""
    names = editor.names | {one for one in editor.hypothesis.features if one != name}
    found = expressions.complete(text, len(text), names)
    if not found:
        return
    with st.container(height=150, gap="xsmall", key="completion"):
        for i, one in enumerate(found):
            row = st.container(horizontal=True, vertical_alignment="center", gap="small")
            said = one.about.partition(":")
            row.button(
                parts.escape(said[0] if said[2] else one.insert),
                key=f"{editor.kind}/feature/insert/{i}",
                type="tertiary",
                on_click=_insert,
                args=(editor, one),
            )
            row.caption(
                parts.escape(said[2].strip() or _about(editor, one.insert)), width="stretch"
            )


def _about(editor: Editor, name: str) -> str:
    """Say what a name stands for."""
    if name in editor.hypothesis.features:
        return f"feature: {parts.short(editor.hypothesis.features[name].expr, 80)}"
    if editor.inputs is not None and name in editor.inputs.names:
        text = tokens.text_of(editor.info, (editor.inputs.names[name],))[0]
        return f"token {text!r}"
    if editor.inputs is not None and name in editor.inputs.columns:
        return f"given: {hypothesis_given.values(editor.info, editor.inputs, name)}"
    return "given with the inputs"


def _insert(editor: Editor, one: expressions.Completion) -> None:
    text = str(_get(editor, "expr") or "")
    if one.about == "column":
        start = max(text.rfind('"'), text.rfind("'")) + 1
    else:
        typed = _TYPED.search(text)
        start = typed.start() if typed else len(text)
    state.put(editor.kind, {"feature/expr": text[:start] + one.insert})


def _previewed(editor: Editor, name: str, text: str) -> Preview | None:
    """Draw the classes of the expression; None where there are none, and why."""
    if not text.strip():
        st.caption("What it gives on the inputs is shown here as you write.")
        return None
    if editor.inputs is None:
        return None
    try:
        expressions.parse(text)
    except InterpError as error:
        # Most are not written to their end yet.
        st.caption(parts.escape(f"{error.asked} {error.found}"))
        return None
    try:
        found = _classes(editor, name, text, editor.inputs)
    except InterpError as error:
        parts.advice(error)
        return None
    hypothesis_chips.draw(hypothesis_chips.of_classes(found.agreement, editor.draws))
    if found.constant:
        st.warning("It has the same value on all of these inputs: a claim through it says nothing.")
    _table(editor, found)
    each = 2 if len(found.groups) < 3 else 1
    for group in found.groups[:_MOST_GROUPS]:
        for row in group.examples[:each]:
            length = int(editor.inputs.lengths[row])
            ids = tuple(editor.inputs.ids[row, :length].tolist())
            parts.tokens(tokens.text_of(editor.info, ids), label=group.value)
    return found


def _classes(editor: Editor, name: str, text: str, inputs: Inputs) -> Preview:
    """Evaluate the expression as what it gives, or as what the panel says that it is.

    Raises:
        BadInput: It cannot be evaluated so.
    """
    others = {key: one for key, one in editor.hypothesis.features.items() if key != name}
    called = name or NAMELESS
    feature = Feature(expr=text, dtype="float")
    found = preview.classes(feature, inputs, others, called)
    dtype = _dtype(_get(editor, "dtype") or found.dtype)
    bins = int(_get(editor, "bins") or 0) if dtype == "float" else 0
    if dtype == "float" and not bins:
        return found
    return preview.classes(Feature(expr=text, dtype=dtype, bins=bins), inputs, others, called)


def _dtype(name: str) -> Dtype:
    return cast("Dtype", name)


def _table(editor: Editor, found: Preview) -> None:
    """Draw how many inputs have each value, and each right answer among them."""
    names = tokens.answer_names(editor.info)
    shown = [
        {
            "value": group.value,
            "inputs": group.count,
            **{
                names[answer] or str(answer): count
                for answer, count in zip(found.answers, group.answers, strict=True)
            },
        }
        for group in found.groups
    ]
    st.dataframe(shown, hide_index=True)
    left = found.agreement.n_classes - len(found.groups)
    more = (
        f" The {len(found.groups)} largest classes of {left + len(found.groups):,}." if left else ""
    )
    bits = f"{found.agreement.answer_bits:.2f} of the label's {found.agreement.of_bits:.2f} bits"
    said = f"Inputs by value and right answer. It tells {bits}.{more}"
    st.caption(said, help=hypothesis_chips.tips(said))


def _save(editor: Editor, name: str) -> None:
    now = editor.now
    inputs, called = now.inputs, str(_get(now, "name") or "")
    if inputs is None:
        return

    def edit() -> Any:
        text = str(_get(now, "expr"))
        if not NAME.fullmatch(called):
            raise BadInput(
                f"A feature was to be called {called!r}.",
                "Names are letters, digits and _, 41 at most.",
                "Give it another name.",
            )
        found = _classes(now, name, text, inputs)
        dtype = _dtype(_get(now, "dtype") or found.dtype)
        bins = int(_get(now, "bins") or 0) if dtype == "float" else 0
        feature = Feature(expr=text.strip(), dtype=dtype, bins=bins)
        return hypothesis_text.with_feature(now.hypothesis, called, feature, name)

    if now.commit(edit, _HERE):
        now.write(None)
        hypothesis_draft.choose(now, called, name)

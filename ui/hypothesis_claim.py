"""The panel of one claim: which part, through which features, and how the rest is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from interp.errors import InterpError
from interp.explanations.hypothesis import ANY, EXACT, SEPARATE, SHARED, Near, Node
from interp.explanations.terms import MASK, ROOT, STREAM, parse_term, parse_terms
from interp.explanations.words import label, sentence
from ui import (
    glossary,
    hypothesis_chips,
    hypothesis_draft,
    hypothesis_given,
    hypothesis_text,
    parts,
    state,
)
from ui.hypothesis_draft import ALL, COLUMN, FEATURES, LISTED, NEAR, WHOLE
from ui.hypothesis_state import Editor
from ui.hypothesis_text import Path

_HOW = {FEATURES: "only through", EXACT: "in full", ANY: "not at all", NEAR: "roughly through"}
_HOWS = """

- in full: nothing is exchanged
- not at all: any input may stand for another
- roughly through: inputs with the nearest values of a feature may"""
_AT = {"all": "everywhere", "read": "the position read", LISTED: "some"}
_VIA = {
    "direct": "straight into it",
    "mlps": "also through the MLPs between",
    "any": "also through any layers between",
}
_MOST_ROWS, _MAP = 8, 340
"""Rows of the map that are shown without scrolling, and the height in pixels that more have."""
_INTO = {"": "all three", "q": "queries", "k": "keys", "v": "values"}
_TERM = {"": "all that it attends to", "prev": "the position before", "self": "its own position"}
_OTHER = {
    SHARED: ("one random input", "Shared: the rest comes from one input, drawn at random."),
    SEPARATE: (
        "one for each part",
        "Separate: each part of the rest comes from a random input of its own; errors average out.",
    ),
    EXACT: (
        "left as it is",
        "The rest is not exchanged: it is not under test. The floor is then the model with only "
        "what is named exchanged, each claim for itself.",
    ),
}


def begin(editor: Editor, what: str, path: Path) -> None:
    """Open the panel of a claim, or of a new one below it; for callbacks."""
    editor = editor.now
    nodes = hypothesis_text.line(editor.hypothesis, path)
    if nodes is None:
        return
    editor.show(what, path)
    node = nodes[-1] if what == "claim" else None
    chosen = [] if node is None else node.site.split("+")
    for name, sites in hypothesis_draft.rows(editor, path, what).items():
        hypothesis_draft.put(editor, f"row/{name}", [site for site in sites if site in chosen])
    for name, value in _widgets(node).items():
        hypothesis_draft.put(editor, name, value)


def change(editor: Editor, path: Path) -> None:
    """Draw the panel of a claim that is there; every change is made at once."""
    nodes = hypothesis_text.line(editor.hypothesis, path)
    if nodes is None:
        return
    with st.container(border=True):
        _fields(editor, path, "claim", nodes)
        hypothesis_chips.refused(editor)


def add(editor: Editor, path: Path) -> None:
    """Draw the panel of a new claim below another one."""
    nodes = hypothesis_text.line(editor.hypothesis, path)
    if nodes is None:
        return
    with st.container(border=True):
        to = "the logits" if not path else label(nodes[-1])
        st.markdown(f"**A new claim about what {parts.escape(to)} read{'s' if path else ''}**")
        _fields(editor, path, "add", [*nodes, None])
        ready = _preview(editor, path)
        row = st.container(horizontal=True)
        row.button(
            "Add this claim",
            key=f"{editor.kind}/claim/done",
            type="primary",
            disabled=not ready,
            on_click=_add,
            args=(editor, path),
        )
        key = f"{editor.kind}/claim/cancel"
        row.button("Cancel", key=key, on_click=editor.show, args=("",))
        hypothesis_chips.refused(editor)


def _widgets(node: Node | None) -> dict[str, Any]:
    """Return what the widgets of a claim hold; None stands for a new one."""
    node = node or Node(site=STREAM, agree=())
    near = node.agree if isinstance(node.agree, Near) else None
    how = NEAR if near else str(node.agree) if node.agree in (EXACT, ANY) else FEATURES
    return {
        "how": how,
        "features": [] if near else list(node.features),
        "near": near.near if near else None,
        "k": near.k if near else 50,
        "into": node.into or "",
        "at": node.pos if isinstance(node.pos, str) else LISTED,
        "positions": "" if isinstance(node.pos, str) else ", ".join(map(str, node.pos)),
        "via": node.via,
        "attn_term": node.attn_term or "",
        "pool": "" if node.pool is None else str(node.pool),
        "other": node.other,
    }


# --- widgets --------------------------------------------------------------------------------------


def _fields(editor: Editor, path: Path, what: str, nodes: list[Any]) -> None:
    """Draw what can be said of a claim at its place, and nothing else.

    Args:
        editor: The editor.
        path: The claim, or the one above a new one.
        what: "claim" or "add".
        nodes: From the root down to the claim, which is None where it is new.
    """
    node: Node | None = nodes[-1]
    above: Node | None = nodes[-2] if len(nodes) > 1 else None

    def changed(row: str = "") -> None:
        _changed(editor, path, what, row)

    if above is not None:
        _sites(editor, hypothesis_draft.rows(editor, path, what), node, changed)
    _agreement(editor, changed, root=above is None)
    site = ROOT if above is None else hypothesis_draft.site(editor, path, what)
    if above is not None and site != MASK and _heads(above.site):
        _choose(editor, "into", f"Enters the … of {label(above)}", _INTO, changed, required=True)
    if site not in (ROOT, MASK):
        _where(editor, changed)
    if site not in (ROOT, MASK, STREAM):
        via = {name: said for name, said in _VIA.items() if name != "mlps" or editor.info.has_mlp}
        _choose(editor, "via", "Its way", via, changed, help=glossary.tip("way"))
    if node is not None and (node.children or above is None):
        _rest(editor, node, changed)
    if above is not None:
        _more(editor, site, changed)


def _sites(
    editor: Editor,
    options: dict[str, list[str]],
    node: Node | None,
    changed: Callable[..., None],
) -> None:
    """Draw the model's map: a row of buttons a layer, several can be chosen."""
    st.markdown("Part of the model", help=glossary.tip("claim"))
    nodes = (one for one, _ in editor.hypothesis.nodes() if node is None or one.id != node.id)
    used = {str(term.whole) for one in nodes for term in parse_terms(one.site)}
    height: Any = _MAP if len(options) > _MOST_ROWS else "content"
    with st.container(gap="xsmall", height=height, border=False):
        for name, sites in options.items():
            key = state.key(editor.kind, f"claim/row/{name}")
            settings: Any = {
                "key": key,
                "format_func": lambda site: _button(site, used),
                "label_visibility": "collapsed",
                "on_change": changed,
                "args": (name,),
            }
            if name == ALL:
                st.multiselect("Parts", sites, placeholder="L0H0, L0 MLP, …", **settings)
                continue
            left, right = st.columns([1, 7], gap="xsmall", vertical_alignment="center")
            left.caption(name)
            right.pills(name, sites, selection_mode="multi", **settings)
    st.caption("Several are drawn together." + (" • is in the tree already." if used else ""))


def _button(site: str, used: set[str]) -> str:
    names = {STREAM: "its whole input", MASK: "mask"}
    if site in names:
        return names[site]
    term = parse_term(site)
    short = {"head": f"H{term.head}", "mlp": "MLP"}.get(term.kind, term.label)
    said = term.label if term.part else short
    return said + (" •" if site in used else "")


def _agreement(editor: Editor, changed: Callable[..., None], *, root: bool) -> None:
    features = editor.hypothesis.features
    how = {FEATURES: "on features", EXACT: "in full"} if root else dict(_HOW)
    if not features and hypothesis_draft.get(editor, "how") != NEAR:
        how.pop(NEAR, None)
    said = "Answers are read on inputs that agree" if root else "It matters"
    tip = f"{glossary.tip('feature')}{'' if root else _HOWS}"
    _choose(editor, "how", said, how, changed, required=True, help=tip)
    chosen = hypothesis_draft.get(editor, "how")
    if chosen == FEATURES:
        # Buttons, not a list that opens: closing it would move what is below from under a click.
        st.pills(
            "Features",
            hypothesis_draft.choices(editor),
            selection_mode="multi",
            key=state.key(editor.kind, "claim/features"),
            format_func=_feature,
            label_visibility="collapsed",
            on_change=changed,
        )
        _written(editor)
    elif chosen == NEAR:
        left, right = st.columns([2, 1])
        key = state.key(editor.kind, "claim/near")
        left.selectbox("About this feature", list(features), key=key, on_change=changed)
        key = state.key(editor.kind, "claim/k")
        right.number_input("Nearest inputs", 1, None, key=key, on_change=changed)


def _feature(option: str) -> str:
    """Name a feature; a column that is none yet as what comes with the inputs."""
    given = option.startswith(COLUMN)
    return f"{option.removeprefix(COLUMN)} (given)" if given else option


def _written(editor: Editor) -> None:
    """Say what the chosen features are, or where to find more."""
    features = editor.hypothesis.features
    given = hypothesis_draft.columns(editor)
    for one in hypothesis_draft.get(editor, "features") or ():
        if one in features:
            st.caption(parts.escape(f"{one} = {parts.short(features[one].expr, 160)}"))
        elif (column := str(one).removeprefix(COLUMN)) in given:
            st.caption(hypothesis_given.said(editor, column))
    said = "Write others below, under Features: what is filled in here stays."
    if not given:
        st.caption(said)
        return
    about = [f"- {hypothesis_given.said(editor, column)}" for column in given]
    st.caption("Those that are given come with the inputs.", help="\n".join(about))
    st.caption(said)


def _where(editor: Editor, changed: Callable[..., None]) -> None:
    _choose(
        editor, "at", "At positions", _AT, changed, required=True, help=glossary.tip("position")
    )
    if hypothesis_draft.get(editor, "at") == LISTED:
        st.text_input(
            "Positions",
            key=state.key(editor.kind, "claim/positions"),
            placeholder="1, or 0, 4, 7-9",
            label_visibility="collapsed",
            on_change=changed,
        )


def _rest(editor: Editor, node: Node, changed: Callable[..., None]) -> None:
    """Choose how the inputs that no claim names are drawn."""
    options = list(_OTHER) + ([node.other] if node.other not in _OTHER else [])
    st.radio(
        "What no claim names comes from",
        options,
        key=state.key(editor.kind, "claim/other"),
        format_func=lambda one: _OTHER.get(one, (one, ""))[0],
        captions=[_OTHER.get(one, ("", "The input that is drawn for that node."))[1]
                  for one in options],
        help=glossary.tip("rest"),
        on_change=changed,
    )  # fmt: skip


def _more(editor: Editor, site: str, changed: Callable[..., None]) -> None:
    unusual = bool(
        hypothesis_draft.get(editor, "attn_term") or hypothesis_draft.get(editor, "pool")
    )
    with st.expander("More", expanded=unusual):
        if _heads(site):
            _choose(editor, "attn_term", "Of what the head reads, only", _TERM, changed)
        st.text_input(
            "Draw with",
            key=state.key(editor.kind, "claim/pool"),
            help=glossary.tip("sample sharing"),
            placeholder="a tag that several claims share, or a number of inputs",
            on_change=changed,
        )


def _heads(site: str) -> bool:
    """Whether a site is heads alone."""
    return bool(site) and {term.kind for term in parse_terms(site)} == {"head"}


def _choose(
    editor: Editor,
    name: str,
    said: str,
    options: dict[str, str],
    changed: Callable[..., None],
    **settings: Any,
) -> None:
    """Draw a list to choose from, or with ``required`` all options side by side."""
    draw: Callable[..., Any] = st.segmented_control if "required" in settings else st.selectbox
    draw(
        said,
        list(options),
        key=state.key(editor.kind, f"claim/{name}"),
        format_func=options.__getitem__,
        on_change=changed,
        **settings,
    )


def _preview(editor: Editor, path: Path) -> bool:
    """Say what the panel's claim would be; return whether it can be added."""
    try:
        made = hypothesis_draft.made(editor, path, "add")
    except InterpError as error:
        st.caption(parts.escape(f"{error.asked} {error.works}"))
        return False
    error = editor.refusal(made)
    nodes = hypothesis_text.line(made, path) or [made.graph]
    child = nodes[-1].children[-1]
    with st.container(border=True, gap="xsmall"):
        st.markdown(parts.escape(sentence(child, nodes[-1])))
        drafted = Editor(editor.kind, editor.field, made)
        hypothesis_chips.draw(hypothesis_chips.of_node(drafted, child))
        if error is not None and editor.refusal(editor.hypothesis) is None:
            parts.advice(error)
            return False
    return True


def _changed(editor: Editor, path: Path, what: str, row: str) -> None:
    """Take a change of the panel; a claim that is in the tree is changed at once."""
    editor = editor.now
    if row and hypothesis_draft.get(editor, f"row/{row}"):
        for other in hypothesis_draft.rows(editor, path, what):
            # The whole input stands alone.
            if (other == WHOLE) != (row == WHOLE):
                hypothesis_draft.put(editor, f"row/{other}", [])
    if row == WHOLE:
        hypothesis_draft.put(
            editor, "row/whole", list(hypothesis_draft.get(editor, "row/whole"))[-1:]
        )
    if what == "add":
        editor.show("add", path)
        return
    try:
        made = hypothesis_draft.made(editor, path, what)
    except InterpError as error:
        editor.refuse(error)
        return
    if editor.commit(lambda: made):
        hypothesis_draft.put(editor, "features", _names(hypothesis_text.line(made, path)))


def _names(nodes: list[Node] | None) -> list[str]:
    return list(nodes[-1].features) if nodes else []


def _add(editor: Editor, path: Path) -> None:
    now = editor.now
    if now.commit(lambda: hypothesis_draft.made(now, path, "add")):
        now.show("")

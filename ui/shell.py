"""The frame of every page: navigation and the status line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from interp import analyses
from ui import parts
from ui.resources import store

_ROOT = Path(__file__).resolve().parents[1]
_FIXED = {
    "": [("home", "Home"), ("record", "Record")],
    "Look": [("models", "Models")],
    "Find": [],
    "Test": [],
    "Use": [],
    "Keep": [("analyses", "Analyses"), ("about", "About")],
}


def draw() -> None:
    """Draw the navigation, the status line and the page that is open."""
    st.set_page_config(page_title="Because", layout="wide", initial_sidebar_state="expanded")
    page = st.navigation(_pages(), expanded=True)
    with st.sidebar:
        status()
    page.run()


def _pages() -> dict[str, list[Any]]:
    groups = {group: [_page(*entry) for entry in entries] for group, entries in _FIXED.items()}
    for group, pages in groups.items():
        pages += [_page(kind, analyses.get(kind).page[1]) for kind in analyses.in_group(group)]
    return {group: pages for group, pages in groups.items() if pages}


def _page(name: str, title: str) -> Any:
    return st.Page(
        _ROOT / "pages" / f"{name}.py",
        title=title,
        default=name == "home",
        visibility="hidden" if name == "record" else "visible",
    )


@st.fragment(run_every=3)
@parts.guarded
def status() -> None:
    """Say quietly which device works on what, and how long the queue is."""
    kept = store()
    counts = kept.queue.counts()
    rows = kept.workers.alive()
    if not rows:
        st.caption("No worker yet: it is starting, or no server looks after this folder.")
        return
    for row in rows:
        if row.device is None:
            st.caption(f"{row.slot}: starting, imports take some seconds.")
            continue
        free, total = (row.free_bytes or 0) / 1e9, (row.total_bytes or 0) / 1e9
        loaded = ", ".join(row.models) or "no model loaded"
        st.caption(f"{row.device}: {loaded} · {free:.1f} of {total:.1f} GB free")
    busy = counts.get("running", 0) + counts.get("cancelling", 0)
    st.caption(f"{busy} running, {counts.get('queued', 0)} waiting")

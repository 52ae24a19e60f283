"""The page Models: what there is, what fits, one's own model, and the card of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from interp.errors import InterpError
from interp.models import catalogue, deviation, fit, registry
from interp.models.add import Described
from interp.models.info import DTYPES
from interp.store.orders import Order
from interp.store.workers import WorkerRow
from ui import cards, glossary, parts, state
from ui.resources import described, store

_ROW_PX = 35
_WORDS = {
    "raw": "raw: as published",
    "folded": "folded: norms folded in, writing weights centred",
    "float32": "float32",
    "bfloat16": "bfloat16: half the memory",
    "float16": "float16: half the memory",
    "float64": "float64: twice the memory, for checks",
}


@parts.guarded
def models_page() -> None:
    """Draw the table of models, the form for one's own, and the card of one."""
    st.title("Models")
    st.markdown("What is there to ask, does it fit here, and what is known about it?")
    _table()
    own, card = st.tabs(["Your own model", "Cards"], default=_tab(), key="models/tab")
    with own:
        _own()
    with card:
        cards.cards()


def _tab() -> str:
    return "Cards" if state.param("card") else "Your own model"


def devices() -> list[fit.Device]:
    """List the devices that workers have reported."""
    return [_device(row) for row in store().workers.alive() if row.device is not None]


def _device(row: WorkerRow) -> fit.Device:
    return fit.Device(
        row.device or row.slot, row.free_bytes or 0, row.total_bytes or 0, sum(row.sizes.values())
    )


@st.fragment(run_every=3)
@parts.guarded
def _table() -> None:
    """Draw what there is, with what each takes and whether it is loaded."""
    rows = [row for row in store().workers.alive() if row.device is not None]
    where = {name: row.device for row in rows for name in row.sizes}
    here = _device(rows[0]) if rows else None
    st.dataframe(
        [_row(name, here, where) for name in catalogue.names()],
        hide_index=True,
        height=_ROW_PX * (len(catalogue.names()) + 1) + 3,
        column_config={
            "model": st.column_config.Column(width=190),
            "takes": st.column_config.Column(
                help=f"Weights, tables and one prompt of {fit.PROMPT} tokens, with a margin."
            ),
            "from": st.column_config.Column(help="Folder, or commit of the hub."),
        },
        column_order=(
            "model", "state", "takes", "fits", "source", "family", "parameters", "precision",
            "weights", "layers × heads", "positions", "from",
        ),
    )  # fmt: skip
    _loading(rows)


def _row(name: str, here: fit.Device | None, where: dict[str, str | None]) -> dict[str, Any]:
    info = catalogue.info(name)
    told = {
        "model": name,
        "source": info.source,
        "family": info.family,
        "parameters": f"{info.n_parameters:,}",
        "layers × heads": f"{info.n_layers} × {info.n_heads}",
        "positions": info.n_ctx,
        "precision": info.dtype,
        "weights": info.processing,
        "from": info.revision or ("" if info.source == "bundled" else _at_home(info.folder)),
        "state": f"loaded on {where[name]}" if name in where else "loads when asked",
    }
    if here is None:
        return {**told, "takes": "", "fits": "no worker yet"}
    found = fit.check(info, here)
    fits = "yes" if found.fits else "no"
    return {**told, "takes": fit.gigabytes(found.bytes), "fits": fits}


def _at_home(folder: Path) -> str:
    """Write a folder as people do, from their home on."""
    home = Path.home().resolve()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _loading(rows: Sequence[WorkerRow]) -> None:
    """Offer to load one ahead and to unload what is loaded, and show what is on its way."""
    loaded = [(row, name) for row in rows for name in row.sizes]
    left, right = st.columns(2)
    with left, st.popover("Load ahead", width="stretch"):
        waiting = [n for n in catalogue.names() if n not in {name for _, name in loaded}]
        chosen = st.selectbox("Model", waiting, key="models/ahead")
        if st.button("Load", key="models/load", disabled=not waiting):
            store().orders.give("load", {"model": chosen})
    with right, st.popover("Unload", width="stretch", disabled=not loaded):
        st.caption("For everybody who uses this server. It loads again when it is asked.")
        for row, name in loaded:
            label = f"{name}, {fit.gigabytes(row.sizes[name])} on {row.device}"
            if st.button(label, key=f"models/unload/{row.slot}/{name}"):
                store().orders.give("unload", {"model": name}, row.slot)
    for order in store().orders.open():
        if order.action != "add":
            progress(order)


def progress(order: Order) -> None:
    """Draw an order's bar: bytes of bytes, or what is waited for."""
    name = order.what.get("model") or order.what.get("name", "")
    share = min(1.0, order.done_bytes / order.total_bytes) if order.total_bytes else 0.0
    said = order.said or ("Waiting for a worker" if order.state == "waiting" else "Reading")
    if order.total_bytes:
        said += f": {fit.gigabytes(order.done_bytes)} of {fit.gigabytes(order.total_bytes)}"
    st.progress(share, text=parts.escape(f"{order.action} {name} — {said}"))


def _own() -> None:
    """Draw the form for one's own model: where it is, whether it fits, load it."""
    st.markdown(
        "A folder of this machine in the hub's format (config.json, safetensors, tokenizer), "
        "or a name of the Hugging Face hub, `org/name`, or one of TransformerLens, `gpt2-small`."
    )
    state.seed("own", {"name": state.param("add"), "prompt": fit.PROMPT})
    place, version, label = st.columns([3, 1, 1])
    name = place.text_input(
        "Folder or name",
        key=state.key("own", "name"),
        placeholder="~/checkpoints/my-fine-tune or openai-community/gpt2",
    )
    revision = version.text_input(
        "Revision", key=state.key("own", "revision"), help=glossary.tip("revision")
    )
    called = label.text_input(
        "Call it", key=state.key("own", "called"), placeholder="by its own name"
    ).strip()
    weights, precision, prompt = st.columns(3)
    processing = weights.selectbox(
        "Weights",
        registry.PROCESSINGS,
        format_func=_WORDS.__getitem__,
        key=state.key("own", "processing"),
        help=glossary.tip("folded"),
    )
    dtype = precision.selectbox(
        "Precision",
        DTYPES,
        format_func=_WORDS.__getitem__,
        key=state.key("own", "dtype"),
        help=glossary.tip("bfloat16"),
    )
    length = prompt.number_input(
        "Tokens of a prompt, for the fit", 1, 1_000_000, key=state.key("own", "prompt")
    )
    if not name.strip():
        st.caption("Type one; what it is and whether it fits is said before anything is loaded.")
        return
    state.set_params({"add": name})
    try:
        found = described(name.strip(), revision.strip(), called)
    except InterpError as error:
        parts.advice(error)
        return
    where = {"name": name.strip(), "revision": revision.strip(), "called": called}
    _offer(found, where, (processing, dtype), length)


def _offer(found: Described, where: dict[str, str], variant: tuple[str, str], length: int) -> None:
    """Say what was found and whether it fits; offer to load it."""
    base = found.info.name
    try:
        info = catalogue.variant(found.info, *variant)
    except InterpError as error:
        parts.advice(error)
        return
    st.markdown(f"**{parts.escape(info.name)}** · {parts.escape(catalogue.in_words(info))}")
    here = devices()
    fits = False
    if not here:
        st.caption("No worker has reported its memory yet.")
    else:
        checks = [fit.check(info, device, int(length)) for device in here]
        best = next((c for c in checks if c.fits), checks[0])
        fits = best.fits
        if fits:
            st.success(_fit_in_words(best, found, int(length)))
        else:
            parts.advice(fit.refuse(info, best, here))
    mine = [o for o in store().orders.recent() if o.what.get("name") == where["name"]]
    running = [o for o in mine if not o.is_final]
    entry = registry.entries().get(base)
    if entry is not None:
        try:
            registry.check_unchanged(entry)
        except InterpError as error:
            st.info(parts.escape(f"{error.found} Load again adds it as it is now."))
    label = "Load" if entry is None else "Load again"
    st.button(
        label,
        type="primary",
        disabled=not fits or bool(running),
        key="own/load",
        on_click=_order,
        args=({**where, "processing": variant[0], "dtype": variant[1]},),
    )
    if mine:
        _watch(mine[0].id, waited=bool(running))


def _order(what: dict[str, str]) -> None:
    store().orders.give("add", what)


def _fit_in_words(found: fit.Fit, about: Described, asked: int) -> str:
    fetch = f" {fit.gigabytes(about.download_bytes)} to download." if about.download_bytes else ""
    freed = " Another model is unloaded for it." if found.unloads else ""
    # Fewer tokens than asked for are all the positions that it has.
    all_of_them = ", all it can read" if found.prompt < asked else ""
    return (
        f"Fits on {found.device.name}: {fit.gigabytes(found.weights + found.buffers)} of weights "
        f"and {fit.gigabytes(found.forward)} for a prompt of {found.prompt} "
        f"tokens{all_of_them}, {fit.gigabytes(found.bytes)} with margin; "
        f"{fit.gigabytes(found.device.room)} are free or can be freed.{freed}{fetch}"
    )


@st.fragment(run_every=1)
@parts.guarded
def _watch(name: int, *, waited: bool) -> None:
    """Follow an order to its end, and offer what to ask then."""
    order = store().orders.get(name)
    if order is None:
        return
    if order.is_final and waited:
        st.rerun()
    if not order.is_final:
        progress(order)
    elif order.error is not None:
        parts.failure({"found": "", "works": "", **order.error})
    elif order.made and any(order.made in row.sizes for row in store().workers.alive()):
        info = catalogue.info(order.made)
        st.success(f"Loaded: {order.made}. It is in every page's list of models now.")
        measured = deviation.measured(info)
        if info.dtype not in ("float32", "float64"):
            st.caption(
                measured.sentence
                if measured is not None
                else f"What {info.dtype} does to it was not measured: float32 does not fit here."
            )
        cards.starts(order.made)

"""The form of a kind: one widget a field, chosen by the field's type."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from itertools import groupby
from typing import Any, get_args

import streamlit as st

from interp import analyses
from interp.analyses._fields import is_more, kind_of, limits
from interp.behaviors import PromptPair, from_pairs, populations
from interp.behaviors.populations import population
from interp.errors import BadInput, InterpError, UnknownName
from interp.methods.effects import METRICS
from interp.models import catalogue, registry, tokens
from interp.models.info import ModelInfo
from interp.models.sites import RESIDUAL, components
from ui import glossary, hypothesis, pairs, parts, state

_SITES = {name: name for name in RESIDUAL} | {
    f"{name}{suffix}": f"{name}, {where}"
    for name in ("z", "q", "k", "v", "pattern", "result")
    for suffix, where in (("", "all positions"), ("_pos", "by position"))
}
_CHOICES = {name: words for name, (words, _) in METRICS.items()} | {
    "model": "the model's own",
    "screened": "screened in bfloat16",
    "tf32": "TF32",
    "qk_fix": "QK fix",
    "mlps": "through MLPs",
}
_MOST_OUTPUTS = 300
_MOST_NUMBER = 1e15
"""No limit of a field comes near it; a field that is emptied goes to its negative."""
_WIDE = ("prompt", "pairs")


def draw(kind: str, aside: Any = None) -> dict[str, Any]:
    """Draw the form and return the fields as they stand.

    Args:
        kind: The kind.
        aside: Where a hypothesis is drawn, and what follows; else below the other fields.
    """
    spec = analyses.get(kind).spec
    if "hypothesis" in state.by_type(kind) and hypothesis.is_new(kind):
        state.forget(kind)
    fields = state.defaults(kind)
    state.seed(kind, _widgets(kind, fields))
    drawn: dict[str, Any] = {"kind": kind}
    hidden = _hidden(kind, spec)
    more = [name for name in fields if is_more(spec, name)]
    more.sort(key=lambda name: kind_of(spec, name) == "seed")
    edited = [name for name in fields if kind_of(spec, name) == "hypothesis"]
    rows = _rows([name for name in fields if name not in {*hidden, *more, *edited}], spec)
    if edited:
        rows = [[name for row in rows for name in row]]
    for row in rows:
        for column, name in zip(st.columns(len(row)), row, strict=True):
            with column:
                drawn[name] = _DRAW[kind_of(spec, name)](kind, name)
        _below(kind, spec, row, drawn)
    with nullcontext() if aside is None else aside:
        drawn |= {name: hypothesis.draw(kind, name) for name in edited}
        drawn |= _more(kind, spec, more)
    fields |= drawn
    return fields


def _more(kind: str, spec: Any, more: list[str]) -> dict[str, Any]:
    """Draw the fields that only those see who look for more."""
    drawn: dict[str, Any] = {}
    usual = state.example(kind)
    # What differs from the usual must not hide; the address is one step behind what was typed.
    open_ = any(state.value(kind, name) != usual[name] for name in more)
    with st.expander("More", expanded=open_):
        for row in [more[i : i + 3] for i in range(0, len(more), 3)]:
            for column, name in zip(st.columns(3), row, strict=False):
                with column:
                    drawn[name] = _DRAW[kind_of(spec, name)](kind, name)
    return drawn


def _below(kind: str, spec: Any, row: list[str], drawn: dict[str, Any]) -> None:
    """Say under a row, over its whole width, what the behavior chosen in it is."""
    for name in row:
        if kind_of(spec, name) == "behavior" and drawn[name]:
            count = next((n for n in spec.model_fields if kind_of(spec, n) == "count"), "")
            n = max(drawn.get(count, 20), 0)
            pairs.chosen(catalogue.info(_current_model(kind)), drawn[name], n)
        elif kind_of(spec, name) == "population" and drawn[name]:
            n = max(drawn.get("n_inputs", 20), 1)
            with suppress(InterpError):
                source = population(drawn[name], n, _current_model(kind)).source
                st.caption(f"**{parts.escape(drawn[name])}**: {parts.escape(source)}")


def _rows(names: list[str], spec: Any) -> list[list[str]]:
    """Lay narrow fields side by side, up to three, and wide ones in a row of their own.

    Two and two stand where a fourth would be left over.
    """
    drawn = [name for name in names if kind_of(spec, name) in _DRAW]
    rows: list[list[str]] = []
    for wide, group in groupby(drawn, lambda name: kind_of(spec, name) in _WIDE):
        left = list(group)
        while left:
            many = 1 if wide else 2 if len(left) == 4 else 3
            rows.append(left[:many])
            left = left[many:]
    return rows


def _hidden(kind: str, spec: Any) -> set[str]:
    """Pairs are hidden where a behavior is chosen, the number of pairs where none is."""
    by_type = state.by_type(kind)
    if "behavior" not in by_type:
        return set()
    chosen = state.value(kind, by_type["behavior"]) not in ("", pairs.TYPED, None)
    return {by_type["pairs" if chosen else "count"]}


def _widgets(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Split the fields into the values of widgets: the pair editor has several."""
    spec = analyses.get(kind).spec
    widgets: dict[str, Any] = {}
    for name, given in fields.items():
        if kind_of(spec, name) == "pairs":
            first = given[0] if given else {}
            widgets |= {part: first.get(part, "") for part in state.PAIR_PARTS}
            widgets["more"] = state.lines_of(given[1:])
        elif kind_of(spec, name) == "behavior":
            widgets[name] = given or pairs.TYPED
        elif kind_of(spec, name) == "hypothesis":
            widgets |= hypothesis.widgets(kind, name, given, fields[state.by_type(kind)["model"]])
        else:
            widgets[name] = given
    return widgets


def fill(kind: str, fields: dict[str, Any]) -> None:
    """Fill the form with other fields; for callbacks."""
    state.put(kind, _widgets(kind, fields))


def _model(kind: str, name: str) -> str:
    def changed() -> None:
        fill(kind, _kept(kind, state.start(kind, state.value(kind, name))))

    asked = str(state.value(kind, name))
    if not catalogue.is_known(asked):
        asked = _instead(kind, name, asked)
    info = catalogue.info(asked)
    base = info.base if info.source == "bundled" else asked
    # The name of the one chosen stands for its model.
    options = [asked if one == base else one for one in catalogue.names()]
    chosen = st.selectbox(
        "Model",
        options,
        key=state.key(kind, name),
        format_func=lambda one: base if one == asked else one,
        on_change=changed,
    )
    if catalogue.snapshots(base):
        _snapshot(kind, name, info)
    return chosen


def _instead(kind: str, name: str, asked: str) -> str:
    """Say that a model is not there, and put another into the form; return its name.

    Of a model that is there without the checkpoint asked for, the final weights are taken, and the
    question stays as it is.
    """
    base = asked.partition("@")[0]
    if base in catalogue.bundled():
        known = catalogue.snapshots(base)
        parts.advice(UnknownName.of(f"checkpoint of {base}", asked.partition("@")[2], known))
        state.put(kind, {name: base})
        return base
    parts.advice(UnknownName.of("model", asked, catalogue.names()))
    first = catalogue.names()[0]
    fill(kind, state.start(kind, first))
    return first


def _snapshot(kind: str, name: str, info: ModelInfo) -> None:
    """Choose other weights of the same model: everything else in the form stays as it is."""

    def changed() -> None:
        chosen = state.value(kind, "snapshot")
        base = f"{info.base}@{chosen}" if chosen else info.base
        state.put(kind, {name: registry.join(base, info.processing, info.dtype)})

    state.put(kind, {"snapshot": info.snapshot})
    st.selectbox(
        "Checkpoint",
        ("", *catalogue.snapshots(info.base)),
        key=state.key(kind, "snapshot"),
        format_func=lambda one: one or "final",
        on_change=changed,
        help=glossary.tip("checkpoint"),
    )


def _kept(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Keep what a person typed as far as the new model can read it and answer with it."""
    spec, kept = analyses.get(kind).spec, dict(fields)
    model = next(fields[n] for n in spec.model_fields if kind_of(spec, n) == "model")
    info = catalogue.info(model)
    for name in fields:
        typed = state.value(kind, name)
        with suppress(InterpError):
            if kind_of(spec, name) == "prompt" and typed:
                tokens.encode(info, typed)
                kept[name] = typed
            elif kind_of(spec, name) == "answer" and typed:
                tokens.answer_id(info, typed)
                kept[name] = typed
            elif kind_of(spec, name) == "pairs":
                first = {part: state.value(kind, part) or "" for part in state.PAIR_PARTS}
                every = [first, *state.pairs_of(state.value(kind, "more") or "")]
                from_pairs(model, [PromptPair(**pair) for pair in every])
                kept[name] = every
            elif kind_of(spec, name) == "hypothesis":
                where = {n: state.value(kind, n) for n in (state.by_type(kind)["population"],)}
                kept |= where | {name: hypothesis.fitting(kind, name, model)}
    return kept


def _prompt(kind: str, name: str) -> str:
    info = catalogue.info(_current_model(kind))
    key, tip = state.key(kind, name), glossary.tip("prompt")
    text = parts.prompt("Prompt", lines=not tokens.is_spelled(info), key=key, help=tip)
    _preview(info, text)
    return text


def _answer(kind: str, name: str, label: str = "") -> str:
    """Draw the choice of an output; without a label it stands alone, and may be the model's own."""
    compared = "foil" in analyses.get(kind).spec.model_fields
    own = "" if label else "the model's next" if name == "foil" else "the model's own"
    label = label or {"foil": "Foil"}.get(name, "Answer" if compared else "Output to follow")
    info = catalogue.info(_current_model(kind))
    outputs = tokens.answer_names(info)
    help_text = glossary.tip("answer" if name != "foil" else "foil")
    key = state.key(kind, name)
    if len(outputs) > _MOST_OUTPUTS:
        return st.text_input(label, key=key, help=help_text, placeholder=own or None)
    options = ["", *outputs]
    if state.value(kind, name) not in options:
        options.append(state.value(kind, name))
    return st.selectbox(
        label,
        options,
        key=key,
        format_func=lambda o: o or own or "none",
        help=help_text,
    )


def _pairs(kind: str, name: str) -> list[dict[str, str]]:
    spec = analyses.get(kind).spec
    behavior = next((n for n in spec.model_fields if kind_of(spec, n) == "behavior"), "")
    return pairs.typed(kind, catalogue.info(_current_model(kind)), _answer, behavior)


def _preview(info: Any, text: str) -> None:
    if not text:
        st.caption(f"Type some of: {parts.escape(tokens.alphabet(info))}")
        return
    try:
        coded = tokens.encode(info, text)
    except InterpError:
        return  # the check below the form says it
    if info.answers.note:
        st.caption(parts.escape(info.answers.note))
    read = info.answers.read
    parts.tokens(coded.texts, read=read if read >= 0 else len(coded) + read)


def _behavior(kind: str, name: str) -> str:
    model = _current_model(kind)
    options = pairs.options(model)
    _valid(kind, name, options, pairs.TYPED)
    chosen = st.selectbox(
        "Inputs",
        options,
        key=state.key(kind, name),
        format_func=pairs.named,
        help=glossary.tip("behavior"),
    )
    if chosen == pairs.TYPED:
        return ""
    return chosen


def _population(kind: str, name: str) -> str:
    options = list(populations.for_model(_current_model(kind)))
    if not options:
        st.caption("There are no inputs for this model yet.")
        return ""
    _valid(kind, name, options, options[0])
    tip = glossary.tip("population")
    return st.selectbox("Drawn from", options, key=state.key(kind, name), help=tip)


def _count(kind: str, name: str) -> int:
    return _any_whole(kind, name, "Pairs", (1, 1000))


def _site(kind: str, name: str) -> str:
    info = catalogue.info(_current_model(kind))
    options = [s for s in _SITES if s.removesuffix("_pos") in components(info)]
    _valid(kind, name, options, options[0])
    return st.selectbox(
        "What is patched",
        options,
        key=state.key(kind, name),
        format_func=_SITES.__getitem__,
        help="\n".join(f"- {site}: {glossary.tip(site)}" for site in components(info)),
    )


def _choice(kind: str, name: str) -> str:
    field = analyses.get(kind).spec.model_fields[name]
    options = [str(option) for option in get_args(field.annotation)]
    _valid(kind, name, options, options[0])
    return st.selectbox(
        name.capitalize(),
        options,
        key=state.key(kind, name),
        format_func=_choice_in_words,
        help=field.description,
    )


def _choice_in_words(option: str) -> str:
    return _CHOICES.get(option, option)


def _valid(kind: str, name: str, options: list[str], fallback: str) -> None:
    """Say so where the address asks for what is not there, and fall back to what is."""
    asked = str(state.value(kind, name))
    if asked not in options:
        parts.advice(UnknownName.of(name, asked, options))
        state.put(kind, {name: fallback})


def _whole(kind: str, name: str, limits: tuple[int, int], fallback: int) -> None:
    """Say so where the address has no whole number within the limits."""
    asked = state.value(kind, name)
    if not isinstance(asked, int) or not limits[0] <= asked <= limits[1]:
        wanted = f"It must be a whole number from {limits[0]} to {limits[1]}."
        parts.advice(BadInput(f"The field {name!r} was {asked!r}.", wanted))
        state.put(kind, {name: fallback})


def _layer(kind: str, name: str) -> int:
    info = catalogue.info(_current_model(kind))
    return _numbered(kind, name, info.n_layers, "L")


def _head(kind: str, name: str) -> int:
    info = catalogue.info(_current_model(kind))
    return _numbered(kind, name, info.n_heads, "H")


def _numbered(kind: str, name: str, n: int, letter: str) -> int:
    """Choose one of the model's layers, or of the heads of each of them."""
    _whole(kind, name, (0, n - 1), 0)
    return st.selectbox(
        name.capitalize(),
        range(n),
        key=state.key(kind, name),
        format_func=lambda i: f"{letter}{i}",
        help=glossary.tip(name),
    )


def _whole_number(kind: str, name: str) -> int:
    return _any_whole(kind, name, _label(kind, name), limits(analyses.get(kind).spec, name))


def _any_whole(kind: str, name: str, label: str, within: tuple[int, int]) -> int:
    """Take any whole number: the check below the form tells one outside of the limits.

    Streamlit would keep such a number in the browser, and the one before it would be asked.
    """
    _readable(kind, name, int, f"a whole number from {within[0]} to {within[1]}")
    field = analyses.get(kind).spec.model_fields[name]
    key, low, high = state.key(kind, name), -int(_MOST_NUMBER), int(_MOST_NUMBER)
    return int(st.number_input(label, low, high, key=key, help=field.description))


def _readable(kind: str, name: str, number: type[int] | type[float], wanted: str) -> None:
    """Say so where a field is empty or the address has no number for it; take the usual one."""
    asked = state.value(kind, name)
    if number is float and isinstance(asked, int):
        state.put(kind, {name: float(asked)})
    if not isinstance(asked, number | int) or not abs(asked) < _MOST_NUMBER:
        was = "empty" if asked == -_MOST_NUMBER else repr(asked)
        parts.advice(BadInput(f"The field {name!r} was {was}.", f"It must be {wanted}."))
        state.put(kind, {name: number(state.example(kind)[name])})


def _number(kind: str, name: str) -> float:
    low, high = limits(analyses.get(kind).spec, name)
    _readable(kind, name, float, f"a number from {low:g} to {high:g}")
    field, key = analyses.get(kind).spec.model_fields[name], state.key(kind, name)
    return float(
        st.number_input(
            _label(kind, name), -_MOST_NUMBER, _MOST_NUMBER, step=(high - low) / 50, key=key,
            help=field.description, format="%g",
        )
    )  # fmt: skip


def _places(kind: str, name: str) -> str:
    field = analyses.get(kind).spec.model_fields[name]
    key, shown = state.key(kind, name), (field.examples or [None])[0]
    label = _label(kind, name)
    return st.text_input(label, key=key, help=field.description, placeholder=shown) or ""


def _label(kind: str, name: str) -> str:
    return analyses.get(kind).spec.model_fields[name].title or name.capitalize()


def _seed(kind: str, name: str) -> int:
    return _any_whole(kind, name, "Seed", (0, 2**31 - 1))


def _current_model(kind: str) -> str:
    model = state.value(kind, "model")
    catalogue.info(model)
    return str(model)


_DRAW = {
    "model": _model,
    "prompt": _prompt,
    "answer": _answer,
    "pairs": _pairs,
    "behavior": _behavior,
    "population": _population,
    "hypothesis": hypothesis.draw,
    "count": _count,
    "site": _site,
    "choice": _choice,
    "layer": _layer,
    "head": _head,
    "places": _places,
    "whole": _whole_number,
    "number": _number,
    "seed": _seed,
}

"""What the keys of a hypothesis' text may hold, and how it is said that they hold something else.

Of the blocks ``data`` and ``behavior`` only the name and the number of references are kept. What
else they may say is either always so here, and read past, or refused with the reason.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from interp.errors import BadInput, UnknownName
from interp.explanations.hypothesis import SHARED, Feature, Hypothesis, Near, Node, Rewrite, Split

_TOP = {*Hypothesis.model_fields, "behaviour", "data", "options"}
_OPTIONS = ("replicates", "seed", "nulls", "swap_prob")
_BEHAVIOR = ("name", "metric", "anchors", "readout", "label")
_METRICS = ("ce", "kl", "logit_diff", "bce", "accuracy")
_FLOORS = ("shuffled", "prior", "zero", "mean", "uniform", "component-disabled")
_WORKS = {
    "into": "Write q, k or v, or leave it out.",
    "pos": "Write numbers from 0 in a list, all, or read.",
    "via": "Write direct, mlps or any.",
    "attn_term": "Write prev or self, or leave it out.",
    "agree": "Write exact, any, a feature, a list of features, or {near: feature, k: 50}.",
    "other": "Write shared, separate, exact or same_as:<id>.",
    "pool": "Write a number or a tag, or leave it out.",
    "children": "Write a list of nodes.",
    "dtype": "Write bool, int or float.",
    "bins": "Write a number from 0 to 1000.",
    "split": "Write {phi: expression} or {direction: [numbers]}.",
    "version": "Write version: 1.",
    "swap_prob": "Write a number above 0, at most 1.",
}


def options(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what a text says about running it, by the names of ``RunOptions``.

    Raises:
        BadInput: It says something that a hypothesis cannot say.
    """
    told = _block(raw, "options", _OPTIONS)
    found = {name: value for name, value in told.items() if name != "swap_prob"}
    data = _block(raw, "data", ("source", "reference", "pool"))
    reference = _block(data, "reference", ("split", "n"), "data.")
    pool = _block(data, "pool", ("split",), "data.")
    _only("data.reference.split", reference.get("split"), ("heldout", "held-out"))
    _only("data.pool.split", pool.get("split"), ("all",))
    if "n" in reference:
        found["references"] = reference["n"]
    return found


def fields(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a text's data by the fields of ``Hypothesis``, every key checked.

    Raises:
        BadInput: A block is no block, or says what a hypothesis cannot say.
        UnknownName: A key that does not exist.
    """
    _known(raw, _TOP, "the hypothesis")
    found = {name: value for name, value in raw.items() if name in Hypothesis.model_fields}
    found["behavior"] = _behavior(raw)
    told = _block(raw, "options", _OPTIONS)
    if "swap_prob" in told:
        if "swap_prob" in raw:
            raise BadInput(
                "swap_prob stands at the top and in options.", "They are one.", "Keep one."
            )
        found["swap_prob"] = told["swap_prob"]
    found["features"] = _features(_block(raw, "features", None))
    found["rewrites"] = _rewrites(raw.get("rewrites") or [])
    found["graph"] = _node(raw["graph"], "graph")
    return {name: value for name, value in found.items() if value is not None}


def refusal(error: ValidationError, given: dict[str, Any]) -> BadInput:
    """Say the first thing that is wrong with the fields of a hypothesis."""
    first = error.errors()[0]
    where, value, last = "", given, ""
    for step in first["loc"]:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
        last = step if isinstance(step, str) else last
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else step
    missing = first["type"] == "missing"
    name = str(first["loc"][-1])
    return BadInput(
        f"{where or 'The hypothesis'} has no {name}." if missing else f"{where} is {value!r:.80}.",
        "It must have one." if missing else _found(last, value, first["msg"]),
        f"Write {name}: …" if missing else _WORKS.get(last, "Write what the format says."),
    )


def _found(field: str, value: Any, said: str) -> str:
    if field == "pos" and isinstance(value, str):
        return f"Positions have no names here: {value!r} may be at another place in each input."
    return f"That cannot be: {said[0].lower()}{said[1:]}."


def _features(raw: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in raw.items():
        if isinstance(one, dict):
            _known(one, Feature.model_fields, f"the feature {name!r}")
        elif not isinstance(one, str):
            raise BadInput(
                f"The feature {name!r} is {one!r:.80}.",
                "It is no expression.",
                "Write an expression in quotes, or {expr: …, dtype: bool}.",
            )
        found[str(name)] = one if isinstance(one, dict) else {"expr": one}
    return found


def _rewrites(raw: Any) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
        raise BadInput(
            f"rewrites is {raw!r:.80}.",
            "It is no list of rewrites.",
            "Write - {site: a0.h0, split: {phi: …}}.",
        )
    for at, one in enumerate(raw):
        _known(one, Rewrite.model_fields, f"rewrites[{at}]")
        _check_positions(one, f"rewrites[{at}]")
        if isinstance(one.get("split"), dict):
            _known(one["split"], Split.model_fields, f"rewrites[{at}].split")
    return raw


def _node(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise BadInput(
            f"{where} is {raw!r:.80}.", "It is no node.", "Write {site: a0.h0, agree: exact}."
        )
    _known(raw, Node.model_fields, where)
    if not isinstance(raw.get("site"), str):
        raise BadInput(
            f"{where} has the site {raw.get('site')!r:.80}.",
            "Every node is at a site.",
            "Write site: a0.h0, for instance.",
        )
    _check_positions(raw, where)
    if isinstance(raw.get("agree"), dict):
        _known(raw["agree"], Near.model_fields, f"{where}.agree")
    children = raw.get("children")
    if children is not None and not isinstance(children, list):
        raise BadInput(
            f"{where}.children is {children!r:.80}.", "It is no list.", _WORKS["children"]
        )
    # What is written empty (pool: null) is as usual.
    found = {name: value for name, value in raw.items() if value is not None}
    if found.get("other") == "any":
        found["other"] = SHARED
    if children is not None:
        below = enumerate(children)
        found["children"] = [_node(child, f"{where}.children[{at}]") for at, child in below]
    return found


def _check_positions(raw: dict[str, Any], where: str) -> None:
    listed = raw.get("pos")
    names = [at for at in listed if isinstance(at, str)] if isinstance(listed, list) else []
    if names:
        raise BadInput(
            f"{where}.pos has {names[0]!r}.",
            "Positions have no names here: a name may be at another place in each input.",
            _WORKS["pos"],
        )


def _behavior(raw: dict[str, Any]) -> str:
    if "behavior" in raw and "behaviour" in raw:
        raise BadInput("There are a behavior and a behaviour.", "They are one.", "Keep one.")
    key = "behaviour" if "behaviour" in raw else "behavior"
    source = (raw.get("data") or {}).get("source")
    name = raw.get(key)
    if name is not None and not isinstance(name, str):
        name = _behavior_block(_block(raw, key, _BEHAVIOR), key)
    if name and source and name != source:
        raise BadInput(
            f"The {key} is {name!r} and data.source {source!r}.",
            "A behavior is its inputs: they are one.",
            "Keep one.",
        )
    return name or source or ""


def _behavior_block(block: dict[str, Any], key: str) -> str | None:
    _only(f"{key}.metric", block.get("metric"), _METRICS)
    for floor in block.get("anchors") or ():
        if not isinstance(floor, dict):
            _only(f"{key}.anchors", floor, _FLOORS)
    for name, found, works in (
        (
            "readout",
            "An answer is read where the behavior says, at one position of each input; a mask of "
            "positions is not read.",
            "Leave it out, and choose a behavior whose inputs end there.",
        ),
        (
            "label",
            "The right answer of each input is part of the behavior.",
            "Leave it out, and choose a behavior with these answers.",
        ),
    ):
        if block.get(name) is not None:
            raise BadInput(f"{key}.{name} is {block[name]!r:.80}.", found, works)
    return block.get("name")


def _block(
    raw: dict[str, Any], name: str, known: tuple[str, ...] | None, inside: str = ""
) -> dict[str, Any]:
    found = raw.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        keys = f" {', '.join(known)}" if known else ""
        raise BadInput(
            f"{inside}{name} is {found!r:.80}.", "It is no block of keys.", f"Write keys:{keys}."
        )
    if known is not None:
        _known(found, known, f"{inside}{name}")
    return found


def _only(where: str, value: Any, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise BadInput(
            f"{where} is {value!r:.80}.",
            f"Here it is {' or '.join(known)}.",
            "Leave it out, or write what is so.",
        )


def _known(given: dict[Any, Any], known: Any, where: str) -> None:
    for key in given:
        if key not in known:
            raise UnknownName.of(f"key in {where}", str(key), known)

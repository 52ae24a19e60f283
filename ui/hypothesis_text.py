"""Hypotheses as the editor changes them, one edit at a time, and as an address holds them.

A node is named by its path, the numbers of the children from the root down. Edits are made on what
is written of a hypothesis, so that nodes which are called by their place are called by their new
one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

import yaml

from interp.errors import BadInput
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node
from interp.explanations.presets import PRESETS, presets
from interp.explanations.terms import ROOT
from interp.explanations.text import read, write
from interp.models import catalogue

Path = tuple[int, ...]
PRESET = "preset:"
_CHANGED = " changed"
_QUOTED = re.compile(r"(\"[^\"]*\"|'[^']*')")


@lru_cache(maxsize=256)
def of(canonical: str) -> Hypothesis:
    """Return the hypothesis of a canonical JSON text."""
    return Hypothesis.model_validate_json(canonical)


def empty(model: str, behavior: str) -> Hypothesis:
    """Return the hypothesis without claims about a model on some inputs."""
    base = catalogue.info(model).base
    return Hypothesis(model=base, behavior=behavior, graph=Node(site=ROOT, agree=EXACT))


def usual(example: str, model: str, behavior: str) -> Hypothesis:
    """Return what a form holds for a model: the example where that is about it, else a preset.

    Args:
        example: Canonical JSON of the hypothesis of the kind's example.
        model: The model.
        behavior: Inputs for a hypothesis without claims, where the model has no preset.
    """
    if of(example).model == catalogue.info(model).base:
        return of(example)
    about = presets(model)
    return about[0].hypothesis if about else empty(model, behavior)


def asked(text: str) -> Hypothesis:
    """Read what an address holds: ``preset:<name>``, canonical JSON, or YAML.

    Raises:
        BadInput: It is none of these.
    """
    name = text.removeprefix(PRESET)
    if name != text and name in PRESETS:
        return PRESETS[name].hypothesis
    return read(text)[0]


def in_address(canonical: str) -> str:
    """Write a hypothesis for an address: the name of a preset where it is one."""
    return PRESET + name if (name := preset_name(canonical)) else canonical


def preset_name(canonical: str) -> str:
    """Return the name of the preset that a hypothesis is, or empty."""
    same = (name for name, one in PRESETS.items() if one.hypothesis.canonical == canonical)
    return next(same, "")


def paths(hypothesis: Hypothesis) -> list[tuple[Path, Node, Node | None]]:
    """List every node with its path and the node above it, parents first."""
    found: list[tuple[Path, Node, Node | None]] = []
    waiting: list[tuple[Path, Node, Node | None]] = [((), hypothesis.graph, None)]
    while waiting:
        path, node, above = waiting.pop()
        found.append((path, node, above))
        below = [((*path, i), child, node) for i, child in enumerate(node.children)]
        waiting += reversed(below)
    return found


def line(hypothesis: Hypothesis, path: Path) -> list[Node] | None:
    """Return the nodes from the root to a path, or None if there is nothing."""
    nodes = [hypothesis.graph]
    for i in path:
        if i >= len(nodes[-1].children):
            return None
        nodes.append(nodes[-1].children[i])
    return nodes


def changed(hypothesis: Hypothesis, path: Path, fields: Mapping[str, Any]) -> Hypothesis:
    """Return the hypothesis with other fields of a node; those that are None are left out."""

    def change(graph: dict[str, Any]) -> None:
        node = _node(graph, path)
        kept = {key: node[key] for key in ("id", "children") if key in node}
        node.clear()
        node.update(_told(fields) | kept)

    return _edited(hypothesis, change)


def added(hypothesis: Hypothesis, path: Path, fields: Mapping[str, Any]) -> Hypothesis:
    """Return the hypothesis with one more claim below a node."""
    return _edited(
        hypothesis,
        lambda graph: _node(graph, path).setdefault("children", []).append(_told(fields)),
    )


def removed(hypothesis: Hypothesis, path: Path) -> Hypothesis:
    """Return the hypothesis without a node and all below it."""

    def remove(graph: dict[str, Any]) -> None:
        above = _node(graph, path[:-1])
        del above["children"][path[-1]]
        if not above["children"]:
            del above["children"]

    return _edited(hypothesis, remove)


def with_feature(
    hypothesis: Hypothesis, name: str, feature: Feature, instead: str = ""
) -> Hypothesis:
    """Return the hypothesis with a feature, new or in place of one that may have another name.

    Raises:
        BadInput: Another feature has the name.
    """
    if name != instead and name in hypothesis.features:
        raise BadInput(
            f"A feature was to be called {name!r}.",
            "Another feature of this hypothesis has that name.",
            "Give it another one.",
        )
    features = {
        (name if key == instead else key): (feature if key == instead else one)
        for key, one in hypothesis.features.items()
    }
    if not instead:
        features[name] = feature
    if instead and instead != name:
        features = {
            key: one.model_copy(update={"expr": _renamed(one.expr, instead, name)})
            for key, one in features.items()
        }
    raw = _raw(hypothesis)
    raw["features"] = {
        key: one.model_dump(mode="json", exclude_defaults=True) for key, one in features.items()
    }
    if instead and instead != name:
        _rename(raw["graph"], instead, name)
        for rewrite in raw.get("rewrites", ()):
            if rewrite["split"].get("phi"):
                rewrite["split"]["phi"] = _renamed(rewrite["split"]["phi"], instead, name)
    return _read(raw)


def without_feature(hypothesis: Hypothesis, name: str) -> Hypothesis:
    """Return the hypothesis without a feature."""
    raw = _raw(hypothesis)
    raw["features"].pop(name)
    return _read(raw)


def needs(hypothesis: Hypothesis, name: str) -> list[str]:
    """Say what uses a feature: nodes by their ids, features by their names."""
    nodes = [node.id for node, _ in hypothesis.nodes() if name in node.features]
    others = [
        key
        for key, one in hypothesis.features.items()
        if key != name and _renamed(one.expr, name, name + "_") != one.expr
    ]
    return nodes + others


def renamed(hypothesis: Hypothesis, name: str) -> Hypothesis:
    """Return the hypothesis under another name."""
    return hypothesis.model_copy(update={"name": name.strip()})


def descended(new: Hypothesis, old: Hypothesis, *, answered: bool) -> Hypothesis:
    """Say of an edited hypothesis where it comes from.

    A preset's name and note are about the preset alone. A version that was tested is linked to.

    Args:
        new: After the edit.
        old: Before it.
        answered: Whether the one before was tested.
    """
    update: dict[str, Any] = {}
    if answered:
        update["before"] = old.hash
    if preset_name(old.canonical) and new.name == old.name:
        update |= {"name": f"{old.name}{_CHANGED}", "note": ""}
    return new.model_copy(update=update)


def _raw(hypothesis: Hypothesis) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(write(hypothesis)))


def _read(raw: dict[str, Any]) -> Hypothesis:
    return read(json.dumps(raw))[0]


def _edited(hypothesis: Hypothesis, change: Callable[[dict[str, Any]], Any]) -> Hypothesis:
    raw = _raw(hypothesis)
    change(raw["graph"])
    return _read(raw)


def _node(graph: dict[str, Any], path: Path) -> dict[str, Any]:
    node = graph
    for i in path:
        node = node["children"][i]
    return node


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _renamed(expression: str, old: str, new: str) -> str:
    """Give a name in an expression another one; what stands in quotes is a column's."""
    word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(old)}(?![A-Za-z0-9_(])")
    parts = _QUOTED.split(expression)
    return "".join(p if _QUOTED.fullmatch(p) else word.sub(new, p) for p in parts)


def _rename(node: dict[str, Any], old: str, new: str) -> None:
    agree = node.get("agree")
    if isinstance(agree, list):
        node["agree"] = [new if one == old else one for one in cast("list[str]", agree)]
    elif isinstance(agree, dict):
        if node["agree"]["near"] == old:
            node["agree"]["near"] = new
    elif agree == old:
        node["agree"] = new
    for child in node.get("children", ()):
        _rename(child, old, new)

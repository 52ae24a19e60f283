"""Hypotheses as text: YAML or JSON, read carefully and written tidily.

Keys at the top: ``version``, ``name``, ``note``, ``model``, ``behavior`` (or ``behaviour``, a name
or a block with one), ``data``, ``features``, ``rewrites``, ``graph``, ``options``, ``before``. The
fields of nodes are those of ``Node``. A feature may be its expression alone.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.errors import BadInput
from interp.explanations import _text_blocks as blocks
from interp.explanations.hypothesis import Feature, Hypothesis, Node, with_ids
from interp.explanations.terms import ROOT

_Record = TypeVar("_Record", bound=BaseModel)
LONGEST = 100_000
"""Bytes of a text."""


class RunOptions(BaseModel):
    """What a text says about how it is to be run; None where it says nothing.

    Attributes:
        references: Inputs on which answers are read.
        replicates: Draws for each of them.
        seed: Of the draws.
        nulls: Random hypotheses that it is compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    references: int | None = Field(default=None, ge=1)
    replicates: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    nulls: int | None = Field(default=None, ge=0)


def read(text: str) -> tuple[Hypothesis, RunOptions]:
    """Read a hypothesis from YAML or JSON, with what it says about running it.

    ``other: any`` is read as shared, which it is.

    Raises:
        BadInput: It cannot be read, or asks for something that hypotheses here do not have.
        UnknownName: A key or term that does not exist.
    """
    try:
        raw = _parsed(text)
        options, fields = blocks.options(raw), blocks.fields(raw)
        hypothesis = _valid(Hypothesis, fields)
        told = _valid(RunOptions, options)
    except RecursionError:
        raise BadInput(
            "The text was to be read as a hypothesis.",
            "It is nested too deeply.",
            "Claims go as deep as the model has layers.",
        ) from None
    _check_ids(fields["graph"], hypothesis)
    return hypothesis, told


def write(hypothesis: Hypothesis) -> str:
    """Write a hypothesis as YAML; what is as usual, and ids that nodes have anyway, are left out.

    ``read`` gives it back.
    """
    told: dict[str, Any] = {"version": hypothesis.version}
    for name in ("name", "note", "model", "behavior", "before"):
        if getattr(hypothesis, name):
            told[name] = getattr(hypothesis, name)
    if hypothesis.features:
        told["features"] = {name: _feature(one) for name, one in hypothesis.features.items()}
    if hypothesis.rewrites:
        kept = [one.model_dump(mode="json", exclude_defaults=True) for one in hypothesis.rewrites]
        told["rewrites"] = [_Line(one) for one in kept]
    told["graph"] = _node(hypothesis.graph, "", set())
    if hypothesis.swap_prob != 1:
        told["options"] = {"swap_prob": hypothesis.swap_prob}
    return yaml.dump(told, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


# --- reading --------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Plain data, each key once, without aliases and merges: text is as long as what it says."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise BadInput(
                f"The text has the alias *{event.anchor} in line {event.start_mark.line + 1}.",
                "A few aliases can stand for more than fits into memory.",
                "Write out what it stands for.",
            )
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        """Leave ``<<`` as a key: merges are not read."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str):
                if key.value in seen:
                    raise _twice(key.value, f" in line {key.start_mark.line + 1}")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _parsed(text: str) -> dict[str, Any]:
    size = len(text.encode(errors="replace"))
    if size > LONGEST:
        raise BadInput(
            f"A hypothesis of {size:,} bytes was given.",
            f"One may have {LONGEST:,}.",
            "Leave out what is no part of it.",
        )
    raw = _json(text) if text.lstrip().startswith("{") else _yaml(text)
    if not isinstance(raw, dict) or "graph" not in raw:
        found = "It has no graph." if isinstance(raw, dict) else "It has no keys."
        raise BadInput(
            "The text was to be read as a hypothesis.",
            found,
            f"Begin with graph: and below it site: {ROOT}.",
        )
    return raw


def _json(text: str) -> Any:
    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in given]
        for name in names:
            if names.count(name) > 1:
                raise _twice(name, "")
        return dict(given)

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except ValueError:
        # A YAML mapping in braces begins likewise.
        return _yaml(text)


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise BadInput(
            "The text was to be read as YAML.",
            f"It is none{where}: {problem}.",
            "Write key: value, with two spaces more for what belongs to a key.",
        ) from None


def _twice(name: str, where: str) -> BadInput:
    return BadInput(
        f"The key {name!r} stands twice{where}.", "Only one of them can hold.", "Keep one."
    )


def _valid(kind: type[_Record], given: dict[str, Any]) -> _Record:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise blocks.refusal(error, given) from None


def _check_ids(raw: dict[str, Any], hypothesis: Hypothesis) -> None:
    """Refuse an id that another node has: it would be changed, and ``same_as`` miss it."""
    given = [one.get("id", "") for one in _preorder(raw)]
    for name, (node, _) in zip(given, hypothesis.nodes(), strict=True):
        if name and name != node.id:
            raise BadInput(
                f"Two nodes are called {name!r}.",
                "A node that has no id is called by its site, and by those above it.",
                "Give one of them another id.",
            )


def _preorder(raw: dict[str, Any]) -> list[dict[str, Any]]:
    found, waiting = list[dict[str, Any]](), [raw]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(node.get("children", ()))
    return found


# --- writing --------------------------------------------------------------------------------------


class _Line(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Blocks indented below their key; lists of numbers and names on one line; no aliases."""

    def increase_indent(self, flow: Any = False, indentless: Any = False) -> Any:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: Any, data: list[Any]) -> Any:
    plain = not any(isinstance(one, dict) for one in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


def _represent_line(dumper: Any, data: _Line) -> Any:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(_Line, _represent_line)


def _feature(feature: Feature) -> str | _Line:
    told = feature.model_dump(mode="json", exclude_defaults=True)
    return told["expr"] if len(told) == 1 else _Line(told)


def _node(node: Node, above: str, taken: set[str]) -> dict[str, Any]:
    """Return what is written of a node.

    Args:
        node: The node.
        above: Id of the node above, empty for the root and below it.
        taken: Ids of the nodes before it; its own and those below are added.
    """
    bare = node.model_copy(update={"id": "", "children": ()})
    told = node.model_dump(mode="json", exclude_defaults=True, exclude={"children"})
    if with_ids(bare, above, set(taken)).id == node.id:
        del told["id"]
    taken.add(node.id)
    inside = "" if node.site == ROOT else node.id
    children = [_node(child, inside, taken) for child in node.children]
    return {**told, "children": children} if children else _Line(told)

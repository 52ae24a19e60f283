"""The kinds of analysis: the modules of this folder, by name, imported only when asked for.

A kind is one module that exports ``ANALYSIS``. Nothing else in the package names a kind.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

from pydantic import ValidationError

from interp.analyses._record import Analysis, Spec
from interp.errors import BadInput, UnknownName


def kinds() -> tuple[str, ...]:
    """List the kinds, without importing them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def get(kind: str) -> Analysis[Any, Any]:
    """Import the kind ``kind``; names that are no kind are refused before any import."""
    if kind not in kinds():
        raise UnknownName.of("kind of analysis", kind, kinds())
    analysis: Analysis[Any, Any] = importlib.import_module(f"{__name__}.{kind}").ANALYSIS
    return analysis


def in_group(group: str) -> list[str]:
    """List the kinds of a group of pages in the order in which people are shown them."""
    found = [kind for kind in kinds() if get(kind).page[0] == group]
    return sorted(found, key=lambda kind: (get(kind).rank, kind))


def parse(spec: str | bytes | dict[str, Any]) -> Spec:
    """Read a spec from JSON or a dict by its ``kind`` field.

    Raises:
        UnknownName: The kind does not exist.
        BadInput: A field is unknown, missing or has a wrong value; the message names it.
    """
    try:
        fields = json.loads(spec) if isinstance(spec, str | bytes) else spec
    except (ValueError, RecursionError) as error:
        raise BadInput("The spec is not JSON.", f"{error}.", "Start from an example.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise BadInput(
            "A spec is a JSON object with a field 'kind'.", "", f"Kinds: {', '.join(kinds())}."
        )
    analysis = get(fields["kind"])
    try:
        return analysis.spec.model_validate(fields)
    except ValidationError as error:
        raise _said(analysis, error) from error


def _said(analysis: Analysis[Any, Any], error: ValidationError) -> BadInput:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "spec"
    if first["type"] == "extra_forbidden":
        return UnknownName.of(f"field of {analysis.kind}", where, analysis.spec.model_fields)
    given = str(first.get("input"))
    shown = given if len(given) <= 80 else given[:79] + "…"
    field = analysis.spec.model_fields.get(where)
    called = f" ({field.title})" if field is not None and field.title else ""
    return BadInput(
        f"The field {where!r} of {analysis.kind}{called} was {shown!r}.",
        f"{first['msg']}.",
        _range(analysis, where),
    )


def _range(analysis: Analysis[Any, Any], field: str) -> str:
    """Say which numbers a field takes, if it takes numbers between two."""
    known = analysis.spec.model_json_schema()["properties"].get(field, {})
    low, high = known.get("minimum"), known.get("maximum")
    return "" if low is None or high is None else f"Choose {low:,} to {high:,}."

"""What the contract demands of results, figures and pages, as assertions to be reused."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.figures.named import NamedFigure
from interp.models.load import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
# Names that claim explanatory success: they need a scale, so a bare number may not carry them.
CLAIMS = ("recovered", "faithfulness", "auroc")


# --- results -------------------------------------------------------------------------------------


def assert_result_is_plain(value: Any, where: str = "result") -> None:
    """Frozen dataclasses of numpy arrays, text, numbers, tuples and None; no tensor, no dict."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        assert type(value).__dataclass_params__.frozen, f"{where} is not frozen"  # type: ignore[attr-defined]
        for field in dataclasses.fields(value):
            assert_result_is_plain(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            assert_result_is_plain(part, f"{where}[{i}]")
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "fiub", f"{where} holds {value.dtype}"
    else:
        plain = value is None or type(value) in (str, int, float, bool)
        assert plain, f"{where} is a {type(value).__name__}"


def assert_no_bare_claim(result: type) -> None:
    """No field of a result, or of what it holds, is a number under a name that claims success."""
    for name, hint in typing.get_type_hints(result).items():
        claims = any(claim in name.lower() for claim in CLAIMS)
        parts = _parts(hint)
        assert not (claims and any(p in (float, int) for p in parts)), f"{result.__name__}.{name}"
        for part in parts:
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                assert_no_bare_claim(part)


def _parts(hint: Any) -> list[Any]:
    """Every type that a hint mentions, unions and tuples opened."""
    inner = typing.get_args(hint)
    return [hint] if not inner else [part for arg in inner for part in _parts(arg)]


def assert_same_tree(a: Any, b: Any, where: str = "result") -> None:
    """Equal in type, dtype, shape and every bit."""
    assert type(a) is type(b), f"{where}: {type(a).__name__} and {type(b).__name__}"
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            at = f"{where}.{field.name}"
            assert_same_tree(getattr(a, field.name), getattr(b, field.name), at)
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_tree(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert a.tobytes() == b.tobytes(), where
    else:
        assert a == b, where


def assert_close_tree(a: Any, b: Any, tolerance: float, where: str = "result") -> float:
    """Equal but for rounding: numbers within ``tolerance`` of the array's root mean square.

    Returns:
        The largest deviation, in that unit (a lone number counts as its own, at least 1).
    """
    assert type(a) is type(b), f"{where}: {type(a).__name__} and {type(b).__name__}"
    if dataclasses.is_dataclass(a):
        fields = [field.name for field in dataclasses.fields(a)]
        pairs = [(getattr(a, n), getattr(b, n), f"{where}.{n}") for n in fields]
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        pairs = [(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, np.ndarray) and a.dtype.kind == "f":
        assert a.shape == b.shape, where
        assert (np.isnan(a) == np.isnan(b)).all(), where
        # Not the standard deviation: numbers that are nearly alike are rounded by their size.
        spread = float(np.sqrt(np.nanmean(a**2))) if np.isfinite(a).any() else 0.0
        return _near(a[~np.isnan(a)], b[~np.isnan(b)], spread or 1.0, tolerance, where)
    elif isinstance(a, float):
        return _near(np.array(a), np.array(b), max(1.0, abs(a)), tolerance, where)
    else:
        assert_same_tree(a, b, where)
        return 0.0
    return max([assert_close_tree(x, y, tolerance, at) for x, y, at in pairs], default=0.0)


def _near(a: np.ndarray, b: np.ndarray, scale: float, tolerance: float, where: str) -> float:
    off = float(np.abs(a - b).max(initial=0.0)) / scale
    assert off <= tolerance, f"{where} is off by {off:.2g} of its size"
    return off


def assert_paragraph(text: str) -> None:
    """One paragraph: not empty, no line break, no space at its ends."""
    assert text
    assert text == text.strip()
    assert "\n" not in text


# --- figures -------------------------------------------------------------------------------------


def assert_draws(figures: Sequence[NamedFigure]) -> tuple[str, ...]:
    """At least one figure; names unique; every axis and colour bar titled. Return the names."""
    names = tuple(named.name for named in figures)
    assert names
    assert len(set(names)) == len(names), names
    for named in figures:
        assert named.title, named.name
        layout = named.figure.to_plotly_json()["layout"]
        axes = {key: axis for key, axis in layout.items() if key[:5] in ("xaxis", "yaxis")}
        assert {"xaxis", "yaxis"} <= set(axes), named.name
        for key, axis in axes.items():
            titled = axis.get("title", {}).get("text") or axis.get("visible") is False
            assert titled, f"{named.name}: {key} has no title"
        for trace in named.figure.data:
            if trace.type == "heatmap":
                assert trace.colorbar.title.text, f"{named.name}: the colour bar has no title"
        assert named.figure.to_json()
    return names


# --- hooks ---------------------------------------------------------------------------------------


def assert_no_hooks(model: LoadedModel, where: str) -> None:
    """None of the model library's hooks, and none of torch's under it."""
    from interp.engine import hook_count

    assert hook_count(model) == 0, where
    for module in model.hooked.modules():
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            assert not getattr(module, kind), f"{where}: {kind} of {type(module).__name__}"


# --- sources -------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert node.level == 0, f"{path.name}: a relative import"
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def python(code: str, *args: str, cwd: Path = ROOT) -> str:
    """Run code in a fresh interpreter in ``cwd``; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

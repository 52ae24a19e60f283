"""Print the distribution of file and function sizes; fail above the ceilings.

    python -m tests.sizes

Ceilings: in ``interp/`` the median file at most 150 lines, the 90th percentile 400, the largest
500; functions at most 60 lines, at most 5 positional parameters and one boolean.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def faults() -> list[str]:
    """List what is above a ceiling."""
    found: list[str] = []
    sizes: list[int] = []
    for path in sorted([*(ROOT / "interp").rglob("*.py"), *(ROOT / "ui").rglob("*.py")]):
        text = path.read_text()
        name = path.relative_to(ROOT)
        if "interp" in name.parts and path.name != "__init__.py":
            sizes.append(text.count("\n"))
        if text.count("\n") > 500:
            found.append(f"{name}: {text.count(chr(10))} lines, ceiling 500")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found += _of_function(f"{name}:{node.lineno} {node.name}", node)
    sizes.sort()
    p90 = sizes[int(0.9 * len(sizes))]
    median = statistics.median(sizes)
    print(f"interp: {len(sizes)} files, median {median:.0f}, p90 {p90}, largest {sizes[-1]} lines")
    if median > 150:
        found.append(f"median file {median} lines, ceiling 150")
    if p90 > 400:
        found.append(f"90th percentile {p90} lines, ceiling 400")
    return found


def _of_function(where: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found: list[str] = []
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > 60:
        found.append(f"{where}: {length} lines, ceiling 60")
    positional = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg != "self"]
    if len(positional) > 5:
        found.append(f"{where}: {len(positional)} positional parameters, ceiling 5")
    every = node.args.args + node.args.kwonlyargs
    flags = [
        a.arg for a in every if isinstance(a.annotation, ast.Name) and a.annotation.id == "bool"
    ]
    if len(flags) > 1:
        found.append(f"{where}: booleans {flags}, ceiling one")
    return found


if __name__ == "__main__":
    listed = faults()
    print("\n".join(listed))
    sys.exit(1 if listed else 0)

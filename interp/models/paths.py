"""Which folders of this machine a model may be read from (torch-free).

A name that a person types may be a path. Only folders under the allowed roots are read, and a
link that leads out of them is refused: a server that is open to others would otherwise tell them
what lies on its disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from interp.config import settings
from interp.errors import CannotLoad


def looks_like_path(name: str) -> bool:
    """Whether ``name`` is meant as a folder of this machine rather than as a model's name."""
    return name.startswith(("/", "./", "../", "~", ".\\", "..\\")) or name in (".", "..")


def shown(folder: Path) -> str:
    """Name a folder for people: a snapshot in the hub's cache by its repository."""
    if folder.parent.name != "snapshots":
        return folder.name
    return folder.parents[1].name.removeprefix("models--").replace("--", "/")


def allowed(path: str | Path, roots: tuple[Path, ...] | None = None) -> Path:
    """Return ``path`` with all links followed, if it lies under an allowed root.

    Args:
        path: What was typed, or a file that a folder links to.
        roots: The allowed roots (default: the settings').

    Raises:
        CannotLoad: It does not, or is no path at all.
    """
    roots = roots or settings().model_roots
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise CannotLoad(
            f"The path {str(path)[:200]!r} was given.",
            f"It cannot be followed: {str(error)[:200].rstrip('.')}.",
            "Type the path of a folder.",
        ) from error
    if not any(real.is_relative_to(root) for root in roots):
        # Where a link leads to is not told: it may be what nobody here should know.
        typed = Path(os.path.abspath(Path(path).expanduser()))
        inside = any(typed.is_relative_to(root) for root in roots)
        raise CannotLoad(
            f"The path {str(path)[:200]!r} was given.",
            ("A link in it leads out of the folders" if inside else "It is not under a folder")
            + f" that models may be read from: {', '.join(str(root) for root in roots)}.",
            "Move the model there, or start the app with BECAUSE_MODEL_ROOTS naming its folder.",
        )
    return real

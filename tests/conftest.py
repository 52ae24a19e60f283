"""Shared by all tests: one torch thread, a data folder of their own, the oracle ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_LEDGER: list[dict[str, object]] = []


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, set in the environment."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BECAUSE_HOME", str(folder))
    monkeypatch.delenv("BECAUSE_STORE_URL", raising=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for all tests of a module."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def shared_home(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the module's data folder in the environment instead of one for each test."""
    monkeypatch.setenv("BECAUSE_HOME", str(folder))
    return folder


@pytest.fixture
def ledger() -> Callable[..., None]:
    """Note an oracle: ``ledger(kind=, oracle=, control=, deviation=, tolerance=, unit=)``."""

    def note(**row: object) -> None:
        _LEDGER.append(row)

    return note


@pytest.fixture(autouse=True, scope="session")
def _write_ledger() -> Iterator[None]:
    yield
    target = os.environ.get("BECAUSE_LEDGER")
    if target and _LEDGER:
        rows = sorted(_LEDGER, key=lambda row: (str(row["kind"]), str(row["oracle"])))
        Path(target).write_text(json.dumps(rows, indent=2) + "\n")

"""The fault tests run on the processor, where equal questions give equal bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interp.jobs.inline import run
from interp.store import Store
from tests.faults._help import end_all, open_at, sweep

MEDIUM = sweep(1000)
"""Some seconds and 25 steps: long enough to be killed at."""


@pytest.fixture(scope="session", autouse=True)
def _on_the_processor() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BECAUSE_DEVICE", "cpu")
        yield


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """A store of the test's own; processes that the test started on it end with the test."""
    opened = open_at(home)
    yield opened
    opened.close()
    end_all(home)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the result of ``MEDIUM``, computed here in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BECAUSE_DEVICE", "cpu")
        opened = open_at(tmp_path_factory.mktemp("unbroken"))
        try:
            record = run(opened, MEDIUM)
        finally:
            opened.close()
    assert record.result is not None, record.error
    return record.result

"""AppTest that runs ``app.py``, as the server does."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.runtime.pages_manager import PagesManager


@pytest.fixture(autouse=True)
def _through_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep AppTest from running files of ``pages/`` bare: the server does not either."""
    original = PagesManager.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        PagesManager.uses_pages_directory = False
        original(self, *args, **kwargs)

    monkeypatch.setattr(PagesManager, "__init__", made)

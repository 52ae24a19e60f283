"""A person's own model, from a folder to a link, with nothing but the browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser import _checkpoint
from tests.browser.conftest import Server
from tests.browser.test_app import (
    choose,
    copied_link,
    effects,
    healthz,
    open_page,
    run_and_wait,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in a folder whose name is that of another family."""
    made = tmp_path_factory.mktemp("runs") / "gemma-2-tuned"
    _checkpoint.write(made)
    return made


def loaded(page: Any, server: Server, folder: Path) -> None:
    """Type the folder, read the fit, load it."""
    page.goto(f"{server.url}/models")
    place = page.get_by_label("Folder or name")
    place.wait_for(timeout=30_000)
    place.fill(str(folder))
    place.press("Enter")
    page.get_by_text("Fits on cpu").wait_for(timeout=60_000)
    page.get_by_role("button", name=re.compile("^Load( again)?$")).last.click()
    page.get_by_text("Loaded: local/gemma-2-tuned").wait_for(timeout=60_000)


def test_from_a_folder_to_a_link(server: Server, browser: Any, folder: Path) -> None:
    page = open_page(browser, f"{server.url}/models")
    loaded(page, server, folder)
    assert any("local/gemma-2-tuned" in w["models"] for w in healthz(server)["workers"])

    page.get_by_role("button", name="After which layer does it know who gets the drink?").click()
    page.wait_for_url("**/logit_lens**")
    run_and_wait(page)
    for title in ("Attention", "Why A, not B"):
        page.get_by_role("button", name=title, exact=True).click()
        page.get_by_role("heading", name=title).wait_for(timeout=20_000)
        page.get_by_text("This question has not been asked yet").wait_for(timeout=20_000)
        run_and_wait(page)

    page.get_by_role("link", name="Patching", exact=True).click()
    page.get_by_role("heading", name="Patching").wait_for(timeout=20_000)
    choose(page, "Model", "local/gemma-2-tuned")
    choose(page, "Inputs", "ioi")
    choose(page, "What is patched", "resid_pre")
    pairs = page.get_by_label("Pairs", exact=True)
    pairs.fill("10")
    pairs.press("Enter")
    page.get_by_text("on 10 pairs of ioi").wait_for(timeout=20_000)
    run_and_wait(page)
    first = effects(page)
    assert len(first) == 3
    link = copied_link(page)
    other = open_page(browser, link)
    assert effects(other) == first
    assert other.get_by_text("Asked on").count() == 1


def test_a_table_of_pairs_is_asked(server: Server, browser: Any, folder: Path) -> None:
    page = open_page(browser, f"{server.url}/models")
    loaded(page, server, folder)
    page.goto(f"{server.url}/activation_patching?model=local/gemma-2-tuned")
    page.get_by_text("Many pairs").click()
    pasted = page.get_by_label("Or paste a table")
    pasted.fill(
        "clean,corrupted,answer,foil\n"
        "Then Mary went to the store,Then Simon went to the store, Mary, Simon\n"
        "Then Maria went to the park,Then David went to the park, Maria, David\n"
    )
    pasted.press("Control+Enter")
    page.get_by_role("button", name="Use these 2 pairs").click()
    page.get_by_text("on 2 pairs of").wait_for(timeout=20_000)
    assert "behavior=pairs-" in page.url


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/etc", "is not under a folder that models may be read from"),
        ("no/such-model-anywhere", "The hub (could not be reached|has no such model)"),
        ("a b c", "There is no model called"),
    ],
)
def test_what_cannot_be_loaded_is_said(typed: str, said: str, server: Server, browser: Any) -> None:
    page = open_page(browser, f"{server.url}/models")
    place = page.get_by_label("Folder or name")
    place.fill(typed)
    place.press("Enter")
    page.get_by_text(re.compile(said)).wait_for(timeout=40_000)
    assert page.get_by_text("broke on our side").count() == 0

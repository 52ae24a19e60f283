"""A walk from the logits down, by clicks, in a real browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser.conftest import Server


def click_sender(page: Any, row: int, col: int) -> None:
    """Click a cell of the map of the bundled model: 2 rows from below, 3 columns."""
    page.wait_for_selector(".js-plotly-plot .heatmaplayer", timeout=30_000)
    page.wait_for_timeout(1500)
    box = page.locator(".js-plotly-plot .heatmaplayer").first.bounding_box()
    page.mouse.click(
        box["x"] + box["width"] * (col + 0.5) / 3, box["y"] + box["height"] * (1.5 - row) / 2
    )


def go_on(page: Any, label: str, reads: str) -> None:
    """Press a question of the clicked sender, run it, and wait for its answer."""
    page.get_by_role("button", name=label).first.click()
    page.get_by_text(f"into {reads} alone").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text(f"What each sender writes into {reads}").wait_for(timeout=60_000)
    page.get_by_text("What to ask next").wait_for(timeout=30_000)


def test_a_walk_by_clicks_ends_at_the_embeddings(server: Server, browser: Any) -> None:
    page = browser.new_context(viewport={"width": 1024, "height": 1200}).new_page()
    page.goto(f"{server.url}/path_patching")
    page.wait_for_selector("h1", timeout=30_000)
    assert not page.get_by_text("The chain so far").count()
    click_sender(page, 1, 0)
    go_on(page, "Who writes into L1H0's keys?", "the keys of L1H0")
    page.get_by_text("The chain so far").wait_for(timeout=30_000)
    click_sender(page, 0, 0)
    go_on(page, "Who writes into L0H0's values?", "the values of L0H0")
    page.get_by_text("the walk ends here").wait_for(timeout=30_000)
    for name in ("logits", "L1H0", "L0H0", "embeddings"):
        assert page.locator(".js-plotly-plot .textpoint", has_text=name).count(), name
    walked = parse_qs(urlsplit(page.url).query)["from"][0].split(",")
    assert len(walked) == 2, "the address holds the walk"
    page.get_by_role("button", name="Back to the step before").click()
    page.get_by_text("What each sender writes into the keys of L1H0").wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    assert parse_qs(urlsplit(page.url).query)["from"] == walked[:1]
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0

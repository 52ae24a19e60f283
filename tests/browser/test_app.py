"""What a person does, in a real browser against the app as a user starts it."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Server

PAGES = (
    "/",
    "/models",
    "/logit_lens",
    "/attention",
    "/direct_logit_attribution",
    "/generate",
    "/activation_patching",
    "/attribution_patching",
    "/path_patching",
    "/ablation",
    "/component_roles",
    "/causal_scrubbing",
    "/adversarial_inputs",
    "/mechanism_distinction",
    "/does_the_number_matter",
    "/hypothesis_search",
    "/analyses",
    "/about",
)


def healthz(server: Server) -> dict[str, Any]:
    """The server's own word on itself."""
    with urllib.request.urlopen(f"{server.url}/healthz", timeout=10) as reply:
        return json.load(reply)


def open_page(browser: Any, url: str) -> Any:
    """A page in a profile of its own."""
    context = browser.new_context(viewport={"width": 1440, "height": 1200})
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("h1", timeout=30_000)
    return page


def choose(page: Any, label: str, option: str) -> None:
    """Pick an option of a select box."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.wait_for_timeout(700)


def effects(page: Any) -> list[list[float]]:
    """The numbers of the heatmap that is on the page."""
    page.wait_for_selector(".js-plotly-plot .heatmaplayer", timeout=30_000)
    return page.evaluate(
        """() => {
            const plots = [...document.querySelectorAll('.js-plotly-plot')];
            const plot = plots.find(p => p.data && p.data[0].type === 'heatmap');
            const z = plot._fullData[0].z;
            return [...z].map(row => [...row].map(v => v === undefined || isNaN(v) ? null : v));
        }"""
    )


def run_and_wait(page: Any) -> None:
    """Press Run and wait for the answer."""
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("What to ask next").wait_for(timeout=60_000)


def copied_link(page: Any) -> str:
    """The permalink that the share row shows."""
    page.get_by_role("button", name="Copy link").click()
    code = page.locator('[data-testid="stCode"]').filter(has_text="/a/").first
    code.wait_for(timeout=10_000)
    return code.inner_text().strip()


def maps(pid: int) -> str:
    """The libraries that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("model", ["paren-balancer", "induction-handmade"])
def test_live_heatmap_link_and_second_profile(model: str, browser: Any, tmp_path: Path) -> None:
    """From the address to a live heatmap within 60 s; its link opens elsewhere, no model loaded."""
    server = Server(tmp_path / "home")
    server.start()
    started = time.monotonic()
    try:
        page = open_page(browser, f"{server.url}/activation_patching")
        choose(page, "Model", model)
        choose(page, "What is patched", "resid_pre")
        run_and_wait(page)
        first = effects(page)
        assert time.monotonic() - started < 60, "the issue's own limit"
        link = copied_link(page)
    finally:
        server.stop()
    server.start()
    try:
        other = open_page(browser, link.replace(link.split("/a/")[0], server.url))
        assert effects(other) == first
        assert other.get_by_text("Asked on").count() == 1
        assert all(not worker["models"] for worker in healthz(server)["workers"])
    finally:
        server.stop()


def test_a_link_is_the_first_thing_that_a_new_server_is_asked(browser: Any, tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    server.start()
    try:
        page = open_page(browser, f"{server.url}/activation_patching")
        page.get_by_text("Look", exact=True).wait_for(timeout=20_000)
        assert page.get_by_role("link", name="Patching", exact=True).count() == 1
    finally:
        server.stop()


def test_every_page_is_calm_and_the_server_has_no_torch(server: Server, browser: Any) -> None:
    page = open_page(browser, server.url)
    for path in PAGES:
        page.goto(server.url + path)
        page.wait_for_selector("h1", timeout=30_000)
        page.wait_for_selector('[data-testid="stStatusWidget"]', state="detached")
        page.wait_for_timeout(500)
        for width in (1440, 1024):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(300)
            text = page.inner_text("body")
            assert "broke on our side" not in text
            assert "Traceback" not in text
            overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert overflow <= 0, f"{path} is wider than {width}"
    page.context.close()
    assert server.process is not None
    assert "libtorch" not in maps(server.process.pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_the_torch_check_can_fail(server: Server) -> None:
    """Negative control: a worker does have torch mapped."""
    for _ in range(300):
        pids = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _is_worker(entry, server.home)
        ]
        if pids and "libtorch" in maps(pids[0]):
            return
        time.sleep(0.1)
    raise AssertionError("no worker with torch was found")


def _is_worker(process: Path, home: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
        environment = (process / "environ").read_bytes()
    except OSError:
        return False
    return b"interp.jobs.worker" in command and str(home).encode() in environment


def test_double_click_reload_and_second_tab_are_one_job(server: Server, browser: Any) -> None:
    page = open_page(browser, f"{server.url}/logit_lens?prompt=qwertyq")
    button = page.get_by_role("button", name="Run", exact=True)
    button.wait_for()
    second = open_page(browser, f"{server.url}/logit_lens?prompt=qwertyq")
    button.dblclick()
    other = second.get_by_role("button", name="Run", exact=True)
    if other.is_enabled():
        other.click()
    page.get_by_text("What to ask next").wait_for(timeout=60_000)
    link = copied_link(page)
    for _ in range(10):
        page.reload()
        page.get_by_text("What to ask next").wait_for(timeout=30_000)
    assert copied_link(page) == link
    second.reload()
    second.get_by_text("What to ask next").wait_for(timeout=30_000)
    assert copied_link(second) == link


def test_cancel_keeps_what_was_computed(server: Server, browser: Any) -> None:
    url = (
        f"{server.url}/activation_patching?model=stdlib-lm"
        "&behavior=code-closing-bracket&n_pairs=1000&site=z"
    )
    page = open_page(browser, url)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("% computed").first.wait_for(timeout=60_000)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("Stopped by a person").wait_for(timeout=30_000)
    assert page.get_by_role("button", name="Retry", exact=True).is_enabled()


def test_a_clicked_cell_says_its_number(server: Server, browser: Any) -> None:
    page = open_page(browser, f"{server.url}/activation_patching")
    effects(page)
    page.wait_for_timeout(1500)
    box = page.locator(".js-plotly-plot .heatmaplayer").first.bounding_box()
    # L1H0 at the last position: third of four rows from below, last of eight columns.
    page.mouse.click(box["x"] + box["width"] * 15 / 16, box["y"] + box["height"] * 3 / 8)
    page.get_by_text("L1H0.z@7: effect 1.000").wait_for(timeout=20_000)


def test_tokens_that_look_like_html_stay_text(server: Server, browser: Any) -> None:
    page = browser.new_context().new_page()
    alerts: list[Any] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page.goto(f"{server.url}/logit_lens?prompt=%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    page.get_by_text("has no token for it").first.wait_for(timeout=30_000)
    assert alerts == []
    assert page.evaluate("[...document.scripts].some(s => s.text.includes('alert(1)'))") is False

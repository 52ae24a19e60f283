"""Make what the documentation shows: the oracle ledger and the screenshots.

    python -m docs.build

The ledger comes from running the oracle tests; the screenshots from the app in a Chromium, with
a data folder of its own. Needs a Chromium on the path.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.browser import _checkpoint
from tests.browser.conftest import CHROMIUM, Server

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "img"
WIDTHS = (1440, 1024)
_PATCHING = "/activation_patching"
_NO_GAP = f"{_PATCHING}?clean=kmabcda&corrupted=kmabcea&answer=b&foil=m"
_LONG = (
    f"{_PATCHING}?model=paren-balancer&behavior=paren-near-misses&n_pairs=1000&site=z_pos"
    "&precision=screened"
)
_SCRUBBED = "/causal_scrubbing?n_inputs=5000&draws=40&nulls=100"
_PAGES = {
    "home": "/",
    "models": "/models",
    "models-card": "/models?card=induction-2l",
    "models-map": "/models?card=superposition",
    "explore": "/logit_lens",
    "explore-checkpoint": "/logit_lens?model=induction-2l@300&prompt=qtnwzeuxkmqtn&answer=w",
    "attention": "/attention",
    "attribution": "/direct_logit_attribution",
    "generate": "/generate",
    "patching": _PATCHING,
    "attribution-patching": "/attribution_patching",
    "path-patching": "/path_patching",
    "ablation": "/ablation",
    "component-roles": "/component_roles",
    "causal-scrubbing": "/causal_scrubbing",
    "adversarial-inputs": "/adversarial_inputs",
    "mechanisms": "/mechanism_distinction",
    "number-matter": "/does_the_number_matter",
    "hypotheses": "/hypothesis_search",
    "analyses": "/analyses",
    "about": "/about",
    "patching-empty": f"{_PATCHING}?clean=kmabcda&corrupted=kmxbcda&answer=b&foil=c",
    "explore-advice": "/logit_lens?prompt=%3Cb%3E%F0%9F%99%82",
    "patching-many": f"{_PATCHING}?model=paren-balancer&behavior=paren-near-misses&n_pairs=40"
    "&site=resid_pre",
}


def main() -> None:
    """Write the ledger, then every picture at both widths."""
    if CHROMIUM is None:
        sys.exit("No Chromium on the path: the screenshots cannot be made.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    ledger()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        # A person's home, so that the pictures show no path of this machine.
        os.environ["HOME"] = folder
        _checkpoint.write(Path(folder) / "checkpoints" / "my-fine-tune")
        server = Server(Path(folder) / "home")
        server.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            for width in WIDTHS:
                _states(browser, server.url, width)
                _own_model(browser, server.url, width)
                for name, path in _PAGES.items():
                    _shoot(_open(browser, server.url + path, width), f"{name}-{width}")
        finally:
            browser.close()
            server.stop()


def ledger() -> None:
    """Run the oracle tests and keep what they measured."""
    target = ROOT / "docs" / "oracles.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/oracles"],
        cwd=ROOT,
        env={**os.environ, "BECAUSE_LEDGER": str(target)},
        check=True,
    )
    print(f"wrote {target.relative_to(ROOT)}")


def _states(browser: Any, url: str, width: int) -> None:
    """Take two questions through running and cancelled, and one to failed."""
    for name, path in {"patching": _LONG, "causal-scrubbing": _SCRUBBED}.items():
        page = _open(browser, f"{url}{path}&seed={width}", width)
        page.get_by_role("button", name="Run", exact=True).or_(
            page.get_by_role("button", name="Retry", exact=True)
        ).click()
        page.get_by_text(re.compile(r"^[1-6]\d% computed")).first.wait_for(timeout=90_000)
        _shoot(page, f"{name}-running-{width}", close=False)
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_text("Stopped by a person").wait_for(timeout=30_000)
        _shoot(page, f"{name}-cancelled-{width}")
    page = _open(browser, url + _NO_GAP, width)
    page.get_by_role("button", name="Run", exact=True).or_(
        page.get_by_role("button", name="Retry", exact=True)
    ).click()
    page.get_by_text("in both").wait_for(timeout=60_000)
    _shoot(page, f"patching-failed-{width}")
    page = _open(browser, url + "/analyses", width)
    link = page.get_by_role("link", name="Open").last.get_attribute("href")
    page.context.close()
    _shoot(_open(browser, url + link, width), f"record-{width}")


def _own_model(browser: Any, url: str, width: int) -> None:
    """Take a checkpoint from its folder to each way of looking at it."""
    page = _open(browser, f"{url}/models", width)
    place = page.get_by_label("Folder or name")
    place.fill("~/checkpoints/my-fine-tune")
    place.press("Enter")
    page.get_by_text("Fits on").wait_for(timeout=60_000)
    page.get_by_role("button", name=re.compile("^Load( again)?$")).last.click()
    page.get_by_text("Loaded: local/my-fine-tune").wait_for(timeout=60_000)
    _shoot(page, f"models-own-{width}")
    prompt = "When+Mary+and+Simon+went+to+the+store,+Simon+gave+a+drink+to"
    two = "prompt=kmabcda&beside_prompt=kmabcdk"
    for name, path in {
        "explore-own": f"/logit_lens?model=local/my-fine-tune&prompt={prompt}",
        "attention-own": f"/attention?model=local/my-fine-tune&layer=1&prompt={prompt}",
        "attribution-own": "/direct_logit_attribution?model=local/my-fine-tune"
        f"&prompt={prompt}&answer=+Mary&foil=+Simon",
        "generate-own": f"/generate?model=local/my-fine-tune&prompt={prompt}",
        "patching-own": "/activation_patching?model=local/my-fine-tune&behavior=ioi&n_pairs=10"
        "&site=resid_pre",
        "patching-together": "/activation_patching?behavior=induction-first-cue&n_pairs=20&site=z"
        "&together=L0H0.z,+L1H0.z",
        "patching-screened": "/activation_patching?model=paren-balancer&behavior=paren-near-misses"
        "&n_pairs=20&site=z&position=0&precision=screened",
        "explore-two": f"/logit_lens?{two}",
        "attribution-two": f"/direct_logit_attribution?{two}",
    }.items():
        page = _open(browser, url + path, width)
        run = page.get_by_role("button", name="Run", exact=True)
        run.wait_for(timeout=30_000)
        if run.is_enabled():
            run.click()
        page.get_by_text("What to ask next").last.wait_for(timeout=90_000)
        page.wait_for_timeout(2500)
        _shoot(page, f"{name}-{width}")


def _open(browser: Any, url: str, width: int) -> Any:
    page = browser.new_context(viewport={"width": width, "height": 1000}).new_page()
    page.goto(url)
    page.wait_for_selector("h1", timeout=30_000)
    page.wait_for_timeout(2500)
    return page


def _shoot(page: Any, name: str, *, close: bool = True) -> None:
    """Save the whole page, not only what fits the window."""
    height = page.evaluate(
        "() => { const m = document.querySelector('[data-testid=\"stMain\"]');"
        " return m ? m.scrollHeight : document.body.scrollHeight; }"
    )
    width = page.viewport_size["width"]
    page.set_viewport_size({"width": width, "height": min(max(1000, height + 20), 2600)})
    page.wait_for_timeout(1200)
    page.screenshot(path=str(IMAGES / f"{name}.png"))
    print(f"docs/img/{name}.png")
    if close:
        page.context.close()
    else:
        page.set_viewport_size({"width": width, "height": 1000})


if __name__ == "__main__":
    main()

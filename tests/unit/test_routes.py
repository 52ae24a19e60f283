"""The routes beside the pages: health, permalinks, their twins; what is gone and what never was."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from interp.config import APP_VERSION
from interp.jobs.inline import run
from interp.jobs.submit import prepare, submit
from interp.store import Store
from interp.store.records import New
from ui.resources import store as opened
from ui.routes import ROUTES

LENS = {"kind": "logit_lens", "model": "induction-handmade", "prompt": "kmabcda"}
EVIL = """<script>alert(1)</script>" onload="x' & <img src=x>"""


@pytest.fixture
def store(home: object) -> Iterator[Store]:
    """The store as the server opens it, worked records included."""
    kept = opened()
    yield kept
    kept.close()


@pytest.fixture
def client(store: Store) -> TestClient:
    return TestClient(Starlette(routes=ROUTES), follow_redirects=False)


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_health(client: TestClient, store: Store) -> None:
    said = client.get("/healthz")
    assert said.status_code == 200
    assert said.json() == {"status": "ok", "version": APP_VERSION, "workers": [], "queue": {}}
    submit(store, LENS, again=True)
    store.workers.register("owner", "cpu")
    store.workers.beat("owner", device="cpu", models=["m"])
    said = client.get("/healthz").json()
    assert said["queue"] == {"queued": 1}
    assert said["workers"] == [{"slot": "cpu", "device": "cpu", "beat": 1, "models": ["m"]}]


def test_the_twin_is_the_whole_record(client: TestClient, store: Store) -> None:
    record = run(store, LENS, again=True)
    said = client.get(f"/a/{record.id}.json")
    assert said.status_code == 200
    assert said.headers["content-type"].startswith("application/json")
    # Strict JSON: no NaN, which other languages do not read.
    whole = json.loads(said.text, parse_constant=lambda name: pytest.fail(name))
    ready = prepare(LENS)
    assert whole["id"] == record.id
    assert whole["key"] == ready.key == record.key
    assert whole["state"] == "done"
    assert whole["spec"] == json.loads(ready.spec.canonical)
    assert whole["inputs"] == json.loads(ready.inputs.canonical)
    assert whole["provenance"]["weights_sha256"]
    assert whole["result_sha256"] == record.result
    assert whole["result"]["tokens"][-1] == "a"
    assert whole["error"] is None
    assert len(whole["result"]["answer_p"]) == len(whole["result"]["depths"])


def test_the_twin_of_an_unfinished_record(client: TestClient, store: Store) -> None:
    record = submit(store, LENS, again=True)
    whole = client.get(f"/a/{record}.json").json()
    assert (whole["state"], whole["result"], whole["result_sha256"]) == ("queued", None, None)
    assert whole["verdict"] == "Waits for a worker."


def test_the_page_of_a_link_leads_on(client: TestClient, store: Store) -> None:
    record = run(store, LENS, again=True)
    said = client.get(f"/a/{record.id}")
    assert said.status_code == 200
    tags = Tags(said.text).tags
    assert ("a", {"href": f"/record?id={record.id}"}) in tags
    assert html.escape(record.title) in said.text
    refresh = [a["content"] for tag, a in tags if a.get("http-equiv") == "refresh"]
    assert refresh == [f"0; url=/record?id={record.id}"]


def _titled(store: Store, title: str) -> str:
    spec = prepare(LENS).spec
    new = New("0" * 64, "logit_lens", 1, title, spec.model, spec.canonical, 0)
    return store.records.submit(new, prepare(LENS).inputs.canonical, again=True)


def test_markup_in_a_title_stays_text(client: TestClient, store: Store) -> None:
    record = _titled(store, EVIL)
    said = client.get(f"/a/{record}")
    assert said.status_code == 200
    tags = Tags(said.text).tags
    assert {tag for tag, _ in tags} == {"html", "head", "meta", "title", "body", "h1", "p", "a"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    titles = [a["content"] for _, a in tags if a.get("property") == "og:title"]
    assert titles == [EVIL]
    assert client.get(f"/a/{record}.json").json()["title"] == EVIL


@pytest.mark.parametrize("twin", ["", ".json"])
@pytest.mark.parametrize("name", ["0" * 32, "x", "%3Cscript%3E", "..%5C..", "%00", "a" * 5000])
def test_what_never_was_is_404(client: TestClient, name: str, twin: str) -> None:
    said = client.get(f"/a/{name}{twin}")
    assert said.status_code == 404
    assert "There is no record" in html.unescape(said.text)
    if not twin:
        assert {tag for tag, _ in Tags(said.text).tags} == {"html", "title", "h1", "p", "a"} - {
            "html"
        }


def test_what_was_deleted_is_410_and_stays_so(client: TestClient, store: Store) -> None:
    record = run(store, LENS, again=True)
    store.records.delete(record.id)
    for twin in ("", ".json"):
        said = client.get(f"/a/{record.id}{twin}")
        assert said.status_code == 410
        assert "was deleted" in said.text
    assert "error" in client.get(f"/a/{record.id}.json").json()


def test_a_failed_record_keeps_its_traceback_to_itself(client: TestClient, store: Store) -> None:
    record = submit(store, LENS, again=True)
    claim = store.queue.claim("owner", record=record)
    assert claim is not None
    error = {"type": "ValueError", "asked": EVIL, "traceback": "secret", "fault": "1234"}
    store.queue.fail(claim, error, {})
    said = client.get(f"/a/{record}.json")
    assert "secret" not in said.text
    assert said.json()["error"]["fault"] == "1234"
    assert client.get(f"/a/{record}").status_code == 200


def test_a_record_of_a_kind_that_is_gone_still_opens(client: TestClient, store: Store) -> None:
    spec: dict[str, Any] = {"kind": "later", "model": "m"}
    new = New("1" * 64, "later", 1, "title", "m", json.dumps(spec), 0)
    record = store.records.submit(new, prepare(LENS).inputs.canonical)
    assert client.get(f"/a/{record}").status_code == 200
    whole = client.get(f"/a/{record}.json").json()
    assert (whole["spec"], whole["result"]) == (spec, None)


def test_the_list_of_analyses_is_a_page(client: TestClient) -> None:
    said = client.get("/a")
    assert said.status_code in (302, 307)
    assert said.headers["location"] == "/analyses"


def test_every_worked_record_is_served(client: TestClient, store: Store) -> None:
    listed = store.records.list()
    assert listed
    for record in listed:
        whole = client.get(f"/a/{record.id}.json").json()
        assert whole["state"] == "done"
        assert whole["result"]

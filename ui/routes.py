"""HTTP beside the pages: health, permalinks and their JSON twins, and the server's life."""

from __future__ import annotations

import gc
import html
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from streamlit.runtime.pages_manager import PagesManager

from interp.answers import as_json, get
from interp.config import APP_VERSION
from interp.errors import Corrupt, Gone, InterpError, NotFound
from interp.jobs.supervisor import Supervisor
from ui.resources import store

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta property="og:title" content="{title}"><meta property="og:description" content="{text}">
<meta name="description" content="{text}"><meta http-equiv="refresh" content="0; url={url}">
</head><body><h1>{title}</h1><p>{text}</p><p><a href="{url}">Open the analysis</a></p></body>
</html>"""


def healthz(request: Request) -> JSONResponse:
    """Say whether the store answers and which workers are alive."""
    kept = store()
    workers = [
        {"slot": row.slot, "device": row.device, "beat": row.beat, "models": row.models}
        for row in kept.workers.alive()
    ]
    return JSONResponse(
        {"status": "ok", "version": APP_VERSION, "workers": workers, "queue": kept.queue.counts()}
    )


def permalink(request: Request) -> Response:
    """Describe a record for link previews and go on to its page; ``.json`` gives it whole."""
    name = request.path_params["name"]
    record, twin = (name[:-5], True) if name.endswith(".json") else (name, False)
    try:
        answer = get(store(), record)
        if twin:
            text = json.dumps(as_json(store(), answer))
            return Response(text, media_type="application/json")
    except Gone as error:
        return _refused(error, 410, twin=twin)
    except NotFound as error:
        return _refused(error, 404, twin=twin)
    except Corrupt as error:
        return _refused(error, 500, twin=twin)
    fields = {
        "title": html.escape(answer.record.title),
        "text": html.escape(answer.verdict),
        "url": html.escape(f"/record?id={record}"),
    }
    return HTMLResponse(_PAGE.format(**fields))


def _refused(error: InterpError, status: int, *, twin: bool) -> Response:
    if twin:
        return JSONResponse({"error": str(error)}, status)
    body = f"<!doctype html><title>Because</title><h1>{html.escape(str(error))}</h1>"
    return HTMLResponse(body + '<p><a href="/">Home</a></p>', status)


def analyses_list(request: Request) -> RedirectResponse:
    """Send ``/a`` to the list of analyses."""
    return RedirectResponse("/analyses")


ROUTES = [
    Route("/healthz", healthz),
    Route("/a", analyses_list),
    Route("/a/{name}", permalink),
]


@asynccontextmanager
async def lifespan(app: object) -> AsyncGenerator[None]:
    """Start the supervisor with the server, and end it with the server."""
    # Until the first run of ``app.py`` Streamlit would serve the files of ``pages/`` bare, without
    # the frame: a link that is the first thing a new server is asked must find the frame too.
    PagesManager.uses_pages_directory = False
    supervisor = Supervisor(store())
    # What is imported by now stays: keep the collector from walking it at every pass.
    gc.collect()
    gc.freeze()
    supervisor.start()
    try:
        yield None
    finally:
        supervisor.stop()

"""A hub of the test's own: a small HTTP server that answers as far as checkpoints need it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Hub:
    """Repositories by name, each a commit's files by revision; and how it misbehaves.

    Attributes:
        files: (repository, commit) -> contents by file name.
        revisions: Repository -> commit by branch or tag.
        moved: Old name -> name.
        answers: Repository -> (status, X-Error-Code) that it is refused with.
        cut: File -> bytes after which the connection breaks; asked again it answers 500.
        log: Every request: method and path.
    """

    endpoint: str = ""
    cache: Path = Path()
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)

    def put(self, repo: str, folder: Path, *revisions: str, **more: bytes) -> str:
        """Publish the files of a folder under these revisions; return the commit."""
        contents = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        contents |= {name.replace("__", "."): data for name, data in more.items()}
        digest = hashlib.sha1(repr(sorted(contents.items())).encode(), usedforsecurity=False)
        commit = digest.hexdigest()
        self.files[repo, commit] = contents
        self.revisions.setdefault(repo, {}).update(
            dict.fromkeys([*(revisions or ("main",)), commit], commit)
        )
        return commit

    def answer(self, repo: str, revision: str) -> tuple[int, str, str]:
        """Status, X-Error-Code and commit for a revision of a repository."""
        if repo in self.answers:
            return (*self.answers[repo], "")
        if repo not in self.revisions:
            return 404, "RepoNotFound", ""
        commit = self.revisions[repo].get(revision or "main", "")
        return (200, "", commit) if commit else (404, "RevisionNotFound", "")

    def downloaded(self) -> set[str]:
        """Names of the files of which the contents were asked."""
        return {path.rsplit("/", 1)[-1] for _, path in self.log if "/resolve/" in path}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append((self.command, path))
        repo, revision, name = _parts(path)
        status, code, commit = self.hub.answer(repo, revision)
        if repo in self.hub.moved:
            target = self.path.replace(repo, self.hub.moved[repo], 1)
            self._send(307, b"", {"Location": target})
        elif status != 200:
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "No."})
        elif name:
            self._file(name, self.hub.files[repo, commit].get(name), commit)
        else:
            files = sorted(self.hub.files[repo, commit].items())
            listed = [{"rfilename": file, "size": len(data)} for file, data in files]
            told = {"id": repo, "sha": commit, "siblings": listed}
            self._send(200, json.dumps(told).encode())

    def _file(self, name: str, data: bytes | None, commit: str) -> None:
        left = self.hub.cut.get(name)
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif self.command == "GET" and left == 0:
            self._send(500, b"")
        else:
            etag = hashlib.sha256(data).hexdigest()
            self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, left)
            if self.command == "GET" and left is not None:
                self.hub.cut[name] = 0
                self.close_connection = True

    def _send(
        self, status: int, data: bytes, more: dict[str, str] | None = None, n: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            with suppress(ConnectionError):
                self.wfile.write(data[:n])


def _parts(path: str) -> tuple[str, str, str]:
    """Repository, revision and file of a path; a revision may have slashes, a file has none."""
    if path.startswith("/api/models/"):
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        return repo, revision, ""
    repo, _, rest = path.removeprefix("/").partition("/resolve/")
    revision, _, name = rest.rpartition("/")
    return repo, revision, name


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a port of this machine."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(endpoint: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub, which reads its settings when it is imported, use these."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    close_session()
    patch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)


CLOSED = "http://127.0.0.1:9"
"""An address at which nobody answers."""

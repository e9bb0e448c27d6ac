"""A stand-in for the Hub on this machine: what `huggingface_hub` needs to create, fill and read a repository.

It keeps files in memory, serves at most `MOST_REQUESTS` requests of at most `MOST_BYTES`, and stops with its context.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


MOST_REQUESTS = 600
MOST_BYTES = 50_000_000
LARGE = (".safetensors", ".png")


class Repository:
    """Files of one repository, the commits that brought them, and who may see it."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.files: dict[str, bytes] = {}
        self.commits: list[list[str]] = []

    @property
    def head(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode(), usedforsecurity=False).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Repositories by name, uploaded large files by their hash, and every request line."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    timeout = 30

    def log_message(self, *args: Any) -> None:
        """Nothing on the screen."""

    def _answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _handle(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        if size > MOST_BYTES or len(self.server.requests) >= MOST_REQUESTS:
            return self._answer({"error": "too much"}, 413)
        body = self.rfile.read(size)
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.command in ("POST", "PUT") and not (path.startswith("/objects/") or self.headers.get("authorization")):
            return self._answer({"error": "log in"}, 401)
        for method, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                return getattr(self, name)(body, *match.groups())
        return self._answer({"error": "no such page"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.server.repositories:
            return self._answer({"error": "exists", "url": f"{self.server.url}/{repo_id}"}, 409)
        self.server.repositories[repo_id] = Repository(private=asked.get("visibility") == "private")
        return self._answer({"url": f"{self.server.url}/{repo_id}", "id": repo_id})

    def _validate(self, body: bytes) -> None:
        self._answer({"errors": [], "warnings": []})

    def _preupload(self, body: bytes, repo_id: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer({"files": files})

    def _batch(self, body: bytes, repo_id: str) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/objects/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer({"error": "other bytes than announced"}, 422)
        self.server.objects[oid] = body
        return self._answer({})

    def _commit(self, body: bytes, repo_id: str) -> None:
        repository = self.server.repositories[repo_id]
        brought = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                brought[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                brought[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.files |= brought
        repository.commits.append(sorted(brought))
        place = f"{self.server.url}/{repo_id}/commit/{repository.head}"
        self._answer({"success": True, "commitUrl": place, "commitOid": repository.head})

    def _info(self, body: bytes, repo_id: str) -> None:
        repository = self.server.repositories.get(repo_id)
        if repository is None:
            return self._answer({"error": "no such repository"}, 404, x_error_code="RepoNotFound")
        siblings = [{"rfilename": name} for name in repository.files]
        about = {"id": repo_id, "private": repository.private, "sha": repository.head, "siblings": siblings}
        return self._answer({**about, "tags": [], "downloads": 0, "likes": 0})

    def _resolve(self, body: bytes, repo_id: str, file: str) -> None:
        repository = self.server.repositories.get(repo_id)
        if repository is None:
            return self._answer({"error": "no such repository"}, 404, x_error_code="RepoNotFound")
        if file not in repository.files:
            return self._answer({}, 404, x_error_code="EntryNotFound", x_repo_commit=repository.head)
        data = repository.files[file]
        etag = f'"{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"'
        return self._answer(data, etag=etag, x_repo_commit=repository.head, accept_ranges="none")


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    ("POST", "/api/repos/create", "_create"),
    ("POST", "/api/validate-yaml", "_validate"),
    ("POST", rf"/api/models/{_REPO}/preupload/main", "_preupload"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "_batch"),
    ("PUT", r"/objects/([0-9a-f]{64})", "_put"),
    ("POST", rf"/api/models/{_REPO}/commit/main", "_commit"),
    ("GET", rf"/api/models/{_REPO}(?:/revision/\w+)?", "_info"),
    ("GET HEAD", rf"/{_REPO}/resolve/\w+/(.+)", "_resolve"),
)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A running server on a free port of this machine."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)

"""A stand-in of the Hugging Face Hub: as much of its HTTP API as pushing and loading a model, and
streaming or downloading a data set take. Data sets are kept under the name ``datasets/user/name``.

It keeps repositories in memory, wants a token for writing, and answers as the Hub does: small
files come inside of commits, revisions are commits or "main".
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_standin"


@dataclass
class Repository:
    """Its commits, the last one last: each a whole tree, path -> content."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        tree = {**(self.tree("main") or {}), **files}
        name = hashlib.sha1(repr(sorted(tree.items())).encode()).hexdigest()
        self.commits.pop(name, None)
        self.commits[name] = tree
        return name

    def head(self) -> str:
        return list(self.commits)[-1]

    def tree(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            revision = self.head() if self.commits else revision
        return self.commits.get(revision)


@dataclass
class Hub:
    """The server's address and what it holds; ``requests`` are "METHOD path"."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A stand-in that listens on this machine while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reads = self.command != "POST" or "/paths-info/" in path
            open_to_all = reads or path == "/api/validate-yaml"
            if not open_to_all and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.say(401, {"error": "Invalid username or password."})
            elif path == "/api/validate-yaml":
                self.say(200, {"errors": [], "warnings": []})
            elif path == "/api/repos/create":
                self.create(json.loads(body))
            elif path.startswith("/api/models/"):
                self.api(path.removeprefix("/api/models/").split("/"), body)
            elif path.startswith("/api/datasets/"):
                parts = path.removeprefix("/api/datasets/").split("/")
                self.api([f"datasets/{parts[0]}", *parts[1:]], body)
            elif "/resolve/" in path:
                self.resolve(*path[1:].split("/resolve/"))
            else:
                self.say(404, {"error": f"no such address: {path}"})

        def create(self, wanted: dict[str, Any]) -> None:
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            known = name in hub.repositories
            private = bool(wanted.get("private") or wanted.get("visibility") == "private")
            hub.repositories.setdefault(name, Repository(private=private)).commit({})
            address = {"url": f"{hub.address}/{name}", "name": name, "id": name}
            self.say(409 if known else 200, address)

        def api(self, parts: list[str], body: bytes) -> None:
            name, (action, revision) = "/".join(parts[:2]), [*parts[2:], "", ""][:2]
            repository = hub.repositories.get(name)
            if repository is None:
                self.say(404, {"error": "Repository not found"}, "RepoNotFound")
                return
            if repository.gated and action in ("tree", "paths-info"):
                self.refuse()
                return
            tree = repository.tree(revision or "main")
            if tree is None:
                self.say(404, {"error": "Revision not found"}, "RevisionNotFound")
            elif action == "preupload":
                wanted = [f["path"] for f in json.loads(body)["files"]]
                modes = [
                    {"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in wanted
                ]
                self.say(200, {"files": modes})
            elif action == "commit":
                commit = self.add(repository, body)
                url = f"{hub.address}/{name}/commit/{commit}"
                self.say(200, {"success": True, "commitOid": commit, "commitUrl": url})
            elif action == "tree":
                self.say(200, _entries(tree, "/".join(parts[4:]), deep="recursive=T" in self.path))
            elif action == "paths-info":
                wanted = parse_qs(body.decode()).get("paths", [])
                known = [e for path in wanted for e in _entries(tree, path.rpartition("/")[0])]
                self.say(200, [entry for entry in known if entry["path"] in wanted])
            else:
                sha = repository.head() if revision in ("", "main") else revision
                siblings = [{"rfilename": p} for p in tree]
                self.say(200, {"_id": "0", "id": name, "sha": sha, "siblings": siblings,
                               "private": repository.private, "tags": []})  # fmt: skip

        def add(self, repository: Repository, body: bytes) -> str:
            files = {}
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "header":
                    repository.messages.append(line["value"]["summary"])
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return repository.commit(files)

        def resolve(self, name: str, rest: str) -> None:
            revision, _, path = rest.partition("/")
            repository = hub.repositories.get(name)
            tree = None if repository is None else repository.tree(revision)
            if repository is None or tree is None or path not in tree:
                self.say(404, {"error": "Entry not found"}, "EntryNotFound")
                return
            content = tree[path]
            if repository.gated:
                self.refuse()
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if asked:
                first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                self.finish_with(content[first : last + 1])
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            sha = repository.head() if revision == "main" else revision
            self.send_header("X-Repo-Commit", sha)
            self.finish_with(content)

        def refuse(self) -> None:
            self.say(403, {"error": "Access to this data set is restricted."}, "GatedRepo")

        def say(self, status: int, data: Any, code: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if code is not None:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", str(data["error"]))
            self.finish_with(json.dumps(data).encode())

        def finish_with(self, content: bytes) -> None:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _entries(tree: dict[str, bytes], folder: str, *, deep: bool = False) -> list[dict[str, Any]]:
    """Files and folders in `folder`, as the Hub lists them."""
    inside = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in tree.items():
        if not path.startswith(inside):
            continue
        head, slash, _ = path.removeprefix(inside).partition("/")
        sha = hashlib.sha1(content).hexdigest()
        if slash:
            place = inside + head
            found.setdefault(place, {"type": "directory", "path": place, "size": 0, "oid": sha})
        if not slash or deep:
            found[path] = {"type": "file", "path": path, "size": len(content), "oid": sha}
    return list(found.values())

"""A small server on this machine that speaks the protocol of the Hugging Face Hub.

It knows what huggingface_hub asks for to make a repository, commit to it, and download by name and
revision. Repositories are kept in memory. `replies` has functions that answer for a file in place
of the server, as a hostile one would.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".png")
"""Files that are stored as large ones, under their SHA-256."""


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of each commit."""
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, changes: dict[str, bytes | None]) -> str:
        """A new commit on a branch; None removes a file."""
        files = dict(self.files.get(self.branches.get(branch, ""), {})) | changes
        kept = {name: content for name, content in files.items() if content is not None}
        text = f"{len(self.files)} {sorted(kept)}"
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.files[sha], self.branches[branch] = kept, sha
        return sha


class Hub:
    """A server, running between `with` and its end."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.tokens = {"hf_owner": "owner"}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and token of each request."""
        self.replies: dict[str, Callable[[Any, bytes], None]] = {}
        self.changed_info: Callable[[dict], dict] = lambda info: info
        self.info_at = ""
        """Another server that is redirected to for the information about a repository."""
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self})
        )
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add(self, name: str, files: dict[str, bytes], **settings: bool) -> Repository:
        """A repository with these files on its branch main."""
        repository = self.repositories[name] = Repository(**settings)
        repository.commit("main", files)
        return repository

    def latest(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.files[repository.branches[branch]]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, content: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: Any, status: int = 200) -> None:
        self.reply(json.dumps(value).encode(), status, Content_Type="application/json")

    def refuse(self, status: int, code: str, message: str = "refused") -> None:
        self.reply(b"", status, X_Error_Code=code, X_Error_Message=message)

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.body = b"".join(iter(self._chunk, b""))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.user = self.hub.tokens.get(token or "")
        self.hub.requests.append((self.command, self.path, token))
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["api", "validate-yaml"]:
                self.json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(self.body))
            case ["lfs", oid]:
                self.hub.large[oid] = self.body
                self.reply()
            case ["api", "models", owner, name, *rest]:
                self._model(f"{owner}/{name}", rest)
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._batch(json.loads(self.body))
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self.refuse(404, "NotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def _chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return content

    def _create(self, wanted: dict[str, Any]) -> None:
        if self.user is None:
            return self.refuse(401, "Unauthorized")
        name = f"{wanted.get('organization') or self.user}/{wanted['name']}"
        if not name.startswith(f"{self.user}/"):
            return self.refuse(403, "Forbidden")
        if name in self.hub.repositories:
            return self.json({"url": f"{self.hub.url}/{name}"}, 409)
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.hub.add(name, {".gitattributes": b""}, private=private)
        return self.json({"url": f"{self.hub.url}/{name}"})

    def _seen(self, name: str) -> Repository | None:
        """The repository, if the user may read it; otherwise answers."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self.user is None):
            self.refuse(404 if self.user else 401, "RepoNotFound")
            return None
        return repository

    def _model(self, name: str, rest: list[str]) -> None:  # noqa: PLR0911
        repository = self._seen(name)
        if repository is None:
            return None
        match rest:
            case []:
                return self._info(name, repository, "main")
            case ["revision", revision]:
                return self._info(name, repository, revision)
        if self.user is None:
            return self.refuse(401, "Unauthorized")
        match rest:
            case ["preupload", _]:
                files = [file["path"] for file in json.loads(self.body)["files"]]
                modes = ["lfs" if path.endswith(LARGE) else "regular" for path in files]
                return self.json(
                    {
                        "files": [
                            {"path": path, "uploadMode": mode, "shouldIgnore": False}
                            for path, mode in zip(files, modes, strict=True)
                        ]
                    }
                )
            case ["branch", branch]:
                if branch in repository.branches:
                    return self.json({}, 409)
                repository.branches[branch] = repository.branches["main"]
                return self.json({})
            case ["commit", revision]:
                return self._commit(name, repository, revision)
        return self.refuse(404, "NotFound")

    def _commit_of(self, repository: Repository, revision: str) -> str | None:
        commit = repository.branches.get(revision, revision)
        if commit in repository.files:
            return commit
        self.refuse(404, "RevisionNotFound")
        return None

    def _info(self, name: str, repository: Repository, revision: str) -> None:
        if self.hub.info_at:
            return self.reply(b"", 302, Location=self.hub.info_at + self.path)
        commit = self._commit_of(repository, revision)
        if commit is None:
            return None
        siblings = []
        for path, content in repository.files[commit].items():
            entry = {"rfilename": path}
            if "blobs=" in self.path:
                entry |= {"size": len(content), "blobId": _blob(content)}
                if path.endswith(LARGE):
                    entry["lfs"] = {
                        "sha256": _sha256(content),
                        "size": len(content),
                        "pointerSize": 1,
                    }
            siblings.append(entry)
        info = {"id": name, "modelId": name, "sha": commit, "private": repository.private}
        info |= {"siblings": siblings, "gated": repository.gated, "tags": [], "downloads": 0}
        return self.json(self.hub.changed_info(info))

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self.json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repository: Repository, revision: str) -> None:
        changes: dict[str, bytes | None] = {}
        for line in self.body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": {"path": path, "content": content}}:
                    changes[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    changes[path] = self.hub.large[oid]
                case {"key": "deletedFile", "value": {"path": path}}:
                    changes[path] = None
        sha = repository.commit(revision, changes)
        self.json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._seen(name)
        if repository is None:
            return None
        if repository.gated:
            return self.refuse(403, "GatedRepo")
        commit = self._commit_of(repository, revision)
        if commit is None:
            return None
        content = repository.files[commit].get(path)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        self.about = {"X_Repo_Commit": commit, "ETag": f'"{_blob(content)}"'}
        if path.endswith(LARGE):
            self.about |= {
                "X_Linked_ETag": f'"{_sha256(content)}"',
                "X_Linked_Size": str(len(content)),
            }
        if path in self.hub.replies:
            return self.hub.replies[path](self, content)
        return self.reply(content, **self.about)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    """The name of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

"""A server on localhost that speaks the Hub's protocol, for the real `huggingface_hub` client, in memory.

A data set or Space is the repository `datasets/owner/name` or `spaces/owner/name`.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

LARGE = (".safetensors", ".onnx", ".keras", ".bin")  # stored apart, as LFS does


class Hub:
    """Repositories, and what goes wrong with them.

    Attributes:
        requests: `"METHOD /path"` of everything that was asked, in order.
        cut: Path → bytes after which the connection is cut, once.
        dies: Whether a cut ends the server, until `down` is set back.
        spoil: Paths of files that arrive changed.
        private: Repository → token that opens it.
        gated: Repositories behind terms.
    """

    def __init__(self):
        self.commits, self.refs, self.uploads = {}, {}, {}
        self.requests, self.cut, self.spoil, self.private, self.gated = [], {}, set(), {}, set()
        self.ranges, self.down, self.dies = [], False, False

    def add(self, repo, files, branch="main"):
        """Commit `{path: bytes}` on top of a branch; returns the commit's id."""
        refs = self.refs.setdefault(repo, {})
        before = self.commits.get(refs.get(branch), {})
        content = {path: data for path, data in {**before, **files}.items() if data is not None}
        text = json.dumps(
            [repo, refs.get(branch), {p: hashlib.sha1(d).hexdigest() for p, d in content.items()}]
        )
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit], refs[branch] = content, commit
        return commit

    def add_folder(self, repo, folder, branch="main"):
        """Commit every file of a folder."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return self.add(repo, files, branch)

    def find(self, repo, revision):
        """Commit id of a branch or commit, or None."""
        commit = self.refs[repo].get(revision, revision)
        return commit if commit in self.commits else None


def etag(path, data):
    """What the Hub names a file by."""
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serving():
    """A `Hub` and its address."""
    hub = Hub()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def lead_to(address, folder, monkeypatch):
    """Make an address the client's endpoint, with cache and token in `folder`, as HF_ENDPOINT and HF_HOME would."""
    from huggingface_hub import constants

    settings = {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": True,
        "DOWNLOAD_CHUNK_SIZE": 1024,  # what has come is kept in whole chunks
        "HF_TOKEN_PATH": str(folder / "token"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _refuse(self, status, code):
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content, status=200):
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def _token(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _allowed(self, repo):
        """Whether the repository may be seen; what the Hub says otherwise is sent."""
        if repo not in self.hub.refs or self.hub.private.get(repo, self._token) != self._token:
            self._refuse(401, "RepoNotFound")
        elif repo in self.hub.gated and not self._token:
            self._refuse(401, "GatedRepo")
        else:
            return True
        return False

    def _serve(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.down:
            self._send(503)
            return
        path = re.sub(r"^/api/(datasets|spaces)/", r"/api/models/\1/", path)
        for pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                answer(self, *found.groups())
                return
        self._refuse(404, "NoRoute")

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _resolve(self, repo, revision, path):
        if not self._allowed(repo):
            return
        commit = self.hub.find(repo, revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        files = self.hub.commits[commit]
        if path not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(path, data)}"', "Accept-Ranges": "bytes"}
        if path in self.hub.spoil:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.hub.ranges.append((self.command, path, start))
        headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if self.command == "GET" and path in self.hub.cut:
            end = start + self.hub.cut.pop(path)
            self.send_response(206 if start else 200)
            for name, value in {"Content-Length": len(data) - start, **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data[start:end])
            self.wfile.flush()
            self.close_connection, self.hub.down = True, self.hub.dies
            return
        self._send(206 if start else 200, data[start:], headers)

    def _tree(self, repo, revision):
        if not self._allowed(repo):
            return
        files = self.hub.commits[self.hub.find(repo, revision)]
        self._json([{"type": "file", "path": p, "size": len(d), "oid": etag(p, d)} for p, d in files.items()])

    def _info(self, repo, revision="main"):
        if not self._allowed(repo):
            return
        commit = self.hub.find(repo, revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in self.hub.commits[commit]]
        self._json(
            {"id": repo, "sha": commit, "siblings": siblings, "private": repo in self.hub.private, "tags": []}
        )

    def _create(self):
        asked = json.loads(self._body())
        if self._token != "writer":
            self._refuse(401, "Unauthorized")
            return
        kind = asked.get("type", "model")
        repo = f"{'' if kind == 'model' else kind + 's/'}{asked['organization']}/{asked['name']}"
        if repo in self.hub.refs:
            self._json({"error": "exists", "url": f"{self.hub.address}/{repo}"}, 409)
            return
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private[repo] = self._token
        self.hub.add(repo, {".gitattributes": b""})
        self._json({"url": f"{self.hub.address}/{repo}", "name": repo})

    def _branch(self, repo, branch):
        self._body()
        self.hub.refs[repo].setdefault(branch, self.hub.refs[repo]["main"])
        self._json({})

    def _validate(self):
        asked = json.loads(self._body())
        first = "library_name: memssl-keras\n" if asked.get("repoType", "model") == "model" else ""
        problem = [] if asked["content"].startswith("---\n" + first) else [{"message": "no metadata"}]
        self._json({"errors": problem, "warnings": []}, 400 if problem else 200)

    def _preupload(self, repo, revision):
        files = json.loads(self._body())["files"]
        mode = lambda path: "lfs" if path.endswith(LARGE) else "regular"  # noqa: E731
        self._json(
            {
                "files": [
                    {"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in files
                ]
            }
        )

    def _batch(self, repo):
        objects = json.loads(self._body())["objects"]
        upload = lambda oid: {"upload": {"href": f"{self.hub.address}/storage/{oid}", "header": {}}}  # noqa: E731
        entries = [{**entry, "actions": upload(entry["oid"])} for entry in objects]
        self._json({"transfer": "basic", "objects": entries})

    def _store(self, oid):
        data = self._body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.hub.uploads[oid] = data
        self._send(200)

    def _commit(self, repo, revision):
        files = {}
        for line in self._body().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.add(repo, files, revision)
        self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{repo}/commit/{commit}"}
        )


_REPO = r"((?:datasets/|spaces/)?[^/]+/[^/]+)"
_ROUTES = (
    (r"POST /api/repos/create", _Handler._create),
    (r"POST /api/validate-yaml", _Handler._validate),
    (rf"POST /api/models/{_REPO}/preupload/(.+)", _Handler._preupload),
    (rf"POST /api/models/{_REPO}/commit/(.+)", _Handler._commit),
    (rf"POST /api/models/{_REPO}/branch/(.+)", _Handler._branch),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler._batch),
    (r"PUT /storage/(\w+)", _Handler._store),
    (rf"GET /api/models/{_REPO}/tree/([^/]+)", _Handler._tree),
    (rf"GET /api/models/{_REPO}/revision/(.+)", _Handler._info),
    (rf"GET /api/models/{_REPO}", _Handler._info),
    (rf"(?:GET|HEAD) /{_REPO}/resolve/([^/]+)/(.+)", _Handler._resolve),
)

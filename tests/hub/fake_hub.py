"""The Hub's HTTP routes that pushing and loading a model need, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from local_server import LocalServer

LFS = (".safetensors", ".parquet")
REPO = (
    r"(?:models/|(?=spaces/))((?:spaces/)?[^/]+/[^/]+)"  # a Space is called spaces/OWNER/NAME here
)
TOKEN = "hf_dummy"


class FakeHub(LocalServer):
    """One server for a test; `url` is its HF_ENDPOINT."""

    def __init__(self):
        self.repos = {}  # id -> {"private": bool, "refs": {branch: sha}}
        self.commits = {}  # sha -> {path: content}
        self.objects = {}  # oid -> content
        self.uploads = []  # (id, branch, header of the commit)
        self.refused = set()  # ids whose commits are refused
        self.dropped = []  # patterns of paths: the next request of each is cut off unanswered
        self.stored = []  # oids of LFS files in the order they came
        self.changed = []  # names that each commit added or removed, in the order of `uploads`
        self.variables = {}  # id of a Space -> {key: value}
        super().__init__(Handler)

    def files(self, repo, revision="main"):
        """Content of a repository's files at a branch or commit; None where there is none."""
        refs = self.repos[repo]["refs"]
        return self.commits.get(refs.get(revision, revision))

    def add_commit(self, repo, branch, files):
        """Puts a branch on a new commit that holds these files."""
        text = repr([repo, branch, len(self.commits), sorted(files)])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = files
        self.repos[repo]["refs"][branch] = sha
        return sha


class Handler(BaseHTTPRequestHandler):
    """One method a route; a route is found by the path's shape."""

    protocol_version = "HTTP/1.1"
    routes = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/spaces/([^/]+/[^/]+)/variables", "variable"),
        ("POST", rf"/api/{REPO}/branch/(.+)", "branch"),
        ("POST", rf"/api/{REPO}/preupload/(.+)", "preupload"),
        ("POST", rf"/api/{REPO}/commit/(.+)", "commit"),
        ("POST", r"/((?:spaces/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(\w+)", "store"),
        ("POST", r"/lfs/verify", "validate"),
        ("GET", rf"/api/{REPO}(?:/revision/(.+))?", "info"),
        ("GET", rf"/api/{REPO}/tree/([^/]+)(?:/(.+))?", "tree"),
        ("HEAD", r"/((?:spaces/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
        ("GET", r"/((?:spaces/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    @property
    def hub(self):
        return self.server.hub

    def handle_request(self):
        path = urlsplit(self.path).path
        body = self.read_body()
        for pattern in self.hub.dropped:
            if re.search(pattern, f"{self.command} {path}"):
                self.hub.dropped.remove(pattern)
                self.close_connection = True
                return self.connection.shutdown(socket.SHUT_RDWR)
        for method, pattern, name in sorted(self.routes, key=lambda route: -len(route[1])):
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                parts = [None if part is None else unquote(part) for part in found.groups()]
                return getattr(self, name)(body, *parts)
        return self.answer(404, {"error": f"no route {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *_):
        pass

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, content=b"", headers=None):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code):
        self.answer(404, {"error": code}, {"X-Error-Code": code})

    # ---- writing

    def create(self, body):
        asked = json.loads(body)
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if asked.get("type") == "space":
            repo = f"spaces/{repo}"
        known = repo in self.hub.repos
        if not known:
            private = asked.get("private") or asked.get("visibility") == "private"
            about = {"private": bool(private), "sdk": asked.get("sdk"), "refs": {}}
            self.hub.repos[repo] = about
            self.hub.add_commit(repo, "main", {})
        self.answer(409 if known else 200, {"url": f"{self.hub.url}/{repo}"})

    def validate(self, body):
        self.answer(200, {"errors": [], "warnings": []})

    def branch(self, body, repo, name):
        refs = self.hub.repos[repo]["refs"]
        known = name in refs
        refs.setdefault(name, refs["main"])
        self.answer(409 if known else 200, {})

    def variable(self, body, repo):
        asked = json.loads(body)
        known = self.hub.variables.setdefault(f"spaces/{repo}", {})
        known[asked["key"]] = {"key": asked["key"], "value": asked["value"]}
        self.answer(200, known)

    def preupload(self, body, repo, revision):
        there = self.hub.files(repo, revision) or {}
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
                **({"oid": oid(file["path"], there)} if file["path"] in there else {}),
            }
            for file in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, body, repo):
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}
            known = one["oid"] in self.hub.objects
            objects.append(one if known else {**one, "actions": actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, body, oid):
        good = hashlib.sha256(body).hexdigest() == oid
        if good:
            self.hub.objects[oid] = body
            self.hub.stored.append(oid)
        self.answer(200 if good else 400)

    def commit(self, body, repo, revision):
        if repo in self.hub.refused:
            return self.answer(403, {"error": "not allowed"})
        files = dict(self.hub.files(repo, revision))
        names = set()
        for line in body.decode().splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            names.update([value["path"]] if "path" in value else [])
            if key == "header":
                self.hub.uploads.append((repo, revision, value))
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"], None)
        self.hub.changed.append(names)
        sha = self.hub.add_commit(repo, revision, files)
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        return self.answer(200, {"commitOid": sha, "commitUrl": url, "success": True})

    # ---- reading

    def at(self, repo, revision):
        """Commit and files, or None after an answer that says what is missing."""
        if repo not in self.hub.repos:
            return self.missing("RepoNotFound")
        shown = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.hub.repos[repo]["private"] and not shown:
            return self.answer(401, {"error": "private"}, {"X-Error-Code": "RepoNotFound"})
        refs = self.hub.repos[repo]["refs"]
        sha = refs.get(revision or "main", revision)
        if sha not in self.hub.commits:
            return self.missing("RevisionNotFound")
        return sha, self.hub.commits[sha]

    def info(self, body, repo, revision=None):
        if (found := self.at(repo, revision)) is None:
            return None
        sha, files = found
        about = {
            "id": repo,
            "sha": sha,
            "siblings": [{"rfilename": path} for path in sorted(files)],
            "private": self.hub.repos[repo]["private"],
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
        }
        return self.answer(200, about)

    def tree(self, body, repo, revision, folder=None):
        if (found := self.at(repo, revision)) is None:
            return None
        items = [
            {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            for path, content in sorted(found[1].items())
            if folder is None or path.startswith(f"{folder}/")
        ]
        return self.answer(200, items) if items else self.missing("EntryNotFound")

    def resolve(self, body, repo, revision, path):
        if (found := self.at(repo, revision)) is None:
            return None
        sha, files = found
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            return self.answer(404, {"error": "EntryNotFound"}, headers)
        content = files[path]
        tag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": sha, "ETag": f'"{tag}"'}
        if path.endswith(LFS):
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
        return self.answer(200, content, headers)


def oid(path, files):
    """What the Hub knows a file by: SHA-256 of one in LFS, else git's own."""
    content = files[path]
    if path.endswith(LFS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

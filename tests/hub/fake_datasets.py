"""The Hub's HTTP routes that reading repositories of datasets and Spaces needs, in memory."""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from local_server import LocalServer

SHA = "0123456789abcdef0123456789abcdef01234567"
DATE = "2026-01-01T00:00:00.000Z"


class FakeDatasets(LocalServer):
    """One server; `repos` maps `datasets/owner/name` (or `spaces/...`) to its files."""

    def __init__(self, repos):
        self.repos = repos
        self.asked = []  # (method, path, range) of every request
        super().__init__(Handler)


class Handler(BaseHTTPRequestHandler):
    """Every repository has one commit, its branch main."""

    protocol_version = "HTTP/1.1"
    routes = (
        ("GET", r"/api/((?:datasets|spaces)/[^/]+/[^/]+)(?:/revision/[^/]+)?", "info"),
        ("GET", r"/api/((?:datasets|spaces)/[^/]+/[^/]+)/tree/[^/]+(?:/(.*))?", "tree"),
        ("POST", r"/api/((?:datasets|spaces)/[^/]+/[^/]+)/paths-info/[^/]+", "paths"),
        ("HEAD", r"/((?:datasets|spaces)/[^/]+/[^/]+)/resolve/[^/]+/(.+)", "resolve"),
        ("GET", r"/((?:datasets|spaces)/[^/]+/[^/]+)/resolve/[^/]+/(.+)", "resolve"),
    )

    def handle_request(self):
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.hub.asked.append((self.command, path, self.headers.get("Range")))
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                repo, *rest = [None if part is None else unquote(part) for part in found.groups()]
                files = self.server.hub.repos.get(repo)
                if files is None:
                    return self.missing("RepoNotFound")
                return getattr(self, name)(repo, files, body, *rest)
        return self.answer(404, {"error": f"no route {path}"})

    do_GET = do_HEAD = do_POST = handle_request

    def log_message(self, *_):
        pass

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

    def info(self, repo, files, body):
        about = {
            "id": repo.split("/", 1)[1],
            "sha": SHA,
            "siblings": [{"rfilename": path} for path in sorted(files)],
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": DATE,
        }
        self.answer(200, about)

    def entry(self, files, path):
        return {
            "type": "file",
            "path": path,
            "size": len(files[path]),
            "oid": hashlib.sha1(files[path]).hexdigest(),
            "lastCommit": {"id": SHA, "title": "first", "date": DATE},
        }

    def folders(self, files):
        found = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
        entry = {"type": "directory", "oid": SHA, "size": 0}
        return {path: {**entry, "path": path} for path in found - {"."}}

    def tree(self, repo, files, body, folder=None):
        entries = {path: self.entry(files, path) for path in files} | self.folders(files)
        start = f"{folder}/" if folder else ""
        inside = {path: item for path, item in entries.items() if path.startswith(start)}
        if "recursive=true" not in self.path.lower():
            inside = {p: item for p, item in inside.items() if "/" not in p.removeprefix(start)}
        if folder and not inside:
            return self.missing("EntryNotFound")
        return self.answer(200, [inside[path] for path in sorted(inside)])

    def paths(self, repo, files, body):
        wanted = parse_qs(body.decode()).get("paths", [])
        known = self.folders(files) | {path: self.entry(files, path) for path in files}
        self.answer(200, [known[path] for path in wanted if path in known])

    def resolve(self, repo, files, body, path):
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA}
            return self.answer(404, {"error": "EntryNotFound"}, headers)
        content = files[path]
        tag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": SHA, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part is None or self.command == "HEAD":
            return self.answer(200, content, headers)
        first, last = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.answer(206, content[first : last + 1], headers)

"""A Hub on this machine: the few addresses that the Hub's client libraries ask, answered from folders.

Run as a program it serves the folders below ROOT/models/ORG/NAME and ROOT/datasets/ORG/NAME, prints its port and runs until it is ended.
"""

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

ARC = "allenai/ai2_arc"
ARC_CARD = """---
configs:
- config_name: ARC-Easy
  data_files:
  - split: test
    path: ARC-Easy/test-*
---
"""
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


def commit_of(folder: Path) -> str:
    """40 hex digits that change with the content."""
    digest = hashlib.sha1()
    for file in _files(folder):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def arc_questions(count: int) -> list[dict[str, Any]]:
    """As many made-up questions with two choices in the columns of ARC."""
    choices = {"text": ["a stone", "a tree"], "label": ["A", "B"]}
    return [
        {"id": str(number), "question": f"Which is {number}?", "choices": choices, "answerKey": "AB"[number % 2]} for number in range(count)
    ]


def save_arc_easy(root: Path, count: int) -> None:
    """A data set of ARC's form and name with as many made-up questions, of one split, for a Hub that serves `root`."""
    arc = root / "datasets" / ARC
    (arc / "ARC-Easy").mkdir(parents=True, exist_ok=True)
    (arc / "README.md").write_text(ARC_CARD, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(arc_questions(count)), arc / "ARC-Easy" / "test-00000-of-00001.parquet")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    kind = {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
    return {**kind, "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()}


class Handler(BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._answer(body=True, paths=set(re.findall(r"[\w./-]+\.\w+", unquote(asked))))

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def _answer(self, body: bool, paths: set[str] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := API.fullmatch(path):
            kind, name, what = found[1], found[2], found[3]
            folder = self.root / kind / name
            if folder.is_dir():
                return self._send(json.dumps(self._told(folder, name, what, paths, found[5] or "")).encode(), "application/json", body)
        if found := FILE.fullmatch(path):
            folder = self.root / ("datasets" if found[1] else "models") / found[2]
            if (file := folder / found[4]).is_file():
                return self._send(file.read_bytes(), "application/octet-stream", body, commit_of(folder))
            return self._refuse("EntryNotFound" if folder.is_dir() else "RepoNotFound")
        return self._refuse("RepoNotFound")

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _told(self, folder: Path, name: str, what: str | None, paths: set[str] | None, below: str) -> Any:
        if what == "tree":
            recursive = "recursive=true" in self.path.lower()
            listed = (folder / below).rglob("*") if recursive else (folder / below).glob("*")
            return [_entry(folder, one) for one in sorted(listed)]
        if what == "paths-info":
            return [_entry(folder, folder / one) for one in sorted(paths or ()) if (folder / one).exists()]
        siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in _files(folder)]
        return {"id": name, "_id": "0", "sha": commit_of(folder), "siblings": siblings, "private": False, "tags": [], "downloads": 0}

    def _send(self, content: bytes, kind: str, body: bool, commit: str | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if commit:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)


def main(root: Path) -> None:
    """Serve until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"root": root}))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

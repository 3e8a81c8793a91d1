"""A hub on this machine: the few routes over which models are listed and read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "some-org/some-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """A server of one model.

    Args:
        folder: the files of its repository.
        ranges: whether it sends parts of files.
        sent: bytes sent by file name.
    """

    folder: Path
    url: str = ""
    ranges: bool = True
    sent: dict[str, int] = field(default_factory=dict)

    def ask(self, cache: Path, code: str) -> dict[str, object]:
        """Run `code` in a process for which this is the hub; return the JSON that it prints.

        A process of its own, since the hub's client reads its settings once.
        """
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        environment.pop("HF_HUB_CACHE", None)
        command = [sys.executable, "-c", _PREAMBLE + code]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer


_PREAMBLE = f"""
import json, sys
from puma_cli.checkpoint.source import open_source
from puma_cli.errors import CheckpointError
MODEL = {MODEL!r}
def tell(**answer):
    assert "torch" not in sys.modules
    print(json.dumps(answer))
"""


@contextmanager
def serve(folder: Path) -> Iterator[FakeHub]:
    """Serve the files of `folder` as the model `MODEL` at its only commit."""
    hub = FakeHub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            api, files = f"/api/models/{MODEL}", f"/{MODEL}/resolve/{COMMIT}/"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                self._json({"id": MODEL, "sha": COMMIT, "siblings": []})
            elif path == f"{api}/tree/{COMMIT}":
                self._json([self._entry(name) for name in self._names()])
            elif path.startswith(files) and path.removeprefix(files) in self._names():
                self._file(path.removeprefix(files))
            elif path.startswith(f"{api}/revision/"):
                self._missing("RevisionNotFound")
            elif path.startswith(files):
                self._missing("EntryNotFound")
            else:
                self._missing("RepoNotFound")

        def _names(self) -> list[str]:
            files = (path for path in hub.folder.rglob("*") if path.is_file())
            return sorted(path.relative_to(hub.folder).as_posix() for path in files)

        def _entry(self, name: str) -> dict[str, object]:
            file = hub.folder / name
            oid = hashlib.sha1(file.read_bytes()).hexdigest()
            return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid}

        def _file(self, name: str) -> None:
            content = (hub.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            wanted = self.headers.get("Range")
            if wanted is None or not hub.ranges:
                self._send(200, content, headers, name)
                return
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            part = content[int(start) : int(end or len(content) - 1) + 1]
            last = int(start) + len(part) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            self._send(206, part, headers, name)

        def _json(self, answer: object) -> None:
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _missing(self, code: str) -> None:
            self._send(404, b"{}", {"X-Error-Code": code})

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], name: str = ""
        ) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                try:
                    self.wfile.write(content)
                except OSError:
                    return  # the client has heard enough
                hub.sent[name] = hub.sent.get(name, 0) + len(content)

    return Handler

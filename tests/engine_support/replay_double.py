"""A replay double of an Ollama server: it answers with the bytes that a real one sent, and knows nothing else.

A tape is a list of recorded cases. What changes something (pull, copy, delete, create) must be asked for in the tape's
order; what only reads is answered by the cases that stand between the last change and the next. Any other request is
answered with 501 and remembered: a test ends with `unrecorded` empty.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName

from tests.engine_support.recording import DATA

VERSIONS = ("v0.24.0", "v0.32.15")
_NAMES = ("model", "name", "from", "source", "destination")
_READING = ("GET", "HEAD")
# What a registry that the real server pulled from said of its model; recorded without its request.
_MANIFEST = "/v2/library/gemma3/manifests/270m"


@dataclass(frozen=True)
class Case:
    """One exchange. meaning: of its request, in a form that can be compared. answer: all bytes as on the wire."""

    name: str
    meaning: tuple[str, str, str]
    request: bytes
    answer: bytes

    @property
    def changes(self) -> bool:
        method, path, _ = self.meaning
        return method not in _READING and path not in {"/api/show", "/api/generate"}

    @property
    def body(self) -> bytes:
        """Of an answer that came in one piece."""
        return self.answer.partition(b"\r\n\r\n")[2]


def case(version: str, name: str) -> Case:
    """NAME is that of a file, with "registry/" before it where it was recorded with a registry."""
    folder, _, stem = name.rpartition("/")
    raw = (DATA / f"{version}{'-' + folder if folder else ''}" / f"{stem}.http").read_bytes()
    if not raw.startswith(b">>>"):
        return Case(name, ("GET", _MANIFEST, ""), b"", raw)
    request, _, rest = raw.partition(b"\n<<< RESPONSE")
    head, _, body = request.partition(b"\n")[2].replace(b"\r\n", b"\n").partition(b"\n\n")
    method, path, _ = head.decode().splitlines()[0].split(" ")
    answer = rest.partition(b"\n")[2].rpartition(b"\n--- META ")[0]
    return Case(name, _meaning(method, path, body), body, answer)


def _meaning(method: str, path: str, body: bytes) -> tuple[str, str, str]:
    """The same for requests that mean the same: fields in any order, defaults written or not, names in any form."""
    try:
        fields = json.loads(body)
    except ValueError:
        return method, path, body.decode(errors="replace").strip("\n")
    told = {name: value for name, value in {"stream": True, "insecure": False, **fields}.items() if value is not None}
    for name in _NAMES:
        if name in told:
            told[name] = _name(told[name])
    if "files" in told:
        told["files"] = sorted(told["files"].values())
    return method, path, json.dumps(told, sort_keys=True)


def _name(text: str) -> str:
    try:
        return "/".join(ModelName.parse(text).key)
    except FleetError:
        return text


class ReplayDouble:
    """Plays the cases of a version on a port of the loopback. played: their names, in order."""

    def __init__(self, version: str, *tape: str) -> None:
        self.tape = [case(version, name) for name in tape]
        self.played: list[str] = []
        self.unrecorded: list[tuple[str, str, str]] = []
        self._head = 0
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _play(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.wfile.write(double._answer(_meaning(self.command, self.path, body)))
                self.close_connection = True

            do_GET = do_HEAD = do_POST = do_DELETE = _play  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def is_through(self) -> bool:
        """Whether every change of the tape was asked for, and nothing beside it."""
        return not self.unrecorded and not any(case.changes for case in self.tape[self._head :])

    def _answer(self, meaning: tuple[str, str, str]) -> bytes:
        with self._lock:
            end = next((i for i, case in enumerate(self.tape) if i >= self._head and case.changes), len(self.tape))
            for place, case in enumerate(self.tape[self._head : end + 1], self._head):
                if case.meaning == meaning:
                    self._head = place + 1 if case.changes else self._head
                    self.played.append(case.name)
                    return case.answer
            self.unrecorded.append(meaning)
        return b'HTTP/1.1 501 Not Recorded\r\nConnection: close\r\n\r\n{"error":"this was not recorded"}'

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

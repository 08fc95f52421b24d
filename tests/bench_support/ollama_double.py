"""A test double of an Ollama server: it answers with recorded bytes, at the times at which they were recorded."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.bench_support.recordings import Recording, recording

# What a streamed answer does: its recording, and how many pieces are sent before the connection is dropped (None: all).
Reply = tuple[Recording, int | None]


class OllamaDouble:
    """Serves version, tags, ps and generate on a port of the loopback, and remembers what it was asked.

    `answer(n)` chooses the reply to the n-th prompt, counted from 1; `cold`: the model is not loaded at the start.
    """

    def __init__(self, version: str, answer: Callable[[int], Reply] | None = None, cold: bool = True) -> None:
        self.version = version
        self.recorded = recording(version, "040-gen-stream-1st")
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.connections = 0
        self.prompts = 0
        self.loaded = not cold
        self._answer = answer or (lambda _: (self.recorded, None))
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                double.connections += 1

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                double._get(self)

            def do_POST(self) -> None:
                double._post(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the prompts, in order."""
        return [body for _, path, body in self.requests if path == "/api/generate" and "prompt" in body]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(("GET", handler.path, {}))
        names = {
            "/api/version": "003-version",
            "/api/tags": "020-tags",
            "/api/ps": "039-ps-loaded" if self.loaded else "021-ps-unloaded",
        }
        _send(handler, recording(self.version, names[handler.path]), None, paced=False)

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(("POST", handler.path, body))
        assert handler.path == "/api/generate", handler.path
        if "prompt" not in body:
            self.loaded = True
            _send(handler, recording(self.version, "038-gen-load-empty"), None, paced=False)
            return
        with self._lock:
            self.prompts += 1
            number = self.prompts
        reply, pieces = self._answer(number)
        _send(handler, reply, pieces, paced=True)


def _send(handler: BaseHTTPRequestHandler, reply: Recording, pieces: int | None, paced: bool) -> None:
    started = time.monotonic()
    for when, piece in reply.pieces[:pieces]:
        if paced:
            time.sleep(max(0.0, when - (time.monotonic() - started)))
        # The recorder closed each connection; clients of ours keep theirs.
        handler.wfile.write(piece.replace(b"Connection: close\r\n", b""))
    if pieces is not None:
        handler.close_connection = True

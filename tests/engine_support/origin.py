"""A model origin on loopback, with the faults that a test asks for."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PIECE = 1 << 16


@dataclass
class Behaviour:
    """How the origin serves blobs.

    location: "header" is a 200 with Location, "none" a plain 200, "redirect" a 307 to another port of the same host,
    "elsewhere" a 307 to another host name. rate: bytes a second, 0 for as fast as it can. cut_after: bytes after which
    the first answer with bytes breaks off. corrupt: so many answers with bytes come with
    others in their place, from the first on. ranges: it knows what a range is. stall_after: bytes after which the first
    answer with bytes stands still, until the origin becomes another.
    """

    location: str = "header"
    rate: int = 0
    cut_after: int = 0
    corrupt: int = 0
    ranges: bool = True
    stall_after: int = 0
    answer: tuple[int, dict[str, str], bytes] | None = None


@dataclass
class Origin:
    """Serves the tree ROOT that lab/model_store.py makes. ranges, sent: of the requests for bytes, in their order."""

    root: Path
    behaviour: Behaviour = field(default_factory=Behaviour)
    ranges: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def start(self, wrap: Callable[[Any], Any] | None = None) -> "Origin":
        origin = self

        class Handler(_Handler):
            served = origin

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.scheme = "https" if wrap else "http"
        if wrap:
            self._server.socket = wrap(self._server.socket)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def become(self, **behaviour: Any) -> None:
        """Behave so from now on, and forget what was counted."""
        self.behaviour = Behaviour(**behaviour)
        self.ranges.clear()
        self.sent.clear()


class _Handler(BaseHTTPRequestHandler):
    served: Origin

    def do_GET(self) -> None:
        behaviour = self.served.behaviour
        if behaviour.answer:
            status, headers, body = behaviour.answer
            self._answer(status, headers, body)
            return
        is_blob = re.fullmatch(r"(/v2/library/[^/]+/blobs/)sha256:([0-9a-f]{64})", self.path)
        path = self.served.root / self.path[1:].replace("sha256:", "sha256-")
        if not path.is_file():
            self._answer(404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        elif "/manifests/" in self.path:
            self._answer(200, {}, path.read_bytes())
        elif is_blob and behaviour.location in {"header", "redirect", "elsewhere"}:
            host = {"elsewhere": "127.0.0.1"}.get(behaviour.location, "localhost")
            direct = f"{self.served.scheme}://{host}:{self.served.port}{is_blob[1]}sha256-{is_blob[2]}"
            self._answer(200 if behaviour.location == "header" else 307, {"Location": direct}, b"")
        else:
            self._bytes(path)

    def _bytes(self, path: Path) -> None:
        behaviour, size = self.served.behaviour, path.stat().st_size
        wanted = behaviour.ranges and re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2] or size - 1), size - 1) if wanted else size - 1
        self.served.ranges.append(self.headers.get("Range", ""))
        self.served.sent.append(0)
        turn = len(self.served.sent) - 1
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            while (left := last + 1 - file.tell()) > 0:
                piece = file.read(min(_PIECE, left))
                try:
                    self.wfile.write(piece[::-1] if turn < behaviour.corrupt else piece)
                except ConnectionError:
                    return
                self.served.sent[turn] += len(piece)
                if behaviour.cut_after and turn == 0 and self.served.sent[0] >= behaviour.cut_after:
                    return
                if behaviour.stall_after and turn == 0 and self.served.sent[0] >= behaviour.stall_after:
                    while self.served.behaviour is behaviour:
                        time.sleep(0.01)
                    return
                if behaviour.rate:
                    time.sleep(len(piece) / behaviour.rate)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

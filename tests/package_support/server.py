"""A web server for repositories that lab hosts reach, and that can fail in the ways that real ones do."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server:
    """Serves a folder on an address of this machine. Use it as a context manager.

    After vanish(n), n more packages are served and then nothing any more, as when a mirror goes away midway.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.requests: list[str] = []
        self._left: int | None = None
        handler = partial(_Handler, directory=str(folder), server_state=self)
        self._server = ThreadingHTTPServer((address, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def vanish(self, after: int = 0) -> None:
        self._left = after

    def come_back(self) -> None:
        self._left = None

    def answers(self, path: str) -> bool:
        """Whether a request still gets an answer; a package counts."""
        self.requests.append(path)
        if self._left is None:
            return True
        if path.endswith((".deb", ".rpm")):
            self._left -= 1
        return self._left >= 0

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, server_state: Server, **options: Any) -> None:
        self._state = server_state
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        if self._state.answers(self.path):
            super().do_GET()
        else:
            # No answer at all: the connection ends.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the tests look at Server.requests."""

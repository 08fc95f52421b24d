"""The HTTP side: one thread for each connection, answers as Go's server frames them, and clients that leave noticed."""

import contextlib
import email.utils
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from .wire import ApiError, dumps

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
_WATCH_SECONDS = 0.1
# Go sends a body of up to this size with its length, and a larger one in chunks.
_BUFFER = 2048
_PIECE = 1 << 18
_CORS_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_LOCAL_ORIGINS = {"localhost", "127.0.0.1", "0.0.0.0"}  # noqa: S104 - compared with, not bound to


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer, as the routes see it."""

    protocol_version = "HTTP/1.1"
    # A token in a packet of its own must not wait for the next.
    disable_nagle_algorithm = True
    server: "Server"
    # The request's body as it comes; what no route takes is read before the next request.
    body: Iterator[bytes]
    answered: bool

    @property
    def raw(self) -> bytes:
        """The whole body, once."""
        return b"".join(self.body)

    def reply(self, status: int, body: bytes, content_type: str | None) -> None:
        """The whole answer at once."""
        self._head(status, content_type)
        if len(body) <= _BUFFER:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self._body(body)
        else:
            with self._chunks() as send:
                send(body)

    def reply_json(self, value: object, status: int = 200, content_type: str = JSON) -> None:
        # Ollama's /v1 writes with an encoder that ends its line.
        self.reply(status, dumps(value) + (b"\n" if content_type == PLAIN_JSON else b""), content_type)

    @contextlib.contextmanager
    def stream(self, content_type: str) -> Iterator[Callable[[bytes], None]]:
        """An answer in chunks, each sent at once."""
        self._head(200, content_type)
        with self._chunks() as send:
            yield send

    @contextlib.contextmanager
    def watch(self) -> Iterator[Callable[[Callable[[], None]], None]]:
        """While the context lasts, a client that leaves makes the call that was given last."""
        calls: list[Callable[[], None]] = []
        done = threading.Event()

        def look() -> None:
            while not done.wait(_WATCH_SECONDS):
                if calls and self.client_left():
                    calls[-1]()
                    return

        threading.Thread(target=look, name="watch", daemon=True).start()
        try:
            yield calls.append
        finally:
            done.set()

    def client_left(self) -> bool:
        try:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def send_response(self, code: int, message: str | None = None) -> None:
        # No Server header: Ollama has none.
        self.send_response_only(code, message)
        self.send_header("Date", email.utils.formatdate(usegmt=True))

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        print(f"{self.address_string()} {self.requestline} {code}", flush=True)

    def _head(self, status: int, content_type: str | None) -> None:
        self.answered = True
        self.log_request(status)
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        origin = self.headers.get("Origin")
        if origin:
            self.send_header("Access-Control-Allow-Origin", origin)
        if self.close_connection:
            self.send_header("Connection", "close")

    def _body(self, body: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(body)

    @contextlib.contextmanager
    def _chunks(self) -> Iterator[Callable[[bytes], None]]:
        if self.request_version == "HTTP/1.0":
            # Such a client, as a proxy may be, knows no chunks: the end of the connection is the end of the answer.
            self.close_connection = True
            self.end_headers()
            yield self._body
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        yield lambda data: self._body(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._body(b"0\r\n\r\n")

    def _answer(self) -> None:
        try:
            self.answered = False
            self.body = self._read_body()
            self._route()
            for _ in self.body:
                pass
        except ConnectionError:
            # The client has gone; so goes the rest of its answer.
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = do_PATCH = do_OPTIONS = _answer  # noqa: N815

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not self._origin_allowed():
            self.reply(403, b"", None)
        elif self.command == "OPTIONS" and "Origin" in self.headers:
            self._preflight()
        else:
            method = "GET" if self.command == "HEAD" and path in self.server.with_head else self.command
            route, argument = self.server.find(method, path)
            if route:
                route(self, argument)
            elif any(self.server.find(other, path)[0] for other in ("GET", "POST", "DELETE", "HEAD")):
                self.reply(405, b"405 method not allowed", "text/plain")
            else:
                self.reply(404, b"404 page not found", "text/plain")

    def _origin_allowed(self) -> bool:
        origin = self.headers.get("Origin")
        allowed = self.server.origins
        return not origin or origin in allowed or "*" in allowed or urlsplit(origin).hostname in _LOCAL_ORIGINS

    def _preflight(self) -> None:
        self._head(204, None)
        self.send_header("Access-Control-Allow-Headers", _CORS_HEADERS)
        self.send_header("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
        self.send_header("Access-Control-Max-Age", "43200")
        for name in ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"):
            self.send_header("Vary", name)
        self.end_headers()

    def _read_body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read(min(size, _PIECE))
            if not piece:
                raise ConnectionAbortedError("the client has gone")
            size -= len(piece)
            yield piece


Route = Callable[[Exchange, str], None]


class Server(ThreadingHTTPServer):
    """Routes: (method, path) or, for a path that ends in "/", every path below it; the rest is the argument."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], routes: dict[tuple[str, str], Route], origins: tuple[str, ...] = ()
    ) -> None:
        super().__init__(address, Exchange)
        self._routes = routes
        self.origins = origins
        self.with_head = {"/", "/api/version", "/api/tags"}

    def find(self, method: str, path: str) -> tuple[Route | None, str]:
        route = self._routes.get((method, path))
        if route:
            return route, ""
        folder, _, rest = path.rpartition("/")
        return (self._routes.get((method, f"{folder}/")) if rest else None), rest


def guarded(route: Route, refuse: Callable[[Exchange, ApiError], None]) -> Route:
    """ROUTE with its ApiErrors answered by REFUSE, and so is a request of a form that nobody thought of."""

    def run(exchange: Exchange, argument: str) -> None:
        try:
            route(exchange, argument)
        except ApiError as error:
            refuse(exchange, error)
        except ConnectionError:
            raise
        except Exception as error:
            traceback.print_exc()
            if not exchange.answered:
                refuse(exchange, ApiError(500, f"the llama.cpp stand-in failed: {error!r}"))

    return run

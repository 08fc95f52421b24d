"""Doubles of what secrets open: the gateway, and Open WebUI's log-in API. Each can be wrong on purpose."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ansible_collections.ollama_fleet.stack.plugins.modules.open_webui_secrets import signed_with

from ollama_fleet.authority import Pair

Kind = TypeVar("Kind", bound=BaseHTTPRequestHandler)


class GatewayDouble(BaseHTTPRequestHandler):
    """A gateway that knows some tokens; `open_path` lets clients go where none may."""

    known: ClassVar[set[str]] = set()
    open_path = False
    let_all_in = False
    # After how many requests it takes up its settings, as a server that reloads does.
    late = 0
    asked = 0

    def answer(self) -> None:
        type(self).asked += 1
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self.known if self.asked > self.late else set()
        if not (token in known or self.let_all_in):
            status = 401
        elif self.path == "/api/version" or self.open_path:
            status = 200
        else:
            status = 403
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


class InterfaceDouble(BaseHTTPRequestHandler):
    """Open WebUI with one user."""

    email = "admin@example.com"
    password = ""
    key = ""
    # Ways to be wrong.
    deaf = False
    takes_any_signature = False
    also = ""
    busy = False

    def session(self) -> str:
        parts = [{"alg": "HS256", "typ": "JWT"}, {"id": "1", "jti": "x"}]
        head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        return signed_with(head + ".", self.key)

    def known(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(token) and (self.takes_any_signature or token == self.session())

    def do_GET(self) -> None:
        self.answer(200 if self.known() else 401, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/v1/auths/signin":
            if self.busy:
                self.answer(429, {})
            elif body["password"] in (self.password, self.also) and body["email"] == self.email:
                self.answer(200, {"token": self.session(), "role": "admin"})
            else:
                self.answer(400, {"detail": "The email or password provided is incorrect."})
        elif self.path == "/api/v1/auths/update/password" and self.known() and body["password"] == self.password:
            if self.deaf:
                self.answer(400, {"detail": f"{body['new_password']} is too simple"})
            else:
                type(self).password = body["new_password"]
                self.answer(200, True)
        else:
            self.answer(400, {"detail": "no"})

    def answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


@contextmanager
def serving(
    double: type[Kind], pair: tuple[Path, Pair] | None = None, **settings: Any
) -> Iterator[tuple[int, type[Kind]]]:
    """Serve a double of its own with these settings on loopback; yield its port and its class, to change settings.

    pair: a folder to write to, and the certificate to show; None speaks plain HTTP
    """
    kind = type(double.__name__, (double,), settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    if pair:
        file = pair[0] / "pair.pem"
        file.write_text(pair[1].key + pair[1].certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], kind
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

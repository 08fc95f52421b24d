"""A test double of a model registry with blobs, as far as a look at a model goes: manifests and ranges over HTTP."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MEDIA = "application/vnd.ollama.image."
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ModelRegistry:
    """Serves models that are given to it by `add`.

    way: how blobs are answered: "redirect" (307 to another path), "plain" (200 or 206), "whole" (200 whatever range)
    sent: bytes of blobs that went out; asked: the paths that were asked for
    """

    def __init__(self, way: str = "redirect", certificate: tuple[Path, Path] | None = None) -> None:
        self.way = way
        self.sent = 0
        self.asked: list[str] = []
        self._manifests: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                registry._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, weights: bytes, size: int | None = None, **others: bytes) -> list[dict[str, Any]]:
        """Put a model there. size: what the manifest says of the weights. others: layers by kind."""
        blobs = [("model", weights), *others.items()]
        layers = []
        for kind, data in blobs:
            self._blobs[digest_of(data)] = data
            layers.append({"mediaType": MEDIA + kind, "digest": digest_of(data), "size": len(data)})
        layers[0]["size"] = size or len(weights)
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest_of(b"{}"), "size": 2}
        model, _, tag = name.partition(":")
        text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
        self._manifests[f"/v2/library/{model}/manifests/{tag}"] = text.encode()
        return layers

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        digest = request.path.rpartition("/")[2]
        if request.path in self._manifests:
            _send(request, 200, self._manifests[request.path])
        elif digest not in self._blobs:
            _send(request, 404, b"{}")
        elif self.way == "redirect" and request.path.startswith("/v2/"):
            _send(request, 307, b"", Location=f"http://localhost:{self._server.server_address[1]}/store/{digest}")
        else:
            data, status = self._blobs[digest], 200
            asked = re.fullmatch(r"bytes=0-(\d+)", request.headers.get("Range", ""))
            if asked and self.way != "whole":
                data, status = data[: int(asked[1]) + 1], 206
            self.sent += len(data)
            _send(request, status, data)

    def __enter__(self) -> ModelRegistry:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _send(request: BaseHTTPRequestHandler, status: int, data: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    try:
        request.wfile.write(data)
    except (BrokenPipeError, ConnectionResetError):
        # Who asked for the beginning went away: that is the point of this double's "whole".
        request.close_connection = True

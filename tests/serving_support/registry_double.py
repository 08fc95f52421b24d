"""A test double of a model registry: it answers for manifests and nothing else."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RegistryDouble:
    """Serves each manifest of `manifests`, {path below /v2/: {digest: bytes}}, over plain HTTP."""

    def __init__(self, manifests: dict[str, dict[str, int]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                layers = manifests.get(self.path.removeprefix("/v2/"))
                blobs = [{"digest": digest, "size": size} for digest, size in (layers or {}).items()]
                data = json.dumps({"config": blobs[0], "layers": blobs[1:]} if blobs else {}).encode()
                self.send_response(200 if blobs else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> RegistryDouble:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

"""A test double of an Ollama server as far as it makes models: tags, show, create, copy, blobs.

Its answers have the shape of those recorded from real servers: create, blobs and refusals are cases 030 to 037 of the
recordings, and `parameters` of /api/show are written as Go's %#v writes them (server/routes.go).
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def as_go(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, float) else f"{value:g}"


class ModelMaker:
    """models: {name: {weights, system, template, parameters, parent}}.

    lies: it says yes to everything and makes nothing. copies: it writes files anew that a model is made of, as Ollama
    0.32 does with those that llama.cpp did not write.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.blobs: set[str] = set()
        self.asked: list[str] = []
        self.lies = False
        self.copies = False
        maker = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                maker._answer(self, "GET")

            def do_POST(self) -> None:
                maker._answer(self, "POST")

            def do_HEAD(self) -> None:
                maker._answer(self, "HEAD")

            def do_DELETE(self) -> None:
                maker._answer(self, "DELETE")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, weights: bytes = b"weights", **made: Any) -> None:
        self.blobs.add(digest_of(weights))
        plain = {
            "weights": digest_of(weights),
            "system": "",
            "template": "{{ .Prompt }}",
            "parameters": {},
            "parent": "",
        }
        self.models[name] = {**plain, **made}

    def _answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append(f"{method} {request.path}")
        if request.path.startswith("/api/blobs/"):
            status, told = self._blob(method, request.path.rpartition("/")[2], body), None
        else:
            status, told = self._call(request.path, json.loads(body) if body else {})
        data = b"" if told is None or method == "HEAD" else json.dumps(told).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _blob(self, method: str, digest: str, body: bytes) -> int:
        if method == "HEAD":
            return 200 if digest in self.blobs else 404
        if digest_of(body) != digest:
            return 400
        self.blobs.add(digest)
        return 201

    def _call(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/api/tags":
            return 200, {"models": [{"name": name, "digest": self._digest(name)} for name in self.models]}
        if path == "/api/delete":
            gone = self.models.pop(body["model"], None)
            return (200, None) if gone else (404, {"error": f"model '{body['model']}' not found"})
        if path == "/api/copy":
            if not self.lies:
                self.models[body["destination"]] = dict(self.models[body["source"]])
            return 200, None
        return self._show(body["model"]) if path == "/api/show" else self._create(body)

    def _digest(self, name: str) -> str:
        return digest_of(json.dumps(self.models[name], sort_keys=True).encode())

    def _show(self, name: str) -> tuple[int, Any]:
        model = self.models[name]
        told: dict[str, Any] = {"template": model["template"], "details": {"parent_model": model["parent"]}}
        told["modelfile"] = f"FROM /models/blobs/{model['weights'].replace(':', '-')}\n"
        lines = []
        for key, value in model["parameters"].items():
            lines += [f"{key:30} {as_go(one)}" for one in (value if isinstance(value, list) else [value])]
        # An absent field is how the server says "none".
        told.update({"parameters": "\n".join(lines)} if lines else {})
        told.update({"system": model["system"]} if model["system"] else {})
        return 200, told

    def weights_of(self, digest: str) -> str:
        """What the weights are in a model that is made of a file of this digest."""
        return digest_of(digest.encode()) if self.copies else digest

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.lies:
            return 200, {"status": "success"}
        if "files" in body:
            [digest] = body["files"].values()
            if digest not in self.blobs:
                return 500, {"error": f"open /models/blobs/{digest}: no such file or directory"}
            # A chat template that the server knows brings its own stops (server/model.go, detectChatTemplate).
            made = {"weights": self.weights_of(digest), "system": "", "template": "{{ .Guessed }}", "parent": ""}
            made["parameters"] = {"stop": ["<|guessed|>"]}
        else:
            made = {**self.models[body["from"]], "parent": body["from"]}
        made.update({key: body[key] for key in ("system", "template") if key in body})
        made["parameters"] = {**made["parameters"], **body.get("parameters", {})}
        self.models[body["model"]] = made
        return 200, {"status": "success"}

    def __enter__(self) -> ModelMaker:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

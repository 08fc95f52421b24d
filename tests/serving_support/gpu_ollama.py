"""A test double of an Ollama that says it computes on a GPU, in a container: python3 gpu_ollama.py PORT RATE.

RATE: tokens per second. It has one model of 4.9 GB, answers at once, and computes nothing.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT, RATE = int(sys.argv[1]), float(sys.argv[2])
SIZE, TOKENS = 4_900_000_000, 64
MODEL = {"name": "llama3.1:8b", "model": "llama3.1:8b", "size": SIZE, "capabilities": ["completion"]}
ANSWERS: dict[str, Any] = {
    "/api/version": {"version": "0.32.15-test-double"},
    "/api/tags": {"models": [MODEL]},
    "/api/ps": {"models": [{**MODEL, "size_vram": SIZE}]},
    "/api/generate": {
        "response": "Once upon a time",
        "done": True,
        "eval_count": TOKENS,
        "eval_duration": int(TOKENS / RATE * 1e9),
    },
}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        data = json.dumps(ANSWERS.get(self.path)).encode()
        self.send_response(200 if self.path in ANSWERS else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()


ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104 - in a container, for tests

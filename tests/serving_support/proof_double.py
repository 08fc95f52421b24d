"""Doubles of all that the GPU proof asks on a host: Ollama's API, Docker's socket, nvidia-smi and docker.

Real HTTP, a real socket and real programs; what they say is told by a test. Nothing computes.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.serving_support.ollama_double import OllamaDouble

H100 = "GPU-d20a2be8-d895-daad-04d9-6194ee50bba9"
CARD = f"{H100}, NVIDIA H100 80GB HBM3, 2619, Disabled"
CONTAINER = "4f5d" * 16
RUNNER = 4899
ON_GPU = f"{RUNNER}, /usr/lib/ollama/llama-server, {H100}, 5642"


class ProofOllama(OllamaDouble):
    """An Ollama that loads what it is asked for. What it says of it is for the test to set."""

    def __init__(self) -> None:
        super().__init__()
        self.on_gpu = 1.0
        self.rates = [250.0]
        self.tokens = 64
        self.loaded: set[str] = set()
        self.capabilities: dict[str, list[str]] = {}
        self.show_tells = True

    def generated(self) -> list[dict[str, Any]]:
        """What was asked for."""
        return [body for _method, path, body in self.requests if path == "/api/generate"]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = body.get("model", "")
        if path == "/api/ps":
            size = {name: self.models[name]["size"] for name in self.loaded}
            return 200, {
                "models": [
                    {"name": name, "model": name, "size": size[name], "size_vram": int(size[name] * self.on_gpu)}
                    for name in sorted(self.loaded)
                ]
            }
        if path == "/api/show" and name in self.capabilities:
            return 200, {"capabilities": self.capabilities[name]}
        if path != "/api/generate":
            return super().answer(method, path, body)
        if name not in self.models:
            return 404, {"error": f"model '{name}' not found"}
        if body.get("keep_alive") == 0:
            self.loaded.discard(name)
            return 200, {"model": name, "response": "", "done": True, "done_reason": "unload"}
        self.loaded.add(name)
        rate = self.rates.pop(0) if len(self.rates) > 1 else self.rates[0]
        counted = {"eval_count": self.tokens, "eval_duration": int(self.tokens / rate * 1e9)} if self.tokens else {}
        return 200, {"model": name, "response": "Once upon a time", "done": True, **counted}


class Engine(socketserver.ThreadingUnixStreamServer):
    """Docker's socket with one container."""

    daemon_threads = True

    def __init__(self, path: Path, made_with_gpu: bool = True) -> None:
        devices = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}] if made_with_gpu else []
        answers = {
            "/info": {"DefaultRuntime": "runc"},
            "/containers/ollama/json": {"Id": CONTAINER, "HostConfig": {"DeviceRequests": devices}, "Config": {}},
        }

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "socket"

            def do_GET(self) -> None:
                found = answers.get(self.path)
                data = json.dumps(found or {"message": "No such container"}).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        super().__init__(str(path), Handler)
        self.path = path

    def __enter__(self) -> Engine:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()
        self.server_close()


class Programs:
    """nvidia-smi and docker in a folder that a test puts first on PATH, and the processes that they name."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.proc = folder / "bin", folder / "proc"
        self.bin.mkdir()
        (self.proc / str(RUNNER)).mkdir(parents=True)
        (self.proc / str(RUNNER) / "cgroup").write_text(f"0::/system.slice/docker-{CONTAINER}.scope\n")
        self.smi()
        self.docker()

    def path(self) -> str:
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def smi(self, cards: str = CARD, apps: str = ON_GPU, complaint: str = "") -> None:
        """What nvidia-smi says on the host."""
        body = f"echo '{complaint}'; exit 9" if complaint else ""
        script = f"""{body}
        case "$1" in
          --query-gpu=*) echo '{cards}' ;;
          --query-compute-apps=*) echo '{apps}' ;;
          *) exit 64 ;;
        esac
        """
        self._write("nvidia-smi", script)

    def docker(self, log: str = "", inside: str = "") -> None:
        """What the container's log has, and what nvidia-smi complains about in it."""
        complaint = f"echo '{inside}'; exit 255" if inside else "echo GPU 0"
        script = f"""
        case "$1" in
          logs) echo '{log}' >&2 ;;
          exec) {complaint} ;;
          *) exit 64 ;;
        esac
        """
        self._write("docker", script)

    def _write(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

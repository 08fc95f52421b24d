"""Loaded models: starts and ends their processes, keeps them for as long as asked, and speaks to them."""

import contextlib
import http.client
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .settings import Settings
from .store import Model
from .wire import FOREVER, ApiError

# What Ollama shows as the end of "for ever".
_NEVER = 292 * 365.25 * 86400


class Llama:
    """llama.cpp's server of one model, running as a child process."""

    def __init__(self, model: Path, num_ctx: int, settings: Settings) -> None:
        """Returns when the model is loaded. Raises ApiError when it cannot be."""
        self._key = secrets.token_hex()
        # The module's own name holds where the package does: lab.engine in the tree, engine in an image.
        command = [sys.executable, "-m", f"{__package__}.llama_server"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        asked = {"model": str(model), "num_ctx": num_ctx, "parallel": settings.parallel, "threads": settings.threads}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asked | {"key": self._key}) + "\n")
            self._process.stdin.flush()
        address = urlsplit(self._process.stdout.readline().strip())
        if address.hostname is None or address.port is None:
            self.stop()
            raise ApiError(
                500,
                "model failed to load, this may be due to resource limitations or an internal error, "
                "check ollama server logs for details",
            )
        self._address = (address.hostname, address.port)

    def stop(self) -> None:
        """End the process; what it is doing for anyone ends with it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def broken_off(self) -> ApiError | ConnectionAbortedError:
        """Why an answer ended early: the model's process has gone, or else the client."""
        try:
            status = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return ConnectionAbortedError("the client has gone")
        return ApiError(500, f"llama runner process has terminated: exit status {status}")

    def memory(self) -> int:
        """Bytes that the process holds in memory now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * 4096

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request with one answer. Raises ApiError."""
        response, connection = self._send(path, body)
        with contextlib.closing(connection), contextlib.closing(response):
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    def tokens(self, text: str, add_special: bool = False) -> list[int]:
        """Raises ApiError."""
        asked = {"content": text, "add_special": add_special, "parse_special": True}
        tokens: list[int] = self.ask("/tokenize", asked)["tokens"]
        return tokens

    def text(self, tokens: list[int]) -> str:
        """Raises ApiError."""
        text: str = self.ask("/detokenize", {"tokens": tokens})["content"]
        return text

    def stream(self, path: str, body: dict[str, Any], on_leave: Callable[[Callable[[], None]], Any]) -> Iterator[Any]:
        """The events of one request, which has begun when this returns.

        ON_LEAVE is called with what to call when nobody wants them any more. Raises ApiError.
        """
        return self._events(*self._send(path, body | {"stream": True}, on_leave))

    @staticmethod
    def _events(response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> Iterator[Any]:
        # A connection that breaks ends the events early; who reads them sees that the last one is missing.
        broken = contextlib.suppress(OSError, http.client.HTTPException)
        with contextlib.closing(connection), contextlib.closing(response), broken:
            for line in response:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise ApiError(500, json.dumps(event, separators=(",", ":")))
                    yield event

    def _send(
        self, path: str, body: dict[str, Any], on_leave: Callable[[Callable[[], None]], Any] = lambda _call: None
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(*self._address)
        try:
            connection.connect()
        except OSError:
            raise self.broken_off() from None
        sock = connection.sock

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        on_leave(hang_up)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        try:
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise self.broken_off() from None
        if response.status != 200:
            # Ollama hands the runner's own words on, JSON and all.
            message = response.read().decode()
            connection.close()
            raise ApiError(response.status, message)
        return response, connection


@dataclass
class Loaded:
    """A model that is loaded, or is about to be. details: of the model, whose files may go before it does."""

    model: Model
    num_ctx: int
    details: dict[str, Any]
    users: int = 0
    expires: float = 0.0
    keep_alive: float = 0.0
    llama: Llama | None = None
    loading: threading.Lock = field(default_factory=threading.Lock)


class Scheduler:
    """Loads models when they are asked for and unloads them when their time is over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[Path, Loaded] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._expire, name="expire", daemon=True).start()

    def context_of(self, model: Model, num_ctx: int | None) -> int:
        """Tokens of context that MODEL gets: never more than it was trained for."""
        asked = num_ctx or self._settings.context_length
        return min(asked, model.header.of_architecture("context_length") or asked)

    @contextlib.contextmanager
    def use(self, model: Model, num_ctx: int, keep_alive: float) -> Iterator[Llama]:
        """The loaded MODEL, for as long as the context lasts and KEEP_ALIVE seconds more."""
        entry = self._take(model, num_ctx)
        try:
            with entry.loading:
                if entry.llama is None or not entry.llama.alive:
                    entry.llama = Llama(model.gguf, entry.num_ctx, self._settings)
            yield entry.llama
        finally:
            self._give_back(entry, keep_alive)

    def unload(self, model: Model) -> None:
        """Let go of MODEL as soon as nobody uses it."""
        with self._changed:
            entry = self._loaded.get(model.gguf)
            if entry:
                entry.keep_alive = 0.0
                entry.expires = 0.0
                self._changed.notify_all()
                # An idle model is gone when this returns.
                self._changed.wait_for(lambda: entry.users > 0 or self._loaded.get(model.gguf) is not entry, timeout=5)

    def running(self) -> list[tuple[Loaded, int]]:
        """The loaded models with the bytes of memory of each, the one that expires last first."""
        with self._changed:
            entries = [entry for entry in self._loaded.values() if entry.llama]
        return [
            (entry, entry.llama.memory())
            for entry in sorted(entries, key=lambda entry: entry.expires, reverse=True)
            if entry.llama
        ]

    def stop(self) -> None:
        with self._changed:
            for entry in self._loaded.values():
                if entry.llama:
                    entry.llama.stop()
            self._loaded.clear()

    def _take(self, model: Model, num_ctx: int) -> Loaded:
        with self._changed:
            while True:
                entry = self._loaded.get(model.gguf)
                if entry and entry.num_ctx == num_ctx:
                    break
                if not entry and len(self._loaded) < self._settings.max_loaded:
                    entry = self._loaded[model.gguf] = Loaded(model, num_ctx, model.details)
                    break
                # Another context size, or no place: the model in the way goes when it is idle.
                in_the_way = [entry] if entry else list(self._loaded.values())
                idle = [other for other in in_the_way if other.users == 0]
                if idle:
                    self._drop(min(idle, key=lambda other: other.expires))
                else:
                    self._changed.wait()
            entry.users += 1
            return entry

    def _give_back(self, entry: Loaded, keep_alive: float) -> None:
        with self._changed:
            entry.users -= 1
            entry.keep_alive = keep_alive
            entry.expires = time.time() + (_NEVER if keep_alive == FOREVER else keep_alive)
            if entry.users == 0 and (entry.llama is None or not entry.llama.alive or keep_alive == 0):
                self._drop(entry)
            self._changed.notify_all()

    def _drop(self, entry: Loaded) -> None:
        if self._loaded.get(entry.model.gguf) is entry:
            del self._loaded[entry.model.gguf]
            if entry.llama:
                entry.llama.stop()
            self._changed.notify_all()

    def _expire(self) -> None:
        with self._changed:
            while True:
                now = time.time()
                idle = [entry for entry in self._loaded.values() if entry.users == 0]
                for entry in idle:
                    if entry.expires <= now:
                        self._drop(entry)
                waits = [entry.expires - now for entry in idle if entry.expires > now]
                self._changed.wait(min(waits, default=None))

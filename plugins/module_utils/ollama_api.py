"""Ollama's API as far as modules need it: model names, pulls that end in a model or a reason, sizes in a registry.

Standard library only: this file travels to the host with the module that uses it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# The server's own grammar: each part begins with a letter, a digit or an underscore.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")

# While the server checks a digest it says nothing. It may take as long as a slow disk needs to read the file.
VERIFY_BYTES_PER_SECOND = 50_000_000
LONGEST_LINE = 1 << 20


class ModelName(NamedTuple):
    """A model's name in its four parts, the server's defaults filled in."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read `[host/][namespace/]model[:tag]`; FleetError when the server would not take it."""
        rest, tag = text, DEFAULT_TAG
        if text.rfind(":") > text.rfind("/"):
            rest, _colon, tag = text.rpartition(":")
        # A slash too many ends up in the host, whose grammar refuses it.
        pieces = rest.rsplit("/", 2)
        host, namespace, model = [DEFAULT_HOST, DEFAULT_NAMESPACE][: 3 - len(pieces)] + pieces
        parts = cls(host, namespace, model, tag)
        patterns = {"host": _HOST, "namespace": _NAMESPACE, "model": _MODEL_OR_TAG, "tag": _MODEL_OR_TAG}
        for part, pattern in patterns.items():
            value = getattr(parts, part)
            if not pattern.fullmatch(value):
                raise FleetError(
                    f"'{text}' is no model name",
                    "its {} is {}".format(part, f"'{value}'" if value else "empty"),
                    "write [host/][namespace/]model[:tag], for example llama3.2:3b or models.example:5001/ns/name:tag",
                )
        return parts

    @property
    def key(self) -> tuple[str, ...]:
        """For comparison: the server ignores case."""
        return tuple(part.lower() for part in self)

    def at(self, host: str) -> ModelName:
        """The name of this model at a model cache (HOST[:PORT]); FleetError as of parse."""
        return ModelName.parse(f"{host}/{self.namespace}/{self.model}:{self.tag}")

    def is_called(self, text: str) -> bool:
        """Whether this text, which need not be a valid name, means this model."""
        try:
            return ModelName.parse(text).key == self.key
        except FleetError:
            return False

    @property
    def short(self) -> str:
        """The name as the server lists it: defaults left out, the tag spelled."""
        text = f"{self.model}:{self.tag}"
        if (self.host, self.namespace) != (DEFAULT_HOST, DEFAULT_NAMESPACE):
            text = f"{self.namespace}/{text}"
        if self.host != DEFAULT_HOST:
            text = f"{self.host}/{text}"
        return text

    def manifest_url(self, insecure: bool) -> str:
        return "{}://{}/v2/{}/{}/manifests/{}".format("http" if insecure else "https", *self)


# What the server says when a pull fails (left: part of its words), and what helps.
_REMEDIES = [
    ("file does not exist", "check the spelling of name and tag; the registry has no such model"),
    ("invalid model name", "correct the name: [host/][namespace/]model[:tag]"),
    ("no location header", "this registry is no source for Ollama: its blobs must be answered with a Location header"),
    (
        "http response to https client",
        "the registry speaks plain HTTP: set insecure: true for this model if that is meant",
    ),
    ("x509", "give the Ollama server the registry's CA (ollama_ca_certificate)"),
    ("tls:", "give the Ollama server the registry's CA (ollama_ca_certificate), or set insecure: true"),
    ("digest mismatch", "run again; if it says so once more, the registry's copy is damaged: put the model there anew"),
    ("no space left", "free disk space below ollama_data_dir, or choose a smaller model"),
    ("requires a newer version", "set ollama_image to a newer version of Ollama"),
    ("realm host", "the registry wants a log-in, which Ollama cannot give: use one without"),
    ("unauthorized", "the registry wants a log-in, which Ollama cannot give: use one without"),
    ("no such host", "check the registry's name, and DNS on the host"),
    ("max retries exceeded", "check the link to the registry, then run again: the pull goes on where it stopped"),
    ("connection refused", "start the registry or correct its address, then run again"),
    ("timeout", "check the link to the registry, then run again: the pull goes on where it stopped"),
    ("eof", "check the link to the registry, then run again: the pull goes on where it stopped"),
]
RUN_AGAIN = "run again: the server keeps what it has and goes on from there. Its log (docker logs ollama) may say more"


def remedy_for(words: str) -> str:
    """What to do when a pull failed with these words of the server."""
    lowered = words.lower()
    return next((remedy for part, remedy in _REMEDIES if part in lowered), RUN_AGAIN)


class PullProgress:
    """What the lines of a pull say so far. Times are seconds of a monotonic clock."""

    def __init__(self, name: str, stall_timeout: float, now: float, expected: int = 0) -> None:
        self.name = name
        self.stall_timeout = stall_timeout
        # Bytes of the whole model where its manifest is known: the server names its layers one after the other.
        self.expected = expected
        self.succeeded = False
        self._layers: dict[str, tuple[int, int]] = {}
        self._last: Any = None
        self._moved_at = now
        self._status = ""

    @property
    def total(self) -> int:
        return max(self.expected, sum(total for total, _completed in self._layers.values()))

    @property
    def completed(self) -> int:
        return sum(completed for _total, completed in self._layers.values())

    @property
    def seen(self) -> str:
        return "{} of {} ({})".format(
            megabytes(self.completed), megabytes(self.total), self._status or "nothing said yet"
        )

    @property
    def state(self) -> dict[str, Any]:
        """For who watches the pull: {model, source, status, completed, total}, in bytes."""
        return {
            "model": self.name,
            "source": ModelName.parse(self.name).host,
            "status": self._status,
            "completed": self.completed,
            "total": self.total,
        }

    @property
    def silence_allowed(self) -> float:
        """Seconds without news that are no stall yet."""
        if self._layers and not self._status.startswith("pulling"):
            return self.stall_timeout + self.total / VERIFY_BYTES_PER_SECOND
        return self.stall_timeout

    def feed(self, line: dict[str, Any], now: float) -> None:
        """Take one line; FleetError when it carries an error or when nothing has moved for too long.

        `completed` may go backwards (the server starts a part of a layer again): that is news, not an error.
        """
        if line.get("error"):
            words = str(line["error"])
            raise FleetError(f"Model {self.name} was not pulled", f"the server says: {words}", remedy_for(words))
        self._status = str(line.get("status", ""))
        self.succeeded = self._status == "success"
        if line.get("digest"):
            self._layers[line["digest"]] = (int(line.get("total") or 0), int(line.get("completed") or 0))
        news = (self._status, self.completed)
        if news != self._last:
            self._last, self._moved_at = news, now
        elif now - self._moved_at > self.silence_allowed:
            raise self.stalled(now - self._moved_at)

    def stalled(self, seconds: float) -> FleetError:
        return FleetError(
            f"Model {self.name} was not pulled",
            f"nothing moved for {seconds:.0f} s at {self.seen}",
            f"check the link between this host and {ModelName.parse(self.name).host}, then run again: the pull goes on "
            "where it stopped",
        )


def megabytes(count: int) -> str:
    return "%.1f MB" % (count / 1e6)


class _Exchange(NamedTuple):
    """A request that was sent, and the answer that began."""

    connection: http.client.HTTPConnection
    wire: socket.socket
    response: http.client.HTTPResponse

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class OllamaServer:
    """One Ollama server. Each call answers or raises a FleetError that names the server."""

    def __init__(self, base_url: str, timeout: float = 30) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self._url = urllib.parse.urlsplit(self.base_url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise FleetError(
                f"base_url is '{base_url}'",
                "it is no http or https address",
                "write for example http://127.0.0.1:11434",
            )

    def _open(self, method: str, path: str, body: Any, timeout: float) -> _Exchange:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=timeout)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, self._url.path + path, data, {"Content-Type": "application/json"})
            # Taken now: the connection forgets its socket when the answer says "Connection: close".
            wire = connection.sock
            return _Exchange(connection, wire, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(
                f"Ollama at {self.base_url} does not answer",
                str(error) or type(error).__name__,
                "see that its container runs (docker ps; docker logs ollama), or correct base_url",
            ) from error

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request with one answer, as parsed JSON (None when the body is empty)."""
        exchange = self._open(method, path, body, self.timeout)
        try:
            return _answer(f"{method} {path} at {self.base_url}", exchange.response)
        finally:
            exchange.close()

    def model(self, name: ModelName) -> dict[str, Any] | None:
        """A model's entry in the server's list, None when it has none."""
        answer = self.call("GET", "/api/tags")
        if not isinstance(answer, dict):
            raise FleetError(
                f"{self.base_url} is no Ollama server",
                f"it answers /api/tags with {str(answer)[:80]!r}",
                "correct base_url, or stop what else listens there",
            )
        return next((entry for entry in answer.get("models") or [] if name.is_called(entry.get("name", ""))), None)

    def layer_digest(self, listed_name: str) -> str | None:
        """The digest of a model's weights, which is the same wherever it was pulled from; None when not shown."""
        modelfile = (self.call("POST", "/api/show", {"model": listed_name}) or {}).get("modelfile") or ""
        found = re.search(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", modelfile, re.MULTILINE)
        return "sha256:" + found.group(1) if found else None

    def copy(self, source: ModelName, destination: ModelName) -> None:
        self.call("POST", "/api/copy", {"source": source.short, "destination": destination.short})

    def delete(self, listed_name: str) -> None:
        self.call("DELETE", "/api/delete", {"model": listed_name})

    def pull(
        self,
        name: ModelName,
        insecure: bool,
        stall_timeout: float,
        expected: int = 0,
        tell: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Pull to the end. Every way to fail raises; the server keeps what it has for the next try.

        expected: bytes of the whole model, 0 when not known. tell: gets PullProgress.state after each line.
        """
        progress = PullProgress(name.short, stall_timeout, time.monotonic(), expected)
        body = {"model": name.short, "insecure": insecure, "stream": True}
        exchange = self._open("POST", "/api/pull", body, stall_timeout)
        try:
            if exchange.response.status != 200:
                _answer(f"Model {name.short} was not pulled", exchange.response)
            for line in _lines(exchange, progress):
                progress.feed(line, time.monotonic())
                if tell:
                    tell(progress.state)
        finally:
            # Closing stops the server's pull at once: nothing goes on unseen.
            exchange.close()
        if not progress.succeeded:
            raise FleetError(
                f"Model {name.short} was not pulled",
                f"the server's answer was cut off at {progress.seen}",
                RUN_AGAIN,
            )


class UnreachableError(FleetError):
    """Nobody answers at the server's address."""


def _answer(what: str, response: http.client.HTTPResponse) -> Any:
    try:
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise FleetError(what, f"the answer was cut off: {error}", RUN_AGAIN) from error
    try:
        value = json.loads(text) if text.strip() else None
    except ValueError:
        value = text.strip()
    if response.status == 200 and not isinstance(value, str):
        return value
    words = str(value.get("error")) if isinstance(value, dict) else str(value)
    raise FleetError(what, f"the server says: {words} (HTTP {response.status})", remedy_for(words))


def _lines(exchange: _Exchange, progress: PullProgress) -> Iterator[dict[str, Any]]:
    while True:
        exchange.wire.settimeout(progress.silence_allowed)
        try:
            raw = exchange.response.readline(LONGEST_LINE)
        except TimeoutError as error:
            raise progress.stalled(progress.silence_allowed) from error
        except (OSError, http.client.HTTPException):
            return  # the caller sees that success is missing, and says how far it came
        if not raw:
            return
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            if not raw.endswith(b"\n"):
                return  # half a line: cut off
            raise FleetError(
                f"Model {progress.name} was not pulled",
                f"the answer is not Ollama's: {raw[:80]!r}",
                "check that base_url is an Ollama server",
            )
        yield line


class Manifest(NamedTuple):
    """What a model is made of. layers: digest -> bytes, the config among them; config: its digest."""

    layers: dict[str, int]
    config: str = ""

    @classmethod
    def read(cls, manifest: Any) -> Manifest:
        """From a registry's or a model store's JSON; ValueError, KeyError or TypeError when it is none."""
        blobs = [manifest["config"], *manifest["layers"]]
        return cls({str(blob["digest"]): int(blob["size"]) for blob in blobs}, str(manifest["config"]["digest"]))

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(self.layers.values())

    def differences(self, wanted: Iterable[str]) -> list[str]:
        """Digests that only one of the two has. The config does not count: who re-packs a model writes it anew."""
        return sorted({*self.layers, self.config} ^ {*wanted, self.config})

    def missing_bytes(self, models_dir: str) -> int:
        """Bytes that a pull still has to write into this model store (parts that are there count)."""
        blobs = os.path.join(models_dir, "blobs")
        missing = 0
        for digest, size in self.layers.items():
            path = os.path.join(blobs, digest.replace(":", "-"))
            if not os.path.exists(path):
                missing += max(0, size - _written(path + "-partial"))
        return missing

    def drop_damaged(self, models_dir: str) -> None:
        """Delete blobs that are not what their names say: a server deletes the first that it finds and trusts the rest.

        Its next pull takes what is there for whole (server/images.go, PullModel).
        """
        for digest in self.layers:
            path = os.path.join(models_dir, "blobs", digest.replace(":", "-"))
            if os.path.exists(path) and "sha256:" + _sha256(path) != digest:
                os.remove(path)


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def _written(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def fetch_manifest(name: ModelName, insecure: bool, timeout: float = 10, ca_file: str | None = None) -> Manifest | None:
    """What the registry says a model is made of; None when it does not say (the server may still reach it).

    ca_file: authority of the registry's certificate, trusted beside those that the host knows.
    """
    request = urllib.request.Request(  # noqa: S310 - http or https by construction
        name.manifest_url(insecure), headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    )
    try:
        context = ssl.create_default_context()
        if ca_file:
            context.load_verify_locations(ca_file)
        with urllib.request.urlopen(request, timeout=timeout, context=context) as response:  # noqa: S310
            return Manifest.read(json.load(response))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def stored_manifest(name: ModelName, models_dir: str) -> Manifest | None:
    """What a model in this model store is made of; None when it is not there, or cannot be read."""
    try:
        with open(os.path.join(models_dir, "manifests", *name), encoding="utf-8") as file:
            return Manifest.read(json.load(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def free_bytes(path: str) -> int:
    """Free bytes for root's own programs where this path is, or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize

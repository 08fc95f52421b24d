"""A small client of Ollama's native API that keeps every line of an answer as it came, and when it came."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self

import requests
import urllib3

from ollama_fleet.errors import FleetError

# Seconds for an answer that no model has a part in.
_QUICK = 30.0

FaultKind = Literal["server_error", "cut", "garbled", "no_counters"]


class UnreachableError(FleetError):
    """No answer at all: the connection was refused, closed or silent."""


class ApiError(FleetError):
    """The server answered, with an error. `status` is the HTTP status."""

    def __init__(self, what: str, why: str, remedy: str, status: int) -> None:
        super().__init__(what, why, remedy)
        self.status = status


@dataclass(frozen=True)
class Line:
    """One line of an answer: its bytes without the line end, and when that line end arrived (perf_counter, ns)."""

    arrival_ns: int
    raw: bytes


@dataclass(frozen=True)
class Fault:
    """Why an answer is no good.

    server_error: an error line inside the stream (its HTTP status is 200 all the same);
    cut: the connection broke or fell silent; garbled: a line is no JSON object;
    no_counters: the stream came to a regular end without its last object.
    """

    kind: FaultKind
    message: str


@dataclass(frozen=True)
class Counters:
    """What the server counted and timed (ns). The server leaves a zero out, so None is "absent or zero"."""

    done_reason: str | None
    total_ns: int | None
    load_ns: int | None
    prompt_tokens: int | None
    prompt_ns: int | None
    cached_tokens: int | None
    output_tokens: int | None
    output_ns: int | None


@dataclass(frozen=True)
class Answer:
    """A whole streamed answer. `fault` is set, or `final` is: the last object, with the counters."""

    sent_ns: int
    ended_ns: int
    lines: tuple[Line, ...]
    first_token_ns: int | None
    last_token_ns: int | None
    final: Mapping[str, Any]
    fault: Fault | None

    @property
    def counters(self) -> Counters:
        """The last object's counters; all None where the fault left none."""
        return read_counters(self.final)


def read_counters(final: Mapping[str, Any]) -> Counters:
    """The counters of a last object. A value that is no positive whole number counts as absent."""

    def whole(name: str) -> int | None:
        value = final.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    # A count of zero cached tokens is news, where the field is there at all.
    cached = final.get("prompt_eval_cached_count")
    reason = final.get("done_reason")
    return Counters(
        done_reason=reason if isinstance(reason, str) else None,
        total_ns=whole("total_duration"),
        load_ns=whole("load_duration"),
        prompt_tokens=whole("prompt_eval_count"),
        prompt_ns=whole("prompt_eval_duration"),
        cached_tokens=cached if isinstance(cached, int) and not isinstance(cached, bool) and cached >= 0 else None,
        output_tokens=whole("eval_count"),
        output_ns=whole("eval_duration"),
    )


def read_answer(sent_ns: int, lines: tuple[Line, ...], ended_ns: int, broken: str | None = None) -> Answer:
    """Make sense of the lines of a streamed answer; `broken` says how the connection failed, if it did.

    A token's line is one with text in `response` or, of a thinking model, in `thinking`.
    """
    fault = Fault("cut", broken) if broken else None
    token_times = []
    final: Mapping[str, Any] = {}
    for line in lines:
        try:
            value = json.loads(line.raw)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            fault = fault or Fault("garbled", f"a line that is no JSON object: {line.raw[:80]!r}")
            break
        if "error" in value:
            fault = Fault("server_error", str(value["error"]))
            break
        if value.get("response") or value.get("thinking"):
            token_times.append(line.arrival_ns)
        if value.get("done") is True:
            final = MappingProxyType(value)
    if fault is None and not final:
        fault = Fault("no_counters", "the stream ended without its last object, the one with the counters")
    return Answer(
        sent_ns=sent_ns,
        ended_ns=ended_ns,
        lines=lines,
        first_token_ns=token_times[0] if token_times else None,
        last_token_ns=token_times[-1] if token_times else None,
        final=final,
        fault=fault,
    )


class Client:
    """Talks to one server. `name` is used in messages; timeouts are in seconds, `silence` is between two bytes."""

    def __init__(self, url: str, name: str, connect: float = 10.0, silence: float = 300.0) -> None:
        self._url = url
        self._name = name
        self._timeout = (connect, silence)
        self._session = requests.Session()
        # A proxy from the environment has no business between us and a port of our own loopback.
        self._session.trust_env = False
        # Compressed lines would arrive in lumps.
        self._session.headers["Accept-Encoding"] = "identity"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def version(self) -> str:
        """The server's version, word for word."""
        return str(self._json("GET", "/api/version", timeout=_QUICK).get("version", ""))

    def tags(self) -> list[dict[str, Any]]:
        """The models that are there."""
        return _models(self._json("GET", "/api/tags", timeout=_QUICK))

    def ps(self) -> list[dict[str, Any]]:
        """The models that are loaded."""
        return _models(self._json("GET", "/api/ps", timeout=_QUICK))

    def show(self, model: str) -> dict[str, Any]:
        """Everything the server knows about one model."""
        return self._json("POST", "/api/show", {"model": model})

    def preload(self, model: str, options: Mapping[str, Any], keep_alive: str | int | None = None) -> None:
        """Load a model, and answer nothing. Without `keep_alive` the server's own setting holds."""
        body: dict[str, Any] = {"model": model, "options": dict(options), "stream": False}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        self._json("POST", "/api/generate", body)

    def generate(self, body: Mapping[str, Any]) -> Answer:
        """Send a prompt and take the answer as it streams in.

        Raises ApiError for an HTTP error and UnreachableError where there was no answer; whatever goes wrong once an
        answer has begun is told by `Answer.fault`, with the lines that came before it.
        """
        sent = time.perf_counter_ns()
        response = self._request("POST", "/api/generate", {**body, "stream": True}, stream=True)
        lines: list[Line] = []
        broken = None
        try:
            for line in _lines(response.raw):
                lines.append(line)
        except urllib3.exceptions.ReadTimeoutError:
            broken = f"no byte for {self._timeout[1]:g} s in the middle of an answer"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            broken = f"the connection broke in the middle of an answer ({type(error).__name__})"
        finally:
            response.close()
        return read_answer(sent, tuple(lines), time.perf_counter_ns(), broken)

    def _json(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        response = self._request(method, path, body, timeout=timeout)
        try:
            value = response.json()
        except requests.exceptions.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise self._api_error(path, response.status_code, "its answer is no JSON object")
        if "error" in value:
            raise self._api_error(path, response.status_code, str(value["error"]))
        return value

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self._url + path,
                json=body,
                stream=stream,
                timeout=(self._timeout[0], timeout or self._timeout[1]),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            silent = isinstance(error, requests.Timeout)
            raise UnreachableError(
                f"{self._name}: {path}",
                "no answer in time" if silent else "the connection was refused or closed without an answer",
                "see the server's log on that host: `docker logs ollama`",
            ) from error
        if response.status_code != requests.codes.ok:
            with response:
                raise self._api_error(path, response.status_code, _error_text(response))
        return response

    def _api_error(self, path: str, status: int, why: str) -> ApiError:
        return ApiError(
            f"{self._name}: {path}", f"{why} (HTTP {status})", "see the server's log on that host", status=status
        )


def _error_text(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return response.text.strip()[:200] or "no reason given"


def _models(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = value.get("models")
    return [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []


def _lines(raw: urllib3.BaseHTTPResponse) -> Iterator[Line]:
    """Lines as they arrive, each stamped at once. Works for chunked and for plain bodies alike."""
    rest = b""
    while data := raw.read1(65536):
        now = time.perf_counter_ns()
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if line.strip():
                yield Line(now, line)
    if rest.strip():
        yield Line(time.perf_counter_ns(), rest)

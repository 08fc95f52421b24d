"""Pulls models from a registry over HTTP, by the rules that Ollama's own client keeps."""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import select
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from .names import DEFAULT_HOST, Name
from .store import Store, blob_path
from .wire import quote

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_TICK = 0.06
_STALLED = 30.0
# With 1, 2, ... 32 s after each: a pull over a link that is gone for good ends after 95 s, 30 of them stalled.
_RETRIES = 6
_PIECE = 1 << 18
# Trying again does not help against these.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}

Progress = Generator[dict[str, Any], None, None]


class PullError(Exception):
    """A pull that ended; the text is Ollama's."""


class _RedirectsToSameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to the same host name; one to another host is the answer that was looked for."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        new_url: str = rest[-1]
        if urlsplit(new_url).hostname != urlsplit(req.full_url).hostname:
            return None
        return super().redirect_request(req, *rest)


_opener = urllib.request.build_opener(_RedirectsToSameHost)
# One pull at a time writes a blob; others wait for it and find it there.
_writing: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


def pull(store: Store, name: Name, insecure: bool) -> Progress:
    """Pull NAME into STORE, yielding Ollama's progress lines; closing the generator stops the pull and keeps what came.

    Raises PullError.
    """
    yield {"status": "pulling manifest"}
    base = f"{'http' if insecure else 'https'}://{name.host}/v2/{name.namespace}/{name.model}"
    try:
        raw = _manifest(name, f"{base}/manifests/{name.tag}")
        manifest = json.loads(raw)
        blobs = [*manifest["layers"], manifest["config"]]
    except PullError as error:
        raise PullError(f"pull model manifest: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PullError(f"pull model manifest: {error}") from None
    fresh = []
    for blob in blobs:
        path = blob_path(store.blobs, blob["digest"])
        if path.exists():
            yield _line(blob, blob["size"])
        else:
            yield from _fetch(f"{base}/blobs/{blob['digest']}", blob, path)
            fresh.append((blob, path))
    yield {"status": "verifying sha256 digest"}
    for blob, path in fresh:
        _verify(blob["digest"], path)
    yield {"status": "writing manifest"}
    store.add(name, raw)
    yield {"status": "success"}


def _manifest(name: Name, url: str) -> bytes:
    if name.host == DEFAULT_HOST:
        raise PullError(
            "the llama.cpp stand-in has no default registry: name one, as in models.lab:5001/library/smollm2:135m"
        )
    with _get(url, {"Accept": _MANIFEST_TYPE}) as response:
        data: bytes = response.read()
        return data


def _get(url: str, headers: dict[str, str]) -> Any:
    """The open response. Raises PullError."""
    try:
        return _opener.open(urllib.request.Request(url, headers=headers), timeout=_STALLED)  # noqa: S310 - http(s) only
    except urllib.error.HTTPError as error:
        if error.code in {302, 307} and error.headers.get("Location"):
            return error
        with error:
            raise PullError(_refusal(error, url)) from None
    except (OSError, http.client.HTTPException) as error:
        raise PullError(f"Get {quote(url)}: {_network_error(error, url)}") from None


def _refusal(error: urllib.error.HTTPError, url: str) -> str:
    if error.code == 404:
        return "file does not exist"
    if error.code == 401:
        realm = re.search(r'realm="([^"]*)"', error.headers.get("WWW-Authenticate", ""))
        realm_host = urlsplit(realm.group(1)).netloc if realm else ""
        return f"realm host {quote(realm_host)} does not match original host {quote(urlsplit(url).netloc)}"
    return f"{error.code}: {error.read().decode(errors='replace')}"


def _network_error(error: Exception, url: str) -> str:
    """The cause in the words of Go's net package."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate_problem(reason)}"
    if isinstance(reason, ssl.SSLError) and reason.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return "http: server gave HTTP response to HTTPS client"
    if isinstance(reason, socket.gaierror):
        return f"dial tcp: lookup {parts.hostname}: no such host"
    if isinstance(reason, TimeoutError):
        return f"dial tcp {parts.hostname}:{port}: i/o timeout"
    if isinstance(reason, OSError) and reason.errno:
        with contextlib.suppress(OSError):
            address = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[-1][4][0]
            return f"dial tcp {address}:{port}: connect: {os.strerror(reason.errno).lower()}"
    return str(reason) or "EOF"


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    if "self-signed" in error.verify_message or "unable to get local issuer" in error.verify_message:
        return "certificate signed by unknown authority"
    return error.verify_message


def _line(blob: dict[str, Any], completed: int) -> dict[str, Any]:
    line = {"status": f"pulling {blob['digest'][7:19]}", "digest": blob["digest"], "total": blob["size"]}
    return line | {"completed": completed} if completed else line


def _fetch(url: str, blob: dict[str, Any], path: Path) -> Progress:
    partial = path.with_name(f"{path.name}-partial")
    while not _writing[path].acquire(timeout=_TICK):
        yield _line(blob, partial.stat().st_size if partial.exists() else blob["size"])
    try:
        if not path.exists():
            direct = _location(url)
            yield from _download(direct, blob, partial)
            partial.replace(path)
    finally:
        _writing[path].release()


def _location(url: str) -> str:
    """Where the bytes are: Ollama wants a Location header, be the answer a redirect to another host or a plain 200."""
    with _get(url, {}) as response:
        location: str = response.headers.get("Location", "")
    if not location:
        raise PullError("http: no Location header in response")
    return urljoin(url, location)


def _download(url: str, blob: dict[str, Any], partial: Path) -> Progress:
    """Append to PARTIAL until all is there; a broken connection is taken up again where it broke."""
    try:
        with partial.open("ab") as file:
            yield from _all_pieces(url, blob, file)
    except OSError as error:
        raise PullError(f"write {partial}: {os.strerror(error.errno or 0).lower()}") from None


def _all_pieces(url: str, blob: dict[str, Any], file: IO[bytes]) -> Progress:
    failures = 0
    while (start := file.tell()) < blob["size"]:
        try:
            yield from _pieces(url, blob, file)
            problem = "unexpected EOF"
        except (OSError, http.client.HTTPException, PullError) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            problem = str(error)
        if file.tell() < blob["size"]:
            failures = 1 if file.tell() > start else failures + 1
            yield from _wait(2.0 ** (failures - 1), blob, file.tell())
            if failures == _RETRIES:
                raise PullError(f"max retries exceeded: {problem}")


def _pieces(url: str, blob: dict[str, Any], file: IO[bytes]) -> Progress:
    with _get(url, {"Range": f"bytes={file.tell()}-{blob['size'] - 1}"}) as response:
        if file.tell() and response.status != 206:
            # This origin knows no ranges: from the start.
            file.seek(0)
            file.truncate()
        shown = arrived = time.monotonic()
        readable = True
        while file.tell() < blob["size"]:
            if readable:
                piece = response.read1(_PIECE)
                if not piece:
                    break
                file.write(piece)
                arrived = time.monotonic()
            elif time.monotonic() - arrived > _STALLED:
                raise TimeoutError(f"no byte for {_STALLED:.0f} s")
            if time.monotonic() - shown >= _TICK:
                shown = time.monotonic()
                file.flush()
                yield _line(blob, file.tell())
            # A link that stands still is told of, too: so it is noticed when the client has gone. After a piece this
            # large nothing waits in the response's own buffer.
            readable = file.tell() < blob["size"] and bool(select.select([response], [], [], _TICK)[0])
    file.flush()


def _wait(seconds: float, blob: dict[str, Any], completed: int) -> Progress:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(_TICK)
        yield _line(blob, completed)


def _verify(digest: str, path: Path) -> None:
    with path.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if found != digest:
        path.unlink()
        raise PullError(f"digest mismatch, file must be downloaded again: want {digest}, got {found}")

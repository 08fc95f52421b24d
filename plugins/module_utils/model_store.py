# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Fills a model store (manifests/ and blobs/, as Ollama has it) from a registry, without an Ollama server.

Every blob is checked against its digest before it gets its name, and a manifest is written after all of its blobs: what
has its name is whole. A download that was cut goes on where it stopped. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    DEFAULT_HOST,
    Manifest,
    ModelName,
    megabytes,
)

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CHUNK = 1 << 20
# How often a blob is asked for again that broke off, as long as bytes come in between.
TRIES = 5
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
Tell = Callable[[dict[str, Any]], None]
GO_ON = "run again: it goes on where it stopped"


class LinkError(Exception):
    """A download broke off."""


class Registry:
    """Where models come from. stall_timeout: seconds without a byte after which a link counts as dead."""

    def __init__(self, insecure: bool, ca_certificate: str, stall_timeout: float) -> None:
        self._scheme = "http" if insecure else "https"
        self._timeout = stall_timeout
        try:
            context = ssl.create_default_context()
            if ca_certificate:
                context.load_verify_locations(cadata=ca_certificate)
        except (ssl.SSLError, ValueError) as error:
            raise FleetError("the certificate of the source's authority", str(error), "give it as PEM") from error
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def manifest(self, name: ModelName) -> bytes:
        """A model's manifest, byte for byte; FleetError when there is none."""
        with self._open(name, f"manifests/{name.tag}", {"Accept": MANIFEST_TYPE}) as response:
            text: bytes = response.read()
        return text

    def blob(self, name: ModelName, digest: str, start: int) -> Any:
        """The answer with a blob's bytes from ``start`` on, or with all of them (status 200)."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._open(name, f"blobs/{digest}", headers)
        # Some send no bytes but only where they are, and not as a redirection.
        place = response.headers.get("Location")
        if place and response.headers.get("Content-Length") == "0":
            response.close()
            return self._open(name, place, headers)
        return response

    def _open(self, name: ModelName, path: str, headers: dict[str, str]) -> Any:
        base = f"{self._scheme}://{name.host}/v2/{name.namespace}/{name.model}/"
        url = urllib.parse.urljoin(base, path)
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https by construction
        try:
            return self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            error.close()
            remedy = "check the spelling of name and tag" if error.code == 404 else f"see the log of {name.host}"
            raise FleetError(
                f"Model {name.short} was not fetched", f"{name.host} answers {url} with {error.code}", remedy
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise FleetError(
                f"Model {name.short} was not fetched",
                f"{name.host} does not answer: {reason}",
                f"check the link between this host and {name.host}, its name and its certificate, then {GO_ON}",
            ) from error


class Fetch:
    """One model on its way from a registry. done: bytes of its layers that are there in full."""

    def __init__(self, registry: Registry, source: ModelName, manifest: Manifest, tell: Tell) -> None:
        self.registry, self.source, self.total, self.done = registry, source, manifest.size, 0
        self._tell = tell

    def at(self, digest: str, completed: int) -> None:
        """Tell how far the layer is, in the shape of ollama_api.PullProgress.state."""
        told = {"model": self.source.short, "source": self.source.host, "status": f"pulling {digest[7:19]}"}
        self._tell({**told, "completed": self.done + completed, "total": self.total})

    def failed(self, why: str, remedy: str) -> FleetError:
        return FleetError(f"Model {self.source.short} was not fetched", why, remedy)


class ModelStore:
    """A folder with manifests/ and blobs/."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one run at a time may change a store."""
        os.makedirs(os.path.join(self.path, "blobs"), exist_ok=True)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FleetError(
                f"model store {self.path}", "another run is filling it", "wait for its end, then run again"
            ) from error

    def manifest_path(self, name: ModelName) -> str:
        """Models are kept under the name that clients of this store ask for: from which registry is no part."""
        return os.path.join(self.path, "manifests", DEFAULT_HOST, name.namespace, name.model, name.tag)

    def blob_path(self, digest: str) -> str:
        return os.path.join(self.path, "blobs", digest.replace(":", "-"))

    def raw_manifest(self, name: ModelName) -> bytes | None:
        try:
            with open(self.manifest_path(name), "rb") as file:
                return file.read()
        except OSError:
            return None

    def missing(self, manifest: Manifest) -> dict[str, int]:
        """Digest -> bytes of the blobs that are not there, or have another size."""
        return {digest: size for digest, size in manifest.layers.items() if _size(self.blob_path(digest)) != size}

    def bytes_to_fetch(self, manifest: Manifest) -> int:
        missing = self.missing(manifest)
        return sum(max(0, size - max(0, _size(self.part_path(digest)))) for digest, size in missing.items())

    def part_path(self, digest: str) -> str:
        # Not Ollama's own name for a part, which has a form of its own.
        return self.blob_path(digest) + ".part"

    def damaged(self, manifest: Manifest) -> list[str]:
        """Digests of the blobs that are there and are not what their name says. Reads all of them."""
        return [
            digest
            for digest in manifest.layers
            if os.path.exists(self.blob_path(digest)) and _digest_of_file(self.blob_path(digest)) != digest
        ]

    def fetch(self, registry: Registry, name: ModelName, source: ModelName, raw: bytes, tell: Tell) -> None:
        """Have all blobs of this manifest, the biggest first, then the manifest itself."""
        manifest = read_manifest(source, raw)
        missing = self.missing(manifest)
        fetch = Fetch(registry, source, manifest, tell)
        fetch.done = manifest.size - sum(missing.values())
        for digest, size in sorted(missing.items(), key=lambda item: -item[1]):
            self._fetch_blob(fetch, digest, size)
            fetch.done += size
        path = self.manifest_path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as file:
            file.write(raw)
            _settle(file)
        os.replace(path + ".new", path)

    def _fetch_blob(self, fetch: Fetch, digest: str, size: int) -> None:
        part, host = self.part_path(digest), fetch.source.host
        tries, there = 0, _size(part)
        while there < size:
            reason = self._fetch_part(fetch, digest, max(0, there))
            tries, before, there = tries + 1, there, _size(part)
            if there < size and (there <= before or tries == TRIES):
                raise fetch.failed(
                    f"its layer {digest[:19]} broke off at {megabytes(there)} of {megabytes(size)}: {reason}",
                    f"check the link between this host and {host}, then {GO_ON}",
                )
        found = _digest_of_file(part)
        if found != digest:
            os.unlink(part)
            raise fetch.failed(
                f"its layer {digest} came as {found}",
                f"run again; if it says so once more, the copy at {host} is damaged: put the model there anew",
            )
        os.chmod(part, 0o644)
        os.replace(part, self.blob_path(digest))

    def _fetch_part(self, fetch: Fetch, digest: str, start: int) -> str:
        """Add to a part what comes; return why it ended, which matters when that was before its end."""
        with fetch.registry.blob(fetch.source, digest, start) as response:
            if response.status != 206:
                start = 0
            try:
                with open(self.part_path(digest), "r+b" if start else "wb") as file:
                    file.seek(start)
                    while chunk := _read(response):
                        file.write(chunk)
                        start += len(chunk)
                        fetch.at(digest, start)
                    _settle(file)
            except LinkError as error:
                return str(error)
            except OSError as error:
                raise fetch.failed(
                    f"{self.part_path(digest)} cannot be written: {error.strerror}",
                    f"free disk space there, then {GO_ON}",
                ) from error
        return "the connection was closed"

    def remove(self, name: ModelName) -> None:
        """Take a model's manifest away, and the blobs and parts that no other model needs."""
        os.unlink(self.manifest_path(name))
        for path in self.unneeded():
            os.unlink(path)

    def unneeded(self) -> list[str]:
        """Files among the blobs that no manifest names, parts included."""
        needed = set()
        for folder, _folders, files in os.walk(os.path.join(self.path, "manifests")):
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    needed |= {
                        os.path.basename(self.blob_path(digest)) for digest in Manifest.read(json.load(file)).layers
                    }
        blobs = os.path.join(self.path, "blobs")
        return [
            os.path.join(blobs, name) for name in sorted(os.listdir(blobs)) if name.removesuffix(".part") not in needed
        ]


def read_manifest(name: ModelName, raw: bytes) -> Manifest:
    """A manifest from its text; FleetError when it is none, or names a blob in a way that cannot be a file's name."""
    try:
        manifest = Manifest.read(json.loads(raw))
    except (ValueError, KeyError, TypeError) as error:
        raise FleetError(
            f"Model {name.short} was not fetched", "what came is no manifest of a model", f"see what {name.host} is"
        ) from error
    odd = [digest for digest in manifest.layers if not DIGEST.fullmatch(digest)]
    if odd:
        raise FleetError(
            f"Model {name.short} was not fetched", f"its manifest names a layer {odd[0]!r}", f"see what {name.host} is"
        )
    return manifest


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(str(error) or type(error).__name__) from error
    return chunk


def _settle(file: Any) -> None:
    """What gets its name after this is on the disk, also when the power goes."""
    file.flush()
    os.fsync(file.fileno())


def _digest_of_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Models that an Ollama server makes: what they are now, what they shall be, and the calls in between.

Standard library only: this file travels to the host with the module that uses it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.parse
from typing import Any, NamedTuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, OllamaServer

# Hashing and copying a big file takes the server a while, and it says nothing meanwhile.
SLOW = 1800
BUSY = "see the server's log (docker logs ollama), then run again"


# A model of a file is made of one of this name, which the server then shows as its parent: Ollama 0.32 writes a file
# anew that llama.cpp did not write, so that the digest of the weights no longer tells which file it was.
_OF_FILE = re.compile(r"sha256-([0-9a-f]{64}):gguf")


class Made(NamedTuple):
    """What a model is, as /api/show tells it.

    weights: digest of its first layer. parameters: {name: [values]}. file: digest of the file that it was made of.
    """

    weights: str | None
    system: str
    template: str
    parameters: dict[str, list[Any]]
    file: str | None = None


def name_of_file(checksum: str) -> ModelName:
    """The model that stands for a file while a model is made of it."""
    return ModelName.parse(checksum.replace(":", "-") + ":gguf")


def parse_parameters(text: str) -> dict[str, list[Any]]:
    """Read what /api/show calls parameters: a line for each value, texts in Go's quotes, numbers as %#v writes them."""
    found: dict[str, list[Any]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_parameter(value.strip()))
    return found


def _parameter(text: str) -> Any:
    try:
        return plain(json.loads(text))
    except ValueError:
        return text.strip('"`')


def plain(value: Any) -> Any:
    """A value as it can be compared: 0 and 0.0 are the same, and true is no number."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def asked_parameters(parameters: dict[str, Any]) -> dict[str, list[Any]]:
    """The same of what an inventory asks for."""
    return {
        name: [plain(one) for one in (value if isinstance(value, list) else [value])]
        for name, value in parameters.items()
    }


def show(server: OllamaServer, listed_name: str) -> Made:
    """What a model of the server is."""
    told = server.call("POST", "/api/show", {"model": listed_name}) or {}
    file = _OF_FILE.fullmatch((told.get("details") or {}).get("parent_model") or "")
    return Made(
        server.layer_digest(listed_name),
        told.get("system") or "",
        told.get("template") or "",
        parse_parameters(told.get("parameters") or ""),
        "sha256:" + file.group(1) if file else None,
    )


def goal_of(base: Made, params: dict[str, Any]) -> Made:
    """What a model is to be that is made of another one: what is not given stays as it is there."""
    return Made(
        base.weights,
        params["system"] or base.system,
        params["template"] or base.template,
        {**base.parameters, **asked_parameters(params["parameters"] or {})},
    )


def is_made(now: Made, goal: Made) -> bool:
    """Whether a model is what it is to be.

    A template that was not asked for is the server's own choice, and so are the stops that it brings with one that it
    knows in a file.
    """
    parameters = dict(now.parameters)
    if goal.file and "stop" not in goal.parameters:
        parameters.pop("stop", None)
    of_file = goal.file is not None and goal.file == now.file
    return (
        (of_file or now.weights == goal.weights)
        and (now.system.strip(), parameters) == (goal.system.strip(), goal.parameters)
        and (not goal.template or now.template.strip() == goal.template.strip())
    )


def create(server: OllamaServer, name: ModelName, params: dict[str, Any]) -> None:
    """Have the server make a model; FleetError with its words when it does not."""
    own = {key: params[key] for key in ("system", "template", "parameters") if params[key]}
    if not params["checksum"]:
        _create(server, name, {"from": ModelName.parse(params["from"]).short, **own})
        return
    file = name_of_file(params["checksum"])
    _create(server, file, {"files": {"model.gguf": params["checksum"]}})
    try:
        _create(server, name, {"from": file.short, **own})
    finally:
        forget_file(server, params["checksum"])


def forget_file(server: OllamaServer, checksum: str) -> None:
    """Delete the model that stands for a file, if it is there: the models that are made of it keep what they need."""
    if server.model(name_of_file(checksum)):
        server.delete(name_of_file(checksum).short)


def _create(server: OllamaServer, name: ModelName, body: dict[str, Any]) -> None:
    patient = OllamaServer(server.base_url, timeout=SLOW)
    told = patient.call("POST", "/api/create", {"model": name.short, "stream": False, **body})
    if isinstance(told, dict) and told.get("status") != "success":
        raise FleetError(f"model {name.short} was not made", f"the server says: {told}", BUSY)


def has_blob(server: OllamaServer, digest: str) -> bool:
    """Whether the server has a file already."""
    return _status(server, "HEAD", digest, None) == http.client.OK


def send_blob(server: OllamaServer, digest: str, path: str) -> None:
    """Give the server a file; it checks the digest itself and refuses another."""
    status = _status(server, "POST", digest, path)
    if status not in (http.client.OK, http.client.CREATED):
        raise FleetError(
            f"file {path}",
            f"the server does not take it (HTTP {status})",
            "compare sha256sum of the file with its checksum in the inventory, and free disk space on the host",
        )


def _status(server: OllamaServer, method: str, digest: str, path: str | None) -> int:
    url = urllib.parse.urlsplit(server.base_url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=SLOW if path else server.timeout)
    try:
        if path:
            with open(path, "rb") as file:
                length = str(os.path.getsize(path))
                connection.request(method, f"{url.path}/api/blobs/{digest}", file, {"Content-Length": length})
        else:
            connection.request(method, f"{url.path}/api/blobs/{digest}")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise FleetError(f"Ollama at {server.base_url}", str(error) or type(error).__name__, BUSY) from error
    finally:
        connection.close()

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a model is made of, and the beginning of its weights: from the server's own store, or from its registry.

Nothing is pulled: of the weights only the first bytes are asked for. Standard library only: this file travels to the
host, because the host is who must reach the registry.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from typing import Any

from ansible_collections.ollama_fleet.stack.plugins.module_utils import gguf_header
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import Manifest, ModelName

WEIGHTS = "application/vnd.ollama.image.model"
PARAMETERS = "application/vnd.ollama.image.params"
LONGEST_PARAMETERS = 1 << 16
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
# The words of the tokenizer come after what is wanted and are most of the header: 256 KiB hold the rest of every model
# that was looked at. Where they do not, more is asked for, up to the biggest headers that there are.
STEPS = (1 << 18, 1 << 21, 1 << 25)
_LONGEST_MANIFEST = 1 << 22
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NEEDED = ("block_count", "embedding_length", "attention.head_count")


class Registry:
    """The registries of models, as this host reaches them."""

    def __init__(self, ca_file: str | None = None, timeout: float = 10) -> None:
        self._timeout = timeout
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise FleetError(f"certificate {ca_file}", str(error), "name a file with a CA's certificate") from error

    def manifest(self, name: ModelName, insecure: bool) -> list[dict[str, Any]]:
        """The layers that a pull would bring: [{digest, media_type, size}], the configuration included."""
        text = self._get(name, name.manifest_url(insecure), {"Accept": _MANIFEST_TYPE}, _LONGEST_MANIFEST)
        return layers_of(text, f"the manifest of {name.short}")

    def beginning(self, name: ModelName, insecure: bool, digest: str, count: int) -> bytes:
        """The first bytes of a layer. Redirects are followed; a server that ignores the range is cut off."""
        scheme = "http" if insecure else "https"
        url = f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}/blobs/{digest}"
        return self._get(name, url, {"Range": f"bytes=0-{count - 1}"}, count)

    def _get(self, name: ModelName, url: str, headers: dict[str, str], count: int) -> bytes:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https by construction
        try:
            with urllib.request.urlopen(request, timeout=self._timeout, context=self._tls) as response:  # noqa: S310
                return bytes(response.read(count))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    raise _unread(name, "its registry has no such model", "correct its name or its tag") from error
                raise _unread(name, f"its registry answers HTTP {error.code}", "see why, or use another one") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise _unread(
                name,
                f"its registry at {name.host} cannot be asked: {reason}",
                "check name, link, proxy and CA certificate of the registry; insecure: true is for plain HTTP",
            ) from error


def _unread(name: ModelName, why: str, remedy: str) -> FleetError:
    return FleetError(f"model {name.short}", why, remedy)


def layers_of(text: bytes, what: str) -> list[dict[str, Any]]:
    """The layers that a manifest names."""
    try:
        manifest = json.loads(text)
        layers = [
            {"digest": str(blob["digest"]), "media_type": str(blob["mediaType"]), "size": int(blob["size"])}
            for blob in [*manifest["layers"], manifest["config"]]
        ]
    except (ValueError, KeyError, TypeError):
        layers = []
    # A digest becomes a file's name.
    if not layers or not all(_DIGEST.fullmatch(layer["digest"]) for layer in layers):
        raise FleetError(what, "it is no manifest of a model", "see what answers at that address")
    return layers


def stored_layers(models_dir: str, name: ModelName) -> list[dict[str, Any]] | None:
    """The layers of a model that the server has; None when it has not, or not whole."""
    path = os.path.join(models_dir, "manifests", *name)
    try:
        with open(path, "rb") as file:
            layers = layers_of(file.read(_LONGEST_MANIFEST), path)
    except (OSError, FleetError):
        return None
    return layers if all(os.path.exists(blob_path(models_dir, layer["digest"])) for layer in layers) else None


def blob_path(models_dir: str, digest: str) -> str:
    return os.path.join(models_dir, "blobs", digest.replace(":", "-"))


def missing_of(models_dir: str, layers: list[dict[str, Any]]) -> dict[str, int]:
    """{digest: bytes that a pull still has to write} of the layers that are not there in whole."""
    missing = {x["digest"]: Manifest({x["digest"]: x["size"]}).missing_bytes(models_dir) for x in layers}
    return {digest: size for digest, size in missing.items() if size}


def is_enough(header: gguf_header.Header, with_tensors: bool) -> bool:
    """Whether a longer beginning would tell nothing more that is wanted.

    A model's own keys stand together, before or after those of the tokenizer.
    """
    if with_tensors:
        return header.tensors is not None
    if header.complete:
        return True
    architecture = header.pairs.get("general.architecture")
    told = all(f"{architecture}.{key}" in header.pairs for key in _NEEDED) and "tokenizer.ggml.tokens" in header.pairs
    return told and next(reversed(header.pairs)).startswith("tokenizer.")


def wanted(header: gguf_header.Header) -> dict[str, Any]:
    """What is worth sending home of a header: numbers, and how many of the rest there are."""
    architecture = header.pairs.get("general.architecture")
    keys = ("general.architecture", "general.file_type", "tokenizer.ggml.tokens")
    pairs = {}
    for key, value in header.pairs.items():
        if key in keys or key.startswith(f"{architecture}."):
            texts = isinstance(value, list) and value and isinstance(value[0], str)
            pairs[key] = {"count": len(value)} if texts else value
    return pairs


def own_context(text: bytes) -> int | None:
    """The context that a model's own parameters ask for: the server gives it that instead of its own setting."""
    try:
        asked = json.loads(text).get("num_ctx")
    except (ValueError, AttributeError):
        return None
    return asked if isinstance(asked, int) and asked > 0 else None


def embeddings(header: gguf_header.Header) -> dict[str, int | None] | None:
    """The sizes of the two tensors that tell whether embeddings serve as the output too; None where unread."""
    if header.tensors is None:
        return None
    return {name: size for name, size in header.tensors.items() if name in ("token_embd.weight", "output.weight")}

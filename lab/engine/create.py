"""Makes models of other models and of GGUF files, with the lines and the layers of Ollama's own server."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from . import template
from .gguf import BadGgufError, Header, read_header
from .gguf_copy import copied
from .names import BadNameError, Name
from .registry import pull
from .store import MEDIA, Blob, Model, Store, blob_path, is_digest
from .wire import ApiError, check_messages, disk_error, dumps, number

FIELDS = {
    **dict.fromkeys(("model", "name", "from", "system", "template"), "string"),
    "files": "map[string]string",
    "parameters": "map[string]interface {}",
    "messages": "[]api.Message",
    "stream": "bool",
}
_NOT_HERE = ("adapters", "draft_files", "info", "parser", "quantization", "quantize", "renderer", "requires")
# The fields of a config in their order; what else an older one holds does not come along.
_CONFIG = (
    *("model_format", "model_family", "model_families", "model_type", "file_type", "renderer", "parser", "requires"),
    *("capabilities", "context_length", "embedding_length", "base_name", "architecture", "os"),
)

Lines = Generator[dict[str, Any], None, None]


@dataclass(frozen=True)
class _Layer:
    """One layer of a model in the making. origin: the model that it comes from; empty for one of its own."""

    media: str
    digest: str
    size: int
    origin: str = ""
    is_new: bool = False

    @classmethod
    def of(cls, blob: Blob, kind: str) -> "_Layer":
        return cls(MEDIA + kind, blob.digest, blob.size, is_new=blob.is_new)

    @property
    def entry(self) -> dict[str, Any]:
        """As the manifest has it."""
        entry = {"mediaType": self.media, "digest": self.digest, "size": self.size}
        return entry | {"from": self.origin} if self.origin else entry

    @property
    def status(self) -> str:
        return f"{'creating new' if self.is_new else 'using existing'} layer {self.digest}"


def create(store: Store, request: dict[str, Any]) -> Lines:
    """Make the model that REQUEST describes, yielding Ollama's lines; they raise ApiError and PullError.

    Raises ApiError at once where the request itself is at fault.
    """
    try:
        name = Name.parse(request.get("model") or request.get("name", ""))
    except BadNameError:
        raise ApiError(400, "invalid model name") from None
    asked = next((field for field in _NOT_HERE if request.get(field)), None)
    if asked:
        raise ApiError(501, f"the llama.cpp stand-in does not know {asked} of /api/create")
    _check_files(request.get("files", {}))
    check_messages(request.get("messages", []), "CreateRequest")
    template.check(request.get("template", ""))
    return _make(store, name, request)


def _check_files(files: dict[str, Any]) -> None:
    for path, digest in files.items():
        if not isinstance(digest, str):
            raise ApiError(
                400, "json: cannot unmarshal a digest into Go struct field CreateRequest.files of type string"
            )
        if PurePosixPath(path).is_absolute() or {"", ".", ".."} & set(path.split("/")):
            raise ApiError(400, "file path must be relative")
        if not digest:
            raise ApiError(400, "invalid digest format")


def _make(store: Store, name: Name, request: dict[str, Any]) -> Lines:
    if request.get("from"):
        base = yield from _base(store, request["from"])
        layers, config = _inherited(base), {key: base.config[key] for key in _CONFIG if key in base.config}
    elif "files" in request:
        layer, config = yield from _weights(store, request["files"])
        layers = [layer]
    else:
        raise ApiError(400, "neither 'from' or 'files' was specified")
    try:
        layers = _with_asked(store, layers, request)
        made = store.put([dumps(config) + b"\n"])
        yield from ({"status": layer.status} for layer in layers)
        yield {"status": "writing manifest"}
        store.add(name, _manifest(made, layers))
    except OSError as error:
        raise disk_error("write", error) from None
    yield {"status": "success"}


def _manifest(config: Blob, layers: list[_Layer]) -> bytes:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _Layer("application/vnd.docker.container.image.v1+json", config.digest, config.size).entry,
        "layers": [layer.entry for layer in layers],
    }
    return dumps(manifest) + b"\n"


def _base(store: Store, text: str) -> Generator[dict[str, Any], None, Model]:
    """The model that is called so; one that is not here is pulled, as Ollama does."""
    try:
        name = Name.parse(text)
    except BadNameError:
        raise ApiError(400, "invalid model name") from None
    model = store.find(name)
    if not model:
        yield from pull(store, name, insecure=False)
        model = store.find(name)
    if not model:
        raise ApiError(500, f"model {text} was pulled and is gone")
    return model


def _inherited(base: Model) -> list[_Layer]:
    origin = base.name.short
    return [_Layer(entry["mediaType"], entry["digest"], entry["size"], origin) for entry in base.manifest["layers"]]


def _weights(store: Store, files: dict[str, str]) -> Generator[dict[str, Any], None, tuple[_Layer, dict[str, Any]]]:
    """The layer of a GGUF file that the store has, and the config of a model of it."""
    kinds = {_kind(store, path, digest) for path, digest in files.items()}
    if not kinds or "" in kinds:
        raise ApiError(400, "unknown type")
    if kinds != {"gguf"} or len(files) > 1:
        raise ApiError(501, "the llama.cpp stand-in makes a model of one GGUF file")
    (digest,) = files.values()
    yield {"status": "parsing GGUF"}
    if not is_digest(digest):
        raise ApiError(500, "invalid digest format")
    path = blob_path(store.blobs, digest)
    try:
        if not _is_gguf(path):
            raise ApiError(400, "supplied file was not in GGUF format")
        config = _config_of(read_header(path))
    except OSError as error:
        raise disk_error("open", error) from None
    except (BadGgufError, KeyError) as error:
        raise ApiError(500, f"the llama.cpp stand-in cannot read the file: {error}") from None
    yield {"status": "verifying conversion"}
    try:
        copy = store.put(copied(path))
    except OSError as error:
        raise disk_error("write", error) from None
    except BadGgufError as error:
        what = "failed to validate GGUF with llama-quantize without compatibility patches"
        raise ApiError(500, f"{what}: {error}") from None
    return _Layer.of(copy, "model"), config


def _kind(store: Store, path: str, digest: str) -> str:
    """What a file is by its name, or by what it begins with: "gguf", "safetensors", or nothing that is known."""
    suffix = PurePosixPath(path).suffix.removeprefix(".")
    if suffix in {"gguf", "safetensors"}:
        return suffix
    blob = blob_path(store.blobs, digest)
    return "gguf" if is_digest(digest) and blob.exists() and _is_gguf(blob) else ""


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _config_of(header: Header) -> dict[str, Any]:
    return {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture],
        "model_type": header.parameter_size,
        "file_type": header.quantization,
        "architecture": "amd64",
        "os": "linux",
    }


def _with_asked(store: Store, layers: list[_Layer], request: dict[str, Any]) -> list[_Layer]:
    """LAYERS with those that the request asks for: in the place of others of their kind, but a licence is one more."""

    def add(kind: str, data: bytes, replaces: bool = True) -> None:
        kept = [layer for layer in layers if not (replaces and layer.media == MEDIA + kind)]
        layers[:] = [*kept, _Layer.of(store.put([data]), kind)]

    for kind in ("template", "system"):
        if request.get(kind):
            add(kind, request[kind].encode())
    for text in _licenses(request.get("license")):
        add("license", text.encode(), replaces=False)
    parameters = _parameters(store, layers) | request.get("parameters", {})
    if parameters:
        add("params", dumps(_plain(dict(sorted(parameters.items())))) + b"\n")
    messages = [
        {"role": one.get("role", ""), "content": one.get("content") or ""} for one in request.get("messages", [])
    ]
    if messages:
        add("messages", dumps(messages) + b"\n")
    return layers


def _licenses(asked: object) -> Iterator[str]:
    for text in asked if isinstance(asked, list) else [asked or ""]:
        if not isinstance(text, str):
            raise ApiError(500, "json: cannot unmarshal a licence into Go value of type string")
        if text:
            yield text


def _parameters(store: Store, layers: list[_Layer]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.media == f"{MEDIA}params":
            merged |= json.loads(blob_path(store.blobs, layer.digest).read_bytes())
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else number(value)

"""The models on disk, laid out as Ollama lays them out: blobs by digest, manifests by name."""

import contextlib
import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .gguf import Header, read_header
from .names import Name

MEDIA = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Model:
    """One name and its manifest. digest: of the manifest, as /api/tags shows it. size: bytes of all its blobs."""

    name: Name
    digest: str
    modified: float
    manifest: dict[str, Any]
    blobs: Path

    @property
    def size(self) -> int:
        return sum(int(blob["size"]) for blob in [self.manifest["config"], *self.manifest["layers"]])

    @property
    def config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(blob_path(self.blobs, self.manifest["config"]["digest"]).read_bytes())
        return loaded

    @property
    def gguf(self) -> Path:
        """The model file itself."""
        return self._paths("model")[0]

    @property
    def parent(self) -> str:
        """The model that this one was made of; empty where it was made of none."""
        return next((str(layer.get("from", "")) for layer in self.layers_of("model")), "")

    @property
    def header(self) -> Header:
        return _header(self.gguf)

    @property
    def details(self) -> dict[str, Any]:
        """As the API shows them."""
        config = self.config
        return {
            "parent_model": self.parent,
            "format": config["model_format"],
            "family": config["model_family"],
            "families": config["model_families"],
            "parameter_size": config["model_type"],
            "quantization_level": config["file_type"],
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The options that come with the model."""
        merged: dict[str, Any] = {}
        for path in self._paths("params"):
            merged |= json.loads(path.read_bytes())
        return merged

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The dialogue that comes with the model: {role, content}."""
        return [message for path in self._paths("messages") for message in json.loads(path.read_bytes())]

    def text(self, kind: str) -> str:
        """The layer "template", "system" or "license"; empty where the model has none."""
        return "\n".join(path.read_text() for path in self._paths(kind))

    def layers_of(self, kind: str) -> list[dict[str, Any]]:
        """The layers of one kind ("model", "params"), as the manifest has them."""
        return [layer for layer in self.manifest["layers"] if layer["mediaType"] == MEDIA + kind]

    def _paths(self, kind: str) -> list[Path]:
        return [blob_path(self.blobs, layer["digest"]) for layer in self.layers_of(kind)]


@functools.lru_cache(maxsize=16)
def _header(path: Path) -> Header:
    # A blob never changes under its name.
    return read_header(path)


def blob_path(blobs: Path, digest: str) -> Path:
    """Where the blob "sha256:..." lies."""
    return blobs / digest.replace(":", "-")


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


@dataclass(frozen=True)
class Blob:
    """A blob that was written. is_new: it was not there before."""

    digest: str
    size: int
    is_new: bool


class Store:
    """The folder of OLLAMA_MODELS."""

    def __init__(self, root: Path) -> None:
        self.blobs = root / "blobs"
        self._manifests = root / "manifests"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._manifests.mkdir(exist_ok=True)

    def models(self) -> list[Model]:
        """All whole models, the newest first; those of one second by name."""
        names = (Name(*path.relative_to(self._manifests).parts) for path in self._manifests.glob("*/*/*/*"))
        found = [model for name in names if (model := self.find(name))]
        return sorted(found, key=lambda model: (-int(model.modified), model.name.short))

    def find(self, name: Name) -> Model | None:
        path = self._manifests / name.path
        try:
            raw, modified = path.read_bytes(), path.stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Model(name, hashlib.sha256(raw).hexdigest(), modified, json.loads(raw), self.blobs)

    def add(self, name: Name, manifest: bytes) -> None:
        """Make MANIFEST, whose blobs are here, the model NAME."""
        path = self._manifests / name.path
        replaced = self.find(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _new_file(path.parent.parent, ".") as (file, written):
            _write(file, manifest)
            written.replace(path)
        if replaced:
            self._prune(replaced)

    def put(self, pieces: Iterable[bytes]) -> Blob:
        """Write PIECES as the blob that their digest says, whatever it is. Raises OSError."""
        digest, size = hashlib.sha256(), 0
        with _new_file(self.blobs, "sha256-") as (file, written):
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                _write(file, piece)
            name = f"sha256:{digest.hexdigest()}"
            path = blob_path(self.blobs, name)
            is_new = not path.exists()
            if is_new:
                written.replace(path)
        return Blob(name, size, is_new)

    def copy(self, model: Model, name: Name) -> None:
        self.add(name, (self._manifests / model.name.path).read_bytes())

    def remove(self, model: Model) -> None:
        path = self._manifests / model.name.path
        path.unlink()
        for folder in list(path.parents)[:3]:
            if any(folder.iterdir()):
                break
            folder.rmdir()
        self._prune(model)

    def _prune(self, gone: Model) -> None:
        """Delete the blobs of a model that is gone, but for those that another model shares."""
        used = {digest for model in self.models() for digest in _digests(model.manifest)}
        for digest in set(_digests(gone.manifest)) - used:
            blob_path(self.blobs, digest).unlink(missing_ok=True)


@contextlib.contextmanager
def _new_file(folder: Path, prefix: str) -> Iterator[tuple[IO[bytes], Path]]:
    """A file that others may read, to be given its name when it is whole; it goes where it did not get one."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, delete=False, buffering=0) as file:
        path = Path(file.name)
        try:
            path.chmod(0o644)
            yield file, path
        finally:
            path.unlink(missing_ok=True)


def _write(file: IO[bytes], data: bytes) -> None:
    """All of DATA. Raises OSError that names the file."""
    try:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from error


def _digests(manifest: dict[str, Any]) -> Iterator[str]:
    yield manifest["config"]["digest"]
    yield from (layer["digest"] for layer in manifest["layers"])

"""The models on disk, laid out as Ollama lays them out: blobs by digest, manifests by name."""

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .gguf import Header, read_header
from .names import Name

MEDIA = "application/vnd.ollama.image."


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
        return self._layers("model")[0]

    @property
    def header(self) -> Header:
        return _header(self.gguf)

    @property
    def parameters(self) -> dict[str, Any]:
        """The options that come with the model."""
        merged: dict[str, Any] = {}
        for path in self._layers("params"):
            merged |= json.loads(path.read_bytes())
        return merged

    def text(self, kind: str) -> str:
        """The layer "template", "system" or "license"; empty where the model has none."""
        return "\n".join(path.read_text() for path in self._layers(kind))

    def _layers(self, kind: str) -> list[Path]:
        layers = [layer for layer in self.manifest["layers"] if layer["mediaType"] == MEDIA + kind]
        return [blob_path(self.blobs, layer["digest"]) for layer in layers]


@functools.lru_cache(maxsize=16)
def _header(path: Path) -> Header:
    # A blob never changes under its name.
    return read_header(path)


def blob_path(blobs: Path, digest: str) -> Path:
    """Where the blob "sha256:..." lies."""
    return blobs / digest.replace(":", "-")


class Store:
    """The folder of OLLAMA_MODELS."""

    def __init__(self, root: Path) -> None:
        self.blobs = root / "blobs"
        self._manifests = root / "manifests"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._manifests.mkdir(exist_ok=True)

    def models(self) -> list[Model]:
        """All whole models, the newest first."""
        names = (Name(*path.relative_to(self._manifests).parts) for path in self._manifests.glob("*/*/*/*"))
        found = [model for name in names if (model := self.find(name))]
        return sorted(found, key=lambda model: model.modified, reverse=True)

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
        with tempfile.NamedTemporaryFile(dir=path.parent.parent, prefix=".", delete=False) as file:
            file.write(manifest)
        Path(file.name).replace(path)
        if replaced:
            self._prune(replaced)

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


def _digests(manifest: dict[str, Any]) -> Iterator[str]:
    yield manifest["config"]["digest"]
    yield from (layer["digest"] for layer in manifest["layers"])

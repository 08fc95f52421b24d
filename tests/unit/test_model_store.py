import dataclasses
import hashlib
import json
import struct
import zipfile
from pathlib import Path

import pytest

from lab import model_store
from ollama_fleet.errors import FleetError

ARCHITECTURE = struct.pack("<Q20sIQ5s", 20, b"general.architecture", 8, 5, b"llama")
GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + ARCHITECTURE + b"the tensors"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model package in two parts, and a list of models that names it alone."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    members = {
        "part1": ("m.gguf.part00", GGUF[:30]),
        "part2": ("m.gguf.part01", GGUF[30:]),
        "main": ("LICENSE", b"free"),
    }
    for wheel, (name, data) in members.items():
        with zipfile.ZipFile(folder / f"{wheel}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"data/{name}", data)
    source = model_store._Source(
        name="mini",
        tag="1",
        sha256=hashlib.sha256(GGUF).hexdigest(),
        parts=(("part1", ".part00"), ("part2", ".part01")),
        license=("main", "/LICENSE"),
        texts=(("template", "{{ .Prompt }}"),),
    )
    monkeypatch.setattr(model_store, "_SOURCES", (source,))
    return folder


def test_a_tree_as_a_registry_serves_it(wheels: Path, tmp_path: Path) -> None:
    (entry,) = model_store.build(wheels, tmp_path / "out")
    folder = tmp_path / "out/v2/library/mini"
    raw = (folder / "manifests/1").read_bytes()
    manifest = json.loads(raw)
    blobs = [manifest["config"], *manifest["layers"]]
    assert entry == model_store.ModelEntry(
        "mini", "1", f"sha256:{hashlib.sha256(raw).hexdigest()}", sum(blob["size"] for blob in blobs)
    )
    for blob in blobs:
        data = (folder / "blobs" / blob["digest"].replace(":", "-")).read_bytes()
        assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (blob["digest"], blob["size"])
    assert [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]] == ["model", "template", "license"]
    assert len(list((folder / "blobs").iterdir())) == len(blobs)


def test_what_is_there_is_left_and_what_changed_is_made_anew(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    first = model_store.build(wheels, tmp_path / "out", lines.append)
    assert model_store.build(wheels, tmp_path / "out", lines.append) == first
    assert lines == ["unpacking mini:1"]
    changed = dataclasses.replace(model_store._SOURCES[0], texts=(("template", "{{ .Prompt }}!"),))
    monkeypatch.setattr(model_store, "_SOURCES", (changed,))
    assert model_store.build(wheels, tmp_path / "out", lines.append) != first


@pytest.mark.parametrize("fault", ["other bytes", "no package"])
def test_nothing_half_made_stays(wheels: Path, tmp_path: Path, fault: str) -> None:
    part = wheels / "part2-1.0-py3-none-any.whl"
    part.unlink()
    if fault == "other bytes":
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr("data/m.gguf.part01", b"others")
    with pytest.raises(FleetError, match="run again"):
        model_store.build(wheels, tmp_path / "out")
    assert list((tmp_path / "out/v2/library").iterdir()) == []

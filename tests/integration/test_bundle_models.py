"""Models on their way through a bundle: from a registry onto a disk, from there into a cache that asks no registry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet import bundle
from tests.engine_support.origin import Origin
from tests.integration.foundation import ROOT, Playground, changes
from tests.serving_support.registry_tree import add_model, digest_of

WEIGHTS = b"weights" * 1000


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    root = tmp_path / "registry"
    add_model(root, "fleet:1", WEIGHTS)
    add_model(root, "host:1", WEIGHTS, b"template")
    origin = Origin(root).start()
    yield origin
    origin.stop()


def play_of(playbook: str, name: str) -> dict[str, Any]:
    """One play of a playbook: its others need Docker and apt."""
    plays = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())
    found: dict[str, Any] = next(play for play in plays if play["name"] == name)
    return found


def run(folder: Path, origin: Origin, playbook: str, play: str) -> subprocess.CompletedProcess[str]:
    base = {"source": f"127.0.0.1:{origin.port}/library/", "insecure": True}

    def entry(name: str) -> dict[str, Any]:
        return {"name": name, **base, "source": f"{base['source']}{name}"}

    chosen = play_of(playbook, play)
    fleet = [entry("fleet:1"), {"name": "gone:1", "state": "absent"}, {"name": "short:1", "alias": "fleet:1"}]
    shared = {
        **chosen.get("vars", {}),
        "ollama_models_list": fleet,
        "bundle_folder": f"{folder}/disk",
        "model_cache_dir": f"{folder}/cache",
        "ansible_user": "{{ lookup('ansible.builtin.pipe', 'id -un') }}",
    }
    hosts = {"gpu1": shared, "gpu2": {**shared, "ollama_models_host_list": [{**entry("host:1"), "state": "present"}]}}
    result = Playground(folder).run_on(hosts, chosen["tasks"], "--forks", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_models_of_all_hosts_get_onto_the_disk_once_and_into_a_cache(tmp_path: Path, origin: Origin) -> None:
    save = ("bundle_save", "Put the models on the disk")
    run(tmp_path, origin, *save)
    blob = tmp_path / "disk" / "models" / "blobs" / digest_of(WEIGHTS).replace(":", "-")
    assert blob.read_bytes() == WEIGHTS
    manifests = tmp_path / "disk/models/manifests/registry.ollama.ai/library"
    assert sorted(path.name for path in manifests.iterdir()) == ["fleet", "host"]
    origin.become()
    assert changes(run(tmp_path, origin, *save)) == 0
    assert origin.sent == []
    bundle.seal(tmp_path / "disk")
    assert len(bundle.verify(tmp_path / "disk")) == 5

    run(tmp_path, origin, "bundle_load", "Bring the models to the caches")
    for path in (tmp_path / "disk" / "models").rglob("*"):
        if path.is_file():
            copied = tmp_path / "cache" / path.relative_to(tmp_path / "disk" / "models")
            assert copied.read_bytes() == path.read_bytes()
            assert copied.stat().st_mode & 0o777 == 0o644
    assert not (tmp_path / "cache" / ".incoming").exists()

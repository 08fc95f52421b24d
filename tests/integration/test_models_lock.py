"""The lock of models through Ansible: two hosts, one registry, a lock file between them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.foundation import Playground
from tests.serving_support.model_registry import ModelRegistry, digest_of
from tests.unit.plugins.gguf_bytes import gguf

PAIRS = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
}
OLD, NEW = gguf(PAIRS) + b"old", gguf(PAIRS) + b"newer"
HOST = {
    "gpus": [],
    "wsl_gpu": False,
    "memory": {"total_bytes": 64 * 1024**3, "available_bytes": 64 * 1024**3},
    "ollama": {"reachable": False, "version": None, "models": []},
}


class Fleet:
    """gpu1 has the model, gpu2 has not; both are this machine with stores of their own."""

    def __init__(self, folder: Path, registry: ModelRegistry) -> None:
        self.folder, self.registry = folder, registry
        self.playground = Playground(folder)
        self.lock_file = folder / "ollama_models_lock.yml"
        (folder / "told").mkdir()
        layers = registry.add("m:1", OLD)
        self.store("gpu1", layers, OLD)

    def store(self, host: str, layers: list[dict[str, Any]], weights: bytes) -> None:
        store = self.folder / host / "models"
        shutil.rmtree(store, ignore_errors=True)
        manifest = store / "manifests" / "registry.ollama.ai" / "library" / "m" / "1"
        manifest.parent.mkdir(parents=True)
        config = {"mediaType": "config", "digest": digest_of(b"{}"), "size": 2}
        manifest.write_text(json.dumps({"config": config, "layers": layers}))
        (store / "blobs").mkdir()
        for blob in (weights, b"{}"):
            (store / "blobs" / digest_of(blob).replace(":", "-")).write_bytes(blob)

    def run(self, tasks_from: str, *arguments: str, **settings: Any) -> tuple[str, dict[str, list[str]]]:
        """Run a task file of the role; what Ansible said, and the kinds of findings of each host."""
        for path in (self.folder / "told").iterdir():
            path.unlink()
        tasks = [
            {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": HOST, "cacheable": True}},
            {
                "name": "Do",
                "ansible.builtin.include_role": {
                    "name": "ollama_fleet.stack.ollama_models",
                    "tasks_from": tasks_from,
                },
            },
        ]
        hosts = {
            host: {
                "ollama_models_dir": str(self.folder / host / "models"),
                "ollama_models_list": [
                    {"name": "m:1", "source": f"{self.registry.address}/library/m:1", "insecure": True}
                ],
                "ollama_fleet_plan_folder": str(self.folder / "told"),
                **settings,
            }
            for host in ("gpu1", "gpu2")
        }
        result = self.playground.run_on(hosts, tasks, *arguments)
        told = {path.stem: json.loads(path.read_text()) for path in sorted((self.folder / "told").iterdir())}
        kinds = {host: [one["kind"] for one in found.get("findings", [])] for host, found in told.items()}
        return result.stdout + result.stderr, kinds

    @property
    def locked(self) -> list[str]:
        return list(yaml.safe_load(self.lock_file.read_text())["models"]["m:1"]["layers"])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ModelRegistry() as registry:
        yield Fleet(tmp_path, registry)


def test_lock_diff_update(fleet: Fleet) -> None:
    _said, checked = fleet.run("lock", "--check", ollama_fleet_models_mode="lock")
    assert (checked, fleet.lock_file.exists()) == ({"gpu1": [], "gpu2": []}, False)
    _said, found = fleet.run("lock", ollama_fleet_models_mode="lock")
    assert (found, fleet.locked) == ({"gpu1": [], "gpu2": []}, [digest_of(OLD)])

    fleet.registry.add("m:1", NEW)
    said, found = fleet.run("lock")
    assert found == {"gpu1": ["update"], "gpu2": ["update"]}
    assert fleet.locked == [digest_of(OLD)]

    # gpu2 has nothing yet, and would get what nobody decided for.
    said, _ = fleet.run("fit")
    assert "its registry has other layers than the lock" in said
    assert "models.lock --update" in said
    assert "gpu2" in next(line for line in said.splitlines() if line.startswith("fatal: "))

    _said, found = fleet.run("lock", ollama_fleet_models_mode="update")
    assert (found, fleet.locked) == ({"gpu1": ["drift"], "gpu2": []}, [digest_of(NEW)])
    said, _ = fleet.run("verify")
    assert "gpu1: models are not those that are locked" in said


def test_drift_that_the_registry_can_mend_is_told_to_the_role(fleet: Fleet) -> None:
    fleet.run("lock", ollama_fleet_models_mode="lock")
    fleet.store("gpu1", [{**fleet.registry.add("other:1", NEW)[0]}], NEW)
    said, _ = fleet.run("fit", "-v")
    assert '"restore": ["m:1"]' in said
    fleet.registry.add("m:1", NEW)
    fleet.store("gpu2", fleet.registry.add("m:1", NEW), NEW)
    said, _ = fleet.run("fit", "-v")
    assert '"restore": []' in said
    assert "the registry does not have those" in said

"""models.plan and models.diff as a person calls them, on this machine and on a host that is not there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.errors import FleetError
from ollama_fleet.models import lock, plan
from tests.serving_support.model_registry import ModelRegistry
from tests.unit.plugins.gguf_bytes import gguf

# A model that needs 128 GiB for 131072 tokens of context: 1 MiB for each, in 128 layers of 8 heads in full.
PAIRS = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.block_count": 128,
    "llama.embedding_length": 2048,
    "llama.feed_forward_length": 8192,
    "llama.context_length": 1 << 20,
    "llama.attention.head_count": 8,
}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """An inventory whose one host is this machine, with a store of its own."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    local = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "ollama_models_dir": str(tmp_path / "models"),
        "ollama_use_gpu": False,
        "ollama_models_disk_reserve": "1M",
        "ollama_models_memory_reserve": "1M",
    }
    hosts = {"all": {"children": {"gpu_servers": {"hosts": {"here": local}}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return folder


def write(inventory: Path, **variables: Any) -> None:
    (inventory / "group_vars").mkdir(exist_ok=True)
    (inventory / "group_vars" / "gpu_servers.yml").write_text(yaml.safe_dump(variables))


def test_a_plan_of_what_fits_and_what_does_not(inventory: Path) -> None:
    with ModelRegistry() as registry:
        registry.add("small:1", gguf({**PAIRS, "llama.block_count": 1}))
        registry.add("huge:1", gguf(PAIRS), size=10**15)
        source = f"{registry.address}/library/"
        models = [
            {"name": "small:1", "source": f"{source}small:1", "insecure": True},
            {"name": "huge:1", "source": f"{source}huge:1", "insecure": True},
            {"name": "gone:1", "source": f"{source}gone:1", "insecure": True},
        ]
        write(inventory, ollama_models_list=models, ollama_context_length=1024)
        found = plan.make_plan(inventory, None)
        write(inventory, ollama_models_list=models[:1], ollama_context_length=1024)
        assert plan.make_plan(inventory, None).exit_code == 0
    [host] = found.hosts
    verdicts = {model["name"]: model["verdict"] for model in host.fit["models"]}
    assert verdicts == {"small:1": "cpu", "huge:1": "disk", "gone:1": "unknown"}
    assert found.exit_code == 2
    data = json.loads(found.to_json())
    assert data["hosts"][0]["models"][0]["need"]["context"] == 1024


def test_a_host_that_is_not_there_hides_no_other(inventory: Path) -> None:
    hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
    hosts["all"]["children"]["gpu_servers"]["hosts"]["away"] = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    write(inventory, ollama_models_list=[])
    found = plan.make_plan(inventory, None)
    assert ([host.host for host in found.hosts], found.unplanned, found.exit_code) == (["here"], ("away",), 1)


def test_the_lock_stands_beside_the_inventory_and_is_no_inventory(inventory: Path) -> None:
    with ModelRegistry() as registry:
        registry.add("small:1", gguf({**PAIRS, "llama.block_count": 1}))
        model = {"name": "small:1", "source": f"{registry.address}/library/small:1", "insecure": True}
        write(inventory, ollama_models_list=[model])
        assert [one["kind"] for one in lock.run(inventory, None, "look").hosts[0].findings] == ["unlocked"]
        assert lock.run(inventory, None, "lock").exit_code == 0
        assert (inventory / "ollama_models_lock.yml").is_file()
        assert lock.run(inventory, None, "look").exit_code == 0
        with pytest.raises(FleetError, match=r"smal:1: no host is to pull it"):
            lock.run(inventory, None, "update", names=["smal:1"])

"""Which roles a host gets, by its groups and by how it runs Ollama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

STACK = Path(__file__).resolve().parents[2] / "playbooks" / "vars" / "stack.yml"
SERVING = ["ollama", "ollama_models", "ollama_gateway"]
CONTAINERS = ["docker", "nvidia_container_toolkit"]


def roles(*groups: str, **variables: Any) -> list[str]:
    loader = DataLoader()
    loaded = loader.load_from_file(str(STACK), trusted_as_template=True)
    found: list[str] = Templar(loader=loader, variables={**loaded, "group_names": list(groups), **variables}).template(
        loaded["fleet_host_roles"]
    )
    return found


def test_gpu_server_gets_the_foundation_before_what_it_serves() -> None:
    assert roles("gpu_servers") == ["gpu_preflight", "nvidia_driver", *CONTAINERS, *SERVING]
    assert roles("gpu_servers", ollama_mode="docker") == roles("gpu_servers")


def test_server_without_containers_gets_nothing_that_containers_need() -> None:
    assert roles("gpu_servers", ollama_mode="native") == ["gpu_preflight", "nvidia_driver", *SERVING]


@pytest.mark.parametrize("mode", ["docker", "native"])
def test_web_interface_is_in_a_container_however_ollama_runs(mode: str) -> None:
    assert roles("web_servers", ollama_mode=mode) == ["docker", "open_webui"]
    assert set(CONTAINERS) <= set(roles("gpu_servers", "web_servers", ollama_mode=mode))

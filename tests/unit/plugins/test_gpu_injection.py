"""How containers get GPUs, which Docker decides."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.filter.gpu_injection import nvidia_injection


@pytest.mark.parametrize(
    ("docker", "injection", "options"),
    [
        (None, "", set()),
        ("20.10.24+dfsg1", "runtime", {"exec-opts", "runtimes"}),
        ("25.0.5", "runtime", {"exec-opts", "runtimes"}),
        ("26.0.2", "runtime", {"exec-opts", "runtimes"}),
        ("26.1.0", "cdi", {"features"}),
        ("26.1.5+dfsg1", "cdi", {"features"}),
        ("28.1.1", "cdi", {"features"}),
        ("28.2.0", "cdi", set()),
        ("29.1.3", "cdi", set()),
    ],
)
def test_docker_decides_how_containers_get_gpus(docker: str | None, injection: str, options: set[str]) -> None:
    found = nvidia_injection({"docker": {"version": docker}})
    assert found["injection"] == injection
    assert set(found["daemon_options"]) == options
    assert found["choice"]
    assert found["reason"]

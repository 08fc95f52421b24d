"""How containers get GPUs, which Docker decides; and which package sources of the toolkit are stale."""

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.ollama_fleet.stack.plugins.filter.gpu_injection import nvidia_injection
from ansible_collections.ollama_fleet.stack.plugins.filter.toolkit_sources import toolkit_sources

OURS = "https://nvidia.github.io/libnvidia-container"
FILE = "/etc/apt/sources.list.d/nvidia-container-toolkit.sources"


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


def source(file: str, *uris: str) -> dict[str, Any]:
    return {"file": file, "uris": list(uris), "suites": ["/"], "components": [], "signed_by": ""}


@pytest.mark.parametrize(
    ("uri", "stale"),
    [
        ("https://nvidia.github.io/libnvidia-container/stable/ubuntu18.04/amd64", True),
        ("https://nvidia.github.io/nvidia-docker/ubuntu18.04/amd64", True),
        ("https://nvidia.github.io/nvidia-container-runtime/stable/debian10/amd64", True),
        ("https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)", True),
        ("http://deb.debian.org/debian", False),
        ("https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64", False),
        ("https://nvidia.github.io/libnvidia-container-of-others/deb", False),
    ],
)
def test_source_is_known_by_what_it_names(uri: str, stale: bool) -> None:
    file = "/etc/apt/sources.list.d/any.list"
    assert toolkit_sources([source(file, uri)], OURS, FILE) == ([file] if stale else [])


def test_our_own_file_is_no_stale_one_and_a_second_one_of_our_mirror_is() -> None:
    mirror = "http://mirror:8080/libnvidia-container"
    listed = [source(FILE, f"{mirror}/stable/deb/amd64"), source("/etc/apt/x.list", f"{mirror}/stable/deb/amd64")]
    assert toolkit_sources(listed, mirror, FILE) == ["/etc/apt/x.list"]


def test_file_that_names_other_sources_too_is_refused_with_the_remedy() -> None:
    listed = [source("/etc/apt/sources.list", "http://deb.debian.org/debian"), source("/etc/apt/sources.list", OURS)]
    with pytest.raises(AnsibleFilterError, match=r"/etc/apt/sources.list names .* Take the line of"):
        toolkit_sources(listed, OURS, FILE)

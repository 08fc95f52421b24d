"""Which package sources of the container toolkit older instructions left on a host."""

from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import toolkit
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.toolkit_sources import OUR_FILE, stale_files

from tests.unit.plugins.test_driver_plan import host_of

OURS = "https://nvidia.github.io/libnvidia-container"
FILE = OUR_FILE["debian"]


def host(*repositories: dict[str, Any]) -> dict[str, Any]:
    return {**host_of({"cards": "H100", "system": "noble"}), "repositories": list(repositories)}


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
    assert stale_files(host(source(file, uri)), OURS) == ([file] if stale else [])


def test_our_own_file_is_no_stale_one_and_a_second_one_of_our_mirror_is() -> None:
    mirror = "http://mirror:8080/libnvidia-container"
    listed = [source(FILE, f"{mirror}/stable/deb/amd64"), source("/etc/apt/x.list", f"{mirror}/stable/deb/amd64")]
    assert stale_files(host(*listed), mirror) == ["/etc/apt/x.list"]


def test_file_that_names_other_sources_too_is_refused_with_the_remedy() -> None:
    listed = [source("/etc/apt/sources.list", "http://deb.debian.org/debian"), source("/etc/apt/sources.list", OURS)]
    with pytest.raises(RefusalError, match=r"/etc/apt/sources.list names .* Take the line of"):
        stale_files(host(*listed), OURS)


def test_plan_names_a_source_that_came_back_and_refuses_a_file_that_it_cannot_take_away() -> None:
    there = {name: {"version": "1.20.1-1", "installed": True, "held": True} for name in toolkit.PACKAGES}
    whole = {**host(), "docker": {"version": "29.1.3"}, "toolkit": {"packages": there}}
    assert nvidia.toolkit_plan(whole, "1.20.1", OURS)["complete"] is True

    legacy = source(
        "/etc/apt/sources.list.d/nvidia-docker.list", "https://nvidia.github.io/nvidia-docker/debian10/amd64"
    )
    plan = nvidia.toolkit_plan({**whole, "repositories": [legacy]}, "1.20.1", OURS)
    assert (plan["action"], plan["complete"], plan["stale"]) == ("install", False, [legacy["file"]])
    assert "remove /etc/apt/sources.list.d/nvidia-docker.list: a second source of the toolkit" in plan["reason"]

    mixed = [source("/etc/apt/sources.list", "http://deb.debian.org/debian", OURS)]
    refused = nvidia.toolkit_plan({**whole, "repositories": mixed}, "1.20.1", OURS)
    assert refused["action"] == "refuse"
    assert "Take the line of" in refused["refusal"]["remedy"]

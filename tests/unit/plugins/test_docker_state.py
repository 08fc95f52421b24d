"""Docker's engine, its containers and CDI, as roles need to know them."""

from typing import Any

import pytest

from tests.unit.plugins.host_trees import HostTree, Programs

INFO = {
    "ServerVersion": "28.4.0",
    "CgroupDriver": "systemd",
    "Runtimes": {"runc": {}, "nvidia": {}, "io.containerd.runc.v2": {}},
    "DefaultRuntime": "runc",
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}
CONTAINER = {"Id": "abc", "Names": ["/ollama"], "Image": "o", "ImageID": "sha256:0", "State": "running"}


def engine(tree: HostTree, inside: dict[str, Any] | None = None, **info: Any) -> HostTree:
    tree.docker = {"/info": {**INFO, **info}, "/containers/json?all=1": [CONTAINER]}
    if inside is not None:
        tree.docker["/containers/abc/json"] = inside
    return tree


def test_engine_says_how_it_hands_out_gpus(tree: HostTree) -> None:
    docker = engine(tree).observe().docker
    assert docker["version"] == "28.4.0"
    assert docker["cgroup_driver"] == "systemd"
    assert docker["runtimes"] == ["io.containerd.runc.v2", "nvidia", "runc"]
    assert (docker["cdi"], docker["cdi_spec_dirs"]) == (True, ["/etc/cdi", "/var/run/cdi"])


def test_engine_with_cdi_off_names_no_folders(tree: HostTree) -> None:
    docker = engine(tree, CDISpecDirs=None).observe().docker
    assert (docker["cdi"], docker["cdi_spec_dirs"]) == (False, [])


def test_engine_that_does_not_answer_has_nothing(tree: HostTree) -> None:
    docker = tree.observe().docker
    assert (docker["version"], docker["cgroup_driver"], docker["runtimes"], docker["containers"]) == (
        None,
        None,
        [],
        [],
    )


@pytest.mark.parametrize(
    ("wishes", "variables", "expected"),
    [
        ({"DeviceRequests": [{"Driver": "nvidia", "Count": -1}]}, [], True),
        ({"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}, [], True),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}, [], True),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["intel.com/gpu=0"]}]}, [], False),
        ({"Devices": [{"PathOnHost": "/dev/nvidia0"}]}, [], True),
        ({"Devices": [{"PathOnHost": "/dev/dxg"}]}, [], True),
        ({"Devices": [{"PathOnHost": "/dev/dri/card0"}]}, [], False),
        ({"Runtime": "nvidia"}, ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"], True),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=void"], False),
        ({"Runtime": "nvidia"}, [], False),
        ({"Runtime": "runc"}, ["NVIDIA_VISIBLE_DEVICES=all"], False),
        ({}, [], False),
    ],
)
def test_container_that_asks_for_a_gpu_is_seen(
    tree: HostTree, wishes: dict[str, Any], variables: list[str], expected: bool
) -> None:
    tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200")
    inside = {"HostConfig": {**wishes, "RestartPolicy": {"Name": "unless-stopped"}}, "Config": {"Env": variables}}
    (container,) = engine(tree, inside).observe().docker["containers"]
    assert (container["gpu"], container["restart"]) == (expected, "unless-stopped")


def test_nvidias_runtime_by_default_gives_every_container_that_asks_a_gpu(tree: HostTree) -> None:
    tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200")
    inside = {"HostConfig": {"Runtime": ""}, "Config": {"Env": ["NVIDIA_VISIBLE_DEVICES=all"]}}
    (container,) = engine(tree, inside, DefaultRuntime="nvidia").observe().docker["containers"]
    assert container["gpu"] is True


def test_containers_are_looked_into_only_where_there_is_a_gpu(tree: HostTree) -> None:
    inside = {"HostConfig": {"Devices": [{"PathOnHost": "/dev/nvidia0"}]}}
    (container,) = engine(tree, inside).observe().docker["containers"]
    assert (container["gpu"], container["restart"]) == (False, None)


def client(tree: HostTree) -> HostTree:
    tree.system("debian", "13", "6.12.0-1-amd64").write("usr/bin/docker", "")
    return tree.write("usr/libexec/docker/cli-plugins/docker-compose", "")


@pytest.mark.parametrize(
    ("package", "version", "expected"),
    [
        ("docker-compose-plugin", "2.40.0-1~ubuntu.24.04~noble", "2.40.0"),
        ("docker-compose-v2", "2.27.1+ds1-0ubuntu1~24.04.1", "2.27.1"),
        ("docker-compose", "2.26.1-4", "2.26.1"),
        ("docker-compose-plugin", "5:2.40.0-1", "2.40.0"),
    ],
)
def test_version_of_compose_is_that_of_its_package(tree: HostTree, package: str, version: str, expected: str) -> None:
    docker = client(tree).package(package, version).observe().docker
    assert (docker["present"], docker["compose"]) == (True, expected)
    assert tree.programs.asked == []


def test_compose_of_no_package_is_asked(tree: HostTree) -> None:
    client(tree).programs = Programs(docker="v2.33.0\n")
    assert tree.observe().docker["compose"] == "2.33.0"


def test_old_compose_of_python_is_no_plugin(tree: HostTree) -> None:
    tree.system("debian", "12", "6.1.0-1-amd64").write("usr/bin/docker", "").package("docker-compose", "1.29.2-3")
    assert tree.observe().docker["compose"] is None


def test_docker_of_snap_is_seen(tree: HostTree) -> None:
    assert tree.observe().docker["snap"] is False
    (tree.root / "var/snap/docker").mkdir(parents=True)
    assert tree.observe().docker["snap"] is True


# As nvidia-ctk 1.20 writes it.
SPECIFICATION = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  hooks:
  - args:
    - nvidia-cdi-hook
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: GPU-25feab43-6559-516e-dc52-02d4dba66135
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
kind: nvidia.com/gpu
"""


def test_devices_of_cdi_come_from_both_folders(tree: HostTree) -> None:
    tree.write("run/cdi/nvidia.yaml", SPECIFICATION)
    tree.write("etc/cdi/other.json", '{"kind": "example.com/nic", "devices": [{"name": "eth0"}]}')
    tree.write("etc/cdi/broken.json", "{")
    tree.write("etc/cdi/README", "no specification")
    assert tree.observe().toolkit["cdi_devices"] == [
        "example.com/nic=eth0",
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=GPU-25feab43-6559-516e-dc52-02d4dba66135",
        "nvidia.com/gpu=all",
    ]


def test_version_of_the_toolkit_is_that_of_its_package(tree: HostTree) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64").package("nvidia-container-toolkit-base", "1.20.1-1")
    assert tree.observe().toolkit["version"] == "1.20.1"
    assert tree.programs.asked == []


def test_toolkit_of_no_package_is_asked(tree: HostTree) -> None:
    tree.write("usr/bin/nvidia-ctk", "").programs = Programs(nvidia_ctk="NVIDIA Container Toolkit CLI version 1.18.0\n")
    assert tree.observe().toolkit["version"] == "1.18.0"

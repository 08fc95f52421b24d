from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.filter.packages import packages_to_install
from ansible_collections.ollama_fleet.stack.plugins.filter.preflight import disk_shortfalls, ports_taken

GIB = 1024**3
OWN = "/opt/ollama-fleet"
LISTENER = {"address": "127.0.0.1", "port": 11434, "protocol": "tcp", "pid": 42, "process": "ollama"}


def container(folder: str | None) -> dict[str, Any]:
    return {"name": "other", "project_dir": folder, "ports": [{"address": "127.0.0.1", "port": 11434}]}


def disk(path: str, mount_point: str, free: float) -> dict[str, Any]:
    return {"path": path, "mount_point": mount_point, "free_bytes": int(free * GIB), "total_bytes": 100 * GIB}


def test_paths_on_one_file_system_need_their_sum() -> None:
    needs = {"/var/lib/docker": 8, "/var/lib/ollama": 8}
    one = [disk("/var/lib/docker", "/", 12), disk("/var/lib/ollama", "/", 12)]
    two = [disk("/var/lib/docker", "/", 12), disk("/var/lib/ollama", "/var/lib/ollama", 12)]
    assert disk_shortfalls(one, needs) == [
        "/ has 12.0 GiB free and needs 8 GiB for /var/lib/docker and 8 GiB for /var/lib/ollama"
    ]
    assert disk_shortfalls(two, needs) == []


def test_free_port_and_port_of_our_own_container_are_fine() -> None:
    assert ports_taken([], [11434], [], OWN) == []
    assert ports_taken([LISTENER], [80], [], OWN) == []
    assert ports_taken([{**LISTENER, "process": "docker-proxy"}], [11434], [container(OWN + "/ollama")], OWN) == []


def test_taken_port_names_its_holder() -> None:
    assert ports_taken([LISTENER], [11434], [], OWN) == ["port 11434 at 127.0.0.1 is taken by ollama (pid 42)"]
    for folder in (None, "/srv/theirs", OWN + "-of-another"):
        assert ports_taken([LISTENER], [11434], [container(folder)], OWN) == [
            "port 11434 at 127.0.0.1 is taken by container other"
        ]


@pytest.mark.parametrize(
    ("package", "versions", "expected"),
    [
        (None, {}, ["a"]),
        (None, {"a": "2"}, ["a=2"]),
        ({"version": "1", "installed": True}, {}, []),
        ({"version": "1", "installed": True}, {"a": "1"}, []),
        ({"version": "1", "installed": True}, {"a": "2"}, ["a=2"]),
        ({"version": "1", "installed": False}, {}, ["a"]),
    ],
)
def test_packages_to_install(package: Any, versions: dict[str, str], expected: list[str]) -> None:
    assert packages_to_install(["a"], {"a": package} if package else {}, versions) == expected

"""The lab's own Docker engine leaves nothing of itself on this machine."""

import subprocess
import time
from pathlib import Path

import pytest

from lab import docker_engine, firewall
from lab.paths import Paths
from lab.system import privileged
from ollama_fleet.errors import FleetError


@pytest.fixture
def paths(tmp_path) -> Paths:
    paths = Paths(tmp_path)
    paths.home.mkdir()
    return paths


def traces(paths: Paths, bridge: str) -> list[str]:
    """Everything on this machine that names the engine of this lab, or the bridge of its network."""
    names = (paths.project, paths.bridge, bridge, str(paths.docker_data))
    commands = [
        ["ip", "-o", "link"],
        ["cat", "/proc/self/mountinfo"],
        ["find", "/sys/fs/cgroup", "/run", "-maxdepth", "3"],
    ]
    commands += [[f"{program}-save"] for program in ("iptables", "ip6tables")]
    lines = [
        line
        for command in commands
        for line in subprocess.run(privileged(command), capture_output=True, text=True, check=False).stdout.splitlines()
    ]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in lines if any(name in line for name in names)]


def test_nothing_of_an_ended_engine_is_left(paths: Paths) -> None:
    machine = docker_engine.before()
    engine = docker_engine.start(paths)
    try:
        network = engine.run("network", "create", "--subnet=198.51.100.0/24", "lab-test")
        bridge = f"br-{network[:12]}"
        running = traces(paths, bridge)
        engine.run("network", "rm", "lab-test")
    finally:
        docker_engine.stop(paths, machine, keep_data=False)
    # It was really there: processes, interfaces, rules, control groups, sockets.
    assert any("dockerd" in line for line in running)
    assert any(line.startswith("-A") and bridge in line for line in running)
    assert traces(paths, bridge) == []
    assert not paths.docker_data.exists()
    assert firewall.ip_forward() == machine.ip_forward


def test_images_outlive_an_engine_that_is_to_come_back(paths: Paths) -> None:
    machine = docker_engine.before()
    try:
        engine = docker_engine.start(paths)
        empty = subprocess.run(["tar", "--create", "--files-from=/dev/null"], capture_output=True, check=True).stdout
        engine.run("import", "-", "lab-test:1", stdin=empty)
        docker_engine.stop(paths, machine, keep_data=True)
        assert docker_engine.start(paths).run("image", "ls", "--quiet", "lab-test:1")
    finally:
        docker_engine.stop(paths, machine, keep_data=False)
    assert not paths.docker_data.exists()


def test_an_engine_that_cannot_start_says_why_at_once(paths: Paths, monkeypatch) -> None:
    monkeypatch.setattr(docker_engine, "_configuration", lambda _paths: {"no-such-option": True})
    machine = docker_engine.before()
    started = time.monotonic()
    try:
        with pytest.raises(FleetError, match="no-such-option"):
            docker_engine.start(paths)
    finally:
        docker_engine.stop(paths, machine, keep_data=False)
    assert time.monotonic() - started < 20
    assert traces(paths, paths.bridge) == []

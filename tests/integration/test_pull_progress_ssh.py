"""Pulls through a real sshd: how many connections they take, and what is left when one breaks off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench_support.sshd import Sshd
from tests.serving_support.ollama_double import OllamaDouble
from tests.serving_support.pull_run import NAME, Run, slowly, wait


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        yield double


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def sockets() -> Iterator[str]:
    """A folder for ssh's sockets: the path of one must be short."""
    with tempfile.TemporaryDirectory(prefix="of-") as folder:
        yield folder


def through(sshd: Sshd, sockets: str, *arguments: str) -> dict[str, Any]:
    """Ansible's variables for the way through a real sshd."""
    known_hosts = sshd.folder / "known_hosts"
    known_hosts.write_text(sshd.known_hosts_line)
    return {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": sshd.port,
        "ansible_user": sshd.user,
        "ansible_ssh_private_key_file": str(sshd.key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts}",
        "ansible_control_path_dir": sockets,
        **dict(argument.split("=", 1) for argument in arguments),
    }


def test_second_session_goes_through_the_one_connection(
    server: OllamaDouble, sshd: Sshd, sockets: str, tmp_path: Path
) -> None:
    server.scripts.append(slowly(6))
    run = Run(tmp_path, [server], way=through(sshd, sockets))
    shown = wait(run.shown)
    output = run.end()
    assert run.process.returncode == 0, output
    assert shown["gpu1"]["model"] == NAME
    assert sshd.connections == 1


def test_connection_that_is_not_kept_is_not_doubled(
    server: OllamaDouble, sshd: Sshd, sockets: str, tmp_path: Path
) -> None:
    server.scripts.append(slowly(4))
    run = Run(tmp_path, [server], way=through(sshd, sockets, "ansible_ssh_args=-o ControlMaster=no"))
    output = run.end()
    assert run.process.returncode == 0, output
    # One for each of Ansible's own steps; none for looks.
    before = sshd.connections
    assert Run(tmp_path, [server], way=through(sshd, sockets, "ansible_ssh_args=-o ControlMaster=no")).end()
    assert sshd.connections == 2 * before


def test_connection_that_breaks_off_is_made_once_more_and_the_pull_goes_on(
    server: OllamaDouble, sshd: Sshd, sockets: str, tmp_path: Path
) -> None:
    server.scripts.append(slowly(4))
    run = Run(tmp_path, [server], way=through(sshd, sockets))
    wait((tmp_path / "run" / "gpu1.json").exists)
    sshd.cut()
    output = run.end()
    # Ansible runs the module again (retries in ansible.cfg), beside the one on the host that did not notice.
    assert run.process.returncode == 0, output
    assert sshd.connections == 2
    assert list(server.models) == [NAME]

"""What the lab refuses before it touches anything, and how it is kept to itself."""

import fcntl
import os
from pathlib import Path

import pytest

from lab import controller, room
from lab.lab import Lab
from lab.paths import Paths
from lab.state import State
from ollama_fleet.errors import FleetError


@pytest.mark.parametrize("hosts", [0, -1, 1000])
def test_a_number_of_hosts_that_no_lab_has(tmp_path, hosts: int) -> None:
    with pytest.raises(FleetError, match=str(hosts)):
        Lab(tmp_path).up(hosts=hosts)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_does_not_exist(tmp_path) -> None:
    with pytest.raises(FleetError, match="vllm"):
        Lab(tmp_path).up(engine="vllm")  # type: ignore[arg-type]


def test_a_second_command_on_the_same_lab_is_told_so(tmp_path) -> None:
    home = tmp_path / ".lab"
    home.mkdir()
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(FleetError, match="busy"):
            Lab(tmp_path).up()
    finally:
        os.close(descriptor)


def test_down_without_a_lab_leaves_nothing(tmp_path) -> None:
    Lab(tmp_path).down()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [lambda lab: lab.status(), lambda lab: lab.ssh_command("gpu1")])
def test_a_lab_that_is_not_up_says_how_to_bring_it_up(tmp_path, call) -> None:
    with pytest.raises(FleetError) as raised:
        call(Lab(tmp_path))
    assert "./inv lab" in raised.value.remedy


def test_the_names_of_a_lab_fit_where_they_are_used(tmp_path) -> None:
    paths = Paths(tmp_path / ("long" * 40))
    assert len(paths.bridge) <= 15
    assert len(str(paths.docker_run / "exec/containerd/containerd-debug.sock")) <= 107
    assert Paths(tmp_path).project != paths.project


def test_an_engine_that_is_gone_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    state = State(docker_host=f"unix://{tmp_path}/gone.sock", subnet="10.213.0.0/24")
    with pytest.raises(FleetError, match=r"gone\.sock"):
        controller.prepare(Paths(tmp_path), state, release=None, ask=lambda _question: True)  # type: ignore[arg-type]


def test_a_disk_without_room_is_told_in_numbers() -> None:
    with pytest.raises(FleetError, match=r"/var/lib/docker.* 5\.9 GB, 1\.0 GB are free"):
        room.check(Path("/var/lib/docker"), free=1_000_000_000, wanted=room.needed(2))
    room.check(Path("/"), free=room.needed(8), wanted=room.needed(8))


def test_a_person_is_asked_and_a_script_is_not(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["n", "", "y"])
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    ask = controller.on_terminal(assume_yes=False)
    assert [ask("Docker is missing."), ask("Docker is missing."), ask("Docker is missing.")] == [False, False, True]
    assert controller.on_terminal(assume_yes=True)("Docker is missing.")

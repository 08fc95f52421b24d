"""Pulls under ansible-playbook while they run: what is shown of each host, and what a killed controller leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving_support.ollama_double import LAYER, OllamaDouble
from tests.serving_support.pull_run import NAME, Run, slowly, wait


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        yield double


def test_each_host_that_pulls_is_shown_while_it_does(tmp_path: Path) -> None:
    with OllamaDouble() as first, OllamaDouble() as second:
        for server in (first, second):
            server.scripts.append(slowly(6))
        run = Run(tmp_path, [first, second])
        shown = wait(lambda: len(run.shown()) == 2 and run.shown())
        output = run.end()
    for host, told in shown.items():
        assert (told["host"], told["model"], told["total"]) == (host, NAME, LAYER)
        assert 0 < told["completed"] <= LAYER
        assert told["words"].endswith(" left") or told["words"].endswith("253.1 MB")
    assert run.process.returncode == 0, output
    assert output.count("changed: [gpu") == 2
    assert list(run.view.iterdir()) == []
    assert list((tmp_path / "run").iterdir()) == []


def test_check_mode_pulls_and_shows_nothing(server: OllamaDouble, tmp_path: Path) -> None:
    run = Run(tmp_path, [server], "--check")
    assert "changed: [gpu1]" in run.end()
    assert server.models == {}
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("also_the_module", [False, True])
def test_run_after_a_killed_controller_has_the_model(
    server: OllamaDouble, tmp_path: Path, also_the_module: bool
) -> None:
    """The module on the host outlives its controller, or dies with its host: either way the next run gets there."""
    server.scripts.append(slowly(4))
    run = Run(tmp_path, [server])
    state = tmp_path / "run" / "gpu1.json"
    wait(state.exists)
    modules = modules_of(run) if also_the_module else []
    run.process.send_signal(signal.SIGKILL)
    run.end()
    for module in modules:
        os.kill(module, signal.SIGKILL)
    if also_the_module:
        wait(lambda: ("CLIENT", "hung up", None) in server.requests)
        assert 0 < server.partial[NAME] < LAYER
        assert server.models == {}
    again = Run(tmp_path, [server])
    output = again.end()
    assert again.process.returncode == 0, output
    assert list(server.models) == [NAME]


def modules_of(run: Run) -> list[int]:
    """The processes of this run that are a module at work."""
    mine = f"OLLAMA_FLEET_PULLS={run.view}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mine in environment.split(b"\0") and b"AnsiballZ_ollama_model" in command:
            found.append(int(folder.name))
    assert found
    return found

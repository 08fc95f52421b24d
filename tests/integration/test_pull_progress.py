"""Pulls under ansible-playbook while they run: what is shown of each host, and what a killed controller leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_support.ollama_double import LAYER, OllamaDouble, Send, progress, succeed

ROOT = Path(__file__).resolve().parents[2]
NAME = "smollm2:135m"


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        yield double


def slowly(seconds: float) -> Callable[[OllamaDouble, str, Send], str]:
    """A pull that takes so long and keeps what it has when its client goes."""

    def script(double: OllamaDouble, name: str, send: Send) -> str:
        steps = int(seconds / 0.05)
        for step in range(1, steps + 1):
            send(progress(name, LAYER * step // steps))
            double.partial[name] = LAYER * step // steps
            time.sleep(0.05)
        return succeed(double, name, send)

    return script


class Run:
    """A playbook with one pull for each of two hosts, which are this machine, each with a server of its own."""

    def __init__(self, folder: Path, servers: list[OllamaDouble], *options: str) -> None:
        self.view = folder / "view"
        self.view.mkdir(exist_ok=True)
        connection = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }
        hosts = {f"gpu{number}": {"url": server.url} for number, server in enumerate(servers, 1)}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": connection, "hosts": hosts}}))
        state = str(folder / "run" / "{{ inventory_hostname }}.json")
        module = {"name": NAME, "base_url": "{{ url }}", "progress_file": state}
        task = {"name": "Pull", "ollama_fleet.stack.ollama_model": module}
        (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
        (folder / "run").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "OLLAMA_FLEET_PULLS": str(self.view),
        }
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [ansible, "-i", str(folder / "hosts.yml"), *options, str(folder / "play.yml")]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def shown(self) -> dict[str, dict[str, Any]]:
        found = {}
        for path in self.view.glob("*.json"):
            try:
                found[path.stem] = json.loads(path.read_text())
            except FileNotFoundError:
                continue
        return found

    def end(self) -> str:
        output, _ = self.process.communicate(timeout=60)
        return output


def wait(found: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert result
    return result


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

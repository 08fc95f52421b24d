"""ansible-playbook with pulls from servers that are doubles, while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.serving_support.ollama_double import LAYER, OllamaDouble, Send, progress, succeed

ROOT = Path(__file__).resolve().parents[2]
NAME = "smollm2:135m"


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
    """A playbook with one pull for each of some hosts, which are this machine, each with a server of its own.

    way: Ansible's variables for the way there, instead of none
    """

    def __init__(
        self, folder: Path, servers: list[OllamaDouble], *options: str, way: dict[str, Any] | None = None
    ) -> None:
        self.view = folder / "view"
        self.view.mkdir(exist_ok=True)
        connection = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            **(way or {}),
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

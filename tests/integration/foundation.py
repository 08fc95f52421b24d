"""Runs small playbooks of the collection on this machine, without root, with records in a folder of the test's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


class Playground:
    """Hosts that are this machine, mostly one called gpu1, and playbooks for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.variables: dict[str, Any] = {}

    def run(
        self, tasks: list[dict[str, Any]], *arguments: str, variables: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run tasks on gpu1; ``variables`` are those of its inventory."""
        return self.run_on({"gpu1": variables or {}}, tasks, *arguments)

    def run_on(
        self, hosts: dict[str, dict[str, Any]], tasks: list[dict[str, Any]], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run tasks on several hosts, each of which is this machine with variables of its own."""
        connection = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }
        inventory = self.folder / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": connection, "hosts": hosts}}))
        playbook = self.folder / "play.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        command = ["ansible-playbook", "-i", str(inventory), str(playbook), *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def record(self, state: str, role: str = "gpu_preflight", **manages: Any) -> dict[str, Any]:
        arguments = {"role": role, "state": state, "state_dir": str(self.state), "manages": manages}
        return {"name": f"Record {state}", "ollama_fleet.stack.record": arguments}

    def plan(self, *roles: str, **options: Any) -> list[dict[str, Any]]:
        """Tasks that plan and write the steps to a file."""
        wanted = {"roles": list(roles), "state_dir": str(self.state), **options}
        return [
            {"name": "Plan", "ollama_fleet.stack.plan": wanted, "register": "__plan"},
            {
                "name": "Show",
                "ansible.builtin.copy": {
                    "content": "{{ __plan.steps | to_json }}",
                    "dest": f"{self.folder}/steps.json",
                },
                "check_mode": False,
            },
        ]

    def reasons(self) -> dict[str, str]:
        """What the last plan said, by role; roles that need nothing are left out."""
        steps = json.loads((self.folder / "steps.json").read_text())
        return {step["role"]: step["reason"] for step in steps if step["needed"]}


def changes(result: subprocess.CompletedProcess[str]) -> int:
    """How many tasks changed something."""
    assert result.returncode == 0, result.stdout + result.stderr
    match = re.search(r"changed=(\d+)", result.stdout)
    assert match, result.stdout
    return int(match.group(1))


# One result: its line, or the lines up to its closing brace.
RESULT = r"^((?:ok|changed|fatal|failed|skipping): \[[\w-]+\](?:[^\n]*=> \{\n(?:[^\n]*\n)*?\}|[^\n]*))$"


def of_host(output: str, name: str) -> str:
    """What Ansible said of one host: diffs stand before the result that they belong to."""
    said = []
    for block in re.split(r"(?<=\n)(?=TASK|PLAY)", output):
        parts = re.split(RESULT, block, flags=re.MULTILINE)
        pairs = zip(parts[::2], parts[1::2], strict=False)
        said += [diff + result for diff, result in pairs if f": [{name}]" in result.split("\n")[0]]
    return "\n".join(said + re.findall(rf"^{name} +: .*$", output, re.MULTILINE))

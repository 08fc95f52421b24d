"""The lab's inventory as Ansible reads it."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ollama_fleet.playbook import environment
from tests.system.conftest import Session


@cache
def _hostvars(inventory: Path) -> dict[str, dict[str, Any]]:
    command = ["ansible-inventory", "-i", str(inventory), "--list"]
    result = subprocess.run(command, env=environment(inventory), check=True, capture_output=True, text=True)
    variables: dict[str, dict[str, Any]] = json.loads(result.stdout)["_meta"]["hostvars"]
    return variables


def address(lab: Session, host: str) -> str:
    """The host's address on the lab's network."""
    return str(_hostvars(lab.inventory)[host]["ansible_host"])


def variable(lab: Session, host: str, name: str, default: Any = None) -> Any:
    """A variable of a host as the inventory has it, not templated."""
    return _hostvars(lab.inventory)[host].get(name, default)

"""Runs the project's playbooks the way a person would, with ansible-playbook."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ollama_fleet import pull_view
from ollama_fleet.errors import FleetError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PlaybookOptions:
    """The choices a person has for a run, named as Ansible names them."""

    limit: str | None = None
    tags: str | None = None
    check: bool = False
    diff: bool = False
    verbose: int = 0
    extra_vars: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """The same choices as ansible-playbook's arguments."""
        arguments = []
        if self.limit:
            arguments += ["--limit", self.limit]
        if self.tags:
            arguments += ["--tags", self.tags]
        if self.check:
            arguments.append("--check")
        if self.diff:
            arguments.append("--diff")
        if self.verbose:
            arguments.append("-" + "v" * self.verbose)
        for extra in self.extra_vars:
            arguments += ["--extra-vars", extra]
        return arguments


def environment(inventory: Path) -> dict[str, str]:
    """The environment of every Ansible program: the project's configuration and the inventory's vault password."""
    result = dict(os.environ)
    result["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    # Ansible's programs stand beside the Python that runs this, also when no virtual environment is active.
    result["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{result.get('PATH', '')}"
    password = inventory / ".vault_password"
    if password.is_file():
        result.setdefault("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    return result


def require_inventory(inventory: Path) -> Path:
    """Return the inventory folder, or say how to get one."""
    if not inventory.exists():
        raise FleetError(
            f"inventory {inventory}",
            "there is no such file or folder",
            "name one with --inventory, copy inventory/sample to start one, or run ./inv lab for a lab of your own",
        )
    return inventory


def run_playbook(
    name: str,
    inventory: Path,
    options: PlaybookOptions | None = None,
    extra_environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> int:
    """Run playbooks/<name>.yml and return ansible-playbook's exit code.

    Its output goes where ours goes; when quiet, only that of a failed run does. On a terminal, pulls are shown live.
    Exit codes are Ansible's: 0 all well, 2 a host failed, 4 a host could not be reached, others: nothing ran.
    """
    require_inventory(inventory)
    command = ["ansible-playbook", "--inventory", str(inventory), str(ROOT / "playbooks" / f"{name}.yml")]
    command += (options or PlaybookOptions()).arguments()
    env = environment(inventory) | dict(extra_environment or {})
    # Asked of the stream itself: a build server that wants colours is no terminal for rows that move.
    if not quiet and sys.stdout.isatty():
        return pull_view.run(command, ROOT, env, Console(highlight=False))
    if not quiet:
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    result = subprocess.run(
        command, cwd=ROOT, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        sys.stderr.write(result.stdout)
    return result.returncode

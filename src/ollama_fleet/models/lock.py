"""The lock of a fleet's models: what is not as it says, and moving it."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from ollama_fleet import inventory_check
from ollama_fleet.errors import FleetError
from ollama_fleet.planning import counted, natural
from ollama_fleet.playbook import PlaybookOptions, run_playbook

SCHEMA = "ollama-fleet/models-diff/1"
Mode = Literal["look", "lock", "update"]
# What can be left as it is, in words; the others are trouble.
STYLES = {"drift": "red", "update": "yellow", "unlocked": "yellow", "unread": "yellow"}


@dataclass(frozen=True)
class HostFindings:
    """One host: what model_lock found there ({model, kind, text}), whether it changed the lock, what it is to pull."""

    host: str
    findings: tuple[Mapping[str, str], ...]
    changed: bool = False
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelsDiff:
    """The hosts that could be asked, and Ansible's exit code for the others (0: there are none)."""

    hosts: tuple[HostFindings, ...]
    ansible_exit_code: int = 0
    unasked: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 all is as it is locked, 2 something is not, 1 a host could not be asked."""
        if self.ansible_exit_code or self.unasked:
            return 1
        return 2 if any(host.findings for host in self.hosts) else 0

    def to_json(self) -> str:
        """The findings as JSON, as docs/models.md documents it."""
        data = {
            "schema": SCHEMA,
            "exit_code": self.exit_code,
            "unasked": list(self.unasked),
            "hosts": [{"host": host.host, "findings": [dict(one) for one in host.findings]} for host in self.hosts],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)


def run(inventory: Path, limit: str | None, mode: Mode, names: Sequence[str] = (), check: bool = False) -> ModelsDiff:
    """Compare the models of an inventory's hosts with its lock file, or move the lock.

    names: for the mode "update", the models; all when empty. check: write nothing
    """
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-models-") as folder:
        settings = {"ollama_fleet_models_mode": mode, "ollama_fleet_models_names": list(names)}
        extra = [f"ollama_fleet_plan_folder={folder}", json.dumps(settings)]
        options = PlaybookOptions(limit=limit, check=check, extra_vars=extra)
        code = run_playbook("models_lock", inventory, options, quiet=True)
        paths = sorted(Path(folder).glob("*.json"), key=lambda path: natural(path.stem))
        hosts = tuple(host_findings(path.stem, json.loads(path.read_text())) for path in paths)
    unknown = set(names) - {model for host in hosts for model in host.models}
    if hosts and not code and unknown:
        listed = ", ".join(sorted(unknown))
        raise FleetError(f"models.lock of {listed}", "no host is to pull it", "name a model as the server lists it")
    if hosts and not code:
        return ModelsDiff(hosts)
    wanted = [host.name for host in inventory_check.check(inventory, limit, groups=["gpu_servers"])]
    if not hosts:
        raise FleetError(
            f"models of {inventory}", "no host could be asked", "see the problems above, then run it again"
        )
    asked = {host.host for host in hosts}
    return ModelsDiff(hosts, code, tuple(name for name in wanted if name not in asked))


def host_findings(name: str, data: Mapping[str, Any]) -> HostFindings:
    """What one host handed over."""
    return HostFindings(name, tuple(data["findings"]), data["changed"], tuple(data["models"]))


def show(diff: ModelsDiff, console: Console) -> None:
    """Print the findings, the same on many hosts once, and a summary."""
    hosts_of: dict[tuple[str, str, str], list[str]] = {}
    for host in diff.hosts:
        for one in host.findings:
            hosts_of.setdefault((one["model"], one["kind"], one["text"]), []).append(host.host)
    for (model, kind, text), hosts in hosts_of.items():
        line = Text(f"{', '.join(hosts)}: {model} ")
        line.append(f"[{kind}]", style=STYLES[kind])
        console.print(line.append(f" {text}"), soft_wrap=True)
    console.print(Text(summary(diff)), soft_wrap=True)


def summary(diff: ModelsDiff) -> str:
    """What is with the fleet, in one line."""
    settled = sum(not host.findings for host in diff.hosts)
    parts = ["the lock has changed"] if any(host.changed for host in diff.hosts) else []
    if settled:
        parts.append(f"all models are as they are locked on {counted(settled, 'host')}")
    if settled < len(diff.hosts):
        parts.append(f"not so on {counted(len(diff.hosts) - settled, 'host')}")
    if diff.unasked:
        parts.append(f"{', '.join(diff.unasked)} could not be asked: see above")
    return "; ".join(parts) + "."

"""The plan of a fleet's models: what each needs on each host, whether it fits there, and what would."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ollama_fleet import inventory_check
from ollama_fleet.errors import FleetError
from ollama_fleet.planning import counted, natural
from ollama_fleet.playbook import PlaybookOptions, run_playbook

SCHEMA = "ollama-fleet/models-plan/1"
VERDICTS = {
    "gpu": ("fits on the GPU", "green"),
    "cpu": ("fits in RAM", "green"),
    "partly": ("partly on the GPU", "yellow"),
    "memory": ("too big for memory", "red"),
    "disk": ("too big for the disk", "red"),
    "unknown": ("not known", "yellow"),
}


@dataclass(frozen=True)
class HostFit:
    """One host: `fit` is what the collection's model_fit returned for it (docs/models.md)."""

    host: str
    fit: Mapping[str, Any]

    @property
    def fits(self) -> bool:
        """Whether all models have the room that the inventory asks for."""
        return bool(self.fit["fits"])


@dataclass(frozen=True)
class ModelsPlan:
    """The hosts that could be asked, and Ansible's exit code for the others (0: there are none)."""

    hosts: tuple[HostFit, ...]
    ansible_exit_code: int = 0
    unplanned: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 everything fits, 2 something does not, 1 a host could not be asked."""
        if self.ansible_exit_code or self.unplanned:
            return 1
        return 0 if all(host.fits for host in self.hosts) else 2

    def to_json(self) -> str:
        """The plan as JSON, as docs/models.md documents it."""
        data = {
            "schema": SCHEMA,
            "exit_code": self.exit_code,
            "unplanned": list(self.unplanned),
            "hosts": [{"host": host.host, **host.fit} for host in self.hosts],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)


def make_plan(inventory: Path, limit: str | None) -> ModelsPlan:
    """Ask the hosts of an inventory; Ansible's own output is shown only when something went wrong."""
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-models-") as folder:
        options = PlaybookOptions(limit=limit, extra_vars=[f"ollama_fleet_plan_folder={folder}"])
        code = run_playbook("models_plan", inventory, options, quiet=True)
        paths = sorted(Path(folder).glob("*.json"), key=lambda path: natural(path.stem))
        hosts = tuple(HostFit(path.stem, json.loads(path.read_text())) for path in paths)
    if hosts and not code:
        return ModelsPlan(hosts)
    names = [host.name for host in inventory_check.check(inventory, limit, groups=["gpu_servers"])]
    if not hosts:
        raise FleetError(
            f"models of {inventory}", "no host could be asked", "see the problems above, then run it again"
        )
    asked = {host.host for host in hosts}
    return ModelsPlan(hosts, code, tuple(name for name in names if name not in asked))


def show(plan: ModelsPlan, console: Console) -> None:
    """Print the plan: a table, what is to be known besides, and a summary."""
    console.print(table(plan))
    for line in remarks(plan):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(summary(plan)), soft_wrap=True)


def table(plan: ModelsPlan) -> Table:
    """One row for each model of each host."""
    result = Table(header_style="bold")
    result.add_column("host", no_wrap=True)
    result.add_column("model", no_wrap=True)
    result.add_column("verdict")
    for name in ("needs", "of it context", "can have"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("would fit instead")
    for host in plan.hosts:
        room = host.fit["usable"]
        gpus = [memory for memory in room["gpus"] if memory is not None]
        can_have = sum(gpus) if room["gpus"] else room["ram"]
        for number, model in enumerate(host.fit["models"]):
            need = model["need"]
            words, colour = VERDICTS[model["verdict"]]
            result.add_row(
                Text("" if number else host.host),
                Text(model["name"]),
                Text(words, style="green" if model["fits"] and model["verdict"] != "unknown" else colour),
                Text(gib(need["gpu" if room["gpus"] else "ram"]) if need else "?"),
                Text(gib(need["cache"] + need["state"]) if need else "?"),
                Text(gib(can_have) if len(gpus) == len(room["gpus"]) else "?"),
                Text(model["instead"]),
            )
    return result


def remarks(plan: ModelsPlan) -> list[str]:
    """Why something does not fit, is not known or not exact; what is the same on many hosts is said once."""
    hosts_of: dict[str, list[str]] = {}
    for host in plan.hosts:
        lines = [f"{model['name']}: {model['why']}" for model in host.fit["models"] if model["why"]]
        lines += [f"{model['name']}: {note}" for model in host.fit["models"] for note in model["notes"]]
        if host.fit["together"]["why"]:
            lines.append(host.fit["together"]["why"])
        for line in lines:
            hosts_of.setdefault(line, []).append(host.host)
    return [f"{', '.join(hosts)}: {line}" for line, hosts in hosts_of.items()]


def summary(plan: ModelsPlan) -> str:
    """What is with the fleet, in one line."""
    fitting = sum(host.fits for host in plan.hosts)
    parts = [f"everything fits on {counted(fitting, 'host')}"] if fitting else []
    tight = [host.host for host in plan.hosts if not host.fits]
    if tight:
        parts.append(f"not everything fits on {', '.join(tight)}, where nothing would be pulled")
    if plan.unplanned:
        parts.append(f"{', '.join(plan.unplanned)} could not be asked: see above")
    to_pull = sum(host.fit["disk"]["to_pull"] for host in plan.hosts if host.fits)
    if to_pull:
        parts.append(f"{gib(to_pull)} are to be pulled")
    return "; ".join(parts) + "."


def gib(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.0f} MiB"

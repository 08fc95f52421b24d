"""The plan of a fleet: what `up` would do on each host, and why."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ollama_fleet import inventory_check
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions, run_playbook

SCHEMA = "ollama-fleet/plan/1"


@dataclass(frozen=True)
class Step:
    """One role on one host: whether it would run, and the reason in words."""

    host: str
    role: str
    needed: bool
    reason: str


@dataclass(frozen=True)
class FleetPlan:
    """The steps of every host that could be observed, and Ansible's exit code for the others (0: there are none)."""

    steps: tuple[Step, ...]
    ansible_exit_code: int

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 2 changes wait, 1 a host could not be planned."""
        if self.ansible_exit_code:
            return 1
        return 2 if any(step.needed for step in self.steps) else 0

    def to_json(self) -> str:
        """The plan as documented JSON: {schema, exit_code, steps: [{host, role, needed, reason}]}."""
        steps = [asdict(step) for step in self.steps]
        return json.dumps({"schema": SCHEMA, "exit_code": self.exit_code, "steps": steps}, indent=2)


def make_plan(inventory: Path, limit: str | None) -> FleetPlan:
    """Observe the hosts and plan for them; Ansible's own output is shown only when something went wrong."""
    inventory_check.check(inventory, limit)
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-plan-") as folder:
        options = PlaybookOptions(limit=limit, extra_vars=[f"ollama_fleet_plan_folder={folder}"])
        code = run_playbook("plan", inventory, options, quiet=True)
        plans = sorted(Path(folder).glob("*.json"))
        steps = [Step(host=path.stem, **step) for path in plans for step in json.loads(path.read_text())]
    if code and not steps:
        raise FleetError(
            f"plan for {inventory}", "no host could be planned", "see the problems above, then run it again"
        )
    return FleetPlan(tuple(steps), code)


def show(plan: FleetPlan, console: Console) -> None:
    """Print one line for each step that waits, and a summary."""
    waiting = [step for step in plan.steps if step.needed]
    hosts = {step.host for step in plan.steps}
    if waiting:
        table = Table("host", "role", "reason", box=None, pad_edge=False, header_style="bold")
        for step in waiting:
            table.add_row(step.host, step.role, step.reason)
        console.print(table)
    done = len(hosts) - len({step.host for step in waiting})
    console.print(f"{len(waiting)} steps wait on {len(hosts) - done} hosts; {done} hosts are as described.")

"""The plan of the recorded fleet, made by the code that ./inv plan runs, from observations instead of hosts."""

import json
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.ollama_fleet.stack.plugins.action import plan
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import decisions

from ollama_fleet.planning import FleetPlan, HostPlan, host_plan, render
from tests.fleet_support.machines import ROLES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/data/fleet"
NOVEMBER_2026 = [2026, 11]
WIDTH = 120


def observation(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return result


def values_of(role: str, names: list[str]) -> dict[str, Any]:
    """The role's defaults; the lock file is the fleet's."""
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    values = {name: defaults[name] for name in names if name in defaults}
    if role == "nvidia_driver":
        values["nvidia_driver_lock_file"] = str(FOLDER / "driver.lock.yml")
    return values


def answer(host: dict[str, Any], names: list[str], url: str | None) -> dict[str, Any]:
    """What package_versions would have returned on this host."""
    available = yaml.safe_load((FOLDER / "available.yml").read_text())
    place = "/".join(url.split("/")[-2:]) if url else f"{host['os']['id']} {host['os']['version_id']}"
    if place not in available:
        return {"failed": True, "msg": f"{url or place} does not answer"}
    return {"versions": {name: available[place].get(name, []) for name in names}}


def plan_of(name: str) -> HostPlan:
    host = observation(name)
    steps = []
    for role in ROLES:
        record = host["records"].get(role)
        why = plan.reasons(record, record["inputs"] if record else {}, record["role_digest"] if record else "")
        decided = decisions.of_role(
            role, host, values_of, lambda names, url: answer(host, names, url), today=NOVEMBER_2026
        )
        steps.append(plan.step_of(role, why, decided))
    return host_plan(name, {"host": plan.about(host), "steps": steps})


def fleet_plan() -> FleetPlan:
    names = sorted(path.stem for path in FOLDER.glob("*.json"))
    return FleetPlan(tuple(plan_of(name) for name in names))


def note() -> str:
    return "\n".join(render(fleet_plan(), WIDTH))

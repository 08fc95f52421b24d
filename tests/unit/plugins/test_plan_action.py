"""The plan action with the answers of its modules replaced: what it asks of a host, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.ollama_fleet.stack.plugins.action import plan

from tests.fleet_support import note

ROLES = ["gpu_preflight", "nvidia_driver", "nvidia_container_toolkit"]


class Modules:
    """Stands for the host: answers what the action runs on it, and remembers what that was."""

    def __init__(self, observation: dict[str, Any], versions: dict[str, Any]) -> None:
        self.observation, self.versions = observation, versions
        self.run: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.run.append((module_name.rsplit(".", maxsplit=1)[1], module_args))
        if module_name.endswith("host_info"):
            return {"ansible_facts": {"ollama_fleet": self.observation}}
        return self.versions


def plan_action() -> Any:
    loader = DataLoader()
    task = SimpleNamespace(args={"roles": ROLES}, async_val=0, check_mode=False, diff=False, action="plan")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    return plan.ActionModule(task, connection, None, loader, Templar(loader), None)


def planned(name: str, variables: dict[str, Any], versions: dict[str, Any]) -> tuple[dict[str, Any], Modules]:
    action = plan_action()
    modules = Modules(note.observation(name), versions)
    action._execute_module = modules
    task_vars = {
        "inventory_hostname": name,
        "nvidia_driver_lock_file": str(note.FOLDER / "driver.lock.yml"),
        "nvidia_driver_repository_url": "https://packages.example/repos",
        **variables,
    }
    return action.run(None, task_vars), modules


def step(result: dict[str, Any], role: str) -> dict[str, Any]:
    return next(item for item in result["steps"] if item["role"] == role)


def test_host_that_needs_no_driver_change_costs_one_module_run() -> None:
    for name in ("hgx-h100", "h100-vm", "laptop", "mixed", "shaky-a100", "t4-cloud"):
        _, modules = planned(name, {}, {})
        assert [module for module, _ in modules.run] == ["host_info"], name


def test_exact_version_costs_a_second_one_with_names_manager_and_address() -> None:
    versions = {name: ["3:580.178.04-1.el9"] for name in ("nvidia-driver-cuda", "kmod-nvidia-open-dkms")}
    versions["nvidia-persistenced"] = ["3:580.178.04-1.el9"]
    result, modules = planned("rocky-l40s", {}, {"versions": versions})
    assert modules.run[1] == (
        "package_versions",
        {
            "names": ["kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"],
            "manager": "dnf",
            "repository_url": "https://packages.example/repos/rhel9/x86_64",
        },
    )
    assert "install 580.178.04 with open modules" in step(result, "nvidia_driver")["reason"]


def test_host_that_cannot_reach_its_repository_is_planned_all_the_same() -> None:
    result, _ = planned("gb200-1", {}, {"failed": True, "msg": "no answer"})
    driver = step(result, "nvidia_driver")
    assert driver["needed"]
    version = next(item for item in driver["notes"] if item["topic"] == "version")
    assert version["choice"] == "not known yet"
    assert version["reason"].startswith("no answer")


def test_variables_of_the_inventory_decide() -> None:
    result, _ = planned("hgx-h100", {"nvidia_driver_branch": 535}, {})
    refusal = step(result, "nvidia_driver")["refusal"]
    assert refusal["rule"] == "Ollama needs 550, and nvidia_driver_branch is 535"
    result, _ = planned("hgx-h100", {"nvidia_container_toolkit_version": "1.17.7"}, {})
    assert "CVE-2025-23266" in step(result, "nvidia_container_toolkit")["refusal"]["rule"]


def test_host_and_needed_roles_are_returned() -> None:
    result, _ = planned("laptop", {}, {})
    assert result["host"]["cards"] == "GPUs that Windows lends to WSL"
    assert result["needed"] == ROLES
    assert result["changed"] is False


def test_host_that_cannot_be_observed_fails_as_it_does() -> None:
    action = plan_action()
    action._execute_module = lambda **_: {"failed": True, "msg": "run this with become"}
    assert action.run(None, {})["msg"] == "run this with become"


@pytest.mark.parametrize("name", ["hgx-h100", "t4-cloud"])
def test_lock_file_alone_says_which_version(name: str) -> None:
    result, _ = planned(name, {"nvidia_driver_lock_file": str(note.FOLDER / "no-such.yml")}, {})
    assert step(result, "nvidia_driver")["needed"]

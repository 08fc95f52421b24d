"""Whether a host gets the container toolkit, which version, and how its containers get GPUs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import toolkit

from tests.unit.plugins.test_driver_plan import host_of

OURS = "https://nvidia.github.io/libnvidia-container"
H100 = {"cards": "H100", "system": "noble"}
WSL = {"cards": "", "system": "noble", "kernel": "6.6.87-microsoft-standard-WSL2"}


def host(words: dict[str, Any], docker: str | None = None, **there: str) -> dict[str, Any]:
    found = {name: {"version": version, "installed": True, "held": True} for name, version in there.items()}
    return {
        **host_of(words),
        "docker": {"version": docker, "snap": words.get("snap", False)},
        "toolkit": {"packages": found},
    }


def said(plan: dict[str, Any]) -> str:
    notes = [f"{note['choice']}: {note['reason']}" for note in plan["notes"]]
    return "; ".join([*plan["reasons"], *notes])


@pytest.mark.parametrize(
    ("words", "version", "action", "says"),
    [
        ({"cards": "", "system": "noble"}, "1.20.1", "skip", "no NVIDIA GPU"),
        (H100, "1.20.1", "install", "install four packages at 1.20.1"),
        (H100, "1.20.1", "install", "with the fixes of CVE-2025-23266 and CVE-2026-24260"),
        (H100, "1.19.1", "install", "with the fixes of CVE-2025-23266 and CVE-2026-24260"),
        (H100, "1.19.0", "install", "fixed in 1.19.1 only (CVE-2026-24260): plan the move"),
        (H100, "1.17.8", "install", "CVE-2026-24260"),
        (H100, "1.17.7", "refuse", "before 1.17.8 containers can break out of the toolkit (CVE-2025-23266)"),
        (H100, "1.9.0", "refuse", "Set nvidia_container_toolkit_version to 1.19.1 or later"),
        (WSL, "1.20.1", "install", "four packages at 1.20.1"),
        (WSL, "1.18.1", "refuse", "CDI refresh does not work in WSL"),
        ({**H100, "snap": True}, "1.20.1", "refuse", "sudo snap remove docker"),
    ],
)
def test_toolkit_plan(words: dict[str, Any], version: str, action: str, says: str) -> None:
    plan = nvidia.toolkit_plan(host(words), version, OURS)
    assert plan["action"] == action
    assert says in said(plan)
    assert plan["packages"] == (dict.fromkeys(toolkit.PACKAGES, f"{version}-1") if action == "install" else {})
    assert plan["complete"] is False


@pytest.mark.parametrize(
    ("docker", "version", "injection", "daemon_options", "says"),
    [
        (None, "1.20.1", "", {}, "Docker is not there yet"),
        ("29.7.2", "1.20.1", "cdi", {}, "has it on"),
        ("28.2.0", "1.20.1", "cdi", {}, "has it on"),
        ("28.1.1", "1.20.1", "cdi", {"features": {"cdi": True}}, "can, when told to"),
        ("26.1.5", "1.20.1", "cdi", {"features": {"cdi": True}}, "can, when told to"),
        ("26.0.2", "1.20.1", "runtime", toolkit.RUNTIME_OPTIONS, "too old for CDI (26.1)"),
        ("25.0.5", "1.18.2", "cdi", {"features": {"cdi": True}}, "can, when told to"),
        ("24.0.9", "1.18.2", "runtime", toolkit.RUNTIME_OPTIONS, "too old for CDI (25.0)"),
        ("20.10.24", "1.20.1", "runtime", toolkit.RUNTIME_OPTIONS, "toolkit issue 1967"),
    ],
)
def test_gpus_come_by_cdi_where_docker_can_and_else_by_the_documented_fallback(
    docker: str | None, version: str, injection: str, daemon_options: dict[str, Any], says: str
) -> None:
    plan = nvidia.toolkit_plan(host(H100, docker), version, OURS)
    assert (plan["injection"], plan["daemon_options"]) == (injection, daemon_options)
    assert says in said(plan)


def test_fallback_keeps_gpus_through_a_daemon_reload() -> None:
    assert toolkit.RUNTIME_OPTIONS["exec-opts"] == ["native.cgroupdriver=cgroupfs"]


def test_what_is_there_at_the_version_is_complete() -> None:
    there = dict.fromkeys(toolkit.PACKAGES, "1.20.1-1")
    assert nvidia.toolkit_plan(host(H100, "28.4.0", **there), "1.20.1", OURS)["complete"] is True


def test_what_is_there_at_another_version_or_in_part_is_said() -> None:
    there = dict.fromkeys(toolkit.PACKAGES, "1.17.8-1")
    plan = nvidia.toolkit_plan(host(H100, "28.4.0", **there), "1.20.1", OURS)
    assert plan["complete"] is False
    assert plan["reason"] == "install four packages at 1.20.1; now 1.17.8"
    part = nvidia.toolkit_plan(host(H100, "28.4.0", **{"libnvidia-container1": "1.20.1-1"}), "1.20.1", OURS)
    assert "only libnvidia-container1 is there, at 1.20.1" in part["reason"]


def test_refusal_names_rule_card_and_remedy() -> None:
    refusal = nvidia.toolkit_plan(host(H100), "1.17.7", OURS)["refusal"]
    assert refusal["cards"] == ["1 x Hopper 10de:2330"]
    assert refusal["rule"]
    assert refusal["remedy"]

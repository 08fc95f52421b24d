"""What a specialist would decide, host by host: tests/data/driver_plan/hosts.yml, a row a host.

Each row names its rule; docs/drivers.md has the rule's source.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia

from tests.unit.plugins.host_trees import HostTree

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs/drivers.md"
ROWS = yaml.safe_load((ROOT / "tests/data/driver_plan/hosts.yml").read_text())

CARDS = {
    "GTX980": "13c0",
    "M60": "13f2",
    "P4": "1bb3",
    "P100": "15f8",
    "V100": "1db6",
    "T4": "1eb8",
    "RTX2080": "1e87",
    "A100": "20b2",
    "A10": "2236",
    "RTX3090": "2204",
    "L40S": "26b9",
    "RTX4090": "2684",
    "H100": "2330",
    "H200": "2335",
    "GH200": "2342",
    "B200": "2901",
    "GB200": "2941",
    "B300": "3182",
    "GB10": "2e12",
    "RTX5090": "2b85",
    "RTX6000": "2bb1",
    "K80": "102d",
    "FERMI": "06d1",
    "NEW": "7fff",
}
SYSTEMS = {
    "jammy": ("ubuntu", "22.04", "debian", "5.15.0-119-generic"),
    "noble": ("ubuntu", "24.04", "debian", "6.8.0-45-generic"),
    "resolute": ("ubuntu", "26.04", "debian", "7.0.0-30-generic"),
    "bookworm": ("debian", "12", "debian", "6.1.0-40-amd64"),
    "trixie": ("debian", "13", "debian", "6.12.107+deb13-amd64"),
    "el8": ("rocky", "8.10", "redhat", "4.18.0-553.el8_10.x86_64"),
    "el9": ("rocky", "9.6", "redhat", "5.14.0-570.12.1.el9_6.x86_64"),
    "el10": ("rhel", "10.0", "redhat", "6.12.0-55.9.1.el10_0.x86_64"),
    "fedora": ("fedora", "44", "redhat", "7.1.4-200.fc44.x86_64"),
    "alpine": ("alpine", "3.22", "", "6.12.30-0-lts"),
}
WISHES = {
    "branch": 580,
    "version": "",
    "flavor": "auto",
    "source": "auto",
    "reboot_enabled": False,
    "today": [2026, 11],
}
OPEN_NOBLE = "nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-headless-no-dkms-580-server-open"
# The rows' names for what is installed and loaded.
DRIVERS: dict[str, dict[str, Any]] = {
    "none": {},
    "runfile": {"loaded": "580.159.04", "flavor": "open", "on_disk": "580.159.04", "user_space": "580.159.04"},
    "runs": {
        "loaded": "580.159.04",
        "flavor": "open",
        "on_disk": "580.159.04",
        "user_space": "580.159.04",
        "packages": {"580.159.04-0ubuntu0.24.04.1": OPEN_NOBLE},
    },
    "older": {
        "loaded": "580.126.09",
        "flavor": "open",
        "on_disk": "580.126.09",
        "user_space": "580.126.09",
        "packages": {"580.126.09-0ubuntu0.24.04.1": OPEN_NOBLE},
    },
}


def driver_of(words: str | dict[str, Any]) -> dict[str, Any]:
    own = {"like": words} if isinstance(words, str) else dict(words)
    driver = {"loaded": None, "flavor": None, "on_disk": None, "user_space": None, "packages": {}}
    driver |= DRIVERS[own.pop("like")] | own
    driver["packages"] = {
        name: {"version": version, "installed": True, "held": False}
        for version, names in driver["packages"].items()
        for name in names.split()
    }
    return driver


def kernels_of(versions: dict[str, str | None], running: str) -> list[dict[str, Any]]:
    return [
        {
            "release": release,
            "running": release == running,
            "module": {"version": version, "flavor": "open", "path": "/lib/modules/x/nvidia.ko"} if version else None,
            "headers": True,
        }
        for release, version in versions.items()
    ]


def gpus_of(words: dict[str, Any]) -> list[dict[str, Any]]:
    found = re.findall(r"(?:(\d+) )?([A-Z]\w+)", words["cards"])
    ids = [CARDS[name] for number, name in found for _ in range(int(number or 1))]
    return [
        {
            "pci_address": f"0000:{place + 1:02x}:00.0",
            "vendor_id": "10de",
            "device_id": device,
            "architecture": nvidia_pci.architecture(int(device, 16)),
            "name": None,
            "driver_in_use": words.get("held", {}).get(place, words.get("holder")),
            "state": "lost" if place == words.get("lost") else "ok",
        }
        for place, device in enumerate(ids)
    ]


def host_of(words: dict[str, Any]) -> dict[str, Any]:
    """The observation of a host, from a row's few words."""
    identity, version, family, kernel = SYSTEMS[words["system"]]
    kernel = words.get("kernel", kernel)
    return {
        "os": {
            "id": identity,
            "version_id": version,
            "name": f"{identity.capitalize()} {version}",
            "architecture": words.get("machine", "x86_64"),
            "family": family,
        },
        "kernel": kernel,
        "kernels": kernels_of(words.get("kernels", {}), kernel),
        "wsl": "microsoft" in kernel,
        "wsl_gpu": "microsoft" in kernel,
        "secure_boot": words.get("secure_boot", False),
        "mok_enrolled": words.get("mok_enrolled"),
        "gpus": gpus_of(words),
        "nvswitches": [f"0000:a{number}:00.0" for number in range(words.get("nvswitches", 0))],
        "nvswitch_bridges": [f"mlx5_{number}" for number in range(words.get("bridges", 0))],
        "driver": driver_of(words.get("driver", "none")),
        "packages": words.get("packages", {"manager": "apt", "broken": [], "held": []}),
    }


def lock_of(row: dict[str, Any]) -> dict[str, Any]:
    packages = dict.fromkeys(OPEN_NOBLE.split(), "580.159.04-0ubuntu0.24.04.1")
    return {platform: {"version": version, "packages": packages} for platform, version in row.get("lock", {}).items()}


def decide(row: dict[str, Any]) -> dict[str, Any]:
    return nvidia.driver_plan(host_of(row["host"]), {**WISHES, **row.get("asked", {})}, lock_of(row))


def everything_said(decision: dict[str, Any]) -> str:
    notes = [f"{note['choice']}: {note['reason']}" for note in decision["notes"]]
    return "; ".join([*decision["reasons"], *notes])


def named(row: dict[str, Any]) -> str:
    return str(row["name"])


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_driver_plan(row: dict[str, Any]) -> None:
    decision = decide(row)
    said = everything_said(decision)
    assert f"{decision['action']} {decision['flavor']} {decision['source']}".strip() == row["plan"], said
    assert row["says"] in said
    assert sorted(decision["packages"]) == sorted(row.get("packages", "").split())
    assert decision["extra"] == row.get("extra", "").split()
    assert decision["reboot"] is row.get("reboot", False)


@pytest.mark.parametrize("row", [row for row in ROWS if row["plan"] == "refuse"], ids=named)
def test_refusal_names_rule_card_and_remedy(row: dict[str, Any]) -> None:
    decision = decide(row)
    refusal = decision["refusal"]
    assert refusal["rule"]
    assert refusal["remedy"]
    assert refusal["cards"]
    assert all(re.search(r"10de:[0-9a-f]{4} at 0000:", card) for card in refusal["cards"])
    assert decision["packages"] == {}


def test_table_is_long_enough_and_each_rule_has_its_source() -> None:
    rules = DOCS.read_text().split("## The rules", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", rules, re.MULTILINE))
    used = {row["rule"] for row in ROWS}
    assert len(ROWS) >= 60
    assert len({row["name"] for row in ROWS}) == len(ROWS)
    assert used == documented


@pytest.mark.parametrize("recording", ["nvidia-h100", "nvidia-h200-x2"])
def test_recorded_machines_need_nothing(tree: HostTree, recording: str) -> None:
    host = tree.recording(recording).observe(disk_paths=[]).everything()
    decision = nvidia.driver_plan(host, WISHES)
    assert decision["action"] == "keep"
    assert decision["reasons"] == ["580.159.04 open is loaded, not from packages: it stays, and is not locked"]


@pytest.mark.parametrize(
    ("words", "asked", "expected"),
    [
        ({"cards": "H100", "system": "noble"}, {}, ("ubuntu-24.04-x86_64-ubuntu-open", "", "")),
        ({"cards": "V100", "system": "bookworm"}, {}, ("debian-12-x86_64-cuda-proprietary", "debian12/x86_64", "")),
        (
            {"cards": "GH200", "system": "trixie", "machine": "aarch64"},
            {},
            ("debian-13-aarch64-cuda-open", "debian13/sbsa", ""),
        ),
        (
            {"cards": "H100", "system": "noble"},
            {"source": "cuda"},
            ("ubuntu-24.04-x86_64-cuda-open", "ubuntu2404/x86_64", ""),
        ),
        (
            {"cards": "L40S", "system": "el9"},
            {},
            ("el-9-x86_64-cuda-open", "rhel9/x86_64", "nvidia-driver:580-open"),
        ),
        (
            {"cards": "V100", "system": "el9"},
            {},
            ("el-9-x86_64-cuda-proprietary", "rhel9/x86_64", "nvidia-driver:580-dkms"),
        ),
        (
            {"cards": "H100", "system": "el10", "machine": "aarch64"},
            {},
            ("el-10-aarch64-cuda-open", "rhel10/sbsa", ""),
        ),
    ],
)
def test_platform_repository_and_module_stream(
    words: dict[str, Any], asked: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    decision = decide({"host": words, "asked": asked})
    assert (decision["platform"], decision["repository"], decision["module_stream"]) == expected


def test_containers_that_use_a_gpu_are_stopped_for_a_change_and_no_others() -> None:
    row = next(row for row in ROWS if row["name"] == "the same, and reboots are allowed")
    host = host_of(row["host"])
    host["docker"] = {
        "containers": [
            {"name": "ollama", "state": "running", "gpu": True},
            {"name": "trainer", "state": "exited", "gpu": True},
            {"name": "web", "state": "running", "gpu": False},
        ]
    }
    decision = nvidia.driver_plan(host, {**WISHES, "reboot_enabled": True}, lock_of(row))
    assert decision["stop"] == ["ollama"]


def test_locked_versions_are_the_packages_versions() -> None:
    lock = {"ubuntu-24.04-x86_64-ubuntu-open": "580.159.04"}
    decision = decide({"host": {"cards": "H100", "system": "noble"}, "lock": lock})
    assert decision["version"] == "580.159.04"
    assert set(decision["packages"].values()) == {"580.159.04-0ubuntu0.24.04.1"}


def test_package_in_another_revision_of_the_locked_driver_is_named_and_stays() -> None:
    host = host_of({"cards": "H100", "system": "noble", "driver": "runs"})
    name, package = next(iter(sorted(host["driver"]["packages"].items())))
    lock = lock_of({"lock": {"ubuntu-24.04-x86_64-ubuntu-open": "580.159.04"}})
    assert nvidia.driver_plan(host, WISHES, lock)["reasons"] == ["580.159.04 open is loaded"]

    was, package["version"] = package["version"], "580.159.04-0ubuntu0.24.04.2"
    decision = nvidia.driver_plan(host, WISHES, lock)
    assert decision["action"] == "keep"
    assert decision["packages"][name] == "580.159.04-0ubuntu0.24.04.2"
    assert f"{name} is there as 580.159.04-0ubuntu0.24.04.2 and locked as {was}" in decision["reasons"][1]


def test_missing_part_of_a_running_driver_comes_without_a_reboot() -> None:
    decision = decide({"host": {"cards": "8 H100", "system": "noble", "driver": "runs", "nvswitches": 4}})
    assert decision["action"] == "install"
    assert decision["version"] == "580.159.04"
    assert decision["reboot"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"cards": "V100 B200", "system": "noble"}, "no driver serves both"),
        ({"cards": "4 A100", "system": "noble", "lost": 1}, "0000:02:00.0"),
        ({"cards": "K80", "system": "noble"}, "Kepler 10de:102d"),
        ({"cards": "H100", "system": "el8"}, "Rocky 8.10 on x86_64 is not supported"),
    ],
)
def test_preflight_refuses_what_no_setting_can_change(words: dict[str, Any], says: str) -> None:
    (refusal,) = nvidia.refusals(host_of(words))
    assert says in refusal["said"]
    assert refusal["remedy"]


def test_preflight_lets_a_host_pass_that_only_needs_settings() -> None:
    assert nvidia.refusals(host_of({"cards": "P100 A100", "system": "noble"})) == []
    assert nvidia.refusals(host_of({"cards": "", "system": "noble"})) == []


def test_recorded_virtual_machine_with_two_h200_gets_no_fabric_manager(tree: HostTree) -> None:
    host = tree.recording("nvidia-h200-x2").observe(disk_paths=[]).everything()
    host["driver"] = driver_of("none")
    host["kernel"] = "6.8.0-45-generic"
    decision = nvidia.driver_plan(host, WISHES)
    assert decision["action"] == "install"
    assert not any("fabric" in name for name in [*decision["packages"], *decision["extra"], *decision["services"]])
    assert {"topic": "fabric", "choice": "none"}.items() <= decision["notes"][-1].items()

"""What a specialist would decide, host by host."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia

from tests.unit.plugins.host_trees import HostTree

NOBLE = ("ubuntu", "24.04", "6.8.0-45-generic")
JAMMY = ("ubuntu", "22.04", "5.15.0-119-generic")
TRIXIE = ("debian", "13", "6.12.48+deb13-amd64")
BOOKWORM = ("debian", "12", "6.1.0-40-amd64")
WISHES = {"branch": 580, "version": "", "flavor": "auto", "mok_enrolled": False}

M60, P100, V100, T4, A100, L40S = "13f2", "15f8", "1db6", "1eb8", "20b2", "26b9"
H100, B200, RTX5090, GH200, K80, NEW = "2330", "2901", "2b85", "2342", "102d", "7fff"


@dataclass
class Case:
    """One host: its cards by device id, its system, what is loaded, what is asked for, and the decision."""

    name: str
    cards: list[str]
    action: str
    says: str
    system: tuple[str, str, str] = NOBLE
    flavor: str = ""
    packages: list[str] = field(default_factory=list)
    wishes: dict[str, Any] = field(default_factory=dict)
    driver: dict[str, Any] = field(default_factory=dict)
    machine: str = "x86_64"
    holder: str | None = None
    secure_boot: bool | None = False
    nvswitches: int = 0
    reboot: bool = False


def installed(*names: str) -> dict[str, Any]:
    return {name: {"version": "580.159.04-1", "installed": True, "held": False} for name in names}


OPEN_NOBLE = [
    "nvidia-utils-580-server",
    "nvidia-compute-utils-580-server",
    "nvidia-headless-no-dkms-580-server-open",
    "linux-modules-nvidia-580-server-open-generic",
]
OLD_NOBLE = [name.replace("-open", "") for name in OPEN_NOBLE]
OPEN_CUDA = ["nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"]
LOADED = {"loaded": "580.159.04", "flavor": "open", "on_disk": "580.159.04"}

CASES = [
    Case("no card", [], "skip", "no NVIDIA GPU on the PCI bus"),
    Case("WSL", [], "skip", "belongs to Windows", system=("ubuntu", "24.04", "6.6-microsoft-standard-WSL2")),
    Case("all cards in virtual machines", [H100, H100], "skip", "vfio-pci", holder="vfio-pci"),
    Case("H100 on Ubuntu 24.04", [H100], "install", "open modules: hopper", flavor="open", packages=OPEN_NOBLE),
    Case("T4 on Ubuntu 22.04", [T4], "install", "open modules: turing", JAMMY, "open", OPEN_NOBLE),
    Case(
        "A100 with the hardware enablement kernel",
        [A100],
        "install",
        "flavour generic-hwe-24.04",
        ("ubuntu", "24.04", "6.14.0-27-generic"),
        "open",
        [*OPEN_NOBLE[:3], "linux-modules-nvidia-580-server-open-generic-hwe-24.04"],
    ),
    Case(
        "L40S in AWS",
        [L40S],
        "install",
        "flavour aws",
        ("ubuntu", "24.04", "6.8.0-1015-aws"),
        "open",
        [*OPEN_NOBLE[:3], "linux-modules-nvidia-580-server-open-aws"],
    ),
    Case(
        "H100 with a kernel of one's own",
        [H100],
        "install",
        "built by DKMS",
        ("ubuntu", "24.04", "6.18.44-custom"),
        "open",
        [*OPEN_NOBLE[:2], "nvidia-headless-580-server-open"],
    ),
    Case(
        "eight H100 with NVSwitches",
        [H100] * 8,
        "install",
        "open modules",
        flavor="open",
        packages=[*OPEN_NOBLE, "nvidia-fabricmanager-580"],
        nvswitches=4,
    ),
    Case("V100", [V100], "install", "proprietary modules: volta", flavor="proprietary", packages=OLD_NOBLE),
    Case("P100 beside A100", [P100, A100], "install", "pascal 10de:15f8", flavor="proprietary", packages=OLD_NOBLE),
    Case("B200", [B200], "install", "open modules: blackwell", flavor="open", packages=OPEN_NOBLE),
    Case("RTX 5090 on Debian 13", [RTX5090], "install", "CUDA repository", TRIXIE, "open", OPEN_CUDA),
    Case(
        "M60 on Debian 12",
        [M60],
        "install",
        "CUDA repository",
        BOOKWORM,
        "proprietary",
        ["nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-persistenced"],
    ),
    Case("GH200", [GH200], "install", "open modules: hopper", flavor="open", packages=OPEN_NOBLE, machine="aarch64"),
    Case(
        "card newer than the table", [NEW], "install", "not in the table of PCI ids", flavor="open", packages=OPEN_NOBLE
    ),
    Case(
        "nouveau holds the card",
        [T4],
        "install",
        "nouveau",
        flavor="open",
        packages=OPEN_NOBLE,
        holder="nouveau",
        reboot=True,
    ),
    Case("loaded, not from packages", [H100], "keep", "580.159.04 open is loaded", flavor="open", driver=LOADED),
    Case(
        "converged",
        [H100],
        "keep",
        "580.159.04 open is loaded",
        flavor="open",
        packages=OPEN_NOBLE,
        driver={**LOADED, "packages": installed(*OPEN_NOBLE)},
    ),
    Case(
        "loaded from the desktop's packages",
        [H100],
        "keep",
        "580.159.04 open is loaded",
        flavor="open",
        driver={**LOADED, "packages": installed("nvidia-driver-580-open")},
    ),
    Case(
        "another branch is loaded",
        [H100],
        "install",
        "550.54.15 proprietary is loaded",
        flavor="open",
        packages=OPEN_NOBLE,
        driver={"loaded": "550.54.15", "flavor": "proprietary", "on_disk": "550.54.15"},
        reboot=True,
    ),
    Case(
        "another version than the pinned one is loaded",
        [H100],
        "install",
        "580.159.04 open is loaded",
        flavor="open",
        packages=OPEN_NOBLE,
        wishes={"version": "580.173.02"},
        driver=LOADED,
        reboot=True,
    ),
    Case(
        "installed, waits for a reboot",
        [H100],
        "reboot",
        "580.159.04 is installed, but 550.54.15 proprietary is loaded",
        flavor="open",
        packages=OPEN_NOBLE,
        driver={
            "loaded": "550.54.15",
            "flavor": "proprietary",
            "on_disk": "580.159.04",
            "packages": installed(*OPEN_NOBLE),
        },
        reboot=True,
    ),
    Case(
        "Secure Boot with prebuilt modules",
        [H100],
        "install",
        "signed",
        flavor="open",
        packages=OPEN_NOBLE,
        secure_boot=True,
    ),
    Case("Secure Boot with DKMS", [H100], "refuse", "mokutil --import", TRIXIE, secure_boot=True),
    Case(
        "Secure Boot with DKMS and an enrolled key",
        [H100],
        "install",
        "CUDA",
        TRIXIE,
        "open",
        OPEN_CUDA,
        {"mok_enrolled": True},
        secure_boot=True,
    ),
    Case("Volta beside Blackwell", [V100, B200], "refuse", "no driver serves both"),
    Case("Kepler", [K80], "refuse", "kepler 10de:102d at 0000:01:00.0 is Kepler"),
    Case("Pascal on a later branch", [P100], "refuse", "580 is the last for pascal", wishes={"branch": 595}),
    Case("Pascal below Ollama's floor", [P100], "refuse", "needs 570", wishes={"branch": 550}),
    Case("Blackwell on 550", [B200], "refuse", "needs 570", wishes={"branch": 550}),
    Case("any card below Ollama's floor", [T4], "refuse", "needs 550", wishes={"branch": 535}),
    Case("open modules asked for Volta", [V100], "refuse", "came before Turing", wishes={"flavor": "open"}),
    Case("proprietary asked for Blackwell", [B200], "refuse", "open modules only", wishes={"flavor": "proprietary"}),
    Case(
        "proprietary asked for Grace Hopper",
        [GH200],
        "refuse",
        "open modules only",
        wishes={"flavor": "proprietary"},
        machine="aarch64",
    ),
    Case(
        "proprietary asked for H100",
        [H100],
        "install",
        "as nvidia_driver_flavor says",
        flavor="proprietary",
        packages=OLD_NOBLE,
        wishes={"flavor": "proprietary"},
    ),
    Case("version of another branch", [H100], "refuse", "same branch", wishes={"version": "575.57.08"}),
    Case(
        "a distribution without known packages",
        [H100],
        "refuse",
        "no driver packages are known",
        ("alpine", "3.22", "6.12"),
    ),
]


def host_of(case: Case) -> dict[str, Any]:
    identity, version, kernel = case.system
    return {
        "os": {
            "id": identity,
            "version_id": version,
            "name": identity,
            "architecture": case.machine,
            "family": "debian",
        },
        "kernel": kernel,
        "wsl": "microsoft" in kernel,
        "wsl_gpu": "microsoft" in kernel,
        "secure_boot": case.secure_boot,
        "gpus": [
            {
                "pci_address": f"0000:{position:02x}:00.0",
                "vendor_id": "10de",
                "device_id": device,
                "architecture": nvidia_pci.architecture(int(device, 16)),
                "name": None,
                "driver_in_use": case.holder,
            }
            for position, device in enumerate(case.cards, start=1)
        ],
        "nvswitches": [f"0000:a{number}:00.0" for number in range(case.nvswitches)],
        "driver": {"loaded": None, "flavor": None, "on_disk": None, "user_space": None, "packages": {}, **case.driver},
    }


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_driver_plan(case: Case) -> None:
    plan = nvidia.driver_plan(host_of(case), {**WISHES, **case.wishes})
    said = "; ".join(plan["reasons"])
    assert plan["action"] == case.action, said
    assert case.says in said
    assert plan["flavor"] == case.flavor
    assert plan["packages"] == case.packages
    assert plan["reboot"] is case.reboot


@pytest.mark.parametrize("recording", ["nvidia-h100", "nvidia-h200-x2"])
def test_recorded_machines_need_nothing(tree: HostTree, recording: str) -> None:
    plan = nvidia.driver_plan(tree.recording(recording).observe(disk_paths=[]).everything(), WISHES)
    assert plan["action"] == "keep"
    assert plan["reasons"] == ["580.159.04 open is loaded, not from packages"]


def test_arm_servers_have_a_repository_of_their_own() -> None:
    case = Case("GH200 on Debian 13", [GH200], "install", "", TRIXIE, machine="aarch64")
    assert nvidia.driver_plan(host_of(case), WISHES)["repository"] == "debian13/sbsa"


def test_headers_come_along_only_where_modules_are_built() -> None:
    built = nvidia.driver_plan(host_of(Case("", [H100], "", "", TRIXIE)), WISHES)
    assert built["headers"] == ["linux-headers-6.12.48+deb13-amd64"]
    assert nvidia.driver_plan(host_of(Case("", [H100], "", "")), WISHES)["headers"] == []


@pytest.mark.parametrize(
    ("cards", "system", "version", "action", "says"),
    [
        ([], NOBLE, "1.20.0", "skip", "no NVIDIA GPU"),
        ([H100], NOBLE, "1.20.0", "install", "four packages at 1.20.0"),
        ([H100], NOBLE, "1.17.8", "install", "1.17.8"),
        ([H100], NOBLE, "1.17.7", "refuse", "CVE-2025-23266"),
        ([H100], NOBLE, "1.9.0", "refuse", "1.17.8 or later"),
        ([], ("ubuntu", "24.04", "6.6-microsoft-standard-WSL2"), "1.20.0", "install", "1.20.0"),
        ([], ("ubuntu", "24.04", "6.6-microsoft-standard-WSL2"), "1.18.1", "refuse", "WSL"),
    ],
)
def test_toolkit_plan(cards: list[str], system: tuple[str, str, str], version: str, action: str, says: str) -> None:
    plan = nvidia.toolkit_plan(host_of(Case("", cards, "", "", system)), version)
    assert plan["action"] == action
    assert says in plan["reason"]
    expected = {f"{version}-1"} if action == "install" else set()
    assert set(plan["packages"].values()) == expected

"""Lays out twelve different servers as folders, for observe.Host to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.ollama_fleet.stack.plugins.module_utils.observe import Host
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import toolkit

from tests.unit.plugins.host_trees import HostTree

GPU, SERVER_GPU, SWITCH = "0x030000", "0x030200", "0x068000"
NIC = "0x020700"
NAMES = {
    "ubuntu 22.04": "Ubuntu 22.04.5 LTS",
    "ubuntu 24.04": "Ubuntu 24.04.3 LTS",
    "ubuntu 26.04": "Ubuntu 26.04 LTS",
    "debian 12": "Debian GNU/Linux 12 (bookworm)",
    "debian 13": "Debian GNU/Linux 13 (trixie)",
    "rocky 9.6": "Rocky Linux 9.6 (Blue Onyx)",
}
ROLES = (
    "gpu_preflight",
    "nvidia_driver",
    "docker",
    "nvidia_container_toolkit",
    "ollama",
    "ollama_models",
    "ollama_gateway",
)


class Machine:
    """One server in a folder: its tree, and what its programs and Docker answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = HostTree(folder)
        self.docker: dict[str, Any] = {}

    def system(self, system: str, kernel: str, machine: str = "x86_64") -> Machine:
        identity, version = system.split()
        like = {"ubuntu": "debian", "rocky": "rhel centos fedora"}.get(identity, "")
        self.tree.system(identity, version, kernel, like)
        self.tree.write(
            "etc/os-release",
            f'ID={identity}\nVERSION_ID="{version}"\nID_LIKE="{like}"\nPRETTY_NAME="{NAMES[system]}"\n',
        )
        self.tree.write("proc/sys/kernel/arch", machine + "\n")
        return self.kernel(kernel)

    def kernel(self, release: str, module: str = "", flavor: str = "open") -> Machine:
        """A kernel that can boot, with the driver's module or without."""
        self.tree.kernel(release, module, licence="Dual MIT/GPL" if flavor == "open" else "NVIDIA")
        return self

    def cards(self, device: str, number: int, driver: str = "", first: int = 1, kind: str = SERVER_GPU) -> Machine:
        for slot in range(first, first + number):
            self.tree.pci(f"0000:{slot:02x}:00.0", "0x10de", f"0x{device}", kind, driver)
        return self

    def name(self, model: str, *slots: int) -> Machine:
        """What the loaded driver calls its cards."""
        for slot in slots:
            text = f"Model: \t\t {model}\nBus Location: \t 0000:{slot:02x}:00.0\n"
            self.tree.write(f"proc/driver/nvidia/gpus/0000:{slot:02x}:00.0/information", text)
        return self

    def loaded(self, version: str, flavor: str = "open") -> Machine:
        self.tree.write("sys/module/nvidia/version", version + "\n")
        words = "Open Kernel Module for x86_64" if flavor == "open" else "x86_64 Kernel Module"
        return self.tree_write("proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX {words}  {version}  Release\n")

    def tree_write(self, path: str, text: str | bytes) -> Machine:
        self.tree.write(path, text)
        return self

    def installed(self, version: str, *names: str) -> Machine:
        for name in names:
            self.tree.package(name, version)
        return self

    def with_docker(self, version: str, *gpu_containers: str) -> Machine:
        listed = [
            {"Id": name, "Names": [f"/{name}"], "Image": "ollama", "ImageID": "sha256:0", "State": "running"}
            for name in gpu_containers
        ]
        self.docker = {
            "/version": {"Version": version},
            "/info": {"CgroupDriver": "systemd", "Runtimes": {"runc": {}}},
            "/containers/json?all=1": listed,
        }
        for name in gpu_containers:
            request = {"HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}}
            self.docker[f"/containers/{name}/json"] = request
        return self

    def applied(self, *roles: str) -> Machine:
        """The roles have run here, and nothing changed since."""
        for role in roles:
            record = {"complete": True, "inputs": {}, "role_digest": "", "keep": {}, "manages": {}}
            self.tree.write(f"state/{role}.json", json.dumps(record))
        return self

    def observe(self) -> dict[str, Any]:
        roots = {name: str(self.folder / name) for name in ("boot", "modules", "run", "var")}
        (self.folder / "usr/bin").mkdir(parents=True, exist_ok=True)
        found = Host(
            sys_root=str(self.folder / "sys"),
            proc_root=str(self.folder / "proc"),
            etc_root=str(self.folder / "etc"),
            usr_root=str(self.folder / "usr"),
            state_dir=str(self.folder / "state"),
            run=lambda *_command, **_options: None,
            fetch=lambda _url: None,
            fetch_from_socket=lambda _path, url: self.docker.get(url),
            **{f"{name}_root": path for name, path in roots.items()},
        ).everything()
        # What of this machine shows through, and where the tree stood, is not the recorded machine's.
        found["docker"]["present"] = bool(self.docker)
        found["docker"]["compose"] = None
        found["docker"]["snap"] = False
        text = json.dumps(found).replace(str(self.folder / "modules"), "/lib/modules")
        result: dict[str, Any] = json.loads(text)
        return result


SERVER = ("nvidia-utils-580-server", "nvidia-compute-utils-580-server", "nvidia-headless-no-dkms-580-server-open")
TOOLKIT = toolkit.PACKAGES
NOBLE = "580.159.04-0ubuntu0.24.04.1"


def h100_vm(machine: Machine) -> None:
    """Recorded on a real machine: one H100 in a virtual machine, with a driver that came with the image."""
    machine.tree.recording("nvidia-h100")


def hgx_h100(machine: Machine) -> None:
    """Eight H100 with four NVSwitches, as it should be."""
    machine.system("ubuntu 24.04", "6.8.0-45-generic").kernel("6.8.0-45-generic", "580.159.04")
    machine.cards("2330", 8, "nvidia").name("NVIDIA H100 80GB HBM3", *range(1, 9)).loaded("580.159.04")
    for slot in range(0xA1, 0xA5):
        machine.tree.pci(f"0000:{slot:02x}:00.0", "0x10de", "0x22a3", SWITCH, "nvidia-nvswitch")
    machine.installed(NOBLE, *SERVER, "nvidia-fabricmanager-580").installed("1.20.1-1", *TOOLKIT)
    machine.with_docker("28.4.0", "ollama").applied(*ROLES)


def hgx_b200(machine: Machine) -> None:
    """Eight B200, new, NVSwitches behind ConnectX-7 bridges."""
    machine.system("ubuntu 24.04", "6.8.0-60-generic").cards("2901", 8)
    for slot in range(0xC1, 0xC5):
        address = f"0000:{slot:02x}:00.0"
        machine.tree.pci(address, "0x15b3", "0x1021", NIC, "mlx5_core")
        machine.tree_write(f"sys/bus/pci/devices/{address}/vpd", b"\x82\x10\x00Nvidia ConnectX-7 SMDL=SW_MNG")


def gb200(machine: Machine) -> None:
    """A node of a GB200 rack, with NVIDIA's kernel."""
    machine.system("ubuntu 24.04", "6.14.0-1015-nvidia-64k", "aarch64").cards("2941", 4)


def v100(machine: Machine) -> None:
    """Four V100 that work with an old branch and serve somebody."""
    machine.system("debian 12", "6.1.0-40-amd64").kernel("6.1.0-40-amd64", "550.163.01", "proprietary")
    machine.cards("1db6", 4, "nvidia").name("Tesla V100-PCIE-32GB", 1, 2, 3, 4).loaded("550.163.01", "proprietary")
    machine.installed("550.163.01-1", "nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-persistenced")
    machine.with_docker("20.10.24", "trainer")


def secure_4090(machine: Machine) -> None:
    """A workstation with Secure Boot."""
    machine.system("debian 13", "6.12.107+deb13-amd64").cards("2684", 1, kind=GPU)
    machine.tree_write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x01")


def mixed(machine: Machine) -> None:
    """A V100 beside an RTX PRO 6000."""
    machine.system("ubuntu 24.04", "6.8.0-45-generic").cards("1db6", 1).cards("2bb1", 1, first=2, kind=GPU)


def lost_a100(machine: Machine) -> None:
    """Four A100, one of which no longer answers."""
    machine.system("ubuntu 22.04", "5.15.0-119-generic").kernel("5.15.0-119-generic", "580.159.04")
    machine.cards("20b2", 4, "nvidia").name("NVIDIA A100-SXM4-80GB", 1, 2, 4).loaded("580.159.04")
    machine.installed("580.159.04-0ubuntu0.22.04.1", *SERVER).installed("1.20.1-1", *TOOLKIT)
    machine.tree_write("sys/bus/pci/devices/0000:03:00.0/config", b"\xff" * 64)
    machine.with_docker("28.4.0", "ollama").applied(*ROLES)


def wsl(machine: Machine) -> None:
    """A laptop's WSL2: no card on the bus, libcuda from Windows."""
    machine.system("ubuntu 24.04", "6.6.87.2-microsoft-standard-WSL2")
    machine.tree_write("usr/lib/wsl/lib/libcuda.so.1.1", "")


def rocky_l40s(machine: Machine) -> None:
    """Two L40S on Enterprise Linux 9."""
    machine.system("rocky 9.6", "5.14.0-570.12.1.el9_6.x86_64").cards("26b9", 2)


def t4_kernel(machine: Machine) -> None:
    """A T4 in a cloud that works, with a newer kernel that would boot without its module."""
    machine.system("ubuntu 22.04", "6.8.0-1015-gcp").kernel("6.8.0-1015-gcp", "580.159.04").kernel("6.8.0-1021-gcp")
    machine.cards("1eb8", 1, "nvidia").name("Tesla T4", 1).loaded("580.159.04")
    machine.installed("580.159.04-0ubuntu0.22.04.1", *SERVER).installed("1.17.8-1", *TOOLKIT)
    machine.with_docker("26.1.3", "ollama").applied(*ROLES)


def desk_5090(machine: Machine) -> None:
    """A trainer's desk: an RTX 5090 that nouveau holds, and a card of next year handed to a virtual machine."""
    machine.system("ubuntu 26.04", "7.0.0-30-generic").cards("2b85", 1, "nouveau", kind=GPU)
    machine.cards("7fff", 1, "vfio-pci", first=2, kind=GPU)


FLEET: dict[str, Callable[[Machine], None]] = {
    "b200-1": hgx_b200,
    "debian-desk": secure_4090,
    "gb200-1": gb200,
    "h100-vm": h100_vm,
    "hgx-h100": hgx_h100,
    "laptop": wsl,
    "mixed": mixed,
    "rocky-l40s": rocky_l40s,
    "shaky-a100": lost_a100,
    "t4-cloud": t4_kernel,
    "trainer-desk": desk_5090,
    "v100-old": v100,
}


def observed(name: str, folder: Path) -> dict[str, Any]:
    """What host_info returns on one server of the fleet."""
    machine = Machine(folder)
    FLEET[name](machine)
    return machine.observe()

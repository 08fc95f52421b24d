"""Builds the trees that a host shows under /sys, /proc and /etc, from recordings or from a few words."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.ollama_fleet.stack.plugins.module_utils.observe import Host

RECORDINGS = Path(__file__).parents[2] / "data" / "hosts"


class Programs:
    """Answers for the programs that a host would be asked with, by name, or by name and first argument."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []

    def __call__(self, command: list[str], timeout: float = 5) -> str | None:
        assert timeout > 0
        self.asked.append(command)
        program = command[0].replace("-", "_")
        return self.answers.get(f"{program} {' '.join(command[1:2])}", self.answers.get(program))


class HostTree:
    """A host in a folder. ``observe`` looks at it as the module would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("sys", "proc", "etc", "usr", "var", "boot", "modules", "run", "state"):
            (root / name).mkdir(parents=True)
        self.programs = Programs()
        self.docker: dict[str, Any] = {}
        self.web: dict[str, Any] = {}

    def write(self, path: str, text: str | bytes) -> HostTree:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return self

    def system(self, identity: str, version: str, kernel: str, like: str = "") -> HostTree:
        self.write(
            "etc/os-release", f'ID={identity}\nVERSION_ID="{version}"\nID_LIKE="{like}"\nPRETTY_NAME="{identity} X"\n'
        )
        self.write("proc/sys/kernel/osrelease", kernel + "\n")
        self.write("proc/sys/kernel/arch", "x86_64\n")
        return self.write("proc/1/comm", "systemd\n")

    def package(self, name: str, version: str, state: str = "install ok installed") -> HostTree:
        """A package as dpkg's status file has it. state: what is wanted, whether that went well, what it is."""
        path = self.root / "var/lib/dpkg/status"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"Package: {name}\nStatus: {state}\nArchitecture: amd64\nVersion: {version}\n\n")
        return self

    def kernel(self, release: str, module: str = "", path: str = "kernel/nvidia/nvidia.ko", **more: Any) -> HostTree:
        """A kernel that can boot, with NVIDIA's module of this version or without. more: licence, headers"""
        self.write(f"boot/vmlinuz-{release}", "")
        index = "kernel/fs/ext4.ko: kernel/lib/crc16.ko\n"
        if module:
            index += f"{path}: kernel/drivers/drm.ko\n"
            licence = more.get("licence", "Dual MIT/GPL")
            content = f"\x7fELF\0version={module}\0license={licence}\0srcversion=ABC\0".encode()
            self.write(f"modules/{release}/{path}", lzma.compress(content) if path.endswith(".xz") else content)
        self.write(f"modules/{release}/modules.dep", index)
        if more.get("headers"):
            self.write(f"modules/{release}/build/Makefile", "")
        return self

    def pci(self, address: str, vendor: str, device: str, device_class: str, driver: str = "") -> HostTree:
        folder = f"sys/bus/pci/devices/{address}"
        for name, value in (("vendor", vendor), ("device", device), ("class", device_class)):
            self.write(f"{folder}/{name}", value + "\n")
        if driver:
            (self.root / folder / "driver").symlink_to(f"../../drivers/{driver}")
        return self

    def recording(self, name: str) -> HostTree:
        """Lay out what was recorded on a real machine, where the machine had it."""
        folder = RECORDINGS / name
        self.system("ubuntu", "24.04", (folder / "uname-r.txt").read_text().strip())
        shutil.copy(folder / "os-release", self.root / "etc/os-release")
        self.write("sys/module/nvidia/version", (folder / "sys-module-nvidia-version.txt").read_text())
        self.write("proc/driver/nvidia/version", (folder / "proc-driver-nvidia-version.txt").read_text())
        for line in (folder / "sysfs-pci.txt").read_text().splitlines():
            address, *pairs = line.split()
            values = dict(pair.split("=", 1) for pair in pairs)
            self.pci(address, values["vendor"], values["device"], values["class"], values["driver"])
        for part in (folder / "proc-gpus-information.txt").read_text().split("Model:")[1:]:
            address = part.split("Bus Location:")[1].split()[0]
            self.write(f"proc/driver/nvidia/gpus/{address}/information", "Model:" + part)
        return self

    def observe(self, **options: Any) -> Host:
        return Host(
            **{f"{name}_root": str(self.root / name) for name in ("sys", "proc", "etc", "usr", "var", "boot", "run")},
            modules_root=str(self.root / "modules"),
            state_dir=str(self.root / "state"),
            run=self.programs,
            fetch=self.web.get,
            fetch_from_socket=lambda _path, url: self.docker.get(url),
            **options,
        )

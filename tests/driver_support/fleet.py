"""An environment of GPU machines: its inventory, the repository that its hosts install from, and ./inv for it."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.driver_support.machine import GpuMachine
from tests.package_support.deb import Package, text
from tests.package_support.repository import ARCHITECTURE

PLATFORM = "debian-13-x86_64-cuda-open"
# What DKMS would bring from Debian: not wanted here, as the modules are fixtures that only pretend to be built.
TOOLS = Package("dkms", "99", ARCHITECTURE, {}, {"/usr/share/ollama-fleet-fixture/dkms": text("fixture\n")})


class Fleet:
    """An inventory folder with these machines in gpu_servers. variables: of all of them."""

    def __init__(self, root: Path, folder: Path, machines: list[GpuMachine], variables: Mapping[str, Any]) -> None:
        self.root, self.folder, self.machines = root, folder, machines
        self.variables = dict(variables)
        self.lock_file = folder / "driver.lock.yml"
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self, **changes: Any) -> None:
        """Write the inventory. changes: variables that are new, other, or (None) gone."""
        self.variables = {name: value for name, value in (self.variables | changes).items() if value is not None}
        hosts = {machine.name: machine.variables for machine in self.machines}
        inventory = {"gpu_servers": {"hosts": hosts, "vars": self.variables}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def inv(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ./inv as a person without a terminal would."""
        command = [str(self.root / "inv"), *arguments, "--inventory", str(self.folder)]
        return subprocess.run(
            command,
            cwd=self.root,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inv("up", "--tags", "nvidia_driver", *arguments)

    def reasons(self) -> dict[str, str]:
        """Why the plan needs the driver role, by host; hosts that need nothing are left out."""
        result = self.inv("plan", "--json")
        return {
            host["host"]: step["reason"]
            for host in json.loads(result.stdout)["hosts"]
            for step in host["steps"]
            if step["role"] == "nvidia_driver" and step["needed"]
        }

    @property
    def lock(self) -> dict[str, Any]:
        """The lock file's entries by platform; empty while there is none."""
        if not self.lock_file.exists():
            return {}
        return dict(yaml.safe_load(self.lock_file.read_text())["platforms"])

"""The role with the true packages of Debian's contrib and non-free: modules that do not build, and modules that do.

The host looks like a GPU server. The headers are those of Debian's kernel, and another one runs: DKMS builds for the
kernel that boots next, and nothing can be loaded. What counts is what is on disk afterwards, and that apt is whole.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.driver_support.fleet import Fleet
from tests.driver_support.machine import GpuMachine
from tests.package_support.module_host import STATE, differences, parsed
from tests.system.conftest import ROOT, Session

pytestmark = pytest.mark.long

VERSION = "550.163.01"
PLATFORM = "debian-13-x86_64-debian-proprietary"
# System users and groups: Debian's packages leave theirs behind when they are purged.
LEFT_BY_DEBIAN = {f"file etc/{name}" for name in ("passwd", "shadow", "group", "gshadow")}
RECORD = {"file var/lib/ollama-fleet/nvidia_driver.json", "path var/lib/ollama-fleet"}


@dataclass
class Desk:
    """The machine, its inventory, and what was on it before the role."""

    fleet: Fleet
    machine: GpuMachine
    fresh: dict[str, str]

    def state(self) -> dict[str, str]:
        return state_of(self.machine)

    def up(self) -> str:
        """A run that ends with a problem, which it returns as one line."""
        result = self.fleet.up()
        assert result.returncode == 2, result.stdout
        return " ".join(result.stdout.partition("PROBLEMS ***")[2].split())


def state_of(machine: GpuMachine) -> dict[str, str]:
    """Packages, marks and files; an initramfs differs each time it is made, whatever is in it."""
    found = parsed(machine.ssh(STATE))
    return {name: value for name, value in found.items() if not name.startswith("file boot/initrd.img-")}


@pytest.fixture(scope="module")
def desk(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    machine = GpuMachine(ROOT, "drv3")
    machine.become(nouveau=False, initramfs=False, containers={})
    machine.ssh(
        "sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends linux-headers-amd64 >/dev/null"
        # The kernel of these headers is the one that boots next.
        " && sudo touch /boot/vmlinuz-$(ls /usr/src | sed -n 's/^linux-headers-\\(.*-amd64\\)$/\\1/p')"
    )
    variables = {"nvidia_driver_source": "distribution", "nvidia_driver_branch": 550}
    fleet = Fleet(ROOT, tmp_path_factory.mktemp("debian") / "inventory", [machine], variables)
    yield Desk(fleet, machine, state_of(machine))
    machine.remove()


def test_open_modules_do_not_build_and_the_host_is_as_before_with_the_reason_and_the_way_out(desk: Desk) -> None:
    desk.fleet.write(nvidia_driver_flavor="open")
    said = desk.up()
    assert "nvidia-current-open 550.163.01 does not build for kernel " in said, (
        "Debian's open modules build on Debian's kernel again: docs and facts are out of date"
    )
    assert "nv-pci.c" in said
    assert "pci_resize_resource" in said
    assert "set nvidia_driver_source to cuda" in said
    assert "nvidia_driver_flavor to proprietary" in said
    left = differences(desk.fresh, desk.state())
    assert set(left) - LEFT_BY_DEBIAN - RECORD == set(), json.dumps(left, indent=2)
    assert desk.machine.ssh("sudo dpkg --audit; sudo apt-get check >/dev/null") == ""


def test_proprietary_modules_end_installed_held_and_asking_for_a_reboot_into_their_kernel(desk: Desk) -> None:
    desk.fleet.write(nvidia_driver_flavor="proprietary")
    said = desk.up()
    (kernel,) = desk.machine.ssh("ls /boot | sed -n 's/^vmlinuz-//p'").split()
    assert f"{VERSION} is installed for kernel {kernel}, not for the running" in said
    assert f"reboot into {kernel}" in said
    held = set(desk.machine.ssh("apt-mark showhold").split())
    assert {"nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "firmware-nvidia-gsp"} <= held
    assert desk.machine.ssh(f"/sbin/modinfo -F version -k {kernel} nvidia-current").strip() == VERSION
    assert desk.machine.ssh("/usr/sbin/dkms status").strip().endswith("installed")
    assert "couldn't communicate with the NVIDIA driver" in desk.machine.ssh("nvidia-smi || true")
    assert desk.fleet.lock[PLATFORM]["version"] == VERSION

    installed = desk.state()
    assert desk.up() == said
    assert set(differences(installed, desk.state())) <= RECORD


def test_removal_takes_the_driver_and_nothing_else(desk: Desk) -> None:
    gone = desk.fleet.inv("down", "--tags", "nvidia_driver")
    assert gone.returncode == 0, gone.stdout
    left = set(differences(desk.fresh, desk.state())) - LEFT_BY_DEBIAN - RECORD
    # The key that DKMS signs with may be enrolled in the firmware: it stays.
    assert {name for name in left if "var/lib/dkms" not in name} == set(), left

"""The role with the true packages of Debian's contrib and non-free, on a host that looks like a GPU server.

The headers are those of Debian's kernel, and another one runs: DKMS builds for the kernel that boots next.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver_support.fleet import Fleet
from tests.driver_support.machine import GpuMachine
from tests.system.conftest import ROOT, Session

VERSION = "550.163.01"


@pytest.fixture(scope="module")
def debian(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, GpuMachine]]:
    machine = GpuMachine(ROOT, "drv3")
    machine.become(nouveau=False, initramfs=False, containers={})
    machine.ssh(
        "sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends linux-headers-amd64 >/dev/null"
        # The kernel of these headers is the one that boots next.
        " && sudo touch /boot/vmlinuz-$(ls /usr/src | sed -n 's/^linux-headers-\\(.*-amd64\\)$/\\1/p')"
    )
    variables = {"nvidia_driver_source": "distribution", "nvidia_driver_branch": 550}
    yield Fleet(ROOT, Path(tmp_path_factory.mktemp("debian")) / "inventory", [machine], variables), machine
    machine.remove()


def problem(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stdout
    return result.stdout.partition("PROBLEMS ***")[2]


def test_open_modules_of_debian_end_with_the_reason_in_one_line_and_the_host_as_before(
    debian: tuple[Fleet, GpuMachine],
) -> None:
    fleet, machine = debian
    before = machine.state()
    fleet.write(nvidia_driver_flavor="open")
    said = problem(fleet.up())
    (line,) = re.findall(r"^drv3: failed: .*", said, re.MULTILINE)
    assert f"driver {VERSION} is not installed, and the host is as it was before" in line
    assert "pci_resize_resource" in line
    assert "remedy: set nvidia_driver_source to cuda" in said
    assert "nvidia_driver_flavor to proprietary where the cards allow it" in said
    left = set(machine.state().splitlines()) ^ set(before.splitlines())
    # Groups that kmod's and udev's friends make stay, and what DKMS signs with may be enrolled in the firmware.
    assert {item for item in left if not re.match(r"/etc/(group|gshadow)|/var/lib/ollama-fleet/", item)} == set()
    assert machine.ssh("sudo dpkg --audit; sudo apt-get check -qq") == ""


def test_proprietary_modules_of_debian_end_installed_held_and_asking_for_a_reboot_into_their_kernel(
    debian: tuple[Fleet, GpuMachine],
) -> None:
    fleet, machine = debian
    fleet.write(nvidia_driver_flavor="proprietary")
    said = " ".join(problem(fleet.up()).split())
    (kernel,) = machine.ssh("ls /boot | sed -n 's/^vmlinuz-//p'").split()
    assert f"{VERSION} is installed for kernel {kernel}, not for the running" in said
    assert f"reboot into {kernel}" in said
    assert {"nvidia-kernel-dkms", "nvidia-smi", "libcuda1"} <= set(machine.ssh("apt-mark showhold").split())
    assert machine.ssh(f"/sbin/modinfo -F version -k {kernel} nvidia-current").strip() == VERSION
    assert fleet.lock["debian-13-x86_64-debian-proprietary"]["version"] == VERSION
    # The way back: packages that came are gone again, and only they.
    fleet.inv("down", "--tags", "nvidia_driver")
    assert machine.ssh("dpkg-query --list 'nvidia-*' 'libnvidia-*' dkms 2>/dev/null | grep ^ii || true") == ""

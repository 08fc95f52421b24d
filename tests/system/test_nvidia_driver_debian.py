"""The role with the true packages of Debian's contrib and non-free, on a host that looks like a GPU server.

The headers are those of Debian's kernel, and another one runs: DKMS builds for the kernel that boots next. Modules that
do not build are in test_driver_packages.py, and what the role makes of that in test_nvidia_driver.py.
"""

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
    variables = {
        "nvidia_driver_source": "distribution",
        "nvidia_driver_branch": 550,
        "nvidia_driver_flavor": "proprietary",
    }
    yield Fleet(ROOT, Path(tmp_path_factory.mktemp("debian")) / "inventory", [machine], variables), machine
    machine.remove()


def test_proprietary_modules_of_debian_end_installed_held_and_asking_for_a_reboot_into_their_kernel(
    debian: tuple[Fleet, GpuMachine],
) -> None:
    fleet, machine = debian
    result = fleet.up()
    assert result.returncode == 2, result.stdout
    said = " ".join(result.stdout.partition("PROBLEMS ***")[2].split())
    (kernel,) = machine.ssh("ls /boot | sed -n 's/^vmlinuz-//p'").split()
    assert f"{VERSION} is installed for kernel {kernel}, not for the running" in said
    assert f"reboot into {kernel}" in said
    assert {"nvidia-kernel-dkms", "nvidia-smi", "libcuda1"} <= set(machine.ssh("apt-mark showhold").split())
    assert machine.ssh(f"/sbin/modinfo -F version -k {kernel} nvidia-current").strip() == VERSION
    assert fleet.lock["debian-13-x86_64-debian-proprietary"]["version"] == VERSION

"""The true packages of Debian's contrib and non-free: modules that build, and modules that do not.

There is no GPU here and the headers are of another kernel than the running one, so nothing is loaded: what counts is
what is on the disk afterwards, and that apt is whole.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.package_support.module_host import ModuleHost, differences
from tests.system.conftest import ROOT, Session

VERSION = "550.163.01-2"
FAMILIES = ["(lib)?nvidia-.*", "libcuda1", "firmware-nvidia-.*"]
# System groups that udev and kmod make; Debian's packages leave theirs behind when they are purged.
LEFT_BY_DEBIAN = {"file etc/group", "file etc/gshadow"}


def arguments(modules: str) -> dict[str, Any]:
    names = ("nvidia-smi", "libcuda1", "libnvidia-ml1", modules)
    return {"packages": dict.fromkeys(names, VERSION), "extra": ["linux-headers-amd64"], "families": FAMILIES}


@pytest.fixture(scope="module")
def host(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleHost]:
    host = ModuleHost(ROOT, "packages2", tmp_path_factory.mktemp("packages2"))
    host.start()
    host.run(
        "sudo sed -i 's/^Components: main.*/Components: main contrib non-free non-free-firmware/'"
        " /etc/apt/sources.list.d/*.sources && sudo apt-get -q update"
    )
    yield host
    host.stop()


@pytest.fixture(scope="module")
def failed(host: ModuleHost) -> dict[str, Any]:
    """The bad one first: what it downloads is in apt's cache for the good one."""
    before = host.state()
    result = host.module("driver_packages", arguments("nvidia-open-kernel-dkms"))
    return {**result, "differences": differences(before, host.state())}


def test_open_modules_do_not_build_and_the_host_is_as_before_with_the_reason_and_the_way_out(
    failed: dict[str, Any], host: ModuleHost
) -> None:
    assert failed["failed"], "Debian's open modules build on Debian's kernel again: docs and facts are out of date"
    assert "nvidia-current-open 550.163.01 does not build for kernel " in failed["reason"]
    assert "nv-pci.c" in failed["reason"]
    assert "pci_resize_resource" in failed["reason"]
    assert "\n" not in failed["msg"]
    assert "nvidia_driver_source to cuda" in failed["remedy"]
    assert "nvidia_driver_flavor to proprietary" in failed["remedy"]
    assert set(failed["differences"]) <= LEFT_BY_DEBIAN, json.dumps(failed["differences"], indent=2)
    assert host.run("sudo dpkg --audit").stdout == ""
    host.run("sudo apt-get check")


def test_proprietary_modules_end_installed_and_held_with_a_module_for_the_kernel_that_has_headers(
    failed: dict[str, Any], host: ModuleHost
) -> None:
    before = host.state()
    done = host.module("driver_packages", arguments("nvidia-kernel-dkms"))
    assert not done["failed"], done
    versions = host.versions()
    assert {versions[name] for name in arguments("nvidia-kernel-dkms")["packages"]} == {VERSION}
    assert {"nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "firmware-nvidia-gsp"} <= host.held()

    # Reboot into a kernel that has the module: it is on the disk for that one, and the running one has none.
    kernel = host.run("ls /lib/modules").stdout.strip()
    assert host.run(f"/sbin/modinfo -k {kernel} -F version nvidia-current").stdout.strip() == "550.163.01"
    assert host.run("/usr/sbin/dkms status").stdout.strip().endswith("installed")
    assert kernel != host.run("uname -r").stdout.strip()
    assert "couldn't communicate with the NVIDIA driver" in host.run("nvidia-smi", check=False).stdout

    installed = host.state()
    again = host.module("driver_packages", arguments("nvidia-kernel-dkms"))
    assert not again["changed"], again
    assert differences(installed, host.state()) == {}

    gone = host.module("driver_packages", {"state": "absent", "installed": done["added"]})
    assert not gone["failed"], gone
    left = set(differences(before, host.state()))
    # The key that DKMS signs with may be enrolled in the firmware: it stays.
    assert {name for name in left - LEFT_BY_DEBIAN if "var/lib/dkms" not in name} == set(), left

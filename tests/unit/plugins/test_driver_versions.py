"""Which packages count as parts of a driver, and of which one."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import Family, driver_of

DRIVERS = {
    "580.159.04-1": "580.159.04",
    "580.159.04-0ubuntu0.24.04.1": "580.159.04",
    "550.163.01-4~bpo13+1": "550.163.01",
    "3:595.71.05-1.el9": "595.71.05",
    "595.84-0ubuntu0.26.04.1": "595.84",
    "580.159.04": "580.159.04",
    # Debian's common files, CUDA, the container toolkit, a kernel's modules, the subnet manager: no drivers.
    "20240109+1": "",
    "12.4.127~12.4.1-2": "",
    "1.18.0-1": "",
    "6.8.0-60.63": "",
    "2025.10.11-1": "",
    "": "",
}


@pytest.mark.parametrize(("version", "driver"), DRIVERS.items())
def test_a_version_tells_the_driver(version: str, driver: str) -> None:
    assert driver_of(version) == driver


def test_what_failed_is_named_as_a_driver_or_by_its_packages() -> None:
    assert Family([], {"libcuda1": "580.159.04-1"}).not_installed == "driver 580.159.04 is not installed"
    assert Family([], {"docker.io": "26.1-1"}, ["dkms"]).not_installed == "dkms, docker.io are not installed"
    assert Family([], {}, ["dkms"]).not_installed == "dkms is not installed"


def test_the_container_toolkit_is_a_family_of_its_own_but_no_part_of_a_driver() -> None:
    toolkit = Family(["(lib)?nvidia-(container|docker).*"], {"nvidia-container-toolkit": "1.18.0-1"})
    assert toolkit.has("nvidia-docker2")


def test_other_drivers_parts_are_told_from_tools_and_strangers() -> None:
    family = Family(["(lib)?nvidia-.*"], {"libcuda1": "580.159.04-1"})
    assert family.is_other("libnvidia-ml1", "590.48.01-1")
    assert family.is_other("libnvidia-ml1:i386", "590.48.01-1")
    assert family.is_other("libcuda1", "580.126.09-1")
    assert not family.is_other("libnvidia-ml1", "580.159.04-2")
    assert not family.is_other("nvidia-modprobe", "570.133.07-1")
    assert not family.is_other("nvidia-container-toolkit", "1.18.0-1")
    assert not family.has("nvidia-container-toolkit")
    assert not family.has("libnvidia-container1")
    assert not family.is_other("docker.io", "590.48.01-1")

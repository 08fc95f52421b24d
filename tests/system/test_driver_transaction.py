"""driver_packages and package_versions on a host with apt, with fixtures of NVIDIA's and Canonical's packages."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.package_support import lab as package_lab
from tests.package_support.deb import Package, script
from tests.package_support.module_host import ModuleHost, differences
from tests.package_support.repository import ARCHITECTURE
from tests.system.conftest import ROOT, Session

FAMILIES = ["(lib)?nvidia-.*", "libcuda1", "firmware-nvidia-.*", "cuda-drivers.*"]
OLD, NEW, OTHER = "580.126.09-1", "580.159.04-1", "590.48.01-1"
KEEPS_ALL = "host as it was"


def driver(version: str, modules: str = "nvidia-kernel-open-dkms") -> dict[str, Any]:
    """The arguments for a driver from the CUDA repository for Debian."""
    packages = dict.fromkeys(("nvidia-driver-cuda", modules, "nvidia-persistenced"), version)
    return {"packages": packages, "families": FAMILIES}


def of_driver(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if "nvidia" in name or "cuda" in name}


def make_build_fail(host: ModuleHost, version: str) -> None:
    folder = "/etc/ollama-fleet-fixture"
    host.run(f"sudo mkdir {folder} && echo {version.partition('-')[0]} | sudo tee {folder}/build-fails")


@pytest.fixture(scope="module")
def fixtures(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[package_lab.Fixtures]:
    with package_lab.fixtures(tmp_path_factory.mktemp("repositories"), package_lab.gateway(ROOT)) as built:
        yield built


@pytest.fixture(scope="module")
def shared_host(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleHost]:
    host = ModuleHost(ROOT, "packages1", tmp_path_factory.mktemp("packages1"))
    host.start()
    # It comes from the distribution, before the fixtures are the only source.
    host.run("sudo apt-get -q update && sudo apt-get -q -y install --no-install-recommends kmod")
    yield host
    host.stop()


@pytest.fixture
def host(shared_host: ModuleHost, fixtures: package_lab.Fixtures) -> Iterator[ModuleHost]:
    """The host with the CUDA repository and without any of its packages."""
    fixtures.server.come_back()
    shared_host.run(fixtures.set_up(fixtures.cuda_debian))
    yield shared_host
    fixtures.server.come_back()
    left = list(of_driver(shared_host.versions()))
    shared_host.run(
        "sudo rm -rf /etc/ollama-fleet-fixture /etc/apt/preferences.d/* /var/lib/ollama-fleet; sudo apt-get clean;"
        f" sudo dpkg --configure -a; sudo apt-mark unhold {' '.join(left)} x;"
        f" [ -z '{' '.join(left)}' ] || sudo dpkg --purge --force-depends --force-remove-reinstreq {' '.join(left)}",
        check=False,
    )
    assert of_driver(shared_host.versions()) == {}


def test_versions_are_told_from_the_hosts_sources_and_from_a_repository_it_does_not_have(
    host: ModuleHost, fixtures: package_lab.Fixtures
) -> None:
    own = host.module("package_versions", {"names": ["nvidia-driver-cuda", "cuda-drivers-580", "nonesuch"]})
    assert own["versions"] == {
        "nvidia-driver-cuda": ["595.71.05-1", OTHER, NEW, OLD],
        "cuda-drivers-580": [NEW, OLD],
        "nonesuch": [],
    }
    url = fixtures.url(fixtures.container_toolkit)
    other = host.module("package_versions", {"names": ["nvidia-container-toolkit"], "repository_url": url})
    assert other["versions"]["nvidia-container-toolkit"][:2] == ["1.20.1-1", "1.20.0-1"]
    assert not other["changed"]


def test_install_upgrade_and_rollback_move_every_part_together_and_a_second_run_changes_nothing(
    host: ModuleHost,
) -> None:
    before = host.state()
    foretold = host.module("driver_packages", driver(OLD), check=True)
    assert differences(before, host.state()) == {}

    done = host.module("driver_packages", driver(OLD))
    assert not done["failed"], done
    assert (done["added"], done["holds"]) == (foretold["added"], foretold["holds"])
    assert set(of_driver(host.versions())) == set(done["added"])
    assert set(of_driver(host.versions()).values()) == {OLD}
    # Tools that fit any driver are free to move.
    assert host.held() == set(done["added"]) - {"nvidia-modprobe"}
    modules = host.run("/sbin/modinfo -F version nvidia; /sbin/modinfo -F license nvidia").stdout.split("\n")
    assert modules[:2] == [OLD.partition("-")[0], "Dual MIT/GPL"]

    installed = host.state()
    for check in (True, False):
        again = host.module("driver_packages", driver(OLD), check=check)
        assert not again["changed"], again
    assert differences(installed, host.state()) == {}

    upgraded = host.module("driver_packages", driver(NEW))
    assert upgraded["changed_packages"]["libcuda1"] == [OLD, NEW]
    assert set(of_driver(host.versions()).values()) - {NEW} <= {OLD}
    assert {name for name, version in host.versions().items() if version == OLD} <= {"nvidia-modprobe"}

    assert host.module("driver_packages", driver(OLD))["changed_packages"]["libcuda1"] == [NEW, OLD]
    assert differences(installed, host.state()) == {}

    gone = host.module("driver_packages", {"state": "absent", "installed": done["added"]})
    assert sorted(gone["changed_packages"]) == sorted(done["added"])
    assert differences(before, host.state()) == {}


def test_another_driver_that_a_dependency_would_pull_is_refused_by_name_before_anything_changes(
    host: ModuleHost, fixtures: package_lab.Fixtures
) -> None:
    before = host.state()
    asked = {"packages": {"cuda-drivers-580": NEW}, "families": FAMILIES}
    # As long as the repository has that branch, "at least" is met by the wanted driver.
    assert host.module("driver_packages", asked, check=True)["added"].count("nvidia-driver-cuda") == 1

    for name in ("nvidia-driver", "nvidia-kernel-dkms"):
        fixtures.cuda_debian.remove(name, NEW)
    try:
        host.run("sudo apt-get -q update")
        refused = host.module("driver_packages", asked)
    finally:
        fixtures.cuda_debian.restore()
    assert refused["failed"]
    assert "would bring" in refused["reason"]
    assert "595.71.05-1" in refused["reason"]
    assert differences(before, host.state()) == {}


def test_a_module_that_does_not_build_leaves_the_host_with_the_driver_it_had(host: ModuleHost) -> None:
    host.module("driver_packages", driver(OLD))
    make_build_fail(host, NEW)
    host.run("sudo apt-get clean")
    before = host.state()
    failed = host.module("driver_packages", driver(NEW))
    assert failed["failed"]
    assert "too few arguments to function 'pci_resize_resource'" in failed["reason"]
    assert "\n" not in failed["msg"]
    assert differences(before, host.state()) == {}


def test_the_way_back_needs_no_repository(host: ModuleHost, fixtures: package_lab.Fixtures) -> None:
    """The old version is neither in apt's cache nor in the repository any more."""
    host.module("driver_packages", driver(OLD))
    make_build_fail(host, NEW)
    before = host.state()
    for name in of_driver(host.versions()):
        fixtures.cuda_debian.remove(name, OLD)
    try:
        host.run("sudo apt-get clean && sudo apt-get -q update")
        failed = host.module("driver_packages", driver(NEW))
    finally:
        fixtures.cuda_debian.restore()
    assert failed["failed"]
    assert "as it was before" in failed["what"]
    assert differences(before, host.state()) == {}


def test_a_repository_that_vanishes_midway_leaves_the_host_as_it_was(
    host: ModuleHost, fixtures: package_lab.Fixtures
) -> None:
    before = host.state()
    fixtures.server.vanish(after=3)
    failed = host.module("driver_packages", driver(NEW))
    assert failed["failed"]
    assert "not everything could be downloaded" in failed["reason"]
    assert differences(before, host.state()) == {}

    fixtures.server.come_back()
    assert host.module("driver_packages", driver(NEW))["changed"]


def test_an_expired_key_is_named_and_nothing_of_that_repository_is_installed(
    host: ModuleHost, fixtures: package_lab.Fixtures
) -> None:
    host.run("sudo rm -rf /var/lib/apt/lists/*")
    before = host.state()
    fixtures.cuda_debian.publish(with_expired_key=True)
    try:
        failed = host.module("driver_packages", {**driver(NEW), "update_cache": True})
    finally:
        fixtures.cuda_debian.publish()
    assert failed["failed"]
    assert f"the key that signs {fixtures.url(fixtures.cuda_debian)} has expired" in failed["reason"]
    assert differences(before, host.state()) == {}


def test_a_change_that_was_cut_is_undone_by_the_next_run(host: ModuleHost) -> None:
    host.module("driver_packages", driver(OLD))
    installed = host.state()
    # The power fails while dpkg works: everything of the run is killed when the first package is being configured.
    host.run("sudo mkdir /etc/ollama-fleet-fixture && sudo touch /etc/ollama-fleet-fixture/power-fails")
    assert host.module("driver_packages", driver(NEW))["failed"]
    assert host.run("sudo dpkg --audit").stdout
    assert host.run("sudo ls /var/lib/ollama-fleet/driver_packages.undo").stdout
    host.run("sudo rm -r /etc/ollama-fleet-fixture")

    again = host.module("driver_packages", driver(OLD))
    assert not again["failed"], again
    assert again["repaired"]
    assert differences(installed, host.state()) == {}


def test_packages_that_others_left_half_installed_are_repaired(host: ModuleHost) -> None:
    make_build_fail(host, OLD)
    host.run(
        "sudo apt-get -q -y install"
        f" nvidia-kernel-open-dkms={OLD} firmware-nvidia-gsp={OLD} nvidia-kernel-support={OLD}",
        check=False,
    )
    assert "nvidia-kernel-open-dkms" in host.run("sudo dpkg --audit").stdout
    host.run("sudo rm -r /etc/ollama-fleet-fixture")
    done = host.module("driver_packages", driver(NEW))
    assert not done["failed"], done
    assert done["repaired"] == ["nvidia-kernel-open-dkms"]
    assert host.run("sudo dpkg --audit").stdout == ""
    assert host.versions()["nvidia-kernel-open-dkms"] == NEW


def test_packages_of_others_are_neither_removed_nor_broken(host: ModuleHost, fixtures: package_lab.Fixtures) -> None:
    rival = Package("rival-driver", "1.0", ARCHITECTURE, {"Conflicts": "nvidia-driver-cuda"})
    program = Package(
        "gpu-program", "1.0", ARCHITECTURE, {"Depends": "libcuda1"}, {"/usr/bin/gpu-program": script("#!/bin/sh\n")}
    )
    fixtures.cuda_debian.add([rival, program])
    host.run("sudo apt-get -q update && sudo apt-get -q -y install rival-driver")
    try:
        refused = host.module("driver_packages", driver(NEW))
        assert refused["failed"]
        assert "apt would remove rival-driver, which nobody asked for" in refused["reason"]
    finally:
        host.run("sudo apt-get -q -y purge rival-driver")

    added = host.module("driver_packages", driver(NEW))["added"]
    host.run("sudo apt-get -q -y install gpu-program")
    try:
        before = host.state()
        refused = host.module("driver_packages", {"state": "absent", "installed": added})
        assert refused["failed"]
        assert "gpu-program needs" in refused["reason"]
        assert "apt-get purge gpu-program" in refused["remedy"]
        assert differences(before, host.state()) == {}
    finally:
        host.run("sudo apt-get -q -y purge gpu-program")


def test_driver_that_is_not_held_is_moved_by_apt_and_brought_back_with_all_its_parts(host: ModuleHost) -> None:
    host.module("driver_packages", {**driver(OLD), "hold": False})
    host.run("sudo apt-get -q -y dist-upgrade")
    assert host.versions()["libcuda1"] == "595.71.05-1"
    # A driver that others have moved is brought back, with all its parts.
    back = host.module("driver_packages", driver(OLD))
    assert not back["failed"], back
    assert host.versions()["libcuda1"] == OLD
    assert {name for name, version in host.versions().items() if version.startswith("595")} <= {"nvidia-modprobe"}


def test_ubuntus_renaming_from_590_is_made_and_unmade(host: ModuleHost, fixtures: package_lab.Fixtures) -> None:
    host.run(fixtures.set_up(fixtures.cuda_ubuntu))
    old, new = "580.159.04-1ubuntu1", "590.48.01-1ubuntu1"
    numbered = dict.fromkeys(("nvidia-headless-580-open", "nvidia-utils-580", "nvidia-compute-utils-580"), old)
    plain = dict.fromkeys(("libnvidia-compute", "nvidia-dkms-open", "nvidia-persistenced", "nvidia-utils"), new)
    assert host.module("driver_packages", {"packages": numbered, "families": FAMILIES})["changed"]
    first = of_driver(host.versions())

    renamed = host.module("driver_packages", {"packages": plain, "families": FAMILIES})
    assert not renamed["failed"], renamed
    assert renamed["changed_packages"]["nvidia-utils-580"] == [old, ""]
    assert set(of_driver(host.versions()).values()) == {new}

    back = host.module("driver_packages", {"packages": numbered, "families": FAMILIES})
    assert not back["failed"], back
    assert of_driver(host.versions()) == first


def test_ubuntus_server_packages_are_installed_and_an_ended_branch_is_seen_for_what_it_is(
    host: ModuleHost, fixtures: package_lab.Fixtures
) -> None:
    host.run(fixtures.set_up(fixtures.canonical))
    names = ["nvidia-utils-550-server", "nvidia-utils-580-server"]
    told = host.module("package_versions", {"names": names})["versions"]
    assert told["nvidia-utils-550-server"][0] == told["nvidia-utils-580-server"][0] == "580.159.04-0ubuntu0.24.04.1"

    ended = {"packages": {"nvidia-headless-550": "550.163.01-0ubuntu0.24.04.1"}, "families": FAMILIES}
    refused = host.module("driver_packages", ended)
    assert refused["failed"]
    assert "580.159.04-0ubuntu0.24.04.1, another driver" in refused["reason"]

    version = "580.159.04-0ubuntu0.24.04.1"
    wanted = ("nvidia-utils-580-server", "nvidia-compute-utils-580-server", "nvidia-headless-no-dkms-580-server-open")
    modules = ["linux-modules-nvidia-580-server-open-generic"]
    done = host.module(
        "driver_packages", {"packages": dict.fromkeys(wanted, version), "extra": modules, "families": FAMILIES}
    )
    assert not done["failed"], done
    assert host.versions()["linux-modules-nvidia-580-server-open-generic"] == "6.8.0-60.63"
    # Modules follow their kernel: they are not held.
    assert not host.held() & set(modules)
    assert host.run("/sbin/modinfo -k 6.8.0-60-generic -F version nvidia").stdout.strip() == "580.159.04"
    host.run(f"sudo dpkg --purge --force-depends {modules[0]} linux-modules-nvidia-580-server-open-6.8.0-60-generic")

"""driver_packages and package_versions with dnf. The host is Debian with Debian's dnf and rpm, not Enterprise Linux."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.package_support import rpm
from tests.package_support.module_host import ModuleHost, differences
from tests.system.conftest import ROOT, Session

FAMILIES = ["(lib)?nvidia-.*", "kmod-nvidia.*", "cuda-drivers.*"]
OLD, NEW, OTHER = (rpm.evr(version) for version in rpm.VERSIONS)
NAMES = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")


def driver(version: str, **more: Any) -> dict[str, Any]:
    return {"manager": "dnf", "packages": dict.fromkeys(NAMES, version), "families": FAMILIES, **more}


@pytest.fixture(scope="module")
def shared_host(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleHost]:
    host = ModuleHost(ROOT, "packages3", tmp_path_factory.mktemp("packages3"))
    host.start()
    tools = "dnf dnf-plugins-core rpm createrepo-c file"
    host.run(f"sudo apt-get -q update && sudo apt-get -q -y install --no-install-recommends {tools}")
    host.run(f"set -e\n{rpm.commands()}")
    yield host
    host.stop()


@pytest.fixture
def host(shared_host: ModuleHost) -> Iterator[ModuleHost]:
    """The host without any package of the fixtures."""
    yield shared_host
    shared_host.run(
        "sudo rm -rf /etc/ollama-fleet-fixture; sudo dnf -q versionlock clear;"
        ' installed=$(rpm -qa); [ -z "$installed" ] || sudo rpm -e $installed; [ -z "$(rpm -qa)" ]'
    )


def state(host: ModuleHost) -> dict[str, str]:
    """Packages, locks and the fixtures' files."""
    said = host.run(
        "rpm -qa | sort | sed 's/^/package /'; sudo dnf -q versionlock list 2>/dev/null | sort | sed 's/^/lock /';"
        " find /usr/share/ollama-fleet-fixture /var/lib/dkms -type f 2>/dev/null | sort"
    )
    return dict.fromkeys(said.stdout.splitlines(), "there")


def versions(host: ModuleHost) -> dict[str, str]:
    lines = host.run(r"rpm -qa --qf '%{NAME} %{EPOCH}:%{VERSION}-%{RELEASE}\n'").stdout.splitlines()
    return dict(line.split() for line in lines if not line.startswith("shell-fixture"))


def test_versions_are_told_newest_first(host: ModuleHost) -> None:
    told = host.module("package_versions", {"manager": "dnf", "names": ["nvidia-driver-cuda", "nonesuch"]})
    assert told["versions"] == {"nvidia-driver-cuda": [OTHER, NEW, OLD], "nonesuch": []}


def test_install_upgrade_rollback_and_removal_move_every_part_and_its_lock(host: ModuleHost) -> None:
    before = state(host)
    foretold = host.module("driver_packages", driver(OLD), check=True)
    assert differences(before, state(host)) == {}
    done = host.module("driver_packages", driver(OLD))
    assert not done["failed"], done
    assert (done["added"], done["holds"]) == (foretold["added"], foretold["holds"])
    assert set(versions(host)) == set(done["holds"])
    assert set(versions(host).values()) == {OLD}

    installed = state(host)
    assert not host.module("driver_packages", driver(OLD))["changed"]
    assert differences(installed, state(host)) == {}

    # What is locked is moved by nobody else.
    host.run("sudo dnf -y upgrade")
    assert host.run(f"sudo dnf -y install nvidia-driver-cuda-{OTHER}", check=False).returncode != 0
    assert differences(installed, state(host)) == {}

    upgraded = host.module("driver_packages", driver(NEW))
    assert upgraded["changed_packages"]["nvidia-driver-cuda-libs"] == [OLD, NEW]
    assert set(versions(host).values()) == {NEW}
    host.module("driver_packages", driver(OLD))
    assert differences(installed, state(host)) == {}

    gone = host.module("driver_packages", {"manager": "dnf", "state": "absent", "installed": done["added"]})
    assert not gone["failed"], gone
    assert differences(before, state(host)) == {}


def test_another_driver_by_a_dependency_is_refused(host: ModuleHost) -> None:
    before = state(host)
    asked = {"manager": "dnf", "packages": {"cuda-drivers": OLD}, "families": FAMILIES}
    refused = host.module("driver_packages", asked)
    assert refused["failed"]
    assert OTHER in refused["reason"]
    assert differences(before, state(host)) == {}


def test_a_module_that_does_not_build_is_found_out_and_undone_where_dnf_says_complete(host: ModuleHost) -> None:
    host.module("driver_packages", driver(OLD))
    before = state(host)
    host.run(
        f"sudo mkdir /etc/ollama-fleet-fixture; echo {rpm.VERSIONS[1]} | sudo tee /etc/ollama-fleet-fixture/build-fails"
    )
    failed = host.module("driver_packages", driver(NEW))
    assert failed["failed"], failed
    assert "nv-pci.c:180:9: too few arguments to function 'pci_resize_resource'" in failed["reason"]
    assert "as it was before" in failed["what"]
    assert differences(before, state(host)) == {}


def test_packages_that_others_need_are_not_removed(host: ModuleHost) -> None:
    host.module("driver_packages", driver(OLD))
    before = state(host)
    refused = host.module(
        "driver_packages", {"manager": "dnf", "state": "absent", "installed": ["nvidia-driver-cuda-libs"]}
    )
    assert refused["failed"]
    assert "nvidia-persistenced" in refused["reason"]
    assert differences(before, state(host)) == {}

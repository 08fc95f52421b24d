"""What package managers know, from dpkg's own files and from rpm's words."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_state

from tests.unit.plugins.host_trees import HostTree, Programs

# rpm -qa with RPM_QUERY, as on Rocky Linux 9 with NVIDIA's repository.
ROCKY = """\
gpg-pubkey\t0\td42d0685-62589a51\t(none)
kernel-core\t0\t5.14.0-570.12.1.el9_6\tx86_64
kernel-core\t0\t5.14.0-570.25.1.el9_6\tx86_64
nvidia-driver\t3\t580.95.05-1.el9\tx86_64
nvidia-driver-cuda\t3\t580.95.05-1.el9\tx86_64
nvidia-driver-cuda-libs\t3\t580.95.05-1.el9\tx86_64
nvidia-driver-libs\t3\t580.95.05-1.el9\ti686
nvidia-driver-libs\t3\t580.95.05-1.el9\tx86_64
kmod-nvidia-open-dkms\t3\t580.95.05-1.el9\tnoarch
nvidia-container-toolkit\t0\t1.20.1-1\tx86_64
docker-ce\t3\t28.5.1-1.el9\tx86_64
containerd.io\t0\t1.7.28-1.el9\tx86_64
"""
LOCKS = """\
# Added lock on Fri Nov 20 10:00:00 2026
nvidia-driver-3:580.95.05-1.el9.*
nvidia-container-toolkit-0:1.20.1-1.*
!docker-ce-3:29.0.0-1.el9.*
"""


def rocky(tree: HostTree, output: str = ROCKY) -> HostTree:
    tree.programs = Programs(rpm=output)
    return tree.system("rocky", "9.6", "5.14.0-570.12.1.el9_6.x86_64", "rhel centos fedora")


def test_enterprise_linux_is_asked_with_rpm_once(tree: HostTree) -> None:
    host = rocky(tree).write("etc/dnf/plugins/versionlock.list", LOCKS).observe()
    assert host.packages == {"manager": "dnf", "broken": [], "held": ["nvidia-container-toolkit", "nvidia-driver"]}
    assert host.driver["packages"]["nvidia-driver"] == {"version": "3:580.95.05-1.el9", "installed": True, "held": True}
    assert host.driver["packages"]["kmod-nvidia-open-dkms"]["version"] == "3:580.95.05-1.el9"
    assert host.toolkit["packages"]["nvidia-container-toolkit"]["version"] == "1.20.1-1"
    assert host.toolkit["version"] is None  # of no package nvidia-container-toolkit-base
    assert sorted(host.docker["packages"]) == ["containerd.io", "docker-ce"]
    assert [command for command in tree.programs.asked if command[0] == "rpm"] == [package_state.RPM_QUERY]


def test_package_in_two_versions_is_what_a_cut_transaction_leaves(tree: HostTree) -> None:
    doubled = ROCKY + "nvidia-driver\t3\t580.159.04-1.el9\tx86_64\n"
    assert rocky(tree, doubled).observe().packages["broken"] == ["nvidia-driver"]


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ("nvidia-driver-3:580.95.05-1.el9.*", True),
        ("nvidia-driver-580.95.05-1.el9.x86_64", True),
        ("nvidia-driver", True),
        ("nvidia-driver-*:580.95.05-*", True),
        ("nvidia-driver-3:580.82.07-1.el9.*", False),
        ("!nvidia-driver-3:580.95.05-1.el9.*", False),
        ("# nvidia-driver-3:580.95.05-1.el9.*", False),
        ("nvidia-driver-cuda-3:580.95.05-1.el9.*", False),
    ],
)
def test_versionlock_holds_what_its_lines_match(tree: HostTree, line: str, held: bool) -> None:
    host = rocky(tree).write("etc/dnf/plugins/versionlock.list", line + "\n").observe()
    assert host.held("nvidia-driver") is held


@pytest.mark.parametrize(
    ("state", "installed", "held", "broken"),
    [
        ("install ok installed", True, False, False),
        ("hold ok installed", True, True, False),
        ("install ok half-configured", False, False, True),
        ("install ok half-installed", False, False, True),
        ("install ok unpacked", False, False, True),
        ("install reinstreq installed", True, False, True),
        ("hold reinstreq half-installed", False, True, True),
        ("install ok triggers-pending", True, False, True),
        ("install ok triggers-awaited", True, False, True),
        ("deinstall ok config-files", False, False, False),
        ("deinstall ok half-configured", False, False, True),
    ],
)
def test_states_of_dpkg_are_told_apart(tree: HostTree, state: str, installed: bool, held: bool, broken: bool) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64").package("nvidia-open-kernel-dkms", "550.163.01-2", state)
    host = tree.observe()
    assert host.driver["packages"] == {
        "nvidia-open-kernel-dkms": {"version": "550.163.01-2", "installed": installed, "held": held}
    }
    assert host.packages["broken"] == (["nvidia-open-kernel-dkms"] if broken else [])
    assert (host.package("nvidia-open-kernel-dkms") is not None) is installed


def test_what_was_removed_for_good_is_not_there(tree: HostTree) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64").package("nvidia-smi", "550", "purge ok not-installed")
    assert tree.observe().driver["packages"] == {}


def test_foreign_architecture_does_not_hide_the_own_package(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "6.8.0-45-generic", "debian")
    tree.package("libnvidia-compute-580", "580.2").package(
        "libnvidia-compute-580", "580.1", "deinstall ok config-files"
    )
    assert tree.observe().package("libnvidia-compute-580") == "580.2"


def test_journal_of_a_dpkg_that_was_cut_counts(tree: HostTree) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64").package("nvidia-smi", "550")
    for number, state in (("0000", "half-installed"), ("0001", "unpacked")):
        text = f"Package: nvidia-smi\nStatus: install ok {state}\nVersion: 580\n"
        tree.write(f"var/lib/dpkg/updates/{number}", text)
    host = tree.observe()
    assert host.driver["packages"]["nvidia-smi"] == {"version": "580", "installed": False, "held": False}
    assert host.packages["broken"] == ["nvidia-smi"]


def test_system_of_neither_family_has_no_packages(tree: HostTree) -> None:
    assert tree.system("alpine", "3.22", "6.12.30-0-lts").observe().packages == {
        "manager": "",
        "broken": [],
        "held": [],
    }

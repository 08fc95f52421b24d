"""A driver's life on two hosts that look like GPU servers: installed, locked, moved, cut short, moved back, removed.

The tests follow each other on the same hosts, as a year on real ones would. drv1 comes with nouveau and an initramfs;
drv2 without both. Each runs one container that uses the GPU and one that does not.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import yaml

from tests.driver_support.fleet import PLATFORM, TOOLS, Fleet
from tests.driver_support.machine import FIXTURE, GpuMachine
from tests.package_support import nvidia_cuda, signing
from tests.package_support.repository import Repository
from tests.package_support.server import Server
from tests.system.conftest import ROOT, Session
from tests.system.test_lab import changed_tasks

OLD, NEW = "580.126.09", "580.159.04"
MANAGED = (
    "/etc/apt/preferences.d/ollama-fleet-nvidia-driver",
    "/etc/apt/apt.conf.d/52ollama-fleet-nvidia-driver",
    "/etc/apt/sources.list.d/ollama-fleet-nvidia-driver.sources",
    "/etc/apt/keyrings/ollama-fleet-nvidia-driver.gpg",
    "/etc/modprobe.d/ollama-fleet-nouveau.conf",
)


@dataclass
class Estate:
    """Two machines, their inventory and the repository that they install from."""

    fleet: Fleet
    first: GpuMachine
    second: GpuMachine
    repository: Repository
    fresh: dict[str, str]
    keys: signing.Keys


@pytest.fixture(scope="module")
def estate(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("estate")
    machines = [GpuMachine(ROOT, "drv1"), GpuMachine(ROOT, "drv2")]
    gateway = machines[0].host.address.rpartition(".")[0] + ".1"
    with signing.keys() as keys, Server(folder / "www", gateway) as server:
        repository = Repository(folder / "www" / "debian13" / "x86_64", "NVIDIA's CUDA repository", keys)
        repository.add([*nvidia_cuda.debian(), TOOLS])
        containers = {"ollama": True, "web": False}
        with ThreadPoolExecutor() as pool:
            ready = [
                pool.submit(machine.become, nouveau, nouveau, containers)
                for machine, nouveau in zip(machines, (True, False), strict=True)
            ]
        for machine, prepared in zip(machines, ready, strict=True):
            prepared.result()
            machine.leave_debian()
        variables = {
            "nvidia_driver_source": "cuda",
            "nvidia_driver_version": OLD,
            "nvidia_driver_repository_url": server.url,
            "nvidia_driver_repository_key_url": f"{server.url}/debian13/x86_64/key.gpg",
            "nvidia_driver_repository_key_fingerprint": keys.good,
            "nvidia_driver_reboot_delay": 0,
        }
        fleet = Fleet(ROOT, folder / "inventory", machines, variables)
        fresh = {machine.name: machine.state() for machine in machines}
        yield Estate(fleet, *machines, repository, fresh, keys)
    for machine in machines:
        machine.remove()


def loaded(machine: GpuMachine) -> str:
    return machine.ssh("cat /sys/module/nvidia/version").strip()


def running(machine: GpuMachine) -> dict[str, bool]:
    kept = yaml.safe_load(machine.ssh(f"cat {FIXTURE}/containers.json"))
    return {name: container["running"] for name, container in kept.items()}


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout
    return result.stdout


def failed(result: subprocess.CompletedProcess[str]) -> str:
    """The block of problems that a run ended with, as one line."""
    assert result.returncode == 2, result.stdout
    return " ".join(result.stdout.partition("PROBLEMS ***")[2].split())


def without_record(state: str) -> list[str]:
    """The same without the record, which says that a run did not reach its end."""
    return [line for line in state.splitlines() if "/var/lib/ollama-fleet/nvidia_driver.json" not in line]


def test_check_mode_on_fresh_hosts_changes_nothing(estate: Estate) -> None:
    output = done(estate.fleet.up("--check", "--diff"))
    assert set(changed_tasks(output)) == {"drv1", "drv2"}
    assert "Would install nvidia-driver-cuda, nvidia-kernel-open-dkms, nvidia-persistenced" in output
    assert f"+    version: {OLD}" in output
    assert estate.fleet.lock == {}
    assert {machine.name: machine.state() for machine in estate.fleet.machines} == estate.fresh


def test_repository_that_another_key_signed_is_refused_and_the_host_is_as_before(estate: Estate) -> None:
    estate.fleet.write(nvidia_driver_repository_key_fingerprint=estate.keys.expired)
    problems = failed(estate.fleet.up("--limit", "drv2"))
    estate.fleet.write(nvidia_driver_repository_key_fingerprint=estate.keys.good)
    assert f"No good signature from required signer: {estate.keys.expired}" in problems, problems
    assert "put that package source in order, or its key" in problems
    assert without_record(estate.second.state()) == without_record(estate.fresh["drv2"])


def test_fresh_hosts_get_the_driver_and_the_one_with_nouveau_ends_asking_for_a_reboot(estate: Estate) -> None:
    problems = failed(estate.fleet.up())
    assert f"drv1: failed: {OLD} is installed, but nouveau holds the card: reboot the host" in problems
    assert "set nvidia_driver_reboot_enabled to true, and run this again" in problems
    # The other one has nothing to reboot for: its driver was loaded, verified and recorded.
    assert "drv2" not in problems
    assert loaded(estate.second) == OLD
    names = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced")
    assert estate.fleet.lock == {PLATFORM: {"version": OLD, "packages": dict.fromkeys(names, f"{OLD}-1")}}
    # No driver was there that containers could have used, so none was stopped.
    assert estate.first.log("docker") == estate.second.log("docker") == []


def test_reboot_into_the_driver_is_verified_and_a_second_run_changes_nothing(estate: Estate) -> None:
    assert set(estate.fleet.reasons()) == {"drv1"}
    estate.fleet.write(nvidia_driver_reboot_enabled=True)
    output = done(estate.fleet.up())
    assert f"drv1 reboots in 0 minutes: {OLD} is installed, but nouveau holds the card" in output
    assert loaded(estate.first) == OLD
    # Once, although two runs were needed.
    assert estate.first.log("initramfs") == ["-u -k all"]
    assert changed_tasks(done(estate.fleet.up("--full"))) == {"drv1": 0, "drv2": 0}
    estate.fleet.write(nvidia_driver_reboot_enabled=None)
    assert estate.fleet.reasons() == {}


def test_neither_apt_nor_unattended_upgrades_can_move_a_locked_driver(estate: Estate) -> None:
    anything = "/etc/apt/apt.conf.d/51any-origin"
    estate.second.ssh(
        f"echo 'Unattended-Upgrade::Origins-Pattern {{ \"origin=*\"; }};' | sudo tee {anything} >/dev/null"
    )
    before = estate.second.state()
    for command in (f"install nvidia-driver-cuda={NEW}-1", f"install libcuda1={NEW}-1", "upgrade", "dist-upgrade"):
        estate.second.ssh(f"sudo DEBIAN_FRONTEND=noninteractive apt-get -y {command} >/dev/null 2>&1 || true")
        assert estate.second.state() == before, command
    said = estate.second.ssh("sudo unattended-upgrade --debug 2>&1")
    assert estate.second.state() == before, said
    # The attempts were true ones: there is a newer driver, and unattended-upgrades saw it.
    assert f"{NEW}-1" in estate.second.ssh("apt-cache madison libcuda1")
    assert "nvidia-driver-cuda" in said, said
    estate.second.ssh(f"sudo rm {anything}")
    # A package that may bring any driver "at least" 580 brings the one that is locked, or does not come.
    for name in ("cuda-drivers-580", "nvidia-open"):
        planned = estate.second.ssh(f"apt-get --simulate install {name} 2>&1 || true")
        assert "Inst" not in planned or f"({OLD}-1" in planned, planned
        assert not any(f"{other}-1" in planned for other in (NEW, "590.48.01", "595.71.05") if "Inst" in planned), (
            planned
        )


def test_every_damage_is_named_by_the_plan_and_repaired_by_the_next_run(estate: Estate) -> None:
    damages = {f"echo '#' | sudo tee -a {path}": f"{path} was changed by hand" for path in MANAGED[:3]}
    damages |= {
        f"sudo chmod 0600 {MANAGED[3]}": f"the mode of {MANAGED[3]} is 0600, was 0644",
        f"sudo rm {MANAGED[4]}": f"{MANAGED[4]} was removed",
        "sudo apt-mark unhold libcuda1": "package libcuda1 is no longer held",
        "sudo systemctl stop nvidia-persistenced": "service nvidia-persistenced is not running",
        "sudo systemctl disable --quiet nvidia-persistenced": "service nvidia-persistenced is disabled at boot,"
        " was enabled",
        "sudo dpkg --remove --force-depends libnvidia-cfg1": "package libnvidia-cfg1 is not installed",
    }
    for command in damages:
        estate.second.ssh(f"{command} >/dev/null 2>&1")
    reasons = estate.fleet.reasons()
    assert set(reasons) == {"drv2"}
    assert {sentence for sentence in damages.values() if sentence not in reasons["drv2"]} == set(), reasons["drv2"]
    done(estate.fleet.up())
    assert estate.fleet.reasons() == {}


def test_a_working_driver_waits_for_permission_and_the_plan_names_who_is_behind(estate: Estate) -> None:
    before = estate.second.state()
    estate.fleet.write(nvidia_driver_version=None)
    problems = failed(estate.fleet.inv("driver.upgrade", "--limit", "drv2"))
    assert f"{OLD} open is loaded; this needs a reboot, and nvidia_driver_reboot_enabled is false" in problems
    assert estate.second.state() == before
    assert estate.second.log("docker") == []
    entry = estate.fleet.lock[PLATFORM]
    assert (entry["version"], entry["previous"]["version"]) == (NEW, OLD)
    reasons = estate.fleet.reasons()
    assert set(reasons) == {"drv1", "drv2"}
    assert all(f"install {NEW} with open modules" in reason for reason in reasons.values())


def test_a_module_that_does_not_build_leaves_the_host_as_before_and_its_containers_running(estate: Estate) -> None:
    estate.fleet.write(nvidia_driver_reboot_enabled=True)
    before = without_record(estate.second.state())
    estate.second.ssh(f"sudo sh -c 'echo {NEW} >{FIXTURE}/build-fails'")
    problems = failed(estate.fleet.up("--limit", "drv2"))
    assert "too few arguments to function 'pci_resize_resource'" in problems
    assert "remedy: set nvidia_driver_version to one that supports this kernel" in problems
    estate.second.ssh(f"sudo rm {FIXTURE}/build-fails")
    assert without_record(estate.second.state()) == before
    assert running(estate.second) == {"ollama": True, "web": True}
    assert estate.second.log("docker") == [
        f"stop ollama: {OLD}-1 installed, {OLD} loaded",
        f"start ollama: {OLD}-1 installed, {OLD} loaded",
    ]


def test_a_run_that_is_cut_is_taken_up_and_containers_start_again_on_the_new_driver(estate: Estate) -> None:
    command = [str(ROOT / "inv"), "up", "--tags", "nvidia_driver", "--limit", "drv2"]
    cut = subprocess.Popen(
        [*command, "--inventory", str(estate.fleet.folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while running(estate.second)["ollama"] and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(cut.pid, signal.SIGKILL)
    cut.wait()
    assert running(estate.second) == {"ollama": False, "web": True}

    done(estate.fleet.up("--limit", "drv2"))
    assert loaded(estate.second) == NEW
    assert running(estate.second) == {"ollama": True, "web": True}
    assert estate.second.log("docker") == [
        f"stop ollama: {OLD}-1 installed, {OLD} loaded",
        f"start ollama: {NEW}-1 installed, {NEW} loaded",
    ]


def test_rollback_is_refused_before_a_host_is_touched_when_the_earlier_driver_is_gone(estate: Estate) -> None:
    before = {machine.name: machine.state() for machine in estate.fleet.machines}
    text = estate.fleet.lock_file.read_text()
    kept = [package for package in nvidia_cuda.debian([OLD]) if package.name == "nvidia-persistenced"]
    estate.repository.remove("nvidia-persistenced", f"{OLD}-1")
    problems = failed(estate.fleet.inv("driver.rollback", "--limit", "drv2"))
    estate.repository.add(kept)
    # It is still in drv1's packages, and no longer where drv2 would get it from.
    assert f"package nvidia-persistenced {OLD}-1 is no longer in this host's repositories" in problems
    assert "add a repository that kept it" in problems
    assert estate.fleet.lock_file.read_text() == text
    assert {machine.name: machine.state() for machine in estate.fleet.machines} == before


def test_rollback_brings_the_lock_and_the_hosts_back(estate: Estate) -> None:
    done(estate.fleet.inv("driver.rollback"))
    entry = estate.fleet.lock[PLATFORM]
    assert (entry["version"], entry["previous"]["version"]) == (OLD, NEW)
    assert [loaded(machine) for machine in estate.fleet.machines] == [OLD, OLD]
    # drv1 had never left it, and was not disturbed.
    assert estate.first.log("docker") == []
    assert estate.second.log("docker") == [
        f"stop ollama: {NEW}-1 installed, {NEW} loaded",
        f"start ollama: {OLD}-1 installed, {OLD} loaded",
    ]
    assert estate.fleet.reasons() == {}


def test_unlock_lets_go_of_lock_file_and_hosts(estate: Estate) -> None:
    done(estate.fleet.inv("driver.unlock"))
    assert estate.fleet.lock[PLATFORM]["previous"]["version"] == OLD
    assert "version" not in estate.fleet.lock[PLATFORM]
    for machine in estate.fleet.machines:
        assert machine.ssh("apt-mark showhold") == ""
        assert machine.ssh(f"ls {MANAGED[0]} {MANAGED[1]} 2>/dev/null || true") == ""
        assert loaded(machine) == OLD
    reasons = estate.fleet.reasons()
    assert set(reasons) == {"drv1", "drv2"}
    assert all(f"lock it at {OLD}" in reason for reason in reasons.values()), reasons


def test_teardown_leaves_the_hosts_as_they_were(estate: Estate) -> None:
    for machine in estate.fleet.machines:
        machine.ssh(f'sudo sed -i \'s/"running": true/"running": false/g\' {FIXTURE}/containers.json')
    estate.first.ssh(f'sudo sed -i \'s/"running": false/"running": true/g\' {FIXTURE}/containers.json')
    # A driver is not taken from a container that uses it.
    problems = failed(estate.fleet.inv("down", "--tags", "nvidia_driver"))
    assert "drv1: failed: the driver stays, because these use a GPU: ollama" in problems
    estate.first.ssh(f'sudo sed -i \'s/"running": true/"running": false/g\' {FIXTURE}/containers.json')
    done(estate.fleet.inv("down", "--tags", "nvidia_driver"))
    assert {machine.name: machine.state() for machine in estate.fleet.machines} == estate.fresh

"""How the driver lock moves: the version each step leads to, and when a step must not be taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import driver_lock, driver_moves
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import RefusalError

from tests.unit.plugins.host_trees import HostTree

OLD, NEW, NEXT = "580.126.09", "580.159.04", "590.48.01"
PLATFORM = "debian-13-x86_64-cuda-open"
NAMES = ["nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"]
WANTS = {"branch": 580, "version": "", "flavor": "auto", "source": "cuda", "reboot_enabled": True}


def packages(version: str, *more: str) -> dict[str, str]:
    return dict.fromkeys([*NAMES, *more], f"{version}-1")


def entry(version: str, *more: str, **previous: Any) -> dict[str, Any]:
    return {"version": version, "packages": packages(version, *more), **previous}


class Fixture:
    """A Debian host with an H100, its lock file, and a repository that answers with these versions."""

    def __init__(self, folder: Path) -> None:
        tree = HostTree(folder / "host").system("debian", "13", "6.12.48+deb13-amd64")
        tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200")
        self.observed = tree.observe().everything()
        self.path = folder / "driver.lock.yml"
        self.versions = [NEXT, NEW, OLD]
        self.asked = 0
        self.missing: set[str] = set()

    def ask(self, names: list[str]) -> dict[str, list[str]]:
        self.asked += 1
        return {name: [] if name in self.missing else [f"{version}-1" for version in self.versions] for name in names}

    def install(self, version: str, *more: str) -> None:
        """Have the driver installed and loaded."""
        found = {name: {"version": v, "installed": True, "held": True} for name, v in packages(version, *more).items()}
        driver = {"loaded": version, "flavor": "open", "on_disk": version, "user_space": version, "packages": found}
        self.observed["driver"] = {**self.observed["driver"], **driver}
        module = {"version": version, "flavor": "open", "path": "/lib/modules/updates/dkms/nvidia.ko"}
        self.observed["kernels"] = [{**kernel, "module": module} for kernel in self.observed["kernels"]]

    def host(self, check: bool = False, **wants: Any) -> driver_moves.Host:
        return driver_moves.Host("gpu1", self.observed, {**WANTS, **wants}, str(self.path), self.ask, check)

    def lock(self, content: Mapping[str, Any]) -> None:
        driver_lock.update(self.path, lambda _: {PLATFORM: content})

    @property
    def entry(self) -> dict[str, Any] | None:
        return dict(driver_lock.read(self.path)).get(PLATFORM)


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_apply_locks_the_newest_of_the_branch_when_nothing_is_locked(fixture: Fixture) -> None:
    moved = driver_moves.apply(fixture.host())
    assert moved.decision["action"] == "install"
    assert moved.decision["packages"] == packages(NEW)
    assert fixture.entry == entry(NEW)


def test_apply_installs_what_is_locked_though_there_is_a_newer_one(fixture: Fixture) -> None:
    fixture.lock(entry(OLD))
    moved = driver_moves.apply(fixture.host())
    assert moved.decision["packages"] == packages(OLD)
    assert moved.before == moved.after


def test_apply_refuses_a_locked_version_that_can_no_longer_be_had(fixture: Fixture) -> None:
    fixture.lock(entry(OLD))
    fixture.versions = [NEW]
    with pytest.raises(RefusalError, match=rf"{PLATFORM} is locked at {OLD}.*which have {NEW}-1.*driver\.upgrade"):
        driver_moves.apply(fixture.host())
    assert fixture.entry == entry(OLD)


def test_apply_asks_nobody_where_the_locked_driver_is_installed(fixture: Fixture) -> None:
    fixture.lock(entry(NEW))
    fixture.install(NEW)
    assert driver_moves.apply(fixture.host()).decision["action"] == "keep"
    assert fixture.asked == 0


def test_apply_locks_a_right_driver_that_was_there_before(fixture: Fixture) -> None:
    fixture.install(OLD)
    moved = driver_moves.apply(fixture.host())
    assert moved.decision["action"] == "keep"
    assert fixture.entry == entry(OLD)
    assert fixture.asked == 0


def test_apply_locks_nothing_while_a_working_driver_may_not_be_touched(fixture: Fixture) -> None:
    fixture.lock(entry(NEW))
    fixture.install(OLD)
    moved = driver_moves.apply(fixture.host(reboot_enabled=False))
    assert moved.decision["action"] == "wait"
    assert fixture.asked == 0
    assert fixture.entry == entry(NEW)


def test_apply_goes_by_the_host_that_was_first(fixture: Fixture) -> None:
    def ask(names: list[str]) -> dict[str, list[str]]:
        # While this host is asked, another one of the same run locks another version.
        fixture.lock(entry(OLD))
        return fixture.ask(names)

    host = fixture.host()
    moved = driver_moves.apply(
        driver_moves.Host(host.name, host.observed, host.wants, host.lock_file, ask, check=False)
    )
    assert moved.decision["packages"] == packages(OLD)
    assert fixture.entry == entry(OLD)


def test_apply_adds_what_this_host_needs_beside_the_others(fixture: Fixture) -> None:
    fixture.lock(entry(OLD, previous=entry(NEW)))
    fixture.observed["nvswitches"] = ["0000:02:00.0"]
    moved = driver_moves.apply(fixture.host())
    assert moved.decision["packages"] == packages(OLD, "nvidia-fabricmanager")
    assert fixture.entry == entry(OLD, "nvidia-fabricmanager", previous=entry(NEW))


def test_check_mode_writes_nothing_and_says_what_it_cannot_know(fixture: Fixture) -> None:
    moved = driver_moves.apply(fixture.host(check=True))
    assert moved.after != moved.before == ""
    fixture.versions = []
    moved = driver_moves.apply(fixture.host(check=True))
    assert "when this is not a check run" in moved.says
    assert not fixture.path.exists()


def test_upgrade_moves_to_the_newest_of_the_branch_and_keeps_the_way_back(fixture: Fixture) -> None:
    fixture.lock(entry(OLD))
    fixture.install(OLD)
    moved = driver_moves.upgrade(fixture.host())
    assert moved.says == f"{PLATFORM}: {OLD} to {NEW}"
    assert moved.decision["action"] == "install"
    assert fixture.entry == entry(NEW, previous=entry(OLD))


def test_upgrade_again_changes_nothing(fixture: Fixture) -> None:
    fixture.lock(entry(NEW, previous=entry(OLD)))
    moved = driver_moves.upgrade(fixture.host())
    assert moved.before == moved.after
    assert "the newest there is" in moved.says


def test_upgrade_goes_to_the_version_and_branch_that_are_named(fixture: Fixture) -> None:
    fixture.lock(entry(NEW))
    driver_moves.upgrade(fixture.host(), OLD)
    assert fixture.entry == entry(OLD, previous=entry(NEW))
    driver_moves.upgrade(fixture.host(branch=590), NEXT)
    assert fixture.entry == entry(NEXT, previous=entry(OLD))


@pytest.mark.parametrize(
    ("to", "wants", "words"),
    [
        ("580.200.01", {}, "580.200.01 is not in the repositories"),
        (NEXT, {}, "not of nvidia_driver_branch 580"),
        ("", {"version": "580.200.01"}, "580.200.01 is not in the repositories"),
    ],
)
def test_upgrade_refuses_what_cannot_be_had(fixture: Fixture, to: str, wants: dict[str, Any], words: str) -> None:
    fixture.lock(entry(OLD))
    with pytest.raises(RefusalError, match=words):
        driver_moves.upgrade(fixture.host(**wants), to)
    assert fixture.entry == entry(OLD)


def test_upgrade_refuses_another_version_than_the_inventory_names(fixture: Fixture) -> None:
    with pytest.raises(FleetError, match=f"nvidia_driver_version is {OLD} in the inventory.*set it to {NEW}"):
        driver_moves.upgrade(fixture.host(version=OLD), NEW)


def test_rollback_returns_to_the_version_before(fixture: Fixture) -> None:
    fixture.lock(entry(NEW, previous=entry(OLD)))
    fixture.install(NEW)
    moved = driver_moves.rollback(fixture.host())
    assert moved.says == f"{PLATFORM}: {NEW} back to {OLD}"
    assert moved.decision["packages"] == packages(OLD)
    assert fixture.entry == entry(OLD, previous=entry(NEW))


def test_rollback_refuses_when_the_earlier_version_is_gone_and_moves_nothing(fixture: Fixture) -> None:
    fixture.lock(entry(NEW, previous=entry(OLD)))
    fixture.install(NEW)
    fixture.versions = [NEXT, NEW]
    with pytest.raises(FleetError, match=rf"{OLD}-1 is no longer in .* Remedy: add a repository that kept it") as error:
        driver_moves.rollback(fixture.host())
    assert "--to VERSION" in error.value.remedy
    assert fixture.entry == entry(NEW, previous=entry(OLD))


def test_rollback_refuses_where_the_inventory_asks_for_something_else(fixture: Fixture) -> None:
    fixture.lock(entry(NEXT, previous=entry(NEW)))
    with pytest.raises(RefusalError, match="nvidia_driver_branch is 590"):
        driver_moves.rollback(fixture.host(branch=590))
    assert fixture.entry == entry(NEXT, previous=entry(NEW))


def test_unlock_lets_the_version_go_and_rollback_leads_back(fixture: Fixture) -> None:
    fixture.lock(entry(NEW))
    fixture.install(NEW)
    moved = driver_moves.unlock(fixture.host())
    assert moved.decision["action"] == "lock"
    assert fixture.entry == {"previous": entry(NEW)}
    driver_moves.rollback(fixture.host())
    assert fixture.entry == entry(NEW)


def test_a_host_without_a_driver_to_lock_moves_nothing(fixture: Fixture) -> None:
    fixture.observed["gpus"] = []
    for move in (driver_moves.look, driver_moves.apply, driver_moves.upgrade, driver_moves.rollback):
        assert move(fixture.host()).decision["action"] == "skip"
    assert not fixture.path.exists()

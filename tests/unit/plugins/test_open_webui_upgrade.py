"""A change of Open WebUI, cut at every step: what runs in the end, with which data, and what is left lying about."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_backups import Journal
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_upgrade import (
    RESERVE,
    Upgrade,
    needs_way_back,
    shortage,
)

OLD = {"name": "webui:1", "id": "sha256:old"}
NEW = {"name": "webui:2", "id": "sha256:new"}
OLD_FILES = {"compose.yaml": "image: webui:1", "open-webui.env": "A=1", "ca-bundle.pem": None}
NEW_FILES = {"compose.yaml": "image: webui:2", "open-webui.env": "A=2", "ca-bundle.pem": "PEM"}


class Cut(BaseException):
    """The machine loses its power."""


class Power:
    """Goes out before the given step (counted from 0); None never does."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.steps = at, 0

    def step(self) -> None:
        if self.steps == self.at:
            raise Cut
        self.steps += 1


class DatabaseDouble:
    """A database of one text, whose methods can be cut in their middle."""

    def __init__(self, machine: MachineDouble) -> None:
        self.machine = machine
        self.damaged = self.full = self.unreadable = False

    def save(self, folder: str) -> list[dict[str, Any]]:
        if self.full:
            raise OSError(28, "No space left on device")
        if self.damaged:
            raise FleetError("the database", "it is damaged", "mend it")
        (Path(folder) / "webui.db").write_text("half")
        self.machine.power.step()
        (Path(folder) / "webui.db").write_text(self.machine.data or "")
        return [{"name": "webui.db", "bytes": 1, "sha256": "x"}]

    def keep(self, folder: str) -> None:
        self.machine.power.step()
        if self.unreadable:
            raise FleetError("the database", "pg_dump: error: it is broken", "mend it")
        if self.machine.data is not None:
            (Path(folder) / "failed").mkdir(exist_ok=True)
            (Path(folder) / "failed" / "webui.db").write_text(self.machine.data)
            self.machine.data = None
        self.machine.power.step()

    def restore(self, folder: str, parts: list[dict[str, Any]]) -> None:
        assert parts == [{"name": "webui.db", "bytes": 1, "sha256": "x"}]
        self.machine.power.step()
        self.machine.data = (Path(folder) / "webui.db").read_text()
        self.machine.power.step()


class MachineDouble:
    """A host with one container. The new version migrates the database as soon as it starts."""

    def __init__(self, new_works: bool = True, old_works: bool = True) -> None:
        self.power = Power()
        self.new_works, self.old_works = new_works, old_works
        self.there: dict[str, str | None] = dict(OLD_FILES)
        self.runs: str | None = "webui:1"
        self.data: str | None = "chats"
        self.database = DatabaseDouble(self)

    def files(self) -> dict[str, str | None]:
        return dict(self.there)

    def put(self, files: dict[str, str | None]) -> None:
        for name, text in sorted(files.items()):
            self.power.step()
            self.there[name] = text
        self.power.step()

    def stop(self) -> None:
        self.power.step()
        self.runs = None

    def start(self, image: dict[str, str] | None) -> None:
        self.power.step()
        self.runs = str(self.there["compose.yaml"]).removeprefix("image: ")
        assert image is None or image["name"] == self.runs
        assert self.data is not None
        if self.runs == "webui:2":
            self.data = self.data.removesuffix(", migrated") + ", migrated"
        elif "migrated" in self.data:
            raise AssertionError("the old version ran over a database of the new one")
        self.power.step()

    def start_without_migrating(self, _image: dict[str, str] | None) -> None:
        self.power.step()
        self.runs = str(self.there["compose.yaml"]).removeprefix("image: ")

    def why_not(self, log_in: bool) -> str:
        self.power.step()
        assert log_in
        works = self.new_works if self.runs == "webui:2" else self.old_works
        return "" if works else "admin cannot log in (HTTP 500)"

    def log(self) -> str:
        return "Traceback\nno such column: user.scim"


class JournalThatIsCut(Journal):
    """The journal, which can be cut before each thing that it writes or removes."""

    def __init__(self, folder: Path, power: Power) -> None:
        super().__init__(str(folder), keep=3, now=lambda: 0)
        self.power = power

    def _write(self, entry: dict[str, Any]) -> None:
        self.power.step()
        super()._write(entry)

    def _manifest(self, manifest: dict[str, Any]) -> None:
        self.power.step()
        super()._manifest(manifest)

    def save_files(self, files: dict[str, str | None]) -> None:
        self.power.step()
        super().save_files(files)

    def _end(self) -> None:
        self.power.step()
        super()._end()
        self.power.step()


def change(machine: MachineDouble, folder: Path, power: Power | None = None, with_data: bool = True) -> str:
    """One run as the module does it: settle what is left, then change unless the wanted one runs."""
    machine.power = power or Power()
    journal = JournalThatIsCut(folder, machine.power)
    upgrade = Upgrade(machine, journal)
    settled = upgrade.settle()
    if machine.there != NEW_FILES or machine.runs != "webui:2":
        upgrade.run(NEW_FILES, OLD, NEW, with_data, True)
    return settled


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts are those of this process here, not of the machine's power."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outcome(folder: Path, name: str) -> str:
    return str(json.loads((folder / name / "manifest.json").read_text())["outcome"])


def test_a_good_version_runs_over_the_migrated_database(tmp_path: Path) -> None:
    machine = MachineDouble()
    assert change(machine, tmp_path) == ""
    assert (machine.runs, machine.data, machine.there) == ("webui:2", "chats, migrated", NEW_FILES)
    assert left(tmp_path) == ["19700101T000000Z"]
    assert (tmp_path / "19700101T000000Z" / "webui.db").read_text() == "chats"
    assert outcome(tmp_path, "19700101T000000Z") == "the new one works"


def test_a_bad_version_is_taken_back_with_its_database(tmp_path: Path) -> None:
    machine = MachineDouble(new_works=False)
    with pytest.raises(FleetError) as caught:
        change(machine, tmp_path)
    assert (machine.runs, machine.data, machine.there) == ("webui:1", "chats", OLD_FILES)
    kept = tmp_path / "19700101T000000Z" / "failed" / "webui.db"
    assert kept.read_text() == "chats, migrated"
    assert caught.value.what == "Open WebUI does not work with webui:2"
    for words in (
        "HTTP 500",
        "no such column: user.scim",
        "webui:1 is back with its database and works",
        str(kept.parent),
    ):
        assert words in caught.value.why
    assert "Traceback" in caught.value.log
    assert outcome(tmp_path, "19700101T000000Z").startswith("taken back: ")


def test_what_cannot_be_kept_does_not_bar_the_way_back(tmp_path: Path) -> None:
    machine = MachineDouble(new_works=False)
    machine.database.unreadable = True
    with pytest.raises(FleetError, match="could not be kept: pg_dump: error: it is broken") as caught:
        change(machine, tmp_path)
    assert "webui:1 is back with its database and works" in caught.value.why
    assert (machine.runs, machine.data, machine.there) == ("webui:1", "chats", OLD_FILES)


def test_an_old_one_that_does_not_come_back_is_said(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="does not work either: admin cannot log in") as caught:
        change(MachineDouble(new_works=False, old_works=False), tmp_path)
    assert "docs/open-webui.md" in caught.value.remedy


def test_settings_alone_leave_no_backup_and_stop_nothing(tmp_path: Path) -> None:
    machine = MachineDouble()
    machine.stop = lambda: pytest.fail("stopped")  # type: ignore[method-assign]
    change(machine, tmp_path, with_data=False)
    assert left(tmp_path) == []


def test_a_damaged_database_stops_the_change_before_it_begins(tmp_path: Path) -> None:
    machine = MachineDouble()
    machine.database.damaged = True
    with pytest.raises(FleetError, match="damaged"):
        change(machine, tmp_path)
    assert (machine.runs, machine.there) == ("webui:1", OLD_FILES)
    assert left(tmp_path) == []


def test_a_disk_that_is_full_stops_the_change_before_it_begins(tmp_path: Path) -> None:
    machine = MachineDouble()
    machine.database.full = True
    with pytest.raises(FleetError, match=r"could not be written, so nothing was changed: .*No space left") as caught:
        change(machine, tmp_path)
    assert "open_webui_backup_dir" in caught.value.remedy
    assert (machine.runs, machine.there) == ("webui:1", OLD_FILES)
    assert left(tmp_path) == []


def cuts(machine: Callable[[], MachineDouble], folder: Path) -> int:
    """In how many places a whole run can be cut."""
    power = Power()
    with suppress(FleetError):
        change(machine(), folder / "whole", power)
    return power.steps


def cut_and_go_on(machine: MachineDouble, folder: Path, at: int) -> FleetError | None:
    """Cut a run, and let the next one go on; return what that said. One more would find nothing to settle."""
    with pytest.raises(Cut):
        change(machine, folder, Power(at))
    said = None
    try:
        change(machine, folder)
    except FleetError as error:
        said = error
    assert not (folder / "journal.json").exists()
    return said


def test_wherever_a_good_change_is_cut_the_next_run_ends_it(tmp_path: Path) -> None:
    places = cuts(MachineDouble, tmp_path)
    assert places > 6
    for at in range(places):
        machine = MachineDouble()
        assert cut_and_go_on(machine, tmp_path / str(at), at) is None
        assert (machine.runs, machine.data, machine.there) == ("webui:2", "chats, migrated", NEW_FILES), at
        backups = [path for path in (tmp_path / str(at)).iterdir() if path.is_dir()]
        assert [(path / "webui.db").read_text() for path in backups] == ["chats"], at


def test_wherever_a_bad_change_is_cut_the_next_run_takes_it_back(tmp_path: Path) -> None:
    def bad() -> MachineDouble:
        return MachineDouble(new_works=False)

    places = cuts(bad, tmp_path)
    assert places > 12
    for at in range(places):
        machine, folder = bad(), tmp_path / str(at)
        said = cut_and_go_on(machine, folder, at)
        assert said is not None, at
        assert "webui:1 is back with its database and works" in said.why, at
        assert (machine.runs, machine.data, machine.there) == ("webui:1", "chats", OLD_FILES), at
        kept = [path.read_text() for path in folder.glob("*/failed/webui.db")]
        # Cut after its very last step, the next run cannot know that it was tried, and tries.
        assert set(kept) == {"chats, migrated"}, at


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize("new_works", [True, False])
def test_a_run_that_settles_can_be_cut_as_well(tmp_path: Path, new_works: bool, with_data: bool) -> None:
    def machine() -> MachineDouble:
        made = MachineDouble(new_works=new_works)
        if not with_data:
            # Settings alone: the same database serves before and after.
            made.start = made.start_without_migrating  # type: ignore[method-assign]
        return made

    for first in range(0, 36, 2):
        for second in range(0, 16, 2):
            one, folder = machine(), tmp_path / f"{first}-{second}"
            for at in (first, second):
                with suppress(Cut, FleetError):
                    change(one, folder, Power(at), with_data)
            with suppress(FleetError):
                change(one, folder, None, with_data)
            assert not (folder / "journal.json").exists()
            wanted = ("webui:2", NEW_FILES) if new_works else ("webui:1", OLD_FILES)
            assert (one.runs, one.there) == wanted, (first, second)
            if with_data:
                assert one.data == ("chats, migrated" if new_works else "chats"), (first, second)
            else:
                assert left(folder) == [], (first, second)


def test_what_people_wrote_since_a_cut_run_stays(tmp_path: Path) -> None:
    machine = MachineDouble()
    places = cuts(MachineDouble, tmp_path)
    with pytest.raises(Cut):
        change(machine, tmp_path / "cut", Power(places - 2))
    assert machine.data == "chats, migrated"
    machine.data = "chats, and more, migrated"
    assert change(machine, tmp_path / "cut") == "finished"
    assert machine.data == "chats, and more, migrated"


def test_old_backups_go_after_success_alone(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"1960010{number}T000000Z").mkdir()
    with pytest.raises(FleetError):
        change(MachineDouble(new_works=False), tmp_path)
    assert len(left(tmp_path)) == 6
    change(MachineDouble(), tmp_path)
    assert left(tmp_path) == ["19600105T000000Z", "19700101T000000Z", "19700101T000000Z-2"]


def test_a_clock_that_went_back_does_not_cost_the_new_backup(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"2026010{number}T000000Z").mkdir()
    change(MachineDouble(), tmp_path)
    assert left(tmp_path) == ["19700101T000000Z", "20260104T000000Z", "20260105T000000Z"]


def test_backups_are_roots_alone(tmp_path: Path) -> None:
    change(MachineDouble(), tmp_path / "backups")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "backups").rglob("*")}
    assert modes["19700101T000000Z"] == "0o700"
    assert modes["open-webui.env"] == modes["manifest.json"] == "0o600"
    assert oct((tmp_path / "backups").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    ("there", "runs", "wanted", "needed"),
    [
        (True, "a", "b", True),
        (True, "a", None, True),
        (True, None, "a", True),
        (True, "a", "a", False),
        (False, "a", "b", False),
    ],
)
def test_a_way_back_is_needed_where_another_image_meets_a_database(
    there: bool, runs: str | None, wanted: str | None, needed: bool
) -> None:
    assert needs_way_back(there, runs, wanted) is needed


def test_room_is_counted_for_the_way_back_too() -> None:
    size = 10**9
    assert shortage(size, 3 * size + RESERVE, 3 * size + RESERVE, same_disk=True) == ""
    assert "needed" in shortage(size, 3 * size, 3 * size, same_disk=True)
    assert shortage(size, 2 * size + RESERVE, size + RESERVE, same_disk=False) == ""
    said = shortage(size, 0, 0, same_disk=False)
    assert "the disk of the backups has 0 MB free, and 2.3 GB are needed; the disk of the data" in said
    # What cannot be known is not guessed.
    assert shortage(size, 2 * size + RESERVE, None, same_disk=False) == ""

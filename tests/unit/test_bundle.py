"""Whether a bundle is whole: every way in which a disk or a person can spoil it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ollama_fleet import bundle
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions

QUIET = Console(file=io.StringIO())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    for name, content in {"models/blobs/sha256-a": b"weights", "images/b.tar": b"image", "packages/d.tar": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_was_sealed_is_whole(disk: Path) -> None:
    read: list[int] = []
    sealed = bundle.seal(disk)
    assert bundle.verify(disk, read.append) == sealed
    assert [entry.path for entry in sealed] == ["images/b.tar", "models/blobs/sha256-a", "packages/d.tar"]
    assert sum(read) == sum(entry.size for entry in sealed) == 12


def other_bytes(disk: Path) -> None:
    (disk / "images/b.tar").write_bytes(b"imagE")


def cut(disk: Path) -> None:
    (disk / "models/blobs/sha256-a").write_bytes(b"weigh")


def missing(disk: Path) -> None:
    (disk / "packages/d.tar").unlink()


def added(disk: Path) -> None:
    (disk / "packages/evil.tar").write_bytes(b"x")


def linked(disk: Path) -> None:
    (disk / "images/c.tar").symlink_to("/etc/passwd")


def unsealed(disk: Path) -> None:
    (disk / bundle.LIST).unlink()


def torn(disk: Path) -> None:
    (disk / bundle.LIST).write_text('{"schema": "ollama-fl')


def from_the_future(disk: Path) -> None:
    (disk / bundle.LIST).write_text('{"schema": "ollama-fleet/bundle/9", "files": []}')


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_bytes, "images/b.tar has other bytes than were saved"),
        (cut, "models/blobs/sha256-a has 5 bytes, not 7"),
        (missing, "packages/d.tar is missing"),
        (added, "packages/evil.tar is not of this bundle"),
        (linked, "images/c.tar is a link"),
        (unsealed, "not saved to its end"),
        (torn, "bundle.json cannot be read"),
        (from_the_future, "its schema is ollama-fleet/bundle/9"),
    ],
)
def test_spoiled_bundle_is_refused_by_name_before_anything_is_loaded(
    disk: Path, spoil: Callable[[Path], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.seal(disk)
    spoil(disk)
    monkeypatch.setattr(bundle.fleet_run, "run", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(FleetError) as refused:
        bundle.load(disk, disk, None, QUIET)
    assert says in refused.value.why


def test_many_wrong_files_are_counted(disk: Path) -> None:
    bundle.seal(disk)
    for number in range(9):
        (disk / f"{number}").write_text("x")
    with pytest.raises(FleetError, match="; and 4 more"):
        bundle.verify(disk)


class Playbook:
    """Stands for ansible-playbook: notes what it was asked for, and ends with a code."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.asked = code, []  # type: ignore[var-annotated]

    def __call__(self, name: str, inventory: Path, options: PlaybookOptions) -> int:
        self.asked.append((name, inventory, options))
        return self.code


def test_save_that_fails_leaves_no_bundle(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.seal(disk)
    monkeypatch.setattr(bundle.fleet_run, "run", Playbook(2))
    assert bundle.save(Path("inventory"), disk, None, QUIET) == 2
    assert not (disk / bundle.LIST).exists()
    assert (disk / "images/b.tar").exists(), "the next save has to begin anew"


def test_save_and_load_hand_folder_and_limit_to_the_playbooks(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    playbook = Playbook()
    monkeypatch.setattr(bundle.fleet_run, "run", playbook)
    assert bundle.save(Path("inventory"), disk, "gpu1", QUIET) == 0
    assert bundle.load(Path("inventory"), disk, None, QUIET) == 0
    assert [name for name, _, _ in playbook.asked] == ["bundle_save", "bundle_load"]
    assert [options.limit for _, _, options in playbook.asked] == ["gpu1", None]
    assert {options.extra_vars[0] for _, _, options in playbook.asked} == {json.dumps({"bundle_folder": str(disk)})}

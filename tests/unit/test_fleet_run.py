"""A run on a fleet, with the playbook's own run replaced by a double that writes what the callback would."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ollama_fleet import fleet_run
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions


class PlaybookDouble:
    """Ends with a code after it has written problems to where the environment says, as ansible-playbook would."""

    def __init__(self, code: int, *what: str) -> None:
        self.code, self.problems = code, [{"what": one} for one in what]

    def __call__(
        self, name: str, inventory: Path, options: PlaybookOptions, extra_environment: Mapping[str, str] = {}
    ) -> int:
        path = {**os.environ, **extra_environment}[fleet_run.PROBLEMS]
        Path(path).write_text(json.dumps({"problems": self.problems}))
        return self.code


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The inventories that were read to find out why nothing was done."""
    found: list[Path] = []
    monkeypatch.setattr(fleet_run.inventory_check, "check", lambda inventory, _limit: found.append(inventory))
    return found


@pytest.mark.parametrize(
    ("double", "reads"),
    [
        (PlaybookDouble(0), False),
        (PlaybookDouble(2, "failed"), False),
        (PlaybookDouble(0, fleet_run.NOBODY), True),
        (PlaybookDouble(1), True),
        (PlaybookDouble(4, "could not be reached"), True),
    ],
)
def test_the_inventory_is_read_only_where_nothing_may_have_run(
    monkeypatch: pytest.MonkeyPatch, asked: list[Path], tmp_path: Path, double: PlaybookDouble, reads: bool
) -> None:
    monkeypatch.delenv(fleet_run.PROBLEMS, raising=False)
    monkeypatch.setattr(fleet_run, "run_playbook", double)
    assert fleet_run.run("site", tmp_path, PlaybookOptions()) == double.code
    assert asked == ([tmp_path] if reads else [])


def test_problems_go_where_the_person_wants_them(
    monkeypatch: pytest.MonkeyPatch, asked: list[Path], tmp_path: Path
) -> None:
    monkeypatch.setenv(fleet_run.PROBLEMS, str(tmp_path / "mine.json"))
    monkeypatch.setattr(fleet_run, "run_playbook", PlaybookDouble(0, fleet_run.NOBODY))
    fleet_run.run("site", tmp_path, PlaybookOptions())
    assert json.loads((tmp_path / "mine.json").read_text()) == {"problems": [{"what": fleet_run.NOBODY}]}
    assert asked == [tmp_path]


def test_a_run_without_any_host_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nobody(inventory: Path, limit: str | None) -> None:
        raise FleetError(f"inventory {inventory}", f"no host is left by {limit}", "give another --limit")

    monkeypatch.delenv(fleet_run.PROBLEMS, raising=False)
    monkeypatch.setattr(fleet_run, "run_playbook", PlaybookDouble(0, fleet_run.NOBODY))
    monkeypatch.setattr(fleet_run.inventory_check, "check", nobody)
    with pytest.raises(FleetError, match="no host is left by gpu9"):
        fleet_run.run("site", tmp_path, PlaybookOptions(limit="gpu9"))

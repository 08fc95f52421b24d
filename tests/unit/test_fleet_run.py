"""When the inventory is asked why nothing was done: after such a run only, as it costs a second."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ollama_fleet import fleet_run
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions

FAILED = {"host": "gpu1", "what": "failed"}
NOBODY = {"host": "inventory", "what": "nothing was done"}


def run(monkeypatch: pytest.MonkeyPatch, code: int, problems: list[dict[str, str]] | None) -> tuple[int, list[str]]:
    """Run with an ansible-playbook that ends so; return the exit code and the limits of each look at the inventory."""
    checked: list[str] = []

    def playbook(name: str, inventory: Path, options: PlaybookOptions, environment: Mapping[str, str]) -> int:
        if problems is not None:
            Path(environment["OLLAMA_FLEET_PROBLEMS"]).write_text(json.dumps({"problems": problems}))
        return code

    def check(inventory: Path, limit: str | None) -> None:
        checked.append(str(limit))
        if problems is None or NOBODY in problems:
            raise FleetError(f"inventory {inventory}", "no host is in gpu_servers", "put hosts into it")

    monkeypatch.setattr(fleet_run, "run_playbook", playbook)
    monkeypatch.setattr("ollama_fleet.inventory_check.check", check)
    return fleet_run.run("site", Path("fleet"), PlaybookOptions(limit="gpu1")), checked


@pytest.mark.parametrize(("code", "problems"), [(0, []), (2, [FAILED])])
def test_a_run_that_did_something_is_not_questioned(
    monkeypatch: pytest.MonkeyPatch, code: int, problems: list[dict[str, str]]
) -> None:
    assert run(monkeypatch, code, problems) == (code, [])


def test_a_host_that_cannot_be_reached_leaves_ansibles_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 4, [FAILED]) == (4, ["gpu1"])


@pytest.mark.parametrize(("code", "problems"), [(0, [NOBODY]), (1, None), (4, None)])
def test_a_run_without_any_host_is_an_error_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, code: int, problems: list[dict[str, str]] | None
) -> None:
    with pytest.raises(FleetError, match="no host is in gpu_servers"):
        run(monkeypatch, code, problems)

"""The plan of twelve recorded servers, word by word, as a person reads it. tests/fleet_support/record.py writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.planning import render
from tests.fleet_support import note
from tests.fleet_support.machines import FLEET, observed

GOLDEN = note.FOLDER / "plan.txt"


def differences(recorded: Any, now: Any, place: str = "") -> list[str]:
    """Where what is observed now is not what was recorded; what is observed in addition does not count."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        found = [differences(value, now.get(key), f"{place}.{key}") for key, value in recorded.items()]
        return [item for items in found for item in items]
    if isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        pairs = enumerate(zip(recorded, now, strict=True))
        return [item for at, (was, is_now) in pairs for item in differences(was, is_now, f"{place}[{at}]")]
    return [] if recorded == now else [f"{place}: {recorded!r}, now {now!r}"]


def test_note_of_the_fleet_is_word_by_word_what_was_agreed() -> None:
    assert note.note() + "\n" == GOLDEN.read_text()


def test_manual_shows_that_note_and_the_readme_its_first_host() -> None:
    assert f"```text\n{GOLDEN.read_text()}```" in (note.ROOT / "docs/drivers.md").read_text()
    first, _, _ = GOLDEN.read_text().partition("\n\n")
    assert f"```\n{first}\n```" in (note.ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(FLEET))
def test_recording_is_what_is_observed_on_such_a_server(name: str, tmp_path: Path) -> None:
    assert differences(note.observation(name), observed(name, tmp_path / "host")) == []


def test_twelve_servers_differ_in_system_cards_and_outcome() -> None:
    plan = note.fleet_plan()
    assert len(plan.hosts) == 12
    assert len({(host.system, host.kernel, host.cards) for host in plan.hosts}) == 12
    assert plan.exit_code == 1
    assert plan.summary["refused"] == 3
    assert plan.summary["as_described"] == 1


def test_note_fits_a_narrow_terminal_too() -> None:
    lines = list(render(note.fleet_plan(), 80))
    assert max(len(line) for line in lines if "https://" not in line) <= 80


def test_every_refusal_of_the_fleet_names_rule_cards_and_remedy() -> None:
    refusals = [step.refusal for host in note.fleet_plan().hosts for step in host.steps if step.refusal]
    assert len(refusals) == 3
    assert all(refusal.rule and refusal.cards and refusal.remedy for refusal in refusals)

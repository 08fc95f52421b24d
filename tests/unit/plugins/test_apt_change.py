"""The order of one change with apt: what is asked of apt and dpkg, and what is told when they fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_change import AptChange
from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_host import Apt
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import Family
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

FAMILY = Family(["libcuda1"], {"libcuda1": "580.159.04-1"})
SIMULATED = "Inst libcuda1 (580.159.04-1 fixture [amd64])\nConf libcuda1 (580.159.04-1 fixture [amd64])\n"


class Programs:
    """Plays apt and dpkg. status: what dpkg-query shows; answers: (code, output, errors) by a word of the command"""

    def __init__(self, status: str = "", **answers: tuple[int, str, str]) -> None:
        self.status = status
        self.answers = answers
        self.ran: list[list[str]] = []

    def __call__(self, command: list[str], **_options: Any) -> tuple[int, str, str]:
        self.ran.append(command)
        if command[0] == "dpkg-query":
            return 0, self.status, ""
        if command == ["dpkg", "--print-architecture"]:
            return 0, "amd64\n", ""
        for word, answer in self.answers.items():
            if any(part.strip("-").replace("-", "_") == word for part in command):
                return answer
        return 0, "", ""

    def verbs(self) -> list[str]:
        """What was asked of apt-get, in order."""
        known = ("--simulate", "--download-only", "check", "update", "install")
        asked = [command for command in self.ran if command[0] == "apt-get"]
        return [next(word for word in known if word in command) for command in asked]


@pytest.fixture
def change(tmp_path: Path) -> Callable[..., AptChange]:
    def make(programs: Programs, check_mode: bool = False) -> AptChange:
        apt = Apt(programs, lock_timeout=0)
        return AptChange(apt, str(tmp_path / "undo"), check_mode, lambda _words: None, str(tmp_path))

    return make


def install(one: AptChange, hold: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = one.install(FAMILY, [], hold, False, "take another source")
    return result


def test_what_is_there_costs_no_simulation(change: Callable[..., AptChange]) -> None:
    programs = Programs("libcuda1\t580.159.04-1\thi \n")
    assert install(change(programs), hold=True)["changed"] is False
    assert programs.verbs() == []


def test_a_change_is_simulated_downloaded_made_and_checked_in_this_order(change: Callable[..., AptChange]) -> None:
    programs = Programs(simulate=(0, SIMULATED, ""))
    install(change(programs))
    assert programs.verbs() == ["--simulate", "--download-only", "install", "check"]


def test_check_mode_only_simulates_and_foretells(change: Callable[..., AptChange]) -> None:
    programs = Programs(simulate=(0, SIMULATED, ""))
    result = install(change(programs, check_mode=True), hold=True)
    assert programs.verbs() == ["--simulate"]
    assert (result["changed"], result["added"], result["holds"]) == (True, ["libcuda1"], ["libcuda1"])
    assert result["diff"] == {"before": "", "after": "libcuda1 580.159.04-1\n"}


def test_nothing_changes_when_something_cannot_be_downloaded(change: Callable[..., AptChange]) -> None:
    programs = Programs(simulate=(0, SIMULATED, ""), download_only=(100, "", "E: Failed to fetch http://r/x.deb\n"))
    with pytest.raises(FleetError, match="not everything could be downloaded: Failed to fetch http") as failed:
        install(change(programs))
    assert "nothing was changed" in failed.value.what
    assert "install" not in programs.verbs()


def test_a_way_back_that_fails_is_told_and_kept(change: Callable[..., AptChange], tmp_path: Path) -> None:
    programs = Programs(
        simulate=(0, SIMULATED, ""),
        download_only=(0, "", ""),
        install=(100, "", "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"),
        audit=(0, "libcuda1 is half installed\n", ""),
    )
    with pytest.raises(FleetError) as failed:
        install(change(programs))
    assert "could not be brought back" in failed.value.why
    assert "libcuda1 is half installed" in failed.value.why
    assert (tmp_path / "undo" / "journal.json").exists()


def test_broken_packages_of_others_are_not_called_repaired(change: Callable[..., AptChange]) -> None:
    programs = Programs("libcuda1\t580.159.04-1\tii \nforeign\t1\tiF \n")
    result = install(change(programs))
    assert (result["changed"], result["repaired"]) == (False, [])
    assert ["--configure", "--pending"] in [command[-2:] for command in programs.ran]

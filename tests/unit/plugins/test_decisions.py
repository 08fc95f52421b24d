"""What the plan says of the roles that decide: the driver's decision with exact versions, and when a host is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.ollama_fleet.stack.plugins.action import plan
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import decisions

from tests.unit.plugins.test_driver_plan import OPEN_NOBLE, host_of

FRESH = {"cards": "H100", "system": "noble"}
RUNNING = {**FRESH, "driver": "runs", "kernels": {"6.8.0-45-generic": "580.159.04"}}
NAMES = OPEN_NOBLE.split()


def values(lock_file: Path, **others: Any) -> dict[str, Any]:
    return {
        "nvidia_driver_branch": 580,
        "nvidia_driver_repository_url": "https://packages.example/repos/",
        "nvidia_driver_lock_file": str(lock_file),
        **others,
    }


class Repositories:
    """Answers for package_versions, and what was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[list[str], str | None]] = []

    def __call__(self, names: list[str], url: str | None) -> dict[str, Any]:
        self.asked.append((names, url))
        return self.answer


HAVE_173 = {name: ["580.173.02-0ubuntu0.24.04.1", "580.159.04-0ubuntu0.24.04.1"] for name in NAMES}


def note(decision: dict[str, Any], topic: str) -> dict[str, str]:
    return next(note for note in decision["notes"] if note["topic"] == topic)


def test_exact_version_is_asked_of_the_host_and_said(tmp_path: Path) -> None:
    ask = Repositories(versions=HAVE_173)
    decision = decisions.of_driver(host_of(FRESH), values(tmp_path / "none.yml"), ask)
    assert ask.asked == [(sorted(NAMES), None)]
    assert decision["version"] == "580.173.02"
    assert set(decision["packages"].values()) == {"580.173.02-0ubuntu0.24.04.1"}
    assert decision["reasons"][0] == "install 580.173.02 with open modules from Ubuntu's archive"
    assert note(decision, "version")["choice"] == "580.173.02"


def test_repository_that_is_not_set_up_yet_is_asked_by_its_address(tmp_path: Path) -> None:
    ask = Repositories(failed=True, msg="https://packages.example/repos/debian13/x86_64 does not answer.")
    decision = decisions.of_driver(
        host_of({"cards": "RTX4090", "system": "trixie"}), values(tmp_path / "none.yml"), ask
    )
    assert ask.asked[0][1] == "https://packages.example/repos/debian13/x86_64"
    assert decision["action"] == "install"
    assert decision["version"] == ""
    assert note(decision, "version") == {
        "topic": "version",
        "choice": "not known yet",
        "reason": "https://packages.example/repos/debian13/x86_64 does not answer; it is chosen and locked when the"
        " host can be asked",
    }


def test_repository_that_lacks_a_part_is_a_refusal(tmp_path: Path) -> None:
    decision = decisions.of_driver(host_of(FRESH), values(tmp_path / "none.yml"), Repositories(versions={}))
    assert decision["action"] == "refuse"
    assert "no package nvidia-compute-utils-580-server" in decision["refusal"]["rule"]


def test_locked_version_is_read_and_nobody_is_asked(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock.yml"
    lines = [f"      {name}: 580.159.04-0ubuntu0.24.04.1" for name in NAMES]
    lock.write_text(
        "schema: ollama-fleet/driver-lock/1\nplatforms:\n  ubuntu-24.04-x86_64-ubuntu-open:\n"
        "    version: 580.159.04\n    packages:\n" + "\n".join(lines) + "\n"
    )
    ask = Repositories()
    decision = decisions.of_driver(host_of(FRESH), values(lock), ask)
    assert (decision["action"], decision["version"]) == ("install", "580.159.04")
    assert decisions.of_driver(host_of(RUNNING), values(lock), ask)["action"] == "keep"
    assert ask.asked == []


def test_lock_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock.yml"
    lock.write_text("schema: something/else\n")
    with pytest.raises(AnsibleActionFail, match=r"driver\.lock\.yml"):
        decisions.of_driver(host_of(FRESH), values(lock), Repositories())


def test_converged_host_is_asked_nothing(tmp_path: Path) -> None:
    ask = Repositories()
    decisions.of_driver(host_of(RUNNING), values(tmp_path / "none.yml"), ask)
    decisions.of_driver(host_of({**FRESH, "driver": "runfile"}), values(tmp_path / "none.yml"), ask)
    decisions.of_driver(host_of({**FRESH, "cards": ""}), values(tmp_path / "none.yml"), ask)
    assert ask.asked == []


def test_step_is_needed_when_the_decision_says_so_whatever_the_record_says(tmp_path: Path) -> None:
    decided = decisions.as_step(decisions.of_driver(host_of(RUNNING), values(tmp_path / "none.yml"), Repositories()))
    step = plan.step_of("nvidia_driver", [], decided)
    assert step["needed"]
    assert step["reason"] == "580.159.04 open is loaded and right: lock it at 580.159.04"


def test_step_of_a_kept_driver_is_not_needed_and_says_nothing(tmp_path: Path) -> None:
    host = host_of({**FRESH, "driver": "runfile"})
    decided = decisions.as_step(decisions.of_driver(host, values(tmp_path / "none.yml"), Repositories()))
    assert plan.step_of("nvidia_driver", [], decided) == {
        "role": "nvidia_driver",
        "needed": False,
        "reason": "as it should be",
        "notes": [],
        "refusal": None,
    }


def test_step_of_a_new_host_says_what_is_decided_after_why_it_runs(tmp_path: Path) -> None:
    host = host_of({**FRESH, "driver": "runfile"})
    decided = decisions.as_step(decisions.of_driver(host, values(tmp_path / "none.yml"), Repositories()))
    step = plan.step_of("nvidia_driver", ["never applied"], decided)
    assert step["reason"].startswith("nothing to change; 580.159.04 open is loaded, not from packages")
    assert [note["topic"] for note in step["notes"]] == ["cards", "modules", "branch", "version"]

    decided = decisions.as_step(decisions.of_driver(host_of(RUNNING), values(tmp_path / "none.yml"), Repositories()))
    step = plan.step_of("nvidia_driver", ["never applied"], decided)
    assert step["reason"].startswith("never applied; 580.159.04 open is loaded and right: lock it")


def test_refused_step_carries_rule_cards_and_remedy(tmp_path: Path) -> None:
    host = host_of({"cards": "V100 B200", "system": "noble"})
    decided = decisions.as_step(decisions.of_driver(host, values(tmp_path / "none.yml"), Repositories()))
    step = plan.step_of("nvidia_driver", [], decided)
    assert step["needed"]
    assert set(step["refusal"]) == {"rule", "cards", "remedy"}


def test_header_says_system_kernel_and_cards() -> None:
    host = host_of({"cards": "8 H100", "system": "noble"})
    assert plan.about(host) == {
        "system": "Ubuntu 24.04",
        "architecture": "x86_64",
        "kernel": "6.8.0-45-generic",
        "cards": "8 x Hopper 10de:2330",
    }
    assert plan.about(host_of({**FRESH, "cards": ""}))["cards"] == "no NVIDIA GPU"

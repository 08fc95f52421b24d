"""What the plan says of a fleet: as a note, as JSON and as an exit code."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ollama_fleet.planning import FleetPlan, HostPlan, Note, Refusal, Step, host_plan, natural, render, show

CONVERGED = Step("docker", needed=False, reason="as recorded")
CHANGED = Step("ollama", needed=True, reason="ollama_context_length changed")
DRIVER = Step(
    "nvidia_driver",
    needed=True,
    reason="never applied; install 580.173.02",
    notes=(Note("cards", "1 x Hopper", ""), Note("modules", "open", "NVIDIA recommends them for Hopper")),
)
REFUSED = Step(
    "nvidia_driver",
    needed=True,
    reason="no driver serves both",
    refusal=Refusal("no driver serves both", ("Volta at 0000:01:00.0",), "Move one"),
)


def host(name: str, *steps: Step, cards: str = "1 x Hopper 10de:2330") -> HostPlan:
    return HostPlan(name, "Ubuntu 24.04", "x86_64", "6.8.0-45-generic", cards, steps)


def text(*hosts: HostPlan, width: int = 100) -> str:
    return "\n".join(render(FleetPlan(hosts), width))


def test_exit_codes_tell_nothing_to_do_changes_and_trouble_apart() -> None:
    assert FleetPlan((host("gpu1", CONVERGED),)).exit_code == 0
    assert FleetPlan((host("gpu1", CONVERGED, CHANGED),)).exit_code == 2
    assert FleetPlan((host("gpu1", CONVERGED),), 4).exit_code == 1
    assert FleetPlan((host("gpu1", CONVERGED),), unplanned=("gpu2",)).exit_code == 1
    assert FleetPlan((host("gpu1", CHANGED), host("gpu2", REFUSED))).exit_code == 1


def test_json_names_its_schema_and_every_step() -> None:
    plan = FleetPlan((host("gpu1", CONVERGED), host("gpu2", DRIVER), host("gpu3", REFUSED)), unplanned=("gpu4",))
    data = json.loads(plan.to_json())
    assert data["schema"] == "ollama-fleet/plan/2"
    assert data["exit_code"] == 1
    assert data["summary"] == {"hosts": 3, "as_described": 1, "waiting": 1, "refused": 1, "steps": 1}
    assert data["unplanned"] == ["gpu4"]
    assert data["hosts"][1]["steps"][0]["notes"][1]["choice"] == "open"
    assert data["hosts"][2]["steps"][0]["refusal"]["remedy"] == "Move one"
    assert data["hosts"][0]["cards"] == "1 x Hopper 10de:2330"


def test_json_of_a_plan_is_read_back_as_it_was() -> None:
    one = host("gpu1", DRIVER, REFUSED)
    data = json.loads(FleetPlan((one,)).to_json())["hosts"][0]
    steps: list[dict[str, Any]] = data.pop("steps")
    assert host_plan(data.pop("host"), {"host": data, "steps": steps}) == one


def test_note_shows_only_what_waits_and_sums_the_rest() -> None:
    said = text(host("gpu1", CONVERGED), host("gpu2", CONVERGED, CHANGED))
    assert "ollama: ollama_context_length changed" in said
    assert "as recorded" not in said
    assert said.endswith("1 step waits on 1 host; 1 host is as described (gpu1).")


def test_header_names_cards_system_and_kernel() -> None:
    lines = text(host("gpu2", CHANGED)).splitlines()
    assert lines[0] == "gpu2: 1 x Hopper 10de:2330, Ubuntu 24.04, x86_64"
    assert lines[1] == "  kernel 6.8.0-45-generic"


def test_notes_stand_below_their_step_without_the_cards_that_the_header_has() -> None:
    lines = text(host("gpu2", DRIVER)).splitlines()
    assert lines[2:4] == [
        "  nvidia_driver: never applied; install 580.173.02",
        "      modules  open: NVIDIA recommends them for Hopper",
    ]


def test_refusal_is_told_as_rule_cards_and_remedy() -> None:
    lines = text(host("gpu2", REFUSED, CHANGED)).splitlines()
    assert lines[2:6] == [
        "  nvidia_driver: refused, and nothing else is done here until then",
        "      rule    no driver serves both",
        "      cards   Volta at 0000:01:00.0",
        "      remedy  Move one",
    ]
    assert lines[-1] == "1 host cannot get what is asked for; 0 hosts are as described."


def test_hosts_that_share_a_plan_are_told_about_together() -> None:
    said = text(host("gpu1", DRIVER), host("gpu2", DRIVER), host("gpu3", CHANGED))
    assert "gpu1, gpu2 (2 hosts): 1 x Hopper" in said
    assert said.count("never applied") == 1
    assert "3 steps wait on 3 hosts" in said


def test_steps_with_one_reason_stand_in_one_line() -> None:
    new = [replace(CHANGED, role=role, reason="never applied") for role in ("docker", "ollama", "ollama_models")]
    assert "  docker, ollama, ollama_models: never applied" in text(host("gpu1", *new)).splitlines()


def test_names_of_hundreds_of_converged_hosts_are_not_listed() -> None:
    hosts = [host(f"gpu{number}", CONVERGED) for number in range(200)]
    assert text(host("web1", CHANGED), *hosts).endswith("1 step waits on 1 host; 200 hosts are as described.")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = replace(DRIVER, reason="because " * 60, notes=(Note("modules", "open", "reason " * 60),))
    lines = text(
        host("gpu1", long, cards="8 x NVIDIA H100 80GB HBM3 (Hopper 10de:2330) " * 2), width=width
    ).splitlines()
    assert max(len(line) for line in lines) <= width


def test_shown_text_is_plain_where_the_output_is_no_terminal() -> None:
    out = io.StringIO()
    show(FleetPlan((host("gpu1", replace(CHANGED, reason="[bold] changed")),)), Console(file=out, width=100))
    assert "ollama: [bold] changed" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_hosts_are_sorted_as_people_count() -> None:
    assert sorted(["gpu10", "gpu2", "web1", "gpu1"], key=natural) == ["gpu1", "gpu2", "gpu10", "web1"]

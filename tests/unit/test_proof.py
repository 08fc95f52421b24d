"""What ./inv prove says of a fleet: as a table, as JSON and as an exit code."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from ollama_fleet.proof import SCHEMA, FleetProof, HostProof, InterfaceProof, show

CLOSED: dict[str, Any] = {"port": 11434, "asked": ["the controller", "gpu2"], "open_to": []}
OPEN = {**CLOSED, "open_to": ["gpu2"]}
UNTRIED = {**CLOSED, "asked": []}


def told(proved: bool, expected: str = "gpu", **more: Any) -> dict[str, Any]:
    rate = {"agrees": proved, "seen": "", "tokens_per_second": 252.4, "floor": 61.4, "source": ""}
    return {
        "proved": proved,
        "expected": expected,
        "model": {"name": "llama3.1:8b", "size": 4_900_000_000},
        "signals": {"rate": rate},
        "notes": [],
        "words": "memory disagrees: 0 MiB of 4.6 GiB",
        "remedy": "" if proved else "make it anew",
        **more,
    }


GOOD = HostProof("gpu1", told(True), "", CLOSED)
ON_CPU = HostProof("desk", told(True, "cpu"), "", UNTRIED)
LYING = HostProof("gpu3", told(False), "", CLOSED)
SHOWN = HostProof("gpu4", told(True), "", OPEN)
SERVES: dict[str, Any] = {"name": "gpu1", "state": "serving", "models": ["llama3.1:8b"], "words": "", "seconds": 0.1}
ANSWER = {"model": "llama3.1:8b", "words": "Paris.", "seconds": 1.2}
WEB = InterfaceProof("web1", True, "", "0.12.4", [SERVES, {**SERVES, "name": "gpu2", "state": "down"}], ANSWER)
LOCKED = InterfaceProof("web1", False, "a second sign-up was not refused", "0.12.4", [], None)
SILENT = HostProof("gpu5", None, "Ollama at http://127.0.0.1:11434 does not answer", CLOSED)


def text(proof: FleetProof) -> str:
    stream = io.StringIO()
    show(proof, Console(file=stream, width=160))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        (FleetProof((GOOD, ON_CPU)), 0),
        (FleetProof((GOOD, LYING)), 2),
        (FleetProof((GOOD, SHOWN)), 2),
        (FleetProof((GOOD, SILENT)), 2),
        (FleetProof((GOOD,), 2, ("gpu9",)), 2),
        (FleetProof((GOOD,), 4, ("gpu9",)), 4),
        (FleetProof((LYING,), 4, ("gpu9",)), 4),
        (FleetProof((GOOD,), interfaces=(WEB,)), 0),
        (FleetProof((GOOD,), interfaces=(LOCKED,)), 2),
        (FleetProof((), interfaces=(LOCKED,)), 2),
    ],
)
def test_exit_codes_tell_proved_not_proved_and_out_of_reach_apart(proof: FleetProof, code: int) -> None:
    assert proof.exit_code == code
    assert json.loads(proof.to_json())["exit_code"] == code


def test_table_says_from_what_each_host_answered_and_who_can_ask() -> None:
    said = text(FleetProof((GOOD, ON_CPU, SHOWN)))
    assert "answers from the GPU" in said
    assert "answers from the CPU" in said
    assert "closed to the controller and gpu2" in said
    assert "not tried from outside" in said
    assert "gpu4: port 11434 answers gpu2, and Ollama asks nobody for a password. Remedy: see ./inv doors" in said
    assert said.rstrip().endswith("2 hosts proved; not proved: gpu4.")


def test_a_host_that_is_not_proved_is_told_with_what_was_seen_and_what_to_do() -> None:
    said = text(FleetProof((LYING, SILENT), 0, ("gpu9",)))
    assert "gpu3: memory disagrees: 0 MiB of 4.6 GiB. Remedy: make it anew" in said
    assert "gpu5: Ollama at http://127.0.0.1:11434 does not answer" in said
    assert "gpu9 could not be asked" in said


def test_json_has_all_that_was_seen() -> None:
    data = json.loads(FleetProof((GOOD, SILENT)).to_json())
    assert data["schema"] == SCHEMA
    first, second = data["hosts"]
    assert (first["host"], first["proved"], first["proof"]["model"]["name"]) == ("gpu1", True, "llama3.1:8b")
    assert (second["proved"], second["proof"], second["closed"]) == (False, None, CLOSED)


def test_a_web_interface_is_told_with_its_back_ends() -> None:
    said = text(FleetProof((GOOD,), interfaces=(WEB,)))
    assert "web1: Open WebUI 0.12.4 lets the administrator in and nobody else, lists the models of 1 back end, " in said
    assert "gets none from gpu2; llama3.1:8b answered through it" in said
    assert said.endswith("2 hosts proved.\n")
    said = text(FleetProof((GOOD,), interfaces=(LOCKED,)))
    assert "web1: Open WebUI is not proved: a second sign-up was not refused" in said
    assert said.endswith("1 host proved; not proved: web1.\n")
    (interface,) = json.loads(FleetProof((), interfaces=(WEB,)).to_json())["interfaces"]
    assert (interface["host"], interface["proved"], interface["answer"]) == ("web1", True, ANSWER)

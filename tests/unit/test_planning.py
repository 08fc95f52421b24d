import io
import json

from rich.console import Console

from ollama_fleet.planning import FleetPlan, Step, show

CONVERGED = Step("gpu1", "docker", needed=False, reason="as recorded")
WAITING = Step("gpu2", "ollama", needed=True, reason="ollama_context_length changed")


def test_exit_codes_tell_nothing_to_do_changes_and_trouble_apart() -> None:
    assert FleetPlan((CONVERGED,), 0).exit_code == 0
    assert FleetPlan((CONVERGED, WAITING), 0).exit_code == 2
    assert FleetPlan((CONVERGED,), 4).exit_code == 1


def test_json_names_its_schema_and_every_step() -> None:
    data = json.loads(FleetPlan((CONVERGED, WAITING), 0).to_json())
    assert data["schema"] == "ollama-fleet/plan/1"
    assert data["exit_code"] == 2
    assert data["steps"][1] == {
        "host": "gpu2",
        "role": "ollama",
        "needed": True,
        "reason": "ollama_context_length changed",
    }


def test_table_shows_only_what_waits_and_counts_the_rest() -> None:
    out = io.StringIO()
    show(FleetPlan((CONVERGED, WAITING), 0), Console(file=out, width=100))
    assert "ollama_context_length changed" in out.getvalue()
    assert "as recorded" not in out.getvalue()
    assert "1 steps wait on 1 hosts; 1 hosts are as described." in out.getvalue()

"""The plan of a fleet's models: table, remarks, JSON and exit code."""

import io
import json
from typing import Any

from rich.console import Console

from ollama_fleet.models.plan import HostFit, ModelsPlan, remarks, show, summary

GIB = 1024**3


def model(name: str, verdict: str = "gpu", **changes: Any) -> dict[str, Any]:
    need = {"gpu": 6 * GIB, "ram": 7 * GIB, "cache": GIB, "state": 0}
    plain = {"name": name, "verdict": verdict, "fits": verdict in ("gpu", "cpu", "unknown"), "need": need}
    return {**plain, "why": "", "notes": [], "instead": "", **changes}


def host(name: str, *models: dict[str, Any], **changes: Any) -> HostFit:
    fit = {
        "fits": all(model["fits"] for model in models),
        "models": list(models),
        "together": {"asked": 0, "can": 1, "fits": True, "why": ""},
        "disk": {"free": 100 * GIB, "to_pull": 5 * GIB},
        "usable": {"gpus": [22 * GIB], "ram": 60 * GIB},
    }
    return HostFit(name, {**fit, **changes})


GOOD = host("gpu1", model("llama3.2:3b"))
TIGHT = host("gpu2", model("big:70b", "partly", why="too much", instead="the model in Q3_K_M"), model("small:1b"))
UNKNOWN = model("odd:1", "unknown", need=None, why="its registry has no such model")


def text(*hosts: HostFit, **options: Any) -> str:
    file = io.StringIO()
    show(ModelsPlan(hosts, **options), Console(file=file, width=140, color_system=None))
    return file.getvalue()


def test_exit_codes_tell_what_fits_what_does_not_and_trouble_apart() -> None:
    assert ModelsPlan((GOOD,)).exit_code == 0
    assert ModelsPlan((GOOD, TIGHT)).exit_code == 2
    assert ModelsPlan((GOOD,), 4).exit_code == 1
    assert ModelsPlan((GOOD,), unplanned=("gpu2",)).exit_code == 1
    assert ModelsPlan((host("gpu1", UNKNOWN),)).exit_code == 0


def test_the_table_names_verdict_need_room_and_what_would_fit() -> None:
    lines = text(GOOD, TIGHT).splitlines()
    [good] = [line for line in lines if "llama3.2:3b" in line]
    assert [word in good for word in ("gpu1", "fits on the GPU", "6.0 GiB", "1.0 GiB", "22.0 GiB")] == [True] * 5
    [tight] = [line for line in lines if "big:70b" in line and "│" in line]
    assert "partly on the GPU" in tight
    assert "the model in Q3_K_M" in tight
    [second] = [line for line in lines if "small:1b" in line]
    assert "gpu2" not in second


def test_a_host_without_gpus_is_measured_by_its_ram() -> None:
    ram = {"gpus": [], "ram": 60 * GIB}
    [line] = [line for line in text(host("cpu1", model("a:1", "cpu"), usable=ram)).splitlines() if "a:1" in line]
    assert "7.0 GiB" in line
    assert "60.0 GiB" in line
    assert "fits in RAM" in line


def test_what_is_not_known_is_shown_as_such() -> None:
    unseen = {"gpus": [None], "ram": 60 * GIB}
    line = next(line for line in text(host("gpu1", UNKNOWN, usable=unseen)).splitlines() if "odd:1" in line)
    assert line.count("?") == 3


def test_remarks_are_made_once_for_all_hosts_that_share_them() -> None:
    noted = model("a:1", notes=["counted in full"])
    wish = {"asked": 3, "can": 1, "fits": False, "why": "3 models are to be in memory at once"}
    plan = ModelsPlan((host("gpu1", noted, UNKNOWN), host("gpu2", noted, together=wish)))
    assert remarks(plan) == [
        "gpu1: odd:1: its registry has no such model",
        "gpu1, gpu2: a:1: counted in full",
        "gpu2: 3 models are to be in memory at once",
    ]


def test_the_summary_is_one_line() -> None:
    assert summary(ModelsPlan((GOOD, host("gpu3", model("a:1"))))) == (
        "everything fits on 2 hosts; 10.0 GiB are to be pulled."
    )
    assert summary(ModelsPlan((TIGHT,), unplanned=("gpu9",))) == (
        "not everything fits on gpu2, where nothing would be pulled; gpu9 could not be asked: see above."
    )


def test_json_names_its_schema_and_holds_every_number() -> None:
    data = json.loads(ModelsPlan((GOOD, TIGHT), unplanned=("gpu3",)).to_json())
    assert (data["schema"], data["exit_code"], data["unplanned"]) == ("ollama-fleet/models-plan/1", 1, ["gpu3"])
    assert [found["host"] for found in data["hosts"]] == ["gpu1", "gpu2"]
    assert data["hosts"][1]["models"][0]["need"]["gpu"] == 6 * GIB

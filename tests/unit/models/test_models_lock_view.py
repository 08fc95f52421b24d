"""What is said of models that are not as they are locked."""

import io
import json

from rich.console import Console

from ollama_fleet.models.lock import HostFindings, ModelsDiff, host_findings, show, summary

DRIFT = {"model": "a:1", "kind": "drift", "text": "the host has other layers"}
UPDATE = {"model": "b:1", "kind": "update", "text": "its registry has other layers"}
GOOD = HostFindings("gpu1", ())


def test_exit_codes() -> None:
    assert ModelsDiff((GOOD,)).exit_code == 0
    assert ModelsDiff((GOOD, HostFindings("gpu2", (UPDATE,)))).exit_code == 2
    assert ModelsDiff((GOOD,), 2).exit_code == 1
    assert ModelsDiff((GOOD,), unasked=("gpu3",)).exit_code == 1


def test_a_finding_of_many_hosts_is_said_once() -> None:
    file = io.StringIO()
    hosts = (GOOD, HostFindings("gpu2", (DRIFT, UPDATE)), HostFindings("gpu3", (UPDATE,), changed=True))
    show(ModelsDiff(hosts, unasked=("gpu4",)), Console(file=file, width=120, color_system=None))
    assert file.getvalue().splitlines() == [
        "gpu2: a:1 [drift] the host has other layers",
        "gpu2, gpu3: b:1 [update] its registry has other layers",
        "the lock has changed; all models are as they are locked on 1 host; not so on 2 hosts; "
        "gpu4 could not be asked: see above.",
    ]


def test_a_fleet_as_it_is_locked() -> None:
    assert summary(ModelsDiff((GOOD,))) == "all models are as they are locked on 1 host."


def test_json_names_its_schema() -> None:
    one = host_findings("gpu2", {"findings": [DRIFT], "changed": False, "models": ["a:1"]})
    data = json.loads(ModelsDiff((one,), unasked=("gpu3",)).to_json())
    assert data == {
        "schema": "ollama-fleet/models-diff/1",
        "exit_code": 1,
        "unasked": ["gpu3"],
        "hosts": [{"host": "gpu2", "findings": [DRIFT]}],
    }

"""./inv prove on hosts that are this machine: its playbook and its report. Ollama is a double (proof_double)."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet import proof
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import run_playbook
from tests.serving_support.proof_double import Programs, ProofOllama

# This machine, by an address that the playbook does not take for loopback.
OUTSIDE = "127.0.0.2"
MODEL = "smollm2:135m"


@pytest.fixture
def server() -> Iterator[ProofOllama]:
    with ProofOllama() as double:
        double.add(MODEL)
        double.on_gpu = 0.0
        yield double


@pytest.fixture
def inventory(server: ProofOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory of this machine alone, on which no nvidia-smi works."""
    programs = Programs(tmp_path)
    programs.smi(complaint="no GPU here")
    monkeypatch.setenv("PATH", programs.path())
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_host": OUTSIDE,
        "ansible_python_interpreter": sys.executable,
        "ollama_port": int(server.url.rsplit(":", 1)[1]),
        "ollama_use_gpu": False,
    }
    folder = tmp_path / "inventory"
    folder.mkdir()
    write(folder, here=here)
    return folder


def write(inventory: Path, **hosts: Any) -> None:
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"gpu_servers": {"hosts": hosts}}}}))


def the_only(result: proof.FleetProof) -> proof.HostProof:
    (host,) = result.hosts
    return host


def test_a_host_without_gpu_is_proved_to_answer_from_its_cpu_and_closed(inventory: Path) -> None:
    result = proof.prove(inventory, None)
    host = the_only(result)
    assert result.exit_code == 0, result
    assert host.proof is not None
    assert host.proof["words"].startswith(f"{MODEL} answered from the CPU, as it should")
    assert (host.closed["asked"], host.closed["open_to"]) == (["the controller"], [])
    told: dict[str, Any] = json.loads(result.to_json())
    assert (told["schema"], told["exit_code"], told["hosts"][0]["host"]) == (proof.SCHEMA, 0, "here")


def test_an_open_port_and_a_lying_signal_are_both_told(inventory: Path, server: ProofOllama) -> None:
    server.on_gpu = 1.0
    with socket.create_server((OUTSIDE, int(server.url.rsplit(":", 1)[1]))):
        result = proof.prove(inventory, None)
    host = the_only(result)
    assert (result.exit_code, host.answers, host.open) == (2, False, True)
    assert host.proof is not None
    assert "memory disagrees: 241 MiB of 241 MiB are in a GPU's memory" in host.proof["words"]
    said = "\n".join(proof.remarks(result))
    assert "answers the controller, and Ollama asks nobody for a password" in said
    assert "here: memory disagrees" in said


def test_a_host_that_must_have_a_gpu_is_not_proved_by_its_cpu(inventory: Path) -> None:
    hosts = yaml.safe_load((inventory / "hosts.yml").read_text())["all"]["children"]["gpu_servers"]["hosts"]
    write(inventory, here=hosts["here"] | {"ollama_use_gpu": True, "gpu_preflight_gpu_required": True})
    result = proof.prove(inventory, None)
    told = the_only(result).proof
    assert told is not None
    assert (result.exit_code, told["expected"], told["proved"]) == (2, "gpu", False)
    assert "the host's own driver does not answer: no GPU here" in told["words"]


def test_a_host_without_models_is_not_proved(inventory: Path, server: ProofOllama) -> None:
    server.models.clear()
    result = proof.prove(inventory, None)
    assert result.exit_code == 2
    assert "no model that can answer" in proof.remarks(result)[0]


def test_a_server_that_does_not_answer_is_told(inventory: Path, server: ProofOllama) -> None:
    server.server.shutdown()
    server.server.server_close()
    result = proof.prove(inventory, None)
    host = the_only(result)
    assert (result.exit_code, host.proof) == (2, None)
    assert "does not answer" in proof.remarks(result)[0]


def test_a_host_that_is_not_there_hides_no_other(inventory: Path) -> None:
    hosts = yaml.safe_load((inventory / "hosts.yml").read_text())["all"]["children"]["gpu_servers"]["hosts"]
    write(inventory, **hosts, away={"ansible_host": "127.0.0.1", "ansible_port": 9})
    result = proof.prove(inventory, None)
    host = the_only(result)
    assert (host.host, host.proved, result.unasked, result.exit_code) == ("here", True, ("away",), 4), result
    # It was the other host to try the port from, and is no matter of a run that does not mean it.
    assert host.closed["asked"] == ["the controller"]
    alone = proof.prove(inventory, "here")
    assert (the_only(alone).closed["asked"], alone.exit_code) == (["the controller"], 0), alone


def test_nobody_to_ask_is_an_error(inventory: Path) -> None:
    with pytest.raises(FleetError):
        proof.prove(inventory, "nobody")


def test_without_a_program_that_judges_the_playbook_fails_the_host_itself(
    inventory: Path, server: ProofOllama, capfd: pytest.CaptureFixture[str]
) -> None:
    server.on_gpu = 1.0
    assert run_playbook("prove", inventory) == 2
    said = " ".join(capfd.readouterr().out.split())
    assert "here: failed: Ollama is not proved to answer from the CPU: memory disagrees" in said
    assert "remedy: run ./inv up --full for this host, or set ollama_use_gpu: true" in said
    with socket.create_server((OUTSIDE, int(server.url.rsplit(":", 1)[1]))):
        assert run_playbook("prove", inventory) == 2
    assert "here: failed: port" in " ".join(capfd.readouterr().out.split())

"""The GPU proof from end to end: real HTTP, a real socket and real programs, which are doubles (proof_double)."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_proof import Container, Unit, look

from tests.integration.foundation import Playground
from tests.serving_support.proof_double import CARD, H100, ON_GPU, RUNNER, Engine, Programs, ProofOllama

SMALL, BIG = "smollm2:135m", "llama3.1:8b"


@pytest.fixture
def server() -> Iterator[ProofOllama]:
    with ProofOllama() as double:
        for name, size in ((BIG, 4_900_000_000), (SMALL, 250_000_000)):
            double.add(name)
            double.models[name]["size"] = size
        yield double


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    told = Programs(tmp_path)
    monkeypatch.setenv("PATH", told.path())
    return told


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "docker.sock") as double:
        yield double


def params(**changed: Any) -> dict[str, Any]:
    usual = {"expect": "gpu", "gpus": [], "model": BIG, "floor": 0.0, "tokens": 64, "attempts": 3}
    return usual | changed


def proof(server: ProofOllama, programs: Programs, engine: Engine, **changed: Any) -> dict[str, Any]:
    asked = params(**changed) | {"proc_root": str(programs.proc)}
    record: dict[str, Any] = look(OllamaServer(server.url), Container("ollama", str(engine.path)), asked)
    json.dumps(record)
    return record


def agreeing(record: dict[str, Any]) -> list[bool | None]:
    return [signal["agrees"] for signal in record["signals"].values()]


def test_three_signals_that_agree_are_a_proof(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    record = proof(server, programs, engine)
    assert record["proved"], record
    assert record["words"].startswith(f"{BIG} answered from the GPU: memory agrees: 4.6 GiB of 4.6 GiB")
    assert f"container ollama computes on NVIDIA H100 80GB HBM3 {H100} (pid {RUNNER} " in record["words"]
    assert "250.0 tokens/s, above the floor of" in record["words"]
    assert record["answer"] == {"text": "Once upon a time", "tokens": 64}
    assert record["notes"] == []


@pytest.mark.parametrize("said", list(itertools.product([True, False], [True, False, None], [True, False, None])))
def test_every_combination_of_lying_signals_ends_as_it_should(
    server: ProofOllama, programs: Programs, engine: Engine, said: tuple[bool | None, ...]
) -> None:
    memory, process, rate = said
    server.on_gpu = 1.0 if memory else 0.0
    server.rates = [250.0 if rate else 12.0]
    server.tokens = 0 if rate is None else 64
    if not process:
        programs.smi(apps="" if process is False else ON_GPU, complaint="" if process is False else "NVML: mismatch")
    record = proof(server, programs, engine)
    # Without nvidia-smi there is no card that a floor could be computed for.
    expected = [memory, process, None if process is None else rate]
    assert agreeing(record) == expected
    assert record["proved"] is (expected == [True, True, True])
    assert bool(record["remedy"]) is not record["proved"]


@pytest.mark.parametrize(("tokens", "proved"), [(3, True), (2, False)])
def test_short_answers_are_told_a_rate_of_together(
    server: ProofOllama, programs: Programs, engine: Engine, tokens: int, proved: bool
) -> None:
    server.tokens = tokens
    record = proof(server, programs, engine)
    assert len([body for body in server.generated() if "prompt" in body]) == 3
    assert record["proved"] is proved
    assert record["signals"]["rate"]["tokens_per_second"] == (pytest.approx(250) if proved else None)


def test_a_host_that_silently_answers_from_its_cpu_is_told_why(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    server.on_gpu, server.rates = 0.0, [9.0]
    programs.smi(apps="")
    programs.docker(inside="Failed to initialize NVML: Unknown Error")
    record = proof(server, programs, engine)
    assert agreeing(record) == [False, False, False]
    assert "has lost its GPU, as after systemctl daemon-reload" in record["words"]
    assert "Failed to initialize NVML: Unknown Error" in record["words"]
    assert "force-recreate" in record["remedy"]
    # Asking again would mend nothing; only the model is dropped again.
    assert [body.get("keep_alive") for body in server.generated()] == ["2m", 0]


def test_the_servers_own_words_are_told_where_nothing_else_is_known(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    server.on_gpu, server.rates = 0.0, [9.0]
    programs.smi(apps="")
    programs.docker(log='level=INFO msg="no compatible GPUs were discovered"')
    assert "no compatible GPUs were discovered" in proof(server, programs, engine)["words"]


def test_a_container_made_without_a_gpu_is_told(server: ProofOllama, programs: Programs, tmp_path: Path) -> None:
    server.on_gpu = 0.0
    programs.smi(apps="")
    with Engine(tmp_path / "plain.sock", made_with_gpu=False) as plain:
        assert "the container was made without a GPU" in proof(server, programs, plain)["words"]


def test_somebody_elses_process_is_not_taken_for_ollamas(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    programs.smi(apps=ON_GPU.replace(str(RUNNER), "777"))
    record = proof(server, programs, engine)
    assert agreeing(record) == [True, False, True]
    assert "no process of container ollama computes on a GPU; others do: " in record["words"]


def test_a_gpu_that_is_not_ollamas_does_not_count(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    programs.smi(cards=f"{CARD}\nGPU-2, NVIDIA H100 80GB HBM3, 2619, Disabled")
    assert agreeing(proof(server, programs, engine, gpus=["GPU-2"])) == [True, False, True]
    assert proof(server, programs, engine, gpus=[H100])["proved"]
    # An index says nothing that could be compared.
    assert proof(server, programs, engine, gpus=["0"])["proved"]


def test_a_unit_of_systemd_is_as_good_as_a_container(server: ProofOllama, programs: Programs) -> None:
    (programs.proc / str(RUNNER) / "cgroup").write_text("0::/system.slice/ollama.service\n")
    asked = params() | {"proc_root": str(programs.proc)}
    record = look(OllamaServer(server.url), Unit("ollama.service"), asked)
    assert record["proved"], record
    assert "ollama.service computes on" in record["words"]


def test_a_container_that_docker_does_not_know_proves_nothing(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    asked = params() | {"proc_root": str(programs.proc)}
    record = look(OllamaServer(server.url), Container("gone", str(engine.path)), asked)
    assert agreeing(record) == [True, None, True]
    assert "Docker knows no container gone" in record["words"]


def test_a_cpu_host_is_proved_to_answer_from_its_cpu(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.on_gpu, server.rates = 0.0, [9.0]
    programs.smi(complaint="nvidia-smi: not found")
    record = proof(server, programs, engine, expect="cpu")
    assert record["proved"], record
    assert record["words"].startswith(f"{BIG} answered from the CPU, as it should: ")
    assert "9.0 tokens/s; a CPU has no floor" in record["words"]


def test_a_gpu_that_is_used_where_the_cpu_is_meant_is_told(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    record = proof(server, programs, engine, expect="cpu")
    assert agreeing(record) == [False, False, True]
    assert "a GPU is used although the CPU is meant" in record["words"]


def test_a_rate_that_others_spoil_is_asked_for_again(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.rates = [12.0, 250.0]
    assert proof(server, programs, engine)["proved"]
    assert len([body for body in server.generated() if "prompt" in body]) == 2


def test_a_card_that_stays_slow_is_told_with_the_best_rate(
    server: ProofOllama, programs: Programs, engine: Engine
) -> None:
    server.rates = [12.0, 14.0, 13.0]
    record = proof(server, programs, engine)
    assert "14.0 tokens/s, below the floor" in record["words"]
    assert "the GPU is used and slow" in record["words"]


def test_a_floor_of_the_inventory_counts(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    programs.smi(cards=f"{H100}, A card that nobody knows, [N/A], [N/A]")
    unknown = proof(server, programs, engine)
    assert agreeing(unknown) == [True, True, None]
    assert "how fast this card reads its memory is not known" in unknown["words"]
    assert proof(server, programs, engine, floor=200.0)["proved"]
    assert not proof(server, programs, engine, floor=300.0)["proved"]


def test_a_card_in_parts_has_no_floor_of_its_own(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    programs.smi(cards=CARD.replace("Disabled", "Enabled"))
    assert "is divided into instances (MIG)" in proof(server, programs, engine)["words"]


def test_the_smallest_model_that_can_answer_is_asked(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.add("embed:1")
    server.models["embed:1"] |= {"size": 1_000, "capabilities": ["embedding"]}
    server.add("cloudy:1")
    server.models["cloudy:1"] |= {"size": 400, "remote_host": "https://ollama.com"}
    record = proof(server, programs, engine, model="")
    assert record["model"] == {"name": SMALL, "size": 250_000_000}
    assert "so small for this card that its rate says little" in record["notes"][0]


def test_an_old_server_is_asked_what_a_model_can_do(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.capabilities[SMALL] = ["embedding"]
    assert proof(server, programs, engine, model="")["model"]["name"] == BIG


def test_a_model_that_was_loaded_stays_as_it_was(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.loaded.add(BIG)
    assert proof(server, programs, engine)["proved"]
    assert [("keep_alive" in body) for body in server.generated()] == [False]
    assert server.loaded == {BIG}


def test_a_model_that_was_not_loaded_goes_again(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    assert proof(server, programs, engine)["proved"]
    assert server.loaded == set()


def test_a_named_model_that_is_not_there_is_an_error(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    with pytest.raises(FleetError, match=r"Model nope:1 cannot be asked.*ollama_proof_model"):
        proof(server, programs, engine, model="nope:1")


def test_a_server_without_models_proves_nothing(server: ProofOllama, programs: Programs, engine: Engine) -> None:
    server.models.clear()
    record = proof(server, programs, engine, model="")
    assert (record["proved"], record["model"]) == (False, None)


def test_a_playbook_fails_the_host_with_all_that_was_seen(
    server: ProofOllama, programs: Programs, engine: Engine, tmp_path: Path
) -> None:
    arguments = {
        "base_url": server.url,
        "container": "ollama",
        "expect": "gpu",
        "model": BIG,
        "docker_socket": str(engine.path),
        "proc_root": str(programs.proc),
    }
    tasks = [
        {"name": "Prove", "ollama_fleet.stack.ollama_proof": arguments, "register": "told"},
        {"name": "Show", "ansible.builtin.debug": {"msg": "{{ told.proof.words }}"}},
    ]
    done = Playground(tmp_path).run(tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered from the GPU" in done.stdout
    server.on_gpu, server.rates = 0.0, [9.0]
    programs.smi(apps="")
    failed = Playground(tmp_path).run(tasks)
    assert failed.returncode == 2
    for words in (
        "gpu1: failed: Ollama is not proved to answer from the GPU: memory disagrees: 0 MiB of 4.6 GiB",
        "process disagrees: no process of container ollama computes on a GPU",
        "rate disagrees: 9.0 tokens/s, below the floor of",
        "remedy: read its log",
    ):
        assert words in " ".join(failed.stdout.split()), failed.stdout

"""The GPU proof over the lab's engine, which really computes, on the CPU."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.modules import ollama_proof
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_proof import Unit, look

from tests.engine_support.engine import EngineProcess, models
from tests.engine_support.origin import Origin
from tests.serving_support.proof_double import ON_GPU, RUNNER, Programs

SMALL, BIGGER = "smollm2:135m", "gemma3:270m"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    origin = Origin(models()).start()
    engine = EngineProcess(tmp_path_factory.mktemp("engine") / "store", OLLAMA_KEEP_ALIVE="0")
    for model in (SMALL, BIGGER):
        engine.pull(origin.port, model)
    yield engine
    engine.stop()
    origin.stop()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that keeps models in memory, as it does by default."""
    origin = Origin(models()).start()
    engine = EngineProcess(tmp_path_factory.mktemp("keeping") / "store")
    engine.pull(origin.port, SMALL)
    yield engine
    engine.stop()
    origin.stop()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    told = Programs(tmp_path)
    monkeypatch.setenv("PATH", told.path())
    return told


def proof(engine: EngineProcess, programs: Programs, **changed: Any) -> dict[str, Any]:
    asked = {"expect": "cpu", "gpus": [], "model": "", "floor": 0.0, "tokens": 16, "attempts": 3} | changed
    server = OllamaServer(f"http://127.0.0.1:{engine.port}", 120)
    record: dict[str, Any] = look(server, Unit("ollama.service"), asked | {"proc_root": str(programs.proc)})
    return record


def test_a_real_answer_from_the_cpu_is_proved_though_the_server_keeps_no_model(
    engine: EngineProcess, programs: Programs
) -> None:
    programs.smi(complaint="no GPU here")
    record = proof(engine, programs)
    assert record["proved"], record
    assert (record["model"]["name"], record["answer"]["tokens"]) == (SMALL, 16)
    assert record["answer"]["text"]
    # A real server lists it for a moment longer.
    until = time.monotonic() + 10
    while engine.get("/api/ps")["models"] and time.monotonic() < until:
        time.sleep(0.1)
    assert engine.get("/api/ps") == {"models": []}


def test_a_named_model_is_asked(engine: EngineProcess, programs: Programs) -> None:
    programs.smi(complaint="no GPU here")
    assert proof(engine, programs, model=BIGGER)["model"]["name"] == BIGGER


def test_a_cpu_that_answers_is_no_gpu_even_when_its_process_is_on_one(
    engine: EngineProcess, programs: Programs
) -> None:
    programs.smi(apps=ON_GPU)
    (programs.proc / str(RUNNER) / "cgroup").write_text("0::/system.slice/ollama.service\n")
    record = proof(engine, programs, expect="gpu")
    assert (record["proved"], record["signals"]["memory"]["agrees"]) == (False, False)
    assert record["signals"]["process"]["agrees"] is True


@pytest.mark.parametrize("kept", [True, False])
def test_weights_that_are_in_memory_under_another_name_are_proved_and_stay_there(
    keeping: EngineProcess, programs: Programs, kept: bool
) -> None:
    programs.smi(complaint="no GPU here")
    assert keeping.ask("/api/copy", {"source": SMALL, "destination": "tutor:1"}) in (None, {}, "")
    told = {"prompt": "hi", "stream": False, "options": {"num_predict": 1}}
    assert keeping.ask("/api/generate", {"model": "tutor:1", **told})["done"]
    if not kept:
        keeping.ask("/api/delete", {"model": "tutor:1"}, "DELETE")
    record = proof(keeping, programs, model=SMALL)
    assert record["proved"], record
    assert record["signals"]["memory"]["size"] > 0
    # It was somebody's before: it is not unloaded, and there is no second one.
    assert [model["name"] for model in keeping.get("/api/ps")["models"]] == ["tutor:1"]
    if kept:
        keeping.ask("/api/delete", {"model": "tutor:1"}, "DELETE")


def test_what_others_ask_of_other_weights_meanwhile_is_not_taken_for_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ollama_proof, "LOOK_PAUSE", 0)

    def entry(name: str, family: str, until: int) -> dict[str, Any]:
        return {"name": name, "details": {"family": family, "parent_model": ""}, "expires_at": str(until)}

    def found(*now: dict[str, Any]) -> Any:
        monkeypatch.setattr(ollama_proof, "in_memory", lambda _server: list(now))
        before = [entry("alias:1", "llama", 1), entry("other:1", "gemma3", 1)]
        return ollama_proof.who_answered(None, entry(SMALL, "llama", 0), before)

    assert found(entry("alias:1", "llama", 1), entry("other:1", "gemma3", 2)) is None
    assert found(entry("other:1", "gemma3", 2)) is None
    assert found(entry("alias:1", "llama", 2), entry("other:1", "gemma3", 2))["name"] == "alias:1"
    assert found(entry("alias:1", "llama", 2), entry("second:1", "llama", 2)) is None

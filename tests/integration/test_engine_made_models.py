"""ollama_made_model against the stand-in engine: the models that it has made answer as they were asked for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.modules import ollama_model
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_made_model import Work

from tests.engine_support.engine import ROOT, EngineProcess, models
from tests.engine_support.origin import Origin

BASE = "smollm2:135m"
WEIGHTS = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GEMMA = "sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

WAYS: dict[str, dict[str, Any]] = {
    "alias": {"alias": BASE},
    "system": {"from": BASE, "system": "You ask back.\n"},
    "parameters": {
        "from": BASE,
        "parameters": {"temperature": 0, "num_ctx": 1048576, "top_p": 0.25, "stop": ["a b", '"quoted"', "<|im_end|>"]},
    },
    "template": {"from": BASE, "template": "{{ .System }} {{ .Prompt }}"},
    "file": {"checksum": WEIGHTS, "system": "x", "parameters": {"temperature": 0.7}},
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that has the lab's chat model."""
    engine = EngineProcess(tmp_path_factory.mktemp("made") / "store")
    origin = Origin(models()).start()
    engine.pull(origin.port, BASE)
    yield engine
    engine.stop()
    origin.stop()


@pytest.fixture
def name(engine: EngineProcess) -> Iterator[str]:
    """Of a model that goes with the test."""
    yield "made:1"
    absent(engine, "made:1")


def run(engine: EngineProcess, name: str, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["alias", "from", "checksum", "path", "system", "template", "parameters"])
    server = {"name": name, "base_url": f"http://127.0.0.1:{engine.port}"}
    return Work({**nothing, **server, **params}, check_mode).do()


def absent(engine: EngineProcess, name: str) -> dict[str, Any]:
    """Have a model no longer, by the module that does it."""
    nothing = dict.fromkeys(["source", "source_host", "layers", "ca_file", "models_dir", "progress_file"])
    server = {"name": name, "base_url": f"http://127.0.0.1:{engine.port}"}
    rest = {"state": "absent", "insecure": False, "stall_timeout": 20, "disk_reserve": 0}
    return ollama_model.ensure({**nothing, **rest, **server}, False)


def names(engine: EngineProcess) -> list[str]:
    return sorted(model["name"] for model in engine.get("/api/tags")["models"])


def blobs(engine: EngineProcess) -> set[str]:
    return {path.name for path in (engine.store / "blobs").iterdir()}


def prompt_tokens(engine: EngineProcess, model: str) -> int:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    return int(engine.ask("/api/chat", asked | {"options": {"num_predict": 1, "num_ctx": 512}})["prompt_eval_count"])


@pytest.mark.parametrize("way", WAYS)
def test_check_run_check_run(engine: EngineProcess, name: str, way: str) -> None:
    params = WAYS[way]
    assert run(engine, name, check_mode=True, **params)["changed"]
    assert names(engine) == [BASE]
    first = run(engine, name, **params)
    assert (first["changed"], first["needs_file"]) == (True, False)
    assert names(engine) == [name, BASE]
    assert not run(engine, name, check_mode=True, **params)["changed"]
    written = {path: path.stat().st_mtime_ns for path in (engine.store / "manifests").rglob("*")}
    second = run(engine, name, **params)
    assert (second["changed"], second["digest"]) == (False, first["digest"])
    assert {path: path.stat().st_mtime_ns for path in (engine.store / "manifests").rglob("*")} == written


def test_a_prompt_that_changed_is_made_anew_and_heard(engine: EngineProcess, name: str) -> None:
    run(engine, name, **{"from": BASE}, system="You ask back.")
    before = prompt_tokens(engine, name)
    longer = "You ask back, and before you explain you name three things that could be meant."
    result = run(engine, name, **{"from": BASE}, system=longer)
    assert result["changed"]
    assert "You ask back.\n" in result["diff"]["before"]
    assert longer in result["diff"]["after"]
    assert prompt_tokens(engine, name) > before + 10
    assert not run(engine, name, **{"from": BASE}, system=longer)["changed"]


def test_a_model_that_is_no_longer_wanted_leaves_its_base_whole(engine: EngineProcess) -> None:
    before = blobs(engine)
    run(engine, "made:1", **WAYS["system"])
    assert blobs(engine) > before
    assert absent(engine, "made:1")["changed"]
    assert (names(engine), blobs(engine)) == ([BASE], before)
    assert prompt_tokens(engine, BASE) > 0
    assert not absent(engine, "made:1")["changed"]


def test_an_alias_outlives_its_model(engine: EngineProcess, name: str) -> None:
    run(engine, "first:1", **{"from": BASE}, system="First.")
    run(engine, name, alias="first:1")
    absent(engine, "first:1")
    server = OllamaServer(f"http://127.0.0.1:{engine.port}")
    assert server.layer_digest(name) == WEIGHTS
    assert server.model(ModelName.parse("first:1")) is None
    assert prompt_tokens(engine, name) > 0


def test_under_ansible_with_a_diff(engine: EngineProcess, name: str, tmp_path: Path) -> None:
    asked = {"name": name, "base_url": f"http://127.0.0.1:{engine.port}", **WAYS["parameters"]}
    tasks = [{"ollama_fleet.stack.ollama_made_model": asked, "register": f"run{number}"} for number in (1, 2)]
    tasks.append(
        {"ansible.builtin.assert": {"that": ["run1 is changed", "run2 is not changed", "run1.digest == run2.digest"]}}
    )
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    options = ["--diff", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_BECOME": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [str(ansible), *options, str(playbook)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-state: absent" in done.stdout
    assert f"+weights: {WEIGHTS}" in done.stdout


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine without a model, and so without the file of one."""
    engine = EngineProcess(tmp_path / "store")
    yield engine
    engine.stop()


@pytest.mark.parametrize(
    ("file", "left"),
    [
        pytest.param("gemma3/blobs/" + GEMMA.replace(":", "-"), set(), id="written by llama.cpp"),
        # The server wrote it anew; what was sent stays until the server is started again, with Ollama as well.
        pytest.param("smollm2/blobs/" + WEIGHTS.replace(":", "-"), {WEIGHTS.replace(":", "-")}, id="written otherwise"),
    ],
)
def test_a_file_is_asked_for_once_and_answers(empty: EngineProcess, file: str, left: set[str]) -> None:
    path = models() / "v2/library" / file
    checksum = path.name.replace("-", ":")
    own = {"checksum": checksum, "system": "You are brief.", "parameters": {"num_predict": 4, "seed": 1}}
    waits = run(empty, "own:1", **own)
    assert (waits["changed"], waits["needs_file"], names(empty)) == (True, True, [])
    done = run(empty, "own:1", **own, path=str(path))
    assert (done["changed"], done["needs_file"], names(empty)) == (True, False, ["own:1"])
    weights = OllamaServer(f"http://127.0.0.1:{empty.port}").layer_digest("own:1")
    assert (weights == checksum) == (not left)
    again = run(empty, "own:1", **own)
    assert (again["changed"], again["needs_file"], again["digest"]) == (False, False, done["digest"])
    answer = empty.ask("/api/generate", {"model": "own:1", "prompt": "Once", "raw": True, "stream": False})
    assert answer["eval_count"] == 4
    absent(empty, "own:1")
    assert blobs(empty) == left


def test_another_file_than_was_said_is_refused(empty: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF of another kind")
    with pytest.raises(FleetError, match=r"HTTP 400.*sha256sum"):
        run(empty, "own:1", checksum=WEIGHTS, path=str(path))
    assert names(empty) == []
    assert run(empty, "own:1", check_mode=True, checksum=WEIGHTS)["needs_file"]


def test_a_file_that_is_no_model_is_refused_in_the_servers_words(empty: EngineProcess, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"hello")
    checksum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with pytest.raises(FleetError, match="supplied file was not in GGUF format"):
        run(empty, "own:1", checksum=checksum, path=str(path))
    assert names(empty) == []


def test_a_base_that_is_not_there_is_named_and_nothing_is_pulled_for_it(empty: EngineProcess) -> None:
    with pytest.raises(FleetError, match=f"the server has no {BASE}"):
        run(empty, "made:1", **WAYS["system"])
    assert run(empty, "made:1", check_mode=True, **WAYS["system"])["changed"]


def test_a_loaded_model_is_listed_when_its_files_are_gone(engine: EngineProcess, name: str) -> None:
    run(engine, name, **WAYS["system"])
    body = {"model": name, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
    assert engine.ask("/api/generate", body)["done"]
    before = engine.get("/api/ps")["models"]
    absent(engine, name)
    after = engine.get("/api/ps")["models"]
    assert [(model["name"], model["digest"], model["details"]) for model in after] == [
        (model["name"], model["digest"], model["details"]) for model in before
    ]

"""Models that the stand-in engine makes: to the byte what a real Ollama 0.32.15 made, and used when they answer."""

import contextlib
import hashlib
import http.client
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine_support import recording
from tests.engine_support.engine import EngineProcess, models
from tests.engine_support.origin import Origin

BASE = "smollm2:135m"
GEMMA = "sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
QUESTION = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that has the lab's chat model, with a template and a system prompt of its own."""
    engine = EngineProcess(tmp_path_factory.mktemp("create") / "store")
    origin = Origin(models()).start()
    engine.pull(origin.port, BASE)
    yield engine
    engine.stop()
    origin.stop()


def make(engine: EngineProcess, **request: Any) -> list[str]:
    """The lines of status of a model "made:1"."""
    with engine.open("/api/create", {"model": "made:1", **request}) as answer:
        assert answer.response.status == 200
        return [line["status"] for line in answer]


def send(engine: EngineProcess, digest: str, data: Any) -> tuple[int, bytes]:
    """Status and answer of a blob that is given to the engine."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", f"/api/blobs/{digest}", data)
        response = connection.getresponse()
        return response.status, response.read()


def has(engine: EngineProcess, digest: str) -> bool:
    with engine.open(f"/api/blobs/{digest}", method="HEAD") as answer:
        return bool(answer.response.status == 200)


def ask(engine: EngineProcess, model: str = "made:1", **options: Any) -> Any:
    request = {"model": model, "messages": QUESTION, "stream": False}
    return engine.ask("/api/chat", request | {"options": {"num_predict": 1, **options}})


def tokens_of(engine: EngineProcess, prompt: str) -> int:
    request = {"model": BASE, "prompt": prompt, "raw": True, "stream": False, "options": {"num_predict": 1}}
    return int(engine.ask("/api/generate", request)["prompt_eval_count"])


def turns(*pairs: tuple[str, str]) -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in pairs) + "<|im_start|>assistant\n"


def test_manifests_are_the_recorded_ones_to_the_byte(engine: EngineProcess) -> None:
    [blob] = models().glob(f"v2/library/gemma3/blobs/{GEMMA.replace(':', '-')}")
    with blob.open("rb") as file:
        assert send(engine, GEMMA, file) == (201, b"")
    recorded = recording.load("v0.32.15")
    make(engine, model="gemma3:270m", files={"m.gguf": GEMMA})
    for name in ("034-create-api-files-stream", "035-create-api-from-nostream"):
        answer = engine.replay(recorded[name], recorded[name].body, 60, None)
        assert answer.lines == recorded[name].answer.lines
    theirs, ours = (
        {model["name"]: (model["digest"], model["size"], model["details"]) for model in listed}
        for listed in (
            json.loads(recorded["116-tags-strange-host"].answer.lines[0])["models"],
            engine.get("/api/tags")["models"],
        )
    )
    assert set(theirs) == {"gemma3:270m", "made:1", "made:2"}
    assert {name: ours[name] for name in theirs} == theirs
    for name in theirs:
        engine.ask("/api/delete", {"model": name}, "DELETE")
    assert not has(engine, GEMMA)


def test_a_system_prompt_is_heard(engine: EngineProcess) -> None:
    make(engine, **{"from": BASE}, system="You ask back before you explain.")
    heard = turns(("system", "You ask back before you explain."), ("user", "Hi"))
    assert ask(engine)["prompt_eval_count"] == tokens_of(engine, heard)
    asked = {"model": "made:1", "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
    assert engine.ask("/api/generate", asked)["prompt_eval_count"] == tokens_of(engine, heard)
    # The base goes on as it was.
    assert ask(engine, BASE)["prompt_eval_count"] > tokens_of(engine, turns(("user", "Hi")))


def test_a_dialogue_that_comes_with_the_model_is_heard_first(engine: EngineProcess) -> None:
    dialogue = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "Four, I believe."}]
    make(engine, **{"from": BASE}, system="S", messages=dialogue)
    first, second = ((one["role"], one["content"]) for one in dialogue)
    heard = turns(("system", "S"), first, second, ("user", "Hi"))
    assert ask(engine)["prompt_eval_count"] == tokens_of(engine, heard)
    asked = {"model": "made:1", "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
    assert engine.ask("/api/generate", asked)["prompt_eval_count"] == tokens_of(engine, heard)


def test_parameters_apply_and_the_request_wins(engine: EngineProcess) -> None:
    make(engine, **{"from": BASE}, parameters={"num_predict": 5, "num_ctx": 512, "seed": 1})
    request = {"model": "made:1", "prompt": "Once upon a time", "raw": True, "stream": False}
    assert engine.ask("/api/generate", request)["eval_count"] == 5
    assert [model["context_length"] for model in engine.get("/api/ps")["models"]] == [512]
    assert engine.ask("/api/generate", request | {"options": {"num_predict": 3}})["eval_count"] == 3


def test_a_parameter_of_another_type_fails_when_it_is_used_as_with_ollama(engine: EngineProcess) -> None:
    make(engine, **{"from": BASE}, parameters={"temperature": "hot"})
    with engine.open("/api/generate", {"model": "made:1", "prompt": "x"}) as answer:
        assert answer.response.status == 500
        assert next(iter(answer)) == {"error": 'option "temperature" must be of type float32'}


def test_a_template_applies(engine: EngineProcess) -> None:
    make(engine, **{"from": BASE}, template="Question: {{ .Prompt }} Answer:")
    assert ask(engine)["prompt_eval_count"] == tokens_of(engine, "Question: Hi Answer:")


def test_what_a_model_is_made_of_is_shown(engine: EngineProcess) -> None:
    asked = {"system": 'Say "yes".\nThen stop.', "template": "{{ .System }}{{ .Prompt }}", "license": "Own"}
    parameters = {"temperature": 0, "top_p": 0.25, "num_ctx": 1048576, "stop": ["a b", "<|im_end|>"], "use_mmap": True}
    dialogue = [{"role": "user", "content": " x"}, {"role": "assistant", "content": "y"}]
    make(engine, **{"from": BASE}, **asked, parameters=parameters, messages=dialogue)
    shown = engine.ask("/api/show", {"model": "made:1"})
    assert (shown["system"], shown["template"]) == (asked["system"], asked["template"])
    assert shown["license"].endswith("\nOwn")
    assert shown["messages"] == dialogue
    assert [line.split(None, 1) for line in shown["parameters"].splitlines()] == [
        ["num_ctx", "1.048576e+06"],
        ["stop", '"a b"'],
        ["stop", '"<|im_end|>"'],
        ["temperature", "0"],
        ["top_p", "0.25"],
        ["use_mmap", "true"],
    ]
    assert shown["details"]["parent_model"] == BASE
    lines = shown["modelfile"].splitlines()
    assert [line for line in lines if line.startswith(("TEMPLATE", "PARAMETER stop", "PARAMETER n", "MESSAGE"))] == [
        "TEMPLATE {{ .System }}{{ .Prompt }}",
        "PARAMETER num_ctx 1.048576e+06",
        "PARAMETER stop a b",
        "PARAMETER stop <|im_end|>",
        'MESSAGE user " x"',
        "MESSAGE assistant y",
    ]
    assert 'SYSTEM """Say "yes".\nThen stop."""\n' in shown["modelfile"]


def test_a_model_that_goes_leaves_what_its_base_needs(engine: EngineProcess) -> None:
    make(engine, **{"from": BASE}, system="Only mine.")
    mine = f"sha256:{hashlib.sha256(b'Only mine.').hexdigest()}"
    before = engine.get("/api/tags")["models"]
    assert has(engine, mine)
    engine.ask("/api/delete", {"model": "made:1"}, "DELETE")
    assert not has(engine, mine)
    assert engine.get("/api/tags")["models"] == [model for model in before if model["name"] == BASE]
    assert ask(engine, BASE)["done"]


def test_an_error_before_the_first_line_has_a_status_and_a_later_one_is_a_line(engine: EngineProcess) -> None:
    for stream in (True, False):
        with engine.open("/api/create", {"model": "x:1", "stream": stream}) as answer:
            assert (answer.response.status, answer.response.headers["Content-Type"]) == (400, "application/json")
            assert list(answer) == [{"error": "neither 'from' or 'files' was specified"}]
    files = {"model": "x:1", "files": {"m.gguf": "sha256:" + "1" * 64}}
    with engine.open("/api/create", files) as answer:
        first, last = answer
        assert (answer.response.status, first) == (200, {"status": "parsing GGUF"})
        assert last["error"].endswith("no such file or directory")


def test_a_blob_is_taken_once_and_only_under_its_digest(engine: EngineProcess) -> None:
    hello, other = (f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (b"hello", b"other"))
    assert not has(engine, hello)
    status, told = send(engine, hello, b"other")
    assert (status, json.loads(told)) == (400, {"error": f'digest mismatch, expected "{hello}", got "{other}"'})
    assert (has(engine, hello), has(engine, other)) == (False, True)
    assert send(engine, hello, b"hello") == (201, b"")
    assert send(engine, hello, b"hello") == (200, b"")
    assert send(engine, "sha256:0", b"hello")[0] == 400


def test_a_blob_that_comes_in_chunks_is_one(engine: EngineProcess) -> None:
    pieces = [b"in ", b"chunks"]
    digest = f"sha256:{hashlib.sha256(b''.join(pieces)).hexdigest()}"
    assert send(engine, digest, iter(pieces)) == (201, b"")


def test_a_disk_that_is_full_is_named_and_keeps_nothing_of_the_blob(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "store")
    try:
        # The longest file that it may write: as a full disk, but for the number of the error.
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        data = bytes(1 << 21)
        status, told = send(engine, f"sha256:{hashlib.sha256(data).hexdigest()}", data)
        assert status == 500
        assert json.loads(told)["error"].startswith(f"write {engine.store}/blobs/sha256-")
        assert json.loads(told)["error"].endswith(": file too large")
        assert list((engine.store / "blobs").iterdir()) == []
    finally:
        engine.stop()

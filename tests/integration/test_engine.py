"""What the stand-in engine does beyond the shape of its answers: clocks, limits, places, pulls that break."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.engine import registry
from lab.engine.names import Name
from lab.engine.store import Store
from tests.engine_support.engine import EngineProcess, models
from tests.engine_support.origin import Origin

MODEL = "smollm2:135m"
BLOB = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98362432
STORY = "Once upon a time there was a small computer that"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    origin = Origin(models()).start()
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[EngineProcess]:
    """An engine that has both models; two requests at a time, one model loaded."""
    store = tmp_path_factory.mktemp("engine") / "store"
    engine = EngineProcess(store, OLLAMA_NUM_PARALLEL="2", OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_CONTEXT_LENGTH="2048")
    origin.become()
    for model in (MODEL, "gemma3:270m"):
        engine.pull(origin.port, model)
    yield engine
    engine.stop()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine without a model."""
    engine = EngineProcess(tmp_path / "store")
    yield engine
    engine.stop()


def generate(engine: EngineProcess, prompt: str = STORY, **request: Any) -> Any:
    return engine.ask("/api/generate", {"model": MODEL, "prompt": prompt, "raw": True, "stream": False, **request})


def children(engine: EngineProcess) -> list[int]:
    tasks = Path(f"/proc/{engine.process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def cpu_seconds(engine: EngineProcess) -> float:
    """Of the models' processes."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in children(engine)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def is_idle(engine: EngineProcess) -> bool:
    before = cpu_seconds(engine)
    time.sleep(0.3)
    return cpu_seconds(engine) - before < 0.05


def wait_until(what: Callable[[], bool], seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_durations_are_what_a_clock_shows(engine: EngineProcess) -> None:
    generate(engine, "hello", options={"num_predict": 1})
    began, pieces = time.monotonic(), []
    request = {"model": MODEL, "prompt": STORY, "raw": True, "options": {"num_predict": 40, "seed": 1}}
    with engine.open("/api/generate", request) as answer:
        for line in answer:
            pieces.append((time.monotonic() - began, line))
    last = pieces[-1][1]
    parts = [last[f"{name}_duration"] for name in ("load", "prompt_eval", "eval")]
    assert sum(parts) <= last["total_duration"] <= (time.monotonic() - began) * 1e9
    assert last["eval_count"] == 40
    # The first token ends the evaluation of the prompt; the server's clock of the others is the client's.
    seen = pieces[-1][0] - pieces[0][0]
    assert last["eval_duration"] / 1e9 == pytest.approx(seen, rel=0.25, abs=0.15)
    assert last["prompt_eval_duration"] / 1e9 <= pieces[0][0]


def test_loading_is_in_the_load_duration_of_the_request_that_caused_it(engine: EngineProcess) -> None:
    generate(engine, "", keep_alive=0)
    first, second = (generate(engine, options={"num_predict": 2}) for _ in range(2))
    assert first["load_duration"] > 100e6
    assert 0 < second["load_duration"] < first["load_duration"] / 2


def test_a_cached_prompt_counts_in_full(engine: EngineProcess) -> None:
    prompt = f"{STORY} {time.time()} " * 12
    first, second = (generate(engine, prompt, options={"num_predict": 1}) for _ in range(2))
    assert first["prompt_eval_count"] == second["prompt_eval_count"] > 200
    assert second["prompt_eval_duration"] < first["prompt_eval_duration"] / 2


@pytest.mark.parametrize("count", [1, 2, 17])
def test_num_predict_is_the_number_of_tokens(engine: EngineProcess, count: int) -> None:
    answer = generate(engine, options={"num_predict": count, "seed": 3})
    assert (answer["eval_count"], answer["done_reason"]) == (count, "length")


def test_a_seed_repeats_its_text(engine: EngineProcess) -> None:
    def text(seed: int) -> str:
        answer: str = generate(engine, options={"num_predict": 24, "temperature": 1.2, "seed": seed})["response"]
        return answer

    text(7)
    assert text(7) == text(7) != text(8)


def test_a_chat_gets_the_models_own_template(engine: EngineProcess) -> None:
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    answer = engine.ask("/api/chat", request | {"options": {"num_predict": 60, "temperature": 0}})
    turns = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    turns += "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert answer["prompt_eval_count"] == generate(engine, turns, options={"num_predict": 1})["prompt_eval_count"]
    assert answer["message"]["content"]
    assert "<|im_end|>" not in answer["message"]["content"]


def test_a_proxy_of_the_old_kind_gets_no_chunks(engine: EngineProcess) -> None:
    body = json.dumps({"model": MODEL, "prompt": STORY, "raw": True, "options": {"num_predict": 3}})
    with socket.create_connection(("127.0.0.1", engine.port)) as sock:
        sock.sendall(f"POST /api/generate HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, _, lines = answer.partition("\r\n\r\n")
    assert "Transfer-Encoding" not in head
    assert [json.loads(line)["done"] for line in lines.splitlines()][-1] is True


@pytest.mark.parametrize("messages", [["x"], [{"role": 5}], [{"role": "user", "content": {"a": 1}}]])
def test_messages_of_another_form_are_an_error(engine: EngineProcess, messages: list[Any]) -> None:
    with engine.open("/api/chat", {"model": MODEL, "messages": messages}) as answer:
        assert answer.response.status in {400, 500}
        assert next(iter(answer))["error"]


def test_a_dialogue_goes_on_from_its_context(engine: EngineProcess) -> None:
    options = {"num_predict": 4, "temperature": 0}
    first = generate(engine, raw=False, options=options)
    second = generate(engine, "And then?", raw=False, context=first["context"], options=options)
    assert second["prompt_eval_count"] > len(first["context"])


def test_a_format_is_kept(engine: EngineProcess) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    for wanted, start in (("json", "{"), (schema, "{")):
        answer = generate(engine, "Some JSON:", format=wanted, options={"num_predict": 8, "seed": 1})
        assert answer["response"].lstrip().startswith(start)


def test_requests_share_the_places_and_the_rest_wait(engine: EngineProcess) -> None:
    generate(engine, options={"num_predict": 1})
    times: dict[int, list[str]] = {}

    def run(number: int) -> None:
        request = {"model": MODEL, "prompt": f"{number}. {STORY}", "raw": True, "options": {"num_predict": 40}}
        with engine.open("/api/generate", request) as answer:
            times[number] = [line["created_at"] for line in answer]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    starts = sorted(when[0] for when in times.values())
    first_to_end = min(times.values(), key=lambda when: when[-1])
    assert starts[1] < first_to_end[-1], "two answer at the same time"
    assert starts[2] > first_to_end[-3], "the third waits for a place"


def leave_in_the_middle(engine: EngineProcess, request: dict[str, Any]) -> None:
    """Ask, and hang up before the answer is there. A model may choose to end at once: it is asked again."""
    for _ in range(10):
        try:
            with engine.open("/api/generate", request, timeout=0.5):
                pass
        except TimeoutError:
            return
    pytest.fail("ten answers, and each was complete within half a second")


@pytest.mark.parametrize("how", ["stream", "at once", "in the prompt"])
def test_a_client_that_leaves_stops_the_work(engine: EngineProcess, how: str) -> None:
    generate(engine, options={"num_predict": 1})
    prompt = f"{how} {time.time()} " + (STORY * 160 if how == "in the prompt" else "")
    request = {"model": MODEL, "prompt": prompt, "raw": True, "stream": how == "stream", "options": {"num_predict": -1}}
    if how == "stream":
        with engine.open("/api/generate", request) as answer:
            for _ in zip(range(3), answer, strict=False):
                pass
    else:
        leave_in_the_middle(engine, request)
    # Left alone it would go on for minutes.
    wait_until(lambda: is_idle(engine), 90)


def test_a_model_goes_when_its_time_is_over(engine: EngineProcess) -> None:
    generate(engine, options={"num_predict": 1}, keep_alive="2s")
    assert [model["name"] for model in engine.get("/api/ps")["models"]] == [MODEL]
    assert len(children(engine)) == 1
    wait_until(lambda: engine.get("/api/ps") == {"models": []})
    assert children(engine) == []


def test_another_request_prolongs_the_time(engine: EngineProcess) -> None:
    generate(engine, options={"num_predict": 1}, keep_alive="700ms")
    generate(engine, options={"num_predict": 1}, keep_alive="1h")
    time.sleep(1)
    assert len(engine.get("/api/ps")["models"]) == 1


def test_a_second_model_takes_the_place_of_the_first(engine: EngineProcess) -> None:
    for model in (MODEL, "gemma3:270m"):
        generate(engine, model=model, options={"num_predict": 1})
        assert [model["name"] for model in engine.get("/api/ps")["models"]] == [model]


def test_a_model_that_is_killed_costs_its_request_alone(engine: EngineProcess) -> None:
    request = {"model": MODEL, "prompt": STORY, "raw": True, "options": {"num_predict": -1}}
    with engine.open("/api/generate", request) as answer:
        lines = iter(answer)
        next(lines)
        os.kill(*children(engine), signal.SIGKILL)
        last = list(lines)[-1]
    assert last == {"error": "llama runner process has terminated: exit status -9"}
    assert generate(engine, options={"num_predict": 2})["eval_count"] == 2


def test_sigterm_ends_it_at_once_with_its_models(engine: EngineProcess) -> None:
    request = {"model": MODEL, "prompt": STORY, "raw": True, "options": {"num_predict": -1}}
    with engine.open("/api/generate", request) as answer:
        next(iter(answer))
        running = children(engine)
        assert engine.stop() < 5
    assert running
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in running))
    engine.start()


def test_a_pull_goes_on_where_its_client_left_it(empty: EngineProcess, origin: Origin) -> None:
    origin.become(rate=60_000_000)
    request = {"model": f"localhost:{origin.port}/library/{MODEL}", "insecure": True}
    with empty.open("/api/pull", request) as progress:
        next(line for line in progress if line.get("completed", 0) > 10_000_000)
    partial = empty.store / "blobs" / f"sha256-{BLOB}-partial"
    sizes: list[int] = []

    def stopped() -> bool:
        sizes.append(partial.stat().st_size)
        time.sleep(0.3)
        return sizes[-1] == partial.stat().st_size

    wait_until(stopped)
    kept = sizes[-1]
    assert 10_000_000 < kept < SIZE
    assert empty.get("/api/tags") == {"models": []}
    origin.become()
    with empty.open("/api/pull", request) as progress:
        lines = list(progress)
    assert lines[-1] == {"status": "success"}
    assert origin.ranges[0] == f"bytes={kept}-{SIZE - 1}"
    assert origin.sent[0] == SIZE - kept


def test_two_who_pull_one_model_share_its_bytes(empty: EngineProcess, origin: Origin) -> None:
    origin.become(rate=100_000_000)
    threads = [threading.Thread(target=empty.pull, args=(origin.port, MODEL, False)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sent for sent in origin.sent if sent > 1_000_000] == [SIZE]
    assert len(empty.get("/api/tags")["models"]) == 1


def test_wrong_bytes_are_no_model(empty: EngineProcess, origin: Origin) -> None:
    origin.become(corrupt=1)
    request = {"model": f"localhost:{origin.port}/library/{MODEL}", "insecure": True}
    with empty.open("/api/pull", request) as progress:
        last = list(progress)[-1]
    assert last["error"].startswith(f"digest mismatch, file must be downloaded again: want sha256:{BLOB}, got sha256:")
    assert not list((empty.store / "blobs").glob(f"sha256-{BLOB}*"))
    assert empty.get("/api/tags") == {"models": []}
    origin.become()
    empty.pull(origin.port, MODEL)


def test_what_came_wrong_beside_the_first_is_not_looked_at_again(empty: EngineProcess, origin: Origin) -> None:
    # As in Ollama: a pull that ends with a wrong digest deletes that blob, and the next one trusts all that is there.
    origin.become(corrupt=99)
    request = {"model": f"localhost:{origin.port}/library/{MODEL}", "insecure": True}
    for _ in range(2):
        with empty.open("/api/pull", request) as progress:
            assert "digest mismatch" in list(progress)[-1]["error"]
    origin.become()
    with empty.open("/api/pull", request) as progress:
        assert list(progress)[-1] == {"status": "success"}
    wrong = [
        path
        for path in (empty.store / "blobs").iterdir()
        if path.name != f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
    ]
    assert wrong


def test_blobs_go_with_the_last_model_that_has_them(empty: EngineProcess, origin: Origin) -> None:
    origin.become()
    empty.pull(origin.port, MODEL)
    empty.ask("/api/copy", {"source": MODEL, "destination": "another:1"})
    empty.ask("/api/delete", {"model": MODEL}, "DELETE")
    blob = empty.store / "blobs" / f"sha256-{BLOB}"
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == BLOB
    empty.ask("/api/delete", {"model": "another:1"}, "DELETE")
    assert list((empty.store / "blobs").iterdir()) == []


def test_a_broken_model_file_is_an_error_of_its_own_request(empty: EngineProcess, origin: Origin) -> None:
    origin.become()
    for model in (MODEL, "gemma3:270m"):
        empty.pull(origin.port, model)
    with (empty.store / "blobs" / f"sha256-{BLOB}").open("r+b") as file:
        file.truncate(SIZE // 2)
    with empty.open("/api/generate", {"model": MODEL, "prompt": STORY}) as answer:
        assert answer.response.status == 500
        assert "model failed to load" in next(iter(answer))["error"]
    assert empty.get("/api/ps") == {"models": []}
    assert generate(empty, model="gemma3:270m", options={"num_predict": 2})["eval_count"] == 2


def pull_here(tmp_path: Path, port: int) -> list[dict[str, Any]]:
    name = Name.parse(f"localhost:{port}/library/{MODEL}")
    return list(registry.pull(Store(tmp_path / "here"), name, insecure=True))


def test_an_origin_that_is_gone_for_good_ends_the_pull(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_RETRIES", 2)
    origin.become(cut_after=1_000_000)
    monkeypatch.setattr(registry, "_wait", lambda *_: origin.become(answer=(503, {}, b"gone")) or [])
    with pytest.raises(registry.PullError, match="max retries exceeded: 503: gone"):
        pull_here(tmp_path, origin.port)


def test_a_full_disk_ends_the_pull_at_once(tmp_path: Path, origin: Origin) -> None:
    origin.become()
    blobs = Store(tmp_path / "here").blobs
    (blobs / f"sha256-{BLOB}-partial").symlink_to("/dev/full")
    with pytest.raises(registry.PullError, match=r"write .*: no space left on device"):
        pull_here(tmp_path, origin.port)

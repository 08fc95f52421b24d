"""One host's run against a client that is a plain object: order, notes, and leaving things as they were."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ollama_fleet.bench import workload
from ollama_fleet.bench.measure import Measurement, ModelError, SamplesError
from ollama_fleet.bench.result import HostResult, Machine
from ollama_fleet.errors import FleetError
from ollama_fleet.ollama import Answer, ApiError, Line, UnreachableError, read_answer
from tests.bench_support.recordings import recording

WORKLOAD = replace(workload.load("smoke"), num_ctx=4096, num_predict=16, runs=3)
MODEL = "gemma3:270m"
FOREVER = "2319-03-04T20:48:43.275934777Z"
SOON = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()


def loaded(name: str = MODEL, **changes: Any) -> dict[str, Any]:
    entry = {"name": name, "size": 1000, "size_vram": 0, "context_length": 4096, "expires_at": SOON}
    return {**entry, **changes}


class FakeClient:
    """Answers from lists: `loads` is what ps says, one after the other, the last one for ever."""

    def __init__(self, *loads: list[dict[str, Any]], answers: list[Answer | FleetError] | None = None) -> None:
        self.loads = list(loads) or [[], [loaded()]]
        self.answers = answers or []
        self.tag: dict[str, Any] = recording("0.32.15", "020-tags").objects[0]["models"][0]
        self.preloads: list[tuple[str, dict[str, Any], object]] = []
        self.prompts: list[dict[str, Any]] = []

    def version(self) -> str:
        return "0.32.15"

    def tags(self) -> list[dict[str, Any]]:
        return [self.tag]

    def ps(self) -> list[dict[str, Any]]:
        return self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]

    def preload(self, model: str, options: dict[str, Any], keep_alive: object = None) -> None:
        self.preloads.append((model, options, keep_alive))

    def generate(self, body: dict[str, Any]) -> Answer:
        self.prompts.append(body)
        answer = self.answers.pop(0) if self.answers else good()
        if isinstance(answer, FleetError):
            raise answer
        return answer


def good() -> Answer:
    pieces = recording("0.32.15", "040-gen-stream-1st").pieces
    lines = [Line(round(when * 1e9), raw) for when, piece in pieces for raw in piece.splitlines() if raw[:1] == b"{"]
    return read_answer(0, tuple(lines), lines[-1].arrival_ns)


def broken(how: str | None) -> Answer:
    return read_answer(0, (Line(1, b'{"response":"a"}'),), 2, how)


def run(client: FakeClient, result: HostResult | None = None, model: str = MODEL) -> HostResult:
    result = result or HostResult("gpu1", "10.0.0.1")
    Measurement(client, WORKLOAD, model, result, lambda *_: None).run()  # type: ignore[arg-type]
    return result


def test_warm_up_then_runs() -> None:
    client = FakeClient()
    result = run(client)
    assert [(s.number, s.warm_up, s.prompt) for s in result.samples] == [
        (1, True, 0),
        (2, False, 1),
        (3, False, 2),
        (4, False, 0),
    ]
    assert len({body["prompt"].split()[0] for body in client.prompts}) == 4
    assert result.rejected == 0
    assert result.decode is not None
    assert result.decode.n == 3


def test_a_cold_model_is_loaded_with_the_workloads_context_and_the_servers_keep_alive() -> None:
    client = FakeClient()
    result = run(client)
    assert client.preloads == [(MODEL, {"num_ctx": 4096}, None)]
    assert result.load is not None
    assert result.load.state == "cold"


@pytest.mark.parametrize(("context", "state"), [(4096, "warm"), (8192, "cold")])
def test_warm_is_loaded_with_the_same_context(context: int, state: str) -> None:
    result = run(FakeClient([loaded(context_length=context)], [loaded()]))
    assert result.load is not None
    assert result.load.state == state


@pytest.mark.parametrize(("vram", "verdict"), [(0, "CPU"), (400, "partial"), (1000, "GPU"), (1200, "GPU")])
def test_placement(vram: int, verdict: str) -> None:
    result = run(FakeClient([], [loaded(size_vram=vram)]))
    assert result.placement is not None
    assert result.placement.verdict == verdict
    assert result.notes == []


def test_a_gpu_that_is_not_used_is_noted() -> None:
    result = HostResult("gpu1", "10.0.0.1", machine=Machine(gpus=("NVIDIA H100",)))
    run(FakeClient([], [loaded()]), result)
    assert result.notes == ["the host has NVIDIA H100, but the model runs on the CPU alone"]


def test_another_context_than_asked_for_is_noted() -> None:
    result = run(FakeClient([], [loaded(context_length=2048)]))
    assert "runs with a context of 2048, not the 4096 asked for" in result.notes[0]


def test_what_had_to_make_room_is_loaded_again() -> None:
    other = loaded("big:70b", context_length=8192)
    client = FakeClient([other], [loaded()])
    result = run(client)
    assert client.preloads[-1] == ("big:70b", {"num_ctx": 8192}, None)
    assert "big:70b had to make room" in result.notes[-1]


def test_a_model_kept_for_ever_is_kept_for_ever_again() -> None:
    client = FakeClient([loaded(expires_at=FOREVER)], [loaded()])
    run(client)
    assert client.preloads[-1] == (MODEL, {"num_ctx": 4096}, -1)


def test_our_model_gets_its_own_context_back() -> None:
    client = FakeClient([loaded(context_length=8192)], [loaded()])
    run(client)
    assert client.preloads[-1] == (MODEL, {"num_ctx": 8192}, None)


def test_what_is_still_there_or_had_its_time_is_left_alone() -> None:
    gone = loaded("old:1b", expires_at="2020-01-01T00:00:00Z")
    client = FakeClient([gone, loaded("kept:1b")], [loaded(), loaded("kept:1b")])
    run(client)
    assert len(client.preloads) == 1


def test_things_are_put_back_after_a_failure_too() -> None:
    client = FakeClient([loaded("big:70b")], [loaded()], answers=[broken("gone")])
    with pytest.raises(UnreachableError):
        run(client)
    assert client.preloads[-1][0] == "big:70b"


def test_rejected_answers_are_asked_for_again() -> None:
    refused = ApiError("x", "busy (HTTP 503)", "wait", 503)
    result = run(FakeClient(answers=[good(), refused, good(), broken(None)]))
    assert (len(result.measured), result.rejected, len(result.accepted)) == (5, 2, 3)
    assert result.measured[0].rejected == "busy (HTTP 503)"


def test_too_few_accepted_answers_fail_with_the_reasons_counted() -> None:
    result = HostResult("gpu1", "10.0.0.1")
    with pytest.raises(SamplesError) as caught:
        run(FakeClient(answers=[good(), good(), *[broken(None)] * 5]), result)
    assert "only 1 of 6 answers count, 3 are needed: 5 x the stream ended without" in caught.value.why
    assert result.decode is not None


def test_a_cut_ends_the_run_and_keeps_what_there_was() -> None:
    result = HostResult("gpu1", "10.0.0.1")
    client = FakeClient(answers=[good(), good(), broken("gone")])
    with pytest.raises(UnreachableError, match="gone"):
        run(client, result)
    assert len(client.prompts) == 3
    assert [sample.rejected for sample in result.samples] == [None, None, "gone"]


def test_a_cloud_model_is_refused() -> None:
    client = FakeClient()
    client.tag["remote_host"] = "https://ollama.example"
    with pytest.raises(ModelError, match="cloud"):
        run(client)
    assert client.prompts == []


@pytest.mark.parametrize(("there", "asked"), [("smollm2:latest", "smollm2"), ("h:5000/a/b:latest", "h:5000/a/b")])
def test_a_name_without_a_tag_is_found(there: str, asked: str) -> None:
    client = FakeClient([], [loaded(there)])
    client.tag["name"] = there
    assert run(client, model=asked).model is not None


def test_another_tag_is_another_model() -> None:
    with pytest.raises(ModelError, match=r"it has: gemma3:270m"):
        run(FakeClient(), model="gemma3:1b")

"""The client's reading of recorded bytes, of both versions: figures equal the raw bytes, and faults are told apart."""

import pytest
import requests

from ollama_fleet.ollama import Answer, ApiError, Client, Line, UnreachableError, read_answer, read_counters
from tests.bench_support.ollama_double import OllamaDouble
from tests.bench_support.recordings import VERSIONS, Recording, recording


def lines(recorded: Recording) -> tuple[Line, ...]:
    """Lines stamped as they arrived on the wire; a piece of these recordings is a line."""
    stamped = [(when, raw) for when, piece in recorded.pieces for raw in piece.splitlines() if raw.startswith(b"{")]
    return tuple(Line(round(when * 1e9), raw) for when, raw in stamped)


def answer(recorded: Recording, broken: str | None = None, keep: int | None = None) -> Answer:
    kept = lines(recorded)[:keep]
    return read_answer(0, kept, kept[-1].arrival_ns, broken)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["040-gen-stream-1st", "041-gen-stream-2nd-same"])
def test_counters_equal_the_raw_bytes(version: str, name: str) -> None:
    recorded = recording(version, name)
    final = recorded.objects[-1]
    read = answer(recorded)
    assert read.fault is None
    assert read.counters.output_tokens == final["eval_count"] == 16
    assert read.counters.output_ns == final["eval_duration"]
    assert read.counters.prompt_tokens == final["prompt_eval_count"] == 11
    assert read.counters.prompt_ns == final["prompt_eval_duration"]
    assert read.counters.load_ns == final["load_duration"]
    assert read.counters.total_ns == final["total_duration"]
    assert read.counters.done_reason == "length"
    assert read.counters.cached_tokens is None


@pytest.mark.parametrize("version", VERSIONS)
def test_first_and_last_token_are_stamped_by_arrival(version: str) -> None:
    recorded = recording(version, "040-gen-stream-1st")
    read = answer(recorded)
    assert read.first_token_ns == round(recorded.pieces[0][0] * 1e9)
    # The last object carries no text: the last token is the line before it.
    assert read.last_token_ns == lines(recorded)[-2].arrival_ns


@pytest.mark.parametrize(("version", "duration"), [("0.24.0", None), ("0.32.15", 1000)])
def test_one_token_has_no_duration_in_0_24(version: str, duration: int | None) -> None:
    counters = read_counters(recording(version, "051-gen-np1").objects[-1])
    assert counters.output_tokens == 1
    assert counters.output_ns == duration


def test_cached_count_is_read_where_it_is_there_also_when_zero() -> None:
    assert read_counters({"prompt_eval_cached_count": 0}).cached_tokens == 0
    assert read_counters({"prompt_eval_cached_count": 290}).cached_tokens == 290
    assert read_counters({}).cached_tokens is None


@pytest.mark.parametrize("value", [0, -5, "12", 1.5, True, None])
def test_an_absurd_counter_counts_as_absent(value: object) -> None:
    assert read_counters({"eval_duration": value}).output_ns is None


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_inside_a_stream_of_status_200_is_the_servers(version: str) -> None:
    recorded = recording(version, "019-pull-refused-stream")
    assert recorded.head.startswith(b"HTTP/1.1 200")
    fault = answer(recorded).fault
    assert fault is not None
    assert fault.kind == "server_error"
    assert fault.message == recorded.objects[-1]["error"]


def test_a_stream_without_its_last_object_has_no_counters() -> None:
    read = answer(recording("0.32.15", "040-gen-stream-1st"), keep=9)
    assert read.fault is not None
    assert read.fault.kind == "no_counters"
    assert read.counters.output_tokens is None
    assert read.first_token_ns is not None


def test_a_broken_stream_is_cut_whatever_came_before() -> None:
    read = answer(recording("0.32.15", "040-gen-stream-1st"), broken="gone", keep=9)
    assert read.fault is not None
    assert (read.fault.kind, read.fault.message) == ("cut", "gone")
    assert len(read.lines) == 9


@pytest.mark.parametrize("raw", [b"<html>", b"[1]", b'{"response": "half'])
def test_a_line_that_is_no_object_is_garbled(raw: bytes) -> None:
    fault = read_answer(0, (Line(1, raw),), 2).fault
    assert fault is not None
    assert fault.kind == "garbled"


def test_thinking_is_a_token_too() -> None:
    read = read_answer(0, (Line(5, b'{"thinking":"hm"}'), Line(9, b'{"response":"a"}'), Line(10, b'{"done":true}')), 11)
    assert read.first_token_ns == 5


@pytest.mark.parametrize("version", VERSIONS)
def test_client_keeps_the_bytes_and_stamps_them_as_they_come(version: str) -> None:
    recorded = recording(version, "040-gen-stream-1st")
    with OllamaDouble(version) as server, Client(server.url, "host x") as client:
        read = client.generate({"model": "gemma3:270m", "prompt": "x"})
    assert b"\n".join(line.raw for line in read.lines) + b"\n" == recorded.body
    assert read.fault is None
    for line, expected in zip(read.lines, lines(recorded), strict=True):
        late = line.arrival_ns - read.sent_ns - expected.arrival_ns
        assert -1e6 < late < 250e6


def test_client_tells_a_cut_stream() -> None:
    whole = recording("0.32.15", "040-gen-stream-1st")
    with OllamaDouble("0.32.15", answer=lambda _: (whole, 4)) as server, Client(server.url, "host x") as client:
        read = client.generate({"model": "gemma3:270m", "prompt": "x"})
    assert read.fault is not None
    assert read.fault.kind == "cut"
    assert len(read.lines) == 4


def test_client_tells_a_silent_stream() -> None:
    whole = recording("0.32.15", "040-gen-stream-1st")
    slow = Recording(whole.request, (*whole.pieces[:3], (30.0, whole.pieces[3][1])))
    server = OllamaDouble("0.32.15", answer=lambda _: (slow, None))
    with server, Client(server.url, "host x", silence=0.3) as client:
        read = client.generate({"model": "gemma3:270m", "prompt": "x"})
    assert read.fault is not None
    assert "no byte for 0.3 s" in read.fault.message


def test_client_gives_the_servers_words_of_an_http_error() -> None:
    unknown = recording("0.32.15", "060-gen-unknown-model-stream")
    server = OllamaDouble("0.32.15", answer=lambda _: (unknown, None))
    with server, Client(server.url, "host x") as client, pytest.raises(ApiError) as caught:
        client.generate({"model": "nope", "prompt": "x"})
    assert caught.value.status == 404
    assert "model 'nope' not found" in caught.value.why


def test_client_tells_that_nobody_is_there() -> None:
    with OllamaDouble("0.32.15") as server:
        url = server.url
    with Client(url, "host x") as client, pytest.raises(UnreachableError):
        client.version()


def test_client_takes_no_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with OllamaDouble("0.24.0") as server, Client(server.url, "host x") as client:
        with pytest.raises(requests.exceptions.ProxyError):
            requests.get(server.url, timeout=2)
        assert client.version() == "0.24.0"

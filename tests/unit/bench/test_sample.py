"""Which answers count, and the rates."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.bench import sample, workload
from ollama_fleet.bench.workload import Attempt
from ollama_fleet.ollama import Answer, Line, read_answer, read_counters
from tests.bench_support.recordings import VERSIONS, recording

SMOKE = workload.load("smoke")
TEN = replace(SMOKE, num_ctx=4096, num_predict=10)
GOOD = {
    "done": True,
    "done_reason": "length",
    "total_duration": 1_100_000_000,
    "load_duration": 50_000_000,
    "prompt_eval_count": 300,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 10,
    "eval_duration": 500_000_000,
}


def answer(wall_ns: int = 1_200_000_000, text: bool = True, **changes: Any) -> Answer:
    final = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    lines = [Line(600_000_000, b'{"response":"a"}')] if text else []
    return read_answer(0, (*lines, Line(wall_ns, json.dumps(final).encode())), wall_ns)


def test_rates_are_the_servers_own() -> None:
    made = sample.make(answer(), TEN, Attempt(3, False, 1, "n"), round_trip_ms=20.0)
    assert made.rejected is None
    assert made.decode_tokens_per_second == 20.0
    assert made.prefill_tokens_per_second == 600.0
    assert made.first_token_ms == 600.0
    assert made.first_token_less_round_trip_ms == 580.0
    assert made.unaccounted_ms == 50.0
    assert made.wall_ms == 1200.0
    assert made.server["eval_duration"] == 500_000_000


def test_the_round_trip_cannot_make_a_time_negative() -> None:
    made = sample.make(answer(), TEN, Attempt(1, False, 0, "n"), round_trip_ms=900.0)
    assert made.first_token_less_round_trip_ms == 0.0


@pytest.mark.parametrize(("cached", "rate"), [(None, 600.0), (0, 600.0), (100, 400.0), (290, None)])
def test_prefill_is_of_uncached_tokens_only(cached: int | None, rate: float | None) -> None:
    counters = answer(prompt_eval_cached_count=cached).counters
    assert sample.prefill_rate(counters) == rate


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"eval_count": None}, "no count or no duration"),
        ({"eval_duration": None}, "no count or no duration"),
        ({"eval_duration": 0}, "no count or no duration"),
        ({"eval_count": 7, "done_reason": "stop"}, r"ended after 7 of 10 tokens \(stop\)"),
        ({"eval_count": 1}, "ended after 1 of 10"),
        ({"eval_count": 11}, "11 tokens where 10 were asked for"),
        ({"done_reason": "unload"}, "another reason than its length: unload"),
        ({"done_reason": None}, "none given"),
        ({"prompt_eval_count": 4090}, "does not fit into a context of 4096"),
        ({"total_duration": None}, "no total duration"),
        ({"total_duration": 900_000_000}, "exceed the whole"),
        ({"wall_ns": 800_000_000}, "exceeds our own"),
        ({"text": False}, "no text"),
        ({"remote_host": "https://somewhere.example"}, "cloud"),
    ],
)
def test_an_answer_that_breaks_a_rule_does_not_count(changes: dict[str, Any], reason: str) -> None:
    made = sample.make(answer(**changes), TEN, Attempt(1, False, 0, "n"), 0.0)
    assert made.rejected is not None
    assert re.search(reason, made.rejected), made.rejected


@pytest.mark.parametrize("changes", [{"eval_count": 8, "done_reason": "stop"}, {"prompt_eval_count": None}])
def test_an_answer_that_is_good_enough_counts(changes: dict[str, Any]) -> None:
    assert sample.why_rejected(answer(**changes), TEN) is None


def test_without_prompt_counters_only_the_prefill_is_missing() -> None:
    made = sample.make(answer(prompt_eval_duration=None), TEN, Attempt(1, False, 0, "n"), 0.0)
    assert made.prefill_tokens_per_second is None
    assert made.decode_tokens_per_second == 20.0


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_rates(version: str) -> None:
    final = recording(version, "045-gen-long-1st").objects[-1]
    counters = read_counters(final)
    assert sample.decode_rate(counters) == final["eval_count"] / final["eval_duration"] * 1e9
    assert sample.prefill_rate(counters) == final["prompt_eval_count"] / final["prompt_eval_duration"] * 1e9


def test_why_prompts_must_differ() -> None:
    """0.32.15 counts the whole prompt and times only what is not cached, and says nothing of it."""
    first = sample.prefill_rate(read_counters(recording("0.32.15", "045-gen-long-1st").objects[-1]))
    again = sample.prefill_rate(read_counters(recording("0.32.15", "046-gen-long-2nd-same").objects[-1]))
    assert first is not None
    assert again is not None
    assert again > 50 * first


def test_an_http_error_is_a_sample_that_does_not_count() -> None:
    made = sample.make(sample.refused(0, 5, "busy"), TEN, Attempt(1, False, 0, "n"), 0.0)
    assert made.rejected == "busy"
    assert made.decode_tokens_per_second is None

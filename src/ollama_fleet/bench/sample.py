"""From one answer to one sample: the rates, and whether it counts. Pure functions, no clock and no network."""

from ollama_fleet.bench.result import Sample
from ollama_fleet.bench.workload import Attempt, Workload
from ollama_fleet.ollama import Answer, Counters, Fault

# An answer that stopped by itself still counts when it is nearly as long as it was asked to be.
_ENOUGH = 0.8
# The parts of the server's own time may add up to a little more than the whole: each is rounded by itself.
_SLACK = 1.02
# Server and client clocks run apart by less than this, in part and in nanoseconds.
_CLOCK_SLACK = 1.05
_CLOCK_SLACK_NS = 50_000_000

_TEXT_KEYS = ("context", "response", "thinking", "message")


def make(answer: Answer, workload: Workload, attempt: Attempt, round_trip_ms: float) -> Sample:
    """The sample of an answer: every figure that can be told, also of one that does not count."""
    counters = answer.counters
    first = None if answer.first_token_ns is None else (answer.first_token_ns - answer.sent_ns) / 1e6
    return Sample(
        number=attempt.number,
        warm_up=attempt.warm_up,
        prompt=attempt.prompt,
        nonce=attempt.nonce,
        rejected=why_rejected(answer, workload),
        output_tokens=counters.output_tokens,
        prompt_tokens=counters.prompt_tokens,
        cached_tokens=counters.cached_tokens,
        decode_tokens_per_second=decode_rate(counters),
        prefill_tokens_per_second=prefill_rate(counters),
        first_token_ms=first,
        first_token_less_round_trip_ms=None if first is None else max(0.0, first - round_trip_ms),
        wall_ms=(answer.ended_ns - answer.sent_ns) / 1e6,
        unaccounted_ms=_unaccounted(counters),
        server={key: value for key, value in answer.final.items() if key not in _TEXT_KEYS},
    )


def decode_rate(counters: Counters) -> float | None:
    """eval_count / eval_duration, in tokens per second: Ollama's own definition."""
    if counters.output_tokens is None or counters.output_ns is None:
        return None
    return counters.output_tokens / counters.output_ns * 1e9


def prefill_rate(counters: Counters) -> float | None:
    """(prompt_eval_count - prompt_eval_cached_count) / prompt_eval_duration, in tokens per second.

    The duration covers only what was not cached. Where most of the prompt was, the rest says nothing: None.
    """
    if counters.prompt_tokens is None or counters.prompt_ns is None:
        return None
    fresh = counters.prompt_tokens - (counters.cached_tokens or 0)
    return fresh / counters.prompt_ns * 1e9 if fresh * 2 > counters.prompt_tokens else None


def why_rejected(answer: Answer, workload: Workload) -> str | None:  # noqa: PLR0911 - one rule, one line
    """The first rule that an answer breaks, in words; None when it counts."""
    if answer.fault is not None:
        return answer.fault.message
    counters = answer.counters
    tokens, asked = counters.output_tokens, workload.num_predict
    if answer.final.get("remote_host") or answer.final.get("remote_model"):
        return "it was answered elsewhere: a cloud model"
    if tokens is None or counters.output_ns is None:
        return "the server gave no count or no duration of its tokens"
    if tokens < 2 or tokens < _ENOUGH * asked:
        return f"it ended after {tokens} of {asked} tokens ({counters.done_reason or 'no reason given'})"
    if tokens > asked:
        return f"it has {tokens} tokens where {asked} were asked for"
    if counters.done_reason not in {"length", "stop"}:
        return f"it ended for another reason than its length: {counters.done_reason or 'none given'}"
    if answer.first_token_ns is None:
        return "it has tokens by count, but no text"
    if counters.prompt_tokens is not None and counters.prompt_tokens + asked > workload.num_ctx:
        return f"its prompt of {counters.prompt_tokens} tokens does not fit into a context of {workload.num_ctx}"
    return _absurd(counters, answer.ended_ns - answer.sent_ns)


def _absurd(counters: Counters, wall_ns: int) -> str | None:
    """Durations that contradict each other, or our own clock."""
    if counters.total_ns is None:
        return "the server gave no total duration"
    parts = sum(part or 0 for part in (counters.load_ns, counters.prompt_ns, counters.output_ns))
    if parts > counters.total_ns * _SLACK:
        return f"the parts of its duration ({parts} ns) exceed the whole ({counters.total_ns} ns)"
    if counters.total_ns > wall_ns * _CLOCK_SLACK + _CLOCK_SLACK_NS:
        return f"the server's duration ({counters.total_ns} ns) exceeds our own ({wall_ns} ns)"
    return None


def _unaccounted(counters: Counters) -> float | None:
    """Milliseconds of the total that are neither load, prompt nor answer: mostly waiting for a free slot."""
    if counters.total_ns is None:
        return None
    parts = sum(part or 0 for part in (counters.load_ns, counters.prompt_ns, counters.output_ns))
    return (counters.total_ns - parts) / 1e6


def refused(sent_ns: int, ended_ns: int, why: str) -> Answer:
    """The answer that a request got which the server refused with an HTTP error."""
    return Answer(sent_ns, ended_ns, (), None, None, {}, Fault("server_error", why))

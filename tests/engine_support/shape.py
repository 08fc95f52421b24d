"""Compares an answer with the recorded one: all of it, but for values that differ from one run to the next."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.engine_support.recording import Answer

# Compared by their type alone. "context" and the logprobs are lists of such values.
VOLATILE = {
    *("created_at", "modified_at", "expires_at", "created", "id", "digest", "size", "completed", "total"),
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
    *("response", "content", "text", "context", "logprobs"),
}
# Of no fixed value where nothing fixes the sampling.
SAMPLED = {"eval_count", "done_reason", "finish_reason", "completion_tokens", "total_tokens"}


def differences(recorded: Answer, answered: Answer, sampled: bool) -> Iterator[str]:
    """Each in words that stay the same from run to run. SAMPLED: the request leaves the choice of tokens to chance."""
    if recorded.status != answered.status:
        yield f"status: {recorded.status} became {answered.status}"
        return
    if recorded.content_type != answered.content_type:
        yield f"content type: {recorded.content_type!r} became {answered.content_type!r}"
    volatile = VOLATILE | SAMPLED if sampled else VOLATILE
    theirs, ours = ([_reduced(line, volatile) for line in answer.lines] for answer in (recorded, answered))
    # A stream has as many equal lines as time and chance give it.
    theirs, ours = ([line for line, _ in itertools.groupby(lines)] for lines in (theirs, ours))
    if len(theirs) != len(ours):
        yield f"kinds of lines: {len(theirs)} became {len(ours)}"
    for place, (their_line, our_line) in enumerate(zip(theirs, ours, strict=False)):
        yield from _compare(f"line {place}", their_line, our_line)


def _reduced(line: str, volatile: set[str]) -> Any:
    text = line.removeprefix("data: ")
    if not text.startswith("{"):
        return text
    return _typed(json.loads(text), volatile)


def _typed(value: Any, volatile: set[str]) -> Any:
    if isinstance(value, dict):
        reduced = {name: _kind(item) if name in volatile else _typed(item, volatile) for name, item in value.items()}
        if str(reduced.get("status", "")).startswith("pulling "):
            # Progress at zero bytes has no "completed".
            reduced.pop("completed", None)
            reduced["status"] = re.sub("[0-9a-f]{12}", "DIGEST", reduced["status"])
        return reduced
    if isinstance(value, list):
        return [_typed(item, volatile) for item in value]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {' or '.join(sorted({_kind(item) for item in value}))}"
    if isinstance(value, dict):
        return json.dumps({name: _kind(item) for name, item in value.items()})
    return f"a {type(value).__name__}"


def _compare(place: str, theirs: Any, ours: Any) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted({*theirs, *ours}):
            if name not in ours:
                yield f"{place}: {name} is missing"
            elif name not in theirs:
                yield f"{place}: {name} is new"
            else:
                yield from _compare(f"{place}.{name}", theirs[name], ours[name])
        if list(theirs) != list(ours) and set(theirs) == set(ours):
            yield f"{place}: another order of keys"
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from _compare(f"{place}[{number}]", *pair)
    elif theirs != ours or type(theirs) is not type(ours):
        is_short = max(len(str(theirs)), len(str(ours))) < 300
        yield f"{place}: {json.dumps(theirs)} became {json.dumps(ours)}" if is_short else f"{place}: other text"

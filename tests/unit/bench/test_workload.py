"""Workload files: what is accepted, and what a mistake is answered with."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.bench import workload
from ollama_fleet.bench.workload import Attempt
from ollama_fleet.errors import FleetError


def valid() -> dict[str, Any]:
    return {
        "purpose": "a test",
        "model": "m:1b",
        "options": {"num_ctx": 2048, "num_predict": 32, "seed": 7, "temperature": 0.5},
        "warm_up": 0,
        "runs": 2,
        "prompts": ["one", "two"],
    }


def test_smoke_is_valid_and_fits_its_context() -> None:
    smoke = workload.load("smoke")
    assert smoke.runs >= 5
    assert smoke.warm_up >= 1
    # Three letters a token is less than any tokenizer makes of English.
    assert max(len(prompt) for prompt in smoke.prompts) / 3 + smoke.num_predict < smoke.num_ctx


def test_request_begins_with_the_nonce_and_fixes_every_option() -> None:
    parsed = workload.parse(valid(), "x", "x.yml")
    assert parsed.request("other", Attempt(1, False, 1, "abc")) == {
        "model": "other",
        "prompt": "abc two",
        "raw": True,
        "options": {"num_ctx": 2048, "num_predict": 32, "seed": 7, "temperature": 0.5},
    }
    assert parsed.load_options == {"num_ctx": 2048}


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("runs", 0, "runs must be a whole number, 1 or more, not 0"),
        ("runs", True, "runs must be a whole number"),
        ("runs", "5", "runs must be a whole number"),
        ("warm_up", -1, "warm_up must be a whole number, 0 or more"),
        ("options.num_predict", 0, "num_predict must be a whole number, 2 or more"),
        ("options.num_predict", -1, "num_predict must be a whole number, 2 or more"),
        ("options.num_ctx", 3, "num_ctx must be"),
        ("options.seed", 0, "seed must be a whole number, 1 or more"),
        ("options.temperature", -0.1, "temperature must be a number"),
        ("options.temperature", "hot", "temperature must be a number"),
        ("options.num_gpu", 0, "options.num_gpu is not known here"),
        ("model", "", "model must be a text"),
        ("prompts", [], "prompts must be a list of texts"),
        ("prompts", ["a", 3], "prompts must be a list of texts"),
        ("prompt", "a", "prompt is not known here; known are model, options"),
        ("options", [], "options must be a mapping"),
        ("model", None, "model must be a text"),
    ],
)
def test_a_mistake_is_named_by_its_key(path: str, value: object, complaint: str) -> None:
    content = valid()
    *parents, last = path.split(".")
    target = content
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(FleetError) as caught:
        workload.parse(content, "x", "x.yml")
    assert complaint in caught.value.why
    assert "x.yml" in caught.value.what


@pytest.mark.parametrize("key", ["purpose", "model", "options", "warm_up", "runs", "prompts"])
def test_a_missing_key_is_named(key: str) -> None:
    content = valid()
    del content[key]
    with pytest.raises(FleetError, match=f"{key} is missing"):
        workload.parse(content, "x", "x.yml")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(valid()))
    assert workload.load(str(path)).name == "mine"


@pytest.mark.parametrize("text", ["runs: [", "- 1", ""])
def test_a_file_that_is_no_workload(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(FleetError, match=r"mine\.yml"):
        workload.load(str(path))


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(FleetError, match="smoke"):
        workload.load("smok")

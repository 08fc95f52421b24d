"""One list of models out of three: who wins, in which order, and what is wrong with it."""

from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.filter.models import unlisted_models
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.model_list import (
    in_order,
    merged,
    problems,
    wanted,
    way_of,
)

SUM = "sha256:" + "a" * 64


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in entries]


def test_the_later_list_wins_as_a_whole_and_its_model_keeps_its_place() -> None:
    fleet = [{"name": "a:1", "source": "mirror:5000/library/a:1", "insecure": True}, {"name": "b:1"}]
    group = [{"name": "registry.ollama.ai/library/A:1"}, {"name": "c:1"}]
    host = [{"name": "b:1", "state": "absent"}]
    found = merged(fleet, group, host)
    assert found == [group[0], host[0], group[1]]


def test_what_goes_is_first_and_a_base_is_before_what_is_made_of_it() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "tutor:1", "from": "chat:1", "system": "Be brief."},
        {"name": "chat:1", "alias": "llama3.2:3b"},
        {"name": "llama3.2:3b"},
        {"name": "old:1", "state": "absent"},
        {"name": "own:1", "file": "own.gguf", "checksum": SUM},
    ]
    assert names(in_order(entries)) == ["old:1", "llama3.2:3b", "chat:1", "tutor:1", "own:1"]
    assert [way_of(entry) for entry in in_order(entries)] == ["absent", "pull", "alias", "from", "file"]
    assert wanted(entries) == [{**entry, "way": way_of(entry)} for entry in in_order(entries)]


def test_what_is_pulled_and_names_no_source_comes_from_the_model_cache() -> None:
    entries = [
        {"name": "b:1"},
        {"name": "c:1", "source": "mirror.example/library/c:1"},
        {"name": "hf.co/some/d:Q4"},
        {"name": "e:1", "alias": "b:1"},
        {"name": "f:1", "state": "absent"},
    ]
    sources = {entry["name"]: entry.get("source") for entry in wanted(entries, source_host="cache1:11436")}
    assert sources == {
        "f:1": None,
        "b:1": "cache1:11436/library/b:1",
        "c:1": "mirror.example/library/c:1",
        "hf.co/some/d:Q4": "cache1:11436/some/d:Q4",
        "e:1": None,
    }


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"name": "llama3"}, "names no tag"),
        ({"name": "host:5000/ns/llama3"}, "names no tag"),
        ({"name": "a:1", "state": "absent", "source": "b:1"}, "is absent and has source"),
        ({"name": "a:1", "alias": "base:1", "from": "base:1"}, "has alias and from"),
        ({"name": "a:1", "system": "x"}, "has system and is not made"),
        ({"name": "a:1", "alias": "base:1", "parameters": {"seed": 1}}, "has parameters and is not made"),
        ({"name": "a:1", "from": "base:1"}, "changes nothing of it"),
        ({"name": "a:1", "from": "gone:1", "system": "x"}, "needs gone:1"),
        ({"name": "a:1", "alias": "old:1"}, "needs old:1"),
        ({"name": "a:1", "file": "x.gguf"}, "without the checksum"),
        ({"name": "a:1", "file": "x.gguf", "checksum": "sha512:" + "a" * 128}, "without the checksum"),
        ({"name": "a:1", "checksum": SUM}, "has a checksum and no file"),
    ],
)
def test_what_is_wrong_with_an_entry(entry: dict[str, Any], why: str) -> None:
    others = [{"name": "base:1"}, {"name": "old:1", "state": "absent"}]
    found = problems([*others, entry])
    assert [name for name, _why, _remedy in found] == [entry["name"]]
    assert why in found[0][1]
    with pytest.raises(FleetError, match=entry["name"]):
        wanted(others, [entry])


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(FleetError) as failed:
        wanted([{"name": "a"}, {"name": "b:1", "file": "x"}])
    assert "a names no tag" in failed.value.why
    assert "b:1 has a file" in failed.value.why


def test_a_circle_is_named() -> None:
    entries = [{"name": "a:1", "alias": "b:1"}, {"name": "b:1", "from": "a:1", "system": "x"}]
    [(name, why, _remedy)] = problems(entries)
    assert name == "a:1"
    assert "a:1, b:1" in why


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a:1"},
        {"name": "a:1", "state": "present", "source": "m:5000/x/a:1", "insecure": True},
        {"name": "a:1", "alias": "base:1"},
        {"name": "a:1", "from": "base:1", "parameters": {"temperature": 0}},
        {"name": "a:1", "file": "x.gguf", "checksum": SUM, "system": "x", "template": "{{ .Prompt }}"},
    ],
)
def test_what_is_right(entry: dict[str, Any]) -> None:
    assert problems([{"name": "base:1"}, entry]) == []


def test_what_no_entry_names_is_unlisted() -> None:
    entries = wanted(
        [
            {"name": "a:1"},
            {"name": "old:1", "state": "absent"},
            {"name": "chat:1", "alias": "registry.ollama.ai/library/a:1"},
        ]
    )
    assert unlisted_models(["x:2", "A:1", "chat:1", "old:1", "b:1"], entries) == ["b:1", "old:1", "x:2"]

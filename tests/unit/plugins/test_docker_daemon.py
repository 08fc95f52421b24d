import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.ollama_fleet.stack.plugins.filter.docker_daemon import docker_daemon_json

GPU = {"features": {"cdi": True}, "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}


def options(text: str, wanted: dict[str, Any], previous: dict[str, Any] | None = None) -> Any:
    result = docker_daemon_json(text, wanted, previous)
    return json.loads(result) if result else None


@pytest.mark.parametrize(
    ("current", "wanted", "previous", "expected"),
    [
        ({}, {"debug": True}, {}, {"debug": True}),
        ({"log-driver": "journald"}, GPU, {}, {"log-driver": "journald", **GPU}),
        ({"log-driver": "journald"}, {"log-driver": "local"}, {}, {"log-driver": "local"}),
        # What nvidia-ctk writes stays beside what another runtime needs.
        (
            {"runtimes": {"kata": {"path": "kata"}}},
            GPU,
            {},
            {"runtimes": {"kata": {"path": "kata"}, **GPU["runtimes"]}, "features": {"cdi": True}},
        ),
        # Lists are extended, not replaced.
        (
            {"insecure-registries": ["theirs:5000"]},
            {"insecure-registries": ["ours:5000"]},
            {},
            {"insecure-registries": ["theirs:5000", "ours:5000"]},
        ),
        # What we set before and no longer want goes; what others set stays.
        ({"debug": True, "bip": "10.1.0.1/24"}, {}, {"debug": True}, {"bip": "10.1.0.1/24"}),
        (
            {"insecure-registries": ["theirs:5000", "ours:5000"]},
            {},
            {"insecure-registries": ["ours:5000"]},
            {"insecure-registries": ["theirs:5000"]},
        ),
        (
            {"runtimes": {"kata": {"path": "kata"}, **GPU["runtimes"]}, "features": {"cdi": True}},
            {},
            GPU,
            {"runtimes": {"kata": {"path": "kata"}}},
        ),
        # Somebody else changed what we set: it is theirs now.
        ({"debug": False}, {}, {"debug": True}, {"debug": False}),
    ],
)
def test_merge(current: Any, wanted: Any, previous: Any, expected: Any) -> None:
    assert options(json.dumps(current), wanted, previous) == expected


def test_second_merge_changes_nothing() -> None:
    text = docker_daemon_json('{"bip": "10.1.0.1/24"}', GPU)
    assert docker_daemon_json(text, GPU, GPU) == text


def test_file_that_says_the_same_in_other_words_is_left_alone() -> None:
    text = '{ "debug" :true }'
    assert docker_daemon_json(text, {"debug": True}) == text


@pytest.mark.parametrize("text", ["", "\n", "{}"])
def test_nothing_to_say_writes_nothing_new(text: str) -> None:
    assert docker_daemon_json(text, {}) == text


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_broken_file_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"(?i)repair it, or move it away"):
        docker_daemon_json(text, {"debug": True})

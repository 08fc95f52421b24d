"""The lab's memory: whole, versioned, and clear about what it cannot read."""

import json

import pytest

from lab.state import OwnEngine, State, write_if_changed
from ollama_fleet.errors import FleetError


def test_no_file_is_a_lab_that_was_never_up(tmp_path) -> None:
    assert State.load(tmp_path / "state.json") == State()


def test_what_is_saved_comes_back(tmp_path) -> None:
    state = State(
        docker_host="unix:///run/x/docker.sock",
        own_engine=OwnEngine("0", "ACCEPT", ["/etc/docker"]),
        subnet="10.213.0.0/24",
        engine="stand-in",
        pushed={"lab/open-webui:123": "registry.lab:5000/ollama-fleet/open-webui@sha256:1"},
    )
    state.save(tmp_path / "new/state.json")
    assert State.load(tmp_path / "new/state.json") == state
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", json.dumps({"version": 2}), json.dumps({"version": 1, "colour": "red"})],
    ids=["empty", "list", "broken", "newer", "unknown field"],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(FleetError, match=r"state\.json") as raised:
        State.load(path)
    assert "lab.down" in raised.value.remedy


def test_a_file_is_written_only_when_it_differs(tmp_path) -> None:
    path = tmp_path / "secret"
    assert write_if_changed(path, "one", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_mtime_ns
    assert not write_if_changed(path, "one", 0o600)
    assert path.stat().st_mtime_ns == before
    assert write_if_changed(path, "two", 0o600)
    assert path.read_text() == "two"

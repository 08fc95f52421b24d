"""Models that a server makes: other names, prompts of their own, files; each in the rhythm check, run, check, run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_made_model import Work

from tests.serving_support.model_maker import ModelMaker, digest_of

WAYS: dict[str, dict[str, Any]] = {
    "alias": {"alias": "base:1"},
    "system": {"from": "base:1", "system": "You ask back.\n"},
    "parameters": {"from": "base:1", "parameters": {"temperature": 0, "num_ctx": 4096, "stop": ["a b", '"quoted"']}},
    "template": {"from": "base:1", "template": "{{ .System }} {{ .Prompt }}"},
    "file": {"checksum": digest_of(b"weights"), "system": "x", "parameters": {"temperature": 0.7}},
}


@pytest.fixture
def server() -> Iterator[ModelMaker]:
    with ModelMaker() as maker:
        maker.add("base:1", system="Old prompt.", parameters={"stop": ["<|end|>"], "seed": 1})
        yield maker


def run(server: ModelMaker, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["alias", "from", "checksum", "path", "system", "template", "parameters"])
    return Work({**nothing, "name": "made:1", "base_url": server.url, **params}, check_mode).do()


def changes(server: ModelMaker) -> list[str]:
    return [asked for asked in server.asked if asked.split("/")[-1] in ("create", "copy") or "POST /api/blobs" in asked]


@pytest.mark.parametrize("way", WAYS)
def test_check_run_check_run(server: ModelMaker, way: str) -> None:
    params = WAYS[way]
    assert run(server, check_mode=True, **params)["changed"]
    assert changes(server) == []
    first = run(server, **params)
    assert (first["changed"], first["needs_file"]) == (True, False)
    assert first["digest"]
    assert not run(server, check_mode=True, **params)["changed"]
    second = run(server, **params)
    assert (second["changed"], second["digest"]) == (False, first["digest"])
    assert len(changes(server)) == (2 if way == "file" else 1)
    assert sorted(server.models) == ["base:1", "made:1"]


def test_what_is_not_given_stays_as_it_is_in_the_base(server: ModelMaker) -> None:
    run(server, **WAYS["parameters"])
    made = server.models["made:1"]
    assert made["system"] == "Old prompt."
    assert made["parameters"]["seed"] == 1
    assert made["parameters"]["stop"] == ["a b", '"quoted"']


@pytest.mark.parametrize("change", [{"system": "Other."}, {"parameters": {"seed": 2}}, {"template": "{{ .Prompt }}!"}])
def test_what_differs_is_made_anew(server: ModelMaker, change: dict[str, Any]) -> None:
    run(server, **WAYS["system"])
    result = run(server, **{"from": "base:1", "system": "You ask back.\n", **change})
    assert result["changed"]
    assert result["diff"]["before"] != result["diff"]["after"]
    assert not run(server, **{"from": "base:1", "system": "You ask back.\n", **change})["changed"]


def test_a_base_that_changed_brings_its_weights(server: ModelMaker) -> None:
    run(server, **WAYS["alias"])
    run(server, name="tutor:1", **WAYS["system"])
    server.add("base:1", b"newer weights")
    assert run(server, **WAYS["alias"])["changed"]
    assert run(server, name="tutor:1", **WAYS["system"])["changed"]
    assert server.models["tutor:1"]["weights"] == server.models["made:1"]["weights"] == digest_of(b"newer weights")


def test_a_file_is_asked_for_only_where_the_server_lacks_it(server: ModelMaker, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"own weights")
    checksum = digest_of(b"own weights")
    waits = run(server, checksum=checksum)
    assert (waits["changed"], waits["needs_file"], changes(server)) == (True, True, [])
    done = run(server, checksum=checksum, path=str(path))
    assert (done["changed"], done["needs_file"]) == (True, False)
    assert server.models["made:1"]["weights"] == checksum
    again = run(server, checksum=checksum)
    assert (again["changed"], again["needs_file"]) == (False, False)


def test_a_file_is_known_where_the_server_wrote_it_anew(server: ModelMaker) -> None:
    server.copies = True
    run(server, **WAYS["file"])
    assert server.models["made:1"]["weights"] != WAYS["file"]["checksum"]
    server.blobs.clear()
    assert not run(server, **WAYS["file"])["changed"]
    other = {**WAYS["file"], "checksum": digest_of(b"other weights")}
    assert run(server, check_mode=True, **other)["changed"]
    assert run(server, name="tutor:1", **{"from": "made:1"}, system="x")["changed"]
    assert not run(server, name="tutor:1", **{"from": "made:1"}, system="x")["changed"]


def test_stops_of_a_file_that_was_not_asked_for_are_the_servers_choice(server: ModelMaker) -> None:
    run(server, **WAYS["file"])
    assert "stop" in server.models["made:1"]["parameters"]
    asked = {**WAYS["file"], "parameters": {"temperature": 0.7, "stop": ["x"]}}
    assert run(server, **asked)["changed"]
    assert not run(server, **asked)["changed"]


def test_what_a_killed_run_left_is_taken_away(server: ModelMaker) -> None:
    run(server, **WAYS["file"])
    file = WAYS["file"]["checksum"].replace(":", "-") + ":gguf"
    server.add(file)
    assert run(server, check_mode=True, **WAYS["file"])["actions"] == [f"delete {file}"]
    assert run(server, **WAYS["file"])["actions"] == [f"delete {file}"]
    assert sorted(server.models) == ["base:1", "made:1"]
    assert not run(server, **WAYS["file"])["changed"]


def test_another_file_than_was_said_is_refused(server: ModelMaker, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"something else")
    with pytest.raises(FleetError, match=r"HTTP 400.*sha256sum"):
        run(server, checksum=digest_of(b"own weights"), path=str(path))
    assert "made:1" not in server.models


def test_a_base_that_is_not_there_is_named(server: ModelMaker) -> None:
    with pytest.raises(FleetError, match="the server has no gone:1"):
        run(server, alias="gone:1")
    assert run(server, check_mode=True, alias="gone:1")["changed"]


@pytest.mark.parametrize("way", ["alias", "system", "file"])
def test_a_server_that_says_yes_and_does_nothing_is_found_out(server: ModelMaker, way: str) -> None:
    server.lies = True
    with pytest.raises(FleetError, match="shows something else"):
        run(server, **WAYS[way])


@pytest.mark.parametrize("way", ["alias", "system", "file"])
def test_a_server_that_is_not_there(server: ModelMaker, way: str) -> None:
    closed = {"base_url": "http://127.0.0.1:9", **WAYS[way]}
    assert run(server, check_mode=True, **closed)["changed"]
    with pytest.raises(FleetError, match="does not answer"):
        run(server, **closed)

"""Modules and clients against what real servers of both versions sent: what differs between them is handled the same.

What is not recorded cannot be played: a made model shown after it was made (ollama_made_model with from or checksum
ends with that), its making from a file without a stream, the weights of a model in a registry, and a load by
/api/generate without a stream. These are tested against doubles and the stand-in engine.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.filter.models import unlisted_models
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.observe import Host
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    ModelName,
    OllamaServer,
    fetch_manifest,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_create import create, has_blob, send_blob, show
from ansible_collections.ollama_fleet.stack.plugins.modules import model_needs, ollama_model
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_made_model import Work
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_model_again import pull_again

from ollama_fleet.ollama import ApiError, Client
from tests.engine_support.replay_double import VERSIONS, Case, ReplayDouble, case

NAME = "gemma3:270m"
LONG = f"localhost:5005/library/{NAME}"
WEIGHTS = "sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
NOWHERE = "sha256:" + "0" * 64
# What the two versions wrote around the same weights.
SIZES = {"v0.24.0": 253113294, "v0.32.15": 253113180}

Play = Callable[..., ReplayDouble]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def play(version: str) -> Iterator[Play]:
    """Plays a tape, and sees at the end that it was played to its end."""
    with ExitStack() as stack:
        doubles: list[ReplayDouble] = []

        def start(*tape: str) -> ReplayDouble:
            doubles.append(stack.enter_context(ReplayDouble(version, *tape)))
            return doubles[-1]

        yield start
        for double in doubles:
            assert double.unrecorded == []
            assert double.is_through


def listed(recorded: Case) -> list[dict[str, Any]]:
    """The models of a recorded list."""
    models: list[dict[str, Any]] = json.loads(recorded.body)["models"]
    return models


def have(double: ReplayDouble, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["source", "source_host", "layers", "ca_file", "models_dir", "progress_file"])
    rest = {"name": NAME, "state": "present", "insecure": True, "stall_timeout": 20, "disk_reserve": 0}
    return ollama_model.ensure({**nothing, **rest, "base_url": double.url, **params}, check_mode)


def make(double: ReplayDouble, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["alias", "from", "checksum", "path", "system", "template", "parameters"])
    return Work({**nothing, "base_url": double.url, **params}, check_mode).do()


def test_the_double_plays_what_is_recorded_in_its_order_and_nothing_else(version: str) -> None:
    with ReplayDouble(version, "116-tags-strange-host", "117-copy", "120-tags-after-copy") as double:
        server = OllamaServer(double.url)
        for _ in range(2):
            assert server.model(ModelName.parse("copied:1")) is None
        assert not double.is_through
        with pytest.raises(FleetError, match="this was not recorded"):
            server.copy(ModelName.parse(NAME), ModelName.parse("another:1"))
        server.copy(ModelName.parse(NAME), ModelName.parse("copied:1"))
        assert server.model(ModelName.parse("copied:1"))
        with pytest.raises(FleetError, match="this was not recorded"):
            server.copy(ModelName.parse(NAME), ModelName.parse("copied:1"))
        assert double.played == ["116-tags-strange-host"] * 2 + ["117-copy", "120-tags-after-copy"]
        assert len(double.unrecorded) == 2
        assert not double.is_through


PULLED = (
    "registry/018-reg-copy-to-short",
    "registry/019-reg-delete-long",
    "registry/021-reg-tags-after-copy",
    "025-show",
)


# ---------------------------------------------------------------- models that are pulled


def test_a_model_is_pulled_and_gets_its_short_name(play: Play, version: str) -> None:
    double = play("registry/025-reg-tags-during-partial", "registry/011-reg-pull-stream-1st", *PULLED)
    result = have(double, source=LONG)
    assert result["actions"] == [f"pull {LONG}", f"copy to {NAME}", f"delete {LONG}"]
    [entry] = listed(case(version, "registry/021-reg-tags-after-copy"))
    told = {key: result[key] for key in ("changed", "name", "size", "digest", "layer_digest")}
    assert told == {
        **{"changed": True, "name": NAME, "size": SIZES[version]},
        **{"digest": entry["digest"], "layer_digest": WEIGHTS},
    }


def test_a_model_that_is_there_is_left_alone(play: Play) -> None:
    assert not have(play("registry/021-reg-tags-after-copy", "025-show"), source=LONG)["changed"]


def test_a_model_is_held_to_the_weights_that_its_server_shows(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens where the recorded registry was, and nothing shall be asked there.
    monkeypatch.setattr(ollama_model, "fetch_manifest", lambda *_, **__: None)
    pulled = (
        "registry/025-reg-tags-during-partial",
        "registry/011-reg-pull-stream-1st",
        "registry/015-reg-show-after-pull",
    )
    assert have(play(*pulled, *PULLED), source=LONG, layers=[WEIGHTS])["changed"]
    with pytest.raises(FleetError, match=f"its layers differ in {WEIGHTS}"):
        have(play(*pulled, "registry/019-reg-delete-long"), source=LONG, layers=[NOWHERE])


def test_a_pull_that_was_cut_goes_on_in_the_next_run(play: Play) -> None:
    empty = "registry/025-reg-tags-during-partial"
    cut, resumed = "registry/024-reg-pull-interrupted-by-client", "registry/026-reg-pull-resume-after-client"
    double = play(empty, cut, empty, resumed, *PULLED)
    with pytest.raises(FleetError, match=r"cut off at 60\.\d MB of 253\.1 MB") as failed:
        have(double, source=LONG)
    assert "goes on from there" in failed.value.remedy
    assert have(double, source=LONG)["changed"]


def test_a_pull_whose_count_goes_backwards_ends_well(play: Play, version: str) -> None:
    stalled = "registry/027-reg-pull-network-cut-8s"
    counts = [int(count) for count in re.findall(rb'"completed":(\d+)', case(version, stalled).answer)]
    assert counts != sorted(counts)
    assert have(play("registry/025-reg-tags-during-partial", stalled, *PULLED), source=LONG)["changed"]


@pytest.mark.parametrize(
    ("recorded", "name"),
    [
        ("registry/012-reg-pull-stream-2nd", LONG),
        ("registry/023-reg-pull-blobs-present", LONG),
        ("registry/029-reg-pull-resume-after-cut", LONG),
        ("registry/036-static-pull", f"localhost:5010/library/{NAME}"),
        ("registry/037-static-pull-2nd", f"localhost:5010/library/{NAME}"),
        ("registry/044-reg-pull-after-sigterm", LONG),
    ],
)
def test_every_recorded_success_is_one(play: Play, recorded: str, name: str) -> None:
    states: list[dict[str, Any]] = []
    OllamaServer(play(recorded).url).pull(ModelName.parse(name), True, 20, tell=states.append)
    assert states[-1]["status"] == "success"
    assert states[-1]["completed"] <= states[-1]["total"]


def test_a_model_that_is_pulled_again_is_the_same(play: Play) -> None:
    tags = "registry/014-reg-tags-after-pull"
    double = play(tags, "registry/012-reg-pull-stream-2nd", tags)
    params = {"name": LONG, "source": None, "insecure": True, "base_url": double.url, "stall_timeout": 20}
    assert not pull_again(params, False)["changed"]


@pytest.mark.parametrize(
    ("recorded", "name", "words", "remedy"),
    [
        ("010-pull-nonexistent-stream", "no-such-model-xyz:1b", "network is unreachable", "run again"),
        ("019-pull-refused-stream", "localhost:5999/library/x:y", "connection refused", "start the registry"),
        ("registry/006-reg-pull-unknown-tag-stream", "localhost:5005/library/gemma3:nope", "not exist", "spelling"),
        ("registry/009-reg-PLAIN-pull-fails", f"localhost:5004/library/{NAME}", "no Location header", "no source"),
    ],
)
def test_an_error_line_after_status_200_is_named(play: Play, recorded: str, name: str, words: str, remedy: str) -> None:
    double = play("registry/025-reg-tags-during-partial", recorded)
    assert double.tape[1].answer.startswith(b"HTTP/1.1 200 OK")
    with pytest.raises(FleetError, match=words) as failed:
        have(double, name=name, insecure=name.startswith("localhost"))
    assert remedy in failed.value.remedy


def test_a_model_goes_and_the_other_name_of_its_layers_stays(play: Play) -> None:
    double = play(
        *("registry/004-reg-tags-before-rm", "registry/015-reg-show-after-pull"),
        *("registry/019-reg-delete-long", "registry/021-reg-tags-after-copy"),
    )
    assert have(double, name=LONG, state="absent")["actions"] == [f"delete {LONG}"]
    assert not have(double, name=LONG, state="absent")["changed"]


def test_a_model_that_is_gone_already_is_named(play: Play) -> None:
    with pytest.raises(FleetError, match=r"model 'copied:1' not found \(HTTP 404\)"):
        OllamaServer(play("122-delete-again").url).delete("copied:1")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "text", ["gemma3:270m", "GEMMA3:270M", "library/gemma3:270m", f"registry.ollama.ai/library/{NAME}"]
)
def test_a_name_is_found_however_it_is_written(play: Play, text: str) -> None:
    entry = OllamaServer(play("120-tags-after-copy").url).model(ModelName.parse(text))
    assert entry
    assert entry["name"] == NAME


def test_a_name_of_a_registry_is_not_the_short_one(play: Play) -> None:
    server = OllamaServer(play("registry/014-reg-tags-after-pull").url)
    assert server.model(ModelName.parse(NAME)) is None
    assert server.model(ModelName.parse(LONG)) is not None


def test_models_that_nobody_listed_are_told_apart(version: str) -> None:
    there = [entry["name"] for entry in listed(case(version, "120-tags-after-copy"))]
    wanted = [
        {"name": "gemma3:270m"},
        {"name": "made:1", "alias": "gemma3:270m"},
        {"name": "made:2", "state": "absent"},
    ]
    assert unlisted_models(there, wanted) == ["copied:1", "made:2"]


# ---------------------------------------------------------------- models that are made


def test_another_name_for_a_model(play: Play) -> None:
    double = play("116-tags-strange-host", "117-copy", "120-tags-after-copy")
    assert make(double, check_mode=True, name="copied:1", alias=NAME)["changed"]
    first = make(double, name="copied:1", alias=NAME)
    assert (first["changed"], first["actions"]) == (True, [f"copy {NAME} to copied:1"])
    second = make(double, name="copied:1", alias=NAME)
    assert (second["changed"], second["digest"]) == (False, first["digest"])


def test_another_name_for_what_is_not_there(play: Play) -> None:
    server = OllamaServer(play("118-copy-unknown").url)
    with pytest.raises(FleetError, match=r'model "nope.*" not found'):
        server.copy(ModelName.parse("nope"), ModelName.parse("copied:2"))


BRIEF = {"name": "made:2", "from": NAME, "system": "Be brief.", "parameters": {"temperature": 0}}


def test_a_model_of_another_is_looked_at_and_made(play: Play) -> None:
    double = play("020-tags", "025-show", "035-create-api-from-nostream")
    assert make(double, check_mode=True, **BRIEF)["actions"] == ["make made:2"]
    server = OllamaServer(double.url)
    base = show(server, NAME)
    assert (base.weights, base.system, base.template, base.parameters) == (WEIGHTS, "", "{{ .Prompt }}", {})
    create(server, ModelName.parse("made:2"), {"checksum": None, "template": None, **BRIEF})


def test_a_base_that_no_registry_gives_is_named(play: Play) -> None:
    server = OllamaServer(play("036-create-from-unknown").url)
    nothing = dict.fromkeys(["checksum", "system", "template", "parameters"])
    with pytest.raises(FleetError, match=r"pull model manifest: .*network is unreachable \(HTTP 500\)"):
        create(server, ModelName.parse("made:3"), {**nothing, "from": "nope"})


def test_a_file_that_the_server_lacks_is_named(play: Play) -> None:
    double = play("037-create-missing-blob")
    with pytest.raises(FleetError, match=r"no such file or directory \(HTTP 500\)"):
        OllamaServer(double.url).call("POST", "/api/create", json.loads(double.tape[0].request))


def test_files_that_are_there_and_are_not(play: Play) -> None:
    server = OllamaServer(play("030-blob-head-exists", "031-blob-head-missing", "033-blob-head-bad").url)
    assert [has_blob(server, digest) for digest in (WEIGHTS, NOWHERE, "notadigest")] == [True, False, False]


def test_a_file_of_another_digest_is_refused(play: Play, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"hello")
    with pytest.raises(FleetError, match=r"does not take it \(HTTP 400\)"):
        send_blob(OllamaServer(play("032-blob-post-wrongdigest").url), NOWHERE, str(path))


# ---------------------------------------------------------------- registries, observation, benchmark


def test_a_registrys_manifest_is_read(play: Play, version: str, tmp_path: Path) -> None:
    double = play("registry/registry-manifest")
    name = f"127.0.0.1:{double.port}/library/{NAME}"
    manifest = fetch_manifest(ModelName.parse(name), insecure=True)
    assert manifest
    assert (manifest.size, manifest.differences([WEIGHTS])) == (SIZES[version], [])


def test_the_need_of_a_model_whose_weights_cannot_be_read_is_not_guessed(version: str, tmp_path: Path) -> None:
    # The manifest is all that was recorded of the registry: its weights are not.
    with ReplayDouble(version, "registry/registry-manifest") as double:
        asked = {"name": NAME, "source": f"127.0.0.1:{double.port}/library/{NAME}", "insecure": True}
        params = {"models_dir": str(tmp_path), "registry": "missing", "tensors": False, "ca_file": None, "timeout": 5}
        [found] = model_needs.look({**params, "models": [asked]})["models"]
        assert [path for _, path, _ in double.unrecorded] == [f"/v2/library/gemma3/blobs/{WEIGHTS}"]
    assert (found["origin"], found["missing"][WEIGHTS], sum(found["missing"].values())) == (
        *("registry", 253113024),
        SIZES[version],
    )
    assert found["pairs"] is None
    assert "HTTP 501" in found["why"]


def test_a_server_is_observed(play: Play, version: str) -> None:
    double = play("003-version", "120-tags-after-copy")
    seen = Host(ollama_url=double.url).ollama
    assert (seen["reachable"], seen["version"]) == (True, version.removeprefix("v"))
    assert [model["name"] for model in seen["models"]] == ["copied:1", "made:1", "made:2", NAME]
    assert {*map(frozenset, seen["models"])} == {frozenset({"name", "digest", "size"})}


def test_the_benchmarks_client_reads_both(play: Play, version: str) -> None:
    double = play("003-version", "020-tags", "025-show", "039-ps-loaded", "040-gen-stream-1st")
    with Client(double.url, "gpu-1") as client:
        assert client.version() == version.removeprefix("v")
        [entry] = client.tags()
        assert (entry["name"], entry["size"]) == (NAME, SIZES[version])
        assert client.show(NAME)["model_info"]["gemma3.block_count"] == 18
        [loaded] = client.ps()
        assert (loaded["name"], loaded["size_vram"], loaded["context_length"]) == (NAME, 0, 4096)
        answer = client.generate(json.loads(double.tape[-1].request))
    assert answer.fault is None
    assert (answer.counters.prompt_tokens, answer.counters.output_tokens) == (11, 16)


def test_an_unknown_model_is_named_to_the_benchmark(play: Play) -> None:
    double = play("060-gen-unknown-model-stream")
    with Client(double.url, "gpu-1") as client, pytest.raises(ApiError, match="model 'nope' not found") as failed:
        client.generate({"model": "nope", "prompt": "x"})
    assert failed.value.status == 404

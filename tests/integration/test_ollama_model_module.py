"""The ollama_model module against a real HTTP server with scripted pulls, alone and under ansible-playbook."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_model import check_what_came, ensure

from tests.engine_support.certificates import Authority
from tests.engine_support.engine import EngineProcess, models
from tests.engine_support.origin import Origin
from tests.serving_support.ollama_double import LAYER, OllamaDouble, Send, digest_of, progress, succeed
from tests.serving_support.registry_double import RegistryDouble
from tests.serving_support.registry_tree import add_model

ROOT = Path(__file__).resolve().parents[2]
NAME = "smollm2:135m"
SOURCE = "models.lab:5001/library/smollm2:135m"


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        yield double


def run(server: OllamaDouble, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    """Run the module's work with its defaults and these parameters."""
    defaults = {
        "name": NAME,
        "state": "present",
        "source": None,
        "insecure": False,
        "base_url": server.url,
        "stall_timeout": 20,
        "models_dir": None,
        "disk_reserve": 0,
        "source_host": None,
        "layers": None,
        "ca_file": None,
        "progress_file": None,
    }
    return ensure({**defaults, **params}, check_mode)


def failure(server: OllamaDouble, **params: Any) -> FleetError:
    with pytest.raises(FleetError) as failed:
        run(server, **params)
    return failed.value


def calls(server: OllamaDouble) -> list[str]:
    """What the server was asked to change."""
    return [f"{method} {path}" for method, path, _body in server.requests if method != "GET" and path != "/api/show"]


# ---------------------------------------------------------------- the rhythm: check, run, check, run


def test_present_pulls_once(server: OllamaDouble) -> None:
    first_check = run(server, check_mode=True)
    assert (first_check["changed"], calls(server)) == (True, [])
    first = run(server)
    assert first["changed"]
    assert first["actions"] == [f"pull {NAME}"]
    assert first["digest"] == digest_of("manifest " + NAME)
    assert first["layer_digest"] == f"sha256:{digest_of(NAME)}"
    assert first["size"] == LAYER + 156
    assert first["diff"]["before"] == "state: absent\n"
    assert f"digest: {first['digest']}" in first["diff"]["after"]
    assert not run(server, check_mode=True)["changed"]
    second = run(server)
    assert (second["changed"], second["digest"]) == (False, first["digest"])
    assert calls(server) == ["POST /api/pull"]


def test_absent_deletes_once(server: OllamaDouble) -> None:
    server.add(NAME)
    assert run(server, state="absent", check_mode=True)["changed"]
    assert NAME in server.models
    assert run(server, state="absent")["actions"] == [f"delete {NAME}"]
    assert server.models == {}
    assert not run(server, state="absent")["changed"]


def test_name_without_tag_and_in_capitals_is_the_same_model(server: OllamaDouble) -> None:
    server.add("smollm2:latest")
    assert not run(server, name="SmolLM2")["changed"]


def test_source_is_copied_to_the_name_and_deleted(server: OllamaDouble) -> None:
    result = run(server, source=SOURCE, insecure=True)
    assert result["actions"] == [f"pull {SOURCE}", f"copy to {NAME}", f"delete {SOURCE}"]
    assert list(server.models) == [NAME]
    pulls = [body for _method, path, body in server.requests if path == "/api/pull"]
    assert pulls == [{"model": SOURCE, "insecure": True, "stream": True}]
    assert not run(server, source=SOURCE, insecure=True)["changed"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([SOURCE], [f"copy to {NAME}", f"delete {SOURCE}"]),
        ([SOURCE, NAME], [f"delete {SOURCE}"]),
        ([NAME], []),
    ],
)
def test_run_that_stopped_half_way_is_finished(server: OllamaDouble, there: list[str], expected: list[str]) -> None:
    for name in there:
        server.add(name)
    assert run(server, source=SOURCE)["actions"] == expected
    assert list(server.models) == [NAME]


def test_source_host_is_asked_for_the_same_model(server: OllamaDouble) -> None:
    result = run(server, name="hf.co/some/model:Q4", source_host="cache1:11436")
    assert result["actions"][0] == "pull cache1:11436/some/model:Q4"
    assert list(server.models) == ["hf.co/some/model:Q4"]
    assert run(server, source=SOURCE, source_host="cache1:11436")["actions"][0] == f"pull {SOURCE}"


def test_run_whose_controller_was_killed_may_come_first(server: OllamaDouble) -> None:
    def other_run_comes_first(double: OllamaDouble, name: str, send: Send) -> str:
        succeed(double, name, send)
        double.add(NAME)
        return "the source is deleted already"

    server.scripts.append(other_run_comes_first)
    assert run(server, source=SOURCE)["changed"]
    assert list(server.models) == [NAME]


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("check_mode", [True, False])
def test_source_with_other_layers_is_refused_before_a_byte_moves(server: OllamaDouble, check_mode: bool) -> None:
    with RegistryDouble({"library/smollm2/manifests/135m": {"sha256:c": 10, "sha256:b": 1000}}) as registry:
        source = f"{registry.address}/library/smollm2:135m"
        problem = failure(server, source=source, insecure=True, layers=["sha256:a"], check_mode=check_mode)
        assert "its layers differ in sha256:a, sha256:b" in problem.why
        assert registry.address in problem.remedy
        assert calls(server) == []
        # The config is written anew by who packs a model: it is no difference.
        assert run(server, source=source, insecure=True, layers=["sha256:b"], check_mode=True)["changed"]


def test_source_with_a_certificate_of_our_own_authority_is_asked(server: OllamaDouble, tmp_path: Path) -> None:
    add_model(tmp_path, NAME, b"weights")
    authority = Authority(tmp_path, "fleet")
    context = authority.server_context("localhost")
    origin = Origin(tmp_path).start(lambda wire: context.wrap_socket(wire, server_side=True))
    try:
        asked = {"source_host": f"localhost:{origin.port}", "layers": ["sha256:a"], "check_mode": True}
        assert "its layers differ" in failure(server, **asked, ca_file=str(authority.certificate)).why
        assert run(server, **asked)["changed"], "nobody can tell without the authority"
    finally:
        origin.stop()


def test_other_weights_than_wanted_do_not_stay(server: OllamaDouble) -> None:
    weights = f"sha256:{digest_of(NAME)}"
    nobody = f"127.0.0.1:{free_port()}/library/{NAME}"
    assert weights in failure(server, source=nobody, insecure=True, layers=["sha256:a"]).why
    assert server.models == {}
    assert run(server, source=nobody, insecure=True, layers=["sha256:a", weights])["changed"]


def test_other_layers_in_the_store_than_wanted_do_not_stay(server: OllamaDouble, tmp_path: Path) -> None:
    manifest = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "smollm2" / "135m"
    manifest.parent.mkdir(parents=True)
    blobs = {"config": {"digest": "sha256:c", "size": 1}, "layers": [{"digest": "sha256:x", "size": 2}]}
    manifest.write_text(json.dumps(blobs))
    came = ModelName.parse(NAME), {"layers": ["sha256:a"], "models_dir": str(tmp_path)}
    with pytest.raises(FleetError, match="sha256:a, sha256:x"):
        check_what_came(OllamaServer(server.url), *came)


# ---------------------------------------------------------------- pulls that fail


def test_error_line_after_http_200_is_a_failure(server: OllamaDouble) -> None:
    def refuse(_double: OllamaDouble, _name: str, send: Send) -> str:
        send({"status": "pulling manifest"})
        send({"error": "pull model manifest: file does not exist"})
        return "failed"

    server.scripts.append(refuse)
    problem = failure(server)
    assert "pull model manifest: file does not exist" in problem.why
    assert "spelling" in problem.remedy
    assert server.models == {}


def test_cut_stream_is_a_failure_and_the_next_run_goes_on(server: OllamaDouble) -> None:
    def cut(double: OllamaDouble, name: str, send: Send) -> str:
        send(progress(name, LAYER * 6 // 10))
        double.partial[name] = LAYER * 6 // 10
        return "cut"

    server.scripts.append(cut)
    problem = failure(server)
    assert "was cut off at 151.9 MB of 253.1 MB" in problem.why
    assert "goes on from there" in problem.remedy
    assert run(server)["changed"]


def test_end_without_success_is_a_failure(server: OllamaDouble) -> None:
    def give_up(_double: OllamaDouble, name: str, send: Send) -> str:
        send(progress(name, LAYER))
        return "over"

    server.scripts.append(give_up)
    assert "cut off" in failure(server).why


def test_completed_may_go_backwards(server: OllamaDouble) -> None:
    def backwards(double: OllamaDouble, name: str, send: Send) -> str:
        for completed in (LAYER // 2, LAYER * 3 // 4, LAYER // 100):
            send(progress(name, completed))
        return succeed(double, name, send)

    server.scripts.append(backwards)
    assert run(server)["changed"]


def test_silence_is_a_stall_and_the_server_is_hung_up_on(server: OllamaDouble) -> None:
    def go_silent(_double: OllamaDouble, name: str, send: Send) -> str:
        send(progress(name, LAYER // 3))
        time.sleep(4)
        for _ in range(50):
            send(progress(name, LAYER // 3))
            time.sleep(0.01)
        return "over"

    server.scripts.append(go_silent)
    started = time.monotonic()
    problem = failure(server, stall_timeout=1)
    assert time.monotonic() - started < 3.9
    assert "nothing moved for 1 s at 84.4 MB of 253.1 MB" in problem.why
    deadline = time.monotonic() + 20
    while ("CLIENT", "hung up", None) not in server.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ("CLIENT", "hung up", None) in server.requests


def test_lines_that_say_nothing_new_are_a_stall(server: OllamaDouble) -> None:
    def repeat(_double: OllamaDouble, name: str, send: Send) -> str:
        while True:
            send(progress(name, LAYER // 3))
            time.sleep(0.05)

    server.scripts.append(repeat)
    assert "nothing moved for 1 s at 84.4 MB" in failure(server, stall_timeout=1).why


def test_success_that_the_list_does_not_know_is_a_failure(server: OllamaDouble) -> None:
    server.forgets_pulled_models = True
    problem = failure(server)
    assert problem.what == f"Model {NAME} is not present"
    assert "another client" in problem.remedy


def test_answer_of_something_else_is_named(server: OllamaDouble) -> None:
    server.scripts.append(lambda _double, _name, send: [send(["not", "a", "line"])] and "over")  # type: ignore[arg-type]
    assert "not Ollama's" in failure(server).why


# ---------------------------------------------------------------- bad input, no server, no room


@pytest.mark.parametrize("params", [{"name": "bad name!!/../x"}, {"source": "http://models.lab/x/y:z"}])
def test_bad_name_is_refused_before_the_server_hears_of_it(server: OllamaDouble, params: dict[str, str]) -> None:
    assert "is no model name" in failure(server, **params).what
    assert server.requests == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_server_is_named(server: OllamaDouble) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    problem = failure(server, base_url=nobody)
    assert problem.what == f"Ollama at {nobody} does not answer"
    assert "docker" in problem.remedy


def test_no_server_yet_is_a_change_in_check_mode(server: OllamaDouble) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    result = run(server, base_url=nobody, check_mode=True)
    assert result["changed"]
    assert "does not answer" in result["msg"]
    assert not run(server, base_url=nobody, state="absent", check_mode=True)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_model_too_big_for_the_disk_is_refused_before_a_byte_moves(
    server: OllamaDouble, tmp_path: Path, check_mode: bool
) -> None:
    with RegistryDouble({"library/smollm2/manifests/135m": {"sha256:a": 10, "sha256:b": 1 << 60}}) as registry:
        source = f"{registry.address}/library/smollm2:135m"
        problem = failure(server, source=source, insecure=True, models_dir=str(tmp_path), check_mode=check_mode)
    assert "1152921504606.8 MB more" in problem.why
    assert "ollama_data_dir" in problem.remedy
    assert calls(server) == []


def test_model_that_fits_is_pulled_and_an_unknown_size_is_no_reason_to_refuse(
    server: OllamaDouble, tmp_path: Path
) -> None:
    with RegistryDouble({"library/smollm2/manifests/135m": {"sha256:a": 10, "sha256:b": 1000}}) as registry:
        source = f"{registry.address}/library/smollm2:135m"
        assert run(server, source=source, insecure=True, models_dir=str(tmp_path))["changed"]
        unknown = f"{registry.address}/library/other:1"
        assert run(server, name="other:1", source=unknown, insecure=True, models_dir=str(tmp_path))["changed"]


# ---------------------------------------------------------------- under Ansible


def play(tmp_path: Path, tasks: list[dict[str, Any]], *options: str) -> subprocess.CompletedProcess[str]:
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_BECOME": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    return subprocess.run(
        [*command, *options, str(playbook)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_one_bad_model_fails_by_name_and_the_others_are_pulled(server: OllamaDouble, tmp_path: Path) -> None:
    def refuse(_double: OllamaDouble, _name: str, send: Send) -> str:
        send({"error": "pull model manifest: file does not exist"})
        return "failed"

    server.scripts.append(refuse)
    task = {
        "ollama_fleet.stack.ollama_model": {"name": "{{ item }}", "base_url": server.url},
        "loop": ["nope:1b", NAME],
        "register": "result",
    }
    done = play(tmp_path, [task])
    assert done.returncode == 2
    assert list(server.models) == [NAME]
    for part in ("Model nope:1b was not pulled", "file does not exist", "check the spelling"):
        assert part in done.stdout + done.stderr


def test_result_and_diff_reach_the_playbook(server: OllamaDouble, tmp_path: Path) -> None:
    module = {"ollama_fleet.stack.ollama_model": {"name": NAME, "base_url": server.url}, "register": "result"}
    write = {"ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(tmp_path / "result.json")}}
    done = play(tmp_path, [module, write], "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["changed"], result["name"], result["size"]) == (True, NAME, LAYER + 156)
    assert "+state: present" in done.stdout


# ---------------------------------------------------------------- against the stand-in engine, with real bytes

WEIGHTS = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SIZE = 98362432


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    origin = Origin(models()).start()
    yield origin
    origin.stop()


@pytest.fixture
def engine(tmp_path: Path, origin: Origin) -> Iterator[EngineProcess]:
    origin.become()
    engine = EngineProcess(tmp_path / "models")
    yield engine
    engine.stop()


def pull_real(engine: EngineProcess, origin: Origin, **params: Any) -> dict[str, Any]:
    """Have the lab's model from the origin, under its short name."""
    defaults = {
        "name": NAME,
        "state": "present",
        "source": f"127.0.0.1:{origin.port}/library/{NAME}",
        "insecure": True,
        "base_url": f"http://127.0.0.1:{engine.port}",
        "stall_timeout": 30,
        "models_dir": str(engine.store),
        "disk_reserve": 0,
        "source_host": None,
        "layers": None,
        "ca_file": None,
        "progress_file": None,
    }
    return ensure({**defaults, **params}, False)


def test_real_model_is_pulled_renamed_and_deleted(engine: EngineProcess, origin: Origin) -> None:
    first = pull_real(engine, origin)
    assert (first["changed"], first["name"], first["layer_digest"]) == (True, NAME, WEIGHTS)
    assert first["size"] > WEIGHTS_SIZE
    assert [model["name"] for model in engine.ask("/api/tags", method="GET")["models"]] == [NAME]
    assert not pull_real(engine, origin)["changed"]
    assert pull_real(engine, origin, state="absent")["changed"]
    assert engine.ask("/api/tags", method="GET")["models"] == []


def test_pull_that_broke_off_goes_on_where_it_stopped(engine: EngineProcess, origin: Origin) -> None:
    # A client that goes away in the middle, as a controller does that is killed.
    origin.become(rate=60_000_000)
    body = {"model": f"127.0.0.1:{origin.port}/library/{NAME}", "insecure": True}
    with engine.open("/api/pull", body) as answer:
        while json.loads(answer.response.readline()).get("completed", 0) < WEIGHTS_SIZE // 3:
            pass
    origin.become()
    assert pull_real(engine, origin)["changed"]
    assert 0 < sum(origin.sent) < WEIGHTS_SIZE * 0.9


def test_registry_without_the_model_is_named(engine: EngineProcess, origin: Origin) -> None:
    with pytest.raises(FleetError) as failed:
        pull_real(engine, origin, source=f"127.0.0.1:{origin.port}/library/nope:1b", name="nope:1b")
    assert "file does not exist" in failed.value.why
    assert "spelling" in failed.value.remedy


def test_wrong_bytes_are_no_model(engine: EngineProcess, origin: Origin) -> None:
    origin.become(corrupt=1)
    with pytest.raises(FleetError, match="digest mismatch") as failed:
        pull_real(engine, origin)
    assert "damaged" in failed.value.remedy
    assert engine.ask("/api/tags", method="GET")["models"] == []


def test_plain_registry_without_a_location_is_named(engine: EngineProcess, origin: Origin) -> None:
    origin.become(location="none")
    with pytest.raises(FleetError, match="no Location header") as failed:
        pull_real(engine, origin)
    assert "no source for Ollama" in failed.value.remedy


def test_real_model_too_big_for_the_disk_is_refused(engine: EngineProcess, origin: Origin) -> None:
    with pytest.raises(FleetError, match=r"98\.4 MB more"):
        pull_real(engine, origin, disk_reserve=1 << 60)
    assert origin.sent == []

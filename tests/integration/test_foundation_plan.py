"""The gate: what is recorded, what the plan says of it, and that no secret is in either."""

import json
from pathlib import Path

import pytest

from tests.integration.foundation import Playground, changes

APPLIED = {"gpu_preflight_memory_gib": 1}


@pytest.fixture
def play(tmp_path: Path) -> Playground:
    return Playground(tmp_path)


@pytest.fixture
def applied(play: Playground) -> Playground:
    """A host on which gpu_preflight has run, managing one file."""
    (play.folder / "managed").write_text("as the role left it")
    tasks = [play.record("begun"), play.record("done", files=[str(play.folder / "managed")], facts=["gpus"])]
    assert changes(play.run(tasks, variables=APPLIED)) == 1
    return play


def test_role_is_needed_until_it_was_applied_and_then_no_more(play: Playground) -> None:
    tasks = play.plan("gpu_preflight")
    assert changes(play.run(tasks, variables=APPLIED)) == 1  # the file that this test reads
    assert play.reasons() == {"gpu_preflight": "never applied"}
    play.run([play.record("begun"), play.record("done"), *tasks], variables=APPLIED)
    assert play.reasons() == {}


def test_applied_again_nothing_changes(applied: Playground) -> None:
    before = (applied.state / "gpu_preflight.json").read_text()
    tasks = [applied.record("begun"), applied.record("done", files=[f"{applied.folder}/managed"], facts=["gpus"])]
    assert changes(applied.run(tasks, variables=APPLIED)) == 0
    assert (applied.state / "gpu_preflight.json").read_text() == before


def test_record_is_for_its_owner_only(applied: Playground) -> None:
    assert (applied.state / "gpu_preflight.json").stat().st_mode & 0o777 == 0o600


def test_changed_variable_is_named(applied: Playground) -> None:
    applied.run(applied.plan("gpu_preflight"), variables={"gpu_preflight_memory_gib": 2})
    assert applied.reasons() == {"gpu_preflight": "gpu_preflight_memory_gib changed"}


def test_variable_of_another_role_is_not_this_roles_business(play: Playground) -> None:
    roles = ("ollama", "ollama_models")
    variables = {"ollama_models_list": [{"name": "a:1"}]}
    tasks = [play.record(state, role) for role in roles for state in ("begun", "done")]
    play.run(tasks, variables=variables)
    play.run(play.plan(*roles), variables={"ollama_models_list": [{"name": "b:1"}], "ollama_fleet_full": False})
    assert play.reasons() == {"ollama_models": "ollama_models_list changed"}


def test_drift_is_named(applied: Playground) -> None:
    (applied.folder / "managed").write_text("by hand")
    applied.run(applied.plan("gpu_preflight"), variables=APPLIED)
    assert applied.reasons() == {"gpu_preflight": f"{applied.folder}/managed was changed by hand"}


def test_cut_run_is_taken_up_again(applied: Playground) -> None:
    applied.run([applied.record("begun"), *applied.plan("gpu_preflight")], variables=APPLIED)
    assert applied.reasons() == {"gpu_preflight": "its last run did not reach its end"}


def test_full_and_tags_ask_for_roles_all_the_same(applied: Playground) -> None:
    applied.run(applied.plan("gpu_preflight", full=True), variables=APPLIED)
    assert applied.reasons() == {"gpu_preflight": "asked for in full"}
    tasks = [task | {"tags": ["always"]} for task in applied.plan("gpu_preflight")]
    applied.run(tasks, "--tags", "gpu_preflight_verify", variables=APPLIED)
    assert applied.reasons() == {"gpu_preflight": "asked for by tags gpu_preflight_verify"}
    applied.run(tasks, "--tags", "docker", variables=APPLIED)
    assert applied.reasons() == {}


def test_check_mode_writes_no_record(play: Playground) -> None:
    tasks = [play.record("begun"), play.record("done", packages=["none-of-this-name"])]
    assert changes(play.run(tasks, "--check", variables=APPLIED)) == 1
    assert not play.state.exists()


def test_role_that_claims_what_is_not_there_fails(play: Playground) -> None:
    result = play.run([play.record("begun"), play.record("done", files=["/no/such/file"])], variables=APPLIED)
    assert result.returncode == 2
    assert "role gpu_preflight has run, and yet: /no/such/file does not exist" in result.stdout
    assert json.loads((play.state / "gpu_preflight.json").read_text())["complete"] is False


def test_secret_is_in_no_record_and_no_output(play: Playground) -> None:
    variables = {"ollama_gateway_clients": [{"name": "ui", "token": "hunter2-hunter2"}]}
    tasks = [
        play.record("begun", "ollama_gateway"),
        play.record("done", "ollama_gateway"),
        *play.plan("ollama_gateway"),
    ]
    result = play.run(tasks, "-vvv", "--diff", variables=variables)
    assert play.reasons() == {}
    assert "hunter2" not in result.stdout + result.stderr + (play.state / "ollama_gateway.json").read_text()


def test_variable_that_cannot_be_computed_is_named(play: Playground) -> None:
    result = play.run(play.plan("docker"), variables={"docker_users": "{{ operators }}"})
    assert result.returncode == 2
    assert "gpu1: variable docker_users of role docker has no value" in result.stdout + result.stderr
    assert "operators" in result.stdout + result.stderr

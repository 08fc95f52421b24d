"""What a project needs, from Docker's own output (tests/data/compose: Docker 26.1, Compose 2.26)."""

import json
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    OLDEST_COMPOSE,
    Container,
    Service,
    as_text,
    describe_failure,
    failed_container,
    plan_actions,
    planned_text,
    pull_remedy,
    read_container,
    read_containers,
    read_hashes,
    read_services,
    read_version,
)

INSPECTED = json.loads((Path(__file__).resolve().parents[2] / "data" / "compose" / "inspect.json").read_text())
OLLAMA = read_container(INSPECTED[0])
WANTED = Service("ollama", OLLAMA.image, OLLAMA.config_hash)
HAVE = {OLLAMA.image: OLLAMA.image_id}


def actions(wanted: list[Service], there: list[Container], images: dict[str, str]) -> list[tuple[str, str]]:
    return [(action.verb, action.service) for action in plan_actions(wanted, there, images)]


def test_container_is_read_from_docker_inspect() -> None:
    assert OLLAMA.as_result() == {
        "name": "ollama",
        "image": "registry.lab:5000/double:1",
        "image_id": "sha256:83f3cbec25347730e2fa5ddcd75b8e8a9aba7cfbc016adcd8ede59cbd3392f3c",
        "state": "running",
    }
    assert OLLAMA.config_hash.startswith("ab686ded6c2b")


def test_container_of_compose_run_is_none_of_the_project() -> None:
    labels = {**INSPECTED[0]["Config"]["Labels"], "com.docker.compose.oneoff": "True"}
    run = {**INSPECTED[0], "Config": {**INSPECTED[0]["Config"], "Labels": labels}}
    assert read_containers([INSPECTED[0], run]) == [OLLAMA]


@pytest.mark.parametrize(
    ("said", "new_enough"), [("2.26.1-4\n", True), ("v5.0.1", True), ("2.25.9", False), ("1.29.2", False), ("?", False)]
)
def test_compose_is_new_enough(said: str, new_enough: bool) -> None:
    assert (read_version(said) >= OLDEST_COMPOSE) is new_enough


def test_services_are_read_with_their_hashes() -> None:
    config = {"name": "p", "services": {"web": {"image": "w:1"}, "db": {"image": "d:1"}}}
    assert read_services(config, read_hashes("web aaa\ndb bbb\n")) == [
        Service("db", "d:1", "bbb"),
        Service("web", "w:1", "aaa"),
    ]


def test_project_as_its_file_says_needs_nothing() -> None:
    assert actions([WANTED], [OLLAMA], HAVE) == []


@pytest.mark.parametrize(
    ("wanted", "there", "images", "expected"),
    [
        pytest.param([WANTED], [], HAVE, [("create", "ollama")], id="no container"),
        pytest.param([WANTED], [], {}, [("pull", "ollama"), ("create", "ollama")], id="no image either"),
        pytest.param([WANTED._replace(config_hash="x")], [OLLAMA], HAVE, [("recreate", "ollama")], id="settings"),
        pytest.param([WANTED._replace(image="o:2")], [OLLAMA], {"o:2": "sha256:2"}, [("recreate", "ollama")], id="tag"),
        pytest.param(
            [WANTED._replace(image="o:2")], [OLLAMA], {}, [("pull", "ollama"), ("recreate", "ollama")], id="new tag"
        ),
        pytest.param([WANTED], [OLLAMA], {OLLAMA.image: "sha256:9"}, [("recreate", "ollama")], id="tag moved"),
        pytest.param([WANTED], [OLLAMA._replace(state="exited")], HAVE, [("start", "ollama")], id="stopped"),
        pytest.param([], [OLLAMA], {}, [("remove", "ollama")], id="no longer wanted"),
    ],
)
def test_each_difference_has_its_action(
    wanted: list[Service], there: list[Container], images: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert actions(wanted, there, images) == expected


def test_image_that_was_removed_but_still_runs_is_pulled_and_not_restarted() -> None:
    assert actions([WANTED], [OLLAMA], {}) == [("pull", "ollama")]


def test_every_action_gives_its_reason() -> None:
    (action,) = plan_actions([WANTED._replace(config_hash="x")], [OLLAMA], HAVE)
    assert str(action) == "recreate ollama: its settings changed"


def test_container_that_restarts_after_a_start_has_failed() -> None:
    crashed = OLLAMA._replace(restarts=1)
    assert failed_container([crashed], before=[]) == crashed
    assert failed_container([crashed], before=[crashed]) is None
    assert describe_failure(crashed) == "container ollama is running, restarted 1 times"


@pytest.mark.parametrize("change", [{"state": "exited", "exit_code": 137}, {"health": "unhealthy"}])
def test_container_that_does_not_run_well_has_failed(change: dict[str, object]) -> None:
    broken = OLLAMA._replace(**change)
    assert failed_container([OLLAMA, broken], before=[]) == broken
    assert next(str(value) for value in change.values()) in describe_failure(broken)


def test_diff_shows_one_line_for_each_service() -> None:
    wanted = [WANTED._replace(config_hash="0123456789abcdef")]
    steps = plan_actions(wanted, [OLLAMA], HAVE)
    assert as_text([OLLAMA]) == "ollama: running, registry.lab:5000/double:1, settings ab686ded6c2b\n"
    assert planned_text([OLLAMA], wanted, steps) == (
        "ollama: running, registry.lab:5000/double:1, settings 0123456789ab\n"
    )


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "make room"),
        ("Error response from daemon: manifest for r:5000/a:1 not found: manifest unknown", "correct the image's name"),
        ('Get "https://r:5000/v2/": http: server gave HTTP response to HTTPS client', "docker_insecure_registries"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certs.d"),
        ("pull access denied for a, repository does not exist", "docker login"),
        ("dial tcp: lookup nowhere: no such host", "that this host reaches its registry"),
    ],
)
def test_an_image_that_does_not_come_has_a_remedy_by_dockers_words(words: str, remedy: str) -> None:
    assert remedy in pull_remedy(words)

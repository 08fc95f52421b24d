"""What a Compose project on a host is asked, and told, by the docker command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import compose_host
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_host import ComposeHost, NotReadyError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

INSPECTED = (Path(__file__).resolve().parents[2] / "data" / "compose" / "inspect.json").read_text()
RESOLVED = json.dumps({"name": "p", "services": {"open-webui": {"image": "webui:2"}}})


class DockerDouble:
    """The docker command: answers by the first words of what it is asked."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers = answers
        self.asked: list[tuple[list[str], str | None]] = []

    def __call__(self, arguments: list[str], data: str | None) -> tuple[int, str, str]:
        self.asked.append((arguments, data))
        words = [word for word in arguments if word in self.answers]
        return self.answers[words[-1]] if words else (0, "", "")


def host(**answers: tuple[int, str, str]) -> tuple[ComposeHost, DockerDouble]:
    docker = DockerDouble(**answers)
    return ComposeHost(docker, "/opt/open-webui", "open-webui"), docker


def test_services_are_read_of_any_folder_under_the_projects_name() -> None:
    project, docker = host(**{"json": (0, RESOLVED, ""), "*": (0, "open-webui abc\n", "")})
    assert [tuple(service) for service in project.services("/stage")] == [("open-webui", "webui:2", "abc")]
    (config, _), (hashing, data) = docker.asked
    assert config[:6] == ["docker", "compose", "--project-name", "open-webui", "--project-directory", "/stage"]
    assert config[config.index("--file") + 1] == "/stage/compose.yaml"
    assert hashing[hashing.index("--file") + 1] == "-"
    assert data == RESOLVED


def test_a_file_that_compose_refuses_is_said() -> None:
    project, _docker = host(json=(1, "", "services.x: bad\n"))
    with pytest.raises(FleetError, match=r"services\.x: bad"):
        project.services("/stage")


def test_only_what_runs_is_stopped() -> None:
    project, docker = host(inspect=(0, INSPECTED, ""), ps=(0, "abc\n", ""))
    project.stop()
    identity = json.loads(INSPECTED)[0]["Id"]
    assert docker.asked[-1][0] == ["docker", "stop", "-t", "60", identity]
    stopped = json.loads(INSPECTED)
    stopped[0]["State"]["Status"] = "exited"
    project, docker = host(inspect=(0, json.dumps(stopped[:1]), ""), ps=(0, "abc\n", ""))
    project.stop()
    assert not [asked for asked, _data in docker.asked if "stop" in asked]


def test_an_image_gets_its_name_back_only_where_it_lost_it() -> None:
    project, docker = host(inspect=(0, "sha256:new\n", ""))
    project.bring_back("webui:1", "sha256:old")
    assert docker.asked[-1][0] == ["docker", "tag", "sha256:old", "webui:1"]
    project, docker = host(inspect=(0, "sha256:old\n", ""))
    project.bring_back("webui:1", "sha256:old")
    project.bring_back("webui:1", "")
    assert not [asked for asked, _data in docker.asked if "tag" in asked]


def test_what_is_missing_of_docker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_host.shutil, "which", lambda _name: None)
    with pytest.raises(NotReadyError, match="not installed"):
        host()[0].require()
    monkeypatch.setattr(compose_host.shutil, "which", lambda name: name)
    with pytest.raises(NotReadyError, match="does not answer: cannot connect"):
        host(version=(1, "", "cannot connect\n"))[0].require()
    with pytest.raises(NotReadyError, match="no Compose"):
        host(**{"--short": (1, "", "unknown command")})[0].require()
    with pytest.raises(FleetError, match=r"too old: it is 2\.20\.0"):
        host(**{"--short": (0, "2.20.0\n", "")})[0].require()
    host(**{"--short": (0, "2.26.1-4\n", "")})[0].require()

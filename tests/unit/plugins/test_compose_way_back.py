"""New files of a Compose project: they work, or the project is as it was. Docker is a double (docker_double)."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_files import (
    ProjectFiles,
    hidden,
    values,
    wanted,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules import compose_project
from ansible_collections.ollama_fleet.stack.plugins.modules.compose_project import Project, ensure

from tests.serving_support.docker_double import DockerDouble

PASSWORD = "hunter2-of-the-proxy"
PROXY = f'HTTPS_PROXY="http://u:{PASSWORD}@proxy:3128"\n'


@pytest.fixture(autouse=True)
def docker_is_there_and_nothing_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(compose_project, "SETTLED_SECONDS", 0)


@pytest.fixture
def docker(tmp_path: Path) -> DockerDouble:
    return DockerDouble(tmp_path)


def compose(image: str) -> str:
    return json.dumps({"services": {"web": {"image": image, "env_file": ["web.env"]}}})


def files(docker: DockerDouble, image: str, env: str = "", ca: str | None = None) -> ProjectFiles:
    public = [{"name": "compose.yaml", "content": compose(image)}, {"name": "ca.pem", "content": ca}]
    return ProjectFiles(str(docker.folder), wanted(public, {"web.env": env}))


def run(docker: DockerDouble, image: str, env: str = "", check: bool = False, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = ensure(Project(docker), files(docker, image, env, **more), "present", check)
    return result


def on_disk(docker: DockerDouble) -> dict[str, tuple[str, int]]:
    return {
        path.name: (path.read_text(), stat.S_IMODE(path.stat().st_mode))
        for path in docker.folder.iterdir()
        if path.is_file()
    }


def state(docker: DockerDouble) -> Any:
    """The files, and image and state of each container; nothing that is kept."""
    assert not (docker.folder / ".before").exists()
    running = [(one["Image"], one["State"]["Status"]) for one in docker.containers]
    return on_disk(docker), running


def test_files_are_written_with_their_modes_and_the_container_runs(docker: DockerDouble) -> None:
    result = run(docker, "good:1", PROXY, ca="PEM\n")
    assert result["changed"]
    assert sorted(result["files_changed"]) == ["ca.pem", "compose.yaml", "web.env"]
    assert [action["action"] for action in result["actions"]] == ["create"]
    assert state(docker) == (
        {"compose.yaml": (compose("good:1"), 0o644), "web.env": (PROXY, 0o600), "ca.pem": ("PEM\n", 0o644)},
        [("sha256:1", "running")],
    )


def test_the_same_again_changes_nothing(docker: DockerDouble) -> None:
    run(docker, "good:1", PROXY)
    ups = docker.calls.count("up")
    again = run(docker, "good:1", PROXY)
    assert (again["changed"], again["files_changed"], again["actions"]) == (False, [], [])
    assert docker.calls.count("up") == ups


@pytest.mark.parametrize(("image", "env"), [("good:2", ""), ("good:1", "A=b\n"), ("good:2", "A=b\n")])
def test_a_change_makes_the_container_anew_once(docker: DockerDouble, image: str, env: str) -> None:
    run(docker, "good:1")
    before = docker.calls.count("up")
    assert [action["action"] for action in run(docker, image, env)["actions"]][-1] == "recreate"
    assert docker.calls.count("up") == before + 1
    assert not run(docker, image, env)["changed"]


def test_a_file_that_is_not_wanted_any_more_goes(docker: DockerDouble) -> None:
    run(docker, "good:1", ca="PEM\n")
    assert run(docker, "good:1")["files_changed"] == ["ca.pem"]
    assert "ca.pem" not in on_disk(docker)


def test_a_mode_that_somebody_opened_is_closed_again(docker: DockerDouble) -> None:
    run(docker, "good:1", PROXY)
    os.chmod(docker.folder / "web.env", 0o644)  # noqa: PTH101
    assert run(docker, "good:1", PROXY)["files_changed"] == ["web.env"]
    assert on_disk(docker)["web.env"] == (PROXY, 0o600)


def test_check_mode_writes_nothing_and_shows_no_secret(docker: DockerDouble) -> None:
    fresh = run(docker, "good:1", PROXY, check=True)
    assert (fresh["changed"], on_disk(docker), docker.containers) == (True, {}, [])
    run(docker, "good:1", PROXY)
    before = state(docker)
    result = run(docker, "good:2", "B=c\n", check=True)
    assert result["changed"]
    assert state(docker) == before
    assert "good:2" in json.dumps(result["diff"])
    assert PASSWORD not in json.dumps([fresh, result])


def test_a_project_that_goes_leaves_its_files(docker: DockerDouble) -> None:
    run(docker, "good:1", PROXY)
    before = on_disk(docker)
    gone = ensure(Project(docker), files(docker, "good:2"), "absent", False)
    assert (gone["changed"], gone["files_changed"], docker.containers, on_disk(docker)) == (True, [], [], before)
    assert not ensure(Project(docker), files(docker, "good:2"), "absent", False)["changed"]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        pytest.param("broken:1", "cannot start", id="does not start"),
        pytest.param("gone:1", "manifest for gone:1 not found", id="is in no registry"),
    ],
)
def test_what_does_not_start_leaves_the_old_one_running(docker: DockerDouble, image: str, says: str) -> None:
    run(docker, "good:1", PROXY)
    before = state(docker)
    with pytest.raises(FleetError) as problem:
        run(docker, image, "A=b\n", ca="PEM\n")
    assert says in problem.value.why
    assert "the old settings are back, and it runs with them" in problem.value.why
    assert problem.value.remedy
    assert state(docker) == before


def test_an_image_that_is_not_there_stops_nothing(docker: DockerDouble) -> None:
    run(docker, "good:1")
    there = docker.containers[0]["Id"]
    ups = docker.calls.count("up")
    with pytest.raises(FleetError):
        run(docker, "gone:1")
    assert (docker.containers[0]["Id"], docker.calls.count("up")) == (there, ups)


def test_a_file_that_compose_refuses_is_taken_back(docker: DockerDouble) -> None:
    run(docker, "good:1")
    before = state(docker)
    broken = ProjectFiles(str(docker.folder), wanted([{"name": "compose.yaml", "content": "{"}], {"web.env": ""}))
    with pytest.raises(FleetError, match="is no valid Compose file") as problem:
        ensure(Project(docker), broken, "present", False)
    assert "it runs with them" in problem.value.why
    assert state(docker) == before


@pytest.mark.parametrize("image", ["broken:1", "gone:1"])
def test_a_first_start_that_fails_leaves_nothing(docker: DockerDouble, image: str) -> None:
    with pytest.raises(FleetError, match="nothing of it is left on the host"):
        run(docker, image, PROXY)
    assert state(docker) == ({}, [])


def test_a_project_that_was_stopped_is_stopped_again(docker: DockerDouble) -> None:
    run(docker, "good:1")
    docker.containers[0]["State"]["Status"] = "exited"
    with pytest.raises(FleetError, match="it is stopped, as it was"):
        run(docker, "broken:1")
    assert state(docker)[1] == [("sha256:1", "created")]


def test_an_old_one_that_does_not_start_either_is_told(docker: DockerDouble) -> None:
    run(docker, "good:1")

    class Both(DockerDouble):
        """The old image is broken as well by now."""

        def do_up(self, command: list[str], data: str | None) -> tuple[int, str, str]:
            answer = super().do_up(command, data)
            for one in self.containers:
                one["State"]["Status"] = "exited"
            return answer

    worse = Both(docker.folder)
    worse.containers, worse.images = docker.containers, docker.images
    with pytest.raises(FleetError, match="the old settings are back, and it does not start with them: container web"):
        run(worse, "broken:1")
    assert on_disk(worse)["compose.yaml"][0] == compose("good:1")


@pytest.mark.parametrize("cut_at", ["config", "pull", "up", "logs"])
def test_a_run_that_was_cut_has_its_way_back_in_the_next(docker: DockerDouble, cut_at: str) -> None:
    run(docker, "good:1", PROXY)
    before = state(docker)
    docker.cut_at = cut_at
    with pytest.raises(KeyboardInterrupt):
        run(docker, "broken:1")
    docker.cut_at = ""
    with pytest.raises(FleetError, match="the old settings are back, and it runs with them"):
        run(docker, "broken:1")
    assert state(docker) == before


def test_a_run_that_was_cut_is_completed_by_the_next(docker: DockerDouble) -> None:
    run(docker, "good:1")
    docker.cut_at = "up"
    with pytest.raises(KeyboardInterrupt):
        run(docker, "good:2")
    docker.cut_at = ""
    assert run(docker, "good:2")["changed"]
    assert state(docker)[1] == [("sha256:2", "running")]


def test_a_disk_that_is_full_leaves_all_as_it_was(docker: DockerDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    run(docker, "good:1", PROXY)
    before = state(docker)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(FleetError, match=r"cannot be written.*No space left"):
        run(docker, "good:2")
    assert state(docker) == before


def test_no_message_has_a_value_of_a_secret_file(docker: DockerDouble) -> None:
    run(docker, "good:1", PROXY)
    told = files(docker, "broken:1", "TOKEN=0123456789abcdef\n").secrets()
    log = f"server config env=map[HTTPS_PROXY:http://u:{PASSWORD}@proxy:3128 TOKEN:0123456789abcdef] DEBUG:true"
    assert hidden(log, told) == "server config env=map[HTTPS_PROXY:*** TOKEN:***] DEBUG:true"


def test_values_of_environment_files_are_read_as_compose_reads_them() -> None:
    text = '# A comment with = in it\nA="pa\\"ss\\$word"\nB=plain-value\nC=1\nD=\'quoted-value\'\n'
    assert set(values([text])) >= {'pa"ss$word', "plain-value", "quoted-value"}
    assert not {"1", "comment with"} & set(values([text]))


def test_a_password_in_an_address_is_hidden_without_being_known() -> None:
    assert hidden("proxyconnect http://u:pw@proxy:3128: refused", []) == "proxyconnect http://***@proxy:3128: refused"

"""A server run by systemd: what makes it start anew, and that all is as before when it does not run.

systemd, Docker and the server are doubles (tests/serving_support/systemd_double.py); files and releases are real.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.release_store import Releases
from ansible_collections.ollama_fleet.stack.plugins.modules import ollama_native

from tests.serving_support.systemd_double import Machine

ME = pwd.getpwuid(os.getuid()).pw_name


class Place:
    """A host in a folder, and the module run on it."""

    def __init__(self, folder: Path, container: str | None = None) -> None:
        self.root = folder / "ollama"
        self.data = folder / "data"
        self.unit_file = folder / "etc/systemd/ollama.service"
        self.environment_file = folder / "etc/ollama-fleet/ollama.env"
        self.ca_file = folder / "etc/ollama-fleet/ca.pem"
        self.machine = Machine(self.unit_file, container)
        self.container = container
        (self.data / "models/blobs").mkdir(parents=True)
        (self.data / "models/blobs/sha256-1").write_text("weights")

    def release(self, name: str, manner: str = "good") -> None:
        """Unpack a release of which the server does this."""
        (self.root / name / "bin").mkdir(parents=True)
        (self.root / name / "bin/ollama").write_text(manner)
        (self.root / name / ".ollama-fleet.json").write_text(json.dumps({"checksum": "sha256:0", "files": {}}))

    def params(self, **others: Any) -> dict[str, Any]:
        return {
            "path": str(self.root),
            "release": "1",
            "unit": f"[Service]\nExecStart={self.root}/current/bin/ollama serve\n",
            "unit_file": str(self.unit_file),
            "environment": 'OLLAMA_HOST="127.0.0.1:11434"\n',
            "environment_file": str(self.environment_file),
            "ca_certificate": "",
            "ca_file": str(self.ca_file),
            "data_dir": str(self.data),
            "user": ME,
            "container": self.container,
            "restart": False,
            "ready_url": "http://127.0.0.1:11434/api/version",
            "wait_timeout": 0,
            "log_lines": 20,
            **others,
        }

    def run(self, check_mode: bool = False, **others: Any) -> dict[str, Any]:
        self.machine.asked.clear()
        result: dict[str, Any] = ollama_native.ensure(self.params(**others), self.machine.run, check_mode)
        return result

    def failure(self, **others: Any) -> FleetError:
        with pytest.raises(FleetError) as failed:
            self.run(**others)
        return failed.value

    def links(self) -> dict[str, str | None]:
        found: dict[str, str | None] = Releases(str(self.root)).links()
        return found

    def state(self) -> tuple[Any, ...]:
        """All that a run may change, as it is."""
        paths = (self.unit_file, self.environment_file, self.ca_file)
        files = [path.read_text() if path.exists() else None for path in paths]
        machine = self.machine
        return (*files, self.links(), machine.active, machine.enabled, machine.answering, machine.container_running)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    place.release("1")
    return at_once(place, monkeypatch)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A host on which a container serves."""
    place = Place(tmp_path, "ollama")
    place.release("1")
    return at_once(place, monkeypatch)


def at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(ollama_native, "probe", place.machine.probe)
    monkeypatch.setattr(ollama_native.time, "sleep", lambda _seconds: None)
    return place


def test_check_run_check_run(place: Place) -> None:
    fresh = place.state()
    told = place.run(check_mode=True)
    assert told["changed"]
    assert place.state() == fresh
    done = place.run()
    assert done["reasons"] == told["reasons"]
    assert done["reasons"][:3] == ["1 runs", "its unit is new", "its environment is new"]
    assert place.machine.active == "active"
    assert place.machine.enabled
    assert place.links() == {"current": "1", "previous": None}
    assert oct(place.unit_file.stat().st_mode) == "0o100644"
    assert oct(place.environment_file.stat().st_mode) == "0o100600"
    assert oct(place.data.stat().st_mode) == "0o40750"
    pid = place.machine.pid
    assert not place.run(check_mode=True)["changed"]
    assert not place.run()["changed"]
    assert place.machine.pid == pid
    assert not place.machine.did("restart")


CHANGES: dict[str, tuple[Callable[[Place], object], dict[str, Any], str]] = {
    "unit": (lambda _p: None, {"unit": "[Service]\n# new\nExecStart=ROOT/current/bin/ollama\n"}, "its unit changed"),
    "environment": (lambda _p: None, {"environment": "A=1"}, "its environment changed"),
    "unit by hand": (lambda p: p.unit_file.write_text("ours no more"), {}, "its unit changed"),
    "stopped": (lambda p: p.machine.run(["systemctl", "stop"]), {}, "it does not run"),
    "crashed": (lambda p: p.machine._end("killed"), {}, "it does not run"),
    "unpacked again": (lambda _p: None, {"restart": True}, "its release was unpacked anew"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_change_starts_the_server_anew_once(place: Place, case: str) -> None:
    damage, wanted, reason = CHANGES[case]
    place.run()
    damage(place)
    wanted = {key: text.replace("ROOT", str(place.root)) if key == "unit" else text for key, text in wanted.items()}
    result = place.run(**wanted)
    assert result["reasons"] == [reason]
    assert len([command for command in place.machine.asked if command.startswith("systemctl restart")]) == 1
    wanted.pop("restart", None)
    assert not place.run(**wanted)["changed"]


def test_authority_comes_goes_and_starts_the_server_anew(place: Place) -> None:
    place.run()
    assert place.run(ca_certificate="PEM\n")["reasons"] == ["its authority is new"]
    assert place.ca_file.read_text() == "PEM\n"
    assert oct(place.ca_file.stat().st_mode) == "0o100644"
    assert not place.run(ca_certificate="PEM")["changed"]
    place.release("2", "crash")
    place.failure(release="2", ca_certificate="OTHER")
    assert place.ca_file.read_text() == "PEM\n"
    assert place.run()["reasons"] == ["its authority changed"]
    assert not place.ca_file.exists()


QUIET = {
    "mode": (lambda p: p.environment_file.chmod(0o644), "mode or owner of "),
    "models' folder": (lambda p: p.data.chmod(0o777), "is not "),
    "boot": (lambda p: p.machine.run(["systemctl", "disable"]), "it does not start at boot"),
}


@pytest.mark.parametrize("case", QUIET)
def test_what_the_server_need_not_start_anew_for(place: Place, case: str) -> None:
    damage, reason = QUIET[case]
    place.run()
    damage(place)
    result = place.run()
    assert [reason in said for said in result["reasons"]] == [True]
    assert not place.machine.did("restart")
    assert not place.run()["changed"]


def test_new_release_runs_and_the_old_one_stays_for_the_way_back(place: Place) -> None:
    place.run()
    for name in ("2", "3"):
        place.release(name)
        assert place.run(release=name)["reasons"] == [f"{name} runs in the place of {int(name) - 1}"]
    assert place.links() == {"current": "3", "previous": "2"}
    assert not (place.root / "1").exists()
    assert place.run(release="2")["changed"]
    assert place.links() == {"current": "2", "previous": "3"}


@pytest.mark.parametrize(
    ("manner", "why"), [("crash", "status 1"), ("deaf", "did not answer within 0 s"), ("late", "status 1")]
)
def test_release_that_does_not_run_leaves_the_old_one(place: Place, manner: str, why: str) -> None:
    place.run()
    before = place.state()
    place.release("2", manner)
    changed = place.params()["unit"] + "# more\n"
    problem = place.failure(release="2", unit=changed, environment="B=1")
    assert problem.what == "Ollama 2 did not start"
    assert why in problem.why
    assert "the old release 1, unit and environment are back, and it answers" in problem.why
    assert place.state() == before
    assert (place.root / "2").is_dir()


def test_error_carries_the_last_lines_and_no_password(place: Place) -> None:
    place.release("2", "crash")
    problem = place.failure(release="2")
    assert problem.log.splitlines()[-1] == "boom by http://***@proxy:3128"
    assert "the last that it said: boom by http://***@proxy:3128" in problem.why
    assert "journalctl -u ollama.service" in problem.remedy


def test_first_install_that_fails_leaves_nothing(place: Place) -> None:
    fresh = place.state()
    place.release("2", "crash")
    assert "nothing ran before, and nothing does now" in place.failure(release="2").why
    assert place.state() == fresh
    assert place.machine.loaded is None


def test_program_that_cannot_be_started_is_told(place: Place) -> None:
    unit = "[Service]\nExecStart=/nowhere/ollama\n"
    problem = place.failure(unit=unit)
    assert "its process ended" in problem.why


def test_old_release_that_does_not_come_back_either_is_told(place: Place) -> None:
    place.run()
    place.release("2", "crash")
    (place.root / "1/bin/ollama").write_text("crash")
    assert "what was before is back, and does not start either: its process ended" in place.failure(release="2").why


def test_port_that_another_holds_is_no_answer_of_ours(place: Place) -> None:
    place.machine.answering = "container"
    assert "its process ended" in place.failure().why


def test_release_or_user_that_is_missing_is_told_before_anything_is_touched(place: Place) -> None:
    fresh = place.state()
    assert "there is no release 9" in place.failure(release="9").what
    assert "there is no user nobody-of-that-name" in place.failure(user="nobody-of-that-name").what
    assert place.state() == fresh
    # A check run comes here before either is made.
    assert place.run(check_mode=True, release="9", user="nobody-of-that-name")["changed"]


def test_container_is_stopped_before_the_server_starts_and_its_models_stay(docker: Place) -> None:
    result = docker.run()
    assert result["reasons"][0] == "systemd runs it in the place of container ollama"
    asked = [command.split(" --")[0] for command in docker.machine.asked]
    assert asked.index("docker stop ollama") < asked.index("systemctl restart")
    assert not docker.machine.container_running
    assert (docker.data / "models/blobs/sha256-1").read_text() == "weights"


@pytest.mark.parametrize("manner", ["crash", "deaf"])
def test_container_comes_back_when_the_server_does_not_run(docker: Place, manner: str) -> None:
    before = docker.state()
    docker.release("2", manner)
    assert "container ollama serves again" in docker.failure(release="2").why
    assert docker.state() == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_models_get_their_owner_and_have_the_old_one_again_when_it_fails(place: Place) -> None:
    account = pwd.getpwnam("daemon")
    (place.data / "models/link").symlink_to("/etc/passwd")
    before = Path("/etc/passwd").stat().st_uid
    place.data.chmod(0o755)
    place.release("2", "crash")
    place.failure(release="2", user="daemon")
    owners = {path.lstat().st_uid for path in [place.data, *place.data.rglob("*")]}
    assert owners == {os.getuid()}
    assert oct(place.data.stat().st_mode) == "0o40755"
    place.run(user="daemon")
    owners = {path.lstat().st_uid for path in [place.data, *place.data.rglob("*")]}
    assert owners == {account.pw_uid}
    assert Path("/etc/passwd").stat().st_uid == before
    assert not place.run(user="daemon")["changed"]


def test_difference_shows_release_and_unit_and_nothing_of_the_environment(place: Place) -> None:
    diff = place.run(environment="HTTPS_PROXY=http://u:hunter2@proxy")["diff"]
    assert diff["before"] == "release: none\nenvironment: none\n"
    assert diff["after"].startswith("release: 1\nenvironment: changed\n[Service]\n")
    assert "hunter2" not in str(diff)

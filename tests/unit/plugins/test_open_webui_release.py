"""Open WebUI with a way back: a double of Docker, a real SQLite database and a double of the API."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import Container, Service
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_api import Interface
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_backups import Journal
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_database import Sqlite
from ansible_collections.ollama_fleet.stack.plugins.modules import open_webui_release
from ansible_collections.ollama_fleet.stack.plugins.modules.open_webui_release import (
    Machine,
    ensure,
    redacted,
    secrets_in,
)

from tests.serving_support.secrets_doubles import serving
from tests.serving_support.webui_double import WebuiDouble

EMAIL, PASSWORD = "admin@example.com", "a-password-of-24-letters"
ENVIRONMENT = f'WEBUI_ADMIN_PASSWORD="{PASSWORD}"\nWEBUI_NAME="first"\n'


class HostDouble:
    """Docker with one project. Each version of the image behaves as `versions` says when it is started."""

    def __init__(self, folder: Path, data: Path, api: type[WebuiDouble]) -> None:
        self.folder, self.data, self.api = folder, data, api
        self.running: Container | None = None
        self.images: dict[str, str] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.done: list[str] = []

    def require(self) -> None:
        """Docker is there."""

    def services(self, folder: str | Path) -> list[Service]:
        compose = (Path(folder) / "compose.yaml").read_text()
        settings = (Path(folder) / "open-webui.env").read_text()
        found = re.search(r"image: (\S+)", compose)
        assert found
        return [Service("open-webui", found[1], str(hash(compose.partition("#")[0] + settings)))]

    def containers(self) -> list[Container]:
        return [self.running] if self.running else []

    def image_id(self, image: str) -> str | None:
        return self.images.get(image)

    def image_ids(self, services: list[Service]) -> dict[str, str]:
        return {one.image: self.images[one.image] for one in services if one.image in self.images}

    def pull(self, image: str) -> None:
        self.done.append(f"pull {image}")
        if image not in self.versions:
            raise FleetError(f"Image {image} was not pulled", "not found", "check its name")
        self.images[image] = f"sha256:{image}"

    def bring_back(self, image: str, image_id: str) -> None:
        self.images[image] = image_id

    def stop(self) -> None:
        self.done.append("stop")
        if self.running:
            self.running = self.running._replace(state="exited")

    def up(self) -> str:
        service = self.services(self.folder)[0]
        self.done.append(f"up {service.image}")
        told = self.versions[service.image]
        state, health = told.get("state", "running"), told.get("health", "")
        self.running = Container(
            "open-webui",
            service.name,
            service.image,
            self.images[service.image],
            service.config_hash,
            state,
            health,
            0,
            0,
            "c",
        )
        self.api.sick, self.api.log_in_status = told.get("sick", 0), told.get("log_in", 0)
        with closing(sqlite3.connect(self.data / "webui.db")) as database:
            database.execute("CREATE TABLE IF NOT EXISTS version (name text)")
            database.execute("INSERT INTO version VALUES (?)", (service.image,))
            database.commit()
        return ""

    def log(self, _lines: int) -> str:
        return f"starting with {PASSWORD}\nValueError: no such setting"


class Site:
    """A host with Open WebUI, and the module run on it."""

    def __init__(self, folder: Path, url: str, api: type[WebuiDouble]) -> None:
        self.folder = folder
        self.params = {
            "project_dir": str(folder / "project"),
            "environment": ENVIRONMENT,
            "ca_bundle": "",
            "data_dir": str(folder / "data"),
            "backup_dir": str(folder / "backups"),
            "base_url": url,
            "proof": "login",
            "admin_email": EMAIL,
            "admin_password": PASSWORD,
            "wait_timeout": 0,
            "log_lines": 5,
            "migrates": True,
            "state": "started",
        }
        (folder / "data").mkdir()
        self.host = HostDouble(folder / "project", folder / "data", api)
        self.host.versions = {"webui:1": {}, "webui:2": {}}

    def run(self, image: str, check: bool = False, **changed: Any) -> dict[str, Any]:
        params = {**self.params, "compose": f"image: {image}\n", **changed}
        (self.folder / "tmp").mkdir(exist_ok=True)
        module = SimpleNamespace(params=params, check_mode=check, tmpdir=str(self.folder / "tmp"))
        machine = Machine(params, self.host, Sqlite(params["data_dir"]))
        self.host.done = []
        result: dict[str, Any] = ensure(module, machine, Journal(params["backup_dir"], 3))
        return result

    def database(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "data" / "webui.db")) as database:
            return [row[0] for row in database.execute("SELECT name FROM version ORDER BY rowid")]

    def backups(self) -> list[Path]:
        return sorted((self.folder / "backups").glob("*/"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(open_webui_release, "LOG_IN_SECONDS", 0)
    with serving(WebuiDouble, email=EMAIL, password=PASSWORD, key="k" * 64) as (port, api):
        yield Site(tmp_path, f"http://127.0.0.1:{port}", api)


def test_the_first_start_needs_no_backup_and_the_second_run_changes_nothing(site: Site) -> None:
    assert site.run("webui:1")["changed"]
    assert site.host.done == ["pull webui:1", "up webui:1"]
    result = site.run("webui:1")
    assert (result["changed"], result["actions"], site.host.done) == (False, [], [])
    assert site.backups() == []
    assert (site.folder / "project" / "open-webui.env").stat().st_mode & 0o777 == 0o600
    assert not (site.folder / "project" / "ca-bundle.pem").exists()


def test_an_upgrade_is_backed_up_first(site: Site) -> None:
    site.run("webui:1")
    result = site.run("webui:2")
    assert site.host.done == ["pull webui:2", "stop", "up webui:2"]
    assert result["actions"][0].startswith("back up the database (")
    assert [str(path) for path in site.backups()] == [result["backup"]]
    assert site.database() == ["webui:1", "webui:2"]


def test_check_mode_says_it_and_does_nothing(site: Site) -> None:
    assert site.run("webui:1", check=True)["changed"]
    assert not (site.folder / "project").exists()
    site.run("webui:1")
    result = site.run("webui:2", check=True)
    assert result["changed"]
    assert "back up" in result["actions"][0]
    assert (site.host.done, site.database(), site.backups()) == ([], ["webui:1"], [])
    assert PASSWORD not in str(result)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"sick": 500}, "/health answers HTTP 500"),
        ({"log_in": 500}, "admin@example.com cannot log in (HTTP 500)"),
        ({"state": "restarting"}, "container open-webui is restarting"),
    ],
)
def test_a_version_that_does_not_work_is_taken_back_with_its_database(
    site: Site, behaviour: dict[str, Any], reason: str
) -> None:
    site.run("webui:1")
    site.host.versions["webui:2"] = behaviour
    with pytest.raises(FleetError) as caught:
        site.run("webui:2")
    assert reason in caught.value.why
    assert "webui:1 is back with its database and works" in caught.value.why
    assert "ValueError: no such setting" in caught.value.why
    assert PASSWORD not in str(caught.value) + caught.value.log
    # The old one has written its start into the database that was put back.
    assert site.database() == ["webui:1", "webui:1"]
    assert (site.folder / "project" / "compose.yaml").read_text() == "image: webui:1\n"
    with closing(sqlite3.connect(site.backups()[0] / "failed" / "webui.db")) as failed:
        assert failed.execute("SELECT count(*) FROM version WHERE name = 'webui:2'").fetchone() == (1,)
    assert site.run("webui:1")["changed"] is False


def test_health_alone_counts_where_nobody_logs_in_with_a_password(site: Site) -> None:
    site.run("webui:1")
    site.host.versions["webui:2"] = {"log_in": 403}
    site.run("webui:2", proof="health")
    assert site.host.running and site.host.running.image == "webui:2"


def test_an_upgrade_that_could_not_be_proved_is_not_begun(site: Site) -> None:
    site.run("webui:1")
    with pytest.raises(FleetError, match=r"already now .* cannot log in"):
        site.run("webui:2", admin_password="another-one-of-24-letters")
    assert "stop" not in site.host.done


def test_new_secrets_are_settings_and_a_log_in_does_not_take_them_back(site: Site) -> None:
    site.run("webui:1")
    site.host.versions["webui:1"] = {"log_in": 400}
    changed = ENVIRONMENT.replace(PASSWORD, "another-one-of-24-letters")
    assert site.run("webui:1", environment=changed, admin_password="another-one-of-24-letters")["changed"]
    assert (site.folder / "project" / "open-webui.env").read_text() == changed
    assert "stop" not in site.host.done
    assert site.backups() == []


def test_a_setting_that_it_does_not_start_with_is_taken_back(site: Site) -> None:
    site.run("webui:1")
    site.host.versions["webui:1"] = {"sick": 500}
    with pytest.raises(FleetError, match="webui:1 is back and does not work either"):
        site.run("webui:1", environment=ENVIRONMENT + 'CORS_ALLOW_ORIGIN="nonsense"\n')
    assert (site.folder / "project" / "open-webui.env").read_text() == ENVIRONMENT


def test_a_comment_is_written_and_nothing_restarted(site: Site) -> None:
    site.run("webui:1")
    result = site.run("webui:1", compose="image: webui:1\n# a comment\n", ca_bundle="")
    assert (result["changed"], site.host.done) == (True, [])


def test_dockers_health_check_does_not_cut_a_migration_short(site: Site) -> None:
    site.run("webui:1")
    site.host.versions["webui:2"] = {"health": "unhealthy"}
    site.run("webui:2")
    assert site.host.running and site.host.running.image == "webui:2"


def test_too_many_log_ins_are_waited_out(site: Site) -> None:
    minutes = []

    def sleep(seconds: float) -> None:
        minutes.append(seconds)
        site.host.api.log_in_status = 0 if len(minutes) == 2 else 429

    interface = Interface(site.params["base_url"], sleep)
    site.host.api.log_in_status = 429
    assert interface.wait_for_log_in(EMAIL, PASSWORD, 30) == ""
    assert minutes == [61, 61]
    site.host.api.log_in_status = 429
    busy = Interface(site.params["base_url"], lambda _seconds: None)
    assert "too many log-ins" in busy.wait_for_log_in(EMAIL, PASSWORD, 30)


def test_a_log_in_that_needs_a_moment_gets_it(site: Site) -> None:
    site.host.api.log_in_status = 500

    def sleep(_seconds: float) -> None:
        site.host.api.log_in_status = 0

    assert Interface(site.params["base_url"], sleep).wait_for_log_in(EMAIL, PASSWORD, 30) == ""


def test_an_image_that_is_not_there_costs_nothing(site: Site) -> None:
    site.run("webui:1")
    with pytest.raises(FleetError, match="webui:3 was not pulled"):
        site.run("webui:3")
    assert site.host.done == ["pull webui:3"]
    assert site.run("webui:1")["changed"] is False


def test_without_room_nothing_is_touched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run("webui:1")
    monkeypatch.setattr(open_webui_release, "free", lambda _path: 10**6)
    with pytest.raises(FleetError, match="1 MB free") as caught:
        site.run("webui:2")
    assert "open_webui_backup_dir" in caught.value.remedy
    assert "stop" not in site.host.done


def test_a_container_that_was_removed_is_no_reason_to_go_without_a_backup(site: Site) -> None:
    site.run("webui:1")
    site.host.running = None
    site.run("webui:2")
    assert len(site.backups()) == 1


def test_secrets_are_found_in_the_settings() -> None:
    text = (
        'WEBUI_SECRET_KEY="kkkk$kkkk\\"kkkk"\nDATABASE_URL="postgresql://u:pass%2Fword@db/x"\n'
        'WEBUI_NAME="my long name"\n'
        'OLLAMA_API_CONFIGS="{\\"0\\": {\\"key\\": \\"token-of-a-client\\"}}"\n# A_TOKEN="commented-out"\n'
    ).replace("kkkk$", "kkkk\\$")
    found = secrets_in(text)
    assert {'kkkk$kkkk"kkkk', "pass%2Fword", "token-of-a-client"} <= set(found)
    assert not {"my long name", "commented-out"} & set(found)
    assert redacted("for u:pass%2Fword at token-of-a-client", text) == "for u:******** at ********"

"""Upgrades of a real Open WebUI, from 0.12.0 to 0.12.4 and to versions that go wrong, on a host of the lab.

The images beside the lab's own: the older one costs 110 MB of wheels, 0.4 GB and half a minute; the broken one nothing
to speak of. A way back waits for `open_webui_start_timeout` where a version never answers.
"""

import json
import subprocess
from collections.abc import Iterator
from threading import Thread

import pytest

from lab.lab import Lab
from tests.system.conftest import ROOT, Session
from tests.system.inventory import variable
from tests.system.test_lab import changed_tasks
from tests.system.web_estate import BACKUPS, Estate, estate, wait_for

pytestmark = pytest.mark.long

HOST = "upgrade1"
OLD, NEW = "0.12.0", "0.12.4"
REVISION = (
    "sudo python3 -c \"import sqlite3; print(sqlite3.connect('/var/lib/open-webui/webui.db')"
    ".execute('SELECT version_num FROM alembic_version').fetchone()[0])\""
)


@pytest.fixture(scope="module")
def images(lab: Session) -> dict[str, str]:
    """The images by what they are."""
    return {
        "old": Lab(ROOT).publish("open-webui-before"),
        "new": variable(lab, "web1", "open_webui_image"),
        "broken": Lab(ROOT).publish("open-webui-broken"),
    }


@pytest.fixture(scope="module")
def host(lab: Session, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """A host with the older version, and a chat in it."""
    folder = tmp_path_factory.mktemp("upgrade")
    with estate(lab, folder, HOST, open_webui_image=images["old"], open_webui_start_timeout=90) as hosts:
        hosts.up()
        site = hosts.site(HOST)
        assert site.version == OLD
        site.write_chat("of the older version")
        yield hosts


def is_as_it_was(host: Estate, image: str) -> None:
    site = host.site(HOST)
    assert site.version == OLD
    assert "of the older version" in site.chats()
    assert image in host.ssh(HOST, "cat /opt/ollama-fleet/open-webui/compose.yaml")
    assert not host.ssh(HOST, f"sudo find {BACKUPS} -name journal.json")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("log-in", "cannot log in (HTTP 500)"),
        ("health", "/health answers HTTP 500"),
        ("exit", "container open-webui is"),
    ],
)
def test_a_version_that_goes_wrong_is_taken_back_with_its_database(
    host: Estate, images: dict[str, str], broken: str, words: str
) -> None:
    revision = host.ssh(HOST, REVISION)
    before = host.backups(HOST)
    result = host.up(check=False, open_webui_image=images["broken"], open_webui_environment={"BROKEN": broken})
    assert result.returncode != 0
    for word in (words, "is back with its database and works", f"{BACKUPS}/"):
        assert word in result.stdout, result.stdout[-4000:]
    assert "broken: " in result.stdout, "the last line of the log is not in it"
    is_as_it_was(host, images["old"])
    assert host.ssh(HOST, REVISION) == revision
    (backup,) = set(host.backups(HOST)) - set(before)
    assert host.manifest(HOST, backup)["outcome"].startswith("taken back: ")
    tables = "SELECT name FROM sqlite_master WHERE name = 'auth_of_the_broken_version'"
    kept = f"{BACKUPS}/{backup}/failed/webui.db"
    assert host.ssh(
        HOST, f'sudo python3 -c "import sqlite3; print(sqlite3.connect(\'{kept}\').execute(\\"{tables}\\").fetchone())"'
    )
    # The inventory as it was finds nothing to do but to write its record.
    host.up(open_webui_image=images["old"], open_webui_environment={})
    assert host.site(HOST).version == OLD


def test_a_run_that_is_cut_is_settled_by_the_next(host: Estate, images: dict[str, str]) -> None:
    host.write(open_webui_image=images["broken"], open_webui_environment={"BROKEN": "health"})
    command = [str(ROOT / "inv"), "up", "--inventory", str(host.folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        drain = Thread(target=run.communicate)
        drain.start()
        journal = f"sudo cat {BACKUPS}/journal.json 2>/dev/null || echo {{}}"
        wait_for(lambda: json.loads(host.ssh(HOST, journal)).get("phase") == "starting", 300)
        # The module itself, as if the host had lost its power. It came by standard input, so it has no other name.
        host.ssh(HOST, "sudo pkill --signal KILL --full --exact /usr/bin/python3")
        drain.join(300)
    assert json.loads(host.ssh(HOST, journal))["phase"] == "starting"
    result = host.up(check=False)
    assert result.returncode != 0
    assert "is back with its database and works" in result.stdout, result.stdout[-4000:]
    is_as_it_was(host, images["old"])


def test_a_log_in_that_fails_already_stops_an_upgrade_before_it_begins(host: Estate, images: dict[str, str]) -> None:
    host.up(open_webui_image=images["old"], open_webui_environment={})
    before = host.backups(HOST)
    result = host.up(check=False, open_webui_image=images["new"], open_webui_admin_password="not-the-one-that-counts-1")
    assert result.returncode != 0
    assert "was not touched, because its upgrade could not be proved" in result.stdout, result.stdout[-4000:]
    assert host.backups(HOST) == before
    del host.variables["open_webui_admin_password"]
    is_as_it_was(host, images["old"])


def test_a_disk_without_room_stops_an_upgrade_before_it_begins(host: Estate, images: dict[str, str]) -> None:
    host.ssh(HOST, "sudo mkdir -p /mnt/small && sudo mount -t tmpfs -o size=1m tmpfs /mnt/small")
    result = host.up(check=False, open_webui_image=images["new"], open_webui_backup_dir="/mnt/small/backups")
    assert result.returncode != 0
    assert "there is no room for a way back" in result.stdout, result.stdout[-4000:]
    host.ssh(HOST, "sudo umount /mnt/small")
    del host.variables["open_webui_backup_dir"]
    is_as_it_was(host, images["old"])


def test_a_good_version_is_taken_and_what_was_there_is_there(host: Estate, images: dict[str, str]) -> None:
    revision = host.ssh(HOST, REVISION)
    before = host.backups(HOST)
    host.write(open_webui_image=images["new"])
    shown = host.lab.inv("up", "--check", "--diff", "--inventory", str(host.folder))
    assert images["new"] in shown.stdout
    assert host.backups(HOST) == before
    host.up()
    site = host.site(HOST)
    assert site.version == NEW
    assert "of the older version" in site.chats()
    assert host.ssh(HOST, REVISION) != revision, "nothing was migrated: the test proves nothing"
    backup = host.backups(HOST)[-1]
    manifest = host.manifest(HOST, backup)
    assert manifest["outcome"] == "the new one works"
    assert (manifest["before"]["name"], manifest["after"]["name"]) == (images["old"], images["new"])
    part = manifest["database"][0]
    assert host.ssh(HOST, f"sudo sha256sum {BACKUPS}/{backup}/webui.db").split()[0] == part["sha256"]
    modes = host.ssh(HOST, f"sudo find {BACKUPS} -type f -printf '%m %U\\n' | sort -u")
    assert modes.split() == ["600", "0"]
    assert len(host.backups(HOST)) == 3, "open_webui_backups_kept"
    result = host.lab.inv("up", "--full", "--inventory", str(host.folder))
    assert changed_tasks(result.stdout) == {HOST: 0}, result.stdout


def test_the_old_version_does_not_run_over_the_new_ones_database(host: Estate, images: dict[str, str]) -> None:
    # Why the database goes back with the image: this way down is none, and is taken back in its turn.
    result = host.up(check=False, open_webui_image=images["old"])
    assert result.returncode != 0
    assert "is back with its database and works" in result.stdout, result.stdout[-4000:]
    assert host.site(HOST).version == NEW


def test_it_is_removed_with_its_data_only_when_asked(host: Estate, images: dict[str, str]) -> None:
    host.write(open_webui_image=images["new"])
    remove = {"ansible.builtin.include_role": {"name": "ollama_fleet.stack.open_webui", "tasks_from": "remove"}}
    host.play([{"name": "Remove", **remove}])
    assert "open-webui" not in host.ssh(HOST, "sudo docker ps --all --format '{{.Names}}'")
    assert host.ssh(HOST, "sudo ls /var/lib/open-webui/webui.db")
    host.up()
    assert "of the older version" in host.site(HOST).chats()
    host.play([{"name": "Remove", **remove, "vars": {"open_webui_remove_data": True}}])
    assert host.ssh(HOST, f"sudo ls -d /var/lib/open-webui {BACKUPS} 2>/dev/null || true") == ""

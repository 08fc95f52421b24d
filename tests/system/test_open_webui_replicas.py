"""Two real Open WebUIs over a real PostgreSQL and a real Redis, on two hosts of the lab: one log-in, one upgrade."""

import shlex
from collections.abc import Iterator
from secrets import token_hex

import pytest
import requests

from lab.lab import Lab
from tests.system.conftest import ROOT, Session
from tests.system.inventory import variable
from tests.system.web_estate import BACKUPS, Estate, estate, wait_for

pytestmark = pytest.mark.long

FIRST, SECOND = "replica1", "replica2"
PASSWORD = token_hex(16)


@pytest.fixture(scope="module")
def replicas(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    database = Lab(ROOT).publish("database")
    old = Lab(ROOT).publish("open-webui-before")
    with estate(lab, tmp_path_factory.mktemp("replicas"), FIRST, SECOND) as hosts:
        docker = {"ansible.builtin.include_role": {"name": "ollama_fleet.stack.docker"}}
        hosts.play([{"name": "Install Docker", **docker}])
        publish = "--publish 5432:5432 --publish 6379:6379"
        run = f"sudo docker run -d --name database --env-file /dev/stdin {publish} {database}"
        hosts.ssh(FIRST, f"echo PASSWORD={PASSWORD} | {run}")
        ready = "sudo docker exec database /opt/postgresql/pg_isready -h 127.0.0.1 >/dev/null && echo yes || true"
        wait_for(lambda: hosts.ssh(FIRST, ready), 60)
        address = hosts.addresses[FIRST]
        hosts.up(
            open_webui_image=old,
            open_webui_database_url=f"postgresql://webui:{PASSWORD}@{address}:5432/webui",
            open_webui_redis_url=f"redis://:{PASSWORD}@{address}:6379/0",
            open_webui_migrating_host=FIRST,
            open_webui_postgresql_client=database,
            open_webui_start_timeout=120,
        )
        yield hosts


def inside(hosts: Estate, command: str) -> str:
    """What a command says in the container of both, whose shell knows PASSWORD: sudo writes down what it runs."""
    return hosts.ssh(FIRST, f"sudo docker exec database sh -c {shlex.quote(command)}").strip()


def sql(hosts: Estate, query: str) -> str:
    return inside(hosts, f'psql "postgresql://webui:$PASSWORD@127.0.0.1/webui" -Atc "{query}"')


def redis(hosts: Estate, command: str) -> str:
    return inside(hosts, f'redis-cli -a "$PASSWORD" --no-auth-warning {command}')


def test_a_session_of_one_counts_on_the_other_and_what_is_written_is_there(replicas: Estate) -> None:
    first = replicas.site(FIRST)
    first.write_chat("written on the first")
    headers = {"Authorization": f"Bearer {first.token}"}
    url = f"http://{replicas.addresses[SECOND]}:3000/api/v1/chats/?page=1"
    answer = requests.get(url, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert "written on the first" in {chat["title"] for chat in answer.json()}


def test_the_database_is_postgresql_and_redis_is_used(replicas: Estate) -> None:
    assert int(sql(replicas, "SELECT count(*) FROM chat")) >= 1
    clients = redis(replicas, "client list")
    assert len({line.split()[1].partition(":")[0] for line in clients.splitlines() if "cmd=" in line}) >= 1
    assert "open-webui" in redis(replicas, "keys '*'")
    assert replicas.ssh(SECOND, "sudo ls /var/lib/open-webui/webui.db 2>/dev/null || true") == ""


def test_a_bad_version_leaves_both_as_they_were(replicas: Estate) -> None:
    revision = sql(replicas, "SELECT version_num FROM alembic_version")
    result = replicas.up(check=False, open_webui_image=Lab(ROOT).publish("open-webui-broken"))
    assert result.returncode != 0
    assert "is back with its database and works" in result.stdout, result.stdout[-4000:]
    assert f"{FIRST}, which changes the database for all replicas, did not come through" in result.stdout
    assert sql(replicas, "SELECT version_num FROM alembic_version") == revision
    assert sql(replicas, "SELECT count(*) FROM pg_tables WHERE tablename = 'auth_of_the_broken_version'") == "0"
    for host in (FIRST, SECOND):
        assert replicas.site(host).version == "0.12.0"
        assert "written on the first" in replicas.site(host).chats()
    assert replicas.ssh(FIRST, f"sudo find {BACKUPS} -path '*/failed/database.dump' -size +0")


def test_a_good_version_comes_to_both(replicas: Estate, lab: Session) -> None:
    revision = sql(replicas, "SELECT version_num FROM alembic_version")
    replicas.up(open_webui_image=variable(lab, "web1", "open_webui_image"))
    assert sql(replicas, "SELECT version_num FROM alembic_version") != revision
    for host in (FIRST, SECOND):
        assert replicas.site(host).version == "0.12.4"
        assert "written on the first" in replicas.site(host).chats()
    assert replicas.ssh(SECOND, f"sudo find {BACKUPS} -name database.dump 2>/dev/null || true") == ""


def test_the_passwords_are_in_no_file_that_others_read_and_in_no_command_line(replicas: Estate) -> None:
    # In two parts, lest the search finds itself.
    pattern = f"printf %s%s {PASSWORD[:9]} {PASSWORD[9:]}"
    for host in (FIRST, SECOND):
        assert replicas.ssh(host, f"{pattern} | grep -rlf - /opt /etc /var/log /tmp 2>/dev/null || true") == ""
    # On the first host, the test's own Redis has it in its arguments.
    assert replicas.ssh(SECOND, f"{pattern} | sudo grep -lf - /proc/[0-9]*/cmdline 2>/dev/null || true") == ""
    # sudo's log holds each command that was run by it.
    logged = f"{pattern} | sudo grep -clf - /var/log/journal -r 2>/dev/null || true"
    for host in (FIRST, SECOND):
        assert replicas.ssh(host, logged) == ""

"""Real databases saved, spoilt and put back: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_database import (
    Postgresql,
    Programs,
    Sqlite,
    connection,
    why_of,
)

BIN = max((str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")), default="")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as a container leaves it that was killed: with what is not yet in the database beside it."""
    folder = tmp_path / "data"
    (folder / "vector_db").mkdir(parents=True)
    for name in ("webui.db", "vector_db/chroma.sqlite3"):
        with closing(sqlite3.connect(tmp_path / "live.db")) as live:
            live.execute("PRAGMA journal_mode=wal")
            live.execute("CREATE TABLE chat (title text)")
            live.execute("INSERT INTO chat VALUES ('first')")
            live.commit()
            for end in ("", "-wal", "-shm"):
                shutil.copy(f"{tmp_path}/live.db{end}", folder / (name + end))
        (tmp_path / "live.db").unlink()
    (folder / "webui.db").chmod(0o644)
    return folder


def chats(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT title FROM chat ORDER BY rowid")]


def migrate(data: Path) -> None:
    with closing(sqlite3.connect(data / "webui.db")) as database:
        database.execute("ALTER TABLE chat RENAME TO conversation")
        database.commit()


def test_what_was_not_yet_written_into_it_is_saved_too(data: Path, tmp_path: Path) -> None:
    database = Sqlite(str(data))
    assert database.exists()
    assert database.size() > (data / "webui.db").stat().st_size
    parts = database.save(str(tmp_path / "backup"))
    assert [part["name"] for part in parts] == ["webui.db", "vector_db/chroma.sqlite3"]
    assert chats(tmp_path / "backup" / "webui.db") == ["first"]
    assert parts[0]["bytes"] == (tmp_path / "backup" / "webui.db").stat().st_size
    assert (tmp_path / "backup" / "webui.db").stat().st_mode & 0o777 == 0o600


def test_what_a_version_made_of_it_is_kept_and_the_old_one_put_back(data: Path, tmp_path: Path) -> None:
    database, backup = Sqlite(str(data)), tmp_path / "backup"
    parts = database.save(str(backup))
    migrate(data)
    (data / "uploads").mkdir()
    for _again in range(2):
        database.keep(str(backup))
    assert not (data / "webui.db").exists()
    (data / "webui.db-wal").write_bytes(b"left by an earlier try")
    for _again in range(2):
        database.restore(str(backup), parts)
    assert not list(data.glob("*-wal")), "SQLite would read it into the database that was put back"
    assert chats(data / "webui.db") == ["first"]
    assert (data / "webui.db").stat().st_mode & 0o777 == 0o644
    assert (data / "uploads").is_dir()
    with closing(sqlite3.connect(backup / "failed" / "webui.db")) as failed:
        assert failed.execute("SELECT title FROM conversation").fetchone() == ("first",)


def test_a_damaged_database_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "webui.db-wal").unlink()
    (data / "webui.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(FleetError, match="was not backed up, so nothing was changed: SQLite says of it"):
        Sqlite(str(data)).save(str(tmp_path / "backup"))


def test_a_backup_that_was_changed_is_not_put_back(data: Path, tmp_path: Path) -> None:
    database, backup = Sqlite(str(data)), tmp_path / "backup"
    parts = database.save(str(backup))
    (backup / "webui.db").write_bytes(b"x")
    with pytest.raises(FleetError, match="it was changed"):
        database.restore(str(backup), parts)
    assert chats(data / "webui.db") == ["first"]


def test_a_connection_is_read_from_its_url() -> None:
    assert connection("postgresql://we%40b:p%2Fw@db.example:5433/chats?sslmode=verify-full") == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "we@b",
        "PGPASSWORD": "p/w",
        "PGDATABASE": "chats",
        "PGSSLMODE": "verify-full",
        "PGCONNECT_TIMEOUT": "10",
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server of PostgreSQL on a socket of its own, and the environment to reach it as a user who is no superuser."""
    if not BIN:
        pytest.skip("no PostgreSQL server is installed")
    folder = tmp_path_factory.mktemp("pg", numbered=True)
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
        for path in folder.parents[:2]:
            path.chmod(0o755)

    def tool(name: str, *arguments: str) -> None:
        # Nothing is captured: the server would keep a pipe open as long as it lives.
        subprocess.run([f"{BIN}/{name}", *arguments], user=user, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    tool("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "boss", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    tool("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
    try:
        for query in ("CREATE ROLE webui LOGIN", "CREATE DATABASE webui OWNER webui"):
            tool("psql", "-h", str(folder), "-U", "boss", "-d", "postgres", "-c", query)
        yield {"PGHOST": str(folder), "PGUSER": "webui", "PGDATABASE": "webui"}
    finally:
        tool("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


def test_postgresql_is_dumped_and_put_back(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    run = Programs(server)

    def sql(query: str) -> str:
        code, out, err = run("psql", ["-At", "-v", "ON_ERROR_STOP=1", "-c", query])
        assert code == 0, err
        return out.strip()

    database = Postgresql(run)
    assert not database.exists()
    sql("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE chat (id serial PRIMARY KEY, title text, m mood)")
    sql("CREATE TABLE turn (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, said text)")
    sql("INSERT INTO turn (said) VALUES ('hello')")
    sql("INSERT INTO chat (title, m) VALUES ('first', 'good'); CREATE VIEW \"The titles\" AS SELECT title FROM chat")
    assert database.exists()
    assert database.size() > 1024**2
    parts = database.save(str(tmp_path))
    assert parts[0]["name"] == "database.dump"
    sql(
        "ALTER TABLE chat ADD COLUMN extra text; CREATE TABLE newer (id int REFERENCES chat);"
        "INSERT INTO chat VALUES (7)"
    )
    for _again in range(2):
        database.keep(str(tmp_path))
        database.restore(str(tmp_path), parts)
    assert sql("SELECT id, title, m FROM chat") == "1|first|good"
    assert sql('SELECT title FROM "The titles"') == "first"
    assert sql("SELECT count(*) FROM pg_tables WHERE tablename = 'newer'") == "0"
    assert sql("INSERT INTO chat (title) VALUES ('second') RETURNING id").startswith("2")
    assert sql("INSERT INTO turn (said) VALUES ('again') RETURNING id").startswith("2")
    assert (tmp_path / "failed" / "database.dump").stat().st_size > 0
    assert run("psql", ["-c", "SELECT extra FROM chat"])[0] != 0
    with pytest.raises(FleetError, match="could not ask it"):
        Postgresql(lambda *_told: (2, "", "psql: error: connection refused\n")).exists()


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ("psql: error: connection refused\n", "psql: error: connection refused"),
        (
            "NOTICE:  drop cascades\nERROR:  cannot drop sequence s\nHINT:  You can drop its table.\n",
            "ERROR:  cannot drop sequence s",
        ),
        ("FATAL:  the database system is starting up\nmore\n", "FATAL:  the database system is starting up"),
        ("what\nelse\n\n", "else"),
        ("", ""),
    ],
)
def test_the_line_that_says_why_is_found_among_hints(errors: str, why: str) -> None:
    assert why_of(errors) == why


def test_without_its_programs_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FleetError, match="this host has no pg_dump"):
        Postgresql(Programs({})).save("/nowhere")


def test_programs_of_an_image_get_the_password_in_their_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@"; test "$PGPASSWORD" = s3cret\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    code, out, _err = Programs({"PGPASSWORD": "s3cret"}, "postgres:17.2", "webui_default")("pg_dump", ["-Fc"])
    assert code == 0
    assert out == "run --rm --interactive --network=webui_default --env=PGPASSWORD postgres:17.2 pg_dump -Fc\n"

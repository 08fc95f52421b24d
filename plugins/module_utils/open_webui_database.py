# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Saves Open WebUI's database, puts aside what a version made of it, and puts it back. Nothing else uses it meanwhile.

Both kinds have the same methods: exists(), size(), save(folder) -> parts, keep(folder), restore(folder, parts). Each
can be repeated after it was cut. A part is {name, bytes, sha256}; of a file also {uid, gid, mode}.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import urllib.parse
from contextlib import ExitStack, closing

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_backups import sync

# Accounts, chats and settings; and what the full image's own vector store keeps, whose format moves with it.
SQLITE_FILES = ("webui.db", os.path.join("vector_db", "chroma.sqlite3"))
BESIDE = ("", "-wal", "-shm", "-journal")
DUMP = "database.dump"
FAILED = "failed"
# Everything of ours in the schema, but what belongs to an extension (e), which only its owner may drop, and what goes
# with its table and not without it (i): the sequence of an identity column. By name, not by id: what went with another
# has none any more, and newer servers take the number of its id for a name.
EMPTY_SCHEMA = """
DO $$
DECLARE thing record;
BEGIN
  FOR thing IN
    SELECT format('%I.%I', current_schema(), c.relname) AS name,
           CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE'
           END AS kind
    FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace
      AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND NOT EXISTS (
        SELECT 1 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i')
      )
  LOOP
    EXECUTE format('DROP %s IF EXISTS %s CASCADE', thing.kind, thing.name);
  END LOOP;
  FOR thing IN
    SELECT format('%I.%I', current_schema(), t.typname) AS name FROM pg_type t
    WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype IN ('e', 'd')
      AND NOT EXISTS (
        SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
      )
  LOOP
    EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', thing.name);
  END LOOP;
END $$;
"""


class Sqlite:
    """The database files in Open WebUI's data folder."""

    kind = "sqlite"

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir

    def exists(self) -> bool:
        return os.path.exists(os.path.join(self.data_dir, SQLITE_FILES[0]))

    def size(self) -> int:
        """Bytes of all files, what is not yet written into the database included."""
        paths = [path + end for path in self._there() for end in BESIDE]
        return sum(os.path.getsize(path) for path in paths if os.path.exists(path))

    def save(self, folder: str) -> list[dict]:
        """Copy each database through SQLite's own backup, which takes in what lies beside it, and check the copy."""
        parts = []
        for path in self._there():
            name = os.path.relpath(path, self.data_dir)
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            try:
                with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
                    source.backup(copy)
                    said = copy.execute("PRAGMA integrity_check").fetchone()[0]
            except sqlite3.Error as error:
                said = str(error)
            if said != "ok":
                raise FleetError(
                    f"the database {path} was not backed up, so nothing was changed",
                    f"SQLite says of it: {said}",
                    "mend it (sqlite3 webui.db .recover), or put a backup in its place, then run again",
                )
            status = os.stat(path)
            owner = {"uid": status.st_uid, "gid": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
            parts.append({**described(folder, name), **owner})
        return parts

    def keep(self, folder: str) -> None:
        """Move what is there into the folder's part for what failed, where nobody but root reads it."""
        for path in self._named():
            for end in BESIDE:
                kept = os.path.join(folder, FAILED, os.path.relpath(path, self.data_dir) + end)
                move(path + end, kept)
                if os.path.exists(kept):
                    os.chmod(kept, 0o600)

    def restore(self, folder: str, parts: list[dict]) -> None:
        """Put back each database that was saved; one that was not there then is not there again."""
        for part in parts:
            must_be_whole(folder, part)
        for path in self._named():
            for end in BESIDE:
                if os.path.exists(path + end):
                    os.remove(path + end)
        for part in parts:
            target = os.path.join(self.data_dir, part["name"])
            copy_whole(os.path.join(folder, part["name"]), target, (part["uid"], part["gid"], part["mode"]))

    def _named(self) -> list[str]:
        return [os.path.join(self.data_dir, name) for name in SQLITE_FILES]

    def _there(self) -> list[str]:
        return [path for path in self._named() if os.path.exists(path)]


class Postgresql:
    """A database of PostgreSQL, through its own programs.

    run: Programs, or a double: (program, arguments, source or None, target or None) -> (exit code, output, errors)
    """

    kind = "postgresql"

    def __init__(self, run) -> None:
        self.run = run

    def exists(self) -> bool:
        return int(self._ask("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")) > 0

    def size(self) -> int:
        """Bytes of the whole database, which a compressed dump does not reach."""
        return int(self._ask("SELECT pg_database_size(current_database())"))

    def save(self, folder: str) -> list[dict]:
        """Dump it, and have the dump read back."""
        self._dump(os.path.join(folder, DUMP))
        return [described(folder, DUMP)]

    def keep(self, folder: str) -> None:
        """Dump what the new version made of it."""
        os.makedirs(os.path.join(folder, FAILED), mode=0o700, exist_ok=True)
        self._dump(os.path.join(folder, FAILED, DUMP))

    def restore(self, folder: str, parts: list[dict]) -> None:
        """Empty the schema and read the dump."""
        for part in parts:
            must_be_whole(folder, part)
        self._must("empty its schema", "psql", ["--set=ON_ERROR_STOP=1", "--quiet", "--command", EMPTY_SCHEMA])
        arguments = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", "--dbname="]
        self._must("read the dump", "pg_restore", arguments, source=os.path.join(folder, DUMP))

    def _dump(self, path: str) -> None:
        part = f"{path}.part"
        arguments = ["--format=custom", "--no-owner", "--no-privileges", "--no-comments"]
        self._must("dump it", "pg_dump", arguments, target=part)
        if not self._must("read its dump", "pg_restore", ["--list"], source=part).strip():
            raise FleetError(
                "the dump of Open WebUI's database", "it is empty", "run again; see pg_dump's own words with -vvv"
            )
        os.replace(part, path)
        sync(os.path.dirname(path))

    def _ask(self, query: str) -> str:
        return self._must("ask it", "psql", ["--tuples-only", "--no-align", "--command", query]).strip()

    def _must(self, what: str, program: str, arguments: list[str], source=None, target=None) -> str:
        code, out, err = self.run(program, arguments, source, target)
        if code:
            raise FleetError(
                f"Open WebUI's PostgreSQL database: could not {what}",
                why_of(err) or f"{program} ended with {code}",
                "its programs must be as new as the server (open_webui_postgresql_client), the server must answer, and "
                "the user must own the tables; then run again",
            )
        return out


def why_of(errors: str) -> str:
    """The line that says why: the first that PostgreSQL calls an error, as hints come after it, else the last."""
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    return next((line for line in said if re.search(r"\b(ERROR|FATAL):|error:", line)), said[-1] if said else "")


class Programs:
    """PostgreSQL's own programs, of the host or out of an image. The password is in their environment alone.

    environment: of `connection`
    image, network: with psql, pg_dump and pg_restore, and Docker's to run it in; no image means the host's programs
    """

    def __init__(self, environment: dict[str, str], image: str = "", network: str = "") -> None:
        self.environment, self.image, self.network = environment, image, network

    def __call__(self, program: str, arguments: list[str], source=None, target=None) -> tuple[int, str, str]:
        """Run one. source: the file that it reads, target: the file that its output goes to."""
        command = [program, *arguments]
        if self.image:
            names = [f"--env={name}" for name in self.environment]
            command = [
                "docker",
                "run",
                "--rm",
                "--interactive",
                f"--network={self.network}",
                *names,
                self.image,
                *command,
            ]
        elif shutil.which(program) is None:
            raise FleetError(
                "Open WebUI's PostgreSQL database cannot be backed up",
                f"this host has no {program}",
                "install postgresql-client as new as the server, or name an image: open_webui_postgresql_client",
            )
        with ExitStack() as open_files:
            done = subprocess.run(
                command,
                env={**os.environ, **self.environment},
                stdin=open_files.enter_context(open(source, "rb")) if source else subprocess.DEVNULL,
                stdout=open_files.enter_context(open(target, "wb", opener=for_root)) if target else subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
        return done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode(errors="replace")


def for_root(path: str, flags: int) -> int:
    """Open a file that nobody else can read."""
    return os.open(path, flags, 0o600)


def connection(url: str) -> dict[str, str]:
    """The environment that PostgreSQL's programs take their connection from (libpq), of a URL in SQLAlchemy's form."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    found = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": urllib.parse.unquote(parts.username or ""),
        "PGPASSWORD": urllib.parse.unquote(parts.password or ""),
        "PGDATABASE": urllib.parse.unquote(parts.path.lstrip("/")),
        "PGSSLMODE": query.get("sslmode", ""),
        "PGCONNECT_TIMEOUT": "10",
    }
    return {name: value for name, value in found.items() if value}


def described(folder: str, name: str) -> dict:
    """{name, bytes, sha256} of a file, which is on disk when this returns."""
    digest, size = hashlib.sha256(), 0
    with open(os.path.join(folder, name), "rb") as file:
        while block := file.read(1024**2):
            digest.update(block)
            size += len(block)
        os.fsync(file.fileno())
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}


def must_be_whole(folder: str, part: dict) -> None:
    """Raise FleetError unless a part of a backup is what it was when it was written."""
    path = os.path.join(folder, part["name"])
    now = described(folder, part["name"]) if os.path.exists(path) else {}
    if now.get("sha256") != part["sha256"]:
        raise FleetError(
            f"the backup {path} is not as it was written",
            "it was changed" if now else "it is gone",
            "Open WebUI stands still and its database is untouched: take another backup by hand (docs/open-webui.md)",
        )


def move(source: str, target: str) -> None:
    """Move a file, to another disk too; no file is no error. Cut, it is whole at one of the two."""
    if not os.path.exists(source):
        return
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        status = os.stat(source)
        copy_whole(source, target, (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)))
        os.remove(source)


def copy_whole(source: str, target: str, owner: tuple[int, int, int]) -> None:
    """Copy a file; the target is whole or as it was. owner: user, group and mode that it gets."""
    part = f"{target}.part"
    user, group, mode = owner
    shutil.copyfile(source, part)
    os.chown(part, user, group)
    os.chmod(part, mode)
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    sync(os.path.dirname(target))

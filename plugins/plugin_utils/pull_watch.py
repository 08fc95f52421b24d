# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Watches a pull while its module runs on a host: docs/distribution.md says why in this way."""

from __future__ import annotations

import copy
import json
import os
import secrets
import shlex
import threading
import time
import urllib.parse
from pathlib import Path

from ansible.utils.display import Display
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.pull_progress import PullProgress

# Where the module writes. /run is a file system in memory: what a killed module leaves is gone with the next start.
FOLDER = "/run/ollama-fleet"
# Folder in which ./inv, on a terminal, finds how far each host is. Without it, lines are written now and then.
VIEW = "OLLAMA_FLEET_PULLS"
# All hosts together: at most so many looks and so many lines a second.
LOOKS_PER_SECOND, LINES_PER_SECOND = 8, 1
FIRST_LOOK, FIRST_LINE = 2.0, 10.0
GIVE_UP_AFTER = 3


def progress_file():
    """A file on the host for one pull: no other run can take it for its own."""
    return f"{FOLDER}/pull-{secrets.token_hex(8)}.json"


def second_session(connection):
    """A connection for a second command at the same time, without sudo; None where that would log in once more."""
    if connection.transport == "ssh":
        options = [connection.get_option(name) or "" for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")]
        if "controlpersist" not in " ".join(options).lower():
            return None
    second = copy.copy(connection)
    second.become = None
    return second


class PullWatch:
    """A context manager around a module that pulls. It looks at the module's file through a thread and tells.

    connection: of the host. workers: how many hosts are at work at once.
    """

    def __init__(self, connection, host, path, workers):
        self._connection = second_session(connection)
        self._host = host
        self._command = f"cat {shlex.quote(path)} 2>/dev/null || true"
        self._every = max(FIRST_LOOK, workers / LOOKS_PER_SECOND)
        self._line_every = max(FIRST_LINE, workers / LINES_PER_SECOND)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        if self._connection is not None:
            self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._over.set()
        if self._connection is not None:
            # A look that hangs dies with this process: nobody waits for it.
            self._thread.join(FIRST_LOOK)

    def _run(self):
        teller = _View(self._host) if os.environ.get(VIEW) else _Lines(self._host, self._line_every)
        progress, failures = PullProgress(), 0
        while not self._over.wait(self._every):
            try:
                state = self._look()
                failures = 0
            except Exception:  # whatever a connection plugin raises: the pull itself will tell
                failures += 1
                if failures == GIVE_UP_AFTER:
                    break
                continue
            if state and not self._over.is_set():
                now = time.monotonic()
                progress.feed(state, now)
                teller.tell(progress, now)
        teller.end()

    def _look(self):
        """What the module wrote last, None when it has written nothing yet."""
        _code, output, _errors = self._connection.exec_command(self._command, in_data=None, sudoable=False)
        text = output.decode("utf-8", "replace").strip()
        return json.loads(text) if text else None


class _Lines:
    """A line of Ansible's own output now and then."""

    def __init__(self, host, every):
        self._host, self._every = host, every
        self._next = time.monotonic() + FIRST_LINE

    def tell(self, progress, now):
        if now >= self._next:
            self._next = now + self._every
            Display().display(f"{self._host}: {progress.model}: {progress.words(now)}")

    def end(self):
        pass


class _View:
    """A file for the program that shows all hosts at once: {host, model, completed, total, words}."""

    def __init__(self, host):
        self._host = host
        self._path = Path(os.environ[VIEW], urllib.parse.quote(host, safe="") + ".json")

    def tell(self, progress, now):
        told = {"host": self._host, "model": progress.model, "completed": progress.completed, "total": progress.total}
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({**told, "words": progress.words(now)}))
        new.replace(self._path)

    def end(self):
        self._path.unlink(missing_ok=True)

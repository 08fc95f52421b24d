# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Writes down how far a pull is, where a second session on the same host can read it while the module runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

# Seconds between two writings: nobody looks more often.
INTERVAL = 1.0


class PullState:
    """A context manager around a pull; ``tell`` takes PullProgress.state. Without a path it writes nothing.

    It never fails: a pull that nobody can watch is a pull all the same.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._told = 0.0

    def __enter__(self) -> PullState:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._quietly(os.unlink)

    def tell(self, state: dict[str, Any]) -> None:
        """Write the state down, unless that was done less than a second ago."""
        now = time.monotonic()
        if now - self._told >= INTERVAL:
            self._told = now
            self._quietly(lambda path: _write(path, state))

    def _quietly(self, work: Any) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                work(self._path)


def _write(path: str, state: dict[str, Any]) -> None:
    """Replace the file as a whole. Whoever logs in may read it, however strict root's umask is; there is no secret."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103 - as /run itself
    new = path + ".new"
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, 0o644)
        json.dump(state, file)
    os.replace(new, path)

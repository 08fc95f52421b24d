# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Backups of Open WebUI on a host, and the journal of the change that is under way.

FOLDER/journal.json              only while a change is under way
FOLDER/20261123T093453Z/         one for each change of the image, for root only
    manifest.json                images before and after, the database's parts with size and SHA-256, the outcome
    files/                       the project's files as they were
    webui.db or database.dump    the database as it was
    failed/                      what a version that failed made of it
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time

NAME = re.compile(r"^\d{8}T\d{6}Z(-\d+)?$")
FORMAT = 1


class Journal:
    """The backups' folder. Each change of it is whole on disk before the call returns."""

    def __init__(self, folder: str, keep: int, now=time.time) -> None:
        self.root, self.keep, self.now = folder, keep, now
        self.path = os.path.join(folder, "journal.json")
        self.entry = self._read()

    @property
    def folder(self) -> str:
        """Where the change that is under way saves to."""
        return os.path.join(self.root, self.entry["name"])

    def backups(self) -> list[str]:
        """Names of the backups, the oldest first."""
        return sorted(name for name in listed(self.root) if NAME.match(name))

    def begin(self, **told) -> None:
        """Start a change. told: before, after, with_data, log_in."""
        name = first = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.now()))
        number = 1
        while os.path.exists(os.path.join(self.root, name)):
            number += 1
            name = f"{first}-{number}"
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        # The journal first: without it nobody would know what a folder is that was begun.
        self._write({"format": FORMAT, "name": name, "phase": "saving", "why": "", "log": "", **told})
        os.makedirs(self.folder, mode=0o700)

    def move_to(self, phase: str, **told) -> None:
        """Note the next phase, and what else is to be remembered."""
        self._write({**self.entry, "phase": phase, **told})

    def save_files(self, files: dict[str, str | None]) -> None:
        """Save the project's files; None is one that is not there."""
        folder = os.path.join(self.folder, "files")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for name, text in files.items():
            if text is not None:
                write_whole(os.path.join(folder, name), text)
        write_whole(os.path.join(folder, "names.json"), json.dumps(sorted(files)))

    def saved_files(self) -> dict[str, str | None]:
        """The project's files as they were saved."""
        folder = os.path.join(self.folder, "files")
        return {name: read(os.path.join(folder, name)) for name in json.loads(read(os.path.join(folder, "names.json")))}

    def save_manifest(self, parts: list[dict]) -> None:
        """Write down what the backup holds. parts: the database's, each {name, bytes, sha256, ...}."""
        self._manifest({**self._told(), "database": parts, "outcome": "under way"})

    def saved_parts(self) -> list[dict]:
        """The database's parts that were saved."""
        return json.loads(read(os.path.join(self.folder, "manifest.json")))["database"]

    def discard(self) -> None:
        """Forget the change and what it saved."""
        # Cut in between, there is nothing to go back to, and nothing to go back from.
        self.move_to("saving")
        shutil.rmtree(self.folder, ignore_errors=True)
        self._end()

    def succeed(self) -> None:
        """The new one works: end the change, and prune."""
        if not self.entry["with_data"]:
            self.discard()
            return
        self._outcome("the new one works")
        # This one stays whatever the clock said.
        others = [name for name in self.backups() if name != self.entry["name"]]
        self._end()
        for name in others[: max(0, len(others) + 1 - self.keep)]:
            shutil.rmtree(os.path.join(self.root, name), ignore_errors=True)

    def give_up(self) -> str:
        """The old one is back: end the change. Return the folder of what failed, nothing where no data was changed."""
        if not self.entry["with_data"]:
            self.discard()
            return ""
        kept = os.path.join(self.folder, "failed")
        self._outcome(f"taken back: {self.entry['why']}")
        self._end()
        return kept

    def _told(self) -> dict:
        named = {key: self.entry[key] for key in ("name", "before", "after")}
        return {"format": FORMAT, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now())), **named}

    def _outcome(self, words: str) -> None:
        text = read(os.path.join(self.folder, "manifest.json"))
        self._manifest({**(json.loads(text) if text else self._told()), "outcome": words})

    def _manifest(self, manifest: dict) -> None:
        write_whole(os.path.join(self.folder, "manifest.json"), json.dumps(manifest, indent=2, sort_keys=True) + "\n")

    def _read(self) -> dict:
        text = read(self.path)
        return json.loads(text) if text else {}

    def _write(self, entry: dict) -> None:
        write_whole(self.path, json.dumps(entry, indent=2, sort_keys=True) + "\n")
        self.entry.clear()
        self.entry.update(entry)

    def _end(self) -> None:
        os.remove(self.path)
        sync(self.root)
        self.entry = {}


def read(path: str) -> str | None:
    """The text of a file, None where there is none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def listed(folder: str) -> list[str]:
    """The names in a folder, none where there is no folder."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def write_whole(path: str, text: str, mode: int = 0o600) -> None:
    """Replace a file as a whole, on disk when this returns."""
    part = f"{path}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.replace(part, path)
    sync(os.path.dirname(path))


def sync(folder: str) -> None:
    """Have a folder's own entries on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

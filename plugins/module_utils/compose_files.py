# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The files of a Compose project: written together, and put back together. What was there is kept until the new works.

It is kept on the disk, because a run can be cut between the writing and the first sign of life.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any, NamedTuple

PUBLIC, SECRET = 0o644, 0o600
KEPT = ".before"
# What is kept: {files: {name: whether it was there}, there, running: of the containers}. Written last.
INDEX = "index.json"
# Shorter values are words like `true`, which a log has anyway.
SHORTEST_SECRET = 8
PASSWORD = re.compile(r"(?<=//)[^/@\s\"']+@")


class ProjectFile(NamedTuple):
    """A file as it shall be. text: None for no file."""

    name: str
    text: str | None
    mode: int


def wanted(files: list[dict[str, Any]], secret_files: dict[str, str]) -> list[ProjectFile]:
    """The files of the module's two options."""
    public = [ProjectFile(one["name"], one.get("content"), PUBLIC) for one in files]
    return public + [ProjectFile(name, text, SECRET) for name, text in sorted(secret_files.items())]


class ProjectFiles:
    """The files in a project's folder."""

    def __init__(self, folder: str, files: list[ProjectFile]) -> None:
        self.folder, self.files = folder, files
        self.kept = os.path.join(folder, KEPT)

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def changed(self) -> list[ProjectFile]:
        """Those that are not as they shall be."""
        return [file for file in self.files if not self._is(file)]

    def _is(self, file: ProjectFile) -> bool:
        text = read(self.path(file.name))
        if text is None or file.text is None:
            return text is file.text
        status = os.stat(self.path(file.name))
        return text == file.text and status.st_mode & 0o7777 == file.mode and status.st_uid == os.geteuid()

    def diff(self) -> list[dict[str, str]]:
        """What Ansible shows of the changes. Of a secret file nothing but that it changes."""
        shown = []
        for file in self.changed():
            before = read(self.path(file.name)) or ""
            secret = file.mode == SECRET
            shown.append(
                {
                    "before_header": self.path(file.name),
                    "after_header": self.path(file.name),
                    "before": "(not shown)\n" if secret else before,
                    "after": "(not shown, changed)\n" if secret else file.text or "",
                }
            )
        return shown

    def pending(self) -> bool:
        """Whether an earlier run wrote files and never saw them work."""
        return os.path.exists(os.path.join(self.kept, INDEX))

    def write(self, there: bool, running: bool) -> None:
        """Keep what is there, then write what shall be. there, running: whether the project has containers, and runs"""
        if not self.pending():
            self.settle()
            os.mkdir(self.kept, 0o700)
            names = {file.name: os.path.exists(self.path(file.name)) for file in self.files}
            for name in (name for name, exists in names.items() if exists):
                shutil.copy2(self.path(name), os.path.join(self.kept, name))
            index = {"files": names, "there": there, "running": running}
            put(os.path.join(self.kept, INDEX), json.dumps(index), SECRET)
        for file in self.changed():
            if file.text is None:
                os.remove(self.path(file.name))
            else:
                put(self.path(file.name), file.text, file.mode)

    def was(self) -> dict[str, Any]:
        """What the project was before the files were written: the index of what is kept."""
        with open(os.path.join(self.kept, INDEX), encoding="utf-8") as file:
            index: dict[str, Any] = json.load(file)
        return index

    def put_back(self) -> None:
        """Have what was kept in its place, as far as anything was written."""
        for name, was_there in self.was()["files"].items() if self.pending() else ():
            if was_there:
                old = os.path.join(self.kept, name)
                put(self.path(name), read(old) or "", os.stat(old).st_mode & 0o7777)
            elif os.path.exists(self.path(name)):
                os.remove(self.path(name))
        self.settle()

    def settle(self) -> None:
        """Forget what was kept: what is there works."""
        shutil.rmtree(self.kept, ignore_errors=True)

    def secrets(self) -> list[str]:
        """Values in secret files, those included that are being taken out, which no message may have."""
        texts = [file.text or "" for file in self.files if file.mode == SECRET]
        paths = [self.path(file.name) for file in self.files if file.mode == SECRET]
        paths += [os.path.join(self.kept, file.name) for file in self.files if file.mode == SECRET]
        return values([*texts, *(read(path) or "" for path in paths)])


def values(texts: list[str]) -> list[str]:
    """The values of environment files that are long enough to be secrets, longest first."""
    found = set()
    for line in "\n".join(texts).splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            plain = value.strip().replace("\\$", "$")
            try:
                plain = str(json.loads(plain))
            except ValueError:
                plain = plain.strip("\"'")
            found |= {value.strip(), plain}
    return sorted((value for value in found if len(value) >= SHORTEST_SECRET), key=len, reverse=True)


def hidden(text: str, secrets: list[str]) -> str:
    """The text without secrets, and without the passwords of addresses."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return PASSWORD.sub("***@", text)


def read(path: str) -> str | None:
    """The text of a file, None where there is none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def put(path: str, text: str, mode: int) -> None:
    """Write a file so that it is there as a whole or not at all. A secret is never in a file that others can read."""
    new = f"{path}.new"
    if os.path.exists(new):
        os.remove(new)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8", newline="") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A lock file of an environment, whatever it locks: read, changed by one at a time, replaced as a whole.

It is meant for version control, so it is written the same way for the same content.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import yaml
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError


def entries_in(text, schema, part, problem):
    """Return the mapping PART of a lock file's text, empty for an empty file.

    schema:  what the text must say that it is
    problem: why -> the FleetError to raise
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise problem(f"it is not valid YAML ({' '.join(str(error).split())})") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or content.get("schema") != schema:
        found = content.get("schema") if isinstance(content, dict) else None
        raise problem(f"its schema is {found!r}, and this version reads {schema}")
    entries = content.get(part) or {}
    if not isinstance(entries, dict):
        raise problem(f"{part} is no mapping")
    return entries


def as_yaml(header, content):
    """Return the text of a lock file, the same for the same content."""
    # Ansible's strings remember where they come from, which YAML does not take. JSON makes plain ones of them.
    plain = json.loads(json.dumps(content))
    return header + yaml.safe_dump(plain, sort_keys=False, default_flow_style=False, width=1000)


class LockFile:
    """One kind of lock file.

    what:     its name in messages, such as "driver lock"
    variable: the variable that says where it is
    parse:    (text, path) -> content; FleetError where it is none
    render:   content -> text
    """

    def __init__(self, what, variable, parse, render):
        self.what, self.variable, self.parse, self.render = what, variable, parse, render

    def read(self, path):
        """Return the content; of a file that is not there, that of an empty one."""
        return self.parse(self.text_of(path), path)

    def text_of(self, path):
        try:
            return Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            why = f"it cannot be read: {error}"
            raise FleetError(f"{self.what} {path}", why, f"make {path} readable text") from error

    def update(self, path, change, write=True):
        """Change the file: change(content) returns the same, changed. Returns the texts (before, after).

        Nobody else reads or writes it meanwhile through this function, in this run or another. The file is replaced as
        a whole. Without `write` nothing is: the text is what it would be.
        """
        path = Path(path)
        with self.locked(path):
            before = self.text_of(path)
            content = self.parse(before, path)
            wanted = change(content)
            # A file that a person wrote another way and that says the same stays as it is.
            if wanted == content:
                return before, before
            after = self.render(wanted)
            if write:
                self.replace(path, after)
        return before, after

    @contextmanager
    def locked(self, path):
        """Hold the folder's lock: it is there before the file is, and stays when the file is replaced."""
        try:
            folder = os.open(path.parent, os.O_RDONLY)
        except OSError as error:
            why = f"its folder cannot be opened: {error}"
            raise FleetError(f"{self.what} {path}", why, f"set {self.variable} to another") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def replace(self, path, text):
        # Ansible passes over what starts with a dot, so an inventory folder is a good place.
        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except OSError as error:
            if temporary and os.path.exists(temporary):
                os.unlink(temporary)
            raise FleetError(
                f"{self.what} {path}",
                f"it cannot be written: {error}",
                f"make its folder writable, or set {self.variable} to another place",
            ) from error

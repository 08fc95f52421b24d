#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Ollama run by systemd with a release, a unit and an environment, or all of it as it was."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_native
short_description: Have systemd run a release of Ollama, or leave the host as it was
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Has the link C(current) lead to a release, writes unit and environment, and restarts the server when any of these
    changed, when it does not run, or when O(restart) says so. It must then answer.
  - When it does not, release, unit, environment and the owner of the models are put back, what ran before is started
    again, be it the old release or O(container), and the module fails with the server's own last lines.
  - The release that ran before is kept for the way back, as C(previous); older ones are removed.
options:
  path:
    description: Folder of the releases, as M(ollama_fleet.stack.ollama_release) fills it.
    type: path
    default: /opt/ollama
  release:
    description: Name of the release that is to run.
    type: str
    required: true
  unit:
    description: Text of the unit.
    type: str
    required: true
  unit_file:
    description: Where the unit is.
    type: path
    default: /etc/systemd/system/ollama.service
  environment:
    description: Text of the file with the server's variables, in the form of systemd's EnvironmentFile.
    type: str
    required: true
  environment_file:
    description: Where it is. Only root can read it.
    type: path
    default: /etc/ollama-fleet/ollama.env
  ca_certificate:
    description: Certificate of an authority, as PEM, that the server finds in O(ca_file). Empty for none.
    type: str
    default: ""
  ca_file:
    description: Where it is. Without a certificate there is no such file.
    type: path
    default: /etc/ollama-fleet/ca.pem
  data_dir:
    description: Folder of the models, which O(user) gets with all that is in it. Nothing is moved.
    type: path
    required: true
  user:
    description: User that the server runs as; its group is the models' group.
    type: str
    default: ollama
  container:
    description:
      - Container that serves until now. It is stopped before the server starts, as both need the port, and started
        again when the server does not run. Nobody removes it here.
    type: str
  restart:
    description: Whether to restart the server although nothing of the above changed.
    type: bool
    default: false
  ready_url:
    description: Address that must answer with a status below 400 after a start.
    type: str
    required: true
  wait_timeout:
    description: Seconds that it may take to answer.
    type: int
    default: 120
  log_lines:
    description: How many of its last lines the error carries.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Says what would be done. The release need not be there for that.
  diff_mode:
    support: full
    description: Shows release and unit. The environment may hold a proxy's password and is only said to change.
"""

EXAMPLES = r"""
- name: Run the server
  ollama_fleet.stack.ollama_native:
    release: 0.32.15
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    environment: "{{ lookup('ansible.builtin.template', 'ollama.native.env.j2') }}"
    data_dir: /var/lib/ollama
    ready_url: http://127.0.0.1:11434/api/version
"""

RETURN = r"""
reasons:
  description: What was not as it should be, a sentence each.
  type: list
  elements: str
  returned: success
  sample: ["0.32.15 runs in the place of 0.24.0"]
pruned:
  description: Releases that were removed, as neither the current nor the previous one.
  type: list
  elements: str
  returned: success
reason:
  description: Why it did not work, with the last line of the server and what runs now.
  type: str
  returned: on failure
log:
  description: The last lines of the server.
  type: str
  returned: when it said something
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

import contextlib
import os
import pwd
import re
import stat
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.release_store import CURRENT, Releases
from ansible_collections.ollama_fleet.stack.plugins.module_utils.systemd_unit import Unit, failure_of

IDENTIFIER = "ollama"
UNIT_MODE, SECRET_MODE, DATA_MODE = 0o644, 0o600, 0o750
# Seconds between two looks, and for which a server that answers must go on to run: another one could have answered.
LOOK, SETTLE = 0.5, 1.0
# The server writes its environment into its log when it starts.
PASSWORD = re.compile(r"(?<=://)[^/@\s\"]+@")


class NotDoneError(Exception):
    """A step that did not work: its message says why."""


class File:
    """A text file of root's with its mode, as it was found."""

    def __init__(self, path, mode):
        self.path, self.mode = path, mode
        try:
            with open(path, encoding="utf-8", newline="") as file:
                self.found = file.read()
            status = os.stat(path)
            self.tight = stat.S_IMODE(status.st_mode) == mode and status.st_uid == os.geteuid()
        except FileNotFoundError:
            self.found, self.tight = None, False

    def put(self, text):
        """Have the file hold a text, from one moment to the next; None removes it."""
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        fresh = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        with open(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline=""
        ) as file:
            file.write(text)
        os.chmod(fresh, self.mode)
        os.replace(fresh, self.path)


class Data:
    """The folder of the models, and whose it is."""

    def __init__(self, path, owner):
        """owner: (user id, group id) that it is to have, or None where the user is not there yet"""
        self.path, self.owner = path, owner
        try:
            status = os.stat(path)
            self.found = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        except FileNotFoundError:
            self.found = None

    def fits(self):
        """Whether all of it is the owner's."""
        if self.found is None or self.owner is None:
            return False
        return self.found == (*self.owner, DATA_MODE) and next(self._others(self.owner), None) is None

    def settle(self):
        os.makedirs(self.path, exist_ok=True)
        self._give(self.owner, DATA_MODE)

    def give_back(self):
        if self.found is not None:
            self._give(self.found[:2], self.found[2])

    def _give(self, owner, mode):
        for path in self._others(owner):
            os.lchown(path, *owner)
        os.chmod(self.path, mode)

    def _others(self, owner):
        """Yield what below the folder, itself included, is not the owner's. Links are not followed."""
        for folder, folders, files in os.walk(self.path):
            for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(path)
                    if (status.st_uid, status.st_gid) != owner:
                        yield path


def owner_of(user):
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    return account.pw_uid, account.pw_gid


def probe(url):
    """Return why an address does not answer yet, "" when it does."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return ""
    except OSError as error:
        if hasattr(error, "close"):
            error.close()
        return str(error)


class Server:
    """The server on this host: as it was found, as it is to be, and the way between. run: starts a program"""

    def __init__(self, params, run):
        self.params, self.run = params, run
        self.releases = Releases(params["path"])
        self.unit = Unit(run, os.path.basename(params["unit_file"]))
        self.unit_file = File(params["unit_file"], UNIT_MODE)
        self.environment_file = File(params["environment_file"], SECRET_MODE)
        self.ca_file = File(params["ca_file"], UNIT_MODE)
        authority = params["ca_certificate"].strip()
        self.texts = {
            self.unit_file: params["unit"].rstrip("\n") + "\n",
            self.environment_file: params["environment"].rstrip("\n") + "\n",
            self.ca_file: authority + "\n" if authority else None,
        }
        self.data = Data(params["data_dir"], owner_of(params["user"]))
        self.links = self.releases.links()
        state = self.unit.state()
        self.was_active = state["ActiveState"] in ("active", "activating")
        self.runs = state["ActiveState"] == "active" and state["SubState"] == "running"
        self.was_enabled = state["UnitFileState"] == "enabled"
        self.container_runs = bool(params["container"]) and self._container_runs()

    def _container_runs(self):
        code, out, _err = self.run(
            ["docker", "inspect", "--type", "container", "--format", "{{.State.Running}}", self.params["container"]]
        )
        return code == 0 and out.strip() == "true"

    def reasons(self):
        """Return (why the server has to be started anew, what else is not as it should be), as sentences."""
        start, other = [], []
        old, new = self.links[CURRENT], self.params["release"]
        if self.container_runs:
            start.append(f"systemd runs it in the place of container {self.params['container']}")
        if old != new:
            start.append(f"{new} runs in the place of {old}" if old else f"{new} runs")
        names = {self.unit_file: "unit", self.environment_file: "environment", self.ca_file: "authority"}
        for file, name in names.items():
            if file.found != self.texts[file]:
                start.append(f"its {name} {'changed' if file.found is not None else 'is new'}")
            elif file.found is not None and not file.tight:
                other.append(f"mode or owner of {file.path} changed")
        if not self.data.fits():
            other.append(f"{self.data.path} is not {self.params['user']}'s")
        if not self.was_enabled:
            other.append("it does not start at boot")
        if self.params["restart"] and not start:
            start.append("its release was unpacked anew")
        if not self.runs and not start:
            start.append("it does not run")
        return start, other

    def check(self):
        """Raise FleetError where something is missing that this module does not bring."""
        if self.releases.note(self.params["release"]) is None:
            raise FleetError(
                f"there is no release {self.params['release']} in {self.params['path']}",
                "nothing that was unpacked has that name",
                "run ollama_release before this module",
            )
        if self.data.owner is None:
            raise FleetError(
                f"there is no user {self.params['user']}",
                "the server is not to run as root",
                "make the user before this module",
            )

    def apply(self, restart):
        """Have all as it is to be, or as it was and FleetError. restart: whether the server has to start anew"""
        began = time.time()
        try:
            if self.container_runs:
                self._docker("stop")
            self.data.settle()
            self.releases.point(self.releases.after(self.params["release"]))
            for file, text in self.texts.items():
                if file.found != text or (text is not None and not file.tight):
                    file.put(text)
            self.unit.reload()
            self.unit.enable(True)
            if restart:
                self._start()
        except (NotDoneError, OSError) as problem:
            log = PASSWORD.sub("***@", self.unit.words(IDENTIFIER, began, self.params["log_lines"]))
            last = f"; the last that it said: {log.splitlines()[-1]}" if log else ""
            raise FleetError(
                f"Ollama {self.params['release']} did not start",
                f"{problem}{last} ({self._undo()})",
                "correct the setting, port or release that these words name, and run this again"
                f" (more of the journal: journalctl -u {self.unit.name})",
                log,
            ) from problem

    def _docker(self, verb):
        code, _out, err = self.run(["docker", verb, self.params["container"]])
        if code:
            raise NotDoneError(f"docker {verb} {self.params['container']}: {err.strip() or 'no reason given'}")

    def _start(self):
        """Restart the unit and wait until it answers and goes on to run; NotDoneError when it does not."""
        why = self.unit.restart()
        if why:
            raise NotDoneError(failure_of(self.unit.state()) or why)
        deadline = time.monotonic() + self.params["wait_timeout"]
        while True:
            state = self.unit.state()
            failed = failure_of(state)
            if failed:
                raise NotDoneError(failed)
            silent = probe(self.params["ready_url"])
            if not silent:
                time.sleep(SETTLE)
                after = self.unit.state()
                if after["ActiveState"] == "active" and after["MainPID"] == state["MainPID"]:
                    return
                continue
            if time.monotonic() > deadline:
                where = f"{self.params['ready_url']} did not answer within {self.params['wait_timeout']} s"
                raise NotDoneError(f"{where} ({silent})")
            time.sleep(LOOK)

    def _undo(self):
        """Put all back as it was found, and say what runs now."""
        self.unit.stop()
        if not self.was_enabled:
            self.unit.enable(False)
        self.releases.point(self.links)
        for file in self.texts:
            file.put(file.found)
        self.unit.reload()
        self.data.give_back()
        old = self.links[CURRENT]
        try:
            if self.container_runs:
                self._docker("start")
                return f"container {self.params['container']} serves again"
            if self.was_active and self.unit_file.found is not None:
                self._start()
                return f"the old release {old}, unit and environment are back, and it answers"
        except NotDoneError as problem:
            return f"what was before is back, and does not start either: {problem}"
        return "nothing ran before, and nothing does now"

    def shown(self, links, unit, environment):
        """Return the text of a diff's side."""
        return f"release: {links[CURRENT] or 'none'}\nenvironment: {environment}\n{unit or ''}"

    def diff(self):
        old, new = self.environment_file.found, self.texts[self.environment_file]
        return {
            "before": self.shown(self.links, self.unit_file.found, "as it was" if old is not None else "none"),
            "after": self.shown(
                self.releases.after(self.params["release"]),
                self.texts[self.unit_file],
                "as it was" if old == new else "changed",
            ),
            "before_header": self.unit_file.path,
            "after_header": self.unit_file.path,
        }


def ensure(params, run, check_mode):
    """The module's result; FleetError when the server does not run as it should, with all as it was."""
    server = Server(params, run)
    start, other = server.reasons()
    pruned = []
    if not check_mode:
        server.check()
        if start or other:
            server.apply(restart=bool(start))
        pruned = server.releases.prune()
    return {
        "changed": bool(start or other or pruned),
        "reasons": start + other,
        "pruned": pruned,
        "diff": server.diff(),
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/opt/ollama"},
            "release": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "unit_file": {"type": "path", "default": "/etc/systemd/system/ollama.service"},
            "environment": {"type": "str", "required": True, "no_log": True},
            "environment_file": {"type": "path", "default": "/etc/ollama-fleet/ollama.env"},
            "ca_certificate": {"type": "str", "default": ""},
            "ca_file": {"type": "path", "default": "/etc/ollama-fleet/ca.pem"},
            "data_dir": {"type": "path", "required": True},
            "user": {"type": "str", "default": "ollama"},
            "container": {"type": "str"},
            "restart": {"type": "bool", "default": False},
            "ready_url": {"type": "str", "required": True},
            "wait_timeout": {"type": "int", "default": 120},
            "log_lines": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(module.params, module.run_command, module.check_mode)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Has options in Docker's daemon.json and Docker running with them, or leaves both as they were."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon
short_description: Merge options into Docker's daemon.json, and have Docker run with them
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Merges O(options) into the file. Dictionaries are merged, lists extended, other values replaced. What others put
    there stays, and so does the file itself, with its mode, its owner and the link that it may be.
  - Options that an earlier run put there and that are no longer in O(options) are taken out, and what they took the
    place of comes back. Without any option of ours the file is as it was found, to the byte.
  - The result is checked by C(dockerd --validate) with the flags that Docker's service has, before it gets there.
    Docker is restarted only when the options changed. When it does not come up again, the old file is put back, Docker
    started with it, and the module fails with Docker's own last words.
options:
  options:
    description: The options that the file shall have. Empty takes ours out.
    type: dict
    default: {}
  path:
    description: The file. A link is followed.
    type: path
    default: /etc/docker/daemon.json
  state_file:
    description:
      - Where to remember what is ours and how the file was found. For root only, as it may hold a proxy's password.
      - Removed once nothing of ours is left.
    type: path
    default: /var/lib/ollama-fleet/docker/daemon.json
  service:
    description: Docker's unit.
    type: str
    default: docker
  started:
    description: Whether to start a service that does not run. One that runs stays running either way.
    type: bool
    default: false
requirements:
  - Docker 23 or newer, of which dockerd can validate its options
attributes:
  check_mode:
    description: Shows the change. The result is validated where there is a dockerd.
    support: full
  diff_mode:
    description: Shows the file, passwords in addresses left out.
    support: full
"""

EXAMPLES = r"""
- name: Have containers get devices by CDI
  ollama_fleet.stack.docker_daemon:
    options:
      features: {cdi: true}
    started: true

- name: Take our options out again
  ollama_fleet.stack.docker_daemon:
"""

RETURN = r"""
restarted:
  description: Whether Docker was started or restarted, or would be in check mode.
  type: bool
  returned: success
remembered:
  description: Whether anything in the file is ours, so that O(state_file) is there.
  type: bool
  returned: success
replaced:
  description: A sentence for each value of others that one of ours took the place of.
  type: list
  elements: str
  returned: success
reason:
  description: Why it did not work, in Docker's own words where they are Docker's.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import json
import os
import re
import shlex

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import daemon_options
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

CHATTER = re.compile(r"\blevel=(debug|info|warning)\b")
CORRECT = "correct docker_daemon_options, or take out of the file what others put there, and run this again"


class DaemonFile:
    """daemon.json on this host, and what is remembered about it."""

    def __init__(self, path, state_file):
        self.path, self.state_file = path, state_file
        self.target = os.path.realpath(path)
        self.text = self._read(self.target)
        remembered = self._read(state_file)
        self.state = json.loads(remembered) if remembered else {"ours": {}, "replaced": {}, "found": self.text}

    @staticmethod
    def _read(path):
        """The text of a file; None where there is none."""
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise FleetError(
                f"{path} is no UTF-8 text", str(error), f"move it away (mv {path} {path}.broken)"
            ) from error

    def plan(self, wanted):
        """Return (text or None for no file, state or None for nothing of ours, the options) as they shall be."""
        current = daemon_options.read_options(self.text or "", self.path)
        base = daemon_options.without(current, self.state["ours"], self.state["replaced"])
        options, ours, replaced = daemon_options.merged(base, wanted, order=current)
        state = {"ours": ours, "replaced": replaced, "found": self.state["found"]}
        if options == current:
            return self.text, state if ours else None, options
        found = self.state["found"]
        if not ours and options == daemon_options.read_options(found or "", self.path):
            return found, None, options
        return daemon_options.write_options(options), state if ours else None, options


class Service:
    """Docker's unit of systemd."""

    def __init__(self, module, unit):
        self.module, self.unit = module, unit

    def systemctl(self, *args):
        code, out, err = self.module.run_command(["systemctl", *args])
        return code, out.strip(), err.strip()

    def runs(self):
        return self.systemctl("is-active", self.unit)[1] == "active"

    def flags(self):
        """dockerd's own flags: of the running process, else of the unit, where variables are not known."""
        pid = self.systemctl("show", "--property=MainPID", "--value", self.unit)[1]
        try:
            with open(f"/proc/{int(pid or 0)}/cmdline", encoding="utf-8") as file:
                words = file.read().split("\0")
        except (OSError, ValueError):
            start = self.systemctl("show", "--property=ExecStart", "--value", self.unit)[1]
            words = shlex.split(start.partition("argv[]=")[2].partition(" ;")[0])
        if not words or os.path.basename(words[0]) != "dockerd":
            return []
        return [word for word in words[1:] if word and not word.startswith("$")]

    def restart(self):
        """Restart Docker; return "" or the last line that it said."""
        # The unit allows three starts a minute. A change that a person asked for must not fail because of earlier ones.
        self.systemctl("reset-failed", self.unit)
        code, _out, err = self.systemctl("restart", self.unit)
        return "" if code == 0 else self.last_words() or err or "systemctl says nothing"

    def last_words(self):
        # By the name that systemd gave the stream: a process that is gone has no other in the journal.
        _code, out, _err = self.module.run_command(
            ["journalctl", "--unit", self.unit, "--identifier=dockerd", "--lines=40", "--no-pager", "--output=cat"]
        )
        lines = [line.strip() for line in out.splitlines() if line.strip()]
        # What it says while it goes down comes after why.
        grave = [line for line in lines if not CHATTER.search(line)]
        return (grave or lines or [""])[-1]


def validate(module, text, flags):
    """Raise FleetError when Docker would refuse the text, given the flags of its service."""
    dockerd = module.get_bin_path("dockerd")
    if dockerd is None:
        return
    candidate = os.path.join(module.tmpdir, "daemon.json")
    write(candidate, text)
    code, out, err = module.run_command([dockerd, *flags, "--validate", "--config-file", candidate])
    if code:
        words = [line.strip() for line in (err or out).splitlines() if line.strip()]
        said = words[-1].replace(candidate, module.params["path"]) if words else "dockerd says nothing"
        remedy = CORRECT
        if "hosts" in said:
            remedy = (
                'take "hosts" out of the file and use a drop-in of docker.socket (systemctl edit docker.socket), '
                "or take -H out of the service's ExecStart by a drop-in, and run this again"
            )
        raise FleetError(
            f"{module.params['path']} stays as it is, because Docker refuses what it would become", said, remedy
        )


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8", newline="") as file:
        file.write(text)


def put(module, target, text):
    """Have the text in the target, with the mode and owner that it has; None removes it."""
    if text is None:
        if os.path.exists(target):
            os.remove(target)
        return
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    fresh = not os.path.exists(target)
    temporary = os.path.join(module.tmpdir, "daemon.json.new")
    write(temporary, text)
    module.atomic_move(temporary, target)
    if fresh:
        os.chmod(target, 0o644)


def remember(module, path, state):
    if state is None:
        if os.path.exists(path):
            os.remove(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = os.path.join(module.tmpdir, "state.json")
    write(temporary, json.dumps(state, indent=2, sort_keys=True) + "\n")
    module.atomic_move(temporary, path)
    os.chmod(path, 0o600)


def apply(module, file, service, text, state):
    """Put the text in place and have Docker run with it, or leave both as they were."""
    put(module, file.target, text)
    said = service.restart() if service.runs() or module.params["started"] else ""
    if not said:
        remember(module, module.params["state_file"], state)
        return
    put(module, file.target, file.text)
    again = service.restart()
    where = (
        f"the old {file.path} is back, and Docker does not start with it either: {daemon_options.shown(again)}"
        if again
        else f"the old {file.path} is back, and Docker runs with it"
    )
    raise FleetError(
        f"Docker did not come up with the new {file.path}",
        f"{daemon_options.shown(said)} ({where})",
        f"{CORRECT} (more: journalctl -u {service.unit})",
    )


def start(service):
    """Start Docker, whose file is as it should be."""
    said = service.restart()
    if said:
        raise FleetError(
            "Docker does not start",
            daemon_options.shown(said),
            f"correct what it says, and run this again (more: journalctl -u {service.unit})",
        )


def main():
    module = AnsibleModule(
        argument_spec={
            "options": {"type": "dict", "default": {}},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "state_file": {"type": "path", "default": "/var/lib/ollama-fleet/docker/daemon.json"},
            "service": {"type": "str", "default": "docker"},
            "started": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        file = DaemonFile(module.params["path"], module.params["state_file"])
        service = Service(module, module.params["service"])
        text, state, options = file.plan(module.params["options"])
        running = service.runs()
        changed = text != file.text
        restarted = (changed and running) or (module.params["started"] and not running)
        if changed:
            validate(module, text or "{}", service.flags())
        if changed and not module.check_mode:
            apply(module, file, service, text, state)
        elif not module.check_mode:
            if restarted:
                start(service)
            if state is None or state != file.state:
                remember(module, module.params["state_file"], state)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(
        changed=changed or restarted,
        restarted=restarted,
        remembered=state is not None,
        replaced=daemon_options.in_words(state["replaced"], options) if state else [],
        diff={
            "before": daemon_options.shown(file.text or ""),
            "after": daemon_options.shown(text or ""),
            "before_header": file.path,
            "after_header": file.path,
        },
    )


if __name__ == "__main__":
    main()

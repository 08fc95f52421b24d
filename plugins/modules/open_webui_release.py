#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Has Open WebUI run as its project says, or all as it was: image, files and database together."""

from __future__ import annotations

DOCUMENTATION = r"""
module: open_webui_release
short_description: Run Open WebUI, with a way back from an upgrade
version_added: "0.4.0"
author: The ollama-fleet authors
description:
  - Owns the project's three files, its container, and while an upgrade lasts its database. Compares as Compose does,
    and costs no change when all is as wanted.
  - Open WebUI's migrations go one way only. So before another image starts over a database that is there, the container
    is stopped and the database backed up and checked. The new one then has to be healthy and, with O(proof=login), let
    the administrator in. If it does not, image, files and database are put back together, the old one has to prove the
    same, and the module fails with the reason, the last lines of the log and where the failed database is.
  - A change of settings alone has a way back too, for the files, when the new container is not healthy. The log-in does
    not count there, so that a new password or secret key can be on its way.
  - A run that was cut is finished or undone by the next, by the journal in O(backup_dir).
options:
  project_dir:
    description: Folder of the Compose project. Its name is the project's.
    type: path
    required: true
  compose:
    description: The text of C(compose.yaml).
    type: str
    required: true
  environment:
    description: The text of C(open-webui.env), which holds secrets.
    type: str
    required: true
  ca_bundle:
    description: The text of C(ca-bundle.pem). Empty means no such file.
    type: str
    default: ""
  data_dir:
    description: Folder of the users' data, with the SQLite database unless O(database_url) is set.
    type: path
    required: true
  database_url:
    description: A PostgreSQL database in its place, as C(postgresql://USER:PASSWORD@HOST:PORT/NAME).
    type: str
    default: ""
  postgresql_image:
    description: An image with psql, pg_dump and pg_restore. Empty uses those of the host.
    type: str
    default: ""
  postgresql_network:
    description: Docker's network to run O(postgresql_image) in, where the address means what it means to Open WebUI.
    type: str
    default: bridge
  migrates:
    description:
      - Whether this container may change the database. Of several over one database only one may, and only that one
        backs it up. The others have a way back for image and files.
    type: bool
    default: true
  state:
    description:
      - V(started) has it run as wanted.
      - V(still) stops it where another image is wanted, and does nothing else, so that nothing writes to a shared
        database while another host changes it.
    type: str
    choices: [started, still]
    default: started
  backup_dir:
    description: Folder of the backups and the journal, for root only.
    type: path
    required: true
  backups_kept:
    description: How many backups to keep. Older ones go after an upgrade that worked.
    type: int
    default: 3
  base_url:
    description: Where it answers, as seen from the host.
    type: str
    required: true
  proof:
    description: What a new image must do to stay. V(health) is for who cannot log in with a password.
    type: str
    choices: [login, health]
    default: login
  admin_email:
    description: Log-in of the administrator, for O(proof=login).
    type: str
    default: ""
  admin_password:
    description: Password of the administrator, for O(proof=login).
    type: str
    default: ""
  wait_timeout:
    description: Seconds until it must be healthy after a start, migrations included.
    type: int
    default: 180
  log_lines:
    description: How many of the container's last log lines an error carries.
    type: int
    default: 40
requirements:
  - Docker with Compose 2.26 or newer, Python with sqlite3
attributes:
  check_mode:
    support: full
    description: Says what would be done, the backup and its size included.
  diff_mode:
    support: full
    description: Shows the Compose file and the container. The settings hold secrets and are not shown.
"""

EXAMPLES = r"""
- name: Run Open WebUI
  ollama_fleet.stack.open_webui_release:
    project_dir: /opt/ollama-fleet/open-webui
    compose: "{{ lookup('ansible.builtin.template', 'compose.yaml.j2') }}"
    environment: "{{ lookup('ansible.builtin.template', 'open-webui.env.j2') }}"
    data_dir: /var/lib/open-webui
    backup_dir: /var/lib/open-webui-backups
    base_url: http://127.0.0.1:3000
    admin_email: admin@example.com
    admin_password: "{{ vault_open_webui_admin_password }}"
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, as sentences.
  type: list
  elements: str
  returned: success
  sample: ["back up the database (12 MB)", "recreate open-webui: its image changes from webui:1 to webui:2"]
backup:
  description: Folder of the backup that this upgrade made.
  type: str
  returned: when an image was changed over a database
settled:
  description: What an earlier run that was cut had left. V(finished), V(undone) or nothing.
  type: str
  returned: success
reason:
  description: Why it did not work, with the last line of the log, what is back, and where the failed database is.
  type: str
  returned: failure
log:
  description: The last lines of the container's log.
  type: str
  returned: when a container failed
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import json
import os
import re
import urllib.parse
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import open_webui_database
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    as_text,
    describe_failure,
    failed_container,
    plan_actions,
    planned_text,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_host import (
    ComposeHost,
    NotReadyError,
    last_line,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_api import Interface, wait_until
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_backups import Journal, read, write_whole
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_upgrade import (
    Upgrade,
    in_words,
    needs_way_back,
    shortage,
)

MODES = {"compose.yaml": 0o644, "open-webui.env": 0o600, "ca-bundle.pem": 0o644}
LOG_IN_SECONDS = 30
NOTHING = {"name": "no container", "id": ""}
REMEDY = "correct the setting, port or image that these words name, then run again (more: docker logs open-webui)"
SECRET = re.compile(r"KEY|PASSWORD|SECRET|TOKEN|CONFIGS|_URL$")


class Machine:
    """Open WebUI on this host, as module_utils/open_webui_upgrade.py acts on it."""

    def __init__(self, params, host, database):
        self.params, self.host, self.database = params, host, database
        self.folder = params["project_dir"]
        self.interface = Interface(params["base_url"])
        self.restarts = []

    def files(self):
        return {name: read(os.path.join(self.folder, name)) for name in MODES}

    def put(self, files):
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        for name, text in files.items():
            path = os.path.join(self.folder, name)
            if text is not None:
                write_whole(path, text, MODES[name])
            elif os.path.exists(path):
                os.remove(path)

    def stop(self):
        self.host.stop()

    def start(self, image):
        if self.files()["compose.yaml"] is None:
            return
        if image:
            self.host.bring_back(image["name"], image["id"])
        self.restarts = self.host.containers()
        why_not = self.host.up()
        if why_not:
            raise FleetError("Open WebUI did not start", why_not, REMEDY)

    def why_not(self, log_in):
        """Why it does not work within the time, nothing when it does."""
        if self.files()["compose.yaml"] is None:
            return ""
        why = wait_until(self._why_sick, self.params["wait_timeout"])
        # What is healthy may still be finding its feet.
        return why or (self.why_no_log_in(LOG_IN_SECONDS) if log_in else "")

    def why_no_log_in(self, seconds):
        """Why the administrator does not get in within the seconds, nothing when they do."""
        who = self.params["admin_email"], self.params["admin_password"]
        return self.interface.wait_for_log_in(*who, seconds)

    def _why_sick(self):
        # Docker's own health check gives up before a long migration ends: the API is asked, until the time is over.
        containers = [container._replace(health="") for container in self.host.containers()]
        failed = failed_container(containers, self.restarts)
        if failed:
            # Docker starts it again and again: waiting on would not help.
            raise FleetError("Open WebUI", describe_failure(failed), REMEDY, self.log())
        return self.interface.why_sick()

    def log(self):
        return redacted(self.host.log(self.params["log_lines"]), self.files()["open-webui.env"] or "")


class Plan:
    """What differs between what is wanted and what is there."""

    def __init__(self, module, machine, journal):
        params, host = module.params, machine.host
        self.wanted = {
            "compose.yaml": params["compose"],
            "open-webui.env": params["environment"],
            "ca-bundle.pem": params["ca_bundle"] or None,
        }
        self.there = machine.files()
        self.changed_files = sorted(name for name, text in self.wanted.items() if self.there[name] != text)
        self.containers = host.containers()
        self.services = self._services(module.tmpdir, machine)
        service = self.services[0]
        self.actions = plan_actions(self.services, self.containers, host.image_ids(self.services))
        container = next((item for item in self.containers if item.service == service.name), None)
        self.before = {"name": container.image, "id": container.image_id} if container else self._of_old_files(machine)
        self.after = {"name": service.image, "id": host.image_id(service.image) or ""}
        self.running = container is not None and container.state == "running"
        self.container_image = container.image_id if container else None
        self.database_there = machine.database.exists() if self.actions and params["migrates"] else False
        self.size = machine.database.size() if self.with_data else 0
        self.pending = bool(journal.entry)

    def _services(self, folder, machine):
        """The services as the wanted files mean them: read from a folder of their own, as nothing is changed yet."""
        stage = os.path.join(folder, "project")
        os.makedirs(stage, mode=0o700, exist_ok=True)
        for name, text in self.wanted.items():
            if text is not None:
                write_whole(os.path.join(stage, name), text)
        return machine.host.services(stage)

    def _of_old_files(self, machine):
        if self.there["compose.yaml"] is None:
            return NOTHING
        image = machine.host.services(machine.folder)[0].image
        return {"name": image, "id": machine.host.image_id(image) or ""}

    @property
    def with_data(self):
        """Whether the database is at stake. It may be answered anew once an image is pulled."""
        return needs_way_back(self.database_there, self.container_image, self.after["id"] or None)

    @property
    def other_image(self):
        """Whether a container is there that another image takes the place of."""
        return self.container_image is not None and self.container_image != self.after["id"]

    def words(self):
        """What is to be done, as sentences."""
        backup = [f"back up the database ({in_words(self.size)})"] if self.with_data else []
        return backup + [f"write {name}" for name in self.changed_files] + [str(action) for action in self.actions]


def secrets_in(environment):
    """The secret values in the text of open-webui.env, the longest first."""
    found = set()
    for line in environment.splitlines():
        name, _, value = line.partition("=")
        if line.startswith("#") or not SECRET.search(name):
            continue
        with suppress(ValueError):
            value = str(json.loads(value.replace("\\$", "$")))
        found.add(value)
        found.add(urllib.parse.urlsplit(value).password or "" if "://" in value else "")
        found.update(re.findall(r'"key": "([^"]+)"', value))
    return sorted((value for value in found if len(value) >= 8), key=len, reverse=True)


def redacted(text, environment):
    """A log without the secrets of its container's settings."""
    for secret in secrets_in(environment):
        text = text.replace(secret, "********")
    return text


def require_room(params, database, size):
    """Raise FleetError where the disk has no room for the backup and for the way back."""
    backups, data = existing(params["backup_dir"]), existing(params["data_dir"])
    local = database.kind == "sqlite"
    same = local and os.stat(backups).st_dev == os.stat(data).st_dev
    missing = shortage(size, free(backups), free(data) if local else None, same)
    if missing:
        raise FleetError(
            "Open WebUI was not touched, because there is no room for a way back",
            missing,
            "free disk space, or set open_webui_backup_dir to another disk, then run again",
        )


def existing(path):
    """The folder, or the nearest one above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def free(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require_log_in(machine, plan, log_in):
    """Raise FleetError where nobody could tell whether the new one works, because the old one lets nobody in."""
    if not (log_in and plan.running) or machine.interface.why_sick():
        return
    why = machine.why_no_log_in(0)
    if why:
        raise FleetError(
            "Open WebUI was not touched, because its upgrade could not be proved",
            f"already now {why}",
            "write the administrator's present password into the vault (ansible-vault edit), or set "
            "open_webui_upgrade_proof to health where nobody logs in with a password",
        )


def change(module, machine, journal, plan):
    """Have what the plan wants."""
    host, log_in = machine.host, module.params["proof"] == "login"
    for action in plan.actions:
        if action.verb == "pull":
            host.pull(plan.services[0].image)
    plan.after["id"] = host.image_id(plan.after["name"]) or ""
    if not plan.actions:
        # A comment, or what Compose does not look at.
        machine.put(plan.wanted)
        return
    upgrade = Upgrade(machine, journal)
    if plan.with_data:
        require_room(module.params, machine.database, plan.size)
        require_log_in(machine, plan, log_in)
    if plan.with_data or (plan.before is not NOTHING and plan.changed_files):
        proves = log_in and (plan.with_data or plan.other_image)
        upgrade.run(plan.wanted, plan.before, plan.after, plan.with_data, proves)
        return
    # The first start, or one of a container that was stopped: there is nothing to go back to.
    machine.put(plan.wanted)
    try:
        machine.start(None)
        why, log = machine.why_not(False), ""
    except FleetError as error:
        why, log = error.why, error.log
    if why:
        log = log or machine.log()
        raise FleetError("Open WebUI did not start", f"{why}; the last that it said: {last_line(log)}", REMEDY, log)


def stand_still(module, machine, journal):
    """Stop the container if another image is to take its place."""
    machine.host.require()
    plan = Plan(module, machine, journal)
    stops = plan.running and plan.other_image
    if stops and not module.check_mode:
        if not plan.after["id"]:
            # Now, so that it stands still no longer than it must.
            machine.host.pull(plan.services[0].image)
        machine.stop()
    actions = [f"stop {plan.services[0].name}: another host changes its database"] if stops else []
    return {"changed": stops, "actions": actions, "settled": ""}


def ensure(module, machine, journal):
    """Return the module's result; FleetError when the wanted state was not reached."""
    host = machine.host
    host.require()
    settled = ""
    if journal.entry and not module.check_mode:
        settled = Upgrade(machine, journal).settle()
    plan = Plan(module, machine, journal)
    actions = (["settle what an earlier run left"] if plan.pending else []) + plan.words()
    backups = set(journal.backups())
    if (plan.changed_files or plan.actions) and not module.check_mode:
        change(module, machine, journal, plan)
    new = sorted(set(journal.backups()) - backups)
    after = (
        planned_text(plan.containers, plan.services, plan.actions) if module.check_mode else as_text(host.containers())
    )
    shown = {"before": plan.there["compose.yaml"] or "", "after": plan.wanted["compose.yaml"]}
    containers = {"before": as_text(plan.containers), "after": after}
    return {
        "changed": bool(actions or settled),
        "actions": actions,
        "settled": settled,
        **({"backup": os.path.join(journal.root, new[-1])} if new else {}),
        "diff": [
            {**shown, "before_header": "compose.yaml", "after_header": "compose.yaml"},
            {**containers, "before_header": "containers", "after_header": "containers"},
        ],
    }


def database_of(params):
    """The database that the project uses."""
    if not params["database_url"]:
        return open_webui_database.Sqlite(params["data_dir"])
    connection = open_webui_database.connection(params["database_url"])
    programs = open_webui_database.Programs(connection, params["postgresql_image"], params["postgresql_network"])
    return open_webui_database.Postgresql(programs)


def main():
    module = AnsibleModule(
        argument_spec={
            "project_dir": {"type": "path", "required": True},
            "compose": {"type": "str", "required": True},
            "environment": {"type": "str", "required": True, "no_log": True},
            # No secret, but 200 kB that would be in every log otherwise.
            "ca_bundle": {"type": "str", "default": "", "no_log": True},
            "data_dir": {"type": "path", "required": True},
            "database_url": {"type": "str", "default": "", "no_log": True},
            "postgresql_image": {"type": "str", "default": ""},
            "postgresql_network": {"type": "str", "default": "bridge"},
            "migrates": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["started", "still"], "default": "started"},
            "backup_dir": {"type": "path", "required": True},
            "backups_kept": {"type": "int", "default": 3},
            "base_url": {"type": "str", "required": True},
            "proof": {"type": "str", "choices": ["login", "health"], "default": "login"},
            "admin_email": {"type": "str", "default": ""},
            "admin_password": {"type": "str", "default": "", "no_log": True},
            "wait_timeout": {"type": "int", "default": 180},
            "log_lines": {"type": "int", "default": 40},
        },
        supports_check_mode=True,
    )
    params = module.params
    folder = params["project_dir"].rstrip("/")
    host = ComposeHost(lambda args, data: module.run_command(args, data=data), folder, os.path.basename(folder))
    try:
        machine = Machine(params, host, database_of(params))
        journal = Journal(params["backup_dir"], max(1, params["backups_kept"]))
        result = (stand_still if params["state"] == "still" else ensure)(module, machine, journal)
    except NotReadyError as problem:
        if not module.check_mode:
            module.fail_json(**problem.as_result())
        words = f"{problem.what} ({problem.why}). Once it is there, Open WebUI would be started"
        shown = {
            "before": "",
            "after": params["compose"],
            "before_header": "compose.yaml",
            "after_header": "compose.yaml",
        }
        result = {"changed": True, "actions": [], "settled": "", "msg": words, "diff": [shown]}
    except FleetError as problem:
        told = {key: redacted(value, params["environment"]) for key, value in problem.as_result().items()}
        module.fail_json(**told)
    except OSError as problem:
        remedy = "mend that, then run again: what was begun is finished or undone first, by the journal in backup_dir"
        module.fail_json(
            **FleetError("A file of Open WebUI could not be read or written", str(problem), remedy).as_result()
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()

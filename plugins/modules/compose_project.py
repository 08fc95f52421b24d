#!/usr/bin/python
# Copyright: the ollama-fleet authors
# SPDX-License-Identifier: Apache-2.0
"""A Docker Compose project: up as its file says, or down."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_project
short_description: Have a Docker Compose project up, or down
version_added: "0.1.0"
author: The ollama-fleet authors
description:
  - Compares each service's configuration and image with its container, in the way that Compose itself does, and calls
    C(docker compose up) only when something differs. A project that is up as its file says costs no change.
  - Images are pulled only when the host lacks them. What an image reference means is then fixed, so use a digest or a
    tag that does not move.
  - With O(files) it writes the project's files as well. When the project does not come up with them, the old files are
    put back and the old containers run again; without old ones nothing of the new is left. What was there is kept in
    the folder C(.before) of the project until the new works, so that a run that was cut has a way back, too.
  - A project that does not come up is an error that carries the last lines of its containers' logs. Values of
    O(secret_files) and passwords in addresses are left out of it.
options:
  project_src:
    description:
      - Folder with the project's C(compose.yaml).
    type: path
    required: true
  files:
    description:
      - The project's files that everybody may read, C(compose.yaml) among them. The folder must be there.
      - With O(state=absent) files are left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name in the folder.
        type: str
        required: true
      content:
        description: The whole text. Without one the file is removed.
        type: str
  secret_files:
    description:
      - Environment files that only their owner may read, text by name. They show in no diff and no message.
    type: dict
    default: {}
  project_name:
    description:
      - Compose's name for the project. By default the folder's name.
    type: str
  state:
    description:
      - V(present) has every service running, V(absent) removes containers and networks. Volumes stay.
    type: str
    choices: [present, absent]
    default: present
  ready_url:
    description:
      - After a start, wait until this address answers with a status below 400, as seen from the host.
      - Instead of the containers' own health checks, which are slower, and which not every image has.
    type: str
  wait_timeout:
    description:
      - Seconds that O(ready_url) may take to answer or, without it, containers to run and to be healthy.
    type: int
    default: 120
  log_lines:
    description:
      - How many of a failed container's last log lines the error carries.
    type: int
    default: 20
requirements:
  - Docker with Compose 2.26 or newer on the host
attributes:
  check_mode:
    support: full
    description:
      - Lists what would be done. Where Docker or the Compose file is not there yet, says so and reports a change.
      - Changed files are a change; what they mean for the containers is known when they are written.
  diff_mode:
    support: full
    description: The files that are no secret, and one line per service before and after.
"""

EXAMPLES = r"""
- name: Run Ollama
  ollama_fleet.stack.compose_project:
    project_src: /opt/ollama-fleet/ollama
    ready_url: http://127.0.0.1:11434/api/version

- name: Run it with other settings, or leave it as it was
  ollama_fleet.stack.compose_project:
    project_src: /opt/ollama-fleet/ollama
    ready_url: http://127.0.0.1:11434/api/version
    files:
      - name: compose.yaml
        content: "{{ lookup('ansible.builtin.template', 'compose.yaml.j2') }}"
    secret_files:
      ollama.env: "{{ lookup('ansible.builtin.template', 'ollama.env.j2') }}"

- name: Remove it
  ollama_fleet.stack.compose_project:
    project_src: /opt/ollama-fleet/ollama
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, each with its reason.
  type: list
  elements: dict
  returned: always
  sample: [{"action": "recreate", "service": "ollama", "reason": "its settings changed"}]
containers:
  description: The project's containers afterwards.
  type: list
  elements: dict
  returned: always
  sample: [{"name": "ollama", "image": "docker.io/ollama/ollama:0.32.15", "image_id": "sha256:5f9", "state": "running"}]
files_changed:
  description: Names of the files that were written or removed, or would be in check mode.
  type: list
  elements: str
  returned: success
reason:
  description: Why it did not work, with the last line of the container's log, and what runs now.
  type: str
  returned: on failure
log:
  description: The last lines of the container's log.
  type: str
  returned: when a container failed
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

import os
import shutil
import time
import urllib.error
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    Action,
    Container,
    Service,
    as_text,
    describe_failure,
    failed_container,
    plan_actions,
    planned_text,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_files import ProjectFiles, hidden, wanted
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_host import (
    FILE,
    ComposeHost,
    NotReadyError,
    last_line,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

# So long after a start an old container counts as running, when its address is not known.
SETTLED_SECONDS = 10


class Project(ComposeHost):
    """A project whose start is waited for, and which can be as it was."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params = module.params
        folder = self.params["project_src"].rstrip("/")
        name = self.params["project_name"] or os.path.basename(folder)
        super().__init__(lambda args, data: module.run_command(args, data=data), folder, name)
        self.file = os.path.join(folder, FILE)
        self.timeout: int = self.params["wait_timeout"]

    def start(self, before: list[Container]) -> None:
        """Have it run and answer; FleetError with the log's last words if it does not."""
        # An address that answers is known at once; a health check may only look every half minute.
        wait = [] if self.params["ready_url"] else ["--wait", "--wait-timeout", str(self.timeout)]
        why_not = self.up("--detach", *wait)
        if why_not:
            raise self.not_up(why_not, before)
        self.wait_until_ready(before)

    def wait_until_ready(self, before: list[Container]) -> None:
        url = self.params["ready_url"]
        deadline = time.monotonic() + self.timeout
        while True:
            failed = failed_container(self.containers(), before)
            if failed:
                raise self.not_up("it does not stay up", before)
            why_not = probe(url) if url else ""
            if not why_not:
                return
            if time.monotonic() > deadline:
                raise self.not_up(f"{url} did not answer within {self.timeout} s ({why_not})", before)
            time.sleep(0.5)

    def not_up(self, why: str, before: list[Container]) -> FleetError:
        containers, log = self.containers(), ""
        suspect = failed_container(containers, before) or (containers[0] if containers else None)
        if suspect:
            log = self.log(self.params["log_lines"], [suspect])
            why = f"{why}; {describe_failure(suspect)}; the last that it said: {last_line(log)}"
        # With a way back, there is none of it left to read.
        more = "" if self.params["files"] else f" (more of the log: docker compose -p {self.name} logs)"
        return FleetError(
            f"Project {self.name} did not start",
            why,
            f"correct the setting, port or image that these words name, then run again{more}",
            log,
        )

    def run_again(self, before: list[Container], running: bool) -> str:
        """Have the old containers again, with the old files in their place; why it did not work, or nothing.

        running: whether they ran. Those that the failed change did not get to are left alone.
        """
        now = {container.container_id for container in self.containers() if container.state == "running"}
        untouched = {container.container_id for container in before if container.state == "running"}
        if untouched and untouched <= now:
            return ""
        why_not = self.up("--detach" if running else "--no-start")
        return why_not or (self.settled(before) if running else "")

    def settled(self, before: list[Container]) -> str:
        """Wait until what was started runs without stopping again. Its address may have been another one."""
        url, until = self.params["ready_url"], time.monotonic() + SETTLED_SECONDS
        while time.monotonic() < until and not (url and not probe(url)):
            time.sleep(0.5)
        failed = failed_container(self.containers(), before)
        return describe_failure(failed) if failed else ""


def probe(url: str) -> str:
    """Why this address does not answer yet, nothing when it does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return ""
    except (OSError, urllib.error.URLError) as error:
        return str(error)


def apply(project: Project, actions: list[Action], services: list[Service], before: list[Container]) -> None:
    images = {service.name: service.image for service in services}
    for action in actions:
        if action.verb == "pull":
            project.pull(images[action.service])
    project.start(before)


def bring_up(project: Project, before: list[Container], check_mode: bool) -> tuple[list[Service], list[Action]]:
    """Have the services run as the files say; return them and what was done, or would be."""
    if not os.path.exists(project.file):
        raise NotReadyError("There is no Compose project", f"{project.file} is missing", "write it before this module")
    services = project.services(project.folder)
    actions = plan_actions(services, before, project.image_ids(services))
    if actions and not check_mode:
        apply(project, actions, services, before)
    return services, actions


def with_files(project: Project, files: ProjectFiles, before: list[Container]) -> tuple[list[Service], list[Action]]:
    """As bring_up with new files, or everything as it was and a FleetError that says what runs now."""
    try:
        files.write(there=bool(before), running=any(container.state == "running" for container in before))
        result = bring_up(project, before, check_mode=False)
    except FleetError as problem:
        raise way_back(project, files, before, problem) from problem
    except OSError as error:
        files.put_back()
        raise FleetError(
            f"The files of project {project.name} cannot be written",
            f"{error} (what was there is as it was)",
            f"see the disk and the rights of {project.folder}, then run again",
        ) from error
    files.settle()
    return result


def way_back(project: Project, files: ProjectFiles, before: list[Container], problem: FleetError) -> FleetError:
    """Put back files and containers; return the problem with what came of that."""
    was = files.was()
    if not was["there"]:
        # By labels, and before its files go: what did not start is of no use to anybody.
        project.down()
    files.put_back()
    if was["there"]:
        why_not = project.run_again(before, was["running"])
        runs = "it runs with them" if was["running"] else "it is stopped, as it was"
        words = f"the old settings are back, and {f'it does not start with them: {why_not}' if why_not else runs}"
    else:
        words = "nothing of it is left on the host"
    return FleetError(problem.what, f"{problem.why.rstrip('. ')} ({words})", problem.remedy, problem.log)


def remove(project: Project) -> None:
    why_not = project.down()
    if why_not:
        raise FleetError(f"Project {project.name} was not removed", why_not, "read Docker's words, then run again")


def ensure(project: Project, files: ProjectFiles, state: str, check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the state was not reached."""
    if state == "absent" and not shutil.which("docker"):
        return {"changed": False, "actions": [], "containers": []}
    project.require()
    before = project.containers()
    diff, names = (files.diff(), [file.name for file in files.changed()]) if state == "present" else ([], [])
    services: list[Service] = []
    if state == "absent":
        actions = plan_actions(services, before, {})
        if actions and not check_mode:
            remove(project)
    elif (names or files.pending()) and not check_mode:
        services, actions = with_files(project, files, before)
    elif names and not os.path.exists(project.file):
        actions = []
    else:
        services, actions = bring_up(project, before, check_mode)
    after = before if check_mode or not actions else project.containers()
    planned = planned_text(before, services, actions) if check_mode else as_text(after)
    containers = {"before": as_text(before), "after": planned}
    return {
        "changed": bool(actions or names),
        "actions": [{"action": action.verb, "service": action.service, "reason": action.reason} for action in actions],
        "containers": [container.as_result() for container in after],
        "files_changed": names,
        "diff": [*diff, containers] if files.files else containers,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "content": {"type": "str"}},
            },
            "secret_files": {"type": "dict", "default": {}, "no_log": True},
            "project_name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ready_url": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 120},
            "log_lines": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    files = ProjectFiles(params["project_src"], wanted(params["files"], params["secret_files"]))
    secrets = files.secrets()

    def told(problem: FleetError) -> dict[str, str]:
        return {name: hidden(text, secrets) for name, text in problem.as_result().items()}

    try:
        result = ensure(Project(module), files, params["state"], module.check_mode)
    except NotReadyError as problem:
        if not module.check_mode:
            module.fail_json(**told(problem))
        present = params["state"] == "present"
        later = f"{problem.what} ({problem.why}). Once it is there, the project would be brought up"
        result = {"changed": present, "actions": [], "containers": [], "msg": later if present else problem.what}
        result |= {"diff": files.diff()} if present and files.files else {}
    except FleetError as problem:
        module.fail_json(**told(problem))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

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
  - A project that does not come up is an error that carries the last lines of its containers' logs.
options:
  project_src:
    description:
      - Folder with the project's C(compose.yaml).
    type: path
    required: true
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
  diff_mode:
    support: full
    description: One line per service before and after.
"""

EXAMPLES = r"""
- name: Run Ollama
  ollama_fleet.stack.compose_project:
    project_src: /opt/ollama-fleet/ollama
    ready_url: http://127.0.0.1:11434/api/version

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
reason:
  description: Why it did not work, with the last line of the container's log.
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

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    LABEL,
    OLDEST_COMPOSE,
    Action,
    Container,
    Service,
    as_text,
    describe_failure,
    failed_container,
    plan_actions,
    planned_text,
    read_containers,
    read_hashes,
    read_services,
    read_version,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

COMPOSE_FILE = "compose.yaml"


class NotReadyError(FleetError):
    """Docker or the project's file is not there: an error, but in check mode only a step that comes later."""


class Project:
    """A Compose project on this host, through the docker command."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.folder: str = module.params["project_src"]
        self.name: str = module.params["project_name"] or os.path.basename(self.folder.rstrip("/"))
        self.file = os.path.join(self.folder, COMPOSE_FILE)
        self.timeout: int = module.params["wait_timeout"]

    def docker(self, *args: str, stdin: str | None = None) -> tuple[int, str, str]:
        code, out, err = self.module.run_command(["docker", *args], data=stdin)
        return code, out, err

    def compose(self, *args: str, file: str | None = None, stdin: str | None = None) -> tuple[int, str, str]:
        place = ["--project-name", self.name, "--project-directory", self.folder, "--file", file or self.file]
        return self.docker("compose", *place, *args, stdin=stdin)

    def has_docker(self) -> bool:
        return bool(self.module.get_bin_path("docker"))

    def require_docker(self) -> None:
        if not self.has_docker():
            raise NotReadyError("Docker is not installed", "there is no docker command", "apply the docker role first")
        code, _out, err = self.docker("version", "--format", "{{.Server.Version}}")
        if code:
            raise NotReadyError("Docker does not answer", last_line(err), "start it: systemctl start docker")
        code, version, err = self.docker("compose", "version", "--short")
        if code:
            raise NotReadyError("Docker has no Compose", last_line(err), "apply the docker role, which installs it")
        if read_version(version) < OLDEST_COMPOSE:
            oldest = ".".join(str(part) for part in OLDEST_COMPOSE)
            why = f"it is {version.strip()}, and {oldest} is the oldest that works"
            raise FleetError("Docker Compose is too old", why, "install a newer one, as the docker role does")

    def require_file(self) -> None:
        if not os.path.exists(self.file):
            raise NotReadyError("There is no Compose project", f"{self.file} is missing", "write it before this module")

    def services(self) -> list[Service]:
        """The services as the file means them now, with the hash that `up` would give each.

        The hash is taken of the resolved file: Compose 2.26 leaves env files out when it hashes the file itself.
        """
        code, resolved, err = self.compose("config", "--format", "json")
        if code:
            raise FleetError(
                f"{self.file} is no valid Compose file", last_line(err), "correct what the file is made from"
            )
        code, hashes, err = self.compose("config", "--hash", "*", file="-", stdin=resolved)
        if code:
            raise FleetError(f"{self.file} cannot be compared", last_line(err), "install Docker Compose 2.26 or newer")
        return read_services(json.loads(resolved), read_hashes(hashes))

    def containers(self) -> list[Container]:
        _code, ids, _err = self.docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}project={self.name}")
        if not ids.split():
            return []
        # One that vanishes in between is simply not in the answer.
        _code, out, _err = self.docker("inspect", "--type", "container", *ids.split())
        return read_containers(json.loads(out or "[]"))

    def image_ids(self, services: list[Service]) -> dict[str, str]:
        """Image reference -> id of those that the host has."""
        found = {}
        for image in {service.image for service in services}:
            code, out, _err = self.docker("image", "inspect", "--format", "{{.Id}}", image)
            if code == 0:
                found[image] = out.strip()
        return found

    def pull(self, image: str) -> None:
        code, _out, err = self.docker("pull", "--quiet", image)
        if code:
            raise FleetError(
                f"Image {image} was not pulled",
                last_line(err),
                "check the image's name, and that this host reaches its registry (a plain HTTP one must be in "
                "docker_insecure_registries), then run again",
            )

    def up(self, before: list[Container]) -> None:
        # An address that answers is known at once; a health check may only look every half minute.
        wait = [] if self.module.params["ready_url"] else ["--wait", "--wait-timeout", str(self.timeout)]
        code, _out, err = self.compose("up", "--detach", "--remove-orphans", "--pull", "never", *wait)
        if code:
            raise self.not_up(last_line(err), before)
        self.wait_until_ready(before)

    def wait_until_ready(self, before: list[Container]) -> None:
        url = self.module.params["ready_url"]
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
            _code, out, err = self.docker("logs", "--tail", str(self.module.params["log_lines"]), suspect.container_id)
            log = (out + err).strip()
            why = f"{why}; {describe_failure(suspect)}; the last that it said: {last_line(log)}"
        return FleetError(
            f"Project {self.name} did not start",
            why,
            "correct the setting, port or image that these words name, then run again "
            f"(more of the log: docker compose -p {self.name} logs)",
            log,
        )

    def down(self) -> None:
        # Without a file: containers and networks are found by their labels, even when the folder is gone.
        code, _out, err = self.docker("compose", "--project-name", self.name, "down", "--remove-orphans")
        if code:
            raise FleetError(
                f"Project {self.name} was not removed", last_line(err), "read Docker's words, then run again"
            )


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


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
    project.up(before)


def ensure(project: Project, state: str, check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the state was not reached."""
    if state == "absent" and not project.has_docker():
        return {"changed": False, "actions": [], "containers": []}
    project.require_docker()
    before = project.containers()
    if state == "absent":
        services: list[Service] = []
        actions = plan_actions(services, before, {})
        if actions and not check_mode:
            project.down()
    else:
        project.require_file()
        services = project.services()
        actions = plan_actions(services, before, project.image_ids(services))
        if actions and not check_mode:
            apply(project, actions, services, before)
    after = before if check_mode or not actions else project.containers()
    planned = planned_text(before, services, actions) if check_mode else as_text(after)
    return {
        "changed": bool(actions),
        "actions": [{"action": action.verb, "service": action.service, "reason": action.reason} for action in actions],
        "containers": [container.as_result() for container in after],
        "diff": {"before": as_text(before), "after": planned},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "project_name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ready_url": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 120},
            "log_lines": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    state = module.params["state"]
    try:
        result = ensure(Project(module), state, module.check_mode)
    except NotReadyError as problem:
        if not module.check_mode:
            module.fail_json(**problem.as_result())
        wanted = state == "present"
        msg = (
            f"{problem.what} ({problem.why}). Once it is there, the project would be brought up"
            if wanted
            else problem.what
        )
        result = {"changed": wanted, "actions": [], "containers": [], "msg": msg}
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()

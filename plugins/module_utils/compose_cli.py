"""What a Compose project is, what it should be, and the steps between: pure functions over the CLI's own output.

Compose decides by two things whether a container fits: the hash of its service, kept in a label, and its image's id.
The same two are compared here, so that a check says what `docker compose up` would do.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

LABEL = "com.docker.compose."
# The first whose `config` hashes a file from its standard input as `up` hashes it.
OLDEST_COMPOSE = (2, 26)


class Service(NamedTuple):
    """A service as the Compose file wants it."""

    name: str
    image: str
    config_hash: str


class Container(NamedTuple):
    """A container of the project as it is."""

    name: str
    service: str
    image: str
    image_id: str
    config_hash: str
    state: str
    health: str
    exit_code: int
    restarts: int
    container_id: str

    def as_result(self) -> dict[str, str]:
        return {"name": self.name, "image": self.image, "image_id": self.image_id, "state": self.state}


class Action(NamedTuple):
    """One step: verb is pull, create, recreate, start or remove."""

    verb: str
    service: str
    reason: str

    def __str__(self) -> str:
        return f"{self.verb} {self.service}: {self.reason}"


def read_version(text: str) -> tuple[int, ...]:
    """Major and minor of `docker compose version --short`, (0,) when it says something else."""
    found = re.match(r"v?(\d+)\.(\d+)", text.strip())
    return tuple(int(part) for part in found.groups()) if found else (0,)


def read_hashes(text: str) -> dict[str, str]:
    """Service name -> hash, from `docker compose config --hash '*'`."""
    return dict(line.split(None, 1) for line in text.splitlines() if line.strip())


def read_services(config: dict[str, Any], hashes: dict[str, str]) -> list[Service]:
    """The services of a resolved Compose file, each with its hash."""
    return [
        Service(name, str(body.get("image", "")), hashes.get(name, ""))
        for name, body in sorted((config.get("services") or {}).items())
    ]


def read_container(inspected: dict[str, Any]) -> Container:
    """One entry of `docker inspect`."""
    labels, state = inspected["Config"].get("Labels") or {}, inspected["State"]
    return Container(
        name=inspected["Name"].lstrip("/"),
        service=labels.get(LABEL + "service", ""),
        image=inspected["Config"].get("Image", ""),
        image_id=inspected["Image"],
        config_hash=labels.get(LABEL + "config-hash", ""),
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        restarts=int(inspected.get("RestartCount") or 0),
        container_id=inspected["Id"],
    )


def read_containers(inspected: list[dict[str, Any]]) -> list[Container]:
    """All of `docker inspect`, less those of `docker compose run`, which are their caller's."""
    return [
        read_container(entry)
        for entry in inspected
        if (entry["Config"].get("Labels") or {}).get(LABEL + "oneoff") != "True"
    ]


def plan_actions(services: list[Service], containers: list[Container], image_ids: dict[str, str]) -> list[Action]:
    """Steps from the containers that are there to the services that should be.

    image_ids: image reference -> id, for the images that the host has.
    """
    actions = []
    for service in services:
        mine = [container for container in containers if container.service == service.name]
        image_id = image_ids.get(service.image)
        if image_id is None:
            actions.append(Action("pull", service.name, f"the host has no image {service.image}"))
        actions += _steps(service, mine[0] if mine else None, image_id)
    wanted = {service.name for service in services}
    actions += [
        Action("remove", container.service, f"container {container.name} is in the project no longer")
        for container in containers
        if container.service not in wanted
    ]
    return actions


def _steps(service: Service, container: Container | None, image_id: str | None) -> list[Action]:
    if container is None:
        return [Action("create", service.name, "it has no container")]
    if container.image != service.image:
        return [Action("recreate", service.name, f"its image changes from {container.image} to {service.image}")]
    if image_id not in (None, container.image_id):
        return [Action("recreate", service.name, f"{service.image} means another image now")]
    if container.config_hash != service.config_hash:
        return [Action("recreate", service.name, "its settings changed")]
    if container.state != "running":
        return [Action("start", service.name, f"its container is {container.state}")]
    return []


def failed_container(containers: list[Container], before: list[Container]) -> Container | None:
    """A container that does not run as it should, None when all do. One that restarted since `before` does not."""
    restarts = {container.container_id: container.restarts for container in before}
    for container in containers:
        crashed = container.restarts > restarts.get(container.container_id, 0)
        if container.state != "running" or container.health == "unhealthy" or crashed:
            return container
    return None


# What Docker says when an image does not come (left: part of its words), and what helps.
_PULL_REMEDIES = (
    ("no space left on device", "make room on the disk of Docker's folder (docker system df shows what takes it)"),
    ("manifest unknown", "correct the image's name: its registry has no such tag or digest"),
    ("not found", "correct the image's name: its registry has no such tag or digest"),
    ("server gave http response to https client", "name the registry in docker_insecure_registries"),
    ("x509", "have the host trust the authority of the registry's certificate (/etc/docker/certs.d)"),
    ("denied", "log the host in at the registry (docker login), or correct the image's name"),
    ("unauthorized", "log the host in at the registry (docker login), or correct the image's name"),
)


def pull_remedy(words: str) -> str:
    """What to do about an image that could not be had, by Docker's own words."""
    known = (remedy for part, remedy in _PULL_REMEDIES if part in words.lower())
    return next(known, "check the image's name, and that this host reaches its registry") + ", then run again"


def describe_failure(container: Container) -> str:
    words = f"container {container.name} is {container.health or container.state}"
    if container.state in ("exited", "dead", "restarting"):
        words += f", exit code {container.exit_code}"
    return words + (f", restarted {container.restarts} times" if container.restarts else "")


def as_text(containers: list[Container]) -> str:
    """One line per container, for a diff."""
    return "".join(
        f"{container.service}: {container.state}, {container.image}, settings {container.config_hash[:12]}\n"
        for container in sorted(containers, key=lambda container: container.service)
    )


def planned_text(containers: list[Container], services: list[Service], actions: list[Action]) -> str:
    """What as_text would say once the actions are done."""
    touched = {action.service for action in actions}
    kept = [container for container in containers if container.service not in touched]
    lines = as_text(kept).splitlines(keepends=True) + [
        f"{service.name}: running, {service.image}, settings {service.config_hash[:12]}\n"
        for service in services
        if service.name in touched
    ]
    return "".join(sorted(lines))

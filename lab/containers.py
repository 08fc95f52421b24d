"""Containers of the lab: there once each, made as asked for, made anew when that changes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.docker import Docker
from lab.paths import Paths

_SPEC = "ollama-fleet.spec"
_OWNER = "ollama-fleet.owner"


@dataclass(frozen=True)
class Wanted:
    """A container to be there. options: of `docker create`."""

    name: str
    image: str
    options: tuple[str, ...]
    command: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """A label's value that changes when anything about the container does."""
        return hashlib.sha256("\0".join([self.image, *self.options, *self.command]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Container:
    """A container as it is. name: without the lab's prefix. state: "running", "exited", ..."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    address: str


@dataclass(frozen=True)
class Containers:
    """The containers of one lab in one engine."""

    docker: Docker
    paths: Paths

    def full_name(self, name: str) -> str:
        """What the engine calls a container of the lab."""
        return f"{self.paths.project}-{name}"

    def all(self) -> dict[str, Container]:
        """All containers of this lab, by name."""
        ids = self.docker.run("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={self.paths.label}").split()
        found = [self._read(details) for details in self.docker.inspect("container", ids)]
        return {container.name: container for container in found}

    def as_wanted(self, wanted: Wanted, there: Mapping[str, Container]) -> bool:
        """Whether the container is there and made from exactly this; then it is started if need be."""
        container = there.get(wanted.name)
        if not container or container.labels.get(_SPEC) != wanted.spec:
            return False
        if container.state != "running":
            self.docker.run("start", container.id)
        return True

    def create(self, wanted: Wanted) -> str:
        """Make a container that does not run yet; return its id."""
        return self.docker.run(
            *("create", f"--name={self.full_name(wanted.name)}", f"--label={self.paths.label}"),
            *(f"--label={_SPEC}={wanted.spec}", *wanted.options, wanted.image, *wanted.command),
        )

    def volume(self, owner: str, purpose: str, target: str) -> str:
        """The option that gives a container a volume of its own, which goes when `remove` takes the container away."""
        labels = f"volume-label={_OWNER}={self.full_name(owner)},volume-label={self.paths.label}"
        return f"--mount=type=volume,source={self.full_name(owner)}-{purpose},target={target},{labels}"

    def remove(self, name: str, volumes: bool = True) -> None:
        """Remove a container and its volumes."""
        self.docker.run("rm", "--force", self.full_name(name))
        if volumes:
            owned = f"--filter=label={_OWNER}={self.full_name(name)}"
            names = self.docker.run("volume", "ls", "--quiet", owned).split()
            if names:
                self.docker.run("volume", "rm", *names)

    def _read(self, details: dict[str, Any]) -> Container:
        networks = details["NetworkSettings"]["Networks"].values()
        # The address that was asked for: a container that does not run has no other.
        address = next(((network.get("IPAMConfig") or {}).get("IPv4Address", "") for network in networks), "")
        return Container(
            id=details["Id"],
            name=details["Name"].removeprefix(f"/{self.paths.project}-"),
            state=details["State"]["Status"],
            labels=details["Config"]["Labels"] or {},
            address=address,
        )

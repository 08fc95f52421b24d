# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A Compose project on a host, through the docker command: what it means, what runs, and what to do with it."""

from __future__ import annotations

import json
import os
import shutil

from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    LABEL,
    OLDEST_COMPOSE,
    pull_remedy,
    read_containers,
    read_hashes,
    read_services,
    read_version,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

FILE = "compose.yaml"
# What it does with requests that are under way, and with its database, may take a while.
STOP_SECONDS = 60


class NotReadyError(FleetError):
    """Docker or the project's file is not there: an error, but in check mode only a step that comes later."""


class ComposeHost:
    """One project. run: (arguments, standard input or None) -> (exit code, output, errors), as of run_command."""

    def __init__(self, run, folder: str, name: str) -> None:
        self.run, self.folder, self.name = run, folder, name

    def docker(self, *arguments: str, data: str | None = None) -> tuple[int, str, str]:
        """Run docker; return (exit code, output, errors)."""
        return self.run(["docker", *arguments], data)

    def compose(self, folder: str, *arguments: str, file: str = "", data: str | None = None) -> tuple[int, str, str]:
        """Run docker compose with the project's name over the files of a folder."""
        place = ["--project-name", self.name, "--project-directory", folder]
        return self.docker("compose", *place, "--file", file or os.path.join(folder, FILE), *arguments, data=data)

    def require(self) -> None:
        """Raise NotReadyError where there is no Docker, FleetError where its Compose is too old."""
        if not shutil.which("docker"):
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

    def services(self, folder: str) -> list:
        """The services as the files of a folder mean them, each with the hash that `up` would give it."""
        file = os.path.join(folder, FILE)
        code, resolved, err = self.compose(folder, "config", "--format", "json")
        if code:
            raise FleetError(f"{file} is no valid Compose file", last_line(err), "correct what the file is made from")
        # Of the resolved text, because Compose 2.26 leaves env files out when it hashes the file itself.
        code, hashes, err = self.compose(folder, "config", "--hash", "*", file="-", data=resolved)
        if code:
            raise FleetError(f"{file} cannot be compared", last_line(err), "install Docker Compose 2.26 or newer")
        return read_services(json.loads(resolved), read_hashes(hashes))

    def containers(self) -> list:
        """The project's containers."""
        _code, ids, _err = self.docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}project={self.name}")
        if not ids.split():
            return []
        # One that vanishes in between is simply not in the answer.
        _code, out, _err = self.docker("inspect", "--type", "container", *ids.split())
        return read_containers(json.loads(out or "[]"))

    def image_id(self, image: str) -> str | None:
        """The id of an image that the host has, None of one that it lacks."""
        code, out, _err = self.docker("image", "inspect", "--format", "{{.Id}}", image)
        return out.strip() if code == 0 else None

    def image_ids(self, services: list) -> dict[str, str]:
        """Image reference -> id, of those of the services' images that the host has."""
        found = {image: self.image_id(image) for image in {service.image for service in services}}
        return {image: image_id for image, image_id in found.items() if image_id}

    def pull(self, image: str) -> None:
        """Have an image on the host."""
        code, _out, err = self.docker("pull", "--quiet", image)
        if code:
            raise FleetError(f"Image {image} was not pulled", last_line(err), pull_remedy(err))

    def bring_back(self, image: str, image_id: str) -> None:
        """Have an image's name mean this id again. A tag may have moved; a digest cannot."""
        if image_id and self.image_id(image) != image_id:
            self.docker("tag", image_id, image)

    def up(self, *how: str) -> str:
        """Have the containers as the project's own folder says; return why that did not work, or nothing.

        how: options of ``docker compose up``, instead of starting them without waiting for them.
        """
        arguments = ["up", *(how or ["--detach"]), "--remove-orphans", "--pull", "never"]
        code, _out, err = self.compose(self.folder, *arguments)
        return last_line(err) if code else ""

    def down(self) -> str:
        """Remove containers and networks; return why that did not work, or nothing."""
        # Without a file: they are found by their labels, even when the folder is gone.
        code, _out, err = self.docker("compose", "--project-name", self.name, "down", "--remove-orphans")
        return last_line(err) if code else ""

    def stop(self) -> None:
        """Stop the project's containers. Docker does not start them again by itself, not even after a reboot."""
        running = [container.container_id for container in self.containers() if container.state != "exited"]
        if not running:
            return
        code, _out, err = self.docker("stop", "-t", str(STOP_SECONDS), *running)
        if code:
            raise FleetError(f"Project {self.name} was not stopped", last_line(err), "see journalctl -u docker")

    def log(self, lines: int, containers: list | None = None) -> str:
        """The last lines that the project's containers said, or those of it that are named."""
        said = []
        for container in self.containers() if containers is None else containers:
            _code, out, err = self.docker("logs", "--tail", str(lines), container.container_id)
            said.append((out + err).strip())
        return "\n".join(said)


def last_line(text: str) -> str:
    """The last line of what a program said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A Compose project on a host, through the docker command: what it means, what runs, and what to do with it."""

from __future__ import annotations

import json
import os
import shutil

from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_cli import (
    LABEL,
    OLDEST_COMPOSE,
    read_containers,
    read_hashes,
    read_services,
    read_version,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

FILE = "compose.yaml"
# What it does with requests that are under way, and with its database, may take a while.
STOP_SECONDS = 60


class NoDockerError(FleetError):
    """Docker is not there: an error, but in check mode only a step that comes later."""


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
        """Raise NoDockerError where there is no Docker, FleetError where its Compose is too old."""
        if not shutil.which("docker"):
            raise NoDockerError("Docker is not installed", "there is no docker command", "apply the docker role first")
        code, _out, err = self.docker("version", "--format", "{{.Server.Version}}")
        if code:
            raise NoDockerError("Docker does not answer", last_line(err), "start it: systemctl start docker")
        code, version, err = self.docker("compose", "version", "--short")
        if code:
            raise NoDockerError("Docker has no Compose", last_line(err), "apply the docker role, which installs it")
        if read_version(version) < OLDEST_COMPOSE:
            oldest = ".".join(str(part) for part in OLDEST_COMPOSE)
            why = f"it is {version.strip()}, and {oldest} is the oldest that works"
            raise FleetError("Docker Compose is too old", why, "install a newer one, as the docker role does")

    def services(self, folder: str) -> list:
        """The services as the files of a folder mean them, each with the hash that `up` would give it."""
        code, resolved, err = self.compose(folder, "config", "--format", "json")
        if code:
            raise FleetError("The Compose file is not valid", last_line(err), "correct what it is made from")
        # Of the resolved text, because Compose 2.26 leaves env files out when it hashes the file itself.
        code, hashes, err = self.compose(folder, "config", "--hash", "*", file="-", data=resolved)
        if code:
            raise FleetError("The Compose file cannot be compared", last_line(err), "install Compose 2.26 or newer")
        return read_services(json.loads(resolved), read_hashes(hashes))

    def containers(self) -> list:
        """The project's containers."""
        _code, ids, _err = self.docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}project={self.name}")
        if not ids.split():
            return []
        _code, out, _err = self.docker("inspect", "--type", "container", *ids.split())
        return read_containers(json.loads(out or "[]"))

    def image_id(self, image: str) -> str | None:
        """The id of an image that the host has, None of one that it lacks."""
        code, out, _err = self.docker("image", "inspect", "--format", "{{.Id}}", image)
        return out.strip() if code == 0 else None

    def pull(self, image: str) -> None:
        """Have an image on the host."""
        code, _out, err = self.docker("pull", "--quiet", image)
        if code:
            raise FleetError(
                f"Image {image} was not pulled",
                last_line(err),
                "check the image's name, and that this host reaches its registry (a plain HTTP one must be in "
                "docker_insecure_registries), then run again",
            )

    def bring_back(self, image: str, image_id: str) -> None:
        """Have an image's name mean this id again. A tag may have moved; a digest cannot."""
        if image_id and self.image_id(image) != image_id:
            self.docker("tag", image_id, image)

    def up(self) -> None:
        """Have the containers as the project's own folder says, without waiting for them."""
        arguments = ["up", "--detach", "--remove-orphans", "--pull", "never"]
        code, _out, err = self.compose(self.folder, *arguments)
        if code:
            raise FleetError(f"Project {self.name} did not start", last_line(err), "correct what these words name")

    def stop(self) -> None:
        """Stop the project's containers. Docker does not start them again by itself, not even after a reboot."""
        running = [container.container_id for container in self.containers() if container.state != "exited"]
        if not running:
            return
        code, _out, err = self.docker("stop", "-t", str(STOP_SECONDS), *running)
        if code:
            raise FleetError(f"Project {self.name} was not stopped", last_line(err), "see journalctl -u docker")

    def log(self, lines: int) -> str:
        """The last lines that the project's containers said."""
        said = []
        for container in self.containers():
            _code, out, err = self.docker("logs", "--tail", str(lines), container.container_id)
            said.append((out + err).strip())
        return "\n".join(said)


def last_line(text: str) -> str:
    """The last line of what a program said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"

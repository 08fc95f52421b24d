"""A thin wrapper of the Docker client: one engine, typed calls, readable errors."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.system import run


@dataclass(frozen=True)
class Docker:
    """The Docker engine at HOST (as in DOCKER_HOST; "" is the client's own default)."""

    host: str = ""

    def command(self, *arguments: str) -> list[str]:
        """The command line of a call."""
        return ["docker", *(("--host", self.host) if self.host else ()), *arguments]

    def run(self, *arguments: str, stdin: bytes | None = None, seconds: float = 900) -> str:
        """Call the client and return its output. Raises FleetError when it fails."""
        # A builder in a container of its own would not see the images of this engine.
        return run(
            self.command(*arguments), stdin=stdin, seconds=seconds, environment={"BUILDX_BUILDER": "default"}
        ).strip()

    def ok(self, *arguments: str, seconds: float = 60) -> bool:
        """Whether a call succeeds; its output is not wanted."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=dict(os.environ),
            check=False,
        )
        return done.returncode == 0

    def rows(self, *arguments: str) -> list[Mapping[str, Any]]:
        """The rows of a listing command (`ps`, `images`, ...), each as the client's JSON object."""
        return [json.loads(line) for line in self.run(*arguments, "--format", "{{json .}}").splitlines()]

    def inspect(self, kind: str, names: list[str]) -> list[dict[str, Any]]:
        """Details of objects; KIND is "container", "image", "network" or "volume"."""
        if not names:
            return []
        result: list[dict[str, Any]] = json.loads(self.run(kind, "inspect", *names))
        return result

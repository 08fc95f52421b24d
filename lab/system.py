"""Starts programs on this machine; a program that fails becomes one readable error."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ollama_fleet.errors import FleetError


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def run(
    command: Sequence[str],
    *,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 900,
    remedy: str = "read the output above, mend its cause, and run the command again: it goes on where it stopped",
) -> str:
    """Run a program and return what it wrote to standard output.

    environment: variables added to this process's own.
    seconds: time limit.
    Raises FleetError with the last lines of its error output when it fails or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise FleetError(f"cannot run {command[0]}", "there is no such program on the PATH", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise FleetError(_shown(command), f"no end after {seconds:.0f} s", remedy) from error
    if done.returncode != 0:
        raise FleetError(_shown(command), last_lines(done.stderr or done.stdout) or "it said nothing", remedy)
    return done.stdout.decode(errors="replace")


def privileged(command: Sequence[str]) -> list[str]:
    """The command as root: itself when we are root, else with sudo."""
    if os.geteuid() == 0:
        return list(command)
    if shutil.which("sudo") is None:
        raise FleetError(
            f"{command[0]} must run as root",
            "this is not root and there is no sudo",
            "run the command as root, or install sudo and allow it for this user",
        )
    return ["sudo", *command]


def last_lines(output: bytes, count: int = 8) -> str:
    """The last lines of a program's output that say something."""
    lines = [line.rstrip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return "\n    ".join(lines[-count:])


def _shown(command: Sequence[str]) -> str:
    text = shlex.join(command)
    return f"failed: {text if len(text) <= 160 else text[:160] + '...'}"

"""What the lab remembers between two commands, in .lab/state.json."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ollama_fleet.errors import FleetError

VERSION = 1


@dataclass
class OwnEngine:
    """What this machine was like before the lab started a Docker engine of its own.

    absent: files and folders that the engine makes and that were not there
    """

    ip_forward: str
    forward_policy: str
    absent: list[str] = field(default_factory=list)


@dataclass
class State:
    """The lab's memory.

    docker_host: the engine's address as in DOCKER_HOST; "" is the Docker client's own default; None: no engine chosen
    own_engine: set when that engine was started by the lab
    subnet: the lab's network, as "10.213.0.0/24"
    engine: "stand-in" or "ollama": which model engine the hosts get
    pushed: digest in the registry by image name with its content key
    """

    docker_host: str | None = None
    own_engine: OwnEngine | None = None
    subnet: str | None = None
    engine: str | None = None
    pushed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read the state; a missing file is a lab that was never up.

        Raises FleetError when the file cannot be understood.
        """
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise _unreadable(path, str(error)) from error
        if not isinstance(data, dict) or data.pop("version", None) != VERSION:
            raise _unreadable(path, f"it is not of version {VERSION}")
        own = data.pop("own_engine", None)
        try:
            return cls(own_engine=OwnEngine(**own) if own else None, **data)
        except TypeError as error:
            raise _unreadable(path, str(error)) from error

    def save(self, path: Path) -> None:
        """Write the state; a reader sees the old one or the new one, never half."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": VERSION, **dataclasses.asdict(self)}, indent=2) + "\n"
        write_if_changed(path, text)


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Replace a file in one move, only when its text differs; say whether it did."""
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    partial.replace(path)
    return True


def _unreadable(path: Path, why: str) -> FleetError:
    return FleetError(
        f"the lab's state {path}",
        why,
        "put back the version of this project that made the lab and run ./inv lab.down, then come back to this one",
    )

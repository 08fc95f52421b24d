"""Where the lab keeps things, and what it calls them. Several clones on one machine do not meet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Files, folders and names of the lab of the project at ROOT."""

    root: Path

    @property
    def project(self) -> str:
        """The name of this lab: it begins the name of its network, volumes, containers and images."""
        return f"ollama-fleet-lab-{hashlib.sha256(str(self.root).encode()).hexdigest()[:6]}"

    @property
    def bridge(self) -> str:
        """The default network interface of an engine of our own; a name may have 15 characters."""
        return f"oflab-{self.project[-6:]}"

    @property
    def label(self) -> str:
        """The label that everything of this lab in the engine carries."""
        return f"ollama-fleet.lab={self.project}"

    @property
    def home(self) -> Path:
        """Everything that the lab keeps on disk."""
        return self.root / ".lab"

    @property
    def state(self) -> Path:
        """See lab.state."""
        return self.home / "state.json"

    @property
    def docker_data(self) -> Path:
        """Images and containers of an engine of our own."""
        return self.home / "docker"

    @property
    def docker_run(self) -> Path:
        """Socket and pid files of an engine of our own; short, because a socket's path may have 107 bytes at most."""
        return Path("/run") / self.project

    @property
    def ssh(self) -> Path:
        """Keys of the person and of the hosts."""
        return self.home / "ssh"

    @property
    def models(self) -> Path:
        """The model files that models.lab hands out."""
        return self.home / "models"

    @property
    def inventory(self) -> Path:
        """The inventory that the lab writes."""
        return self.root / "inventory" / "lab"

    @property
    def known_hosts(self) -> Path:
        """Addresses of the hosts and their keys."""
        return self.ssh / "known_hosts"

"""Whether a lab fits on this machine's disk."""

import shutil
from pathlib import Path

from lab.docker import Docker
from lab.paths import Paths
from ollama_fleet.errors import FleetError

# Measured with two GPU-server hosts: 5.5 GB, of which each host holds 1.1.
_LAB = 3_500_000_000
_GPU_HOST = 1_200_000_000


def needed(gpu_hosts: int) -> int:
    """Bytes of disk that a lab with so many GPU-server hosts takes."""
    return _LAB + gpu_hosts * _GPU_HOST


def require(docker: Docker, paths: Paths, gpu_hosts: int) -> None:
    """Raise FleetError when the disk of the Docker engine or of the project has no room for a lab."""
    engine = Path(docker.run("info", "--format", "{{.DockerRootDir}}"))
    for folder in (engine, paths.home):
        if folder.exists():
            check(folder, shutil.disk_usage(folder).free, needed(gpu_hosts))


def check(folder: Path, free: int, wanted: int) -> None:
    """Raise FleetError when fewer than WANTED bytes are free under FOLDER."""
    if free < wanted:
        raise FleetError(
            f"no room for the lab under {folder}",
            f"it takes {wanted / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "free disk space there, or ask for fewer hosts",
        )

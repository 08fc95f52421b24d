"""Base images from Debian packages alone: mmdebstrap makes a root file system, the engine takes it in."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.apt_sources import AptSetup
from lab.docker import Docker
from lab.system import last_lines, privileged
from ollama_fleet.errors import FleetError

_OPTIONS = [
    "--variant=minbase",
    # Nobody reads manuals in a lab, and nobody keeps its disk.
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=force-unsafe-io",
]


def inputs(setup: AptSetup, packages: Sequence[str]) -> str:
    """Everything that the base image depends on, as text for a content key."""
    return "\n".join([setup.release.codename, setup.sources, setup.settings, *_OPTIONS, *sorted(packages)])


def make(docker: Docker, tag: str, setup: AptSetup, packages: Sequence[str], labels: Sequence[str]) -> None:
    """Make a root file system with these packages and import it as the image TAG. Raises FleetError when that fails."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "settings")
        settings.write_text(setup.settings)
        command = privileged(
            [
                "mmdebstrap",
                *_OPTIONS,
                "--quiet",
                f"--include={','.join(packages)}",
                *([f"--aptopt={settings}"] if setup.settings else []),
                setup.release.codename,
                "-",
                "-",
            ]
        )
        changes = [f"--change=LABEL {label}" for label in labels]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as mmdebstrap,
        ):
            assert mmdebstrap.stdin is not None  # noqa: S101 - it is a pipe
            mmdebstrap.stdin.write(setup.sources.encode())
            mmdebstrap.stdin.close()
            imported = subprocess.run(
                docker.command("import", *changes, "-", tag), stdin=mmdebstrap.stdout, capture_output=True, check=False
            )
            if mmdebstrap.wait() != 0:
                docker.ok("image", "rm", tag)
                errors.seek(0)
                raise FleetError(
                    f"cannot make a root file system of {setup.release.codename}",
                    last_lines(errors.read()),
                    "check that this machine's apt can reach its package sources: apt-get update",
                )
        if imported.returncode != 0:
            raise FleetError(
                f"cannot import the image {tag}", last_lines(imported.stderr), "free disk space for the Docker engine"
            )

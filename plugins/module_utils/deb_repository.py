# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Packages with all that they need, as one archive that apt can install from without a network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

INDEX = "Packages"


def recorded(state_dir: str) -> dict[str, str]:
    """{package: version} of all that the roles' records on this host say they manage."""
    found: dict[str, str] = {}
    for path in sorted(Path(state_dir).glob("*.json")):
        try:
            found |= json.loads(path.read_text()).get("manages", {}).get("packages", {})
        except (OSError, ValueError, AttributeError) as error:
            raise FleetError(
                f"record {path}", f"it cannot be read: {error}", "run ./inv up --full for this host"
            ) from error
    return found


def download(packages: Mapping[str, str], folder: str, status: str) -> None:
    """Have apt put these packages and all that they depend on into the folder. What is there is not fetched again.

    status: an empty file. With it apt takes the host for one that has nothing, so that no dependency is left out.
    """
    os.makedirs(os.path.join(folder, "partial"), exist_ok=True)
    options = {
        "Dir::Cache::archives": folder,
        "Dir::State::status": status,
        "APT::Keep-Downloaded-Packages": "true",
        "Debug::NoLocking": "true",
    }
    command = ["apt-get", "--yes", "--download-only", "--no-install-recommends", "--allow-downgrades"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    command += ["install", *(f"{name}={version}" for name, version in sorted(packages.items()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("E: ")] or [done.stderr]
        raise FleetError(
            "the packages cannot be downloaded",
            "apt says: {}".format("; ".join(said[:3]).strip()),
            "see that this host's package sources still have these versions (apt-cache policy NAME), then run again",
        )


def index_of(packages: Iterable[str]) -> str:
    """The text of an apt index over these .deb files, in the order of their names."""
    return "\n".join(_entry(path) for path in sorted(packages, key=os.path.basename))


def _entry(path: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FleetError(f"package {path}", done.stderr.strip(), "delete it, and run again")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    places = f"Filename: ./{os.path.basename(path)}\nSize: {os.path.getsize(path)}\nSHA256: {digest.hexdigest()}\n"
    return done.stdout.rstrip("\n") + "\n" + places


def pack(folder: str, archive: str) -> list[str]:
    """Write all .deb files of the folder with their index into one archive, the same for the same packages.

    Returns the files' names.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".deb"))
    index = index_of(os.path.join(folder, name) for name in names).encode()
    with tarfile.open(archive + ".new", "w") as tar:
        entry = tarfile.TarInfo(INDEX)
        entry.size = len(index)
        tar.addfile(entry, io.BytesIO(index))
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = os.path.getsize(os.path.join(folder, name))
            with open(os.path.join(folder, name), "rb") as file:
                tar.addfile(entry, file)
    os.replace(archive + ".new", archive)
    return names

"""Fixtures with the names, versions and dependencies of NVIDIA's container toolkit: four packages that belong together.

What is true of the real ones and matters here: since 1.18.0 they depend on each other at exactly one version, and the
base package brings units that write the CDI specification; before, at least at their own version.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.package_support import deb
from tests.package_support.deb import Package
from tests.package_support.repository import ARCHITECTURE

VERSIONS = ("1.17.7", "1.17.8", "1.18.0", "1.19.1", "1.20.0", "1.20.1")
STUBS = Path(__file__).parent / "stubs"
_REFRESH = """[Unit]
Description=Fixture: writes a CDI specification as nvidia-cdi-refresh of NVIDIA's container toolkit does

[Service]
Type=oneshot
ExecStart=/usr/bin/nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml

[Install]
WantedBy=multi-user.target
"""
_PATH = """[Unit]
Description=Fixture: starts nvidia-cdi-refresh when the driver changes

[Path]
PathChanged=/usr/bin/nvidia-ctk

[Install]
WantedBy=multi-user.target
"""


def packages(versions: Sequence[str] = VERSIONS) -> list[Package]:
    """stable/deb/amd64."""
    return [package for version in versions for package in _four(version)]


def _four(toolkit: str) -> list[Package]:
    version = f"{toolkit}-1"
    numbers = tuple(int(part) for part in toolkit.split("."))
    needed = f"(= {version})" if numbers >= (1, 18) else f"(>= {version})"
    ctk = (STUBS / "nvidia-ctk").read_text().replace("@VERSION@", toolkit)
    files = {"/usr/bin/nvidia-ctk": deb.script(ctk)}
    if numbers >= (1, 18):
        files["/usr/lib/systemd/system/nvidia-cdi-refresh.service"] = deb.text(_REFRESH)
        files["/usr/lib/systemd/system/nvidia-cdi-refresh.path"] = deb.text(_PATH)
    return [
        Package("libnvidia-container1", version, ARCHITECTURE),
        Package(
            "libnvidia-container-tools",
            version,
            ARCHITECTURE,
            {"Depends": f"libnvidia-container1 {needed}"},
            {"/usr/bin/nvidia-container-cli": deb.script(f"#!/bin/sh\necho 'cli-version: {toolkit} (fixture)'\n")},
        ),
        Package("nvidia-container-toolkit-base", version, ARCHITECTURE, files=files),
        Package(
            "nvidia-container-toolkit",
            version,
            ARCHITECTURE,
            {"Depends": f"libnvidia-container-tools {needed}, nvidia-container-toolkit-base (= {version})"},
            {
                # A runtime that hands over to the one that it wraps, as the real one does.
                "/usr/bin/nvidia-container-runtime": deb.script('#!/bin/sh\nexec runc "$@"\n'),
                "/usr/bin/nvidia-container-runtime-hook": deb.script("#!/bin/sh\nexit 0\n"),
            },
        ),
    ]

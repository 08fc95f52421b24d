"""Which releases the lab's images are made of, by the distribution of this machine: its mirrors have no other."""

import os
from dataclasses import dataclass

from lab import apt_sources
from lab.apt_sources import AptSetup, Release
from ollama_fleet.errors import FleetError


@dataclass(frozen=True)
class Base:
    """A release for images. python: the version of its Python, as "3.13"."""

    apt: AptSetup
    python: str


@dataclass(frozen=True)
class Releases:
    """controller: this machine's. hosts: also of services and model engine. open_webui: its Python fits Open WebUI."""

    controller: Release
    hosts: Base
    open_webui: Base


# Open WebUI needs Python 3.11 or 3.12. The images from Ubuntu are untested.
_CHOICES = {
    "debian": (("trixie", "3.13"), ("bookworm", "3.11")),
    "ubuntu": (("noble", "3.12"), ("noble", "3.12")),
}


def choose() -> Releases:
    """The releases for this machine. Raises FleetError where there are none."""
    controller, sources, dump = apt_sources.controller()
    hosts, open_webui = (
        Base(apt_sources.setup_for(Release(controller.distribution, codename), sources, dump, os.environ), python)
        for codename, python in _CHOICES[controller.distribution]
    )
    if controller.distribution == "ubuntu" and controller.codename != "noble":
        raise FleetError(
            f"the lab cannot be built on Ubuntu {controller.codename}",
            "Open WebUI needs Python 3.11 or 3.12, which only Ubuntu 24.04 has",
            "use a virtual machine with Debian 12, Debian 13 or Ubuntu 24.04",
        )
    return Releases(controller, hosts, open_webui)

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which packages belong to a driver, and which driver a package's version stands for."""

from __future__ import annotations

import re

# NVIDIA's own version, 580.159.04, in [EPOCH:]580.159.04-REVISION. Branches have three digits; CUDA's and the container
# toolkit's versions do not.
DRIVER = re.compile(r"^(?:\d+:)?(\d{3}\.\d+(?:\.\d+)?)(?=[-+~]|$)")
# The container toolkit is no part of a driver, whatever a pattern says.
CONTAINER_TOOLKIT = re.compile(r"(lib)?nvidia-(container|docker)")
# Tools that fit any driver: Debian ships nvidia-modprobe 570 beside driver 550.
ANY_DRIVER = ("nvidia-modprobe", "nvidia-settings", "nvidia-xconfig")


def driver_of(version):
    """Return the driver that a package version stands for: 580.159.04 of 580.159.04-0ubuntu0.24.04.1, or ""."""
    found = DRIVER.match(version or "")
    return found.group(1) if found else ""


def bare(name):
    """Return a package name without its architecture."""
    return name.partition(":")[0]


class Family:
    """The packages that belong together: of one driver, or others that are wanted at exact versions."""

    def __init__(self, patterns, packages, extra=()):
        """patterns: regular expressions for whole names; packages: {name: version} that are wanted

        extra: names of packages of any version that come along
        """
        self.patterns = [re.compile(pattern) for pattern in patterns]
        self.packages = packages
        self.drivers = {driver_of(version) for version in packages.values()} - {""}
        names = sorted([*packages, *extra])
        self.not_installed = (
            f"driver {'/'.join(sorted(self.drivers))} is not installed"
            if self.drivers
            else f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed"
        )

    def has(self, name):
        if bare(name) in self.packages:
            return True
        if self.drivers and CONTAINER_TOOLKIT.match(name):
            return False
        return any(pattern.fullmatch(bare(name)) for pattern in self.patterns)

    def is_driver(self, name, version):
        """Whether this is a package whose version is the driver's."""
        return self.has(name) and bare(name) not in ANY_DRIVER and bool(driver_of(version))

    def is_other(self, name, version):
        """Whether this is a package of another driver than the wanted one."""
        return bool(self.drivers) and self.is_driver(name, version) and driver_of(version) not in self.drivers

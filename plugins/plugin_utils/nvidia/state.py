# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What of a driver is on a host already, against what it shall have."""

from __future__ import annotations

import re

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import kernels
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import branch_of, upstream

FAMILIES = re.compile(
    r"^(lib)?nvidia-|^linux-(modules|objects|signatures)-nvidia-|^cuda-drivers|^kmod-nvidia|^libcuda1$"
)


def packaged(driver):
    """Whether packages brought the driver."""
    return any(package["installed"] for package in driver["packages"].values())


def installed_versions(driver, names):
    """Return {name: version} of those packages that are installed whole."""
    found = {name: driver["packages"].get(name) or {} for name in names}
    return {name: package["version"] for name, package in found.items() if package.get("installed")}


def broken(host):
    """Return the driver packages that are half installed."""
    return sorted(name for name in (host.get("packages") or {}).get("broken") or [] if FAMILIES.match(name))


def nouveau(host, gpus):
    """Whether nouveau is loaded."""
    return bool(host["driver"].get("nouveau")) or any(gpu["driver_in_use"] == "nouveau" for gpu in gpus)


def without_module(host, version):
    """Return the kernels that lack the module of this version, of those that must have it. Empty where unknown."""
    return [kernel["release"] for kernel in kernels.that_count(host) if kernels.module_of(kernel) != version]


def gpu_containers(host):
    """Return the running containers that use a GPU, by name."""
    containers = (host.get("docker") or {}).get("containers") or []
    return sorted(item["name"] for item in containers if item.get("gpu") and item["state"] == "running")


def fits(driver, branch, flavor, version):
    """Whether the loaded driver is what is asked for."""
    return bool(
        driver["loaded"]
        and driver["flavor"] == flavor
        and branch_of(driver["loaded"]) == branch
        and (not version or driver["loaded"] == version)
    )


def same_inside(versions):
    """Return the one driver version inside of all packages, or None where they differ."""
    inside = {upstream(version) for version in versions.values()}
    return inside.pop() if len(inside) == 1 else None

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What Docker's engine says about itself and its containers, and which of them use a GPU."""

from __future__ import annotations

import os
import re

COMPOSE_PACKAGES = ("docker-compose-plugin", "docker-compose-v2", "docker-compose")
COMPOSE_PLUGINS = ("/libexec/docker/cli-plugins/docker-compose", "/lib/docker/cli-plugins/docker-compose")
GPU_DEVICE = re.compile(r"/dev/(nvidia|dxg)")
SNAP = "/snap/bin/docker"
NO_DEVICES = ("", "none", "void")


def engine(ask, *, inspect):
    """Return what the engine answers, and its containers.

    ask:     returns the JSON at a path of the engine's API, or None
    inspect: whether to look into each container for GPUs and its restart policy
    """
    # The one answer has the version, too; making each costs the engine more than anything else here.
    info = ask("/info") or {}
    version = info.get("ServerVersion") or (ask("/version") or {}).get("Version")
    listed = (ask("/containers/json?all=1") if version else None) or []
    default = info.get("DefaultRuntime", "")
    spec_dirs = info.get("CDISpecDirs") or []
    return {
        "version": version,
        "cgroup_driver": info.get("CgroupDriver"),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "cdi": bool(spec_dirs),
        "cdi_spec_dirs": spec_dirs,
        "containers": [
            container(item, ask(f"/containers/{item['Id']}/json") if inspect else None, default) for item in listed
        ],
    }


def container(item, inside, default_runtime):
    """One container. item: of the engine's list; inside: its inspection, or None where it was not looked into"""
    labels = item.get("Labels") or {}
    health = re.search(r"\((?:health: )?(\w+)\)", item.get("Status", ""))
    published = [port for port in item.get("Ports") or [] if port.get("PublicPort")]
    return {
        "id": item["Id"],
        "name": item["Names"][0].lstrip("/") if item.get("Names") else item["Id"],
        "image": item["Image"],
        "image_id": item["ImageID"],
        "state": item["State"],
        "health": health.group(1) if health else None,
        "project_dir": labels.get("com.docker.compose.project.working_dir"),
        "config_hash": labels.get("com.docker.compose.config-hash"),
        "ports": [{"address": port.get("IP", ""), "port": port["PublicPort"]} for port in published],
        "gpu": bool(inside) and asks_for_gpu(inside, default_runtime),
        "restart": (inside["HostConfig"].get("RestartPolicy") or {}).get("Name") if inside else None,
    }


def asks_for_gpu(inside, default_runtime):
    """Whether a container was made with a GPU: as a device request, by NVIDIA's runtime, or as device files."""
    wishes = inside["HostConfig"]
    for request in wishes.get("DeviceRequests") or []:
        kinds = [kind for kinds in request.get("Capabilities") or [] for kind in kinds]
        names = request.get("DeviceIDs") or []
        if request.get("Driver") == "nvidia" or "gpu" in kinds or any(name.startswith("nvidia.com/") for name in names):
            return True
    if any(GPU_DEVICE.match(device.get("PathOnHost", "")) for device in wishes.get("Devices") or []):
        return True
    runtime = wishes.get("Runtime") or default_runtime
    if runtime.startswith("nvidia"):
        variables = dict(text.partition("=")[::2] for text in (inside.get("Config") or {}).get("Env") or [])
        return variables.get("NVIDIA_VISIBLE_DEVICES", "") not in NO_DEVICES
    return False


def client(usr_root, packages, run):
    """Return (whether a client is there, the version of its Compose plug-in or None).

    The version comes from the package that brought the plug-in; only a plug-in of no package is started to ask.
    """
    there = any(os.path.exists(path) for path in (usr_root + "/bin/docker", usr_root + "/local/bin/docker", SNAP))
    if not there:
        return False, None
    if any(os.path.exists(usr_root + path) for path in COMPOSE_PLUGINS):
        for name in COMPOSE_PACKAGES:
            package = packages.get(name) or {"installed": False}
            found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", package["version"]) if package["installed"] else None
            if found:
                return True, found.group(1)
    asked = run(["docker", "compose", "version", "--short"])
    return True, asked.strip().lstrip("v") if asked else None


def from_snap(var_root):
    """Whether snap's Docker is there."""
    return os.path.exists(SNAP) or os.path.isdir(var_root + "/snap/docker")

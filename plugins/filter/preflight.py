# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Why a host cannot take what it is about to get, as sentences."""

from __future__ import annotations

GIB = 1024**3


def disk_shortfalls(disk, needs):
    """Return a sentence for each file system that is too small.

    disk: host_info's; needs: {path: GiB}. Paths on one file system need their sum.
    """
    measured = {entry["path"]: entry for entry in disk}
    by_mount = {}
    for path, gib in needs.items():
        by_mount.setdefault(measured[path]["mount_point"], []).append((path, gib))
    problems = []
    for mount_point, wanted in by_mount.items():
        free = measured[wanted[0][0]]["free_bytes"] / GIB
        total = sum(gib for _path, gib in wanted)
        if free < total:
            parts = " and ".join(f"{gib:g} GiB for {path}" for path, gib in wanted)
            problems.append(f"{mount_point} has {free:.1f} GiB free and needs {parts}")
    return problems


def ports_taken(ports, wanted, containers, own_folder):
    """Return a sentence for each wanted port that somebody else listens on.

    ports, containers: host_info's; own_folder: containers of Compose projects below it are ours.
    """
    own = {
        published["port"]
        for container in containers
        if (container["project_dir"] or "").startswith(own_folder.rstrip("/") + "/")
        for published in container["ports"]
    }
    problems = []
    for port in wanted:
        listeners = [entry for entry in ports if entry["port"] == port and port not in own]
        if listeners:
            names = [c["name"] for c in containers if any(p["port"] == port for p in c["ports"])]
            first = listeners[0]
            holder = f"container {names[0]}" if names else f"{first['process'] or 'a process'} (pid {first['pid']})"
            problems.append(f"port {port} at {first['address']} is taken by {holder}")
    return problems


class FilterModule:
    def filters(self):
        return {"disk_shortfalls": disk_shortfalls, "ports_taken": ports_taken}

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which kernels can boot on a host, and which NVIDIA module each of them would load."""

from __future__ import annotations

import glob
import os
import re

# depmod has settled which file a name stands for. Debian calls its module nvidia-current.
IN_MODULES_DEP = re.compile(r"^(\S*?/nvidia(?:-current)?\.ko(?:\.\w+)?):", re.MULTILINE)
FIELD = re.compile(r"^(version|license):\s*(.+?)\s*$", re.MULTILINE)


def releases(boot_root, running):
    """Return the kernels that can boot, by name, and the running one, which a container or WSL has no image of."""
    prefix = boot_root + "/vmlinuz-"
    found = {path[len(prefix) :] for path in glob.glob(prefix + "*")}
    # What a distribution keeps to rescue a host is not what it boots next.
    found = {release for release in found if "rescue" not in release and not release.endswith(".old")}
    return sorted(found | ({running} if running else set()))


def module_file(modules_root, release):
    """Return the path of the NVIDIA module that modprobe would load into this kernel, or None."""
    try:
        with open(f"{modules_root}/{release}/modules.dep", encoding="utf-8", errors="replace") as file:
            found = IN_MODULES_DEP.search(file.read())
    except OSError:
        return None
    return os.path.join(f"{modules_root}/{release}", found.group(1)) if found else None


def flavor_of(licence):
    """Return open or proprietary; the open module is under MIT and GPL, the other under NVIDIA's own licence."""
    return "open" if "GPL" in licence else "proprietary"


def module(modules_root, release, run):
    """Return {version, flavor, path} of a kernel's NVIDIA module, or None where it has none that can be read."""
    path = module_file(modules_root, release)
    said = dict(FIELD.findall(run(["modinfo", path]) or "")) if path else {}
    if "version" not in said:
        return None
    return {"version": said["version"], "flavor": flavor_of(said.get("license", "")), "path": path}


def kernels(boot_root, modules_root, running, run):
    """Return [{release, running, module, headers}] of every kernel that can boot, and of the running one."""
    return [
        {
            "release": release,
            "running": release == running,
            "module": module(modules_root, release, run),
            "headers": os.path.exists(f"{modules_root}/{release}/build"),
        }
        for release in releases(boot_root, running)
    ]

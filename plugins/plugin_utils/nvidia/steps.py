# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What is on a host against what shall be there: which action follows."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import (
    cards,
    kernels,
    packages,
    sources,
    state,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import branch_of

WAITING = "this needs a reboot, and nvidia_driver_reboot_enabled is false: nothing is touched until it is true"


def now(driver):
    return f"{driver['loaded']} {driver['flavor']} is loaded" if driver["loaded"] else "no driver is loaded"


def not_from_packages(case):
    """Keep a driver that no package brought where it is right; never put packages over it."""
    driver, known = case.driver, case.known
    if state.fits(driver, known["branch"], known["flavor"], case.wants["version"]):
        case.note("version", driver["loaded"], "loaded from a runfile or the image, so no package can hold it")
        known["version"] = driver["loaded"]
        return case.decision("keep", f"{now(driver)}, not from packages: it stays, and is not locked")
    asked = case.wants["version"] or f"branch {known['branch']}"
    raise RefusalError(
        f"{now(driver)} and no package brought it, {asked} {known['flavor']} is asked for, and packages over it would"
        " mix two drivers",
        "Remove it (sudo nvidia-installer --uninstall, or an image without it) and run this again; or let"
        " nvidia_driver_branch and nvidia_driver_flavor name what is loaded, to keep it",
        cards.listed(case.gpus),
    )


def compare(case):
    """Return the decision for packages that are known by name."""
    driver, known = case.driver, case.known
    have = state.installed_versions(driver, known["packages"])
    inside = state.same_inside(have) if len(have) == len(known["packages"]) else None
    half = state.broken(case.host)
    if half:
        known["reboot"] = bool(driver["loaded"])
        return settle(case, "repair", f"half installed: {', '.join(half)}")
    if inside and branch_of(inside) == known["branch"] and known["version"] in ("", inside):
        return whole(case, inside, have)
    if not have and state.fits(driver, known["branch"], known["flavor"], known["version"]):
        # A driver that fits stays, also when other packages of the same branch brought it.
        known.update(packages={}, extra=[], services=[], version=driver["loaded"], block_nouveau=False)
        case.note("version", driver["loaded"], "loaded from other packages than these, which are not held")
        return case.decision("keep", f"{now(driver)}, from other packages: it stays, and is not locked")
    return install(case, state.same_inside(have))


def install(case, inside):
    """Return the decision to install; inside: the version of those packages that are there already, or None."""
    driver, known = case.driver, case.known
    # Parts are missing of the driver that runs, at its version: they come without a reboot.
    completes = bool(inside) and state.fits(driver, known["branch"], known["flavor"], known["version"] or inside)
    if completes:
        known["version"] = driver["loaded"]
        case.note("version", driver["loaded"], "it runs; what is missing comes at its version")
    target = known["version"] or f"the newest of branch {known['branch']}"
    reasons = [
        f"install {target} with {known['flavor']} modules from {sources.NAMES[known['source']]}",
        now(driver),
    ]
    known["reboot"] = bool(driver["loaded"]) and not completes
    if state.nouveau(case.host, case.gpus):
        nouveau_holds(case)
        reasons.append("nouveau holds the card until a reboot")
    return settle(case, "install", *reasons)


def nouveau_holds(case):
    case.known.update(reboot=True, initramfs=True)
    case.note("nouveau", "blocked", "it holds the card: the initramfs is rebuilt without it")


def whole(case, version, have):
    """All packages are there at one version: whether it runs, now and after the next boot."""
    host, driver, known = case.host, case.driver, case.known
    was_locked = bool(known["version"])
    revisions = other_revisions(known["packages"], have)
    known.update(packages=have, version=version)
    if not was_locked:
        case.note("version", version, "installed already, and locked as it is")
    missing = state.without_module(host, version)
    if driver["loaded"] == version and driver["flavor"] == known["flavor"]:
        if driver["user_space"] not in (None, version):
            return settle(
                case, "repair", f"{now(driver)} and the libraries are {driver['user_space']}: no program can use a GPU"
            )
        if missing:
            add_ready_modules(case, missing)
            return settle(
                case,
                "repair",
                f"{now(driver)}, and kernel {', '.join(missing)} has no module of it: it would boot without",
                module_comes(case, missing),
            )
        if was_locked:
            return case.decision("keep", now(driver), *revisions)
        return case.decision("lock", f"{now(driver)} and right: lock it at {version}")
    return settle(case, *not_loaded(case, version, missing))


def other_revisions(locked, have):
    """Return a sentence for each package that is there in another revision of the same driver than the locked one."""
    return [
        f"{name} is there as {have[name]} and locked as {version}, which is the same driver: it stays"
        for name, version in sorted(locked.items())
        if version not in ("", have[name])
    ]


def add_ready_modules(case, missing):
    """Ask for the ready modules of those kernels, where the distribution makes them."""
    known = case.known
    if known["source"] == "ubuntu" and "dkms" not in known["extra"]:
        start = packages.ready_made(known["branch"], known["flavor"])
        known["extra"] = [f"{start}-{release}" for release in missing] + known["extra"]


def module_comes(case, missing):
    """Return the sentence that says how kernels get their module."""
    names = [name for name in case.known["extra"] if any(name.endswith(f"-{release}") for release in missing)]
    if not names:
        return f"nobody packaged the headers of {', '.join(missing)}: install them by hand"
    return f"install {', '.join(names)}{' for DKMS' if 'dkms' in case.known['extra'] else ''}"


def not_loaded(case, version, missing):
    """Return (action, reason) for a driver that is installed whole, and is not the loaded one."""
    host, driver, known = case.host, case.driver, case.known
    if driver["loaded"]:
        known["reboot"] = True
        return "reboot", f"{version} {known['flavor']} is installed, but {now(driver)}: reboot the host"
    if state.nouveau(host, case.gpus):
        nouveau_holds(case)
        return "reboot", f"{version} is installed, but nouveau holds the card: reboot the host"
    kernel = host["kernel"]
    if (kernel not in missing) if host.get("kernels") else driver["on_disk"] == version:
        return "repair", f"{version} is installed and not loaded: load it"
    ready = [item["release"] for item in host.get("kernels") or [] if kernels.module_of(item) == version]
    if ready:
        known["reboot"] = True
        newest = max(ready, key=kernels.as_key)
        return (
            "reboot",
            f"{version} is installed for kernel {newest}, not for the running {kernel}: reboot into {newest}",
        )
    return "repair", f"{version} is installed, but no kernel here has its module"


def settle(case, action, *reasons):
    """Return the decision; where it needs a reboot that nobody allowed while a driver works, it waits."""
    known = case.known
    needs_reboot = known.get("reboot", False)
    if needs_reboot or action == "install":
        known["stop"] = state.gpu_containers(case.host)
    if known.get("stop"):
        case.note("containers", ", ".join(known["stop"]), "stopped before the change, started after it")
    if needs_reboot:
        allowed = bool(case.wants.get("reboot_enabled"))
        case.note("reboot", "needed", f"nvidia_driver_reboot_enabled is {str(allowed).lower()}")
        if not allowed and action in ("install", "repair") and case.driver["loaded"]:
            return case.decision("wait", *reasons, WAITING)
    return case.decision(action, *reasons)

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The decision about a host's driver, with its reasons. The rules are in the files beside; here they are asked."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import (
    branches,
    cards,
    fabric,
    flavors,
    kernels,
    packages,
    secure_boot,
    sources,
    state,
    steps,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.case import Case
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import branch_of, platform_key


def driver_plan(host, wants, lock=None):
    """Decide what a host gets for a driver.

    host:  host_info's observation
    wants: {branch: int, version: "" or exact, flavor: auto|open|proprietary, source: auto|distribution|cuda,
            reboot_enabled: bool, today: [year, month] or absent}
    lock:  this platform's entry in the lock file ({version, packages}), or {platform: entry} of all, or None

    Returns a decision:
    action:    skip (nothing to do here), refuse (cannot work), keep (what is there is right), lock (right, and not in
               the lock file yet), install, reboot (installed, not loaded), repair (installed, and not whole), wait (a
               working driver is loaded, the change needs a reboot, and reboots are not allowed: nothing is touched)
    reasons:   sentences: what is done, and why
    notes:     [{topic, choice, reason}]
    refusal:   {rule, cards, remedy}, or None
    flavor, branch, version (exact, or ""), platform (key in the lock file), source (ubuntu, debian or cuda),
    repository (folder in NVIDIA's repository), module_stream (Enterprise Linux 9)
    packages:  {name: exact version, or "" while unknown}, all of one driver version
    extra:     names that have versions of their own: headers, dkms, modules that are ready made
    services, block_nouveau, initramfs, reboot, stop (running containers that use a GPU)
    """
    case = Case(host, wants, [gpu for gpu in host["gpus"] if not cards.passed_on(gpu)])
    skipped = skip_reason(host)
    if skipped:
        return case.decision("skip", skipped)
    try:
        return decide(case, lock)
    except RefusalError as error:
        return case.refusal(error)


def skip_reason(host):
    """Return why this host gets no driver at all, or None."""
    if host["wsl"]:
        return "WSL: the driver belongs to Windows, and one in the subsystem would break it"
    if not host["gpus"]:
        return "no NVIDIA GPU on the PCI bus"
    if all(cards.passed_on(gpu) for gpu in host["gpus"]):
        return f"every GPU is handed to virtual machines (vfio-pci): {cards.cards_line(host['gpus'])}"
    return None


def decide(case, lock):
    note_cards(case)
    cards.check_lost(case.gpus)
    branches.check_age(case.gpus)
    choose_modules_and_branch(case)
    if case.driver["loaded"] and not state.packaged(case.driver):
        return steps.not_from_packages(case)
    choose_packages(case, lock)
    return steps.compare(case)


def note_cards(case):
    kept_out = [gpu for gpu in case.host["gpus"] if cards.passed_on(gpu)]
    here = cards.cards_line(case.gpus)
    if kept_out:
        case.note("cards", f"{here} for this host", f"{cards.cards_line(kept_out)} is left to virtual machines")
    else:
        case.note("cards", here)
    odd = sorted({cards.identity(gpu) for gpu in case.gpus if cards.unknown(gpu)})
    if odd:
        case.note(
            "unknown card", "treated like the newest architecture", f"the table of PCI ids lacks {', '.join(odd)}"
        )


def choose_modules_and_branch(case):
    wants, driver = case.wants, case.driver
    branch = int(wants["branch"])
    if wants["version"] and branch_of(wants["version"]) != branch:
        raise RefusalError(
            f"nvidia_driver_version is {wants['version']}, which is not of nvidia_driver_branch {branch}",
            "Set both to the same branch",
            cards.listed(case.gpus),
        )
    right_branch = bool(driver["loaded"]) and branch_of(driver["loaded"]) == branch
    flavor, why = flavors.choose(
        case.host,
        case.gpus,
        wants["flavor"],
        loaded_flavor=driver["flavor"] if right_branch else None,
        own_open_fails=sources.own_open_fails(case.host, branch, wants.get("source", "auto")),
    )
    branches.check(case.gpus, branch, flavor)
    case.note("modules", flavor, why)
    case.note("branch", str(branch), branches.note(case.gpus, branch, wants.get("today")))
    case.known.update(flavor=flavor, branch=branch)


def choose_packages(case, lock):
    host, branch, flavor = case.host, case.known["branch"], case.known["flavor"]
    parts, fabric_why = fabric.needs(host, case.gpus)
    fits = state.fits(case.driver, branch, flavor, case.wants["version"])
    known = {**case.known, "parts": parts, "fits": fits}
    source, why = sources.choose(host, case.gpus, known, case.wants.get("source", "auto"))
    found = packages.choose(host, source, branch, flavor, parts)
    platform = platform_key(host, source, flavor)
    entry = locked(lock, platform)
    version = chosen_version(case, entry, platform)
    from_nvidia = source == "cuda"
    case.known.update(
        platform=platform,
        version=version,
        source=source,
        repository=sources.repository(host) if from_nvidia else "",
        module_stream=packages.module_stream(host, branch, flavor) if from_nvidia else "",
        packages={name: entry["packages"].get(name, "") for name in found["packages"]},
        extra=found["extra"] + (packages.to_build(host) if found["built_here"] else []),
        services=found["services"],
        block_nouveau=True,
    )
    note_version(case, entry, version)
    case.note("source", sources.NAMES[source], why)
    case.note("packages", ", ".join(case.known["packages"]), modules_come(host, found["built_here"]))
    secure = secure_boot.choose(host, case.gpus, found["built_here"])
    if host["secure_boot"]:
        case.note("secure boot", *secure)
    if parts or len(case.gpus) > 1:
        case.note("fabric", " and ".join(parts) or "none", fabric_why)
    if found["built_here"]:
        note_headers(case)
        note_dkms(case)


def locked(lock, platform):
    """Return {version, packages} of a lock entry, empty where nothing is locked."""
    entry = lock or {}
    if "version" not in entry:
        entry = entry.get(platform) or {}
    return {"version": entry.get("version", ""), "packages": entry.get("packages") or {}}


def chosen_version(case, entry, platform):
    """Return the exact version: the locked one, else the one asked for, else none yet; refuse a contradiction."""
    version, wish, branch = entry["version"], case.wants["version"], case.known["branch"]
    if version and (branch_of(version) != branch or wish not in ("", version)):
        variable, asked, was = ("version", wish, version) if wish else ("branch", branch, branch_of(version))
        raise RefusalError(
            f"the lock file holds {platform} at {version}, and nvidia_driver_{variable} is {asked}: the lock moves only"
            " when it is told to",
            f"Run ./inv driver.upgrade to move it, or set nvidia_driver_{variable} back to {was}",
            cards.listed(case.gpus),
        )
    return version or wish


def note_version(case, entry, version):
    if entry["version"]:
        case.note("version", version, "the lock file holds it")
    elif version:
        case.note("version", version, "nvidia_driver_version says so")
    else:
        case.note(
            "version",
            "not known yet",
            "nothing is locked: the newest of the branch that all packages have is taken, and locked",
        )


def modules_come(host, built_here):
    if not built_here:
        flavour = kernels.ubuntu_flavour(host["kernel"], host["os"]["version_id"])
        return f"Ubuntu's modules for {flavour} kernels come ready and signed; a newer kernel may come with them"
    ready = ", as Ubuntu has none ready for it" if host["os"]["id"] == "ubuntu" else ""
    return f"DKMS builds the modules for kernel {host['kernel']}{ready}"


def note_dkms(case):
    """Say where DKMS comes from on Enterprise Linux, as its own repositories have none."""
    if case.host["os"]["family"] != "redhat":
        return
    there = any("epel" in str(repository).lower() for repository in case.host.get("repositories") or [])
    missing = "; none is set up here: sudo dnf install epel-release, or the address that EPEL names for Red Hat's own"
    case.note("dkms", "from EPEL", f"Enterprise Linux has none{'' if there else missing}")


def note_headers(case):
    names = [name for name in packages.to_build(case.host) if name != "dkms"]
    if kernels.headers(case.host["os"], case.host["kernel"]):
        case.note("headers", ", ".join(names), "DKMS needs them for this kernel and for each later one")
    else:
        case.note("headers", "yours", f"nobody packaged those of kernel {case.host['kernel']}: install them by hand")

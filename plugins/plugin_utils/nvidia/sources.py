# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Where a driver comes from: the distribution's own packages or NVIDIA's CUDA repository."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards, kernels
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

# Debian's own driver, by release: 12 is below Ollama's floor, so it is not here.
DEBIAN_OWN = {"13": 550}
# On the kernel that Debian 13 has, the open modules of its own driver do not build; the proprietary ones do.
DEBIAN_OWN_OPEN_FAILS = {"13": "6.12.107"}
# NVIDIA's names of architectures in its repository: sbsa are Arm servers.
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "sbsa"}

NAMES = {"ubuntu": "Ubuntu's archive", "debian": "Debian's contrib and non-free", "cuda": "NVIDIA's CUDA repository"}


def release_of(host):
    """Return (distribution as rules name it, release): (el, 9) of Rocky Linux 9.6."""
    system = host["os"]
    if system["family"] == "redhat" and system["id"] != "fedora":
        return "el", system["version_id"].split(".", maxsplit=1)[0]
    return system["id"], system["version_id"]


def supported(host):
    name, release = release_of(host)
    return (
        (name == "ubuntu" and release in kernels.UBUNTU_KERNELS)
        or (name == "debian" and release in ("12", "13"))
        or (name == "el" and release in ("9", "10"))
    )


def repository(host):
    """Return the folder of NVIDIA's CUDA repository for a host: debian13/x86_64."""
    name, release = release_of(host)
    folder = {"el": "rhel"}.get(name, name) + release.replace(".", "")
    return f"{folder}/{ARCHITECTURES[host['os']['architecture']]}"


def choose(host, gpus, known, wish):
    """Return (ubuntu, debian or cuda; why), or refuse.

    known: branch and flavor; wish: auto, distribution or cuda
    """
    branch, flavor = known["branch"], known["flavor"]
    name, release = release_of(host)
    if not supported(host) or host["os"]["architecture"] not in ("x86_64", "aarch64"):
        raise RefusalError(
            f"no driver packages are known for {host['os']['name']} on {host['os']['architecture']}",
            "Use Ubuntu 22.04, 24.04 or 26.04, Debian 12 or 13, or Enterprise Linux 9 or 10 on x86_64 or aarch64; or"
            " install the driver by hand: one that is loaded and fits is kept",
            cards.listed(gpus),
        )
    if name == "ubuntu":
        if wish == "cuda":
            return "cuda", "nvidia_driver_source says so; modules are built by DKMS"
        return "ubuntu", "Ubuntu's server packages: tested with its kernels, with signed modules ready for them"
    own = DEBIAN_OWN.get(release) if name == "debian" else None
    if wish == "distribution":
        return "debian", distribution_only(host, gpus, branch, own)
    if own == branch and wish == "auto" and (flavor == "proprietary" or release not in DEBIAN_OWN_OPEN_FAILS):
        return "debian", f"Debian {release} has branch {branch} itself"
    if name == "debian":
        why = f"Debian {release} has {own} only" if own else f"Debian {release}'s own is below what Ollama needs"
        return "cuda", f"NVIDIA's CUDA repository: {why}" if wish == "auto" else "nvidia_driver_source says so"
    return "cuda", "NVIDIA's CUDA repository: Enterprise Linux has no driver of its own"


def distribution_only(host, gpus, branch, own):
    """Return why the distribution's own driver does, or refuse."""
    if own is None:
        raise RefusalError(
            f"{host['os']['name']} has no driver of its own that Ollama can use, and nvidia_driver_source is"
            " distribution",
            "Set nvidia_driver_source to auto or cuda",
            cards.listed(gpus),
        )
    if branch != own:
        raise RefusalError(
            f"{host['os']['name']} has branch {own} only, nvidia_driver_branch is {branch}, and nvidia_driver_source is"
            " distribution",
            f"Set nvidia_driver_source to auto or cuda, or nvidia_driver_branch to {own} where the cards allow it",
            cards.listed(gpus),
        )
    return "nvidia_driver_source says so"

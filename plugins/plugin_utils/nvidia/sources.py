# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Where a driver comes from: the distribution's own packages or NVIDIA's CUDA repository."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import branches, cards, kernels
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
    """Whether driver packages are known for this distribution and processor."""
    name, release = release_of(host)
    return host["os"]["architecture"] in ARCHITECTURES and (
        (name == "ubuntu" and release in kernels.UBUNTU_KERNELS)
        or (name == "debian" and release in ("12", "13"))
        or (name == "el" and release in ("9", "10"))
    )


def repository(host):
    """Return the folder of NVIDIA's CUDA repository for a host: debian13/x86_64."""
    name, release = release_of(host)
    folder = {"el": "rhel"}.get(name, name) + release.replace(".", "")
    return f"{folder}/{ARCHITECTURES[host['os']['architecture']]}"


def no_packages(host, gpus):
    return RefusalError(
        f"{host['os']['name']} on {host['os']['architecture']} is not supported: no driver packages are known for it",
        "Use Ubuntu 22.04, 24.04 or 26.04, Debian 12 or 13, or Enterprise Linux 9 or 10 on x86_64 or aarch64",
        cards.listed(gpus),
    )


def choose(host, gpus, known, wish):
    """Return (ubuntu, debian or cuda; why), or refuse.

    known: branch, flavor, parts of the fabric, and whether a driver that fits is loaded; wish: auto, distribution, cuda
    """
    name, _release = release_of(host)
    if not supported(host):
        raise no_packages(host, gpus)
    if name == "ubuntu":
        return of_ubuntu(gpus, known, wish)
    if name == "debian":
        return of_debian(host, gpus, known, wish)
    if wish == "distribution":
        raise no_own_driver(host, gpus)
    return "cuda", "Enterprise Linux has no driver of its own"


def of_ubuntu(gpus, known, wish):
    """Ubuntu's archive, or NVIDIA's repository where it is asked for or has what Ubuntu lacks."""
    if wish == "cuda":
        return "cuda", "nvidia_driver_source says so; modules are built by DKMS"
    if "nvlsm" not in known["parts"]:
        # What runs stays, also of a branch that has ended.
        if not known["fits"]:
            branches.check_ubuntu(gpus, known["branch"])
        return "ubuntu", "its server packages are tested with its kernels, and signed modules are ready for them"
    if wish == "auto":
        return "cuda", "the subnet manager (nvlsm) that these NVSwitches need is not in Ubuntu's archive"
    raise RefusalError(
        "these NVSwitches need NVIDIA's subnet manager (nvlsm), which Ubuntu's archive lacks, and nvidia_driver_source"
        " is distribution",
        "Set nvidia_driver_source to auto or cuda for this host",
        cards.listed(gpus),
    )


def of_debian(host, gpus, known, wish):
    """NVIDIA's repository, or Debian's own driver where it is asked for or has the branch and its modules build."""
    release, branch = host["os"]["version_id"], known["branch"]
    own = DEBIAN_OWN.get(release)
    if wish == "distribution" and own is None:
        raise no_own_driver(host, gpus)
    if wish == "distribution" and branch != own:
        raise RefusalError(
            f"{host['os']['name']} itself has branch {own} only, nvidia_driver_branch is {branch}, and"
            " nvidia_driver_source is distribution",
            f"Set nvidia_driver_source to auto or cuda, or nvidia_driver_branch to {own} where the cards allow it",
            cards.listed(gpus),
        )
    fails = DEBIAN_OWN_OPEN_FAILS.get(release) if known["flavor"] == "open" else None
    if wish == "cuda":
        return "cuda", "nvidia_driver_source says so"
    if own == branch:
        warning = f"; its open modules were seen not to build for kernel {fails}" if fails else ""
        return "debian", f"Debian {release} has branch {branch} itself{warning}"
    return "cuda", f"Debian {release} itself has {own} only" if own else f"Debian {release}'s own is too old for Ollama"


def own_open_fails(host, branch, wish):
    """Return the kernel for which Debian's own open modules do not build, where its own driver would be taken."""
    name, release = release_of(host)
    if name != "debian" or wish == "cuda" or DEBIAN_OWN.get(release) != branch:
        return None
    return DEBIAN_OWN_OPEN_FAILS.get(release)


def no_own_driver(host, gpus):
    return RefusalError(
        f"{host['os']['name']} has no driver of its own that Ollama can use, and nvidia_driver_source is distribution",
        "Set nvidia_driver_source to auto or cuda",
        cards.listed(gpus),
    )

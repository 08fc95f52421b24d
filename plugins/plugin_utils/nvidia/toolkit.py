# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The container toolkit: whether, which version, and how containers get their GPUs."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards, toolkit_sources
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import numbers, upstream

FLOOR = "1.17.8"
FLOOR_WSL = "1.19.1"
# NVIDIA's bulletin 5850 (June 2026): a race while a container starts, CVE-2026-24260.
FIXED_RACE = "1.19.1"
# Reports of CUDA_ERROR_UNKNOWN with "docker run --gpus all" begin here, and go on with 1.20.0 (toolkit issue 1967).
LEGACY_SUSPECT = "1.19.1"
PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
# Docker knows CDI from 25 on, when told to; from 28.2 on by itself. What toolkit 1.19 writes is CDI 0.7, which Docker
# reads from 26.1 on.
DOCKER_CDI = "25.0"
DOCKER_CDI_07 = "26.1"
DOCKER_CDI_ON = "28.2"
TOOLKIT_CDI_07 = "1.19.0"
CDI_OPTIONS = {"features": {"cdi": True}}
RUNTIME_OPTIONS = {
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
}


def toolkit_plan(host, version, repository_url):
    """Decide whether a host gets the container toolkit, and how containers get GPUs.

    Returns {action, reason, reasons, notes, refusal, packages, stale, complete, injection, daemon_options}.
    action:         skip, refuse or install
    packages:       {name: exact version}
    stale:          files of package sources that older instructions left, and that have to go
    complete:       whether the four packages are there at this version, and nothing is stale
    injection:      cdi, runtime (the documented fallback), or "" while Docker's version is not known
    daemon_options: what daemon.json needs for it
    """
    result = {
        "packages": {},
        "stale": [],
        "complete": False,
        "notes": [],
        "refusal": None,
        "injection": "",
        "daemon_options": {},
    }
    if not host["gpus"] and not host["wsl_gpu"]:
        return {**result, "action": "skip", "reason": "no NVIDIA GPU", "reasons": ["no NVIDIA GPU"]}
    try:
        check(host, version)
        stale = toolkit_sources.stale_files(host, repository_url)
    except RefusalError as error:
        said = str(error)
        return {**result, "action": "refuse", "reason": said, "reasons": [said], "refusal": error.as_result()}
    packages = dict.fromkeys(PACKAGES, package_version(host, version))
    how = injection(host, version)
    result.update(packages=packages, stale=stale, injection=how["injection"], daemon_options=how["daemon_options"])
    result["notes"] = [
        {"topic": "version", "choice": version, "reason": about_version(version, how["injection"])},
        {"topic": "GPUs in containers", "choice": how["choice"], "reason": how["reason"]},
    ]
    there, reasons = what_is_there(host, version)
    if stale:
        reasons.append(f"remove {', '.join(stale)}: a second source of the toolkit, left by older instructions")
    result.update(complete=there and not stale, reason="; ".join(reasons), reasons=reasons)
    return {**result, "action": "install"}


def what_is_there(host, version):
    """Return (whether the four packages are there at this version, sentences)."""
    found = (host.get("toolkit") or {}).get("packages") or {}
    there = {name: package["version"] for name, package in found.items() if package["installed"]}
    if all(upstream(there.get(name, "")) == version for name in PACKAGES):
        return True, [f"four packages at {version} are there"]
    reasons = [f"install four packages at {version}"]
    if there:
        now = ", ".join(sorted({upstream(one) or one for one in there.values()}))
        reasons.append(f"now {now}" if len(there) == len(PACKAGES) else f"only {', '.join(there)} is there, at {now}")
    return False, reasons


def check(host, version):
    """Refuse versions that are not safe or do not work, and what cannot be made to work."""
    said = f"nvidia_container_toolkit_version is {version}"
    shown = [cards.cards_line(host["gpus"])] if host["gpus"] else ["GPUs that Windows lends to WSL"]
    if numbers(version) < numbers(FLOOR):
        raise RefusalError(
            f"before {FLOOR} containers can break out of the toolkit (CVE-2025-23266), and {said}",
            f"Set nvidia_container_toolkit_version to {FIXED_RACE} or later",
            shown,
        )
    if host["wsl"] and numbers(version) < numbers(FLOOR_WSL):
        raise RefusalError(
            f"before {FLOOR_WSL} the toolkit's CDI refresh does not work in WSL, and {said}",
            f"Set nvidia_container_toolkit_version to {FLOOR_WSL} or later",
            shown,
        )
    if (host.get("docker") or {}).get("snap"):
        raise RefusalError(
            "Docker from a snap cannot hand GPUs to containers",
            "Remove it (sudo snap remove docker) and let the docker role install the distribution's",
            shown,
        )


def package_version(host, version):
    """Return the packages' version: NVIDIA's revision is 1 everywhere."""
    return f"{version}-1"


def injection(host, version):
    """Return {injection, choice, reason, daemon_options}: CDI where this Docker can, else the documented fallback."""
    docker = (host.get("docker") or {}).get("version")
    lowest = DOCKER_CDI_07 if numbers(version) >= numbers(TOOLKIT_CDI_07) else DOCKER_CDI
    if not docker:
        return {
            "injection": "",
            "choice": f"CDI from Docker {lowest} on, else its nvidia runtime",
            "reason": "Docker is not there yet",
            "daemon_options": {},
        }
    if numbers(docker)[:2] >= numbers(lowest):
        on = numbers(docker)[:2] >= numbers(DOCKER_CDI_ON)
        return {
            "injection": "cdi",
            "choice": "CDI",
            "reason": f"Docker {docker} {'has it on' if on else 'can, when told to'}, and a daemon-reload cannot take"
            " GPUs from a container",
            "daemon_options": {} if on else CDI_OPTIONS,
        }
    return {
        "injection": "runtime",
        "choice": "Docker's nvidia runtime, with cgroupfs as cgroup driver",
        "reason": f"Docker {docker} is too old for CDI ({lowest}), and with systemd's cgroups a daemon-reload takes"
        " GPUs from containers",
        "daemon_options": RUNTIME_OPTIONS,
    }


def about_version(version, how):
    """Return what a specialist knows of a version."""
    if numbers(version) < numbers(FIXED_RACE):
        return f"a race while containers start is fixed in {FIXED_RACE} only (CVE-2026-24260): plan the move"
    if how == "runtime":
        return (
            f"from {LEGACY_SUSPECT} on, CUDA was seen to fail in containers without CDI (toolkit issue 1967): the check"
            " that initialises CUDA decides"
        )
    return "of all four packages, with the fixes of CVE-2025-23266 and CVE-2026-24260"

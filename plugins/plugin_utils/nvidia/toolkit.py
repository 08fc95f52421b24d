# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The container toolkit: whether, which version, and how containers get their GPUs."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import numbers

FLOOR = "1.17.8"
FLOOR_WSL = "1.19.1"
PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)


def toolkit_plan(host, version):
    """Decide whether a host gets the container toolkit, and how containers get GPUs.

    Returns {action: skip|refuse|install, reason, reasons, notes, packages: {name: exact version}, refusal}.
    """
    empty = {"packages": {}, "notes": [], "refusal": None}
    if not host["gpus"] and not host["wsl_gpu"]:
        return {**empty, "action": "skip", "reason": "no NVIDIA GPU", "reasons": ["no NVIDIA GPU"]}
    try:
        check(host, version)
    except RefusalError as error:
        return {
            **empty,
            "action": "refuse",
            "reason": str(error),
            "reasons": [str(error)],
            "refusal": error.as_result(),
        }
    packages = dict.fromkeys(PACKAGES, f"{version}-1")
    reason = f"four packages at {version}"
    return {**empty, "action": "install", "reason": reason, "reasons": [reason], "packages": packages}


def check(host, version):
    """Refuse versions that are not safe or do not work."""
    floor = FLOOR_WSL if host["wsl"] else FLOOR
    if numbers(version) < numbers(floor):
        cause = "its CDI refresh does not work in WSL" if host["wsl"] else "containers can break out (CVE-2025-23266)"
        raise RefusalError(
            f"nvidia_container_toolkit_version is {version}, and before {floor} {cause}",
            f"Set nvidia_container_toolkit_version to {floor} or later",
        )

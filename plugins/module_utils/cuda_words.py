# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What to do about an error of CUDA in a container."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

RELOAD = (
    "have Docker hand out GPUs by CDI (Docker 26.1 or newer), or set cgroupfs as its cgroup driver (the docker role"
    " does either), then make the containers anew"
)
REMEDIES = {
    "dlopen": (
        "see that the toolkit's specification names the driver's libraries: nvidia-ctk cdi generate, and systemctl"
        " restart nvidia-cdi-refresh"
    ),
    "dlsym": "see that libcuda is the driver's own: ldconfig -p | grep libcuda",
    34: "see that libcuda is the driver's own and not the CUDA toolkit's stub: ldconfig -p | grep libcuda",
    100: (
        "the container has no GPU device: see nvidia-ctk cdi list and ls -l /dev/nvidia* on the host, then systemctl"
        " restart nvidia-cdi-refresh"
    ),
    304: "see that the container may open /dev/nvidia* (SELinux, AppArmor), and dmesg for NVRM",
    802: "start the fabric manager: systemctl status nvidia-fabricmanager, and journalctl -u nvidia-fabricmanager",
    803: "the loaded module and the libraries are of two versions: reboot the host",
    804: "set nvidia_driver_branch to one that these cards work with",
    999: (
        "load nvidia-uvm and write the specification anew (modprobe nvidia-uvm; systemctl restart nvidia-cdi-refresh)."
        " If it came with another toolkit, set nvidia_container_toolkit_version back; if with another driver, reboot"
    ),
}
ANY = "see dmesg for NVRM and Xid, and reboot the host"


def failed(error, when):
    """Return the FleetError for an error of cuda_probe. when: where and when it happened, in words"""
    remedy = REMEDIES.get(error["call"]) or REMEDIES.get(error["code"], ANY)
    return FleetError(f"CUDA does not start {when}", in_words(error), remedy)


def lost(before, error):
    """Return the FleetError for GPUs that a daemon-reload took from a container."""
    names = ", ".join(gpu["name"] for gpu in before["gpus"])
    return FleetError(
        f"systemctl daemon-reload took {names} from a running container",
        f"{in_words(error)}, where it worked a moment before",
        RELOAD,
    )


def in_words(error):
    if error["code"] < 0:
        return str(error["name"])
    return f"{error['call']} answers {error['name']} ({error['code']})"

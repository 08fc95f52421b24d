# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What the links between GPUs need: a fabric manager, its subnet manager, or IMEX; from the hardware that is there."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards

# From this branch the CUDA repository's packages for Debian and Ubuntu lose the branch in their names.
UNNUMBERED_SINCE = 580


def needs(host, gpus):
    """Return (parts, why): parts of fabricmanager, nvlsm, imex.

    NVSwitches up to Hopper are PCI devices. On HGX B200 and B300 they are not: the host sees ConnectX-7 bridges whose
    vital product data say SW_MNG, and the switches need a subnet manager beside the fabric manager. In a virtual
    machine that got cards and no switch, the fabric is managed outside: nothing belongs in it.
    """
    if any(cards.with_grace(gpu, host) and gpu["architecture"] == "blackwell" for gpu in gpus):
        return ["imex"], "Grace Blackwell shares memory between nodes over NVLink through IMEX"
    bridges = host.get("nvswitch_bridges") or []
    if bridges:
        return (
            ["fabricmanager", "nvlsm"],
            f"{len(bridges)} bridges to NVSwitches (ConnectX-7, SW_MNG); the kernel's ib_umad leads to them, and is"
            " loaded",
        )
    if host["nvswitches"]:
        return ["fabricmanager"], f"{len(host['nvswitches'])} NVSwitches on the PCI bus"
    return [], "no NVSwitch in sight: nothing to manage here"


def packages(parts, source, family, branch):
    """Return (packages at the driver's version, packages with versions of their own, services)."""
    equal, own, services = [], [], []
    if "fabricmanager" in parts:
        numbered = source == "ubuntu" or (family == "debian" and branch < UNNUMBERED_SINCE)
        name = "nvidia-fabric-manager" if family == "redhat" and branch < UNNUMBERED_SINCE else "nvidia-fabricmanager"
        equal.append(f"{name}-{branch}" if numbered else name)
        services.append("nvidia-fabricmanager")
    if "nvlsm" in parts:
        own.append("nvlsm")
    if "imex" in parts:
        numbered = source == "ubuntu" or branch < UNNUMBERED_SINCE
        equal.append(f"nvidia-imex-{branch}" if numbered else "nvidia-imex")
        services.append("nvidia-imex")
    return equal, own, services

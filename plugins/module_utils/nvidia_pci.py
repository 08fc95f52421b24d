# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which architecture an NVIDIA PCI device id belongs to.

Source: the PCI ID database, release 2025.06.09 (pci-ids.ucw.cz, Debian package ``pci.ids``), whose entries name the
chip (GH100, AD102, ...). NVIDIA allots device ids in blocks per chip; neighbouring blocks of one architecture are
joined here.
The blocks hold GPUs only by class 0x0300 and 0x0302: audio, USB and NVSwitch functions share some of them.
An id outside every block is unknown, and stays so until this table says otherwise.
"""

from __future__ import annotations

UNKNOWN = "unknown"

# Oldest first: the position says which architecture is older.
ARCHITECTURES = ("kepler", "maxwell", "pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell")

# First id, last id (both included), architecture, chips of the block.
BLOCKS = (
    (0x0FC0, 0x0FFF, "kepler", "GK107"),
    (0x1001, 0x103F, "kepler", "GK110"),
    (0x1180, 0x11FF, "kepler", "GK104 GK106"),
    (0x1280, 0x130B, "kepler", "GK208"),
    (0x1340, 0x147F, "maxwell", "GM107 GM108 GM206"),
    (0x15C0, 0x15FF, "pascal", "GP100"),
    (0x1600, 0x167F, "maxwell", "GM204"),
    (0x1700, 0x173F, "pascal", "GP100"),
    (0x1740, 0x17FF, "maxwell", "GM108 GM200"),
    (0x1B00, 0x1D7F, "pascal", "GP102 GP104 GP106 GP107 GP108"),
    (0x1D80, 0x1DFF, "volta", "GV100"),
    (0x1E00, 0x1FFF, "turing", "TU102 TU104 TU106 TU116 TU117"),
    (0x2080, 0x20FF, "ampere", "GA100"),
    (0x2180, 0x21FF, "turing", "TU106 TU116"),
    (0x2200, 0x227F, "ampere", "GA102"),
    (0x2300, 0x23FF, "hopper", "GH100"),
    (0x2400, 0x25FF, "ampere", "GA103 GA104 GA106 GA107"),
    (0x2680, 0x28FF, "ada", "AD102 AD103 AD104 AD106 AD107"),
    (0x2900, 0x2FFF, "blackwell", "GB100 GB102 GB202 GB203 GB205 GB206 GB207 GB20B"),
    (0x3180, 0x31FF, "blackwell", "GB110"),
    (0x3340, 0x337F, "blackwell", "GB120"),
)


def architecture(device_id: int) -> str:
    """Return the architecture in lower case ("hopper"), or "unknown"."""
    for first, last, name, _chips in BLOCKS:
        if first <= device_id <= last:
            return name
    return UNKNOWN


def older_than(name: str, other: str) -> bool:
    """Say whether a known architecture came before another; an unknown one is never older."""
    return name in ARCHITECTURES and ARCHITECTURES.index(name) < ARCHITECTURES.index(other)

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What an NVIDIA PCI device id tells: chip, architecture, the card's name, and how its NVLink switches are seen.

The rule for an id that the table lacks: its architecture is ``unknown``, whatever its neighbours are. Nothing is
guessed from the blocks in which NVIDIA allots ids. Whoever decides by the architecture has to say what happens then.
"""

from __future__ import annotations

import functools
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci_ids

UNKNOWN = "unknown"

# Oldest first: the position says which architecture is older.
ARCHITECTURES = (
    "tesla",
    "fermi",
    "kepler",
    "maxwell",
    "pascal",
    "volta",
    "turing",
    "ampere",
    "ada",
    "hopper",
    "blackwell",
)
CHIPS = {
    "GT": "tesla",
    "GF": "fermi",
    "GK": "kepler",
    "GM": "maxwell",
    "GP": "pascal",
    "GV": "volta",
    "TU": "turing",
    "GA": "ampere",
    "AD": "ada",
    "GH": "hopper",
    "GB": "blackwell",
}
# NVSwitches that are PCI devices (class 0x0680): of HGX A100 and HGX H100/H200.
NVSWITCHES = {0x1AF1: "A100 NVSwitch", 0x22A3: "H100 NVSwitch"}
# On HGX boards of these chips the NVSwitches are no PCI devices: a ConnectX-7 bridge leads to them, and they need NVLSM
# beside the fabric manager. The chip alone does not say that a card sits on such a board.
BRIDGED_CHIPS = ("GB100", "GB110")


@functools.cache
def cards():
    """{device id: (chip, name or "")} of the table."""
    rows = re.findall(r"^([0-9a-f]{4}) (\S+) ?(.*)$", nvidia_pci_ids.TABLE, re.MULTILINE)
    return {int(number, 16): (chip, name) for number, chip, name in rows}


def architecture(device_id: int) -> str:
    """Return the architecture in lower case ("hopper"), or "unknown"."""
    chip = cards().get(device_id, ("", ""))[0]
    return CHIPS.get(chip[:2], UNKNOWN)


def model(device_id: int) -> str | None:
    """Return the card's name as the PCI ID database has it ("H100 SXM5 80GB"), or None."""
    return cards().get(device_id, ("", ""))[1] or None


def older_than(name: str, other: str) -> bool:
    """Say whether a known architecture came before another; an unknown one is never older."""
    return name in ARCHITECTURES and ARCHITECTURES.index(name) < ARCHITECTURES.index(other)


def on_grace(device_id: int) -> bool:
    """Say whether a Blackwell GPU belongs to a Grace processor (GB200, GB300): its NVLink domain needs IMEX."""
    name = model(device_id) or ""
    return bool(re.search(r"\bGB[23]00\b", name))


def switches_behind_bridges(device_id: int) -> bool:
    """Say whether a card may sit on an HGX board whose NVSwitches are seen as ConnectX-7 bridges (B200, B300)."""
    chip = cards().get(device_id, ("", ""))[0]
    return chip in BRIDGED_CHIPS and not on_grace(device_id)

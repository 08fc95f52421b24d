"""Makes plugins/module_utils/nvidia_pci_ids.py from the PCI ID database.

apt-get install pci.ids     (from Debian sid: the newest)
.venv/bin/python -m tests.pci_support.table /usr/share/misc/pci.ids plugins/module_utils/nvidia_pci_ids.py
"""

import re
import sys
from pathlib import Path

NVIDIA = "10de"
# Nothing below is a card of Kepler or later; what the rules say of older ones they say by this bound.
FIRST = 0x0FC0
# How the name of a chip starts. GR (Rubin) and engineering samples are left out: no driver known here drives them.
CHIP = re.compile(r"(GT2|GF|GK|GM|GP1|GV|TU|GA|AD|GH|GB[12])\w+(?: / \S+)?")
NO_CARD = re.compile(r"Audio|USB|Switch|[Bb]ridge|PCIe host|Reserved|Engineering Sample$")

HEADER = '''# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""NVIDIA's GPUs by PCI device id: id, chip, and the card's name where the database has one.

Source: the PCI ID database, version {version} (https://pci-ids.ucw.cz/, Debian package pci.ids {version}),
Copyright 1997-{year} Martin Mares, 2015-{year} Albert Pool, used under its BSD-3-Clause licence. Made by
tests/pci_support/table.py; not edited by hand. Left out: ids below {first:04x} (older than Kepler), functions that
are no GPU (audio, USB, NVSwitch), reserved ids, and Rubin.
"""

from __future__ import annotations

VERSION = "{version}"
FIRST = 0x{first:04X}

TABLE = """
{table}
"""
'''


def devices_of(database: str, vendor: str = NVIDIA) -> dict[int, str]:
    """{id: text} of one vendor."""
    part = re.search(rf"^{vendor}  .*\n((?:[\t#].*\n)*)", database, re.MULTILINE)
    if part is None:
        raise ValueError(f"the database has no vendor {vendor}")
    return {int(number, 16): text for number, text in re.findall(r"^\t([0-9a-f]{4})  (.+?)\s*$", part[1], re.MULTILINE)}


def row(number: int, text: str) -> str | None:
    """The line of one id, or None where it is no card."""
    chip = CHIP.match(text)
    if number < FIRST or chip is None or NO_CARD.search(text):
        return None
    name = re.search(r"\[(.+)\]", text)
    return f"{number:04x} {chip[0].split()[0]} {name[1] if name else ''}".rstrip()


def table_of(database: str) -> str:
    """The whole Python file."""
    version = re.search(r"^#\s+Version:\s+(\S+)", database, re.MULTILINE)
    if version is None:
        raise ValueError("the database does not say its version")
    rows = [found for number, text in sorted(devices_of(database).items()) if (found := row(number, text))]
    return HEADER.format(version=version[1], year=version[1][:4], first=FIRST, table="\n".join(rows))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(table_of(Path(sys.argv[1]).read_text(encoding="utf-8")), encoding="utf-8")

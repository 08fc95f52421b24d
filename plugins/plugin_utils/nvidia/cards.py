# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a card is, in words and for rules."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

FIRST_OF_KEPLER = 0x0FC0
# B200 and GB200 (GB100, GB102).
BLACKWELL_SERVER = range(0x2900, 0x2A00)
# GB10 of the DGX Spark (GB20B).
BLACKWELL_SPARK = range(0x2E00, 0x2F00)
# B300 and GB300 (GB110): the first driver for them is of branch 580.
BLACKWELL_ULTRA = range(0x3180, 0x3200)


def architecture_name(gpu):
    """Return the architecture as NVIDIA writes it: Hopper."""
    return "unknown architecture" if gpu["architecture"] == nvidia_pci.UNKNOWN else gpu["architecture"].capitalize()


def identity(gpu):
    return f"{gpu['vendor_id']}:{gpu['device_id']}"


def called(gpu):
    """Return a card's name as the driver says it, or as the table of PCI ids has it before there is one."""
    return gpu["name"] or gpu.get("model") or ""


def card(gpu):
    """Return how a person calls a card: name if known, architecture, ids and place."""
    name = called(gpu)
    return f"{name}{', ' if name else ''}{architecture_name(gpu)} {identity(gpu)} at {gpu['pci_address']}"


def cards_line(gpus):
    """Return all cards of a host in one line: 8 x NVIDIA H100 80GB HBM3 (Hopper 10de:2330), ..."""
    counted = {}
    for gpu in gpus:
        kind = f"{architecture_name(gpu)} {identity(gpu)}"
        name = called(gpu)
        text = (f"{name} ({kind})" if name else kind) + (", lost" if lost(gpu) else "")
        counted[text] = counted.get(text, 0) + 1
    return ", ".join(f"{number} x {text}" for text, number in counted.items())


def listed(gpus):
    return [card(gpu) for gpu in gpus]


def architectures(gpus):
    """Return the architectures of cards in words, oldest first: Ampere and Hopper."""
    order = {name: position for position, name in enumerate(nvidia_pci.ARCHITECTURES)}
    names = sorted({gpu["architecture"] for gpu in gpus}, key=lambda name: order.get(name, len(order)))
    words = [architecture_name({"architecture": name}) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def before_maxwell(gpu):
    """Whether a card is too old for every driver that Ollama can use: Kepler, and ids below Kepler's."""
    if unknown(gpu):
        return int(gpu["device_id"], 16) < FIRST_OF_KEPLER
    return nvidia_pci.older_than(gpu["architecture"], "maxwell")


def before_turing(gpu):
    """Whether a card came before Turing, the first architecture that open modules support."""
    return nvidia_pci.older_than(gpu["architecture"], "turing")


def unknown(gpu):
    return gpu["architecture"] == nvidia_pci.UNKNOWN


def server_blackwell(gpu):
    """Whether a card is of the Blackwell chips for servers (B200, GB200, B300, GB300), which NVLink may join."""
    device = int(gpu["device_id"], 16)
    return device in BLACKWELL_SERVER or device in BLACKWELL_ULTRA


def with_grace(gpu, host):
    """Whether a Hopper or server Blackwell card sits beside NVIDIA's own Arm processor, as far as ids tell."""
    return host["os"]["architecture"] == "aarch64" and (gpu["architecture"] == "hopper" or server_blackwell(gpu))


def open_only(gpu, host):
    """Whether only open modules drive a card."""
    return gpu["architecture"] == "blackwell" or with_grace(gpu, host)


def late_blackwell(gpu):
    """Whether a Blackwell card came later than the first ones, and its first driver with it."""
    device = int(gpu["device_id"], 16)
    return device in BLACKWELL_ULTRA or device in BLACKWELL_SPARK


def passed_on(gpu):
    """Whether a card is handed to virtual machines."""
    return gpu["driver_in_use"] == "vfio-pci"


def lost(gpu):
    return gpu.get("state", "ok") == "lost"


def check_lost(gpus):
    """Refuse a host with a card that no longer answers."""
    gone = [gpu for gpu in gpus if lost(gpu)]
    if gone:
        raise RefusalError(
            "a card that has fallen off the bus (Xid 79) cannot be driven, and no driver brings it back",
            "Power the host off, reseat the card and its power cables, check power supply and cooling, and start it"
            " again",
            listed(gone),
        )

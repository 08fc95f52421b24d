# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Open or proprietary kernel modules."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError


def check_mix(host, gpus):
    """Refuse cards in one host that no driver serves together."""
    old = [gpu for gpu in gpus if cards.before_turing(gpu)]
    new = [gpu for gpu in gpus if cards.open_only(gpu, host)]
    if old and new:
        raise RefusalError(
            f"{cards.architectures(old)} needs proprietary modules and {cards.architectures(new)} open ones:"
            " no driver serves both in one host",
            "Move one kind to another host, or hand it to a virtual machine (vfio-pci)",
            cards.listed(old + new),
        )
    return old, new


def choose(host, gpus, wish, loaded_flavor=None, own_open_fails=None):
    """Return (open or proprietary, why), or refuse.

    loaded_flavor: of a loaded driver that is otherwise right. It stays where it drives all cards: what works is not
    changed for a preference.
    own_open_fails: the kernel for which the open modules do not build, where the distribution's own driver is taken.
    """
    old, new = check_mix(host, gpus)
    if wish == "open" and old:
        raise RefusalError(
            f"open modules need Turing or newer, nvidia_driver_flavor is open, and this is {cards.architectures(old)}",
            "Set nvidia_driver_flavor to auto or proprietary for this host",
            cards.listed(old),
        )
    if wish == "proprietary" and new:
        raise RefusalError(
            f"only open modules drive {cards.architectures(new)}"
            f"{' with a Grace processor' if cards.with_grace(new[0], host) else ''}, and nvidia_driver_flavor is"
            " proprietary",
            "Set nvidia_driver_flavor to auto or open for this host",
            cards.listed(new),
        )
    if wish != "auto":
        return wish, "nvidia_driver_flavor says so"
    if old:
        mixed = [gpu for gpu in gpus if not cards.before_turing(gpu)]
        beside = f"; {cards.architectures(mixed)} beside it works with them too" if mixed else ""
        return "proprietary", f"open ones need Turing or newer, and this is {cards.architectures(old)}{beside}"
    if new:
        return "open", f"nothing else drives {cards.architectures(new)}{grace(new, host)}"
    return preferred(gpus, loaded_flavor, own_open_fails)


def preferred(gpus, loaded_flavor, own_open_fails):
    """Return (flavor, why) for cards that work with both."""
    if loaded_flavor == "proprietary":
        return "proprietary", "they are loaded and drive these cards; what works is not changed for a preference"
    if own_open_fails:
        return "proprietary", f"the distribution's own open ones were seen not to build for kernel {own_open_fails}"
    if any(cards.unknown(gpu) for gpu in gpus):
        return "open", "a card that the table of PCI ids lacks is newer than the table, and new cards need open ones"
    return "open", f"NVIDIA recommends them for {cards.architectures(gpus)}"


def grace(gpus, host):
    return " with a Grace processor" if any(cards.with_grace(gpu, host) for gpu in gpus) else ""

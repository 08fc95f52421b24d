# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Secure Boot: the kernel loads signed modules only."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

DKMS_KEY = "/var/lib/dkms/mok.pub"


def key_of(host):
    """Return (path of the key that DKMS signs with here, the command that makes it)."""
    if host["os"]["id"] == "ubuntu":
        return "/var/lib/shim-signed/mok/MOK.der", "sudo update-secureboot-policy --new-key"
    if host["os"]["id"] == "debian" and host["os"]["version_id"] == "12":
        # Its DKMS (3.0.10) has no command for this; these are the words that it uses itself.
        return DKMS_KEY, (
            'sudo openssl req -new -x509 -nodes -days 36500 -subj "/CN=DKMS module signing key" -newkey rsa:2048'
            f" -keyout /var/lib/dkms/mok.key -outform DER -out {DKMS_KEY}"
        )
    return DKMS_KEY, "sudo dkms generate_mok"


def tools(host):
    """Return the command that brings DKMS and mokutil."""
    return f"sudo {'dnf' if host['os']['family'] == 'redhat' else 'apt'} install dkms mokutil"


def built_and_loaded(host):
    """Whether DKMS built the loaded driver here: then its key is trusted, whatever could be seen."""
    running = next((kernel for kernel in host.get("kernels") or [] if kernel["running"]), {})
    return bool(host["driver"]["loaded"]) and "/dkms/" in ((running.get("module") or {}).get("path") or "")


def choose(host, gpus, built_here):
    """Return (state of Secure Boot, why modules load), or refuse where modules would be built that do not load."""
    if not host["secure_boot"]:
        return "off" if host["secure_boot"] is False else "no UEFI", "modules load unsigned"
    if not built_here:
        return "on", "Ubuntu signed these modules, and its shim trusts that key"
    path, make = key_of(host)
    if built_and_loaded(host):
        return "on", "a module that DKMS built is loaded, so its key is trusted"
    if host.get("mok_enrolled"):
        return "on", f"DKMS signs with {path}, which is enrolled"
    raise RefusalError(
        "Secure Boot is on, DKMS builds the modules on this host, and the key it signs with is not enrolled:"
        " they would not load",
        f"Make the key if there is none ({tools(host)}; {make}), run sudo mokutil --import {path} with a one-time"
        " password, reboot,"
        ' and choose "Enroll MOK" with that password on the console; or turn Secure Boot off in the firmware',
        cards.listed(gpus),
    )

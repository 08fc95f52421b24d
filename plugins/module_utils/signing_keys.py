# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Whether the key that DKMS signs modules with is one that the firmware's shim trusts (a machine owner's key)."""

from __future__ import annotations

import base64
import glob
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read, read_bytes

UBUNTU = "/lib/shim-signed/mok/MOK.der"
DKMS = "/lib/dkms/mok.pub"


def enrolled(sys_root, etc_root, var_root, system_id):
    """True or False; None without UEFI, or where its variables cannot be read."""
    if not glob.glob(sys_root + "/firmware/efi/*"):
        return None
    lists = [
        *sorted(glob.glob(sys_root + "/firmware/efi/mok-variables/MokListRT*")),
        *sorted(glob.glob(sys_root + "/firmware/efi/efivars/MokListRT*")),
    ]
    contents = [read_bytes(path) for path in lists]
    if any(content is None for content in contents):
        return None
    certificate = own_certificate(etc_root, var_root, system_id)
    # A list of signatures holds each certificate as it is, with headers around.
    return bool(certificate) and any(certificate in content for content in contents)


def own_certificate(etc_root, var_root, system_id):
    """The certificate (DER) of the key that DKMS signs with on this host, or None."""
    configured = None
    for path in [etc_root + "/dkms/framework.conf", *sorted(glob.glob(etc_root + "/dkms/framework.conf.d/*.conf"))]:
        found = re.findall(r"^\s*mok_certificate=[\"']?([^\"'\s$]+)", read(path) or "", re.MULTILINE)
        configured = found[-1] if found else configured
    if configured and configured.startswith("/var/"):
        configured = var_root + configured[len("/var") :]
    defaults = [var_root + UBUNTU, var_root + DKMS] if system_id == "ubuntu" else [var_root + DKMS]
    for path in [configured] if configured else defaults:
        content = read_bytes(path)
        if content:
            return from_pem(content) if content.startswith(b"-----BEGIN") else content
    return None


def from_pem(content):
    lines = [line for line in content.splitlines() if line and not line.startswith(b"-----")]
    return base64.b64decode(b"".join(lines))

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Kernels: which flavour a release is, what its headers are called, which of them lack the module."""

from __future__ import annotations

import re

# The kernel that each Ubuntu was released with; later ones of a flavour are its hardware enablement kernels.
UBUNTU_KERNELS = {"22.04": "5.15", "24.04": "6.8", "26.04": "7.0"}
UBUNTU_FLAVOURS = (
    "generic",
    "generic-64k",
    "lowlatency",
    "lowlatency-64k",
    "nvidia",
    "nvidia-64k",
    "aws",
    "azure",
    "gcp",
    "oracle",
)
# These have hardware enablement kernels under a name of their own; clouds' kernels roll on under one name.
UBUNTU_HWE = ("generic", "generic-64k", "lowlatency", "lowlatency-64k", "nvidia", "nvidia-64k")


def ubuntu_flavour(release, version_id):
    """Return how Ubuntu's package names call a kernel's flavour (generic-hwe-24.04), or None for another's kernel."""
    match = re.fullmatch(r"(\d+\.\d+)\.\d+-\d+-([a-z]+(?:-64k)?)", release)
    if not match or match.group(2) not in UBUNTU_FLAVOURS:
        return None
    series, flavour = match.groups()
    if flavour in UBUNTU_HWE and series != UBUNTU_KERNELS.get(version_id):
        return f"{flavour}-hwe-{version_id}"
    return flavour


def debian_flavour(release):
    """Return Debian's flavour of a kernel (amd64, cloud-amd64, arm64), or None for another's kernel."""
    match = re.fullmatch(
        r"\d+\.\d+\.\d+(?:\+deb\d+(?:\+\d+)?|\+bpo|-\d+)*-((?:cloud-|rt-)?(?:amd64|arm64)(?:-16k)?)", release
    )
    return match.group(1) if match else None


def headers(system, release):
    """Return the package of a kernel's headers, or None where nobody packaged them."""
    if system["family"] == "redhat":
        return f"kernel-devel-{release}" if re.search(r"\.el\d+", release) else None
    if system["id"] == "ubuntu":
        return f"linux-headers-{release}" if ubuntu_flavour(release, system["version_id"]) else None
    if debian_flavour(release):
        return f"linux-headers-{release}"
    return f"proxmox-headers-{release}" if release.endswith("-pve") else None


def headers_metapackage(system, release):
    """Return the package that brings the headers of each later kernel of this flavour, or None."""
    if system["family"] == "redhat":
        return "kernel-devel-matched" if re.search(r"\.el\d+", release) else None
    if system["id"] == "ubuntu":
        flavour = ubuntu_flavour(release, system["version_id"])
        return f"linux-headers-{flavour}" if flavour else None
    flavour = debian_flavour(release)
    return f"linux-headers-{flavour}" if flavour else None


def as_key(release):
    """Return a kernel's release for comparing: which of two boots next."""
    return [int(part) for part in re.findall(r"\d+", release)]


def that_count(host):
    """Return the kernels that must have the module: the running one, and the packaged newest, which boots next."""
    kernels = host.get("kernels") or []
    if not kernels:
        return []
    packaged = [kernel for kernel in kernels if headers(host["os"], kernel["release"])]
    newest = max(packaged or kernels, key=lambda kernel: as_key(kernel["release"]))
    return [kernel for kernel in kernels if kernel["running"] or kernel is newest]


def module_of(kernel):
    """Return the version of the module that a kernel has, or None."""
    return (kernel.get("module") or {}).get("version")

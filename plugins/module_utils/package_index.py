# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What versions a package repository has, read from its index over HTTP: apt's flat repositories and rpm's.

Signatures are not checked here: this only tells which versions there are. apt and dnf check them before they install.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from xml.etree import ElementTree

from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

OPENERS = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
COMMON = "{http://linux.duke.edu/metadata/common}"
REPO = "{http://linux.duke.edu/metadata/repo}"


def unpack(name, data):
    """Return the content of an index by its file name's ending."""
    for ending, opener in OPENERS.items():
        if name.endswith(ending):
            return opener(data)
    if name.endswith(".zst"):
        raise FleetError(
            f"{name} cannot be read",
            "it is packed with zstd, which Python before 3.14 has not",
            "have the repository's metadata packed with gzip, or configure the repository on the host",
        )
    return data


def deb_versions(text, names):
    """Return {name: [versions, newest first]} of a Packages file."""
    found = {name: [] for name in names}
    for paragraph in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if line.startswith(("Package: ", "Version: "))
        )
        if fields.get("Package") in found and "Version" in fields:
            found[fields["Package"]].append(fields["Version"])
    return {name: package_order.newest_first(versions, package_order.debian) for name, versions in found.items()}


def parse(text):
    return ElementTree.fromstring(text)  # noqa: S314 - of the repository that the operator named


def rpm_primary(text):
    """Return the path of the primary index that a repomd.xml names, or ""."""
    for data in parse(text).findall(f"{REPO}data"):
        if data.get("type") == "primary":
            return data.find(f"{REPO}location").get("href")
    return ""


def evr(epoch, version, release):
    """Return a version as dnf writes it: the epoch only where there is one."""
    return f"{version}-{release}" if epoch in ("", "0", None) else f"{epoch}:{version}-{release}"


def rpm_versions(text, names):
    """Return {name: [versions, newest first]} of a primary.xml."""
    found = {name: [] for name in names}
    for package in parse(text).findall(f"{COMMON}package"):
        name = package.findtext(f"{COMMON}name")
        if name in found and package.findtext(f"{COMMON}arch") != "src":
            version = package.find(f"{COMMON}version")
            found[name].append(evr(version.get("epoch"), version.get("ver"), version.get("rel")))
    return {name: package_order.newest_first(versions, package_order.rpm) for name, versions in found.items()}


def read_apt(base, names, fetch):
    """Return {name: [versions]} of a flat apt repository at base. fetch: URL -> bytes, None when it is not there."""
    for name in ("Packages.gz", "Packages.xz", "Packages"):
        data = fetch(f"{base.rstrip('/')}/{name}")
        if data is not None:
            return deb_versions(unpack(name, data).decode("utf-8", "replace"), names)
    raise no_index(base, "Packages.gz")


def read_rpm(base, names, fetch):
    """Return {name: [versions]} of an rpm repository at base."""
    listing = fetch(f"{base.rstrip('/')}/repodata/repomd.xml")
    place = listing and rpm_primary(listing)
    data = fetch(f"{base.rstrip('/')}/{place}") if place else None
    if data is None:
        raise no_index(base, "repodata/repomd.xml")
    return rpm_versions(unpack(place, data), names)


def no_index(base, name):
    return FleetError(
        f"the package repository {base} cannot be read",
        f"it has no {name}",
        "check the repository's address, and that it exists for this distribution and architecture",
    )

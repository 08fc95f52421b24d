# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What dpkg or rpm say is installed. Pure: their output in, packages out."""

from __future__ import annotations

import re

DPKG = ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${db:Status-Abbrev}\n"]
RPM = ["rpm", "--query", "--all", "--queryformat", "%{NAME}\t%{EVR}\n"]
# Half installed, unpacked, half configured, waiting for or about to run triggers (dpkg-query's letters).
BROKEN = "HUFWt"
# NAME-[EPOCH:]VERSION-RELEASE.ARCHITECTURE, as dnf writes it; ! excludes a version instead.
LOCKED = re.compile(r"^(?P<name>[^!#\s]\S*?)-(?:\d+:)?[^-\s]+-[^-\s]+$")


def from_dpkg(output):
    """Return ({name: {version, installed, held}}, names that are half installed)."""
    packages, broken = {}, []
    for line in output.splitlines():
        name, version, status = [*line.split("\t"), "", ""][:3]
        want, state, error = (status + "   ")[:3]
        if state in BROKEN or error.strip():
            broken.append(name)
        if state != "n":
            packages[name] = {"version": version, "installed": state == "i" and not error.strip(), "held": want == "h"}
    return packages, sorted(broken)


def from_rpm(output, versionlock):
    """Return the same of rpm. versionlock: the text of dnf's list of locked versions. rpm leaves nothing half done."""
    locked = {found.group("name") for line in versionlock.splitlines() if (found := LOCKED.match(line.strip()))}
    packages = {}
    for line in output.splitlines():
        name, _tab, version = line.partition("\t")
        packages[name] = {"version": version, "installed": True, "held": name in locked}
    return packages, []

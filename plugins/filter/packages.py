# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which packages a host lacks."""

from __future__ import annotations


def packages_to_install(wanted, observed, versions=None):
    """Return what apt has to be asked for, as NAME or NAME=VERSION.

    wanted: names; observed: {name: {version, installed}} as host_info returns it; versions: {name: exact version}.
    A wanted package is asked for when it is not installed, or not in the version that is named for it.
    """
    missing = []
    for name in wanted:
        version = (versions or {}).get(name)
        package = observed.get(name)
        installed = bool(package and package["installed"])
        if not installed or (version and package["version"] != version):
            missing.append(f"{name}={version}" if version else name)
    return missing


class FilterModule:
    def filters(self):
        return {"packages_to_install": packages_to_install}

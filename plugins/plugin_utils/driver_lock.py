# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The lock file of an environment: the exact driver of each platform, and the one before it.

All changes go through `update`, which keeps runs and the hosts of one run apart.
"""

from __future__ import annotations

from functools import partial

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.lock_file import LockFile, as_yaml, entries_in

SCHEMA = "ollama-fleet/driver-lock/1"
HEADER = "# Written by ./inv up and ./inv driver.*: the exact driver of each platform. Keep it in version control.\n"
KEYS = {"version", "packages", "previous"}
REPAIR = "take {path} back from version control, or remove it: the next run locks what the hosts have"


def parse(text, path):
    """Return {platform: entry} of a lock file's text. An entry: {version, packages, previous?}, or {previous} alone."""
    platforms = entries_in(text, SCHEMA, "platforms", partial(problem, path))
    for platform, entry in platforms.items():
        check_entry(entry, platform, path)
    return platforms


def check_entry(entry, where, path):
    if not isinstance(entry, dict) or not set(entry) <= KEYS or not entry:
        raise problem(path, f"{where} has something other than {', '.join(sorted(KEYS))}")
    if "version" in entry or "previous" not in entry:
        if not isinstance(entry.get("version"), str) or not entry["version"]:
            raise problem(path, f"{where} has the version {entry.get('version')!r}, which is no text: quote it")
        packages = entry.get("packages")
        if not isinstance(packages, dict) or not packages:
            raise problem(path, f"{where} names no packages: a version alone holds nothing")
        odd = [name for name, version in packages.items() if not (isinstance(version, str) and version)]
        if odd:
            raise problem(path, f"{where} has no exact version of package {', '.join(map(str, odd))}, or not as text")
    if "previous" in entry:
        previous = entry["previous"]
        if not isinstance(previous, dict) or "previous" in previous:
            raise problem(path, f"{where} has an earlier driver that is not {{version, packages}}")
        check_entry(previous, f"{where}, previous", path)


def problem(path, why):
    return FleetError(f"driver lock {path}", why, REPAIR.format(path=path))


def render(platforms):
    """Return the text of a lock file, the same for the same content."""
    content = {"schema": SCHEMA, "platforms": {name: ordered(platforms[name]) for name in sorted(platforms)}}
    return as_yaml(HEADER, content)


def ordered(entry):
    result = {}
    if "version" in entry:
        result = {"version": entry["version"], "packages": dict(sorted(entry["packages"].items()))}
    if entry.get("previous"):
        result["previous"] = ordered(entry["previous"])
    return result


def current(entry):
    """Return {version, packages} of an entry, or None where it holds none."""
    if not (entry or {}).get("version"):
        return None
    return {"version": entry["version"], "packages": dict(entry["packages"])}


def moved(entry, version, packages):
    """Return the entry at this version. The same version: packages are added. Another: the old one becomes previous."""
    now = current(entry)
    before = (entry or {}).get("previous")
    if now and now["version"] == version:
        packages = {**now["packages"], **packages}
    elif now:
        before = now
    result = {"version": version, "packages": dict(packages)}
    return {**result, "previous": before} if before else result


def rolled_back(entry, platform):
    """Return the entry at its earlier version; the one that it leaves becomes the earlier one."""
    before = current((entry or {}).get("previous"))
    if before is None:
        raise FleetError(
            f"driver.rollback of {platform}",
            "the lock knows no earlier version",
            "name the version to go to: ./inv driver.upgrade --to VERSION",
        )
    now = current(entry)
    return {**before, "previous": now} if now else before


def unlocked(entry):
    """Return the entry without a version; what it held can be rolled back to. None where it held nothing."""
    now = current(entry)
    before = now or (entry or {}).get("previous")
    return {"previous": before} if before else None


_FILE = LockFile("driver lock", "nvidia_driver_lock_file", parse, render)
read, text_of, update, replace = _FILE.read, _FILE.text_of, _FILE.update, _FILE.replace

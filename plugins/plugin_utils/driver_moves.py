# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How the driver lock moves for one host: which exact version each step leads to, and when it must not be taken.

`ask(names)` answers {package: [versions that the host could install, newest first]}. It is called at most once, outside
of the lock file's own lock, and only where the answer matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import driver_lock, nvidia

# Nothing here is to be locked: no driver, none that may be touched now, or none that packages brought.
NO_LOCK = ("skip", "refuse", "wait")


@dataclass(frozen=True)
class Host:
    """A host and what its inventory asks for. `check`: nothing is written, and package lists may be stale."""

    name: str
    observed: dict
    wants: dict
    lock_file: str
    ask: Any
    check: bool = False

    def decide(self, platforms):
        """Return what driver_plan says with these entries locked."""
        return nvidia.driver_plan(self.observed, self.wants, platforms)


@dataclass(frozen=True)
class Move:
    """What came of it: the decision with the lock as it is now, the lock file's text before and after, a sentence."""

    decision: dict
    before: str = ""
    after: str = ""
    says: str = ""


def look(host):
    """Return the decision with the lock as it is. Asks nobody."""
    return Move(host.decide(driver_lock.read(host.lock_file)))


def apply(host):
    """Have exact versions for what this host needs: those that are locked, else choose and lock them."""
    decision = host.decide(driver_lock.read(host.lock_file))
    if decision["action"] in NO_LOCK or not decision["packages"]:
        return Move(decision)
    available = None
    chosen = decision["packages"]
    if not installed_as(host.observed, chosen):
        available = host.ask(sorted(chosen))
        try:
            chosen = settled(decision, available, host.observed)
        except nvidia.RefusalError:
            if host.check:
                # A check run refreshes no lists and adds no repository, so a fresh host knows too little.
                return Move(decision, says="the exact version is chosen, and locked, when this is not a check run")
            raise
    version = decision["version"] or inside(chosen)
    platform = decision["platform"]

    def change(platforms):
        nonlocal chosen
        now = driver_lock.current(platforms.get(platform))
        if now and now["version"] != version:
            # Another host of this run was first.
            theirs = {**decision, "version": now["version"], "packages": nameless(chosen)}
            chosen = settled(theirs, available or {}, host.observed)
        return {**platforms, platform: locked(platforms.get(platform), now or {"version": version}, chosen)}

    before, after = driver_lock.update(host.lock_file, change, write=not host.check)
    entry = driver_lock.parse(after, host.lock_file)[platform]
    result = host.decide({platform: entry})
    if set(result["packages"]) == set(chosen):
        result["packages"] = dict(chosen)
    return Move(result, before, after)


def locked(entry, now, chosen):
    """Return the entry at this version, with packages that it lacks added: others' hosts may need more of them."""
    known = (driver_lock.current(entry) or {"packages": {}})["packages"]
    return driver_lock.moved(entry, now["version"], {**chosen, **known})


def upgrade(host, to=""):
    """Move the lock of this host's platform to a version, or to the newest of the branch."""
    pinned = host.wants["version"]
    if to and pinned and to != pinned:
        raise FleetError(
            f"driver.upgrade to {to}",
            f"nvidia_driver_version is {pinned} in the inventory",
            f"set it to {to} there and run this again; or empty it, so that the lock alone says the version",
        )
    free = Host(host.name, host.observed, {**host.wants, "version": to or pinned}, host.lock_file, host.ask, host.check)
    decision = free.decide(None)
    if decision["action"] == "refuse":
        raise refused(decision)
    if decision["action"] == "skip" or not decision["packages"]:
        return Move(decision, says=f"nothing to move: {decision['reasons'][0]}")
    platform = decision["platform"]
    names = nameless(decision["packages"])
    chosen = nvidia.choose_versions({**decision, "packages": names}, free.ask(sorted(names)), to or pinned)
    version = inside(chosen)
    was = driver_lock.current(driver_lock.read(host.lock_file).get(platform))

    def change(platforms):
        return {**platforms, platform: locked_anew(platforms.get(platform), version, chosen)}

    says = f"{platform}: {was['version']} to {version}" if was else f"{platform}: locked at {version}"
    if was and was["version"] == version:
        says = f"{platform}: {version} is " + ("locked already" if to or pinned else "the newest there is")
    return written(host, platform, change, says)


def locked_anew(entry, version, chosen):
    now = driver_lock.current(entry)
    if now and now["version"] == version:
        return locked(entry, now, chosen)
    return driver_lock.moved(entry, version, chosen)


def rollback(host):
    """Move the lock of this host's platform to the version before, if it can still be had."""
    platform = host.decide(driver_lock.read(host.lock_file))["platform"] or host.decide(None)["platform"]
    if not platform:
        decision = host.decide(None)
        return Move(decision, says=f"nothing to move: {decision['reasons'][0]}")
    entry = driver_lock.read(host.lock_file).get(platform)
    back = driver_lock.rolled_back(entry, platform)
    decision = host.decide({platform: back})
    if decision["action"] == "refuse":
        raise refused(decision)
    available = host.ask(sorted(back["packages"]))
    gone = [name for name, version in sorted(back["packages"].items()) if version not in (available.get(name) or [])]
    if gone and not installed_as(host.observed, {name: back["packages"][name] for name in gone}):
        has = ", ".join(available.get(gone[0]) or []) or "no version at all"
        raise FleetError(
            f"driver.rollback of {platform} to {back['version']}",
            f"package {gone[0]} {back['packages'][gone[0]]} is no longer in this host's repositories, which have {has}",
            "add a repository that kept it (a mirror, a snapshot); or go to a version that is there:"
            " ./inv driver.upgrade --to VERSION",
        )
    was = (driver_lock.current(entry) or {}).get("version", "unlocked")

    def change(platforms):
        return {**platforms, platform: driver_lock.rolled_back(platforms.get(platform), platform)}

    return written(host, platform, change, f"{platform}: {was} back to {back['version']}")


def unlock(host):
    """Let the lock of this host's platform go; what it held can be rolled back to."""
    platform = host.decide(driver_lock.read(host.lock_file))["platform"] or host.decide(None)["platform"]
    was = driver_lock.current(driver_lock.read(host.lock_file).get(platform))

    def change(platforms):
        free = driver_lock.unlocked(platforms.get(platform))
        rest = {name: entry for name, entry in platforms.items() if name != platform}
        return {**rest, platform: free} if free else rest

    says = f"{platform}: {was['version']} is no longer locked" if was else f"{platform or 'this host'}: was not locked"
    return written(host, platform, change, says)


def written(host, platform, change, says):
    before, after = driver_lock.update(host.lock_file, change, write=not host.check)
    return Move(host.decide(driver_lock.parse(after, host.lock_file)), before, after, says)


def settled(decision, available, observed):
    """Return {name: exact version}: those that are known must be there, others are chosen to fit."""
    known = {name: version for name, version in decision["packages"].items() if version}
    for name, version in sorted(known.items()):
        if version not in (available.get(name) or []) and not installed_as(observed, {name: version}):
            has = ", ".join(available.get(name) or []) or "no version at all"
            raise nvidia.RefusalError(
                f"{decision['platform']} is locked at {decision['version']}, and package {name} {version} is not in"
                f" this host's repositories, which have {has}",
                "Move the lock to a version that is there (./inv driver.upgrade), or add a repository that kept it",
            )
    unknown = nameless(set(decision["packages"]) - set(known))
    chosen = (
        nvidia.choose_versions({**decision, "packages": unknown}, available, decision["version"]) if unknown else {}
    )
    return {name: known.get(name) or chosen[name] for name in decision["packages"]}


def nameless(names):
    """Return {name: ""}: packages whose version is open."""
    return dict.fromkeys(sorted(names), "")


def inside(chosen):
    """Return the one driver version in packages that were chosen together."""
    return nvidia.upstream(next(iter(chosen.values())))


def installed_as(observed, packages):
    """Whether all these packages are installed in exactly these versions."""
    have = observed["driver"]["packages"]
    return all(
        version and (have.get(name) or {}).get("installed") and have[name]["version"] == version
        for name, version in packages.items()
    )


def refused(decision):
    refusal = decision["refusal"]
    return nvidia.RefusalError(refusal["rule"], refusal["remedy"], refusal["cards"])

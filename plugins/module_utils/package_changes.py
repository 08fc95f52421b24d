# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What may happen in a change of packages and what may not, for any package manager. Nothing here runs a program."""

from __future__ import annotations

from collections import namedtuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import driver_of
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

# One thing that a package manager would do. verb: install or remove; before, after: versions, "" for not there.
Step = namedtuple("Step", "verb name before after")


# What differs between package managers: how versions are ordered, and the commands that a remedy names.
Manager = namedtuple("Manager", "name order simulate unhold remove look")
APT = Manager(
    "apt", package_order.debian, "apt-get --simulate install", "apt-mark unhold", "apt-get purge", "apt-cache policy"
)
DNF = Manager(
    "dnf",
    package_order.rpm,
    "dnf --assumeno install",
    "dnf versionlock delete",
    "dnf remove",
    "dnf list --showduplicates",
)


class Package(namedtuple("Package", "version want status error")):
    """A package on the host; the letters are those of dpkg -l."""

    __slots__ = ()

    @property
    def installed(self):
        """Installed and working."""
        return self.status == "i" and not self.error

    @property
    def there(self):
        """Whether any of its files but settings are on the host."""
        return self.status not in "nc"

    @property
    def broken(self):
        return bool(self.error) or self.status in "HUFWt"

    @property
    def held(self):
        return self.want == "h"


def named(names):
    """Return names in words, the first ones when there are many."""
    names = sorted(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def companions(status, family):
    """Return the driver packages on the host that nobody named and that are of another driver than the wanted one."""
    return sorted(
        name
        for name, package in status.items()
        if package.there and name not in family.packages and family.is_other(name, package.version)
    )


def with_driver(versions, drivers, order):
    """Return the newest of versions that stands for one of the drivers, or ""."""
    fitting = [version for version in versions if driver_of(version) in drivers]
    return package_order.newest_first(fitting, order)[0] if fitting else ""


def afterwards(status, steps):
    """Return {name: version} of what is on the host once the steps are done."""
    found = {name: package.version for name, package in status.items() if package.there}
    for step in steps:
        if step.verb == "install":
            found[step.name] = step.after
        else:
            found.pop(step.name, None)
    return found


def not_installed(family):
    return f"{family.not_installed}, and nothing was changed"


def check_drivers(steps, family):
    """Raise FleetError when the steps would bring another driver than the wanted one."""
    pulled = [step for step in steps if step.verb == "install" and family.is_other(step.name, step.after)]
    if pulled:
        raise FleetError(
            not_installed(family),
            f"a dependency of {named(family.packages)} would bring {pulled[0].name} {pulled[0].after}, another driver",
            "pin the driver's packages to its version, as the role nvidia_driver does, and ask for packages that depend"
            " on exactly that one",
        )


def check_install(steps, status, family, manager):
    """Raise FleetError when the steps would do more than have the wanted driver."""
    check_drivers(steps, family)
    what, wanted = not_installed(family), family.packages
    removed = [step.name for step in steps if step.verb != "install" and not family.has(step.name)]
    if removed:
        raise FleetError(
            what,
            f"{manager.name} would remove {named(removed)}, which nobody asked for",
            f"find out what conflicts, and remove or upgrade it by hand: {manager.simulate} {' '.join(wanted)}",
        )
    for step in steps:
        known = status.get(step.name)
        if family.has(step.name) or known is None or not known.there:
            continue
        if known.held:
            raise FleetError(
                what,
                f"it needs {step.name} {step.after}, and {known.version} is held",
                f"release it if that is right: {manager.unhold} {step.name}",
            )
        if manager.order(step.after, known.version) < 0:
            raise FleetError(
                what,
                f"{manager.name} would downgrade {step.name} from {known.version} to {step.after}",
                f"find out which package source brings {step.after}: {manager.look} {step.name}",
            )
    after = afterwards(status, steps)
    for name, version in sorted(wanted.items()):
        if after.get(name) != version:
            raise FleetError(
                what,
                f"{manager.name} would leave {name} at {after.get(name) or 'not installed'} and not {version}",
                f"look at {manager.look} {name}",
            )
    left = sorted(name for name, version in after.items() if family.is_other(name, version))
    if left:
        raise FleetError(
            what,
            f"{left[0]} would stay at {after[left[0]]}, which is another driver",
            f"remove it if nobody needs it: {manager.remove} {left[0]}",
        )


def check_removal(steps, names, manager):
    """Raise FleetError when removing the names would take anything else along, or bring something in."""
    others = [step.name for step in steps if step.verb == "install" or step.name not in names]
    if others:
        raise FleetError(
            f"{named(set(names) - set(others))} cannot be removed, and nothing was changed",
            f"{named(others)} {'need' if len(others) > 1 else 'needs'} what would be removed",
            f"remove what nobody needs first: {manager.remove} {' '.join(sorted(others))}",
        )


def to_hold(status, family):
    """Return the names that are to be held: the wanted ones and every part of the driver on the host."""
    return sorted(
        name
        for name, package in status.items()
        if package.there and (name in family.packages or family.is_driver(name, package.version))
    )


def difference(before, after):
    """Return (added, changed) between two {name: Package}: names, and {name: [from, to]} of the others."""
    had = {name: package.version for name, package in before.items() if package.there}
    has = {name: package.version for name, package in after.items() if package.there}
    changed = {name: [had[name], has.get(name, "")] for name in sorted(had) if had[name] != has.get(name)}
    return sorted(set(has) - set(had)), changed


def missing(status, names):
    return [name for name in names if name not in status or not status[name].installed]


def wrong(status, family):
    """Return the wanted packages that are not there, not whole, or of another version."""
    lacking = set(missing(status, family.packages))
    return [name for name, version in family.packages.items() if name in lacking or status[name].version != version]


def foretold(before, steps):
    """Return the status once the steps are done."""
    return {
        name: before.get(name, Package("", "i", "i", ""))._replace(version=version, status="i")
        for name, version in afterwards(before, steps).items()
    }


def holding(status, names):
    """Return the status with these held."""
    return {name: package._replace(want="h") if name in names else package for name, package in status.items()}


def as_text(status, names):
    """Return one line per package that is there, for a diff."""
    return "".join(f"{name} {status[name].version}\n" for name in names if name in status and status[name].there)


def report(before, after, repaired):
    """Return the module's result: what differs between two {name: Package}."""
    added, changed = difference(before, after)
    names = sorted({*added, *changed})
    holds = [sorted(name for name, package in status.items() if package.held) for status in (before, after)]
    return {
        "changed": bool(names or repaired or holds[0] != holds[1]),
        "added": added,
        "changed_packages": changed,
        "holds": holds[1],
        "repaired": repaired,
        "diff": {"before": as_text(before, names), "after": as_text(after, names)},
    }

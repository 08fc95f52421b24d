# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What apt and dpkg say, and what follows from it. Nothing here runs a program."""

from __future__ import annotations

import itertools
import re
from collections import namedtuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import ANY_DRIVER, driver_of
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

STEP = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]\s]+)\])?(?: \((\S+)[^)]*\))?")
STATUS_FORMAT = r"${binary:Package}\t${Version}\t${db:Status-Abbrev}\n"
UNMET = "The following packages have unmet dependencies:"
LOCKED = re.compile(r"Could not get lock|is locked by another process|frontend lock was locked")

# One thing that apt would do. verb: Inst, Remv or Purg; before, after: versions, "" for not there.
Step = namedtuple("Step", "verb name before after")


class Package(namedtuple("Package", "version want status error")):
    """A package as dpkg knows it; the letters are those of dpkg -l."""

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


def read_status(text, architecture):
    """Return {name: Package} of dpkg-query -W -f STATUS_FORMAT. Names of another architecture carry it."""
    found = {}
    for line in text.splitlines():
        name, version, abbreviation = [*line.split("\t"), "", ""][:3]
        want, status, error = (abbreviation + "   ")[:3]
        if name.endswith(f":{architecture}"):
            name = name[: -len(architecture) - 1]
        if status != "n":
            found[name] = Package(version, want, status, error.strip())
    return found


def read_steps(text):
    """Return the Steps of apt-get --simulate."""
    found = []
    for line in text.splitlines():
        match = STEP.match(line)
        if match:
            verb, name, before, after = match.groups()
            found.append(Step(verb, name, before or "", (after or "") if verb == "Inst" else ""))
    return found


def read_madison(text):
    """Return {name: [versions]} of apt-cache madison, in its order."""
    found = {}
    for line in text.splitlines():
        name, _bar, rest = line.partition("|")
        version, bar, _source = rest.partition("|")
        if bar and not _source.strip().endswith("Sources"):
            found.setdefault(name.strip(), []).append(version.strip())
    return found


def first_error(output, errors=""):
    """Return in one line why apt or dpkg failed: what is unmet where it says that, else its first error."""
    lines = (output + "\n" + errors).splitlines()
    if UNMET in lines:
        unmet = lines[lines.index(UNMET) + 1 :]
        sentences = [" ".join(line.split()) for line in unmet if line.startswith(" ")]
        if sentences:
            return "; ".join(sentences[:2])
    said = [line for line in lines if line.startswith(("E: ", "dpkg: error"))]
    useful = [line for line in said if "Sub-process" not in line and "held broken packages" not in line] or said
    if useful:
        at = lines.index(useful[0])
        # dpkg says the cause in the next line, apt's newer solver what contradicts itself in the next ones.
        more = [line.strip() for line in itertools.takewhile(lambda line: line.startswith(" "), lines[at + 1 :])][:5]
        words = useful[0][3:] if useful[0].startswith("E: ") else useful[0]
        return " ".join([words, *more])
    return next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")


def named(names):
    """Return names in words, the first ones when there are many."""
    names = sorted(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def preferences(family, existing):
    """Return apt preferences under which a dependency on the driver means the wanted one, wherever it can.

    existing: the host's own /etc/apt/preferences, whose place this takes
    """
    records = [(name, version, 1002) for name, version in sorted(family.packages.items())]
    if family.patterns:
        parts = "/^(" + "|".join(pattern.pattern for pattern in family.patterns) + ")$/"
        records += [(parts, version, 1002) for version in sorted(set(family.packages.values()))]
        records += [
            (parts, form.format(driver), 1001) for driver in sorted(family.drivers) for form in ("{}-*", "*:{}-*")
        ]
    pinned = [
        f"Package: {name}\nPin: version {version}\nPin-Priority: {priority}\n" for name, version, priority in records
    ]
    # Tools that fit any driver are free, also where the host's preferences block other drivers' versions.
    free = f"Package: {' '.join(ANY_DRIVER)}\nPin: version *\nPin-Priority: 500\n"
    return "\n".join([*pinned, free, existing])


def companions(status, family):
    """Return the driver packages on the host that nobody named and that are of another driver than the wanted one."""
    return sorted(
        name
        for name, package in status.items()
        if package.there and name not in family.packages and family.is_other(name, package.version)
    )


def with_driver(versions, drivers):
    """Return the newest of versions that stands for one of the drivers, or ""."""
    fitting = [version for version in versions if driver_of(version) in drivers]
    return package_order.newest_first(fitting, package_order.debian)[0] if fitting else ""


def afterwards(status, steps):
    """Return {name: version} of what is on the host once the steps are done."""
    found = {name: package.version for name, package in status.items() if package.there}
    for step in steps:
        if step.verb == "Inst":
            found[step.name] = step.after
        else:
            found.pop(step.name, None)
    return found


def not_installed(family):
    return f"driver {'/'.join(sorted(family.drivers))} is not installed, and nothing was changed"


def check_drivers(steps, family):
    """Raise FleetError when the steps would bring another driver than the wanted one."""
    pulled = [step for step in steps if step.verb == "Inst" and family.is_other(step.name, step.after)]
    if pulled:
        raise FleetError(
            not_installed(family),
            f"a dependency of {named(family.packages)} would bring {pulled[0].name} {pulled[0].after}, another driver",
            "pin the driver's packages to its version, as the role nvidia_driver does, and ask for packages that depend"
            " on exactly that one",
        )


def check_install(steps, status, family):
    """Raise FleetError when the steps would do more than have the wanted driver."""
    check_drivers(steps, family)
    what, wanted = not_installed(family), family.packages
    removed = [step.name for step in steps if step.verb != "Inst" and not family.has(step.name)]
    if removed:
        raise FleetError(
            what,
            f"apt would remove {named(removed)}, which is no part of the driver",
            f"find out what conflicts, and remove or upgrade it by hand: apt-get --simulate install {' '.join(wanted)}",
        )
    for step in steps:
        known = status.get(step.name)
        if family.has(step.name) or known is None or not known.there:
            continue
        if known.held:
            raise FleetError(
                what,
                f"it needs {step.name} {step.after}, and {known.version} is held",
                f"release it if that is right: apt-mark unhold {step.name}",
            )
        if package_order.debian(step.after, known.version) < 0:
            raise FleetError(
                what,
                f"apt would downgrade {step.name} from {known.version} to {step.after}",
                f"find out which package source brings {step.after}: apt-cache policy {step.name}",
            )
    after = afterwards(status, steps)
    for name, version in sorted(wanted.items()):
        if after.get(name) != version:
            raise FleetError(
                what,
                f"apt would leave {name} at {after.get(name) or 'not installed'} and not {version}",
                "look at apt-cache policy " + name,
            )
    left = sorted(name for name, version in after.items() if family.is_other(name, version))
    if left:
        raise FleetError(
            what,
            f"{left[0]} would stay at {after[left[0]]}, which is another driver",
            f"remove it if nobody needs it: apt-get purge {left[0]}",
        )


def check_removal(steps, names):
    """Raise FleetError when removing the names would take anything else along, or bring something in."""
    others = [step.name for step in steps if step.verb == "Inst" or step.name not in names]
    if others:
        raise FleetError(
            f"{named(set(names) - set(others))} cannot be removed, and nothing was changed",
            f"{named(others)} {'need' if len(others) > 1 else 'needs'} what would be removed",
            f"remove what nobody needs first: apt-get purge {' '.join(sorted(others))}",
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


def as_text(versions, names):
    """Return one line per package, for a diff. versions: {name: version}"""
    return "".join(f"{name} {versions[name]}\n" for name in sorted(names) if name in versions)


EXPIRED = re.compile(r"EXPKEYSIG|[Ee]xpired on|key is not live")
ADDRESS = re.compile(r"[a-z+]+://[^\s']+|[a-z]+:/[^\s']+")


def source_problem(output):
    """Return in one line what package source apt-get update could not read and why, "" when it read all of them."""
    said = [" ".join(line[3:].split()) for line in output.splitlines() if line.startswith(("W: ", "E: "))]
    for line in said:
        where = ADDRESS.search(line)
        if EXPIRED.search(line) and where:
            return f"the key that signs {where.group().rstrip(':')} has expired"
    signed = [line for line in said if re.search("GPG error|signature|not signed", line)]
    return next(iter(signed or said), "")

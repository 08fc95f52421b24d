# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What apt and dpkg say, and what they are told. Nothing here runs a program."""

from __future__ import annotations

import itertools
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import ANY_DRIVER
from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_changes import Package, Step

STEP = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]\s]+)\])?(?: \((\S+)[^)]*\))?")
STATUS_FORMAT = r"${binary:Package}\t${Version}\t${db:Status-Abbrev}\n"
UNMET = "The following packages have unmet dependencies:"
LOCKED = re.compile(r"Could not get lock|is locked by another process|frontend lock was locked")


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
            installs = verb == "Inst"
            found.append(Step("install" if installs else "remove", name, before or "", (after or "") * installs))
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
    return "\n".join([*pinned, free, existing, ""])


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

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What dnf and rpm say, and what they are told. Nothing here runs a program."""

from __future__ import annotations

import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_changes import Package, Step

STATUS_FORMAT = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n"
BRINGS = ("Installing", "Upgrading", "Downgrading", "Reinstalling")
UNITS = ("k", "M", "G", "T")
REPLACING = re.compile(r"^ +replacing +(\S+)\.[^.\s]+ (\S+)$")
SCRIPT = re.compile(r"^warning: %\w+\((\S+)\) scriptlet failed, (.+)$", re.MULTILINE)
# Lines that are no reason: what dnf says on every run.
CHATTER = re.compile(r"^(Last metadata|Unable to detect release|Failed loading plugin|\(try to add|Error: *$)")


def normal(version):
    """Return a version without an epoch of zero."""
    return version[2:] if version.startswith("0:") else version


def read_status(text, locks):
    """Return {name: Package} of rpm -qa. locks: {name: version} that are locked."""
    found = {}
    for line in text.splitlines():
        name, _tab, version = line.partition("\t")
        # Keys for signatures are kept as packages.
        if version and name != "gpg-pubkey":
            found[name] = Package(normal(version), "h" if name in locks else "i", "i", "")
    return found


def read_locks(text, names):
    """Return {name: lock} of dnf versionlock list, for these names. A lock is NAME-[EPOCH:]VERSION-RELEASE.*"""
    found = {}
    for line in text.splitlines():
        match = re.match(r"^!?([^\s#]+)-(?:\d+:)?[^-\s]+-[^-\s]+$", line.strip())
        if match and match.group(1) in names:
            found[match.group(1)] = line.strip()
    return found


def lock_of(name, version):
    """Return the lock that holds a package at a version."""
    epoch, colon, rest = version.rpartition(":")
    return f"{name}-{epoch if colon else '0'}:{rest}.*"


def nevra(name, version):
    return f"{name}-{version}"


def read_steps(text, status):
    """Return the Steps of the table that dnf shows before it asks."""
    found, verb, words = [], "", []

    def take():
        # NAME ARCH VERSION REPOSITORY SIZE [UNIT], broken over lines where the name is long
        while len(words) >= 5:
            name, _arch, version = words[:3]
            del words[:5]
            if words and words[0] in UNITS:
                del words[0]
            had = status[name].version if name in status else ""
            removes = verb == "remove"
            found.append(Step(verb, name, had, "" if removes else normal(version)))

    for line in text.splitlines():
        if line.startswith("Transaction Summary"):
            break
        replaced = REPLACING.match(line)
        if replaced:
            found.append(Step("remove", replaced.group(1), normal(replaced.group(2)), ""))
        elif line.endswith(":") and not line.startswith(" "):
            words = []
            head = line.split()[0].rstrip(":")
            verb = "install" if head in BRINGS else "remove" if head == "Removing" else ""
        elif line.startswith(" ") and verb:
            words += line.split()
            take()
    return found


def first_error(output, errors=""):
    """Return in one line why dnf failed."""
    lines = [line.strip() for line in (errors + "\n" + output).splitlines()]
    useful = [line for line in lines if line and not CHATTER.match(line)]
    for start in ("Problem", "- ", "No match for argument", "Error:", "Curl error", "[Errno"):
        said = [line for line in useful if line.startswith(start) and "conflicting requests" not in line]
        if said:
            return said[0].replace("Error: ", "", 1)
    return useful[0] if useful else "it gave no reason"


def script_failure(output):
    """Return in one line which package's script failed, "" for none. dnf calls such a change complete."""
    found = SCRIPT.search(output)
    return f"a script of {found.group(1)} failed ({found.group(2)})" if found else ""


def newest_transaction(text):
    """Return the number of the newest transaction of dnf history list, 0 when there is none."""
    numbers = [int(line.split("|")[0]) for line in text.splitlines() if line.split("|")[0].strip().isdigit()]
    return max(numbers, default=0)

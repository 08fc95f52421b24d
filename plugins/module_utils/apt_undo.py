# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The way back: what a change of packages will touch is written down before it, with the packages that are there now.

The journal is on disk until the change has succeeded, so a change that was cut (power, connection) can be undone by the
next run, without any network.
"""

from __future__ import annotations

import json
import os
import shutil

from ansible_collections.ollama_fleet.stack.plugins.module_utils import apt_transaction as text
from ansible_collections.ollama_fleet.stack.plugins.module_utils import deb_repack
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_changes as changes
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

JOURNAL = "journal.json"
# What packages make and leave behind when they are purged: a key that DKMS made for a module that was not built.
LEFTOVERS = ("/var/lib/dkms",)


def way_back(before, now):
    """Return (purge, remove, install): the names to treat so that the host is as before.

    before, now: {name: Package} of the packages that the change touches. Remove leaves settings behind, as they were.
    """
    purge = sorted(name for name in now if name not in before)
    remove = sorted(name for name in now if name in before and not before[name].there and now[name].there)
    install = sorted(
        name
        for name, package in before.items()
        if package.there and (name not in now or now[name].version != package.version or not now[name].installed)
    )
    return purge, remove, install


class Journal:
    """Undoes one change of packages. folder: where it is kept; it is there only while a change is under way."""

    def __init__(self, apt, folder):
        self.apt = apt
        self.folder = folder

    def exists(self):
        return os.path.exists(f"{self.folder}/{JOURNAL}")

    def open(self, steps, status, automatic):
        """Write down what the steps will touch, and keep the packages that they replace or remove."""
        self.close()
        os.makedirs(f"{self.folder}/debs", mode=0o700)
        names = sorted({step.name for step in steps})
        before = {name: status[name] for name in names if name in status}
        debs = {name: self.keep(name, package.version) for name, package in before.items() if package.there}
        record = {
            "names": names,
            "before": {name: list(package) for name, package in before.items()},
            "automatic": sorted(name for name in before if name in automatic),
            "debs": debs,
            "absent": [path for path in LEFTOVERS if not os.path.exists(path)],
        }
        temporary = f"{self.folder}/{JOURNAL}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, f"{self.folder}/{JOURNAL}")

    def keep(self, name, version):
        """Have the .deb of an installed package in the journal: the downloaded one, else one made of its files."""
        archive = self.apt.archive(name, version)
        if os.path.exists(archive):
            kept = f"{self.folder}/debs/{os.path.basename(archive)}"
            try:
                os.link(archive, kept)
            except OSError:
                shutil.copyfile(archive, kept)
            return kept
        made = deb_repack.repack(name, self.apt.run, f"{self.folder}/debs")
        if not made:
            self.close()
            raise FleetError(
                f"{name} is not changed, and nothing else was",
                f"its installed version {version} could not be kept for the way back",
                "check the free space in /var/lib, and dpkg --verify " + name,
            )
        return made

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        parent = os.path.dirname(self.folder)
        if os.path.isdir(parent) and not os.listdir(parent):
            os.rmdir(parent)

    def undo(self):
        """Bring the host back to what the journal says. The journal stays when that fails."""
        with open(f"{self.folder}/{JOURNAL}", encoding="utf-8") as file:
            record = json.load(file)
        before = {name: changes.Package(*fields) for name, fields in record["before"].items()}
        said = [
            *self.packages_back(before, record),
            *self.marks_back(before, record),
        ]
        for path in record["absent"]:
            shutil.rmtree(path, ignore_errors=True)
        left = [name for part in way_back(before, self.now(record)) for name in part]
        problem = f"{changes.named(left)} could not be brought back" if left else self.apt.problem()
        if problem:
            raise FleetError(
                "the host's packages could not be brought back to what they were",
                f"{problem}; {said[0]}" if said else problem,
                f"look at dpkg --audit; the packages that were there are in {self.folder}/debs. Then run this again",
            )
        self.close()

    def now(self, record):
        return {name: package for name, package in self.apt.status().items() if name in record["names"]}

    def packages_back(self, before, record):
        """Return what dpkg complained about."""
        purge, remove, install = way_back(before, self.now(record))
        force = ["--force-depends", "--force-remove-reinstreq", "--force-downgrade"]
        calls = [
            ["--purge", *purge] if purge else [],
            ["--remove", *remove] if remove else [],
            ["--install", *(record["debs"][name] for name in install)] if install else [],
            ["--configure", "--pending"],
        ]
        said = []
        for call in filter(None, calls):
            code, out, err = self.apt.dpkg(*force, *call)
            if code:
                said.append(text.first_error(out, err))
        return said

    def marks_back(self, before, record):
        there = {name for name, package in before.items() if package.there}
        automatic = there & set(record["automatic"])
        held = {name for name in there if before[name].held}
        try:
            for verb, names in (
                ("auto", automatic),
                ("manual", there - automatic),
                ("hold", held),
                ("unhold", there - held),
            ):
                self.apt.mark(verb, names)
        except FleetError as error:
            return [error.why]
        return []

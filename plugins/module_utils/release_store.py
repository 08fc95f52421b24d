# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The folder of the releases on a host: each unpacked beside the others, and two links that say which is which.

``current`` is the one that runs, ``previous`` the one before it. Each release has a note of what it was unpacked from
and of its files; a folder without one is nobody's, and is left alone.
"""

from __future__ import annotations

import json
import os
import shutil

from ansible_collections.ollama_fleet.stack.plugins.module_utils import release_archive

NOTE = ".ollama-fleet.json"
CURRENT, PREVIOUS = "current", "previous"
UNPACKING = ".unpacking"
# Digits of the checksum that tell apart two archives of one version.
SHORT = 8


class Releases:
    """The releases below a folder, which need not be there yet."""

    def __init__(self, root):
        self.root = root

    def path(self, name):
        return os.path.join(self.root, name)

    def note(self, name):
        """Return {version, checksum, files} of a release, or None where there is none."""
        try:
            with open(os.path.join(self.root, name, NOTE), encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def name_for(self, version, checksum):
        """Return the folder's name for a release: its version; with some digits where that is another archive's."""
        note = self.note(version)
        if not os.path.lexists(self.path(version)) or (note and note["checksum"] == checksum):
            return version
        return f"{version}-{checksum.partition(':')[2][:SHORT]}"

    def whole(self, name, checksum):
        """Whether a release is there as it was unpacked: all files by size and kind, its programs by content."""
        note = self.note(name)
        if not note or note["checksum"] != checksum:
            return False
        return all(
            self._as_noted(os.path.join(self.root, name, path), path, was) for path, was in note["files"].items()
        )

    @staticmethod
    def _as_noted(path, name, was):
        try:
            if "link" in was:
                return os.readlink(path) == was["link"]
            if os.path.islink(path) or os.stat(path).st_size != was["size"]:
                return False
            # All of it is gigabytes; what is started by name is not.
            return not name.startswith("bin/") or release_archive.checksum(path) == f"sha256:{was['sha256']}"
        except OSError:
            return False

    def add(self, name, version, archive, checksum, zstd):
        """Unpack an archive and give it its name when it is whole, in the place of what was there by that name."""
        unpacking = self.path(UNPACKING)
        shutil.rmtree(unpacking, ignore_errors=True)
        try:
            files = release_archive.unpack(archive, unpacking, zstd)
            with open(os.path.join(unpacking, NOTE), "w", encoding="utf-8") as file:
                json.dump({"version": version, "checksum": checksum, "files": files}, file, indent=1, sort_keys=True)
            shutil.rmtree(self.path(name), ignore_errors=True)
            os.rename(unpacking, self.path(name))
        finally:
            shutil.rmtree(unpacking, ignore_errors=True)

    def links(self):
        """Return {current, previous}: the name of the release that each leads to, None where there is no link."""
        found = {}
        for link in (CURRENT, PREVIOUS):
            try:
                found[link] = os.readlink(self.path(link))
            except OSError:
                found[link] = None
        return found

    def point(self, links):
        """Have the links lead there, each from one moment to the next; None takes a link away."""
        for link, name in links.items():
            if name is None:
                if os.path.islink(self.path(link)):
                    os.unlink(self.path(link))
                continue
            fresh = self.path(f".{link}")
            if os.path.lexists(fresh):
                os.unlink(fresh)
            os.symlink(name, fresh)
            os.replace(fresh, self.path(link))

    def after(self, name):
        """Return the links as they are to be once a release runs."""
        links = self.links()
        old = links[CURRENT]
        # A link that a person led to nothing is no way back.
        return {CURRENT: name, PREVIOUS: old if old not in (None, name) and self.note(old) else links[PREVIOUS]}

    def surplus(self):
        """Return the releases that neither link leads to, sorted."""
        kept = set(self.links().values())
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(
            name for name in names if name not in kept and not os.path.islink(self.path(name)) and self.note(name)
        )

    def prune(self):
        """Remove the releases that neither link leads to; return their names."""
        names = self.surplus()
        for name in names:
            shutil.rmtree(self.path(name))
        return names

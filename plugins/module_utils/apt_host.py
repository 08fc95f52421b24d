# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""apt and dpkg of the host: each method runs one program, without questions and in English."""

from __future__ import annotations

import os
import time

from ansible_collections.ollama_fleet.stack.plugins.module_utils import apt_transaction as text
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

ENVIRONMENT = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
# Settings of the operator survive an upgrade; a new file's own are taken.
SETTINGS = ["--force-confdef", "--force-confold"]
ARCHIVES = "/var/cache/apt/archives"


class Apt:
    name = "apt"

    def __init__(self, run_command, lock_timeout):
        self.run_command = run_command
        self.lock_timeout = lock_timeout
        self.preferences = ""  # file that takes the place of /etc/apt/preferences
        self.architecture = self.run(["dpkg", "--print-architecture"])[1].strip()

    def run(self, command):
        """Return (exit code, output, errors)."""
        return self.run_command(command, environ_update=ENVIRONMENT, errors="replace")

    def apt_get(self, *arguments):
        options = ["-q", "-y", "-o", f"DPkg::Lock::Timeout={self.lock_timeout}", "-o", "Acquire::Retries=2"]
        options += [part for setting in SETTINGS for part in ("-o", f"Dpkg::Options::={setting}")]
        if self.preferences:
            options += ["-o", f"Dir::Etc::Preferences={self.preferences}"]
        return self.run(["apt-get", *options, *arguments])

    def dpkg(self, *arguments):
        """Run dpkg, which does not wait for its lock by itself."""
        deadline = time.monotonic() + self.lock_timeout
        while True:
            code, out, err = self.run(["dpkg", *SETTINGS, *arguments])
            if not (code and text.LOCKED.search(err)) or time.monotonic() > deadline:
                return code, out, err
            time.sleep(2)

    def refresh(self):
        """Refresh the package lists. Return in one line what did not work, "" when all did."""
        _code, out, err = self.apt_get("update")
        return text.source_problem(out + err)

    def versions(self, names):
        """Return {name: [versions, newest first]} of all package sources, whatever is pinned."""
        if not names:
            return {}
        _code, out, _err = self.run(["apt-cache", "madison", *names])
        found = text.read_madison(out)
        return {name: package_order.newest_first(found.get(name, []), package_order.debian) for name in names}

    def status(self):
        code, out, err = self.run(["dpkg-query", "--show", "--showformat", text.STATUS_FORMAT])
        if code:
            raise FleetError(
                "the host's packages cannot be listed", text.first_error(out, err), "run dpkg --audit there"
            )
        return text.read_status(out, self.architecture)

    def automatic(self):
        """Return the names that apt may remove when nobody needs them."""
        return set(self.run(["apt-mark", "showauto"])[1].split())

    def mark(self, verb, names):
        """Run apt-mark auto, manual, hold or unhold."""
        if names:
            code, out, err = self.run(["apt-mark", verb, *sorted(names)])
            if code:
                raise FleetError(
                    f"packages cannot be marked ({verb})", text.first_error(out, err), f"run apt-mark {verb} by hand"
                )

    def problem(self):
        """Return what is wrong with the host's packages, "" when dpkg and apt have no complaint."""
        _code, audit, _err = self.run(["dpkg", "--audit"])
        if audit.strip():
            return " ".join(audit.split())[:300]
        code, out, err = self.apt_get("check")
        return text.first_error(out, err) if code else ""

    def archive(self, name, version):
        """Return the path that a downloaded package has, whether it is there or not."""
        base, _colon, architecture = name.partition(":")
        escaped = version.replace(":", "%3a")
        places = [f"{ARCHIVES}/{base}_{escaped}_{part}.deb" for part in (architecture or self.architecture, "all")]
        return next((place for place in places if os.path.exists(place)), places[0])

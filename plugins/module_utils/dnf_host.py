# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""dnf and rpm of the host: each method runs one program, without questions and in English."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils import dnf_transaction as text
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "C", "COLUMNS": "200"}
# What is locked is ours to move here; locks of others are checked before anything changes.
OPTIONS = (
    "--disableplugin=versionlock",
    "--setopt=install_weak_deps=False",
    "--setopt=best=True",
    "--setopt=keepcache=True",
    "--setopt=clean_requirements_on_remove=False",
)


class Dnf:
    name = "dnf"

    def __init__(self, run_command, lock_timeout):
        self.run_command = run_command
        # dnf waits for its lock by itself, for as long as it takes; its downloads get this long.
        self.timeout = [f"--setopt=timeout={min(lock_timeout, 60)}"]

    def run(self, command):
        """Return (exit code, output, errors)."""
        return self.run_command(command, environ_update=ENVIRONMENT, errors="replace")

    def dnf(self, *arguments):
        return self.run(["dnf", *OPTIONS, *self.timeout, *arguments])

    def refresh(self):
        """Refresh the metadata. Return in one line what did not work, "" when all did."""
        code, out, err = self.run(["dnf", "-q", "makecache", "--refresh"])
        return text.first_error(out, err) if code else ""

    def versions(self, names):
        """Return {name: [versions, newest first]} of all enabled repositories, whatever is locked."""
        found = {name: [] for name in names}
        form = "%{name} %{evr}\\n"
        _code, out, _err = self.dnf("-q", "repoquery", "--show-duplicates", f"--queryformat={form}", *names)
        for line in out.splitlines():
            name, _space, version = line.strip().partition(" ")
            if name in found and version:
                found[name].append(text.normal(version))
        return {name: package_order.newest_first(versions, package_order.rpm) for name, versions in found.items()}

    def status(self):
        code, out, err = self.run(["rpm", "-qa", "--queryformat", text.STATUS_FORMAT])
        if code:
            raise FleetError("the host's packages cannot be listed", text.first_error(out, err), "run rpm --rebuilddb")
        return text.read_status(out, self.locks([line.partition("\t")[0] for line in out.splitlines()]))

    def locks(self, names):
        """Return {name: lock}; none where dnf has no versionlock."""
        code, out, _err = self.run(["dnf", "-q", "versionlock", "list"])
        return {} if code else text.read_locks(out, set(names))

    def lock(self, names, status):
        """Lock packages at the versions that they have."""
        for verb, what in (
            ("delete", list(self.locks(names).values())),
            ("add", [text.lock_of(name, status[name].version) for name in names]),
        ):
            code, out, err = self.run(["dnf", "-q", "versionlock", verb, *what]) if what else (0, "", "")
            if code:
                raise FleetError(
                    f"packages cannot be locked ({verb})",
                    text.first_error(out, err),
                    "install python3-dnf-plugin-versionlock, and run this again",
                )

    def unlock(self, names):
        locks = self.locks(names)
        if locks:
            self.run(["dnf", "-q", "versionlock", "delete", *locks.values()])

    def problem(self):
        """Return what is wrong with the host's packages, "" when rpm has no complaint."""
        code, out, err = self.run(["dnf", "-q", "check", "--dependencies", "--duplicates"])
        return text.first_error(out, err) if code else ""

    def newest_transaction(self):
        return text.newest_transaction(self.run(["dnf", "-q", "history", "list"])[1])

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""One change of packages with apt: all of it, or the host as before."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils import apt_transaction as text
from ansible_collections.ollama_fleet.stack.plugins.module_utils import build_failure
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_changes as changes
from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_undo import Journal
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read

ALLOWED = ["--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages"]


class AptChange:
    """The steps of one change. Every method that changes something leaves the host whole or as it was."""

    def __init__(self, apt, journal_folder, check_mode, warn, tmpdir):
        self.apt = apt
        self.tmpdir = tmpdir
        self.journal = Journal(apt, journal_folder)
        self.check_mode = check_mode
        self.warn = warn
        self.source_problem = ""
        self.repaired = []

    def install(self, family, extra, hold, update, build_remedy):
        """Have exactly family.packages and any version of extra. Return the result of the module."""
        before = self.start()
        if update and not self.check_mode:
            self.source_problem = self.apt.refresh()
        others = changes.companions(before, family)
        missing = changes.missing(before, extra)
        wrong = changes.wrong(before, family)
        if not (wrong or missing or others):
            return changes.report(before, self.held(before, family, hold), self.repaired)
        self.pin(family)
        arguments = ["install", *self.wishes(family, missing, others)]
        steps = self.simulate(arguments, before, family)
        changes.check_install(steps, before, family, changes.APT)
        if self.check_mode:
            after = changes.foretold(before, steps)
            return changes.report(before, self.held(after, family, hold), self.repaired)
        if self.source_problem:
            self.warn(self.source_problem)
        what = family.not_installed
        self.change(arguments, steps, before, what, build_remedy)
        automatic = {name for name in others if name in self.was_automatic}
        after = self.apt.status()
        self.apt.mark("auto", automatic & set(after))
        return changes.report(before, self.held(after, family, hold), self.repaired)

    def pin(self, family):
        """Have apt prefer the wanted driver during this change, whatever the host's preferences say by now."""
        path = f"{self.tmpdir}/preferences"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.preferences(family, read("/etc/apt/preferences") or ""))
        self.apt.preferences = path

    def remove(self, names):
        """Purge exactly the names. Return the result of the module."""
        before = self.start()
        there = sorted(name for name in names if name in before)
        if not there:
            return changes.report(before, before, self.repaired)
        arguments = ["--purge", "remove", *there]
        code, out, err = self.apt.apt_get("--simulate", *ALLOWED, *arguments)
        what = f"{changes.named(there)} cannot be removed, and nothing was changed"
        if code:
            raise FleetError(what, text.first_error(out, err), "run apt-get --fix-broken install, then this again")
        steps = text.read_steps(out)
        changes.check_removal(steps, there, changes.APT)
        if self.check_mode:
            return changes.report(before, changes.foretold(before, steps), self.repaired)
        self.change(arguments, steps, before, f"{changes.named(there)} cannot be removed", "")
        return changes.report(before, self.apt.status(), self.repaired)

    def start(self):
        """Return the status of the packages, after an earlier change that was cut has been undone or finished."""
        status = self.apt.status()
        broken = sorted(name for name, package in status.items() if package.broken)
        if self.check_mode or not (broken or self.journal.exists()):
            return status
        if self.journal.exists():
            self.journal.undo()
        else:
            self.apt.dpkg("--configure", "--pending")
        status = self.apt.status()
        self.repaired = [name for name in broken if name not in status or not status[name].broken]
        return status

    def wishes(self, family, extra, others):
        """Return what apt is asked for: the exact versions, and the driver's other parts brought along or sent away."""
        available = self.apt.versions(others)
        along = {name: changes.with_driver(available[name], family.drivers, changes.APT.order) for name in others}
        return [
            *(f"{name}={version}" for name, version in sorted(family.packages.items())),
            *extra,
            *(f"{name}={version}" if version else f"{name}-" for name, version in sorted(along.items())),
        ]

    def simulate(self, arguments, before, family):
        code, out, err = self.apt.apt_get("--simulate", *ALLOWED, *arguments)
        if not code:
            return text.read_steps(out)
        self.check_without_pins(arguments, before, family)
        broken = sorted(name for name, package in before.items() if package.broken)
        what = changes.not_installed(family)
        why = text.first_error(out, err)
        if broken:
            remedy = f"bring {changes.named(broken)} in order: dpkg --configure -a; apt-get --fix-broken install"
            raise FleetError(what, f"{changes.named(broken)} were left half installed earlier, and {why}", remedy)
        if self.source_problem:
            raise FleetError(
                what,
                f"{why}, and {self.source_problem}",
                "put that package source in order, or its key, and run this again",
            )
        raise FleetError(
            what,
            why,
            "check that the versions are still in the package sources: apt-cache madison " + " ".join(family.packages),
        )

    def check_without_pins(self, arguments, before, family):
        """Raise FleetError when it is another driver, which a dependency asks for, that makes the change impossible."""
        self.apt.preferences = ""
        code, out, _err = self.apt.apt_get("--simulate", *ALLOWED, *arguments)
        if not code:
            changes.check_drivers(text.read_steps(out), family)

    def change(self, arguments, steps, before, what, build_remedy):
        """Download everything, then change; what fails is undone."""
        code, out, err = self.apt.apt_get("--download-only", *ALLOWED, *arguments)
        if code:
            raise FleetError(
                f"{what}, and nothing was changed",
                f"not everything could be downloaded: {text.first_error(out, err)}",
                "check that the package sources answer from this host, and run this again",
            )
        self.was_automatic = self.apt.automatic()
        self.journal.open(steps, before, self.was_automatic)
        # With --no-download apt cannot install from a source on the host's own disk (file:).
        code, out, err = self.apt.apt_get(*ALLOWED, *arguments)
        problem = text.first_error(out, err) if code else self.apt.problem()
        if not problem:
            self.journal.close()
            return
        build = build_failure.reason(out + err, read)
        log = "\n".join((out + err).splitlines()[-40:])
        try:
            self.journal.undo()
        except FleetError as error:
            raise FleetError(what, f"{build or problem}; and {error.what}: {error.why}", error.remedy, log) from error
        remedy = build_remedy if build else "put that in order, and run this again"
        raise FleetError(f"{what}, and the host is as it was before", build or problem, remedy, log)

    def held(self, status, family, hold):
        """Have the driver's packages held, as far as that is asked for. Return the status afterwards."""
        missing = [name for name in changes.to_hold(status, family) if not status[name].held] if hold else []
        if missing and self.check_mode:
            return changes.holding(status, missing)
        if missing:
            self.apt.mark("hold", missing)
            return self.apt.status()
        return status

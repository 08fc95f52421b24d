# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""One change of packages with dnf: all of it, or the host as before."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils import build_failure
from ansible_collections.ollama_fleet.stack.plugins.module_utils import dnf_transaction as text
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_changes as changes
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read


class DnfChange:
    """The steps of one change. rpm's own transactions are whole or not at all; what their scripts fail at is undone."""

    def __init__(self, dnf, _journal_folder, check_mode, warn, _tmpdir):
        self.dnf = dnf
        self.check_mode = check_mode
        self.warn = warn
        self.source_problem = ""

    def install(self, family, extra, hold, update, build_remedy):
        """Have exactly family.packages and any version of extra. Return the result of the module."""
        before = self.dnf.status()
        if update and not self.check_mode:
            self.source_problem = self.dnf.refresh()
        others = changes.companions(before, family)
        missing = changes.missing(before, extra)
        if not (changes.wrong(before, family) or missing or others):
            return changes.report(before, self.held(before, family, hold), [])
        arguments = ["install", "--allowerasing", *self.wishes(family, missing, others)]
        steps = self.simulate(arguments, before, changes.not_installed(family))
        changes.check_install(steps, before, family, changes.DNF)
        if self.check_mode:
            return changes.report(before, self.held(changes.foretold(before, steps), family, hold), [])
        if self.source_problem:
            self.warn(self.source_problem)
        self.change(arguments, before, family.not_installed, build_remedy)
        return changes.report(before, self.held(self.dnf.status(), family, hold), [])

    def remove(self, names):
        """Remove exactly the names. Return the result of the module."""
        before = self.dnf.status()
        there = sorted(name for name in names if name in before)
        if not there:
            return changes.report(before, before, [])
        what = f"{changes.named(there)} cannot be removed"
        arguments = ["remove", *there]
        steps = self.simulate(arguments, before, f"{what}, and nothing was changed")
        changes.check_removal(steps, there, changes.DNF)
        if self.check_mode:
            return changes.report(before, changes.foretold(before, steps), [])
        self.change(arguments, before, what, "")
        self.dnf.unlock(there)
        return changes.report(before, self.dnf.status(), [])

    def wishes(self, family, extra, others):
        """Return what dnf is asked for: the exact versions, and the driver's other parts at the same one."""
        available = self.dnf.versions(others)
        along = {name: changes.with_driver(available[name], family.drivers, changes.DNF.order) for name in others}
        exact = {**family.packages, **{name: version for name, version in along.items() if version}}
        return [*(text.nevra(name, version) for name, version in sorted(exact.items())), *extra]

    def simulate(self, arguments, before, what):
        code, out, err = self.dnf.dnf("--assumeno", *arguments)
        # With the answer no, success is "Operation aborted" after the table, or nothing to do.
        if "Operation aborted" in out + err or not code:
            return text.read_steps(out, before)
        why = text.first_error(out, err)
        if self.source_problem:
            why = f"{why}, and {self.source_problem}"
        raise FleetError(what, why, "check that the versions are still in the repositories: dnf list --showduplicates")

    def change(self, arguments, before, what, build_remedy):
        """Download everything, then change; what fails is undone."""
        if arguments[0] == "install":
            code, out, err = self.dnf.dnf("-y", "--downloadonly", *arguments)
            if code:
                raise FleetError(
                    f"{what}, and nothing was changed",
                    f"not everything could be downloaded: {text.first_error(out, err)}",
                    "check that the repositories answer from this host, and run this again",
                )
        last = self.dnf.newest_transaction()
        code, out, err = self.dnf.dnf("-y", "--cacheonly", *arguments)
        problem = text.first_error(out, err) if code else text.script_failure(out + err) or self.dnf.problem()
        if not problem:
            return
        # A file that the build left behind is gone once its package is.
        build = build_failure.reason(out + err, read)
        log = "\n".join((out + err).splitlines()[-40:])
        if self.dnf.newest_transaction() > last:
            self.dnf.dnf("-y", "history", "undo", "last")
        left = self.differing(before, self.dnf.status())
        if left:
            raise FleetError(
                what,
                f"{build or problem}; and {changes.named(left)} could not be brought back to what they were",
                "look at dnf history list, and at dnf history undo",
                log,
            )
        remedy = build_remedy if build else "put that in order, and run this again"
        raise FleetError(f"{what}, and the host is as it was before", build or problem, remedy, log)

    @staticmethod
    def differing(before, after):
        added, changed = changes.difference(before, after)
        return [*added, *changed]

    def held(self, status, family, hold):
        """Have the driver's packages locked, as far as that is asked for. Return the status afterwards."""
        names = changes.to_hold(status, family) if hold else []
        locks = self.dnf.locks(names)
        stale = [name for name in names if locks.get(name) != text.lock_of(name, status[name].version)]
        if stale and self.check_mode:
            return changes.holding(status, stale)
        if stale:
            self.dnf.lock(stale, status)
            return self.dnf.status()
        return status

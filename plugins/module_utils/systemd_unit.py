# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""One unit of systemd: its state, its starts and stops, and what it said."""

from __future__ import annotations

PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "Result", "ExecMainStatus")


class Unit:
    """A unit by name. run: starts a program, returns (exit code, output, errors)"""

    def __init__(self, run, name):
        self.run, self.name = run, name

    def systemctl(self, *arguments):
        return self.run(["systemctl", *arguments])

    def state(self):
        """Return {property: text} of PROPERTIES; empty texts where systemd does not answer."""
        _code, out, _err = self.systemctl("show", f"--property={','.join(PROPERTIES)}", "--", self.name)
        said = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {name: said.get(name, "") for name in PROPERTIES}

    def active(self):
        return self.state()["ActiveState"] == "active"

    def enabled(self):
        return self.state()["UnitFileState"] == "enabled"

    def reload(self):
        self.systemctl("daemon-reload")

    def enable(self, wanted):
        self.systemctl("enable" if wanted else "disable", "--quiet", "--", self.name)

    def stop(self):
        self.systemctl("stop", "--", self.name)
        self.systemctl("reset-failed", "--", self.name)

    def restart(self):
        """Restart it; return "" or why systemd could not."""
        # What was refused because of earlier failures must not keep a person's change from being tried.
        self.systemctl("reset-failed", "--", self.name)
        code, _out, err = self.systemctl("restart", "--", self.name)
        return "" if code == 0 else err.strip().splitlines()[0] if err.strip() else "systemctl says nothing"

    def words(self, identifier, since, lines):
        """Return the last lines of the journal, of its processes or, where these said nothing, of systemd about it.

        identifier: SyslogIdentifier of the unit, because a process that is gone has no other name in the journal
        since: seconds of the epoch
        """
        # Of a process that ended a moment ago, too.
        self.run(["journalctl", "--sync"])
        command = ["journalctl", f"--unit={self.name}", f"--since=@{int(since)}", f"--lines={lines}"]
        for narrower in ([f"--identifier={identifier}"], []):
            _code, out, _err = self.run([*command, *narrower, "--no-pager", "--output=cat", "--quiet"])
            if out.strip():
                return out.strip()
        return ""


def failure_of(state):
    """Return how a unit failed to run, in words, or "" where it runs or still starts."""
    if state["SubState"] == "auto-restart" or state["ActiveState"] in ("failed", "inactive"):
        how = state["Result"] if state["Result"] not in ("", "success") else state["ActiveState"] or "unknown"
        return f"its process ended ({how}, status {state['ExecMainStatus'] or 'unknown'})"
    return ""

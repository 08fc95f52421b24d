"""Doubles of systemctl, journalctl and docker for one unit and one container, over real files.

What a server does is written into its program: "good" runs and answers, "crash" ends at once, "deaf" runs and never
answers, "late" answers and then ends. The port is there once, for whoever of unit and container has it first.
"""

from __future__ import annotations

import re
from pathlib import Path


class Machine:
    """A host with one unit and one container. ``run`` starts its programs as AnsibleModule.run_command does."""

    def __init__(self, unit_file: Path, container: str | None = None) -> None:
        self.unit_file = unit_file
        self.container = container
        self.loaded: str | None = None
        self.enabled = False
        self.active = "inactive"
        self.pid = 0
        self.container_running = container is not None
        self.journal: list[str] = []
        self.asked: list[str] = []
        self.answering: str | None = "container" if container else None

    def run(self, command: list[str]) -> tuple[int, str, str]:
        self.asked.append(" ".join(command))
        program, verb = command[0], command[1]
        if program == "journalctl":
            return 0, "\n".join(self.journal), ""
        if program == "docker":
            return self._docker(verb)
        code, err = getattr(self, "_" + verb.replace("-", "_"))()
        return code, self._shown() if verb == "show" else "", err

    def did(self, words: str) -> bool:
        """Whether a command with these words was started."""
        return any(words in command for command in self.asked)

    def probe(self, _url: str) -> str:
        """In the place of an HTTP request."""
        if self.answering == "late":
            # This once.
            self._end("too late")
            return ""
        return "" if self.answering else "Connection refused"

    def _docker(self, verb: str) -> tuple[int, str, str]:
        if self.container is None:
            return 1, "", "No such container"
        if verb == "stop":
            self.container_running, self.answering = False, None
        if verb == "start":
            self.container_running, self.answering = True, "container"
        return 0, ("true" if self.container_running else "false") if verb == "inspect" else "", ""

    def _show(self) -> tuple[int, str]:
        return 0, ""

    def _shown(self) -> str:
        sub = {"active": "running", "activating": "auto-restart"}.get(self.active, "dead")
        result = "exit-code" if self.active == "activating" else "success"
        values = {
            "LoadState": "loaded" if self.loaded else "not-found",
            "ActiveState": self.active,
            "SubState": sub,
            "UnitFileState": "" if not self.loaded else "enabled" if self.enabled else "disabled",
            "MainPID": str(self.pid),
            "Result": result,
            "ExecMainStatus": "1" if self.active == "activating" else "0",
        }
        return "\n".join(f"{name}={value}" for name, value in values.items())

    def _daemon_reload(self) -> tuple[int, str]:
        self.loaded = self.unit_file.read_text() if self.unit_file.exists() else None
        return 0, ""

    def _enable(self) -> tuple[int, str]:
        self.enabled = self.loaded is not None
        return 0, ""

    def _disable(self) -> tuple[int, str]:
        self.enabled = False
        return 0, ""

    def _reset_failed(self) -> tuple[int, str]:
        return 0, ""

    def _stop(self) -> tuple[int, str]:
        if self.answering not in (None, "container"):
            self.answering = None
        self.active, self.pid = "inactive", 0
        return 0, ""

    def _restart(self) -> tuple[int, str]:
        self._stop()
        found = re.search(r"^ExecStart=(\S+)", self.loaded or "", re.MULTILINE)
        if not found:
            return 5, "Failed to restart: Unit not found."
        program = Path(found[1])
        if not program.exists():
            return 1, "Job failed because the control process exited with error code."
        manner = program.read_text().strip()
        self.pid = len(self.asked)
        if manner == "crash" or self.answering:
            self._end("boom by http://user:hunter2@proxy:3128" if manner == "crash" else "address already in use")
            return 0, ""
        self.active = "active"
        self.answering = manner if manner in {"good", "late"} else None
        self.journal.append(f"{manner} server listens")
        return 0, ""

    def _end(self, words: str) -> None:
        self.active, self.pid = "activating", 0
        if self.answering != "container":
            self.answering = None
        self.journal.append(words)

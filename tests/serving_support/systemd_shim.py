"""systemctl and journalctl for one unit, by starting and stopping its program, where no systemd runs.

A double: it does what the role asks of systemd, and nothing of a unit's protection. ``install`` puts both names into a
folder for PATH; what they know is in files beside them. ``main`` is what the names call.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

MAKER = """#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.serving_support.systemd_shim import main
main()
"""


def install(folder: Path, unit_file: Path) -> Path:
    """Make the programs in a folder; return it."""
    folder.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    for name in ("systemctl", "journalctl"):
        (folder / name).write_text(MAKER.format(python=sys.executable, root=root))
        (folder / name).chmod(0o755)
    (folder / "unit").write_text(str(unit_file))
    return folder


def main() -> None:
    folder = Path(sys.argv[0]).resolve().parent
    unit = Unit(folder, Path((folder / "unit").read_text()))
    if Path(sys.argv[0]).name == "journalctl":
        sys.stdout.write((folder / "journal").read_text() if (folder / "journal").exists() else "")
        return
    words = [word for word in sys.argv[1:] if word not in {"--", "--quiet"}]
    verb = next(word for word in words if not word.startswith("-"))
    getattr(unit, verb.replace("-", "_"))([word for word in words if word.startswith("--property")])


class Unit:
    """The unit, as the files in a folder have it."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.folder, self.file = folder, file
        self.pid_file, self.enabled = folder / "pid", folder / "enabled"

    def pid(self) -> int:
        """The program's process; 0 where there is none that lives."""
        pid = int(self.pid_file.read_text()) if self.pid_file.exists() else 0
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return 0
        return 0 if state == "Z" else pid

    def show(self, _properties: list[str]) -> None:
        started, pid = self.pid_file.exists(), self.pid()
        values = {
            "LoadState": "loaded" if self.file.exists() else "not-found",
            "ActiveState": "active" if pid else "activating" if started else "inactive",
            "SubState": "running" if pid else "auto-restart" if started else "dead",
            "UnitFileState": "" if not self.file.exists() else "enabled" if self.enabled.exists() else "disabled",
            "MainPID": str(pid),
            "Result": "exit-code" if started and not pid else "success",
            "ExecMainStatus": "1" if started and not pid else "0",
        }
        sys.stdout.write("".join(f"{name}={value}\n" for name, value in values.items()))

    def daemon_reload(self, _properties: list[str]) -> None:
        pass

    def reset_failed(self, _properties: list[str]) -> None:
        pass

    def enable(self, _properties: list[str]) -> None:
        self.enabled.touch()

    def disable(self, _properties: list[str]) -> None:
        self.enabled.unlink(missing_ok=True)

    def is_enabled(self, _properties: list[str]) -> None:
        sys.stdout.write("enabled\n" if self.enabled.exists() else "disabled\n")
        sys.exit(0 if self.enabled.exists() else 1)

    def start(self, properties: list[str]) -> None:
        if not self.pid():
            self.restart(properties)

    def stop(self, _properties: list[str]) -> None:
        if pid := self.pid():
            os.kill(pid, signal.SIGTERM)
            while self.pid():
                time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)

    def restart(self, properties: list[str]) -> None:
        self.stop(properties)
        text = self.file.read_text()
        command = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0].split()
        settings = re.findall(r"^EnvironmentFile=(.*)$", text, re.MULTILINE)[0]
        pairs = re.findall(r'^(\w+)="(.*)"$', Path(settings).read_text(), re.MULTILINE)
        environment = {name: re.sub(r'\\(["\\`$])', r"\1", value) for name, value in pairs}
        with (self.folder / "journal").open("a") as journal:
            process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )
        self.pid_file.write_text(str(process.pid))
        time.sleep(0.2)

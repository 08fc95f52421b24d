"""Runs a program on a terminal, with the pulls of all hosts live below what it prints.

The program is ansible-playbook. While a host pulls, a process of Ansible's keeps a file for it in the folder that
OLLAMA_FLEET_PULLS names; docs/distribution.md says how they get there.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ollama_fleet.terminal import printable

VIEW = "OLLAMA_FLEET_PULLS"
# Seconds between two looks at the folder.
_INTERVAL = 0.5
# More hosts than this do not fit on a screen.
_ROWS = 20


@dataclass(frozen=True)
class Pull:
    """How far one host is with one model. completed, total: bytes."""

    host: str
    model: str
    completed: int
    total: int
    words: str

    @property
    def left(self) -> int:
        return self.total - self.completed


def read(folder: Path) -> list[Pull]:
    """The pulls that are going on now, the one with the most left first."""
    pulls = []
    for path in folder.glob("*.json"):
        try:
            pulls.append(Pull(**json.loads(path.read_text())))
        except FileNotFoundError:
            continue  # it has just come to its end
    return sorted(pulls, key=lambda pull: (-pull.left, pull.host))


def render(pulls: Sequence[Pull]) -> RenderableType:
    """A row for each host in the order of their names, and for those that do not fit a line that counts them."""
    table = Table.grid(padding=(0, 1))
    for pull in sorted(pulls[:_ROWS], key=lambda pull: (len(pull.host), pull.host)):
        bar = ProgressBar(total=max(pull.total, 1), completed=pull.completed, width=24)
        words = [Text(printable(text), no_wrap=True, overflow="ellipsis") for text in (pull.model, pull.words)]
        table.add_row(Text(printable(pull.host), style="bold"), words[0], bar, words[1])
    rest = pulls[_ROWS:]
    if not rest:
        return table
    left = sum(pull.left for pull in rest) / 1e9
    return Group(table, Text(f"and {len(rest)} more hosts, which have {left:.1f} GB left to pull"))


def run(command: Sequence[str], folder: Path, env: Mapping[str, str], console: Console) -> int:
    """Run the command in this folder and return its exit code. Its output goes to the console."""
    environment = dict(env)
    if not {"NO_COLOR", "ANSIBLE_NOCOLOR"} & environment.keys():
        environment.setdefault("ANSIBLE_FORCE_COLOR", "1")
    # Errors that a person sends elsewhere go there.
    errors = subprocess.STDOUT if sys.stderr.isatty() else None
    interrupted = False
    with (
        tempfile.TemporaryDirectory(prefix="ollama-fleet-pulls-") as pulls,
        subprocess.Popen(
            command, cwd=folder, env={**environment, VIEW: pulls}, stdout=subprocess.PIPE, stderr=errors
        ) as program,
        _Screen(console) as screen,
    ):
        output = _Lines(cast(IO[bytes], program.stdout))
        while not output.over:
            try:
                going_on = read(Path(pulls))
                screen.show(output.read(_INTERVAL, whole=bool(going_on)), going_on)
            except KeyboardInterrupt:
                # The program got it as well: it ends by itself, and what it says then is still shown.
                interrupted = True
        code = program.wait()
    if interrupted:
        raise KeyboardInterrupt
    return code


class _Lines:
    """The lines of a pipe as they come."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)
        self.over = False

    def read(self, timeout: float, whole: bool) -> list[str]:
        """The lines that came, each with its end. After so many seconds of silence also one without: a question, say.

        whole: whole lines only, as long as something is shown below them
        """
        if not self._selector.select(timeout):
            begun, self._rest = ([], self._rest) if whole or not self._rest else ([self._rest], b"")
            return [line.decode(errors="replace") for line in begun]
        chunk = os.read(self._pipe.fileno(), 1 << 16)
        self.over = not chunk
        *whole_lines, self._rest = (self._rest + chunk).split(b"\n")
        lines = [line + b"\n" for line in whole_lines]
        if self.over:
            self._selector.close()
            lines += [self._rest] if self._rest else []
        return [line.decode(errors="replace") for line in lines]


class _Screen:
    """Lines that stay, and below them the pulls as long as there are any."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end()

    def show(self, lines: Sequence[str], pulls: Sequence[Pull]) -> None:
        for line in lines:
            self._console.print(Text.from_ansi(line.rstrip("\n")), soft_wrap=True, end="\n" * line.endswith("\n"))
        if not pulls:
            self._end()
        elif self._live is None:
            self._live = Live(render(pulls), console=self._console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        else:
            self._live.update(render(pulls), refresh=True)

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

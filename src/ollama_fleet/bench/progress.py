"""Shows how far every host is: bars on a terminal, a line now and then elsewhere."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ollama_fleet.terminal import printable

# Seconds between two lines about a fleet that is still at work, where there is no terminal.
_INTERVAL = 10.0
# More bars than this do not fit on a screen.
_BARS = 24


class Watcher(Protocol):
    """Told what happens, by many threads at once."""

    def step(self, host: str, text: str, done: int) -> None:
        """A host begins a step; `done` of its requests are answered."""

    def finished(self, host: str, text: str, failed: bool) -> None:
        """A host is through, with its outcome in words."""


@contextmanager
def watch(console: Console, hosts: Sequence[str], requests: int) -> Iterator[Watcher]:
    """A watcher that suits the console. `requests` is how many each host will be sent."""
    if console.is_terminal and len(hosts) <= _BARS:
        columns = (
            TextColumn("{task.fields[host]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[step]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars, hosts, requests)
    else:
        yield _Lines(console, hosts)


class _Bars:
    def __init__(self, bars: Progress, hosts: Sequence[str], requests: int) -> None:
        self._bars = bars
        self._requests = requests
        width = max(len(printable(host)) for host in hosts)
        self._tasks: dict[str, TaskID] = {
            host: bars.add_task("", total=requests, host=printable(host).ljust(width), step="waiting") for host in hosts
        }

    def step(self, host: str, text: str, done: int) -> None:
        self._bars.update(self._tasks[host], completed=done, step=printable(text))

    def finished(self, host: str, text: str, failed: bool) -> None:
        task = self._tasks[host]
        self._bars.update(task, step=printable(text), completed=None if failed else self._requests)
        self._bars.stop_task(task)


class _Lines:
    def __init__(self, console: Console, hosts: Sequence[str]) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._working = dict.fromkeys(hosts, "waiting")
        self._total = len(hosts)
        self._said = time.monotonic()

    def step(self, host: str, text: str, done: int) -> None:
        with self._lock:
            self._working[host] = text
            if time.monotonic() - self._said < _INTERVAL:
                return
            first = list(self._working.items())[:4]
            more = len(self._working) - len(first)
            self._say(
                f"{self._total - len(self._working)} of {self._total} hosts done; "
                + "; ".join(f"{name}: {step}" for name, step in first)
                + (f"; and {more} more" if more else "")
            )

    def finished(self, host: str, text: str, failed: bool) -> None:
        with self._lock:
            self._working.pop(host, None)
            self._say(f"{host}: {text}")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(Text(printable(text)), soft_wrap=True)

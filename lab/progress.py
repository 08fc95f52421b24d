"""Says what the lab is doing: one line when a long step starts, one with its time when it ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]

_lock = threading.Lock()


def say(line: str) -> None:
    """Print one line whole, also when several threads speak."""
    with _lock:
        print(line, flush=True)


class Step:
    """A running step; what it produced can be told with `note`."""

    def __init__(self) -> None:
        self.result = ""

    def note(self, result: str) -> None:
        """Add a result to the step's last line, as "412 MB"."""
        self.result = f"  {result}"


@contextmanager
def step(name: str, report: Report = say) -> Iterator[Step]:
    """Announce a step and, when it went well, its duration and result."""
    report(f"  {name} ...")
    started = time.monotonic()
    running = Step()
    yield running
    report(f"  {name}: {time.monotonic() - started:.1f} s{running.result}")


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 1e6:,.0f} MB"

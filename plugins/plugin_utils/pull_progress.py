# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How far a pull is, in words: bytes, rate, time left, and the name of a link that stands still."""

from __future__ import annotations

from collections import deque

# Seconds that the rate is taken over, and seconds without a byte after which a link counts as stalled.
WINDOW = 20.0
STALLED = 10.0
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class PullProgress:
    """What was seen of one pull so far. Times are seconds of one monotonic clock, sizes are bytes."""

    def __init__(self):
        self._samples = deque()
        self._total = 0
        self._moved_at = None
        self._state = {}

    def feed(self, state, now):
        """Take what the module on the host wrote: {model, source, status, completed, total}.

        ``completed`` may go backwards, and a layer that was there already comes in at once. Neither is a rate, so
        the samples begin anew.
        """
        completed, total = state["completed"], state["total"]
        last = self._samples[-1][1] if self._samples else None
        if self._moved_at is None or completed != last or state["status"] != self._state.get("status"):
            self._moved_at = now
        if last is not None and (completed < last or total != self._total):
            self._samples.clear()
        self._state, self._total = state, total
        self._samples.append((now, completed))
        while now - self._samples[0][0] > WINDOW:
            self._samples.popleft()

    @property
    def completed(self):
        return self._state.get("completed", 0)

    @property
    def total(self):
        return self._total

    @property
    def model(self):
        return self._state.get("model", "")

    @property
    def rate(self):
        """Bytes a second over the last WINDOW seconds; 0 when there is nothing to tell yet."""
        if len(self._samples) < 2:
            return 0.0
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def stalled(self, now):
        """Seconds for which a link has stood still; 0 when it has not, or when the server is at work by itself."""
        pulling = self._state.get("status", "").startswith("pulling")
        still = now - self._moved_at if self._moved_at is not None else 0
        return still if pulling and still >= STALLED else 0

    def words(self, now):
        """What a person is told."""
        if not self._total:
            stalled = self.stalled(now)
            return f"waiting for {self._state['source']}" + (f" for {stalled:.0f} s" if stalled else "")
        so_far = f"{in_bytes(self.completed, self._total)} of {in_bytes(self._total)}"
        if not self._state["status"].startswith("pulling"):
            return f"{so_far}, {self._state['status']}"
        if stalled := self.stalled(now):
            return f"{so_far}, stalled for {stalled:.0f} s: nothing comes from {self._state['source']}"
        if not self.rate:
            return so_far
        left = (self._total - self.completed) / self.rate
        return f"{so_far}, {in_bytes(self.rate)}/s, {in_time(left)} left"


def in_bytes(count, scale=None):
    """A size in three figures or so, in decimal units; in the unit of ``scale`` and without it where that is given."""
    unit, size = next(((unit, size) for unit, size in UNITS if (scale or count) >= size), ("B", 1))
    number = f"{count / size:.{1 if size > 1 else 0}f}"
    return number if scale else f"{number} {unit}"


def in_time(seconds):
    """A duration in its two biggest units."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"

"""Numbers and short texts as people read them; the same in the table and on the page."""

from ollama_fleet.bench.result import HostResult, Spread


def number(value: float) -> str:
    """About three figures: 1,234 or 123 or 12.3 or 1.23."""
    return f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    return 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2


def around(spread: Spread | None) -> str:
    """A median and the median distance from it, as fine as the median: 81.2 ±1.3."""
    return f"{number(spread.median)} ±{spread.mad:,.{_digits(spread.median)}f}" if spread else "-"


def span(spread: Spread | None) -> str:
    """From the least to the greatest: 79.0 to 83.1."""
    return f"{number(spread.minimum)} to {number(spread.maximum)}" if spread else "-"


def size(count: int) -> str:
    """Bytes in decimal units: 253 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def errors(host: HostResult) -> str:
    """How many answers did not count: 1 of 6."""
    return f"{host.rejected} of {len(host.measured)}" if host.measured else "-"


def load_time(host: HostResult) -> str:
    """Seconds to load the model, and whether there was anything to do: 1.08 cold."""
    return f"{number(host.load.seconds)} {host.load.state}" if host.load else "-"


def placement(host: HostResult) -> str:
    """Where the model lies: CPU, GPU, or how much of it on the GPU."""
    where = host.placement
    if where is None:
        return "-"
    if where.verdict == "partial":
        return f"{100 * where.vram_bytes / where.size_bytes:.0f}% GPU"
    return where.verdict


def verdict(hosts: list[HostResult]) -> str:
    """The run in one sentence."""
    failed = sum(host.failure is not None for host in hosts)
    rejected = sum(host.rejected for host in hosts)
    noted = sum(bool(host.notes) for host in hosts)
    parts = [f"{len(hosts) - failed} of {_count(len(hosts), 'host')} measured"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{_count(rejected, 'answer')} did not count"] if rejected else []
    parts += [f"{_count(noted, 'host')} with a note"] if noted else []
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

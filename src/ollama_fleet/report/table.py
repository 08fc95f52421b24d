"""The report on a console: fits 100 columns, and says everything without colour too."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ollama_fleet.bench.result import BenchReport, HostResult
from ollama_fleet.report import words
from ollama_fleet.terminal import printable

_LEGEND = (
    "Median ± median distance from it. Decode and prefill: tokens per second by the server's own clock. "
    "First token: by our clock, less the tunnel's round trip. Load: preparing the model, measured apart. "
    "Errors: answers that do not count, of those asked for after the warm-up."
)


def table(report: BenchReport) -> RenderableType:
    """The whole report as something that a rich console prints."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    rows.add_column("Host", overflow="fold")
    for heading in ("Errors", "Decode tok/s", "Prefill tok/s", "First token ms", "Load s"):
        rows.add_column(heading, justify="right", no_wrap=True)
    rows.add_column("Runs on", no_wrap=True)
    for host in report.hosts:
        rows.add_row(*_cells(host), style="red" if host.failure else "")
    parts: list[RenderableType] = [Text(_headline(report)), Text(), rows, Text(), Text(_LEGEND, style="dim")]
    for host in report.hosts:
        parts += [_line(f"{host.name}: note: {note}", "yellow") for note in host.notes]
    for host in report.hosts:
        if host.failure:
            parts.append(_line(f"{host.name}: failed ({host.failure.kind}): {host.failure.why}", "red"))
            parts.append(_line(f"  remedy: {host.failure.remedy}", ""))
    return Group(*parts, Text(), Text(words.verdict(report.hosts), style="bold"))


def _headline(report: BenchReport) -> str:
    versions = sorted({host.server_version for host in report.hosts if host.server_version})
    servers = ", ".join(versions) or "that does not answer"
    return printable(f"{report.model} on server {servers}, workload {report.workload['name']}")


def _line(text: str, style: str) -> Text:
    return Text(printable(text), style=style)


def _cells(host: HostResult) -> tuple[Text | str, ...]:
    return (
        Text(printable(host.name)),
        words.errors(host) if host.measured or not host.failure else "failed",
        words.around(host.decode),
        words.around(host.prefill),
        words.around(host.first_token_less_round_trip),
        words.load_time(host),
        "failed" if host.failure else words.placement(host),
    )

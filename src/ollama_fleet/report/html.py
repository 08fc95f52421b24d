"""The report as one HTML page that needs nothing else: no network, no script, fit to print."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2

from ollama_fleet.bench.result import BenchReport, HostResult, Spread
from ollama_fleet.report import words

# Of Okabe and Ito's palette, which people see apart whatever their eyes take for red and green.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"

# The chart's measures in its own units; the page scales them.
_WIDTH, _VALUE, _ROW, _TOP = 480, 150, 32, 8
# A host's name beside its bar: at most so many characters, each about so wide.
_NAME, _CHARACTER = 32, 7.6


@dataclass(frozen=True)
class Bar:
    """One host's row of a chart. Positions are along the chart; without a value `text` says why there is none."""

    name: str
    y: int
    text: str
    width: float | None = None
    low: float = 0.0
    high: float = 0.0
    dots: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Bars of medians, whiskers from the least to the greatest, a dot for each sample."""

    anchor: str
    title: str
    unit: str
    better: str
    colour: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]

    @property
    def height(self) -> int:
        """Of the bars, the axis below them not counted."""
        return _TOP + len(self.bars) * _ROW


def page(report: BenchReport) -> str:
    """The whole page. Everything that comes from a host or an inventory is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ollama_fleet.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        failed=[host for host in report.hosts if host.failure],
        noted=[host for host in report.hosts if host.notes],
        when=datetime.fromisoformat(report.created).strftime("%-d %B %Y, %H:%M UTC"),
        versions=sorted({host.server_version for host in report.hosts if host.server_version}),
        charts=_charts(report.hosts),
        label=round(20 + _CHARACTER * min(_NAME, max((len(host.name) for host in report.hosts), default=0))),
        name_length=_NAME,
        width=_WIDTH + _VALUE,
        words=words,
    )


def _charts(hosts: list[HostResult]) -> list[Chart]:
    return [
        _chart(
            ("decode", "Writing the answer (decode)", "tokens/s", "more is better", _BLUE),
            [(h, h.decode, [s.decode_tokens_per_second for s in h.accepted]) for h in hosts],
        ),
        _chart(
            ("prefill", "Reading the prompt (prefill)", "tokens/s", "more is better", _GREEN),
            [(h, h.prefill, [s.prefill_tokens_per_second for s in h.accepted]) for h in hosts],
        ),
        _chart(
            ("first-token", "Time to the first token", "ms", "less is better", _ORANGE),
            [(h, h.first_token_less_round_trip, [s.first_token_less_round_trip_ms for s in h.accepted]) for h in hosts],
        ),
    ]


def _chart(head: tuple[str, str, str, str, str], rows: list[tuple[HostResult, Spread | None, list[Any]]]) -> Chart:
    anchor, title, unit, better, colour = head
    top, step = scale(max((spread.maximum for _, spread, _ in rows if spread), default=1.0))

    def x(value: float) -> float:
        return round(value / top * _WIDTH, 1)

    bars = []
    for number, (host, spread, values) in enumerate(rows):
        y = _TOP + number * _ROW
        if spread is None:
            bars.append(Bar(host.name, y, f"failed: {host.failure.kind}" if host.failure else "not told by the server"))
            continue
        dots = tuple(x(value) for value in values if value is not None)
        text = words.number(spread.median)
        bars.append(Bar(host.name, y, text, x(spread.median), x(spread.minimum), x(spread.maximum), dots))
    ticks = tuple((x(number * step), f"{number * step:,.6g}") for number in range(round(top / step) + 1))
    return Chart(anchor, title, unit, better, colour, tuple(bars), ticks)


def scale(greatest: float) -> tuple[float, float]:
    """The end of an axis from 0 that holds `greatest`, and the step between its marks: round numbers, 3 to 6 steps."""
    if greatest <= 0:
        return 1.0, 0.5
    power = 10.0 ** math.floor(math.log10(greatest))
    step = next(power * part for part in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5) if greatest / (power * part) <= 5)
    return math.ceil(greatest / step - 1e-9) * step, step

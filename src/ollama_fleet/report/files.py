"""Writes a report to files, and reads it back."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ollama_fleet.bench.result import BenchReport, HostResult, Spread, summary
from ollama_fleet.errors import FleetError
from ollama_fleet.report.html import page


def publish(report: BenchReport, base: Path) -> dict[str, Path]:
    """Write the report to base/<UTC time>/, whole or not at all, and let base/last point there.

    Returns the paths by kind: json, csv, html. Raises FleetError when they cannot be written.
    """
    stamp = report.created.replace("+00:00", "Z").replace(":", "-")
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder = _free(base, stamp)
        partial = base / f".{folder.name}.partial"
        written = write_all(report, partial)
        partial.rename(folder)
        link = base / f".last.{folder.name}"
        link.symlink_to(folder.name)
        link.replace(base / "last")
    except OSError as error:
        raise FleetError(
            f"reports folder {base}",
            f"the report cannot be written: {error}",
            "make room or name another with --output",
        ) from error
    return {kind: folder / path.name for kind, path in written.items()}


def _free(base: Path, stamp: str) -> Path:
    """A folder that is not there yet: two runs can begin in one second."""
    folder, number = base / stamp, 2
    while folder.exists():
        folder, number = base / f"{stamp}-{number}", number + 1
    return folder


def write_all(report: BenchReport, folder: Path) -> dict[str, Path]:
    """Write report.json, report.csv and report.html into a folder and return their paths by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"report.{kind}" for kind in ("json", "csv", "html")}
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    paths["json"].write_text(text + "\n", encoding="utf-8")
    with paths["csv"].open("w", encoding="utf-8", newline="") as file:
        rows = [_row(report, host) for host in report.hosts]
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["host"])
        writer.writeheader()
        writer.writerows(rows)
    paths["html"].write_text(page(report), encoding="utf-8")
    return paths


def load(path: Path) -> BenchReport:
    """Read a report from its report.json, or from the folder that holds it. Raises FleetError."""
    file = path / "report.json" if path.is_dir() else path
    try:
        return BenchReport.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(f"report {file}", "it cannot be read", "name a report.json or its folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FleetError(
            f"report {file}",
            f"it is no report that this version reads: {error}",
            "read it with the version that wrote it; the file says which under `tool`",
        ) from error


def _row(report: BenchReport, host: HostResult) -> dict[str, Any]:
    """One host as a flat row; empty where there is nothing."""
    row: dict[str, Any] = {
        "host": host.name,
        "status": "failed" if host.failure else "measured",
        "samples_measured": len(host.measured),
        "samples_rejected": host.rejected,
    }
    for name, spread in {**summary(host), "round_trip_ms": host.round_trip_ms}.items():
        row |= _spread(name, spread)
    row |= _prefixed("load", host.load, ("state", "seconds"))
    row |= _prefixed("placement", host.placement, ("verdict", "size_bytes", "vram_bytes", "context_length"))
    row |= _prefixed("model", host.model, ("name", "digest", "size_bytes", "quantization", "parameters", "family"))
    row |= {"server_version": host.server_version} | asdict(host.machine) | {"gpus": "; ".join(host.machine.gpus)}
    row |= _prefixed("failure", host.failure, ("kind", "why", "remedy"))
    row |= {"notes": "; ".join(host.notes), "workload": report.workload["name"], "created": report.created}
    return {key: _cell(value) for key, value in row.items()}


def _spread(name: str, spread: Spread | None) -> dict[str, float | None]:
    return {
        f"{name}_{part}": getattr(spread, part) if spread else None for part in ("median", "minimum", "maximum", "mad")
    }


def _prefixed(prefix: str, value: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    return {f"{prefix}_{name}": getattr(value, name) if value else None for name in names}


def _cell(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula; the quote keeps it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value

"""Shows a benchmark's report: a table for the console; JSON, CSV and one self-contained HTML page for the rest."""

from ollama_fleet.report.files import load, publish, write_all
from ollama_fleet.report.table import table

__all__ = ["load", "publish", "table", "write_all"]

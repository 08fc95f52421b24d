"""The command `ollama-fleet`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from ollama_fleet import __version__
from ollama_fleet.bench import Choices, run
from ollama_fleet.bench.result import BenchReport
from ollama_fleet.errors import FleetError
from ollama_fleet.report import load, publish, table
from ollama_fleet.terminal import printable

_EXIT_CODES = """\
exit codes:
  0  every host was measured
  1  the command could not do its work (bad arguments, no inventory, no host, no room): nothing is known of the hosts
  2  at least one host failed; the report names it and the reason
"""


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2 for bad arguments, which here means that a host failed."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.work(options))
    except FleetError as error:
        Console(stderr=True).print(Text(_safe(str(error))), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def bench(folder: Path, output: Path, choices: Choices, console: Console) -> BenchReport:
    """Measure an inventory's hosts, print the table, and write the files to output/<UTC time>/ and output/last."""
    report = run(folder, console, choices)
    console.print()
    console.print(table(report))
    paths = publish(report, output)
    console.print()
    for path in paths.values():
        console.print(Text(_safe(str(path))), soft_wrap=True)
    return report


def _bench(options: argparse.Namespace) -> int:
    choices = Choices(
        limit=options.limit,
        workload=options.workload,
        model=options.model,
        group=options.group,
        forks=options.forks,
        silence=options.silence,
    )
    return bench(options.inventory, options.output, choices, console()).exit_code


def _show(options: argparse.Namespace) -> int:
    report = load(options.report)
    console().print(table(report))
    return report.exit_code


def console() -> Console:
    """The console that reports go to; where there is no terminal, as wide as the table needs."""
    result = Console(highlight=False)
    if not result.is_terminal:
        result.width = 100
    return result


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ollama-fleet", description="Knows what the hosts of a fleet deliver with Ollama.")
    parser.add_argument("--version", action="version", version=f"ollama-fleet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    measure = commands.add_parser(
        "bench",
        help="measure hosts through SSH tunnels and write a report",
        description="Measure what each host's Ollama delivers, all hosts at once, through SSH tunnels made with the "
        "inventory's own connection settings. Host keys are checked always. Nothing is installed or pulled on a host.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    measure.add_argument(
        "--inventory", "-i", type=Path, required=True, metavar="DIR", help="Ansible inventory: a folder or a file"
    )
    measure.add_argument("--limit", "-l", metavar="PATTERN", help="only these hosts, as Ansible's --limit has it")
    measure.add_argument("--model", "-m", metavar="NAME", help="another model than the workload's; it must be there")
    measure.add_argument(
        "--workload", "-w", default="smoke", metavar="NAME", help="what to ask: a name or a YAML file (default: smoke)"
    )
    measure.add_argument(
        "--output",
        "-o",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="files go to DIR/<UTC time>/, and DIR/last points there (default: reports)",
    )
    measure.add_argument(
        "--group", default="gpu_servers", metavar="NAME", help="the hosts with Ollama (default: gpu_servers)"
    )
    measure.add_argument(
        "--forks", "-f", type=_positive, metavar="N", help="at most N hosts at once (default: all of them)"
    )
    measure.add_argument(
        "--silence",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="give a host up after so long without a byte; loading a big model is silent (default: 300)",
    )
    measure.set_defaults(work=_bench)

    again = commands.add_parser(
        "show",
        help="print the table of a report that was written before",
        description="Print the table of a report that was written before.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    again.add_argument("report", type=Path, metavar="REPORT", help="a report.json or its folder, such as reports/last")
    again.set_defaults(work=_show)
    return parser


if __name__ == "__main__":
    sys.exit(main())

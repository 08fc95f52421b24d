"""The whole of ./inv lab: up, secrets, playbook, benchmark, and what a person does next."""

import time
from pathlib import Path

import yaml
from rich.table import Table

from lab.lab import Engine, Lab
from ollama_fleet import cli, secrets
from ollama_fleet.bench import Choices
from ollama_fleet.planning import make_plan
from ollama_fleet.playbook import run_playbook
from ollama_fleet.report import load, table


def run(root: Path, hosts: int, engine: Engine, assume_yes: bool) -> int:
    """Build, provision and measure the lab; return 0, or the exit code of the part that failed. Raises FleetError."""
    started = time.monotonic()
    console = cli.console()

    console.print("[bold]Lab")
    inventory = Lab(root).up(hosts=hosts, engine=engine, assume_yes=assume_yes)
    secrets.init(inventory)

    console.print("\n[bold]Provision")
    last_report = root / "reports" / "last"
    if make_plan(inventory, limit=None).exit_code == 0:
        console.print("nothing to do: every host is as described")
    else:
        code = run_playbook("site", inventory)
        if code:
            return code
        last_report.unlink(missing_ok=True)  # it measured what was there before

    console.print("\n[bold]Measure")
    if last_report.exists():
        report = load(last_report)
        console.print(f"nothing changed since the report of {report.created}; ./inv bench measures again")
        console.print(table(report))
    else:
        report = cli.bench(inventory, root / "reports", Choices(), console)

    ui = yaml.safe_load((inventory / "group_vars" / "web_servers" / "open_webui.yml").read_text())
    web = next(host for host in Lab(root).status().hosts if host.group == "web_servers")
    console.print(f"\n[bold]Open WebUI[/]  http://{web.address}:3000")
    console.print(f"  sign in as  {ui['open_webui_admin_email']}")
    console.print("  password    ./inv secrets.show vault_open_webui_admin_password")
    console.print("\n./inv lab.status   ./inv lab.ssh gpu1   ./inv lab.down")
    console.print(f"ready in {time.monotonic() - started:.0f} s")
    return report.exit_code


def print_status(root: Path) -> int:
    """Print the lab's hosts and services; return 0 when all of them answer, 2 when one does not. Raises FleetError."""
    status = Lab(root).status()
    console = cli.console()
    rows = Table("host", "address", "state", "SSH", "containers", box=None, pad_edge=False)
    for host in status.hosts:
        rows.add_row(
            host.name, host.address, host.state, "answers" if host.ssh else "no answer", ", ".join(host.containers)
        )
    for name, state in status.services:
        rows.add_row(name, "", state)
    console.print(rows)
    console.print(
        f"engine: {status.engine}   Docker: {status.docker}   disk: {status.disk / 1e9:.1f} GB", soft_wrap=True
    )
    healthy = all(host.ssh for host in status.hosts) and all(state == "running" for _, state in status.services)
    return 0 if healthy else 2

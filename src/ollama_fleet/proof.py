"""The proof of a fleet: from what hardware each host answered, by which signals, and who else could ask it."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ollama_fleet import inventory_check
from ollama_fleet.errors import FleetError
from ollama_fleet.planning import counted, natural
from ollama_fleet.playbook import PlaybookOptions, run_playbook

SCHEMA = "ollama-fleet/proof/1"
UNREACHABLE = 4


@dataclass(frozen=True)
class HostProof:
    """One host: `proof` is what the collection's ollama_proof returned (docs/proof.md), or `problem` says why not."""

    host: str
    proof: Mapping[str, Any] | None
    problem: str
    closed: Mapping[str, Any]

    @property
    def answers(self) -> bool:
        """Whether it was proved that a model answers from the hardware that it should."""
        return bool(self.proof and self.proof["proved"])

    @property
    def open(self) -> bool:
        """Whether anybody else got an answer from the API's port."""
        return bool(self.closed["open_to"])

    @property
    def proved(self) -> bool:
        """Whether the host answers as it should, and nobody else who asked got an answer."""
        return self.answers and not self.open


@dataclass(frozen=True)
class InterfaceProof:
    """Open WebUI on one host: the administrator's log-in works, strangers are refused, and a model answered through it.

    backends: each {name, state, models, words, seconds}; answer: {model, words, seconds}, None where none was asked
    """

    host: str
    proved: bool
    problem: str
    version: str
    backends: Sequence[Mapping[str, Any]]
    answer: Mapping[str, Any] | None


@dataclass(frozen=True)
class FleetProof:
    """The hosts that could be asked, Ansible's exit code for the others (0: there are none), and their names."""

    hosts: tuple[HostProof, ...]
    ansible_exit_code: int = 0
    unasked: tuple[str, ...] = field(default=())
    interfaces: tuple[InterfaceProof, ...] = field(default=())

    @property
    def parts(self) -> list[HostProof | InterfaceProof]:
        """All that was proved or not."""
        return [*self.hosts, *self.interfaces]

    @property
    def exit_code(self) -> int:
        """0 every host is proved, 2 one is not, 4 one could not be reached."""
        if self.ansible_exit_code == UNREACHABLE:
            return UNREACHABLE
        proved = all(part.proved for part in self.parts)
        return 2 if self.ansible_exit_code or self.unasked or not proved else 0

    def to_json(self) -> str:
        """The proof as JSON, as docs/proof.md documents it."""
        hosts = [
            {
                "host": host.host,
                "proved": host.proved,
                "proof": host.proof,
                "problem": host.problem,
                "closed": dict(host.closed),
            }
            for host in self.hosts
        ]
        interfaces = [asdict(interface) for interface in self.interfaces]
        data = {"schema": SCHEMA, "exit_code": self.exit_code, "unasked": list(self.unasked), "hosts": hosts}
        data["interfaces"] = interfaces
        return json.dumps(data, indent=2, ensure_ascii=False)


def prove(inventory: Path, limit: str | None) -> FleetProof:
    """Prove the servers of an inventory; Ansible's own output is shown only when something went wrong."""
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-proof-") as folder:
        options = PlaybookOptions(limit=limit, extra_vars=[f"ollama_fleet_plan_folder={folder}"])
        code = run_playbook("prove", inventory, options, quiet=True)
        paths = sorted(Path(folder).glob("*.json"), key=lambda path: natural(path.stem))
        hosts = tuple(HostProof(path.stem, **json.loads(path.read_text())) for path in paths)
        paths = sorted(Path(folder).glob("*.interface"), key=lambda path: natural(path.stem))
        interfaces = tuple(InterfaceProof(path.stem, **json.loads(path.read_text())) for path in paths)
    if (hosts or interfaces) and not code:
        return FleetProof(hosts, interfaces=interfaces)
    names = [host.name for host in inventory_check.check(inventory, limit, groups=["gpu_servers", "web_servers"])]
    if not hosts and not interfaces and code != UNREACHABLE:
        raise FleetError(f"proof of {inventory}", "no host could be asked", "see the problems above, then run it again")
    asked = {host.host for host in hosts} | {interface.host for interface in interfaces}
    return FleetProof(hosts, code, tuple(name for name in names if name not in asked), interfaces)


def show(proof: FleetProof, console: Console) -> None:
    """Print the proof: a table, what is wrong or to be known besides, and a summary."""
    if proof.hosts:
        console.print(table(proof))
    for line in remarks(proof):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(summary(proof)), soft_wrap=True)


def table(proof: FleetProof) -> Table:
    """One row for each host."""
    result = Table(header_style="bold")
    for name in ("host", "model"):
        result.add_column(name, no_wrap=True)
    result.add_column("verdict")
    for name in ("tokens/s", "floor"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("API")
    for host in proof.hosts:
        told = host.proof or {}
        rate = (told.get("signals") or {}).get("rate") or {}
        words = f"answers from the {told['expected'].upper()}" if host.answers else "not proved"
        result.add_row(
            Text(host.host),
            Text((told.get("model") or {}).get("name", "")),
            Text(words, style="green" if host.answers else "red"),
            Text(number(rate.get("tokens_per_second"))),
            Text(number(rate.get("floor"))),
            Text(doors(host), style="red" if host.open else "green" if host.closed["asked"] else "yellow"),
        )
    return result


def doors(host: HostProof) -> str:
    """Who could ask the host, in words."""
    if host.open:
        return f"open to {' and '.join(host.closed['open_to'])}"
    return f"closed to {' and '.join(host.closed['asked'])}" if host.closed["asked"] else "not tried from outside"


def number(value: float | None) -> str:
    """A rate, or nothing where there is none."""
    return "" if value is None else f"{value:.1f}"


def remarks(proof: FleetProof) -> list[str]:
    """What was seen of the hosts that are not proved, with what to do, and what is to be known of the others."""
    lines = []
    for host in proof.hosts:
        told = host.proof or {}
        if not host.answers:
            remedy = f". Remedy: {told['remedy']}" if told else ""
            lines.append(f"{host.host}: {told.get('words', host.problem)}{remedy}")
        if host.open:
            who = " and ".join(host.closed["open_to"])
            lines.append(
                f"{host.host}: port {host.closed['port']} answers {who}, and Ollama asks nobody for a password. "
                "Remedy: see ./inv doors for what opened it, bind it to 127.0.0.1 or stop it"
            )
        lines += [f"{host.host}: {note}" for note in told.get("notes", [])]
    return lines + [f"{interface.host}: {words_of(interface)}" for interface in proof.interfaces]


def words_of(interface: InterfaceProof) -> str:
    """What was seen of a web interface, as a sentence."""
    if not interface.proved:
        return f"Open WebUI is not proved: {interface.problem}"
    serving = [backend for backend in interface.backends if backend["state"] == "serving"]
    down = [str(backend["name"]) for backend in interface.backends if backend["state"] != "serving"]
    words = f"Open WebUI {interface.version} lets the administrator in and nobody else, lists the models of "
    words += counted(len(serving), "back end")
    words += f", gets none from {', '.join(down)}" if down else ""
    return words + (f"; {interface.answer['model']} answered through it" if interface.answer else "")


def failures(proof: FleetProof) -> list[str]:
    """The hosts of which something is not proved."""
    return list(dict.fromkeys(part.host for part in proof.parts if not part.proved))


def summary(proof: FleetProof) -> str:
    """What is with the fleet, in one line."""
    proved = len({part.host for part in proof.parts} - set(failures(proof)))
    parts = [f"{counted(proved, 'host')} proved"] if proved else []
    if failures(proof):
        parts.append(f"not proved: {', '.join(failures(proof))}")
    if proof.unasked:
        parts.append(f"{', '.join(proof.unasked)} could not be asked: see above")
    return "; ".join(parts) + "."

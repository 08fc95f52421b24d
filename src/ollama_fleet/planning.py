"""The plan of a fleet: what `up` would do on each host, and why. Read by people as a note, by programs as JSON."""

import json
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ollama_fleet import inventory_check
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions, run_playbook

SCHEMA = "ollama-fleet/plan/2"
# A note is read best when its lines are not much longer than this.
WIDEST = 140
NAMED = 12


@dataclass(frozen=True)
class Note:
    """What was chosen for one topic, and why."""

    topic: str
    choice: str
    reason: str


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be done: the rule, the cards that it is about, and what to do."""

    rule: str
    cards: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Step:
    """One role on one host: whether it would run, the reason in words, and what it would decide there."""

    role: str
    needed: bool
    reason: str
    notes: tuple[Note, ...] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True)
class HostPlan:
    """One host: what it is, and its steps in order."""

    host: str
    system: str
    architecture: str
    kernel: str
    cards: str
    steps: tuple[Step, ...]

    @property
    def waiting(self) -> tuple[Step, ...]:
        """The steps that would run."""
        return tuple(step for step in self.steps if step.needed)

    @property
    def refused(self) -> bool:
        """Whether something that the inventory asks for cannot work on this host."""
        return any(step.refusal for step in self.steps)

    def key(self) -> tuple[object, ...]:
        """What hosts share that are told about together."""
        return (self.system, self.architecture, self.kernel, self.cards, self.waiting)


@dataclass(frozen=True)
class FleetPlan:
    """The plans of all hosts that could be observed, and Ansible's exit code for the others (0: there are none)."""

    hosts: tuple[HostPlan, ...]
    ansible_exit_code: int = 0
    unplanned: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 2 changes wait, 1 a host could not be planned or cannot get what is asked for."""
        if self.ansible_exit_code or self.unplanned or any(host.refused for host in self.hosts):
            return 1
        return 2 if any(host.waiting for host in self.hosts) else 0

    @property
    def summary(self) -> dict[str, int]:
        """How many hosts and steps there are, by what is with them."""
        refused = [host for host in self.hosts if host.refused]
        waiting = [host for host in self.hosts if host.waiting and not host.refused]
        return {
            "hosts": len(self.hosts),
            "as_described": len(self.hosts) - len(waiting) - len(refused),
            "waiting": len(waiting),
            "refused": len(refused),
            "steps": sum(len(host.waiting) for host in waiting),
        }

    def to_json(self) -> str:
        """The plan as JSON, as docs/drivers.md documents it."""
        data = {
            "schema": SCHEMA,
            "exit_code": self.exit_code,
            "summary": self.summary,
            "unplanned": list(self.unplanned),
            "hosts": [asdict(host) for host in self.hosts],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)


def host_plan(name: str, data: Mapping[str, Any]) -> HostPlan:
    """A host's plan from what the plan action returned for it."""
    return HostPlan(host=name, **data["host"], steps=tuple(step(item) for item in data["steps"]))


def step(item: Mapping[str, Any]) -> Step:
    """A step from what the plan action returned."""
    refusal = item.get("refusal")
    return Step(
        role=item["role"],
        needed=item["needed"],
        reason=item["reason"],
        notes=tuple(Note(**note) for note in item.get("notes") or ()),
        refusal=Refusal(refusal["rule"], tuple(refusal["cards"]), refusal["remedy"]) if refusal else None,
    )


def make_plan(inventory: Path, limit: str | None) -> FleetPlan:
    """Observe the hosts and plan for them; Ansible's own output is shown only when something went wrong."""
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-plan-") as folder:
        options = PlaybookOptions(limit=limit, extra_vars=[f"ollama_fleet_plan_folder={folder}"])
        code = run_playbook("plan", inventory, options, quiet=True)
        plans = sorted(Path(folder).glob("*.json"), key=lambda path: natural(path.stem))
        hosts = tuple(host_plan(path.stem, json.loads(path.read_text())) for path in plans)
    if hosts and not code:
        return FleetPlan(hosts)
    # Only now, because it takes a second: who should have been planned, or why there is nobody.
    names = [host.name for host in inventory_check.check(inventory, limit)]
    if not hosts:
        raise FleetError(
            f"plan for {inventory}", "no host could be planned", "see the problems above, then run it again"
        )
    planned = {host.host for host in hosts}
    return FleetPlan(hosts, code, tuple(name for name in names if name not in planned))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts gpu2 before gpu10."""
    parts = "".join(char if char.isdigit() else f" {char} " for char in name).split()
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def show(plan: FleetPlan, console: Console) -> None:
    """Print the plan as a note."""
    for line in render(plan, min(console.width, WIDEST)):
        # The names of hosts stand at the left edge.
        style = "bold" if line and not line.startswith(" ") else None
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def render(plan: FleetPlan, width: int) -> Iterator[str]:
    """The plan as lines: hosts that wait with their steps and notes, then one line for those that are as described."""
    groups: dict[tuple[object, ...], list[HostPlan]] = {}
    for host in plan.hosts:
        if host.waiting:
            groups.setdefault(host.key(), []).append(host)
    for members in groups.values():
        yield from of_hosts(members, width)
        yield ""
    yield from wrapped("", summary_line(plan), width)


def of_hosts(members: list[HostPlan], width: int) -> Iterator[str]:
    """The plan that some hosts share."""
    one = members[0]
    names = [host.host for host in members]
    number = f" ({len(names)} hosts)" if len(names) > 1 else ""
    yield from wrapped(", ".join(names) + number + ": ", f"{one.cards}, {one.system}, {one.architecture}", width)
    yield from wrapped("  ", f"kernel {one.kernel}", width)
    if one.refused:
        for item in one.waiting:
            if item.refusal:
                yield from wrapped(f"  {item.role}: ", "refused, and nothing else is done here until then", width)
                yield from of_refusal(item.refusal, width)
        return
    for roles, item in together(one.waiting):
        yield from wrapped(f"  {', '.join(roles)}: ", item.reason, width)
        yield from of_notes(item.notes, width)


def together(steps: tuple[Step, ...]) -> list[tuple[list[str], Step]]:
    """Steps in order, those that follow each other for one and the same reason as one."""
    result: list[tuple[list[str], Step]] = []
    for item in steps:
        previous = result[-1][1] if result else None
        plain = not item.notes and item.refusal is None
        if previous and plain and not previous.notes and not previous.refusal and previous.reason == item.reason:
            result[-1][0].append(item.role)
        else:
            result.append(([item.role], item))
    return result


def of_refusal(refusal: Refusal, width: int) -> Iterator[str]:
    lines = [("rule", refusal.rule), ("cards", "; ".join(refusal.cards)), ("remedy", refusal.remedy)]
    yield from table([(name, text) for name, text in lines if text], width)


def of_notes(notes: tuple[Note, ...], width: int) -> Iterator[str]:
    # The header has named the cards; the note says of them only what else there is to say.
    told = [note for note in notes if note.topic != "cards" or note.reason]
    yield from table(
        [(note.topic, f"{note.choice}: {note.reason}" if note.reason else note.choice) for note in told], width
    )


def table(rows: list[tuple[str, str]], width: int) -> Iterator[str]:
    """Names to the left, texts to the right of them."""
    left = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        yield from wrapped(f"      {name.ljust(left)}  ", text, width)


def wrapped(start: str, text: str, width: int) -> Iterator[str]:
    """A text after its label, further lines below where it starts, or a little further in where the label is long."""
    indent = len(start) if len(start) < width // 3 else len(start) - len(start.lstrip()) + 4
    lines = textwrap.wrap(
        start + text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    yield from lines


def summary_line(plan: FleetPlan) -> str:
    """What is with the fleet, in one line."""
    count = plan.summary
    parts = []
    if count["waiting"]:
        steps = counted(count["steps"], "step waits", "steps wait")
        parts.append(f"{steps} on {counted(count['waiting'], 'host')}")
    if count["refused"]:
        parts.append(f"{counted(count['refused'], 'host')} cannot get what is asked for")
    done = [host.host for host in plan.hosts if not host.waiting]
    names = f" ({', '.join(done)})" if done and len(done) <= NAMED and parts else ""
    parts.append(f"{counted(count['as_described'], 'host is', 'hosts are')} as described{names}")
    if plan.unplanned:
        parts.append(f"{', '.join(plan.unplanned)} could not be planned: see above")
    return "; ".join(parts) + "."


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"

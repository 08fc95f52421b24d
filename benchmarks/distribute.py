"""Measures how a model gets to a fleet: each host from the far source, or once to a cache and from there to the hosts.

It runs on the lab, whose model source stands for the far one behind an uplink: tc caps both links and counts bytes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from lab.containers import Containers
from lab.docker import Docker
from lab.lab import Lab
from lab.services import MODELS
from lab.state import State
from lab.system import privileged
from ollama_fleet import inventory
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import environment

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
SCHEMA = "ollama-fleet/distribute/1"
STORE = "/var/lib/ollama-model-cache"
SCRATCH = "/var/lib/ollama-fleet-distribute"
PORT = 11436


@dataclass(frozen=True)
class Round:
    """One measurement. seconds: from the command to the last host's last layer, the filling of the cache included.
    uplink_bytes: that left the far source, as the link counted them, headers and repeats included."""

    way: str
    hosts: int
    seconds: float
    uplink_bytes: int
    model_bytes: int

    @property
    def copies(self) -> float:
        """How often the model crossed the uplink."""
        return self.uplink_bytes / self.model_bytes


class Link:
    """The sending side of a network interface, capped by tc's token bucket. command: what runs tc there."""

    def __init__(self, name: str, command: Sequence[str], megabits: int) -> None:
        self.name, self._command, self._megabits = name, list(command), megabits

    def cap(self) -> None:
        # A bucket must hold what comes between two ticks of the kernel (250 Hz here), and a packet at the very least.
        burst = max(64_000, self._megabits * 1_000_000 // 8 // 100)
        bucket = ["tbf", "rate", f"{self._megabits}mbit", "burst", str(burst), "latency", "100ms"]
        self._tc("qdisc", "replace", "dev", "eth0", "root", *bucket)

    def uncap(self) -> None:
        self._tc("qdisc", "del", "dev", "eth0", "root")

    def sent(self) -> int:
        """Bytes since it was capped."""
        qdiscs = json.loads(self._tc("-s", "-j", "qdisc", "show", "dev", "eth0"))
        return int(next(qdisc["bytes"] for qdisc in qdiscs if qdisc["kind"] == "tbf"))

    def _tc(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, "tc", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FleetError(
                f"the link of {self.name} cannot be capped", done.stderr.strip(), "run this on a lab: ./inv lab"
            )
        return done.stdout


class Bench:
    """The lab, with the model to distribute and the host that plays the cache."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._lab = Lab(ROOT)
        self.folder = self._lab.paths.inventory
        hosts = {host.name: host for host in inventory.read(self.folder)}
        self.clients = [name for name, host in hosts.items() if "gpu_servers" in host.groups and name != options.cache]
        if options.cache not in hosts:
            raise FleetError(f"no host {options.cache}", "it is not in the lab", f"name one of {', '.join(hosts)}")
        self.cache, self.model = options.cache, options.model
        self.address = hosts[options.cache].address
        self.far = f"{MODELS}/library/{options.model}"
        docker = Docker(State.load(self._lab.paths.state).docker_host or "")
        source = docker.inspect("container", [Containers(docker, self._lab.paths).full_name("models")])
        enter = privileged(["nsenter", "--target", str(source[0]["State"]["Pid"]), "--net"])
        self.uplink = Link("the model source", enter, options.uplink)
        inside = [*self._lab.ssh_command(options.cache), "sudo"]
        self.lan = Link(options.cache, inside, options.lan)

    def prepare(self) -> None:
        self._play("main")

    def tidy(self) -> None:
        self._play("remove")
        self._on([*self.clients, self.cache], "file", {"path": SCRATCH, "state": "absent"})

    def measure(self, way: str, count: int) -> Round:
        """Let so many hosts have the model, none of which has a byte of it."""
        clients = self.clients[:count]
        self._on(clients, "file", {"path": SCRATCH, "state": "absent"})
        self._on([self.cache], "file", {"path": STORE, "state": "absent"})
        far = {"name": self.model, "source": self.far, "insecure": True}
        near = {
            "name": self.model,
            "source_host": f"{self.address}:{PORT}",
            "ca_certificate": "{{ vault_fleet_ca_certificate }}",
        }
        before, started = self.uplink.sent(), time.monotonic()
        if way == "cache":
            self._on([self.cache], "model_store", {**far, "path": STORE})
        results = self._on(clients, "model_store", {**(near if way == "cache" else far), "path": SCRATCH})
        seconds = time.monotonic() - started
        return Round(way, count, round(seconds, 2), self.uplink.sent() - before, sum(results[0]["layers"].values()))

    def overhead(self) -> float:
        """Seconds that a command takes on one host where nothing is to do: Ansible's own share of each figure."""
        started = time.monotonic()
        self._on(self.clients[:1], "file", {"path": "/nowhere", "state": "absent"})
        return round(time.monotonic() - started, 2)

    def _on(self, hosts: Sequence[str], module: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run a module on these hosts at once; its result from each."""
        full = f"ansible.builtin.{module}" if module == "file" else f"ollama_fleet.stack.{module}"
        with tempfile.TemporaryDirectory(prefix="ollama-fleet-distribute-") as tree:
            command = ["ansible", ",".join(hosts), "--inventory", str(self.folder), "--forks", str(len(hosts))]
            self._run([*command, "--tree", tree, "-m", full, "-a", json.dumps(dict(arguments))])
            return [json.loads((Path(tree) / host).read_text()) for host in hosts]

    def _play(self, tasks: str) -> None:
        variables = {
            "distribute_model": self.model,
            "distribute_source": self.far,
            "distribute_tasks": tasks,
        }
        playbook = str(HERE / "distribute.yml")
        command = ["ansible-playbook", "--inventory", str(self.folder), "--limit", self.cache, playbook]
        self._run([*command, "-e", json.dumps(variables)])

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(self.folder), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FleetError(command[0], f"exit {done.returncode}: {(done.stdout + done.stderr)[-2000:]}", "see there")


@contextmanager
def capped(links: Sequence[Link]) -> Iterator[None]:
    """Links as slow as they are to be, and as they were afterwards."""
    done = []
    try:
        for link in links:
            link.cap()
            done.append(link)
        yield
    finally:
        for link in done:
            link.uncap()


def main() -> int:
    """Measure and print; 0 when the model crossed the uplink once through the cache, 1 when not, 2 when nothing could
    be measured."""
    options = parse()
    try:
        bench = Bench(options)
        counts = [count for count in options.hosts if count <= len(bench.clients)]
        if not counts:
            raise FleetError("distribute", f"the lab has {len(bench.clients)} GPU hosts", "./inv lab --hosts 8")
        rounds = run(bench, counts)
    except FleetError as error:
        say(f"distribute: {error}", sys.stderr)
        return 2
    report = {
        "schema": SCHEMA,
        "uplink_mbit": options.uplink,
        "lan_mbit": options.lan,
        "ansible_s": rounds[1],
        "cores": len(os.sched_getaffinity(0)),
        "rounds": [{**asdict(item), "copies": round(item.copies, 3)} for item in rounds[0]],
    }
    show(report)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    say(str(options.json))
    # Headers of packets and what was sent again take some percent.
    return 0 if all(item.copies < 1.15 for item in rounds[0] if item.way == "cache") else 1


def run(bench: Bench, counts: Sequence[int]) -> tuple[list[Round], float]:
    """All rounds, each way in turn, and Ansible's own share."""
    rounds = []
    try:
        bench.prepare()
        with capped([bench.uplink, bench.lan]):
            for count in counts:
                for way in ("naive", "cache"):
                    rounds.append(bench.measure(way, count))
                    say(f"{count} hosts, {way}: {rounds[-1].seconds:.1f} s", sys.stderr)
        return rounds, bench.overhead()
    finally:
        bench.tidy()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/distribute", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4, 8], help="how many (default: 1 2 4 8)")
    parser.add_argument("--model", default="smollm2:135m", help="a model of the lab's source (default: smollm2:135m)")
    parser.add_argument("--cache", default="web1", help="host that plays the cache (default: web1)")
    parser.add_argument("--uplink", type=int, default=100, help="Mbit/s of the far source (default: 100)")
    parser.add_argument("--lan", type=int, default=1000, help="Mbit/s of the cache's link (default: 1000)")
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "distribute.json", help="file for the figures")
    return parser.parse_args()


def show(report: Mapping[str, Any]) -> None:
    """The figures as a table."""
    say(f"uplink {report['uplink_mbit']} Mbit/s, cache's link {report['lan_mbit']} Mbit/s, {report['cores']} cores")
    say(f"Ansible's own share of each command: {report['ansible_s']:.1f} s")
    say(f"{'hosts':>6} {'way':<8}{'seconds':>9}{'MB over the uplink':>20}{'copies':>8}")
    for item in report["rounds"]:
        megabytes = item["uplink_bytes"] / 1e6
        say(f"{item['hosts']:>6} {item['way']:<8}{item['seconds']:>9.1f}{megabytes:>20.1f}{item['copies']:>8.2f}")


def say(text: str, file: TextIO = sys.stdout) -> None:
    """One line for the person who waits."""
    file.write(text + "\n")
    file.flush()


if __name__ == "__main__":
    sys.exit(main())

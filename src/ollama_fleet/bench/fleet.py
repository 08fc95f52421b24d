"""Measures a whole fleet: each host in a thread and through a tunnel of its own. One bad host stops no other."""

import queue
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ollama_fleet import __version__, inventory
from ollama_fleet.bench import workload as workloads
from ollama_fleet.bench.measure import Measurement, ModelError, SamplesError, requests_planned
from ollama_fleet.bench.progress import Watcher, watch
from ollama_fleet.bench.result import BenchReport, Failure, FailureKind, HostResult, Machine
from ollama_fleet.bench.workload import Workload
from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host
from ollama_fleet.ollama import Client, UnreachableError
from ollama_fleet.ssh import TunnelError
from ollama_fleet.tunnel import Tunnel

# One line each; a host that lacks one of them answers with less.
_ABOUT = """
. /etc/os-release 2>/dev/null; echo "os=$PRETTY_NAME"
echo "kernel=$(uname -sr)"
echo "cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)"
echo "cpus=$(nproc 2>/dev/null)"
gpus=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null) && echo "$gpus" | sed 's/^/gpu=/'
"""


@dataclass(frozen=True)
class Choices:
    """What a person may choose. `forks`: how many hosts at once, None for all. `silence`: seconds without a byte."""

    limit: str | None = None
    workload: str = "smoke"
    model: str | None = None
    group: str = "gpu_servers"
    forks: int | None = None
    silence: float = 300.0


def run(folder: Path, console: Console, choices: Choices | None = None) -> BenchReport:
    """Measure the hosts of an inventory and tell the console how far it is.

    Raises FleetError when nothing could be started: no inventory, no host, no workload. A host that fails is in the
    report with its reason.
    """
    choices = choices or Choices()
    workload = workloads.load(choices.workload)
    hosts = inventory.read(folder, choices.group, choices.limit)
    model = choices.model or workload.model
    started = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with watch(console, [host.name for host in hosts], requests_planned(workload)) as watcher:
        results = _all_hosts(hosts, workload, model, choices, watcher)
    return BenchReport(
        created=created,
        tool=f"ollama-fleet {__version__}",
        inventory=str(folder),
        limit=choices.limit,
        forks=min(choices.forks or len(hosts), len(hosts)),
        model=model,
        workload={**asdict(workload), "prompts": list(workload.prompts), "raw": True},
        hosts=[results[host.name] for host in hosts],
        seconds=time.monotonic() - started,
    )


def _all_hosts(
    hosts: list[Host], workload: Workload, model: str, choices: Choices, watcher: Watcher
) -> dict[str, HostResult]:
    done: queue.Queue[HostResult] = queue.Queue()
    seats = threading.Semaphore(choices.forks or len(hosts))

    def one(host: Host) -> None:
        with seats:
            result = measure_host(host, workload, model, choices.silence, watcher)
        done.put(result)

    # Daemons: a person who presses Ctrl-C does not wait for a slow host.
    for host in hosts:
        threading.Thread(target=one, args=(host,), name=f"bench {host.name}", daemon=True).start()
    results = {}
    for _ in hosts:
        result = done.get()
        results[result.name] = result
        watcher.finished(result.name, outcome(result), result.failure is not None)
    return results


def measure_host(host: Host, workload: Workload, model: str, silence: float, watcher: Watcher) -> HostResult:
    """Measure one host. Whatever goes wrong becomes the result's `failure`."""
    result = HostResult(name=host.name, address=host.address)

    def progress(text: str, done: int) -> None:
        watcher.step(host.name, text, done)

    try:
        progress("connecting", 0)
        with Tunnel(host) as tunnel, Client(tunnel.url, f"host {host.name}", silence=silence) as client:
            result.machine = parse_machine(tunnel.run(_ABOUT) or "")
            try:
                Measurement(client, workload, model, result, progress).run()
            except UnreachableError as error:
                raise tunnel.fault() or error from error
    except FleetError as error:
        result.failure = Failure(_kind(error), error.what, error.why, error.remedy)
    except Exception as error:
        # A fault of this program: still one host's, and never one that hides the others.
        result.failure = Failure(
            "internal", f"host {host.name}", f"{type(error).__name__}: {error}", "please report this as a bug"
        )
    return result


def _kind(error: FleetError) -> FailureKind:
    if isinstance(error, TunnelError):
        return "tunnel"
    if isinstance(error, ModelError):
        return "model"
    return "samples" if isinstance(error, SamplesError) else "server"


def parse_machine(text: str) -> Machine:
    """Read the answer to `_ABOUT`: lines of key=value."""
    pairs = [line.partition("=")[::2] for line in text.splitlines() if "=" in line]
    said = {key: value.strip() for key, value in pairs if value.strip()}
    cpus = said.get("cpus", "")
    return Machine(
        os=said.get("os"),
        kernel=said.get("kernel"),
        cpu=said.get("cpu"),
        cpus=int(cpus) if cpus.isdecimal() else None,
        gpus=tuple(value.strip() for key, value in pairs if key == "gpu"),
    )


def outcome(result: HostResult) -> str:
    """One line about a host that is through."""
    if result.failure:
        return f"failed ({result.failure.kind}): {result.failure.why}"
    decode = result.decode
    errors = f", {result.rejected} of {len(result.measured)} answers did not count" if result.rejected else ""
    return f"{decode.median:.1f} tokens/s{errors}" if decode else f"no rate{errors}"

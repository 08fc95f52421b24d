"""Measures what a converged fleet costs: ./inv up, pyinfra for the same end state, and ./inv up --full."""

import argparse
import base64
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ollama_fleet import inventory

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
SCHEMA = "ollama-fleet/converge/1"
GROUPS = {"gpu_servers", "web_servers"}
# The share of the ungated run's time that the gated one may take.
GATE = 10

# Runs on a host: what the records say is managed, with the files' contents and the folders they lie in.
READ_STATE = """
import base64, glob, json, os, pwd, stat, subprocess
manages = {}
for path in sorted(glob.glob('/var/lib/ollama-fleet/*.json')):
    for kind, things in json.load(open(path)).get('manages', {}).items():
        manages.setdefault(kind, {}).update(things)
contents = {p: base64.b64encode(open(p, 'rb').read()).decode() for p in manages.get('files', {}) if os.path.isfile(p)}
folders = {}
for path in manages.get('files', {}):
    folder = os.path.dirname(path)
    if 'ollama-fleet' in folder:
        status = os.stat(folder)
        mode, owner = format(stat.S_IMODE(status.st_mode), 'o'), pwd.getpwuid(status.st_uid).pw_name
        folders[folder] = {'mode': mode, 'owner': owner}
projects = {}
for name in manages.get('containers', {}):
    label = '{{index .Config.Labels "com.docker.compose.project.working_dir"}}'
    projects[name] = subprocess.check_output(['docker', 'inspect', '--format', label, name], text=True).strip()
print(json.dumps({'manages': manages, 'contents': contents, 'folders': folders, 'projects': projects}))
"""


class BenchmarkError(Exception):
    """What keeps the benchmark from being one."""


@dataclass
class Contender:
    """One way to the same end state, with the seconds of its rounds."""

    name: str
    run: Callable[[], tuple[float, int]]
    seconds: list[float] = field(default_factory=list)
    operations: int = 0

    def once(self) -> float:
        """Run it, keep how many operations it looked at, and return the seconds."""
        seconds, self.operations = self.run()
        return seconds

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.seconds)


def main() -> int:
    """Measure and print; 0 when the limits hold, 1 when they do not, 2 when nothing could be measured."""
    options = parse()
    hosts = [host for host in inventory.read(options.inventory, limit=options.limit) if host.groups & GROUPS]
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-converge-") as folder:
        try:
            prepare_pyinfra()
            wanted = write_wanted(hosts, Path(folder))
            contenders = [
                Contender("./inv up", lambda: ours(options)),
                Contender("pyinfra", lambda: pyinfra(wanted)),
                Contender("./inv up --full", lambda: ours(options, "--full")),
            ]
            measure(contenders, options.rounds)
        except BenchmarkError as error:
            say(f"converge: {error}", sys.stderr)
            return 2
    report = summary(contenders, len(hosts))
    show(report)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    say(str(options.json))
    return 0 if all(limit["holds"] for limit in report["limits"]) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/converge", description=__doc__)
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventory" / "lab", help="folder")
    parser.add_argument("--limit", help="only these hosts or groups, as for ansible-playbook")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up (default: 5)")
    parser.add_argument("--json", type=Path, default=ROOT / "reports" / "converge.json", help="file for the figures")
    options = parser.parse_args()
    options.inventory = options.inventory.resolve()
    return options


def measure(contenders: list[Contender], rounds: int) -> None:
    """One warm-up, then the rounds. In each all take their turn, so that what else the machine does hits all alike."""
    for number in range(rounds + 1):
        for contender in contenders:
            seconds = contender.once()
            if number:
                contender.seconds.append(seconds)
            name = f"round {number}" if number else "warm-up"
            say(f"{name}: {contender.name} {seconds:.2f} s", sys.stderr)


def say(text: str, file: TextIO = sys.stdout) -> None:
    """One line for the person who waits."""
    file.write(text + "\n")
    file.flush()


# ---------------------------------------------------------------- the contenders


def ours(options: argparse.Namespace, *more: str) -> tuple[float, int]:
    """Run ./inv up with connections of its own, and count Ansible's tasks. It must change nothing."""
    with tempfile.TemporaryDirectory(prefix="of-") as sockets:
        # pyinfra connects anew each time, so this does as well.
        environment = {**os.environ, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets, "ANSIBLE_NOCOLOR": "1"}
        command = [str(ROOT / "inv"), "up", "--inventory", str(options.inventory), *more]
        command += ["--limit", options.limit] if options.limit else []
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        close_connections(Path(sockets))
    if done.returncode:
        raise BenchmarkError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr}")
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    counts = [
        dict(part.split("=") for part in line.split() if "=" in part) for line in recap.splitlines() if " : " in line
    ]
    changed = sum(int(count["changed"]) for count in counts)
    if changed:
        raise BenchmarkError(
            f"{shlex.join(command)} changed {changed} things: the hosts are not converged, run it first"
        )
    return seconds, sum(int(count["ok"]) for count in counts)


def close_connections(folder: Path) -> None:
    """End the connections that ssh keeps open in the background, so that they do not weigh on the next contender."""
    for socket in folder.iterdir():
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "nobody"], capture_output=True, check=False)


def pyinfra(wanted: Path) -> tuple[float, int]:
    """Run the deploy and count its operations. Each must find nothing to change."""
    environment = {**os.environ, "OLLAMA_FLEET_BENCHMARK": str(wanted)}
    command = [str(venv_folder() / "bin" / "pyinfra"), "-y", "--json", "inventory.py", "deploy.py"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=HERE / "pyinfra", env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise BenchmarkError(f"pyinfra ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return seconds, count_unchanged(done.stdout)


# ---------------------------------------------------------------- pyinfra's side


def venv_folder() -> Path:
    """Where pyinfra's own environment is: it shares none with the project."""
    return ROOT / ".cache" / "benchmarks" / "pyinfra"


def prepare_pyinfra() -> None:
    """Make pyinfra's environment from its lock, once for each content of the lock."""
    lock = HERE / "pyinfra" / "requirements.lock"
    stamp = venv_folder() / "lock"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    venv.create(venv_folder(), clear=True, with_pip=True)
    pip = [str(venv_folder() / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--require-hashes", "-r", str(lock)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"pyinfra cannot be installed:\n{done.stderr[-2000:]}")
    stamp.write_bytes(lock.read_bytes())


def write_wanted(hosts: list[Any], folder: Path) -> Path:
    """Write what pyinfra shall bring about on each host, taken from what the roles say they manage there."""
    if not hosts:
        raise BenchmarkError("no host is left: put hosts into the inventory, or give another --limit")
    with ThreadPoolExecutor(16) as pool:
        entries = list(pool.map(lambda host: entry(host, folder), hosts))
    path = folder / "fleet.json"
    path.write_text(json.dumps({"hosts": entries}))
    return path


def entry(host: Any, folder: Path) -> dict[str, Any]:
    """One host for pyinfra's inventory. The folder is for this user only: the contents hold secrets."""
    state = read_state(host)
    manages = state["manages"]
    if not manages.get("packages"):
        raise BenchmarkError(f"{host.name} has no records of applied roles: run ./inv up first")
    files = {}
    for number, (path, file) in enumerate(sorted(manages.get("files", {}).items())):
        content = folder / f"{host.name}-{number}"
        content.write_bytes(base64.b64decode(state["contents"][path]))
        files[path] = {"content": str(content), "mode": file["mode"].lstrip("0"), "owner": file["owner"]}
    containers = {
        name: {**container, "project_dir": state["projects"][name]}
        for name, container in manages.get("containers", {}).items()
    }
    wanted = {
        "packages": manages.get("packages", {}),
        "holds": sorted(manages.get("holds", {})),
        "directories": state["folders"],
        "files": files,
        "members": manages.get("members", {}),
        "services": manages.get("services", {}),
        "containers": containers,
        "models": manages.get("models", {}),
    }
    return {"name": host.name, "data": {**pyinfra_connection(host), "_sudo": True, "wanted": wanted}}


def pyinfra_connection(host: Any) -> dict[str, Any]:
    """The inventory's own connection settings in pyinfra's words."""
    settings = {"ssh_hostname": host.address, "ssh_strict_host_key_checking": "yes"}
    if host.user:
        settings["ssh_user"] = host.user
    if host.port:
        settings["ssh_port"] = host.port
    if host.private_key:
        settings["ssh_key"] = str(host.private_key)
    if host.ssh.known_hosts:
        settings["ssh_known_hosts_file"] = str(host.ssh.known_hosts[0])
    return settings


def read_state(host: Any) -> dict[str, Any]:
    """What a host's records say is managed, as it stands there."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    command += ["-i", str(host.private_key), "-o", "IdentitiesOnly=yes"] if host.private_key else []
    command += ["-o", f"UserKnownHostsFile={' '.join(map(str, host.ssh.known_hosts))}"] if host.ssh.known_hosts else []
    command += ["-p", str(host.port)] if host.port else []
    command += [f"{host.user}@{host.address}" if host.user else host.address, "sudo -n python3 -"]
    done = subprocess.run(command, input=READ_STATE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{host.name}: its records cannot be read:\n{done.stderr[-1000:]}")
    state: dict[str, Any] = json.loads(done.stdout)
    return state


def count_unchanged(output: str) -> int:
    """How many operations on hosts pyinfra looked at; an error when one of them changed something or failed."""
    results = json.loads(output)["results"]
    count = 0
    for operation in results["operations"]:
        done = {
            outcome: len(operation[outcome]) for outcome in ("success", "error", "no_change") if outcome in operation
        }
        count += sum(done.values())
        if done.get("success") or done.get("error"):
            raise BenchmarkError(f"pyinfra found something to change: {operation}")
    return count


# ---------------------------------------------------------------- the report


def summary(contenders: list[Contender], hosts: int) -> dict[str, Any]:
    """The figures as JSON has them."""
    gated, other, full = contenders
    return {
        "schema": SCHEMA,
        "hosts": hosts,
        "rounds": len(gated.seconds),
        "machine": machine(),
        "contenders": [
            {
                "name": item.name,
                "median_s": round(item.median, 3),
                "min_s": round(min(item.seconds), 3),
                "max_s": round(max(item.seconds), 3),
                "of_up": round(item.median / gated.median, 2),
                "operations": item.operations,
                "seconds": [round(value, 3) for value in item.seconds],
            }
            for item in contenders
        ],
        "limits": [
            {"name": "./inv up takes at most pyinfra's time", "holds": gated.median <= other.median},
            {
                "name": f"./inv up takes at most 1/{GATE} of ./inv up --full",
                "holds": gated.median <= full.median / GATE,
            },
        ],
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1m": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def show(report: Mapping[str, Any]) -> None:
    """The figures as a table."""
    on = report["machine"]
    say(f"{report['hosts']} converged hosts, {report['rounds']} rounds in turn")
    say(f"on {on['cores']} cores of {on['processor']}, Linux {on['kernel']}, Python {on['python']}")
    say(f"{'':<18}{'median s':>10}{'min':>8}{'max':>8}{'x up':>8}{'operations':>12}")
    for item in report["contenders"]:
        say(
            f"{item['name']:<18}{item['median_s']:>10.2f}{item['min_s']:>8.2f}{item['max_s']:>8.2f}"
            f"{item['of_up']:>8.2f}{item['operations']:>12}"
        )
    for limit in report["limits"]:
        say(f"{'holds' if limit['holds'] else 'FAILS'}: {limit['name']}")


if __name__ == "__main__":
    sys.exit(main())

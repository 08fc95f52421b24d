"""What there is of the lab, for a person to read."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab import hosts, services
from lab.containers import Container, Containers
from lab.hosts import Host
from lab.state import State
from lab.system import privileged, run


@dataclass(frozen=True)
class HostStatus:
    """One host. state: "running", "exited", ...; ssh: whether a login works; containers: "NAME: STATUS" inside it."""

    name: str
    address: str
    group: str
    state: str
    ssh: bool
    containers: tuple[str, ...]


@dataclass(frozen=True)
class LabStatus:
    """What there is of the lab.

    docker: where its Docker engine answers; own_engine: the lab started it
    engine: the hosts' model engine, "stand-in" or "ollama"
    services: state by name, as "registry.lab:5000"
    disk: bytes on disk, where the engine is the lab's own: everything; else without the hosts' own data
    """

    docker: str
    own_engine: bool
    engine: str
    subnet: str
    hosts: tuple[HostStatus, ...]
    services: tuple[tuple[str, str], ...]
    disk: int


def gather(lab: Containers, state: State) -> LabStatus:
    """Look at everything that the lab is made of."""
    there = lab.all()
    fleet = sorted(hosts.fleet(there), key=lambda host: (host.group or "z", host.name))
    with ThreadPoolExecutor() as pool:
        rows = pool.map(lambda host: _host(lab, host, there[host.name]), fleet)
        disk = pool.submit(_disk, lab, state)
        names = (("registry", services.REGISTRY), ("models", services.MODELS))
        return LabStatus(
            docker=lab.docker.host or "the engine of this machine",
            own_engine=state.own_engine is not None,
            engine=state.engine or "",
            subnet=state.subnet or "",
            hosts=tuple(rows),
            services=tuple((address, there[name].state if name in there else "not there") for name, address in names),
            disk=disk.result(),
        )


def _host(lab: Containers, host: Host, container: Container) -> HostStatus:
    running = container.state == "running"
    inside: list[str] = []
    if running:
        listing = lab.docker.command(
            "exec", container.id, "docker", "ps", "--all", "--format", "{{.Names}}: {{.Status}}"
        )
        done = subprocess.run(listing, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        # A bare host has no Docker yet, so nothing in it either.
        inside = done.stdout.splitlines() if done.returncode == 0 else []
    ssh = running and not hosts.ssh_answers(lab.paths, host)
    return HostStatus(host.name, host.address, host.group, container.state, ssh, tuple(inside))


def _disk(lab: Containers, state: State) -> int:
    used = int(run(privileged(["du", "--summarize", "--bytes", "--one-file-system", str(lab.paths.home)])).split()[0])
    if not state.own_engine:
        names = lab.docker.run("image", "ls", "--quiet", f"--filter=label={lab.paths.label}").split()
        used += sum(int(details["Size"]) for details in lab.docker.inspect("image", sorted(set(names))))
    return used

"""The lab as a whole: up, down, hosts beside the fleet, and the way in."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lab import controller, docker_engine, hosts, images, inventory, making, releases, room, services, subnet
from lab.containers import Containers
from lab.docker import Docker
from lab.hosts import Host
from lab.paths import Paths
from lab.progress import say, step
from lab.state import State
from lab.status import LabStatus, gather
from lab.system import privileged, remove_tree, run
from ollama_fleet.errors import FleetError

Engine = Literal["stand-in", "ollama"]


class Lab:
    """The lab of the project at ROOT."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root.resolve())

    def up(self, hosts: int = 2, engine: Engine = "stand-in", assume_yes: bool = False) -> Path:
        """Bring up everything that the playbooks need: Docker engine, images, registry, models, hosts, inventory.

        hosts: GPU-server hosts, beside one web host; more or fewer than there are is fine.
        Does nothing where nothing is to do. Returns the inventory's folder. Raises FleetError.
        """
        if not 1 <= hosts <= subnet.MAX_GPU_HOSTS:
            raise FleetError(
                f"cannot make {hosts} hosts",
                f"a lab has 1 to {subnet.MAX_GPU_HOSTS} GPU-server hosts",
                "give --hosts 2",
            )
        if engine not in ("stand-in", "ollama"):
            raise FleetError(f"no engine {engine}", "the lab knows stand-in and ollama", "give --engine stand-in")
        with self._locked():
            state = State.load(self.paths.state)
            bases = releases.choose()
            if state.subnet is None:
                say(f"  a lab takes {room.needed(hosts) / 1e9:.0f} GB of disk, 4 GB of memory, and 10 minutes at first")
            ask = controller.on_terminal(assume_yes)
            lab = Containers(controller.prepare(self.paths, state, bases.controller, ask), self.paths)
            if state.subnet is None:
                room.require(lab.docker, self.paths, hosts)
            state.engine = engine
            state.subnet = self._network(lab.docker, state.subnet)
            state.save(self.paths.state)
            fleet = _fleet(state.subnet, hosts)
            for name in making.surplus(lab.all(), fleet):
                with step(f"host {name}: removal"):
                    lab.remove(name)
            made = making.make(lab, state, bases, fleet)
            state.save(self.paths.state)
            inventory.write(self.paths.inventory, inventory.render(self.paths, fleet, made))
        return self.paths.inventory

    def down(self, keep_images: bool = False) -> None:
        """Remove the lab and everything that it left on this machine; installed Debian packages stay.

        keep_images: keep images, models and what the registry holds, so that the next `up` is quick.
        """
        with self._locked():
            state = State.load(self.paths.state)
            if state.docker_host is not None:
                self._remove_from_engine(state, keep_images)
            if self.paths.inventory.exists():
                shutil.rmtree(self.paths.inventory)
            if keep_images:
                remove_tree(self.paths.ssh)
            else:
                run(privileged(["rm", "-rf", "--one-file-system", str(self.paths.home)]))

    def status(self) -> LabStatus:
        """What there is of the lab, each host asked whether it answers."""
        state = State.load(self.paths.state)
        return gather(Containers(self._docker(state), self.paths), state)

    def ssh_command(self, host: str) -> list[str]:
        """The command line that logs in to a host. Raises FleetError when there is no such host."""
        return hosts.ssh_command(self.paths, self._host(host))

    def add_host(self, name: str) -> Host:
        """Start a fresh host beside the fleet: bare, in no group and not in inventory/lab; wait until it answers.

        The lab must be up. Raises FleetError.
        """
        with self._locked():
            state = State.load(self.paths.state)
            lab = Containers(self._docker(state), self.paths)
            there = lab.all()
            known = {host.name: host for host in hosts.fleet(there)}
            address = subnet.free_extra(state.subnet or "", [container.address for container in there.values()])
            host = known.get(name) or Host(name, address, group="")
            image = images.build(lab.docker, self.paths, images.host(releases.choose().hosts))
            hosts.prepare_ssh(self.paths, [*known.values(), host])
            hosts.ensure(lab, image, host, there)
            hosts.wait_for_ssh(lab, host)
        return host

    def remove_host(self, name: str) -> None:
        """Remove a host that `add_host` made; the lab must be up, the host need not be there."""
        with self._locked():
            lab = Containers(self._docker(State.load(self.paths.state)), self.paths)
            if name in lab.all():
                lab.remove(name)

    def publish(self, name: str) -> str:
        """Have one of the images in the lab's registry that only tests need; return its name there, with digest.

        name: open-webui-before, open-webui-broken or database. The lab must be up. Raises FleetError.
        """
        with self._locked():
            state = State.load(self.paths.state)
            lab = Containers(self._docker(state), self.paths)
            bases = releases.choose()
            known = [images.open_webui_before(bases.open_webui), images.open_webui_broken(bases.open_webui)]
            wanted = {image.name: image for image in [*known, images.database(bases.hosts)]}[name]
            service = images.build(lab.docker, self.paths, images.services(bases.hosts))
            port = services.ensure_registry(lab, service, state.subnet or "", lab.all())
            tag = images.build(lab.docker, self.paths, wanted)
            state.pushed[tag] = services.push(lab.docker, port, tag, state.pushed.get(tag))
            state.save(self.paths.state)
        return state.pushed[tag]

    def host_variables(self, host: Host) -> dict[str, str]:
        """Ansible's variables to reach a host of the lab: address, user, key, known hosts."""
        return {"ansible_host": host.address, "ansible_user": hosts.USER, **inventory.ssh_variables(self.paths)}

    def _host(self, name: str) -> Host:
        there = hosts.fleet(Containers(self._docker(State.load(self.paths.state)), self.paths).all())
        found = next((host for host in there if host.name == name), None)
        if found is None:
            names = ", ".join(sorted(host.name for host in there)) or "it has none: run ./inv lab"
            raise FleetError(f"no host {name} in the lab", "its name is not among the lab's hosts", f"hosts: {names}")
        return found

    def _docker(self, state: State) -> Docker:
        docker = Docker(state.docker_host or "")
        if state.docker_host is None or not docker_engine.answers(docker):
            raise FleetError("the lab is not up", "its Docker engine does not run", "bring it up: ./inv lab")
        return docker

    def _network(self, docker: Docker, known: str | None) -> str:
        """Have the lab's network; return its subnet."""
        name = self.paths.project
        if known and docker.ok("network", "inspect", name):
            return known
        chosen = str(subnet.choose(subnet.routes()))
        gateway = subnet.address(chosen, 1)
        options = [f"--subnet={chosen}", f"--gateway={gateway}", f"--label={self.paths.label}"]
        docker.run("network", "create", *options, name)
        return chosen

    def _remove_from_engine(self, state: State, keep_images: bool) -> None:
        docker = Docker(state.docker_host or "")
        if state.own_engine and not docker_engine.answers(docker) and keep_images:
            docker_engine.start(self.paths)
        if docker_engine.answers(docker):
            with step("hosts, services and network: removal"):
                lab = Containers(docker, self.paths)
                for name in lab.all():
                    lab.remove(name, volumes=not (keep_images and name == "registry"))
                if docker.ok("network", "inspect", self.paths.project):
                    docker.run("network", "rm", self.paths.project)
            if not keep_images and not state.own_engine:
                images.prune(docker, self.paths, [])
        elif not state.own_engine:
            raise FleetError(
                f"the Docker engine {docker.host or 'of this machine'} does not answer",
                "the lab lives in it",
                "start it, then run ./inv lab.down again",
            )
        if state.own_engine:
            with step("Docker engine of the lab's own: end"):
                for left in docker_engine.stop(self.paths, state.own_engine, keep_data=keep_images):
                    say(f"  left: {left}")
        state.subnet = None
        state.save(self.paths.state)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep a second ./inv lab from working on the same lab."""
        self.paths.home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.paths.home, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FleetError(
                    "the lab is busy", "another command works on it", "wait until that ends, then run this again"
                ) from error
            yield
        finally:
            os.close(descriptor)


def _fleet(network: str, gpu_hosts: int) -> list[Host]:
    gpu = [
        Host(f"gpu{number + 1}", subnet.address(network, subnet.FIRST_GPU + number), "gpu_servers")
        for number in range(gpu_hosts)
    ]
    return [*gpu, Host("web1", subnet.address(network, subnet.FIRST_WEB), "web_servers")]

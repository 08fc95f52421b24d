"""What this machine must have for a lab: Debian packages and a Docker engine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from lab import docker_engine
from lab.apt_sources import Release
from lab.docker import Docker
from lab.paths import Paths
from lab.progress import say, step
from lab.state import State, write_if_changed
from lab.system import privileged, run
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions, run_playbook

Ask = Callable[[str], bool]

_ADMIN_PATH = "/usr/sbin:/sbin"


def on_terminal(assume_yes: bool) -> Ask:
    """Asks the person at the terminal; without one, or with --yes, the answer is yes."""

    def ask(question: str) -> bool:
        if assume_yes or not sys.stdin.isatty():
            return True
        return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")

    return ask


def prepare(paths: Paths, state: State, release: Release, ask: Ask) -> Docker:
    """Install what is missing and return the Docker engine of the lab, running.

    The engine: the one that the lab has already; else the one that answers; else, with systemd, Docker set up by the
    project's own role; else one of the lab's own. Raises FleetError when something cannot be had.
    """
    chosen = _chosen(paths, state)
    packages = _missing(release, own_engine=chosen is None and not _systemd())
    if packages:
        install(packages, ask)
        # On some machines the package starts an engine.
        chosen = chosen or _chosen(paths, state)
    if chosen is None and _systemd():
        chosen = _by_role(paths, ask)
    if chosen is None:
        # An engine that was cut off has changed this machine already: what was before its first start counts.
        state.own_engine = state.own_engine or docker_engine.before()
        state.docker_host = docker_engine.own(paths).host
        state.save(paths.state)
        with step("Docker engine of the lab's own"):
            return docker_engine.start(paths)
    state.docker_host = chosen.host
    return chosen


def _chosen(paths: Paths, state: State) -> Docker | None:
    """The engine that answers, if any. Raises FleetError when it cannot be used, or the lab lives in another one."""
    if state.own_engine is not None:
        own = docker_engine.own(paths)
        return own if docker_engine.answers(own) else None
    docker = Docker(state.docker_host if state.docker_host is not None else os.environ.get("DOCKER_HOST", ""))
    if shutil.which("docker") and docker_engine.answers(docker):
        if docker.host and not docker.host.startswith("unix://"):
            raise FleetError(
                f"the Docker engine {docker.host} cannot hold the lab",
                "the lab's hosts must be reachable from this machine, and that engine is on another",
                "run the command on that machine, or unset DOCKER_HOST",
            )
        return docker
    if state.docker_host is not None:
        raise FleetError(
            f"the Docker engine {docker.host or 'of this machine'} does not answer",
            "the lab lives in it",
            "start it; or, when it is gone for good, delete .lab and inventory/lab and run ./inv lab again",
        )
    return None


def _missing(release: Release, own_engine: bool) -> list[str]:
    """Debian packages that this machine lacks for the lab."""
    needed = {
        "mmdebstrap": _program("mmdebstrap"),
        release.keyring_package: Path(release.keyring).exists(),
        "openssh-client": _program("ssh"),
    }
    if own_engine:
        needed |= {"docker.io": _program("dockerd"), "iproute2": _program("ip")}
        if not _program("docker"):
            # Newer releases have the client in a package of its own.
            needed["docker-cli" if _known("docker-cli") else "docker.io"] = False
    return [package for package, there in needed.items() if not there]


def install(packages: list[str], ask: Ask) -> None:
    """Install Debian packages once the person has agreed. Raises FleetError when that is refused or fails."""
    remedy = "check that this machine's apt can reach its package sources: apt-get update"
    apt = ["apt-get", "--quiet", "--no-install-recommends"]
    run(privileged([*apt, "update"]), remedy=remedy)
    # With nobody to say yes it tells what it would do, and fails.
    done = subprocess.run([*apt, "--assume-no", "install", *packages], capture_output=True, text=True, check=False)
    sizes = [line.strip() for line in done.stdout.splitlines() if line.startswith(("Need to get", "After this"))]
    if not ask(f"This machine lacks Debian packages: {' '.join(packages)}.\n  {' '.join(sizes)}\n"):
        raise FleetError(
            "nothing was installed", "you said no", f"install them yourself: apt-get install {' '.join(packages)}"
        )
    with step(f"Debian packages {' '.join(packages)}"):
        # Questions of packages take their default answers.
        frontend = ["env", "DEBIAN_FRONTEND=noninteractive"]
        run(privileged([*frontend, *apt, "--yes", "install", *packages]), remedy=remedy)


def _by_role(paths: Paths, ask: Ask) -> Docker:
    """Set up Docker on this machine with the project's own role."""
    if not ask("No Docker engine answers on this machine: its distribution's Docker is to be installed (400 MB)."):
        raise FleetError(
            "no Docker engine answers", "you said no to installing one", "start one, or name one with DOCKER_HOST"
        )
    say("  Docker on this machine, by the role docker")
    this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    user = os.environ.get("USER", "")
    variables = this | ({"docker_users": [user]} if os.geteuid() != 0 and user else {})
    inventory = paths.home / "controller"
    write_if_changed(inventory / "hosts.yml", yaml.safe_dump({"all": {"hosts": {"controller": variables}}}))
    code = run_playbook("prepare_controller", inventory, PlaybookOptions())
    docker = Docker(os.environ.get("DOCKER_HOST", ""))
    if code != 0 or not docker_engine.answers(docker):
        raise FleetError(
            "Docker could not be set up on this machine",
            "the role docker failed, see above" if code else "it runs, but does not answer this user",
            "mend what Ansible says above; after a change of groups log in again; or run ./inv lab as root",
        )
    return docker


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _program(name: str) -> bool:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_ADMIN_PATH}") is not None


def _known(package: str) -> bool:
    return subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).returncode == 0

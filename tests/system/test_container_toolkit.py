"""Docker and the container toolkit on one host with a real Docker: installed, damaged, moved, proved and taken away.

The GPU, its driver, libcuda and the toolkit's packages are fixtures (tests/cuda_support, tests/package_support).
Docker, apt, systemd and the containers are real.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.lab import Lab
from ollama_fleet.playbook import environment
from tests.cuda_support.gpu import Gpu
from tests.package_support import container_toolkit, signing
from tests.package_support.lab import gateway
from tests.package_support.repository import ARCHITECTURE, Repository
from tests.package_support.server import Server
from tests.system.conftest import ROOT, Session
from tests.system.plan_and_apply import PLAN_AND_APPLY
from tests.system.test_lab import changed_tasks

HOST = "tk1"
TOOLKIT = "nvidia_container_toolkit"
STALE = "/etc/apt/sources.list.d/nvidia-docker.list"
STALE_TEXT = "deb https://nvidia.github.io/libnvidia-container/stable/ubuntu18.04/amd64 /\n"
PACKAGES = [
    "libnvidia-container-tools",
    "libnvidia-container1",
    TOOLKIT.replace("_", "-"),
    "nvidia-container-toolkit-base",
]
REFRESH = "nvidia-cdi-refresh"
SOURCE = "/etc/apt/sources.list.d/nvidia-container-toolkit.sources"
KEY = "/etc/apt/keyrings/nvidia-container-toolkit.asc"
PIN = "/etc/apt/preferences.d/ollama-fleet-nvidia-container-toolkit"
# What is done, and what the plan must say of it.
DAMAGES = {
    f"sudo systemctl stop {REFRESH}.path": f"service {REFRESH}.path is not running",
    f"sudo systemctl disable {REFRESH}.service": f"service {REFRESH}.service is disabled at boot, was enabled",
    "sudo apt-mark unhold libnvidia-container1": "package libnvidia-container1 is no longer held at its version",
    f"echo | sudo tee -a {PIN}": f"{PIN} was changed by hand",
    f"sudo rm {KEY}": f"{KEY} was removed",
    f"echo | sudo tee -a {SOURCE}": f"{SOURCE} was changed by hand",
    "sudo gpasswd --delete ops docker": "user ops is not in group docker",
    f"echo '{STALE_TEXT.strip()}' | sudo tee {STALE}": f"remove {STALE}: a second source of the toolkit, left by older"
    " instructions",
}
# What any of the two roles could leave behind: packages with their states, files with their sizes, groups.
STATE = """
dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\\n'
sudo find /etc /opt /usr/local /var/lib/ollama-fleet -xdev -type f ! -path '*fixture*' ! -name '*.cache' \
  ! -name 'group*' ! -name 'gshadow*' -printf '%p %s\\n' | sort
getent group | grep -v '^docker:x:[0-9]*:$'
"""
REMOVAL = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Remove",
                "ansible.builtin.include_role": {"name": "ollama_fleet.stack.{{ gone }}", "tasks_from": "remove"},
                "loop": "{{ removed_roles }}",
                "loop_control": {"loop_var": "gone"},
            }
        ],
    }
]


@dataclass
class Machine:
    """The host, its GPU, and playbooks for it. variables: those of its inventory."""

    folder: Path
    ssh: Any
    gpu: Gpu
    variables: dict[str, Any] = field(default_factory=dict)

    def play(self, playbook: Any, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        inventory = {"all": {"hosts": {HOST: self.variables | variables}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "play.yml").write_text(yaml.safe_dump(playbook))
        command = ["ansible-playbook", "-i", f"{self.folder}/hosts.yml", f"{self.folder}/play.yml", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment(self.folder), capture_output=True, text=True, check=False
        )

    def up(self, *arguments: str, roles: tuple[str, ...] = ("docker", TOOLKIT), **variables: Any) -> str:
        done = self.play(
            PLAN_AND_APPLY, *arguments, wanted_roles=["docker", TOOLKIT], applied_roles=list(roles), **variables
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, **variables: Any) -> str:
        done = self.play(
            PLAN_AND_APPLY, wanted_roles=["docker", TOOLKIT], applied_roles=["docker", TOOLKIT], **variables
        )
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stdout

    def remove(self, *roles: str) -> subprocess.CompletedProcess[str]:
        return self.play(REMOVAL, removed_roles=list(roles))

    def steps(self) -> dict[str, str]:
        """Why the last plan needed each role."""
        steps = json.loads((self.folder / "steps.json").read_text())
        return {step["role"]: step["reason"] for step in steps if step["needed"]}

    def reasons(self) -> dict[str, str]:
        """Why a plan needs each role now."""
        self.up(roles=())
        return self.steps()

    def versions(self) -> set[str]:
        return set(self.ssh(f"dpkg-query -W -f '${{Version}}\\n' {' '.join(PACKAGES)}").split())


@pytest.fixture(scope="module")
def machine(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("toolkit")
    host = Lab(ROOT).add_host(HOST)
    web = folder / "www"
    with signing.keys() as keys, Server(folder, gateway(ROOT)) as server:
        place = web / "libnvidia-container"
        packages = Repository(place / "stable" / "deb" / ARCHITECTURE, "NVIDIA's container toolkit", keys)
        packages.add(container_toolkit.packages())
        key = keys.armoured(keys.good)
        (place / "gpgkey").write_bytes(key)
        variables = {
            **Lab(ROOT).host_variables(host),
            "docker_users": ["ops"],
            "nvidia_container_toolkit_version": "1.19.1",
            "nvidia_container_toolkit_repository_url": f"{server.url}/www/libnvidia-container",
            "nvidia_container_toolkit_repository_key_checksum": f"sha256:{hashlib.sha256(key).hexdigest()}",
        }

        def ssh(command: str) -> str:
            return lab.ssh(HOST, command)

        yield Machine(folder, ssh, Gpu(ssh), variables)
    Lab(ROOT).remove_host(HOST)


@pytest.fixture(scope="module")
def before(machine: Machine) -> str:
    """The host as it was before both roles, with what older instructions left on it."""
    machine.gpu.appear()
    machine.ssh(f"echo '{STALE_TEXT.strip()}' | sudo tee {STALE}")
    # What a repository of the host's own says stays the host's own.
    machine.ssh("sudo install -d -m 0755 /etc/apt/keyrings && sudo install -d -m 0755 /etc/docker")
    return str(machine.ssh(STATE))


@pytest.fixture(scope="module")
def installed(machine: Machine, before: str) -> str:
    """What the first two runs said. The first ends with a CUDA that does not start; what it brought stays known."""
    machine.gpu.answer(init=999)
    said = machine.fails()
    machine.gpu.answer()
    return said + machine.up()


def test_check_mode_on_a_fresh_host_says_what_would_be_and_does_nothing(machine: Machine, before: str) -> None:
    said = machine.up("--check", "--diff")
    assert "nvidia-container-toolkit-base=1.19.1-1" in said
    assert f"item={STALE}" in said
    assert machine.ssh(STATE) == before


def test_toolkit_is_installed_pinned_held_and_proved(machine: Machine, installed: str) -> None:
    assert machine.versions() == {"1.19.1-1"}
    assert machine.ssh("apt-mark showhold").split() == sorted(PACKAGES)
    assert f"item={STALE}" in installed
    assert machine.ssh(f"ls {STALE} 2>/dev/null || true") == ""
    assert "CDI: Docker 26.1.5" in installed
    assert json.loads(machine.ssh("cat /etc/docker/daemon.json")) == {"features": {"cdi": True}}
    assert "CUDA 13.0 in a container, also after a daemon-reload: Fixture of an H100" in installed
    # The check leaves nothing.
    assert machine.ssh("sudo docker ps -aq; sudo docker images -q") == ""
    # apt itself moves nothing.
    assert "0 upgraded, 0 newly installed" in machine.ssh("sudo apt-get --simulate -y dist-upgrade")


def test_second_run_changes_nothing(machine: Machine, installed: str) -> None:
    assert machine.reasons() == {}
    play = [
        {"hosts": "all", "gather_facts": False, "roles": [f"ollama_fleet.stack.{name}" for name in ("docker", TOOLKIT)]}
    ]
    again = machine.play(play)
    assert again.returncode == 0, again.stdout
    assert changed_tasks(again.stdout) == {HOST: 0}, again.stdout


def test_every_damage_is_named_and_repaired(machine: Machine, installed: str) -> None:
    for command in DAMAGES:
        machine.ssh(command)
    said = "; ".join(machine.reasons().values()).split("; ")
    assert [words for words in DAMAGES.values() if words not in said] == []
    machine.up()
    assert machine.reasons() == {}


def test_move_to_another_version_is_one_step_of_all_four(machine: Machine, installed: str) -> None:
    machine.variables["nvidia_container_toolkit_version"] = "1.20.0"
    machine.up()
    assert machine.versions() == {"1.20.0-1"}
    assert machine.ssh("apt-mark showhold").split() == sorted(PACKAGES)


def test_cuda_that_does_not_start_is_told_by_name_though_nvidia_smi_answers(machine: Machine, installed: str) -> None:
    machine.gpu.answer(init=999)
    assert machine.ssh("nvidia-smi") == "GPU 0: fixture\n"
    said = machine.play(check_of(machine)).stdout
    assert "CUDA does not start in a container: cuInit answers CUDA_ERROR_UNKNOWN (999)" in said
    assert "nvidia-cdi-refresh" in said
    # A GPU whose memory is full works.
    machine.gpu.answer(context=2)
    assert machine.play(check_of(machine)).returncode == 0
    machine.gpu.answer()


def test_compose_hands_gpus_over_as_the_ollama_role_asks_for_them(machine: Machine, installed: str) -> None:
    image = "fixture:1"
    machine.ssh(
        "sudo tar -C / -ch --hard-dereference /usr/bin/ls $(ldd /usr/bin/ls | grep -o '/lib[^ ]*') 2>/dev/null"
        f" | sudo docker import - {image}"
    )
    devices = [{"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"], "capabilities": ["gpu"]}]
    service = {
        "image": image,
        "network_mode": "none",
        "command": ["/usr/bin/ls", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"],
        "deploy": {"resources": {"reservations": {"devices": devices}}},
    }
    text = json.dumps({"services": {"gpu": service}})
    said = machine.ssh(f"echo '{text}' | sudo docker compose --project-name fixture --file - run --rm --no-TTY gpu")
    machine.ssh(f"sudo docker image rm {image}")
    assert said.strip() == "/usr/lib/x86_64-linux-gnu/libcuda.so.1"


def test_gpu_that_a_daemon_reload_takes_from_a_container_is_told(machine: Machine, installed: str) -> None:
    machine.gpu.offer(until_reload=True)
    machine.gpu.answer(init=999)
    machine.ssh("sudo systemctl restart nvidia-cdi-refresh")
    said = machine.play(check_of(machine)).stdout
    assert "systemctl daemon-reload took Fixture of an H100 from a running container" in said
    assert "where it worked a moment before" in said
    machine.gpu.offer()
    machine.gpu.answer()
    machine.ssh("sudo systemctl restart nvidia-cdi-refresh")


def test_docker_stays_while_others_need_it(machine: Machine, installed: str) -> None:
    machine.ssh("sudo docker volume create theirs")
    refused = machine.remove("docker")
    assert refused.returncode == 2
    assert "volume theirs" in refused.stdout
    assert machine.ssh("sudo docker volume rm theirs") == "theirs\n"


def test_removal_takes_what_was_brought_and_nothing_else(machine: Machine, installed: str, before: str) -> None:
    gone = machine.remove(TOOLKIT, "docker")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert machine.ssh(STATE) == before
    again = machine.remove(TOOLKIT, "docker")
    assert again.returncode == 0, again.stdout + again.stderr
    assert changed_tasks(again.stdout) == {HOST: 0}, again.stdout


def check_of(machine: Machine) -> list[dict[str, Any]]:
    """A playbook that checks CUDA in a container."""
    task = {"name": "Check", "ollama_fleet.stack.cuda_check": {"injection": "cdi"}}
    return [{"hosts": "all", "gather_facts": False, "tasks": [task]}]


def test_docker_with_each_content_that_daemon_json_may_start_with(machine: Machine) -> None:
    machine.up(roles=("docker",))
    playbook = ROOT / "tests" / "system" / "playbooks" / "docker_daemon.yml"
    (machine.folder / "plain").mkdir()
    hosts = {"all": {"hosts": {HOST: machine.variables}}}
    (machine.folder / "plain" / "hosts.yml").write_text(yaml.safe_dump(hosts))
    command = ["ansible-playbook", "-i", str(machine.folder / "plain" / "hosts.yml"), str(playbook)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(machine.folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""The foundation on a fresh host: whatever the docker role manages is damaged, named by the plan and repaired."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.lab import Lab
from ollama_fleet.playbook import environment
from tests.system.conftest import ROOT, Session
from tests.system.plan_and_apply import PLAN_AND_APPLY

HOST = "fresh2"
DAEMON = "/etc/docker/daemon.json"
THIRD_PARTY = {"shutdown-timeout": 20, "insecure-registries": ["theirs.example:5000"]}
OPTIONS = {"docker_daemon_options": {"log-driver": "local", "insecure-registries": ["ours.example:5000"]}}
# Rounds of damage: what is done, and what the plan must say of it.
DAMAGES = [
    {
        f"echo '{{}}' | sudo tee {DAEMON}": f"{DAEMON} was changed by hand",
        f"sudo chmod 0666 {DAEMON}": f"the mode of {DAEMON} is 0666, was 0644",
        "sudo systemctl disable docker": "service docker is disabled at boot, was enabled",
        "sudo systemctl stop docker.socket docker": "service docker is not running",
        "sudo dpkg --remove --force-depends docker-compose": "package docker-compose is not installed",
    },
    {f"sudo rm {DAEMON}": f"{DAEMON} was removed"},
]


@dataclass
class FreshHost:
    """A host that was never provisioned, and playbooks for it."""

    folder: Path
    variables: dict[str, Any]
    ssh: Any

    def apply(self, *roles: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        inventory = {"all": {"hosts": {HOST: self.variables | {"wanted_roles": list(roles)} | variables}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "play.yml").write_text(yaml.safe_dump(PLAN_AND_APPLY))
        command = ["ansible-playbook", "-i", f"{self.folder}/hosts.yml", f"{self.folder}/play.yml"]
        env = environment(self.folder)
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    def reason(self) -> str:
        """Why the last plan needed docker; "" when it did not."""
        (step,) = json.loads((self.folder / "steps.json").read_text())
        return str(step["reason"]) if step["needed"] else ""


@pytest.fixture(scope="module")
def fresh(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshHost]:
    host = Lab(ROOT).add_host(HOST)
    yield FreshHost(
        tmp_path_factory.mktemp("fresh"), dict(Lab(ROOT).host_variables(host)), lambda command: lab.ssh(HOST, command)
    )
    Lab(ROOT).remove_host(HOST)


def test_every_damage_to_docker_is_named_and_repaired(fresh: FreshHost) -> None:
    assert fresh.apply("docker", **OPTIONS).returncode == 0
    fresh.apply("docker", **OPTIONS)
    assert fresh.reason() == ""
    for damages in DAMAGES:
        for command in damages:
            fresh.ssh(command)
        repaired = fresh.apply("docker", **OPTIONS)
        assert set(fresh.reason().split("; ")) == set(damages.values())
        assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    fresh.apply("docker", **OPTIONS)
    assert fresh.reason() == ""


def test_options_of_others_survive_and_ours_leave_when_they_are_dropped(fresh: FreshHost) -> None:
    fresh.ssh(f"sudo mkdir -p /etc/docker && echo '{json.dumps(THIRD_PARTY)}' | sudo tee {DAEMON}")
    assert fresh.apply("docker", **OPTIONS).returncode == 0
    registries = ["theirs.example:5000", "ours.example:5000"]
    both = {**THIRD_PARTY, "log-driver": "local", "insecure-registries": registries}
    assert json.loads(fresh.ssh(f"cat {DAEMON}")) == both
    # The engine runs with them, so it was restarted.
    assert "ours.example:5000" in fresh.ssh("sudo docker info")

    refused = fresh.apply("docker", docker_daemon_options={"no-such-option": True})
    assert refused.returncode == 2
    assert f"{HOST}: failed: {DAEMON} stays as it is, because Docker refuses" in refused.stdout
    assert "no-such-option" in refused.stdout
    assert json.loads(fresh.ssh(f"cat {DAEMON}")) == both

    assert fresh.apply("docker").returncode == 0
    assert json.loads(fresh.ssh(f"cat {DAEMON}")) == THIRD_PARTY


def test_port_that_another_program_holds_is_refused_by_the_programs_name(fresh: FreshHost) -> None:
    fresh.ssh("sudo systemd-run --unit=squatter python3 -m http.server 11434 --bind 127.0.0.1")
    fresh.ssh("for _ in $(seq 50); do ss -ltn 2>/dev/null | grep -q :11434 && break; sleep 0.1; done; true")
    result = fresh.apply("gpu_preflight")
    assert result.returncode == 2
    assert f"{HOST}: port 11434 at 127.0.0.1 is taken by python3 (pid" in result.stdout
    assert fresh.ssh("ls /var/lib/ollama-fleet/gpu_preflight.json 2>/dev/null || true") == ""

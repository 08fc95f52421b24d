"""Every role on real hosts: alone it works, and a second run and check mode on a fresh host change nothing."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.lab import Lab
from ollama_fleet.playbook import environment
from tests.system.conftest import ROOT, Session
from tests.system.test_lab import changed_tasks

# What a role could touch on a host, in one listing: files with size and time, packages, units, users and groups.
STATE = """
sudo find /etc /opt /usr/local /var/lib/ollama-fleet /home -xdev -type f -printf '%p %s %T@\\n' 2>/dev/null | sort
dpkg-query -W
systemctl list-unit-files --state=enabled --no-legend
getent passwd; getent group
"""


def test_every_role_run_in_full_a_second_time_changes_nothing(lab: Session) -> None:
    result = lab.inv("up", "--full")
    assert set(changed_tasks(result.stdout)) == {"gpu1", "gpu2", "web1"}, result.stdout
    assert set(changed_tasks(result.stdout).values()) == {0}, result.stdout


ROLES_BY_HOST = {
    "gpu1": [
        *("gpu_preflight", "nvidia_driver", "docker", "nvidia_container_toolkit"),
        *("ollama", "ollama_models", "ollama_gateway"),
    ],
    "web1": ["docker", "open_webui"],
}


@pytest.mark.parametrize(("host", "role"), [(host, role) for host, roles in ROLES_BY_HOST.items() for role in roles])
def test_each_role_works_alone(lab: Session, tmp_path: Path, host: str, role: str) -> None:
    play = {"name": "One role", "hosts": host, "gather_facts": False, "roles": [f"ollama_fleet.stack.{role}"]}
    (tmp_path / "alone.yml").write_text(yaml.safe_dump([play]))
    command = ["ansible-playbook", "-i", str(lab.inventory), str(tmp_path / "alone.yml")]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(lab.inventory), check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert changed_tasks(result.stdout) == {host: 0}, result.stdout


@pytest.fixture
def fresh(lab: Session, tmp_path: Path) -> Iterator[Path]:
    """An inventory of one host, in both groups, that was never provisioned."""
    address = Lab(ROOT).add_host("fresh1").address
    shutil.copytree(lab.inventory, tmp_path, dirs_exist_ok=True)
    host = {
        "ansible_host": address,
        # The vault has no certificate for this name; nothing is served from here.
        "ollama_gateway_certificate": "{{ vault_fleet_certificates.gpu1.certificate }}",
        "ollama_gateway_certificate_key": "{{ vault_fleet_certificates.gpu1.key }}",
    }
    groups = {group: {"hosts": {"fresh1": host}} for group in ("gpu_servers", "web_servers")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(groups))
    yield tmp_path
    Lab(ROOT).remove_host("fresh1")


def test_check_mode_on_a_fresh_host_changes_nothing_and_does_not_fail(lab: Session, fresh: Path) -> None:
    before = lab.ssh("fresh1", STATE)
    result = lab.inv("up", "--check", "--diff", "--inventory", str(fresh), check=False)
    assert result.returncode == 0, result.stdout
    assert changed_tasks(result.stdout)["fresh1"] > 0
    assert lab.ssh("fresh1", STATE) == before

"""Ollama without a container on one host: installed, updated, damaged, changed over to Docker and back, taken away.

The releases are archives of the layout that Ollama's have, made here; their server is the lab's engine, a stand-in.
systemd, Docker, users and files are real.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import wheels
from lab.lab import Lab
from ollama_fleet.playbook import environment
from tests.package_support.lab import gateway
from tests.package_support.server import Server
from tests.system.conftest import ROOT, Session
from tests.system.inventory import variable
from tests.system.plan_and_apply import PLAN_AND_APPLY
from tests.system.test_lab import changed_tasks
from tests.unit.plugins.release_archives import zstd

HOST = "native1"
NATIVE = ("ollama", "ollama_models")
DOCKER = ("docker", "ollama", "ollama_models")
MODEL = "smollm2:135m"
UNIT = "/etc/systemd/system/ollama.service"
SETTINGS = "/etc/ollama-fleet/ollama.env"
CURRENT = "/opt/ollama/current"
PASSWORD = "hunter2-of-the-proxy"
# bin/ollama, as it is called with "serve".
START = """#!/bin/sh
# Of release VERSION.
here=$(dirname "$(readlink -f "$0")")/..
export PYTHONPATH="$here/lib/ollama:$here/lib/ollama/site" PYTHONDONTWRITEBYTECODE=1
exec python3 -m engine
"""
CRASH = "#!/bin/sh\necho 'this release cannot start'\nexit 3\n"
# What the role could leave behind or change. The records change with every run.
STATE = """
sudo find /etc /opt /usr/local /var/lib/ollama /var/cache/ollama -xdev \\( -type f -o -type l -o -type d \\) \
  ! -name '*.cache' ! -name 'passwd*' ! -name 'group*' ! -name 'shadow*' ! -name 'gshadow*' ! -name 'sub?id*' \
  -printf '%p %M %u %l\\n' 2>/dev/null | sort
getent passwd ollama; getent group ollama
systemctl is-enabled ollama 2>/dev/null; systemctl is-active ollama
true
"""
ASK = "from urllib.request import *; print(urlopen(Request('http://127.0.0.1:11434{path}', {body})).read().decode())"
REMOVAL = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Remove",
                "ansible.builtin.include_role": {"name": "ollama_fleet.stack.ollama", "tasks_from": "remove"},
            }
        ],
    }
]


@dataclass(frozen=True)
class Archive:
    """A release's archive, and the variables of an inventory that wants it."""

    version: str
    file: Path
    url: str

    def variables(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return {
            "ollama_release_version": self.version,
            "ollama_release_checksum": f"sha256:{digest}",
            "ollama_release_url": f"{self.url}/{self.file.name}",
        }


@dataclass
class Machine:
    """The host, and playbooks for it. variables: those of its inventory; serves: the URL of the archives."""

    folder: Path
    ssh: Any
    serves: str
    site: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def release(self, version: str, start: str = START) -> Archive:
        """An archive in which the engine calls itself by this version."""
        tree = self.folder / version
        shutil.copytree(self.site, tree / "lib/ollama/site")
        shutil.copytree(ROOT / "lab/engine", tree / "lib/ollama/engine", ignore=shutil.ignore_patterns("__pycache__"))
        init = tree / "lib/ollama/engine/__init__.py"
        init.write_text(init.read_text().replace('VERSION = "0.32.15-', f'VERSION = "{version}-'))
        (tree / "bin").mkdir()
        (tree / "bin/ollama").write_text(start.replace("VERSION", version))
        (tree / "bin/ollama").chmod(0o755)
        file = self.folder / "www" / f"ollama-{version}.tgz"
        with tarfile.open(file, "w:gz", compresslevel=1) as archive:
            archive.add(tree, ".")
        shutil.rmtree(tree)
        return Archive(version, file, self.serves)

    def play(self, playbook: Any, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        inventory = {"all": {"hosts": {HOST: self.variables | variables}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "play.yml").write_text(yaml.safe_dump(playbook))
        command = ["ansible-playbook", "-i", f"{self.folder}/hosts.yml", f"{self.folder}/play.yml", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment(self.folder), capture_output=True, text=True, check=False
        )

    def up(self, *arguments: str, roles: tuple[str, ...] = NATIVE, **variables: Any) -> str:
        done = self.play(PLAN_AND_APPLY, *arguments, wanted_roles=list(roles), **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *arguments: str, roles: tuple[str, ...] = NATIVE, **variables: Any) -> str:
        done = self.play(PLAN_AND_APPLY, *arguments, wanted_roles=list(roles), **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stdout

    def reasons(self, *roles: str) -> dict[str, str]:
        """Why a plan needs each role now."""
        self.up(roles=roles or NATIVE, applied_roles=[])
        steps = json.loads((self.folder / "steps.json").read_text())
        return {step["role"]: step["reason"] for step in steps if step["needed"]}

    def ask(self, path: str, body: Any = None) -> Any:
        data = f"{json.dumps(body)!r}.encode()" if body is not None else "None"
        program = ASK.format(path=path, body=data).replace('"', '\\"')
        return json.loads(self.ssh(f'python3 -c "{program}"'))

    def version(self) -> str:
        return str(self.ask("/api/version")["version"]).removesuffix("-llamacpp-stand-in")

    def models(self) -> dict[str, str]:
        return {model["name"]: model["digest"] for model in self.ask("/api/tags")["models"]}

    def answers(self) -> bool:
        """Whether the model itself answers."""
        asked = {"model": MODEL, "prompt": "Hello", "stream": False, "options": {"num_predict": 8}}
        return int(self.ask("/api/generate", asked)["eval_count"]) > 0


@pytest.fixture(scope="module")
def machine(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("native")
    (folder / "www").mkdir()
    host = Lab(ROOT).add_host(HOST)

    def ssh(command: str) -> str:
        return lab.ssh(HOST, command)

    ssh("sudo apt-get -qq update && sudo apt-get -qq install -y libgomp1")
    python = ssh("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
    site = wheels.install(ROOT / "lab/engine/requirements.lock", folder / "site", python)
    listed = [item for item in variable(lab, "gpu1", "ollama_models_list") if item["name"] == MODEL]
    with Server(folder / "www", gateway(ROOT)) as server:
        variables = {
            **Lab(ROOT).host_variables(host),
            "ansible_python_interpreter": "/usr/bin/python3",
            "docker_daemon_options": variable(lab, "gpu1", "docker_daemon_options"),
            "ollama_mode": "native",
            "ollama_image": variable(lab, "gpu1", "ollama_image"),
            "ollama_models_list": listed,
            "ollama_environment": {"HTTPS_PROXY": f"http://u:{PASSWORD}@127.0.0.1:9", "NO_PROXY": "*"},
            "ollama_start_timeout": 20,
        }
        yield Machine(folder, ssh, server.url, site, variables)
    Lab(ROOT).remove_host(HOST)


@pytest.fixture(scope="module")
def first(machine: Machine) -> Archive:
    archive = machine.release("1.0.0")
    machine.variables.update(archive.variables())
    return archive


@pytest.fixture(scope="module")
def fresh(machine: Machine, first: Archive) -> str:
    """What was on the host before."""
    return str(machine.ssh(STATE))


@pytest.fixture(scope="module")
def installed(machine: Machine, fresh: str) -> dict[str, str]:
    """The models of the server, once it is installed."""
    machine.up()
    return machine.models()


def test_check_mode_on_a_fresh_host_shows_the_unit_and_does_nothing(machine: Machine, fresh: str) -> None:
    said = machine.up("--check", "--diff")
    assert "+ExecStart=/opt/ollama/current/bin/ollama serve" in said
    assert "+release: 1.0.0" in said
    assert PASSWORD not in said
    assert machine.ssh(STATE) == fresh


def test_unit_of_others_is_left_alone(machine: Machine, fresh: str) -> None:
    machine.ssh(f"sudo mkdir {UNIT}.d && echo '[Service]' | sudo tee {UNIT}.d/override.conf")
    assert f"{UNIT}.d is not this role's" in machine.fails()
    assert machine.ssh(f"cat {UNIT}.d/override.conf && sudo rm -r {UNIT}.d") == "[Service]\n"
    machine.ssh(f"echo '[Service]' | sudo tee {UNIT}")
    assert f"{UNIT} is not this role's" in machine.fails()
    assert machine.ssh(f"cat {UNIT} && sudo rm {UNIT}") == "[Service]\n"


def test_server_runs_as_its_own_user_and_answers_here_alone(machine: Machine, installed: dict[str, str]) -> None:
    assert machine.version() == "1.0.0"
    assert set(installed) == {MODEL}
    assert machine.answers()
    assert machine.ssh("getent passwd ollama").strip().endswith(":/opt/ollama/home:/usr/sbin/nologin")
    pid = machine.ssh("systemctl show --property=MainPID --value ollama").strip()
    assert machine.ssh(f"stat -c %U /proc/{pid}").strip() == "ollama"
    assert machine.ssh("sudo ss -Hltn 'sport = 11434' | awk '{print $4}'").split() == ["127.0.0.1:11434"]
    assert machine.ssh(f"sudo stat -c '%a %U' {SETTINGS} {UNIT}").splitlines() == ["600 root", "644 root"]
    assert machine.ssh("systemctl is-enabled ollama").strip() == "enabled"
    # Hardened as the unit says, by systemd's own count (0 is best, 10 is none at all).
    level = machine.ssh("systemd-analyze security ollama --no-pager | tail -1")
    assert float(level.split(":")[1].split()[0]) < 5, level


def test_settings_reach_the_server_as_they_are(machine: Machine, installed: dict[str, str]) -> None:
    pid = machine.ssh("systemctl show --property=MainPID --value ollama").strip()
    variables = machine.ssh(f"sudo cat /proc/{pid}/environ").split("\0")
    assert f"HTTPS_PROXY=http://u:{PASSWORD}@127.0.0.1:9" in variables
    assert {"OLLAMA_CONTEXT_LENGTH=8192", "OLLAMA_HOST=127.0.0.1:11434", "HOME=/opt/ollama/home"} <= set(variables)


def test_second_run_changes_nothing(machine: Machine, installed: dict[str, str]) -> None:
    assert machine.reasons() == {}
    before = machine.ssh(STATE)
    play = [{"hosts": "all", "gather_facts": False, "roles": ["ollama_fleet.stack.ollama"]}]
    again = machine.play(play)
    assert again.returncode == 0, again.stdout
    assert changed_tasks(again.stdout) == {HOST: 0}, again.stdout
    assert machine.ssh(STATE) == before


DAMAGES = {
    f"echo '# mine' | sudo tee -a {UNIT}": f"{UNIT} was changed by hand",
    f"sudo chmod 0644 {SETTINGS}": f"the mode of {SETTINGS} is 0644, was 0600",
    f"echo | sudo tee -a {CURRENT}/bin/ollama": f"{CURRENT}/bin/ollama was changed by hand",
    "sudo chown root /var/lib/ollama": "the owner of /var/lib/ollama is root, was ollama",
    "sudo systemctl disable ollama": "service ollama is disabled at boot, was enabled",
    "sudo systemctl stop ollama": "service ollama is not running",
    "sudo gpasswd --delete ollama video": "user ollama is not in group video",
}


def test_every_damage_is_named_and_repaired(machine: Machine, installed: dict[str, str]) -> None:
    for command in DAMAGES:
        machine.ssh(command)
    said = machine.reasons()["ollama"].split("; ")
    assert [words for words in DAMAGES.values() if words not in said] == []
    machine.up()
    assert machine.reasons() == {}
    assert machine.models() == installed


def test_update_keeps_the_models_and_the_release_before(machine: Machine, installed: dict[str, str]) -> None:
    machine.variables.update(machine.release("1.1.0").variables())
    assert "ollama_release_version" in machine.reasons()["ollama"]
    machine.up()
    assert machine.version() == "1.1.0"
    assert machine.models() == installed
    assert machine.ssh("readlink /opt/ollama/current /opt/ollama/previous").split() == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize(("target", "words"), [("1.0.0", "was changed by hand"), ("nowhere", "was removed")])
def test_link_that_a_person_moved_is_named_and_moved_back(
    machine: Machine, installed: dict[str, str], target: str, words: str
) -> None:
    machine.ssh(f"sudo ln -sfn {target} {CURRENT} && sudo systemctl restart ollama || true")
    assert f"{CURRENT}/bin/ollama {words}" in machine.reasons()["ollama"]
    machine.up()
    assert machine.version() == "1.1.0"
    assert machine.reasons() == {}


def test_wrong_checksum_and_a_cut_archive_change_nothing(machine: Machine, installed: dict[str, str]) -> None:
    before = machine.ssh(STATE)
    good = machine.release("1.2.0")
    wrong = good.variables() | {"ollama_release_checksum": "sha256:" + "0" * 64}
    assert "is not the one that was asked for" in machine.fails(**wrong)
    good.file.write_bytes(good.file.read_bytes()[: good.file.stat().st_size // 2])
    assert "is damaged" in machine.fails(**good.variables())
    gone = good.variables()
    good.file.unlink()
    assert "was not fetched" in machine.fails(**gone)
    assert machine.ssh(STATE) == before
    assert machine.version() == "1.1.0"
    # The record is begun: a run with what is there settles it.
    machine.up()
    assert machine.reasons() == {}


def test_release_that_does_not_start_leaves_the_one_that_ran(machine: Machine, installed: dict[str, str]) -> None:
    unit = machine.ssh(f"cat {UNIT}")
    said = machine.fails(**machine.release("1.3.0", CRASH).variables(), ollama_context_length=2048)
    assert "Ollama 1.3.0 did not start" in said
    assert "this release cannot start" in said
    assert "the old release 1.1.0, unit and environment are back, and it answers" in said
    assert PASSWORD not in said
    assert machine.version() == "1.1.0"
    assert machine.ssh(f"cat {UNIT}") == unit
    assert 'OLLAMA_CONTEXT_LENGTH="8192"' in machine.ssh(f"sudo cat {SETTINGS}")
    assert machine.models() == installed
    machine.up()


@pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd on this machine")
def test_archive_of_this_machine_with_zstd(machine: Machine, installed: dict[str, str]) -> None:
    made = machine.release("1.4.0")
    packed = machine.folder / "ollama-linux-amd64.tar.zst"
    with tarfile.open(made.file) as archive:
        archive.extractall(machine.folder / "again", filter="tar")
    plain = machine.folder / "plain.tar"
    with tarfile.open(plain, "w") as archive:
        archive.add(machine.folder / "again", ".")
    packed.write_bytes(zstd(plain.read_bytes()))
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    machine.variables.update(
        ollama_release_version="1.4.0", ollama_release_checksum=f"sha256:{digest}", ollama_release_file=packed.name
    )
    machine.up()
    assert machine.version() == "1.4.0"
    assert machine.ssh("ls -A /opt/ollama").split() == ["1.1.0", "1.4.0", "current", "home", "previous"]
    assert machine.reasons() == {}


def test_container_that_does_not_start_leaves_the_service(machine: Machine, installed: dict[str, str]) -> None:
    version = machine.version()
    said = machine.fails(roles=DOCKER, ollama_mode="docker", ollama_image="registry.lab:5000/none:1")
    assert "systemd runs the server as before" in said
    assert machine.version() == version
    assert machine.models() == installed
    assert machine.answers()


def test_change_to_docker_keeps_the_models_and_takes_the_service_away(
    machine: Machine, installed: dict[str, str]
) -> None:
    machine.up(roles=DOCKER, ollama_mode="docker")
    assert machine.version() == "0.32.15"
    assert machine.models() == installed
    assert machine.answers()
    assert machine.ssh(f"ls -d {UNIT} {SETTINGS} /opt/ollama /var/cache/ollama 2>/dev/null || true") == ""
    assert machine.ssh("getent passwd ollama || true") == ""
    assert machine.reasons("ollama") == {"ollama": "ollama_mode changed"}


def test_release_that_does_not_start_leaves_the_container(machine: Machine, installed: dict[str, str]) -> None:
    said = machine.fails(**machine.release("1.5.0", CRASH).variables(), ollama_release_file="")
    assert "container ollama serves again" in said
    assert machine.version() == "0.32.15"
    assert machine.models() == installed
    assert machine.answers()


def test_change_back_to_systemd_keeps_the_models_and_takes_the_container_away(
    machine: Machine, installed: dict[str, str]
) -> None:
    machine.variables.update(machine.release("1.6.0").variables(), ollama_release_file="")
    machine.up()
    assert machine.version() == "1.6.0"
    assert machine.models() == installed
    assert machine.answers()
    assert machine.ssh("sudo docker ps -aq") == ""
    assert machine.reasons() == {}


def test_removal_keeps_the_models_unless_they_are_meant(machine: Machine, installed: dict[str, str]) -> None:
    gone = machine.play(REMOVAL)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert machine.ssh(f"ls -d {UNIT} {SETTINGS} /opt/ollama /var/cache/ollama 2>/dev/null || true") == ""
    assert machine.ssh("getent passwd ollama || true") == ""
    assert machine.ssh("sudo find /var/lib/ollama ! -user root") == ""
    assert machine.ssh("sudo find /var/lib/ollama -name 'sha256-*' | head -1").strip()
    machine.up()
    assert machine.models() == installed
    gone = machine.play(REMOVAL, ollama_fleet_remove_models=True)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert machine.ssh("ls -d /var/lib/ollama 2>/dev/null || true") == ""
    again = machine.play(REMOVAL)
    assert changed_tasks(again.stdout) == {HOST: 0}, again.stdout

"""What a person may get wrong: each ends with one clear error that names host, variable and remedy, and not with 0.

Nothing is written on a host before the inventory is right, and one bad host never stops the others.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.errors import FleetError
from ollama_fleet.inventory_check import check
from ollama_fleet.playbook import environment
from tests.bench_support.sshd import Sshd, make_key, public_key
from tests.serving_support.ollama_double import OllamaDouble, Send, progress
from tests.serving_support.registry_double import RegistryDouble

ROOT = Path(__file__).resolve().parents[2]
LOCAL = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
SECRETS = {"open_webui_admin_password": "hunter2", "open_webui_secret_key": "hunter2"}


@dataclass
class Ended:
    """How a run ended: exit code, all output, the problems as JSON."""

    code: int
    output: str
    problems: list[dict[str, str]]

    def of(self, host: str) -> dict[str, str]:
        (problem,) = [problem for problem in self.problems if problem["host"] == host]
        return problem


class Estate:
    """An inventory in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fleet"
        self.folder.mkdir(exist_ok=True)

    def write(self, gpu_servers: dict[str, Any] | None = None, web_servers: dict[str, Any] | None = None) -> Path:
        groups = {"gpu_servers": {"hosts": gpu_servers or {}}, "web_servers": {"hosts": web_servers or {}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        return self.folder

    def variables(self, group: str, text: str) -> None:
        path = self.folder / "group_vars" / group / "vars.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def play(self, playbook: Path, *arguments: str) -> Ended:
        report = self.folder.parent / "problems.json"
        report.unlink(missing_ok=True)
        env = environment(self.folder) | {"OLLAMA_FLEET_PROBLEMS": str(report), "ANSIBLE_NOCOLOR": "1"}
        command = ["ansible-playbook", "--inventory", str(self.folder), str(playbook), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        problems = json.loads(report.read_text())["problems"] if report.exists() else []
        return Ended(done.returncode, done.stdout + done.stderr, problems)

    def site(self, *arguments: str) -> Ended:
        return self.play(ROOT / "playbooks" / "site.yml", *arguments)

    def tasks(self, tasks: list[dict[str, Any]], *arguments: str) -> Ended:
        playbook = self.folder.parent / "play.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return self.play(playbook, *arguments)


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return Estate(tmp_path)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd") / "one") as server:
        yield server


def reached_by(sshd: Sshd, known_hosts: Path, **more: Any) -> dict[str, Any]:
    """The variables of a host that is this machine, through a real sshd."""
    return {
        "ansible_host": "127.0.0.1",
        "ansible_port": sshd.port,
        "ansible_user": sshd.user,
        "ansible_ssh_private_key_file": str(sshd.key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o ControlPath=none -o IdentitiesOnly=yes",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        **more,
    }


# ---------------------------------------------------------------- the inventory

WRONG = {
    "an unknown variable": (
        {"ollama_prot": 11434},
        "gpu1: ollama_prot = 11434 in hosts.yml:",
        "is no variable of the role ollama. Remedy: did you mean ollama_port?",
    ),
    "a wrong type": (
        {"ollama_num_parallel": "many"},
        "gpu1: ollama_num_parallel = 'many' in hosts.yml:",
        "is text, wants a whole number. Remedy: write a whole number, for example 1",
    ),
    "a quoted bool": (
        {"ollama_use_gpu": "no"},
        "gpu1: ollama_use_gpu = 'no' in hosts.yml:",
        "is text, wants true or false, without quotes. Remedy: ",
    ),
    "a wrong choice": (
        {"docker_source": "distributon"},
        "gpu1: docker_source = 'distributon' in hosts.yml:",
        "is none of the choices. Remedy: write one of distribution, docker (did you mean distribution?)",
    ),
    "a bad model name": (
        {"ollama_models_list": [{"name": "smollm2:135m"}, {"name": "smol lm:1"}]},
        "gpu1: ollama_models_list[1].name = 'smol lm:1' in hosts.yml:",
        "is no model name: its model is 'smol lm'. Remedy: write [host/][namespace/]model[:tag]",
    ),
    "a floating image": (
        {"ollama_image": "docker.io/ollama/ollama"},
        "gpu1: ollama_image = 'docker.io/ollama/ollama' in hosts.yml:",
        "has neither tag nor digest",
    ),
    "an address used twice": (
        {"ansible_host": "192.0.2.2", "ansible_port": 22},
        "gpu1, gpu2: ansible_host = 192.0.2.2 with port 22 is the address of 2 hosts.",
        "Remedy: give each host its own address",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_inventory_is_one_error_and_no_host_is_touched(estate: Estate, sshd: Sshd, wrong: str) -> None:
    variables, begins, says = WRONG[wrong]
    known_hosts = estate.folder.parent / "known_hosts"
    known_hosts.write_text(sshd.known_hosts_line)
    estate.write({"gpu1": reached_by(sshd, known_hosts) | variables, "gpu2": {"ansible_host": "192.0.2.2"}})
    before = sshd.connections
    ended = estate.site()
    assert ended.code == 2, ended.output
    assert sshd.connections == before
    (problem,) = ended.problems
    assert problem["host"] == "inventory"
    assert problem["why"].startswith("1 problem in the inventory. No host was touched.\n  " + begins), problem["why"]
    assert says in problem["why"]
    assert "PROBLEMS" in ended.output


def test_all_problems_of_all_hosts_are_told_at_once_and_secrets_are_not(estate: Estate) -> None:
    estate.write({"gpu1": {"ollama_prot": 1}, "gpu2": None}, {"web1": {"open_webui_admin_password": ["hunter2"]}})
    estate.variables("gpu_servers", "ollama_port: many\n")
    ended = estate.site()
    assert ended.code == 2
    (problem,) = ended.problems
    for line in (
        "\n  gpu1: ollama_prot = 1 ",
        "\n  group gpu_servers: ollama_port = 'many' in group_vars/gpu_servers/vars.yml:1 is text",
        "\n  web1: open_webui_admin_password = <secret> ",
        "\n  web1: open_webui_secret_key is missing, and the role open_webui cannot do without.",
    ):
        assert line in problem["why"]
    assert "hunter2" not in ended.output


def test_an_extra_variable_is_judged_as_well(estate: Estate) -> None:
    estate.write({"gpu1": None})
    ended = estate.site("--extra-vars", "ollama_prot=1")
    assert ended.code == 2
    assert "gpu1: ollama_prot = '1'" in ended.of("inventory")["why"]


def test_a_right_inventory_is_no_problem(estate: Estate) -> None:
    estate.write({"gpu1": LOCAL}, {"web1": SECRETS})
    stack = {"gpu_servers": ["docker", "ollama", "ollama_models"], "web_servers": ["docker", "open_webui"]}
    ended = estate.tasks([{"ollama_fleet.stack.validate": {"stack": stack}, "run_once": True}])
    assert (ended.code, ended.problems) == (0, []), ended.output
    assert "PROBLEMS" not in ended.output


def test_a_value_that_the_vault_password_does_not_open_is_one_error(estate: Estate, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("one\n")
    command = ["ansible-vault", "encrypt_string", "--vault-password-file", str(password), "--name", "ollama_keep_alive"]
    text = subprocess.run(
        [*command, "5m"], env=environment(tmp_path), capture_output=True, text=True, check=True
    ).stdout
    estate.write({"gpu1": None, "gpu2": {"ansible_host": "192.0.2.1"}})
    estate.variables("gpu_servers", text)
    (estate.folder / ".vault_password").write_text("another\n")
    ended = estate.site()
    assert ended.code == 2, ended.output
    (line,) = ended.of("inventory")["why"].splitlines()[1:]
    assert line.startswith("  all hosts: the vault cannot be decrypted. Remedy: put the password")


# ---------------------------------------------------------------- nobody to work on


def test_an_empty_inventory_is_an_error(estate: Estate) -> None:
    with pytest.raises(FleetError, match=r"no host is in gpu_servers or web_servers or .*\n  remedy: put hosts into"):
        check(estate.write())


def test_hosts_in_other_groups_are_nobody_too(estate: Estate) -> None:
    (estate.folder / "hosts.yml").write_text("gpu_server: {hosts: {gpu1: }}\n")
    with pytest.raises(FleetError, match=r"no host is in gpu_servers or web_servers or .*\n.*inventory/sample"):
        check(estate.folder)


def test_a_limit_that_leaves_nobody_is_an_error(estate: Estate) -> None:
    folder = estate.write({"gpu1": None}, {"web1": None})
    assert [host.name for host in check(folder, "web1")] == ["web1"]
    with pytest.raises(FleetError, match=r"gpu7.*\n.*another --limit"):
        check(folder, "gpu7")


def test_an_inventory_that_is_no_inventory_is_an_error(estate: Estate) -> None:
    (estate.folder / "hosts.yml").write_text("all:\n  hosts: {gpu1: {\n")
    with pytest.raises(FleetError, match=r"hosts\.yml"):
        check(estate.folder)
    assert estate.site().code != 0


def test_a_vault_that_cannot_be_opened_is_an_error(estate: Estate, tmp_path: Path) -> None:
    folder = estate.write({"gpu1": None})
    estate.variables("all", "vault_x: y\n")
    password = tmp_path / "password"
    password.write_text("one\n")
    vault = folder / "group_vars" / "all" / "vars.yml"
    command = ["ansible-vault", "encrypt", "--vault-password-file", str(password), str(vault)]
    subprocess.run(command, env=environment(tmp_path), capture_output=True, check=True)
    with pytest.raises(FleetError, match=r"its vault cannot be decrypted.*\n.*\.vault_password"):
        check(folder)
    (folder / ".vault_password").write_text("another\n")
    with pytest.raises(FleetError, match="its vault cannot be decrypted"):
        check(folder)


def test_a_run_by_hand_says_that_nothing_was_done(estate: Estate) -> None:
    estate.write()
    ended = estate.site()
    problem = ended.of("inventory")
    assert problem["what"] == "nothing was done"
    assert "no host is in gpu_servers:web_servers" in problem["why"]


# ---------------------------------------------------------------- the way to the hosts


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ended, Path]]:
    """One run of the read-only plan over a good host and others that cannot be worked on, each for its own reason."""
    folder = tmp_path_factory.mktemp("roads")
    names = ("good", "stranger", "changed", "unknown", "asking")
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Sshd(folder / name)) for name in names}
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        known, other = folder / "known_hosts", make_key(folder / "other_key")
        lines = {name: server.known_hosts_line for name, server in servers.items()}
        lines["changed"] = f"[127.0.0.1]:{servers['changed'].port} {public_key(other)}\n"
        del lines["unknown"]
        known.write_text("".join(lines.values()))
        sudo = folder / "sudo"
        sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
        sudo.chmod(0o755)
        ways = {name: reached_by(server, known) for name, server in servers.items()}
        ways["closed"] = reached_by(servers["good"], known, ansible_port=closed.getsockname()[1])
        ways["nameless"] = reached_by(servers["good"], known, ansible_host="no-such-name.invalid")
        ways["stranger"]["ansible_ssh_private_key_file"] = str(other)
        # Another user than the one who logs in, or Ansible would do without sudo.
        ways["asking"] |= {"ansible_become": True, "ansible_become_user": "daemon", "ansible_become_exe": str(sudo)}
        estate = Estate(folder)
        estate.write(ways)
        plans = folder / "plans"
        plans.mkdir()
        yield estate.play(ROOT / "playbooks" / "plan.yml", "--extra-vars", f"ollama_fleet_plan_folder={plans}"), plans


ROADS = {
    "closed": ("could not be reached", "nothing listens at 127.0.0.1 port ", "start sshd on the host, or correct"),
    "nameless": ("could not be reached", "the name no-such-name.invalid has no address", "correct ansible_host"),
    "stranger": ("could not be reached", "SSH refuses ", "check ansible_user and ansible_ssh_private_key_file"),
    "changed": ("could not be reached", "its SSH host key is another one than known_hosts says", "ssh-keygen -R"),
    "unknown": ("could not be reached", "its SSH host key is unknown here", "compare the key's fingerprint"),
    "asking": ("failed", "sudo asks for a password", "NOPASSWD"),
}


@pytest.mark.parametrize("host", ROADS)
def test_a_host_that_cannot_be_worked_on_is_one_error(roads: tuple[Ended, Path], host: str) -> None:
    what, why, remedy = ROADS[host]
    problem = roads[0].of(host)
    assert problem["what"] == what, problem
    assert problem["why"].startswith(why), problem
    assert remedy in problem["remedy"]
    assert f"{host}: {what}: {why}" in roads[0].output


def test_the_other_hosts_finish_and_the_exit_code_tells(roads: tuple[Ended, Path]) -> None:
    ended, plans = roads
    assert ended.code == 4, ended.output
    assert [path.name for path in plans.iterdir()] == ["good.json"]
    assert {problem["host"] for problem in ended.problems} == set(ROADS)


# ---------------------------------------------------------------- the hosts themselves


def test_a_port_that_is_taken_names_its_holder_and_other_hosts_finish(estate: Estate) -> None:
    system = {"id": "debian", "version_id": "13", "name": "Debian 13", "family": "debian", "architecture": "x86_64"}
    supported = {"os": system}
    with socket.socket() as holder, socket.socket() as free:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        free.bind(("127.0.0.1", 0))
        ports = {"gpu1": holder.getsockname()[1], "gpu2": free.getsockname()[1]}
        needs = {"gpu_preflight_memory_gib": 0, "gpu_preflight_free_disk_gib": {"/": 0}}
        estate.write({name: {**LOCAL, **needs, "gpu_preflight_ports": [port]} for name, port in ports.items()})
        # The distribution of the machine that runs the tests is not the matter here.
        machine = f"{{{{ ansible_facts['ollama_fleet'] | combine({{'systemd': true}}, {supported}) }}}}"
        ended = estate.tasks(
            [
                {"name": "Observe", "ollama_fleet.stack.host_info": {"disk_paths": ["/"]}},
                {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": machine, "cacheable": True}},
                {"name": "Check", "ansible.builtin.include_role": {"name": "ollama_fleet.stack.gpu_preflight"}},
            ],
            "--check",
        )
    assert ended.code == 2, ended.output
    (problem,) = ended.problems
    assert (problem["host"], problem["role"]) == ("gpu1", "gpu_preflight")
    assert problem["why"].startswith(f"port {ports['gpu1']} at 127.0.0.1 is taken by ")
    assert f"(pid {os.getpid()})" in problem["why"]
    assert "gpu_preflight_ports" in problem["remedy"]


# The pulls alone: the record would be this machine's.
MODELS = {
    "name": "Have the models",
    "ansible.builtin.include_role": {"name": "ollama_fleet.stack.ollama_models", "tasks_from": "install"},
}


def test_a_disk_too_small_for_a_model_is_said_before_a_byte_moves_and_other_hosts_finish(estate: Estate) -> None:
    manifests = {"library/huge/manifests/1": {"sha256:a": 10, "sha256:b": 1 << 60}}
    with OllamaDouble() as full, OllamaDouble() as roomy, RegistryDouble(manifests) as registry:
        models = [{"name": "huge:1", "source": f"{registry.address}/library/huge:1", "insecure": True}]
        server = {**LOCAL, "ollama_models_dir": str(estate.folder)}
        estate.write(
            {
                "gpu1": server | {"ollama_models_base_url": full.url, "ollama_models_list": models},
                "gpu2": server | {"ollama_models_base_url": roomy.url, "ollama_models_list": [{"name": "small:1"}]},
            }
        )
        ended = estate.tasks([MODELS])
    assert ended.code == 2, ended.output
    (problem,) = ended.problems
    assert (problem["host"], problem["role"]) == ("gpu1", "ollama_models")
    assert "huge:1" in problem["why"]
    assert "MB more" in problem["why"]
    assert "ollama_data_dir" in problem["remedy"]
    assert full.models == {}
    assert list(roomy.models) == ["small:1"]


def test_a_registry_that_goes_down_mid_pull_is_said_and_the_next_run_goes_on(estate: Estate) -> None:
    def go_down(_double: OllamaDouble, name: str, send: Send) -> str:
        send(progress(name, 100_000_000))
        return "cut"

    with OllamaDouble() as cut, OllamaDouble() as fine:
        cut.scripts.append(go_down)
        servers = {"gpu1": cut, "gpu2": fine}
        estate.write(
            {
                name: {**LOCAL, "ollama_models_base_url": double.url, "ollama_models_list": [{"name": "smollm2:135m"}]}
                for name, double in servers.items()
            }
        )
        ended = estate.tasks([MODELS])
        assert ended.code == 2, ended.output
        (problem,) = ended.problems
        assert problem["host"] == "gpu1"
        assert "smollm2:135m" in problem["why"]
        assert "cut off at 100.0 MB of 253.1 MB" in problem["why"]
        assert "run again" in problem["remedy"]
        assert (list(cut.models), list(fine.models)) == ([], ["smollm2:135m"])
        again = estate.tasks([MODELS])
        assert (again.code, list(cut.models)) == (0, ["smollm2:135m"]), again.output

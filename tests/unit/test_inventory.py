"""Reading inventories with the real ansible-inventory, and ssh's arguments."""

import getopt
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host, SshArguments, parse_ssh_arguments, read

HOSTS = """
all:
  children:
    gpu_servers:
      children:
        big:
          hosts:
            gpu1: {ansible_host: 10.0.0.1, ansible_port: 2201}
            gpu2: {ansible_host: 10.0.0.2, ansible_user: root, ollama_port: "{{ 11000 + 500 }}"}
        local:
          hosts:
            gpu3: {ansible_connection: local}
    web_servers:
      hosts:
        web1:
"""
ALL = """
ansible_user: ops
ansible_ssh_private_key_file: "{{ inventory_dir }}/keys/fleet"
ansible_ssh_common_args: >-
  -o UserKnownHostsFile={{ inventory_dir }}/known/hosts -o ProxyJump={{ jump_user }}@jump:2200 -C
jump_user: hop
ansible_password: "{{ vault_ssh_password }}"
nothing_we_need: "{{ a_name_that_is_not_defined }}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inventory")
    variables = folder / "group_vars" / "all"
    variables.mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    (variables / "main.yml").write_text(ALL)
    (folder / ".vault_password").write_text("opensesame\n")
    (variables / "vault.yml").write_text("vault_ssh_password: hunter2\n")
    vault = Path(sys.executable).parent / "ansible-vault"
    password = folder / ".vault_password"
    command = [vault, "encrypt", "--vault-password-file", password, variables / "vault.yml"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def hosts(folder: Path) -> dict[str, Host]:
    return {host.name: host for host in read(folder, "gpu_servers")}


def test_group_holds_the_hosts_of_its_children(hosts: dict[str, Host]) -> None:
    assert list(hosts) == ["gpu1", "gpu2", "gpu3"]
    assert hosts["gpu1"].groups == {"all", "gpu_servers", "big"}


def test_connection_settings(hosts: dict[str, Host]) -> None:
    gpu1, gpu2, gpu3 = hosts.values()
    assert (gpu1.address, gpu1.port, gpu1.user) == ("10.0.0.1", 2201, "ops")
    assert (gpu2.address, gpu2.port, gpu2.user) == ("10.0.0.2", None, "root")
    assert (gpu3.address, gpu3.connection) == ("gpu3", "local")


def test_templates_that_are_needed_are_rendered(hosts: dict[str, Host], folder: Path) -> None:
    gpu2 = hosts["gpu2"]
    assert gpu2.private_key == folder / "keys" / "fleet"
    assert gpu2.ssh == SshArguments(known_hosts=(folder / "known" / "hosts",), proxy_jump=("hop@jump:2200",))
    assert gpu2.ollama_port == 11500


def test_vault_opens_with_the_inventorys_own_password_and_secrets_are_not_shown(hosts: dict[str, Host]) -> None:
    assert hosts["gpu1"].password == "hunter2"
    assert "hunter2" not in repr(hosts["gpu1"])


def test_limit_is_ansibles(folder: Path) -> None:
    assert [host.name for host in read(folder, "gpu_servers", "big:!gpu2:web1")] == ["gpu1"]


def test_nobody_left_is_an_error(folder: Path) -> None:
    with pytest.raises(FleetError, match=r"no host of the group gpu_servers is left by --limit web1"):
        read(folder, "gpu_servers", "web1")


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="there is no such file or folder"):
        read(tmp_path / "none")


def test_an_inventory_that_cannot_be_parsed_is_told_in_ansibles_words(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: [\n")
    with pytest.raises(FleetError, match=r"hosts\.yml; Failed to parse inventory with .*YAML parsing failed"):
        read(tmp_path)


def test_a_template_that_cannot_be_rendered_names_host_and_variable(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text('all: {hosts: {gpu1: {ansible_user: "{{ not_there }}"}}}\n')
    with pytest.raises(FleetError, match=r"(?s)gpu1.*not_there"):
        read(tmp_path)


def test_a_setting_that_is_no_number_names_the_host(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {gpu1: {ollama_port: many}}}\n")
    with pytest.raises(FleetError, match=r"(?s)host gpu1.*many"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SshArguments()),
        ("-o ControlMaster=auto -C -q", SshArguments()),
        ("-o UserKnownHostsFile=/a/b", SshArguments(known_hosts=(Path("/a/b"),))),
        ("-oUserKnownHostsFile=/a/b", SshArguments(known_hosts=(Path("/a/b"),))),
        ("-o 'userknownhostsfile /a /b'", SshArguments(known_hosts=(Path("/a"), Path("/b")))),
        ("-J a,b:22 -J c", SshArguments(proxy_jump=("a", "b:22"))),
        ("-o ProxyJump=none", SshArguments()),
        ("-o ProxyCommand='ssh -W %h:%p jump'", SshArguments(proxy_command="ssh -W %h:%p jump")),
        (
            "-F /etc/x -p 2222 -l me -i /k",
            SshArguments(config_file=Path("/etc/x"), identities=(Path("/k"),), user="me", port=2222),
        ),
        ("-o IdentityFile=/k1 -o Port=99", SshArguments(identities=(Path("/k1"),), port=99)),
    ],
)
def test_ssh_arguments(text: str, expected: SshArguments) -> None:
    assert parse_ssh_arguments(text) == expected


def test_ssh_arguments_know_the_home_folder() -> None:
    assert parse_ssh_arguments("-o UserKnownHostsFile=~/x").known_hosts == (Path.home() / "x",)


@pytest.mark.parametrize("text", ["-o", "--nonsense", "'unclosed"])
def test_ssh_arguments_that_are_none(text: str) -> None:
    with pytest.raises((ValueError, getopt.GetoptError)):
        parse_ssh_arguments(text)

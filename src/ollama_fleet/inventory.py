"""Reads an Ansible inventory with Ansible's own programs, and nothing of it but what an SSH connection needs.

`ansible-inventory --list` knows groups, folders of variables and vaults, but leaves templates as they are written. Only
when a value that is needed here holds a template is Ansible asked to render exactly these values (`ansible -m debug`,
which runs on this machine and connects to nobody). All other variables, secrets among them, are left alone.
"""

import getopt
import json
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import environment, require_inventory

# The variables that are read, in Ansible's order of precedence: the first that is set wins.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "address": ("ansible_ssh_host", "ansible_host"),
    "port": ("ansible_ssh_port", "ansible_port"),
    "user": ("ansible_ssh_user", "ansible_user"),
    "password": ("ansible_ssh_pass", "ansible_ssh_password", "ansible_password"),
    "private_key": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    "connection": ("ansible_connection",),
    "arguments": ("ansible_ssh_args",),
    "common_arguments": ("ansible_ssh_common_args",),
    "extra_arguments": ("ansible_ssh_extra_args",),
    "ollama_port": ("ollama_port",),
}

# ssh's options, as getopt(3) spells them: a colon follows those that take a value.
_SSH_OPTIONS = "46AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:"

# The output is read by this program, whatever its user likes to see.
_PLAIN_OUTPUT = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_VERBOSITY": "0",
    "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0",
}
_RENDERED = re.compile(r"^(?P<host>\S+) \| (?P<state>[A-Z]+!?) => (?P<value>\{.*?^\})", re.MULTILINE | re.DOTALL)


class NoHostError(FleetError):
    """The inventory can be read, and leaves nobody to work on."""


@dataclass(frozen=True)
class SshArguments:
    """What the inventory's ssh arguments say about reaching a host; other options do not matter to a tunnel."""

    known_hosts: tuple[Path, ...] = ()
    proxy_jump: tuple[str, ...] = ()
    proxy_command: str | None = None
    config_file: Path | None = None
    identities: tuple[Path, ...] = ()
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class Host:
    """One host of the inventory and how to reach it. `port` and `user` are None where ssh's own defaults hold."""

    name: str
    groups: frozenset[str]
    address: str
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    private_key: Path | None = None
    connection: str = "ssh"
    ssh: SshArguments = SshArguments()
    ollama_port: int = 11434


def read(inventory: Path, group: str = "all", limit: str | None = None) -> list[Host]:
    """Return the hosts of `group` that `limit` (an Ansible pattern) leaves, sorted by name.

    Raises FleetError when the inventory cannot be read, NoHostError when no host is left.
    """
    require_inventory(inventory)
    listing, complaint = _list(inventory, limit)
    variables: dict[str, dict[str, Any]] = listing.get("_meta", {}).get("hostvars", {})
    groups = _groups_by_host(listing)
    names = sorted(name for name, member_of in groups.items() if group == "all" or group in member_of)
    if not names:
        raise NoHostError(
            f"inventory {inventory}",
            f"no host of the group {group} is left" + (f" by --limit {limit}" if limit else "") + complaint,
            f"put hosts into the group {group}" + (", or give another --limit" if limit else ""),
        )
    needed = {name: _needed(variables.get(name, {})) for name in names}
    templated = [name for name in names if any(_unfinished(value) for value in needed[name].values())]
    if templated:
        needed |= _render(inventory, group, limit, templated)
    return [_host(name, groups[name], needed[name]) for name in names]


def _list(inventory: Path, limit: str | None) -> tuple[dict[str, Any], str]:
    """The listing, and what Ansible complained of: it goes on without a file that it cannot read."""
    command = ["ansible-inventory", "--inventory", str(inventory), "--list"]
    if limit:
        command += ["--limit", limit]
    done = _run(command, inventory)
    if done.returncode != 0:
        raise FleetError(
            f"inventory {inventory}",
            _last_error(done.stderr),
            "correct the inventory; `ansible-inventory --inventory DIR --graph` shows what Ansible makes of it",
        )
    listing = json.loads(done.stdout)
    if not isinstance(listing, dict):
        raise FleetError(
            f"inventory {inventory}", "ansible-inventory gave no mapping", "check which ansible is on the PATH"
        )
    unread = re.findall(r"^\[WARNING\]: (Unable to parse \S+ as an inventory source)", done.stderr, re.MULTILINE)
    return listing, "".join(f"; Ansible says: {line}" for line in unread)


def _run(command: list[str], inventory: Path) -> subprocess.CompletedProcess[str]:
    env = environment(inventory) | _PLAIN_OUTPUT
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise FleetError(
            f"inventory {inventory}",
            f"the program {command[0]} is not there",
            "install ansible-core into the same environment as ollama-fleet",
        ) from error


def _last_error(text: str) -> str:
    """The first line that names an error, with why a file was not parsed; else the last line that says anything."""
    lines = [re.sub(r"^(\[(ERROR|WARNING)\]:|ERROR!)\s*", r"\2 ", line).strip() for line in text.splitlines()]
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    parsing = [
        line.removeprefix("WARNING ") for line in lines if line.startswith("WARNING Failed to parse inventory with")
    ]
    said = [line for line in lines if line]
    return "; ".join(errors[:1] + parsing[:1]) or (said[-1] if said else "Ansible gave no reason")


def _groups_by_host(listing: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Every host's groups, those by way of child groups included."""

    def members(group: str) -> set[str]:
        entry = listing.get(group, {})
        found = set(entry.get("hosts", ()))
        for child in entry.get("children", ()):
            found |= members(child)
        return found

    result: dict[str, set[str]] = {}
    for group in ("all", *(name for name in listing if name != "_meta")):
        for host in members(group):
            result.setdefault(host, set()).add(group)
    return {host: frozenset(member_of) for host, member_of in result.items()}


def _needed(variables: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, names in _NAMES.items():
        value = next((variables[name] for name in names if variables.get(name) is not None), None)
        if value is not None:
            found[key] = value
    return found


def _unfinished(value: Any) -> bool:
    """A template, or a value that is encrypted in its place."""
    return isinstance(value, Mapping) or (isinstance(value, str) and ("{{" in value or "{%" in value))


def _render(inventory: Path, group: str, limit: str | None, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Let Ansible render the needed variables of the group's hosts; each of `names` must be among the answers."""

    def first_set(variables: tuple[str, ...]) -> str:
        return "".join(f"{name} if {name} is defined else " for name in variables) + "none"

    template = "{{ {" + ", ".join(f"'{key}': {first_set(variables)}" for key, variables in _NAMES.items()) + "} }}"
    command = ["ansible", group, "--inventory", str(inventory), "--module-name", "ansible.builtin.debug"]
    command += ["--args", json.dumps({"msg": template})]
    if limit:
        command += ["--limit", limit]
    done = _run(command, inventory)
    rendered = {}
    failures = {}
    for match in _RENDERED.finditer(done.stdout):
        value = json.loads(match["value"])
        if match["state"] == "SUCCESS":
            rendered[match["host"]] = {key: part for key, part in value["msg"].items() if part is not None}
        else:
            failures[match["host"]] = str(value.get("msg", "no reason given"))
    for host in names:
        if host not in rendered:
            raise FleetError(
                f"inventory {inventory}, host {host}",
                "a connection variable cannot be rendered: "
                + failures.get(host, _last_error(done.stderr or done.stdout)),
                f"check the host's ansible_* connection variables; `ansible {host} -m debug -a var=hostvars` helps",
            )
    return rendered


def _host(name: str, groups: frozenset[str], needed: Mapping[str, Any]) -> Host:
    text = " ".join(str(needed[key]) for key in ("arguments", "common_arguments", "extra_arguments") if key in needed)
    try:
        ssh = parse_ssh_arguments(text)
        port = int(needed["port"]) if "port" in needed else ssh.port
        ollama_port = int(needed.get("ollama_port", 11434))
    except (ValueError, getopt.GetoptError) as error:
        raise FleetError(
            f"inventory, host {name}",
            f"its connection settings cannot be read: {error}",
            "correct ansible_port, ollama_port or ansible_ssh_common_args of this host",
        ) from error
    key = needed.get("private_key")
    return Host(
        name=name,
        groups=groups,
        address=str(needed.get("address", name)),
        port=port,
        user=str(needed["user"]) if "user" in needed else ssh.user,
        password=str(needed["password"]) if "password" in needed else None,
        private_key=Path(str(key)).expanduser() if key else None,
        connection=str(needed.get("connection", "ssh")).removeprefix("ansible.builtin."),
        ssh=ssh,
        ollama_port=ollama_port,
    )


def parse_ssh_arguments(text: str) -> SshArguments:
    """Read the command-line arguments of OpenSSH's `ssh`. As there, the first value of an option wins."""
    options, _ = getopt.getopt(shlex.split(text), _SSH_OPTIONS)
    said: dict[str, str] = {}
    identities: list[Path] = []
    short = {"-J": "proxyjump", "-F": "configfile", "-l": "user", "-p": "port"}
    for option, value in options:
        if option == "-i":
            identities.append(Path(value).expanduser())
        if option == "-o":
            word, setting = [*re.split(r"\s*=\s*|\s+", value.strip(), maxsplit=1), ""][:2]
            said.setdefault(word.lower(), setting)
            if word.lower() == "identityfile":
                identities.append(Path(setting).expanduser())
        if option in short:
            said.setdefault(short[option], value)
    jump = said.get("proxyjump", "none")
    command = said.get("proxycommand", "none")
    return SshArguments(
        known_hosts=tuple(Path(part).expanduser() for part in shlex.split(said.get("userknownhostsfile", ""))),
        proxy_jump=() if jump.lower() == "none" else tuple(part.strip() for part in jump.split(",")),
        proxy_command=None if command.lower() == "none" else command,
        config_file=Path(said["configfile"]).expanduser() if "configfile" in said else None,
        identities=tuple(identities),
        user=said.get("user"),
        port=int(said["port"]) if "port" in said else None,
    )

"""Makes what is missing in an inventory's vault, and shows one secret to a person.

The vault is INVENTORY/group_vars/all/vault.yml, encrypted by the program ansible-vault. Plain text goes through pipes
only and is never on a disk. The password is in INVENTORY/.vault_password, unless ANSIBLE_VAULT_PASSWORD_FILE names
another file.
"""

import contextlib
import fcntl
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ollama_fleet import inventory as inventories
from ollama_fleet.authority import Pair, flaw_of_authority, flaw_of_host, issue, make_authority
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import environment, require_inventory

ADMIN_PASSWORD = "vault_open_webui_admin_password"  # noqa: S105 - the variable's name
SECRET_KEY = "vault_open_webui_secret_key"  # noqa: S105 - the variable's name
GATEWAY_TOKENS = "vault_ollama_gateway_tokens"
CA_CERTIFICATE = "vault_fleet_ca_certificate"
CA_KEY = "vault_fleet_ca_key"
CERTIFICATES = "vault_fleet_certificates"
GATEWAY_CLIENTS = ("open_webui",)

_HEADER = (
    "# Made by ./inv secrets.init, which adds what is missing. To change something: ansible-vault edit THIS_FILE\n"
)
# No letter or digit that a person takes for another one. 20 of them have 98 bits.
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class SecretsResult:
    """What init made, and what it found and kept, as names: a variable, or VARIABLE.PART for a part of one.

    reasons: {name: why it was made anew}, for those that were there before
    """

    created: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def init(inventory: Path, *, hosts: Mapping[str, str] | None = None, now: datetime | None = None) -> SecretsResult:
    """Make what is missing in the vault; renew certificates that end soon or whose host has another address.

    hosts: {inventory name: address}; read from the inventory when not given
    Leaves the file untouched when nothing is missing. Raises FleetError, with nothing changed.
    """
    require_inventory(inventory)
    vault = vault_path(inventory)
    with sole_writer(inventory):
        content = read(inventory) if vault.exists() else {}
        if hosts is None:
            hosts = addresses(inventory)
        result = complete(content, hosts, now)
        if result.created:
            if not vault.exists():
                _make_password(inventory)
            write(inventory, content)
    return result


def addresses(inventory: Path) -> dict[str, str]:
    """Return {inventory name: address} of the hosts that get a certificate: all of them."""
    return {host.name: host.address for host in inventories.read(inventory)}


@contextlib.contextmanager
def sole_writer(inventory: Path) -> Iterator[None]:
    """Keep every other run of this project from changing this vault meanwhile. Readers are not kept."""
    folder = vault_path(inventory).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetError(
                f"vault {vault_path(inventory)}",
                "another secrets.init or secrets.rotate is at work on it",
                "wait for its end, then run this again",
            ) from None
        yield
    finally:
        os.close(handle)


def show(inventory: Path, name: str) -> str:
    """Return one secret: a variable of the vault, or VARIABLE.PART for a part of one."""
    require_inventory(inventory)
    known = dict(_flat(read(inventory)))
    if name not in known:
        meant = get_close_matches(name, known, n=1)
        raise FleetError(
            f"secret {name}",
            f"the vault of {inventory} has none of this name",
            f"did you mean {meant[0]}?" if meant else f"name one of {', '.join(known)}",
        )
    return str(known[name])


def vault_path(inventory: Path) -> Path:
    return inventory / "group_vars" / "all" / "vault.yml"


def complete(content: dict[str, Any], hosts: Mapping[str, str], now: datetime | None = None) -> SecretsResult:
    """Add what is missing to a vault's content: {variable: value}. Hosts that are gone keep what they have."""
    result = SecretsResult()

    def note(name: str, made: bool, reason: str | None = None) -> bool:
        (result.created if made else result.kept).append(name)
        if made and reason:
            result.reasons[name] = reason
        return made

    if note(ADMIN_PASSWORD, not content.get(ADMIN_PASSWORD)):
        content[ADMIN_PASSWORD] = readable_password()
    if note(SECRET_KEY, not content.get(SECRET_KEY)):
        content[SECRET_KEY] = session_key()
    tokens = _part(content, GATEWAY_TOKENS)
    for client in GATEWAY_CLIENTS:
        if note(f"{GATEWAY_TOKENS}.{client}", not tokens.get(client)):
            tokens[client] = token()

    authority = Pair(str(content.get(CA_CERTIFICATE, "")), str(content.get(CA_KEY, "")))
    missing = not (authority.certificate and authority.key)
    flaw = None if missing else flaw_of_authority(authority, now)
    for name in (CA_CERTIFICATE, CA_KEY):
        note(name, missing or flaw is not None, flaw)
    if missing or flaw:
        authority = make_authority(now)
        content[CA_CERTIFICATE], content[CA_KEY] = authority.certificate, authority.key

    certificates = _part(content, CERTIFICATES)
    for host, address in sorted(hosts.items()):
        old = certificates.get(host) or {}
        pair = Pair(str(old.get("certificate", "")), str(old.get("key", "")))
        flaw = flaw_of_host(pair, authority, host, [address], now) if old else None
        if note(f"{CERTIFICATES}.{host}", not old or flaw is not None, flaw):
            certificates[host] = issue_for(authority, host, address, now)
    return result


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.setdefault(name, {})
    if not isinstance(part, dict):
        raise FleetError(
            f"vault variable {name}", "it is no mapping", "correct it with ansible-vault edit, or remove it"
        )
    return part


def issue_for(authority: Pair, host: str, address: str, now: datetime | None = None) -> dict[str, str]:
    """Return a host's {certificate, key}, PEM; FleetError where its name or address fits into no certificate."""
    try:
        pair = issue(authority, host, [address], now)
    except ValueError as error:
        raise FleetError(
            f"host {host}",
            f"no certificate can be made for its name or its address {address}: {error}",
            "use letters, digits, dots and dashes in inventory names, and an address or DNS name in ansible_host",
        ) from error
    return {"certificate": pair.certificate, "key": pair.key}


def token() -> str:
    """Return a client's token: 256 bits, of letters, digits, '-' and '_'."""
    return secrets.token_urlsafe(32)


def session_key() -> str:
    """Return a key that signs sessions: 384 bits."""
    return secrets.token_urlsafe(48)


def readable_password() -> str:
    """Return a password that a person can read out and type: 98 bits."""
    groups = ("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(5))
    return "-".join(groups)


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in content.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def _make_password(inventory: Path) -> None:
    """Make the password file, unless the person or the inventory has one."""
    if environment(inventory).get("ANSIBLE_VAULT_PASSWORD_FILE"):
        return
    handle = os.open(inventory / ".vault_password", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def read(inventory: Path) -> dict[str, Any]:
    """Return a vault's content, {variable: value}. It is decrypted in pipes only."""
    path = vault_path(inventory)
    if not path.exists():
        raise FleetError(
            f"inventory {inventory}", "it has no vault yet", f"make one: ./inv secrets.init --inventory {inventory}"
        )
    if not path.read_bytes().startswith(b"$ANSIBLE_VAULT;"):
        raise FleetError(
            f"vault {path}",
            "it is not encrypted",
            f"encrypt it: ansible-vault encrypt {path}, or move it away; the next run then makes a new one",
        )
    plain = _ansible_vault(inventory, ["decrypt", "--output", "-", str(path)])
    try:
        content = yaml.safe_load(plain)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise FleetError(
            f"vault {path}",
            "its text is no YAML" + (f" (line {place.line + 1})" if place else ""),
            f"correct it: ansible-vault edit {path}",
        ) from None
    if not isinstance(content, dict):
        raise FleetError(f"vault {path}", "it holds no variables", f"correct it: ansible-vault edit {path}")
    return content


def write(inventory: Path, content: dict[str, Any]) -> None:
    """Replace the vault in one step: it is the old one or the new one at any time."""
    path = vault_path(inventory)
    plain = _HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    encrypted = _ansible_vault(inventory, ["encrypt", "--output", "-"], plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=".vault.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(encrypted)
            file.flush()
            os.fsync(file.fileno())
        Path(new).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(new).unlink()
        raise


def _ansible_vault(inventory: Path, arguments: list[str], stdin: str = "") -> str:
    env = environment(inventory) | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    command = ["ansible-vault", *arguments]
    password = env.get("ANSIBLE_VAULT_PASSWORD_FILE")
    remedy = (
        "put the password that the vault was encrypted with into .vault_password in the inventory's folder, "
        "or name its file with ANSIBLE_VAULT_PASSWORD_FILE"
    )
    if not password:
        raise FleetError(f"vault {vault_path(inventory)}", "its password is not here", remedy)
    try:
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FleetError(
            f"vault {vault_path(inventory)}",
            "the program ansible-vault is not there",
            "install ansible-core into the same environment as ollama-fleet",
        ) from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("[ERROR]", "ERROR"))]
        words = (errors or done.stderr.splitlines() or ["no reason given"])[0]
        reason = words.removeprefix("[ERROR]:").removeprefix("ERROR!").strip()
        if "Decryption failed" in reason:
            reason = f"the password in {password} does not fit; nothing was changed"
        raise FleetError(f"vault {vault_path(inventory)}", reason, remedy)
    return done.stdout


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)

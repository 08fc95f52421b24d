"""SSH identities of the lab: one for the person who logs in, one for each host, all made here."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lab.state import write_if_changed


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair in OpenSSH's formats; public is "ssh-ed25519 AAAA..." without a comment."""

    private_file: Path
    private: str
    public: str


def key_pair(private_file: Path) -> KeyPair:
    """The key pair in this file (and FILE.pub), made when it is not there yet."""
    public_file = private_file.with_name(f"{private_file.name}.pub")
    if not (private_file.is_file() and public_file.is_file()):
        private_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        write_if_changed(private_file, private, 0o600)
        write_if_changed(public_file, f"{public}\n")
    return KeyPair(private_file, private_file.read_text(), public_file.read_text().strip())


def known_hosts(keys: dict[str, str]) -> str:
    """The text of a known_hosts file. keys: public key by address."""
    return "".join(f"{address} {public}\n" for address, public in sorted(keys.items()))


def ssh_options(known_hosts_file: Path) -> list[str]:
    """Options of ssh that accept the lab's hosts by their keys and nobody else."""
    path = str(known_hosts_file)
    quoted = f'"{path}"' if any(character.isspace() for character in path) else path
    return ["-o", f"UserKnownHostsFile={quoted}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]

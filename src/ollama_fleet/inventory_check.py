"""Finds what Ansible would pass over in silence, before it runs: an inventory that leaves nobody to work on."""

from collections.abc import Sequence
from pathlib import Path

from ollama_fleet import inventory as inventories
from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host, NoHostError

GROUPS = ("gpu_servers", "web_servers", "model_caches")


def check(inventory: Path, limit: str | None = None, groups: Sequence[str] = GROUPS) -> list[Host]:
    """Return the hosts of these groups that `limit` leaves.

    Raises NoHostError when there is none (ansible-playbook would say "no hosts matched" and end with 0), FleetError
    when the inventory cannot be read or its vault cannot be decrypted.
    """
    try:
        hosts = inventories.read(inventory, limit=limit)
    except NoHostError:
        hosts = []
    except FleetError as error:
        if "vault" in error.why or "Decryption failed" in error.why:
            raise FleetError(
                f"inventory {inventory}",
                f"its vault cannot be decrypted ({error.why})",
                "put the password that it was encrypted with into .vault_password in the inventory's folder, "
                "or name its file with ANSIBLE_VAULT_PASSWORD_FILE",
            ) from error
        raise
    found = [host for host in hosts if host.groups & set(groups)]
    if not found:
        raise NoHostError(
            f"inventory {inventory}",
            f"no host is in {' or '.join(groups)}" + (f" with --limit {limit}" if limit else ""),
            "put hosts into these groups; inventory/sample shows how" + (", or give another --limit" if limit else ""),
        )
    return found

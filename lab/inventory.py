"""Writes inventory/lab: the lab's hosts and what they are to be, as a person would write it for real servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import services, ssh_keys
from lab.hosts import USER, Host
from lab.paths import Paths
from lab.state import write_if_changed

_HEADER = "# Written by ./inv lab, which writes it again when the lab changes.\n"
_MODELS = ("smollm2:135m", "gemma3:270m")
_ADMIN = "admin@lab.example"


@dataclass(frozen=True)
class Images:
    """The images that the lab's hosts run, each as "registry.lab:5000/NAME@sha256:...".

    stand_in: the model engine; None where the hosts get the real one and real models
    """

    open_webui: str
    stand_in: str | None


def render(paths: Paths, hosts: list[Host], images: Images) -> dict[str, str]:
    """The text of each file of the inventory, by its path in the inventory folder."""
    gpu = [host for host in hosts if host.group == "gpu_servers"]
    web = [host for host in hosts if host.group == "web_servers"]
    files: dict[str, Mapping[str, Any]] = {
        "hosts.yml": {"gpu_servers": {"hosts": _addresses(gpu)}, "web_servers": {"hosts": _addresses(web)}},
        "group_vars/all/connection.yml": {
            "ansible_user": USER,
            "ansible_python_interpreter": "/usr/bin/python3",
            **ssh_variables(paths),
        },
        "group_vars/all/docker.yml": {"docker_daemon_options": {"insecure-registries": [services.REGISTRY]}},
        "group_vars/gpu_servers/ollama_models.yml": {"ollama_models_list": _models(images.stand_in is not None)},
        "group_vars/gpu_servers/ollama_gateway.yml": {
            "ollama_gateway_clients": [{"name": "open-webui", "token": "{{ vault_ollama_gateway_tokens.open_webui }}"}],
            "ollama_gateway_allowed_sources": [host.address for host in web],
            "ollama_gateway_certificate": "{{ vault_fleet_certificates[inventory_hostname].certificate }}",
            "ollama_gateway_certificate_key": "{{ vault_fleet_certificates[inventory_hostname].key }}",
        },
        "group_vars/web_servers/open_webui.yml": {
            "open_webui_image": images.open_webui,
            # Reached from the browser of the machine that the lab runs on, and from nowhere else.
            "open_webui_bind_address": "{{ ansible_host }}",
            "open_webui_public_url": "http://{{ ansible_host }}:3000",
            "open_webui_admin_email": _ADMIN,
            "open_webui_admin_password": "{{ vault_open_webui_admin_password }}",
            "open_webui_secret_key": "{{ vault_open_webui_secret_key }}",
            "open_webui_ca_certificate": "{{ vault_fleet_ca_certificate }}",
            "open_webui_backends": [
                {
                    "name": host.name,
                    "url": f"https://{host.address}:11435",
                    "token": "{{ vault_ollama_gateway_tokens.open_webui }}",
                }
                for host in gpu
            ],
        },
    }
    if images.stand_in:
        files["group_vars/gpu_servers/ollama.yml"] = {"ollama_image": images.stand_in}
    return {path: _HEADER + yaml.safe_dump(dict(values), sort_keys=False, width=1000) for path, values in files.items()}


def write(folder: Path, files: Mapping[str, str]) -> bool:
    """Make the folder hold these files, beside the vault; say whether anything changed."""
    changed = [write_if_changed(folder / path, text) for path, text in files.items()]
    # What an earlier lab needed and this one does not. The vault is not ours.
    stale = [
        path
        for path in folder.rglob("*.yml")
        if str(path.relative_to(folder)) not in files and path.read_text().startswith(_HEADER)
    ]
    for path in stale:
        path.unlink()
    return any(changed) or bool(stale)


def ssh_variables(paths: Paths) -> dict[str, str]:
    """Ansible's variables for the way in to any host of the lab, beside its address."""
    return {
        "ansible_ssh_private_key_file": str(ssh_keys.key_pair(paths.ssh / "id_ed25519").private_file),
        "ansible_ssh_common_args": " ".join(
            f"'{part}'" if any(character.isspace() for character in part) else part
            for part in ssh_keys.ssh_options(paths.known_hosts)
        ),
    }


def _addresses(hosts: list[Host]) -> dict[str, dict[str, str]]:
    return {host.name: {"ansible_host": host.address} for host in hosts}


def _models(from_lab: bool) -> list[dict[str, Any]]:
    if not from_lab:
        return [{"name": name} for name in _MODELS]
    return [{"name": name, "source": f"{services.MODELS}/library/{name}", "insecure": True} for name in _MODELS]

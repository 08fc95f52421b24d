"""Web hosts beside the lab's fleet, in an inventory of their own, and Open WebUI on them as its users meet it."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from lab.lab import Lab
from ollama_fleet import secrets
from ollama_fleet.playbook import environment
from tests.system.conftest import ROOT, Session
from tests.system.inventory import variable

BACKUPS = "/var/lib/open-webui-backups"
PORT = 3000


@dataclass
class Estate:
    """Hosts in the group web_servers alone, and their inventory. addresses: by host."""

    lab: Session
    folder: Path
    addresses: dict[str, str]
    variables: dict[str, Any] = field(default_factory=dict)

    def write(self, **changed: Any) -> None:
        """Write the inventory, with variables of Open WebUI that hold for all of its hosts."""
        self.variables |= changed
        hosts = {
            name: {
                "ansible_host": address,
                # Their gateways know the lab's own web host alone.
                "open_webui_backends": [],
                **self.variables,
            }
            for name, address in self.addresses.items()
        }
        groups = {"gpu_servers": {"hosts": {}}, "web_servers": {"hosts": hosts}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(groups))

    def up(self, check: bool = True, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Write the inventory and bring its hosts up."""
        self.write(**changed)
        result = self.lab.inv("up", "--inventory", str(self.folder), check=False)
        assert result.returncode == 0 or not check, result.stdout[-6000:]
        return result

    def play(self, tasks: list[dict[str, Any]]) -> None:
        """Run tasks on all hosts."""
        play = {"name": "Test", "hosts": "web_servers", "gather_facts": False, "tasks": tasks}
        (self.folder.parent / "play.yml").write_text(yaml.safe_dump([play]))
        command = ["ansible-playbook", "-i", str(self.folder), str(self.folder.parent / "play.yml")]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(self.folder), check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def site(self, host: str) -> "Site":
        """Open WebUI of a host, the administrator signed in."""
        return Site(f"http://{self.addresses[host]}:{PORT}", self.login)

    @property
    def login(self) -> dict[str, str]:
        return {
            "email": variable(self.lab, "web1", "open_webui_admin_email"),
            "password": secrets.show(self.folder, "vault_open_webui_admin_password"),
        }

    def ssh(self, host: str, command: str) -> str:
        return self.lab.ssh(host, command)

    def backups(self, host: str) -> list[str]:
        return self.ssh(host, f"sudo find {BACKUPS} -mindepth 1 -maxdepth 1 -type d -printf '%f\\n' | sort").split()

    def manifest(self, host: str, backup: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ssh(host, f"sudo cat {BACKUPS}/{backup}/manifest.json"))
        return told


class Site:
    """Open WebUI at an address."""

    def __init__(self, url: str, login: dict[str, str], verify: str | bool = True) -> None:
        self.url, self.session = url, requests.Session()
        # Else an environment that names authorities of its own counts more than this one.
        self.session.trust_env = False
        self.session.verify = verify
        answer = self._sign_in(login)
        assert answer.status_code == 200, answer.text
        self.token = str(answer.json()["token"])
        self.session.headers["Authorization"] = f"Bearer {self.token}"

    def _sign_in(self, login: dict[str, str]) -> requests.Response:
        """As people do: who is told that there were too many log-ins comes back later."""
        for _minute in range(4):
            answer = self.session.post(f"{self.url}/api/v1/auths/signin", json=login, timeout=30)
            if answer.status_code != 429:
                break
            time.sleep(61)
        return answer

    @property
    def version(self) -> str:
        return str(self.session.get(f"{self.url}/api/version", timeout=30).json()["version"])

    def write_chat(self, title: str) -> None:
        chat = {"title": title, "models": [], "history": {"messages": {}, "currentId": None}, "messages": []}
        answer = self.session.post(f"{self.url}/api/v1/chats/new", json={"chat": chat}, timeout=30)
        assert answer.status_code == 200, answer.text

    def chats(self) -> set[str]:
        return {chat["title"] for chat in self.session.get(f"{self.url}/api/v1/chats/?page=1", timeout=30).json()}


@contextmanager
def estate(lab: Session, folder: Path, *names: str, **variables: Any) -> Iterator[Estate]:
    """Hosts of these names, bare, for as long as a test needs them."""
    inventory = folder / "inventory"
    shutil.copytree(lab.inventory, inventory)
    try:
        addresses = {name: Lab(ROOT).add_host(name).address for name in names}
        hosts = Estate(lab, inventory, addresses)
        hosts.write(**variables)
        yield hosts
    finally:
        for name in names:
            Lab(ROOT).remove_host(name)


def wait_for(what: Any, seconds: float) -> None:
    """Wait until a call returns something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.5)

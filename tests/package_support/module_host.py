"""A lab host on which tests run the project's modules the way Ansible does, and look at what that left behind."""

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.hosts import USER
from lab.lab import Lab
from ollama_fleet.playbook import environment

# What no change of packages may leave different: all packages with their state, holds, marks, and every file but logs,
# caches and package lists. Settings and modules count by content, programs by size, links by target, folders by being
# there.
STATE = r"""
cd /
echo "packages: $(dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev};')"
echo "automatic: $(apt-mark showauto | sort | tr '\n' ' ')"
echo "audit: $(sudo dpkg --audit) $(sudo apt-get check >/dev/null 2>&1 || echo 'apt-get check fails')"
sudo find etc opt var boot root home usr/lib/modules -xdev \
    \( -path var/log -o -path var/cache -o -path var/lib/apt -o -path var/lib/dpkg -o -path var/lib/systemd \
       -o -path var/tmp -o -path '*/.ansible' -o -path '*/__pycache__' -o -path etc/ld.so.cache \
       -o -name 'passwd-' -o -name 'group-' -o -name '*shadow-' \) -prune \
    -o -type f -print0 | sort -z | sudo xargs -0 sha256sum | sed 's/^\(.*\)  \(.*\)$/file \2: \1/'
sudo find usr -xdev -type f -not -path '*/__pycache__/*' -printf 'program %p: %s\n' | sort
sudo find etc usr opt var/lib boot -xdev \
    \( -path var/lib/apt -o -path var/lib/dpkg -o -path var/lib/systemd -o -path '*/__pycache__' \) -prune \
    -o \( -type l -o -type d \) -printf 'path %p: %y %m %u %g %l\n' | sort
"""


@dataclass
class ModuleHost:
    """A host beside the fleet. name: in the lab; folder: of the test's own, for the inventory"""

    root: Path
    name: str
    folder: Path

    def start(self) -> None:
        """Have the host, and an inventory of it."""
        host = Lab(self.root).add_host(self.name)
        key, known = self.root / ".lab/ssh/id_ed25519", self.root / ".lab/ssh/known_hosts"
        variables = {
            "ansible_host": host.address,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {self.name: variables}}}))

    def stop(self) -> None:
        Lab(self.root).remove_host(self.name)

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host; output and errors together."""
        done = subprocess.run(
            [*Lab(self.root).ssh_command(self.name), f"exec 2>&1\n{command}"],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def module(self, name: str, arguments: Mapping[str, Any], check: bool = False) -> dict[str, Any]:
        """Run one of the project's modules as root, and return its result. check: in check mode"""
        command = ["ansible", self.name, "-i", str(self.folder / "hosts.yml"), "--become", "--diff"]
        command += [
            "-m",
            f"ollama_fleet.stack.{name}",
            "-a",
            json.dumps(dict(arguments)),
            *(["--check"] if check else []),
        ]
        done = subprocess.run(
            command, cwd=self.root, env=environment(self.folder), check=False, capture_output=True, text=True
        )
        _before, found, text = done.stdout.partition("=> ")
        assert found, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        result: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
        return {**result, "failed": "FAILED" in _before}

    def state(self) -> dict[str, str]:
        """What is on the host: packages, marks, and every file by content."""
        return parsed(self.run(STATE).stdout)

    def versions(self) -> dict[str, str]:
        """Version of each installed package."""
        lines = self.run(r"dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'").stdout.splitlines()
        return {words[0]: words[1] for words in (line.split() for line in lines) if words[2][1:] == "i"}

    def held(self) -> set[str]:
        return set(self.run("apt-mark showhold").stdout.split())


def parsed(listing: str) -> dict[str, str]:
    """What STATE printed, by name."""
    return {name: value for name, _colon, value in (line.partition(": ") for line in listing.splitlines())}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What differs between two states, with both values."""
    names = before.keys() | after.keys()
    pairs = {name: (before.get(name, "-"), after.get(name, "-")) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

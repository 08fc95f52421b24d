"""The lock file as a run of Ansible leaves it: by many hosts at once, in check mode, and inside an inventory folder."""

import gzip
import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.playbook import environment
from tests.integration.foundation import Playground
from tests.unit.plugins.host_trees import HostTree

PLATFORM = "debian-13-x86_64-cuda-open"
NAMES = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced")
OLD, NEW = "580.126.09", "580.159.04"
WANTS = {"branch": 580, "version": "", "flavor": "auto", "source": "cuda", "reboot_enabled": False}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A flat repository's index: two versions of each package."""
    folder = tmp_path_factory.mktemp("www")
    paragraphs = [
        f"Package: {name}\nVersion: {version}-1\nArchitecture: amd64\nFilename: ./{name}_{version}.deb\n"
        for name in NAMES
        for version in (OLD, NEW)
    ]
    (folder / "Packages.gz").write_bytes(gzip.compress("\n".join(paragraphs).encode()))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def lock_of(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "driver.lock.yml").read_text())["platforms"])


def run(folder: Path, repository: str, *arguments: str, hosts: int = 6) -> subprocess.CompletedProcess[str]:
    """Have exact versions on hosts that are told to be Debian servers with an H100."""
    if not (folder / "host.json").exists():
        tree = HostTree(folder / "host").system("debian", "13", "6.12.48+deb13-amd64")
        tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200")
        (folder / "host.json").write_text(json.dumps(tree.observe().everything()))
    facts = f"{{{{ lookup('ansible.builtin.file', '{folder}/host.json') | from_json }}}}"
    module = {"wants": WANTS, "lock_file": f"{folder}/driver.lock.yml", "repository_url": repository}
    tasks = [
        {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": facts, "cacheable": True}},
        {"name": "Lock", "ollama_fleet.stack.nvidia_driver_lock": module, "register": "__lock"},
        {"name": "Show", "ansible.builtin.debug": {"msg": "{{ __lock.decision.packages | to_json }}"}},
    ]
    return Playground(folder).run_on({f"gpu{number}": {} for number in range(hosts)}, tasks, *arguments)


def test_hosts_that_choose_at_once_agree_on_one_lock(tmp_path: Path, repository: str) -> None:
    result = run(tmp_path, repository)
    assert result.returncode == 0, result.stdout + result.stderr
    packages = dict.fromkeys(NAMES, f"{NEW}-1")
    assert lock_of(tmp_path) == {PLATFORM: {"version": NEW, "packages": packages}}
    assert result.stdout.count(json.dumps(json.dumps(packages))[1:-1]) == 6
    # One of them wrote it, and that is the one that changed something.
    assert sum("changed=1" in line for line in result.stdout.splitlines()) == 1


def test_check_mode_shows_the_lock_and_writes_none(tmp_path: Path, repository: str) -> None:
    result = run(tmp_path, repository, "--check", "--diff", hosts=1)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"+    version: {NEW}" in result.stdout
    assert not (tmp_path / "driver.lock.yml").exists()


def test_locked_version_that_is_gone_is_one_clear_error(tmp_path: Path, repository: str) -> None:
    gone = {"version": "580.95.05", "packages": dict.fromkeys(NAMES, "580.95.05-1")}
    text = yaml.safe_dump({"schema": "ollama-fleet/driver-lock/1", "platforms": {PLATFORM: gone}})
    (tmp_path / "driver.lock.yml").write_text(text)
    result = run(tmp_path, repository, hosts=2)
    assert result.returncode == 2
    problems = result.stdout.partition("PROBLEMS ***")[2]
    assert f"{PLATFORM} is locked at 580.95.05" in problems
    assert "remedy: Move the lock to a version that is there (./inv driver.upgrade)" in problems
    assert (tmp_path / "driver.lock.yml").read_text() == text


def test_an_inventory_folder_may_hold_the_lock(tmp_path: Path, repository: str) -> None:
    run(tmp_path, repository, hosts=1)
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "hosts.yml").write_text("gpu_servers: {hosts: {gpu1: {}}}\n")
    (tmp_path / "driver.lock.yml").rename(folder / "driver.lock.yml")
    listed = subprocess.run(
        ["ansible-inventory", "--inventory", str(folder), "--list"],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert set(json.loads(listed.stdout)) == {"_meta", "all", "gpu_servers"}

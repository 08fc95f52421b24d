"""The role without a container, for real but for systemd: the lab's engine in releases, installed and failing.

Files, archives, links and the server are real; systemctl and journalctl are tests/serving_support/systemd_shim.py. The
host is told to be a server, because this machine may not be one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundation import ROOT, Playground
from tests.serving_support import systemd_shim
from tests.unit.plugins.host_trees import HostTree
from tests.unit.plugins.release_archives import checksum

# A docker with one container, which does not really serve: whether it runs is a file, what was asked another.
DOCKER = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case "$*" in
  *State.Running*) test -e "$here/runs" && echo true || echo false ;;
  "stop ollama") rm "$here/runs" ;;
  "start ollama") touch "$here/runs" ;;
  "ps --filter"*) echo ollama; cat "$here/neighbours" ;;
  "compose version"*) echo 2.26.1 ;;
  "version"*) echo 26.1.5 ;;
esac
"""
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="files become root's")
START = '#!/bin/sh\n# VERSION\nPYTHONPATH="$(dirname "$(readlink -f "$0")")/../lib/ollama" exec python3 -m engine\n'
CRASH = "#!/bin/sh\necho this release cannot start\nexit 3\n"
PASSWORD = "hunter2-of-the-proxy"


class Native:
    """One host on this machine, with the role's paths in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.playground = Playground(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.unit_file = folder / "etc/ollama.service"
        self.settings = folder / "etc/ollama.env"
        facts = HostTree(folder / "told").system("debian", "13", "6.12.48+deb13-amd64").observe().everything()
        facts["docker"]["containers"] = []
        self.facts = {**facts, "ports": []}
        self.wanted: dict[str, Any] = {}

    def release(self, version: str, start: str = START) -> None:
        """Have the inventory want a release of this version."""
        tree = self.folder / "tree"
        shutil.copytree(ROOT / "lab/engine", tree / "lib/ollama/engine", ignore=shutil.ignore_patterns("__pycache__"))
        init = tree / "lib/ollama/engine/__init__.py"
        init.write_text(init.read_text().replace('VERSION = "0.32.15-', f'VERSION = "{version}-'))
        (tree / "bin").mkdir()
        (tree / "bin/ollama").write_text(start.replace("VERSION", version))
        (tree / "bin/ollama").chmod(0o755)
        file = self.folder / f"ollama-{version}.tgz"
        with tarfile.open(file, "w:gz") as archive:
            archive.add(tree, ".")
        shutil.rmtree(tree)
        # Beside the inventory.
        self.wanted = {
            "ollama_release_version": version,
            "ollama_release_file": file.name,
            "ollama_release_checksum": checksum(file),
        }

    def run(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        (self.folder / "facts.json").write_text(json.dumps({**self.facts, "records": self.records()}))
        facts = f"{{{{ lookup('ansible.builtin.file', '{self.folder}/facts.json') | from_json }}}}"
        state = {"state_dir": str(self.playground.state)}
        tasks = [
            {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": facts, "cacheable": True}},
            {
                "name": "Apply",
                "module_defaults": {"ollama_fleet.stack.record": state, "ollama_fleet.stack.host_info": state},
                "block": [{"name": "Apply it", "ansible.builtin.include_role": {"name": "ollama_fleet.stack.ollama"}}],
            },
        ]
        host = {
            "ollama_mode": "native",
            "ollama_port": self.port,
            "ollama_release_dir": f"{self.folder}/releases",
            "ollama_data_dir": f"{self.folder}/data",
            "ollama_project_dir": f"{self.folder}/project",
            "ollama_start_timeout": 10,
            "ollama_https_proxy": f"http://u:{PASSWORD}@127.0.0.1:9",
            "ollama_ca_certificate": "-----BEGIN CERTIFICATE-----\nfleet\n-----END CERTIFICATE-----",
            **self.wanted,
            **variables,
        }
        own = {
            "__ollama_native_unit": str(self.unit_file),
            "__ollama_native_environment_file": str(self.settings),
            "__ollama_native_authority_file": f"{self.folder}/etc/ca.pem",
            # This machine gets no user and no member of a group more.
            "__ollama_native_user": "root",
            "__ollama_native_groups": [],
        }
        return self.playground.run_on({"gpu1": host}, tasks, "--diff", "-e", json.dumps(own))

    def records(self) -> dict[str, Any]:
        """As host_info tells them, as far as the role looks at them."""
        path = self.playground.state / "ollama.json"
        return {"ollama": json.loads(path.read_text())} if path.exists() else {}

    def version(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/version", timeout=5) as answer:
            return str(json.load(answer)["version"]).removesuffix("-llamacpp-stand-in")


def changed_tasks(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The names of the tasks that changed something, the role's name left out."""
    assert result.returncode == 0, result.stdout + result.stderr
    told = [part for part in result.stdout.split("\nTASK [")[1:] if "\nchanged: [gpu1]" in part]
    return {part.partition("]")[0].rpartition(" : ")[2] for part in told}


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Native]:
    native = Native(tmp_path)
    shim = systemd_shim.install(tmp_path / "bin", native.unit_file)
    monkeypatch.setenv("PATH", f"{shim}{os.pathsep}{os.environ['PATH']}")
    yield native
    subprocess.run([str(shim / "systemctl"), "stop", "ollama"], check=True)


def test_release_is_installed_and_left_when_the_next_one_does_not_start(native: Native) -> None:
    native.release("1.0.0")
    first = native.run()
    assert {"native_install | Verify and unpack the archive", "Record what this role manages"} <= changed_tasks(first)
    assert native.version() == "1.0.0"
    record = native.records()["ollama"]
    assert record["complete"]
    assert record["keep"] == {
        "ports": [native.port],
        "native": {"folder": f"{native.folder}/releases", "user": False},
    }
    assert set(record["manages"]["files"]) == {
        str(native.unit_file),
        str(native.settings),
        f"{native.folder}/releases/current/bin/ollama",
        f"{native.folder}/data",
        f"{native.folder}/etc/ca.pem",
    }
    assert record["manages"]["services"] == {"ollama": {"active": True, "enabled": "enabled"}}

    # The record alone differs: it takes the host that was told here for one of the role's variables.
    assert changed_tasks(native.run()) <= {"Record what this role manages"}

    native.release("1.1.0", CRASH)
    failed = native.run(ollama_context_length=2048)
    assert failed.returncode == 2
    assert "this release cannot start" in failed.stdout
    assert "the old release 1.0.0, unit and environment are back, and it answers" in failed.stdout
    assert native.version() == "1.0.0"
    assert 'OLLAMA_CONTEXT_LENGTH="8192"' in native.settings.read_text()
    links = {path.name: str(path.readlink()) for path in (native.folder / "releases").iterdir() if path.is_symlink()}
    assert links == {"current": "1.0.0"}
    for result in (first, failed):
        assert PASSWORD not in result.stdout + result.stderr


def test_container_that_does_not_start_leaves_the_service(native: Native, tmp_path: Path) -> None:
    native.release("1.0.0")
    assert changed_tasks(native.run())
    unit, settings = native.unit_file.read_text(), native.settings.read_text()
    # A Docker that does not answer.
    (tmp_path / "bin/docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (tmp_path / "bin/docker").chmod(0o755)
    failed = native.run(ollama_mode="docker")
    assert failed.returncode == 2
    assert "systemd runs the server as before, because: Docker does not answer" in failed.stdout
    assert native.version() == "1.0.0"
    assert (native.unit_file.read_text(), native.settings.read_text()) == (unit, settings)
    assert (tmp_path / "bin/enabled").exists()
    assert not (tmp_path / "project").exists()


def test_container_gives_way_comes_back_and_is_left_to_those_who_need_it(native: Native, tmp_path: Path) -> None:
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    asked, runs, neighbours = (tmp_path / "bin" / name for name in ("asked", "runs", "neighbours"))
    runs.touch()
    container = {"name": "ollama", "project_dir": f"{tmp_path}/project", "state": "running", "ports": []}
    native.facts["docker"]["containers"] = [container]
    (tmp_path / "project").mkdir()

    neighbours.write_text("open-webui\n")
    native.release("1.0.0", CRASH)
    refused = native.run()
    assert refused.returncode == 2
    assert "open-webui reaches Ollama by the Docker network ollama-fleet" in refused.stdout
    assert "stop ollama" not in asked.read_text()

    neighbours.write_text("")
    failed = native.run()
    assert failed.returncode == 2
    assert "container ollama serves again" in failed.stdout
    assert asked.read_text().index("stop ollama") < asked.read_text().index("start ollama")
    assert runs.exists()
    assert (tmp_path / "project").exists()

    native.release("1.1.0")
    assert "native_install | Remove its project" in changed_tasks(native.run())
    assert native.version() == "1.1.0"
    assert not runs.exists()

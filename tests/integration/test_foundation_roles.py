"""What the foundation roles refuse, skip and decide, in check mode, on hosts that are told rather than had."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundation import Playground, of_host
from tests.unit.plugins.host_trees import HostTree

KEY = b"a key"
ROLES = ["gpu_preflight", "nvidia_driver", "docker", "nvidia_container_toolkit"]


@dataclass
class Told:
    """A host as it is told to be: how it differs from a fresh server, what its inventory says, what must be said."""

    says: list[str]
    roles: list[str]
    variables: dict[str, Any] = field(default_factory=dict)
    differs: dict[str, Any] = field(default_factory=dict)
    h100: bool = False


def preflight(says: list[str], differs: dict[str, Any] | None = None, **variables: Any) -> Told:
    return Told(says, ["gpu_preflight"], variables, differs or {})


def docker(says: list[str], differs: dict[str, Any] | None = None, **variables: Any) -> Told:
    return Told(says, ["docker"], variables, differs or {})


def gpu(slot: int, device: str, architecture: str, state: str = "ok") -> dict[str, Any]:
    return {
        "pci_address": f"0000:{slot:02x}:00.0",
        "vendor_id": "10de",
        "device_id": device,
        "architecture": architecture,
        "name": None,
        "driver_in_use": None,
        "state": state,
    }


OLLAMA_PORT = {"address": "127.0.0.1", "port": 11434, "protocol": "tcp", "pid": 7, "process": "ollama"}
NATIVE_OLLAMA = {"ollama": {"complete": True, "keep": {"ports": [11434]}, "drift": [], "inputs": {}, "role_digest": ""}}
ARCH = {"id": "arch", "version_id": "", "codename": "", "name": "Arch", "family": "", "architecture": "x86_64"}
ROCKY = {
    "id": "rocky",
    "version_id": "9.4",
    "codename": "",
    "name": "Rocky Linux 9.4",
    "family": "redhat",
    "architecture": "x86_64",
}
ROCKY_8 = ROCKY | {"version_id": "8.9", "name": "Rocky Linux 8.9"}
PODMAN = {"podman-docker": {"version": "5.4", "installed": True, "held": False}}
DOCKER_CE = {"docker-ce": {"version": "5:28", "installed": True, "held": False}}

GUARDED = {
    "file": "/etc/apt/sources.list",
    "uris": ["https://mirror.example/debian"],
    "suites": ["trixie"],
    "components": ["main"],
    "signed_by": "",
    "credentials": True,
}

GOOD = {
    "fresh": Told(["skipped: no NVIDIA GPU on the PCI bus", "skipped: no NVIDIA GPU", "answer from the CPU"], ROLES),
    "h100": Told(
        [
            "NVIDIA H100 80GB HBM3, Hopper 10de:2330 at 0000:00:06.0",
            "install the newest of branch 580 with open modules from Ubuntu's archive; no driver is loaded",
            "Would install nvidia-utils-580-server, nvidia-compute-utils-580-server",
            "four packages at 1.20.1",
            "nvidia-container-toolkit-base=1.20.1-1",
        ],
        ROLES,
        h100=True,
    ),
    # Its port is held by a service that the record of the role ollama names.
    "native": Told(["answer from the CPU"], ["gpu_preflight"], {}, {"ports": [OLLAMA_PORT], "records": NATIVE_OLLAMA}),
}
REFUSED = {
    "small": preflight(
        ["/ has 500.0 GiB free and needs 300 GiB for /var/lib/docker and 300 GiB", "set gpu_preflight_free_disk_gib"],
        gpu_preflight_free_disk_gib={"/var/lib/docker": 300, "/var/lib/ollama": 300},
    ),
    "forgetful": preflight(["has 64.0 GiB of memory"], gpu_preflight_memory_gib=128),
    "taken": preflight(["port 11434 at 127.0.0.1 is taken by ollama (pid 7)", "systemctl"], {"ports": [OLLAMA_PORT]}),
    "cardless": preflight(["no NVIDIA GPU on the PCI bus"], gpu_preflight_gpu_required=True),
    "unmanaged": preflight(["process 1 is not systemd"], {"systemd": False}),
    "strange": preflight(["Arch on x86_64 is not supported", "Use Ubuntu 22.04, 24.04 or 26.04"], {"os": ARCH}),
    "mixed": preflight(
        ["no driver serves both", "Volta 10de:1db6 at 0000:01:00.0", "Blackwell 10de:2901", "Move one kind"],
        {"gpus": [gpu(1, "1db6", "volta"), gpu(2, "2901", "blackwell")]},
    ),
    "lost": preflight(
        ["fallen off the bus (Xid 79)", "Ampere 10de:20b2 at 0000:02:00.0", "reseat the card"],
        {"gpus": [gpu(1, "20b2", "ampere"), gpu(2, "20b2", "ampere", state="lost")]},
    ),
    "ancient": preflight(["Kepler 10de:102d", "Ollama needs 550"], {"gpus": [gpu(1, "102d", "kepler")]}),
    "snapped": docker(["Docker is installed as a snap", "snap remove"], {"docker": {"snap": True}}),
    "foreign": docker(
        ["package docker-ce is installed, but docker_source is distr"], {"docker": {"packages": DOCKER_CE}}
    ),
    "podman": docker(["podman-docker is installed", "apt-get remove podman-docker"], {"docker": {"packages": PODMAN}}),
    "by-hand": docker(["a docker command that no package", "unpacked by hand"], {"docker": {"present": True}}),
    "rocky": docker(
        ["Rocky Linux 9.4 is not supported with docker_source=distribution", "set docker_source to docker"],
        {"os": ROCKY},
    ),
    "old-rocky": docker(
        ["Rocky Linux 8.9 is not supported with docker_source=docker"], {"os": ROCKY_8}, docker_source="docker"
    ),
    "nobody": docker(["docker_users names no-such-user"], docker_users=["no-such-user"]),
    "old": docker(
        ["Debian 12 is not supported with docker_source=distribution", "set docker_source to docker"],
        {"os": {"version_id": "12", "codename": "bookworm", "name": "Debian 12"}},
    ),
    "listening": docker(["must not have", "docker.socket"], docker_daemon_options={"hosts": ["tcp://127.0.0.1"]}),
    "mistaken": docker(["docker_source", "distribution, docker"], docker_source="podman"),
    "outdated": Told(
        ["Ollama needs 550, and nvidia_driver_branch is 535", "NVIDIA H100 80GB HBM3, Hopper 10de:2330"],
        ["nvidia_driver"],
        {"nvidia_driver_branch": 535},
        h100=True,
    ),
    "guarded-mirror": Told(
        ["/etc/apt/sources.list names Debian's mirror with a user name and a password", "add contrib, non-free"],
        ["nvidia_driver"],
        {
            "nvidia_driver_branch": 550,
            "nvidia_driver_flavor": "proprietary",
            "nvidia_driver_source": "distribution",
            "nvidia_driver_lock_file": "/nowhere/driver.lock.yml",
        },
        {"gpus": [gpu(1, "20b5", "ampere")], "repositories": [GUARDED], "os": {"codename": "trixie"}},
    ),
    "unsafe": Told(
        ["nvidia_container_toolkit_version is 1.17.7", "CVE-2025-23266"],
        ["nvidia_container_toolkit"],
        {"nvidia_container_toolkit_version": "1.17.7"},
        h100=True,
    ),
}


def fresh_server(folder: Path) -> dict[str, Any]:
    """A fresh Debian 13 server without a GPU, with room for everything."""
    tree = HostTree(folder).system("debian", "13", "6.12.48+deb13-amd64")
    tree.write("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 67108864 kB\n")
    found = tree.observe().everything()
    space = {"mount_point": "/", "free_bytes": 500 * 1024**3, "total_bytes": 900 * 1024**3}
    found["disk"] = [{"path": path, **space} for path in ("/var/lib/docker", "/var/lib/ollama")]
    found["docker"]["present"] = found["docker"]["snap"] = False
    return found


def fresh_h100(folder: Path) -> dict[str, Any]:
    """What the recorded H100 machine differs by from that, before it had a driver."""
    found = HostTree(folder).recording("nvidia-h100").observe().everything()
    driver = {"loaded": None, "flavor": None, "on_disk": None, "user_space": None, "packages": {}}
    return {key: found[key] for key in ("os", "gpus")} | {"kernel": "6.8.0-45-generic", "driver": driver}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with a key, as a package repository has one."""
    folder = tmp_path_factory.mktemp("www")
    (folder / "gpgkey").write_bytes(KEY)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, mirror: str) -> dict[str, str]:
    """One check run over all hosts: what was said of each, its line in the recap included."""
    folder = tmp_path_factory.mktemp("hosts")
    server, h100 = fresh_server(folder / "server"), fresh_h100(folder / "machine")
    hosts = {}
    for name, told in (GOOD | REFUSED).items():
        facts = server | (h100 if told.h100 else {})
        for key, value in told.differs.items():
            facts[key] = facts[key] | value if isinstance(value, dict) else value
        (folder / f"{name}.json").write_text(json.dumps(facts))
        told_roles = {
            "told_roles": told.roles,
            "nvidia_container_toolkit_repository_url": mirror,
            "nvidia_container_toolkit_repository_key_checksum": f"sha256:{sha256(KEY).hexdigest()}",
        }
        hosts[name] = told_roles | told.variables
    file = f"{folder}/{{{{ inventory_hostname }}}}.json"
    facts_of_host = f"{{{{ lookup('ansible.builtin.file', '{file}') | from_json }}}}"
    tasks = [
        {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": facts_of_host, "cacheable": True}},
        {
            "name": "Apply",
            "ansible.builtin.include_role": {"name": "ollama_fleet.stack.{{ told_role }}"},
            "loop": "{{ told_roles }}",
            "loop_control": {"loop_var": "told_role"},
        },
    ]
    result = Playground(folder).run_on(hosts, tasks, "--check", "--diff", "-v")
    return {name: of_host(result.stdout + result.stderr, name) for name in hosts}


@pytest.mark.parametrize("name", GOOD)
def test_check_mode_on_a_fresh_host_passes_and_says_what_it_would_do(said: dict[str, str], name: str) -> None:
    assert "failed=0" in said[name], said[name]
    for words in GOOD[name].says:
        assert words in said[name]


@pytest.mark.parametrize("name", REFUSED)
def test_host_that_cannot_work_is_refused_with_the_remedy(said: dict[str, str], name: str) -> None:
    assert "failed=1" in said[name], said[name]
    for words in REFUSED[name].says:
        assert words in said[name]

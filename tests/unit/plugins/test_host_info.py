"""host_info keeps its word: every field is documented, nothing is written, nothing is waited for."""

import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.module_utils import reading
from ansible_collections.ollama_fleet.stack.plugins.modules import host_info

from tests.unit.plugins.host_trees import HostTree, Programs

ROOT = Path(__file__).parents[3]
DOCUMENTED = yaml.safe_load(host_info.RETURN)["ansible_facts"]["contains"]["ollama_fleet"]["contains"]
OPTIONS = yaml.safe_load(host_info.DOCUMENTATION)["options"]
TYPES = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict}
DOMAIN = "0000:01:00.0"


def everything(tree: HostTree) -> dict[str, Any]:
    """A host that has one of everything, so that no list is empty."""
    tree.recording("nvidia-h100").kernel("6.18.44-fc-v657-gpu", "580.159.04")
    tree.write("sys/firmware/efi/mok-variables/MokListRT", b"own").write("var/lib/dkms/mok.pub", b"own")
    tree.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x01")
    tree.pci("0000:a1:00.0", "0x10de", "0x22a3", "0x068000").pci(DOMAIN, "0x10de", "0x2901", "0x030200", "vfio-pci")
    tree.pci("0000:c1:00.0", "0x15b3", "0x1021", "0x020700")
    tree.write("sys/bus/pci/devices/0000:c1:00.0/vpd", b"SW_MNG")
    (tree.root / "proc/driver/nvidia-nvswitch/devices/0000:a1:00.0").mkdir(parents=True)
    tree.package("nvidia-fabricmanager-580", "580.159.04-1", "hold ok installed").package("docker.io", "28.4.0")
    tree.package("nvidia-container-toolkit-base", "1.20.1-1").package("nvidia-utils-580", "1", "install ok unpacked")
    tree.write("etc/apt/sources.list", "deb [signed-by=/k] http://x noble main\n")
    tree.write("run/cdi/nvidia.json", '{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}')
    tree.write("usr/bin/docker", "").write("proc/meminfo", "MemTotal: 1 kB\nMemAvailable: 1 kB\n")
    tree.write("etc/ld.so.cache", b"libnvidia-ml.so.1\0").write("usr/lib/libnvidia-ml.so.580.159.04", "")
    library = tree.root / "usr/lib/libnvidia-ml.so.1"
    library.symlink_to("libnvidia-ml.so.580.159.04")
    tree.write("proc/cpuinfo", "processor\t: 0\n")
    listening = "0: 0100007F:2CAA 00000000:0000 0A 0:0 0:0 0 0 0 93419 1"
    tree.write("proc/net/tcp", f"head\n   {listening}\n")
    tree.write("proc/42/comm", "ollama\n").write("proc/42/cgroup", f"0::/system.slice/docker-{'ab' * 32}.scope\n")
    (tree.root / "proc/42/fd").mkdir()
    (tree.root / "proc/42/fd/3").symlink_to("socket:[93419]")
    (tree.root / "proc/42/fd/4").symlink_to("/dev/nvidia-uvm")
    record = {"complete": True, "inputs": {"docker_users": "aa"}, "role_digest": "bb", "keep": {"users": ["ann"]}}
    manages = {"packages": {"docker.io": "28.0.0"}, "services": {"docker": {"active": True, "enabled": "enabled"}}}
    tree.write("state/docker.json", json.dumps({**record, "manages": manages}))
    tree.programs = Programs(
        **{"nvidia_smi --query-compute-apps=pid": "42\n"},
        nvidia_smi="00000000:00:06.0, 81559, Disabled\n",
        docker="v2.40.0\n",
        ldconfig=f"\tlibnvidia-ml.so.1 (libc6,x86-64) => {library}\n",
        systemctl="LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n",
    )
    container = {
        "Id": "ab" * 32,
        "Names": ["/ollama"],
        "Image": "ollama:1",
        "ImageID": "sha256:aa",
        "State": "running",
        "Status": "Up 2 minutes (healthy)",
        "Labels": {"com.docker.compose.project.working_dir": "/opt", "com.docker.compose.config-hash": "cc"},
        "Ports": [{"IP": "127.0.0.1", "PublicPort": 11434, "PrivatePort": 11434}],
    }
    info = {"ServerVersion": "28.4.0", "CgroupDriver": "systemd", "Runtimes": {"runc": {}}, "CDISpecDirs": ["/etc/cdi"]}
    inside = {"HostConfig": {"RestartPolicy": {"Name": "always"}}}
    tree.docker = {"/info": info, "/containers/json?all=1": [container], f"/containers/{'ab' * 32}/json": inside}
    tree.web = {
        "http://127.0.0.1:11434/api/version": {"version": "0.32.15"},
        "http://127.0.0.1:11434/api/tags": {"models": [{"name": "a:1", "digest": "dd", "size": 5}]},
    }
    return tree.observe(disk_paths=["/"]).everything()


def problems(value: Any, told: dict[str, Any], place: str) -> list[str]:
    """Where a value is not what its documentation says, and where it has not been seen at all."""
    if value is None:
        return []
    kind = TYPES[told["type"]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return [f"{place}: {value!r} is no {told['type']}"]
    if kind is list:
        elements = {"type": told["elements"], "description": "", "contains": told.get("contains")}
        found = [problems(item, elements, f"{place}[]") for item in value]
        return [problem for part in found for problem in part] or ([] if value else [f"{place} is empty here"])
    if kind is not dict or not told.get("contains"):
        return []
    if ", by " in told["description"]:
        found = [problems(item, {**told, "description": ""}, f"{place}.*") for item in value.values()]
        return [problem for part in found for problem in part] or ([] if value else [f"{place} is empty here"])
    wrong = [f"{place}.{name} is not documented" for name in sorted(set(value) - set(told["contains"]))]
    wrong += [f"{place}.{name} does not exist" for name in sorted(set(told["contains"]) - set(value))]
    both = sorted(set(value) & set(told["contains"]))
    return wrong + [text for name in both for text in problems(value[name], told["contains"][name], f"{place}.{name}")]


def test_every_field_is_documented_and_every_documented_field_exists(tree: HostTree) -> None:
    told = {"type": "dict", "description": "", "contains": DOCUMENTED}
    assert problems(everything(tree), told, "ollama_fleet") == []


def test_comparison_with_the_documentation_finds_what_differs() -> None:
    told = {"type": "dict", "description": "x", "contains": {"a": {"type": "int", "description": "y"}}}
    assert problems({"b": 1}, told, "x") == ["x.b is not documented", "x.a does not exist"]
    assert problems({"a": "1"}, told, "x") == ["x.a: '1' is no int"]
    assert problems([], {"type": "list", "elements": "str"}, "x") == ["x is empty here"]


def test_numbers_come_with_their_unit() -> None:
    def numbers(fields: dict[str, Any]) -> dict[str, str]:
        found = {}
        for name, told in fields.items():
            if told["type"] in ("int", "float"):
                found[name] = told["description"]
            found |= numbers(told.get("contains") or {})
        return found

    counted = {"cpus", "pid", "port"}
    assert set(numbers(DOCUMENTED)) > counted
    without = [name for name, text in numbers(DOCUMENTED).items() if name not in counted and "byte" not in text.lower()]
    assert without == []


def test_every_root_is_an_option_of_the_module() -> None:
    assert set(OPTIONS) == set(host_info.ARGUMENTS)
    for name, told in OPTIONS.items():
        assert told["default"] == host_info.ARGUMENTS[name]["default"], name


WATCHED = textwrap.dedent(
    """
    import json, os, sys
    writes = []
    CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink",
               "os.truncate", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"}

    def watch(event, arguments):
        if event == "open" and arguments[0] != os.devnull:
            path, mode, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                writes.append([event, str(path)])
        elif event in CHANGES:
            writes.append([event, str(arguments[0])])

    sys.addaudithook(watch)
    from ansible_collections.ollama_fleet.stack.plugins.module_utils import observe
    facts = observe.Host(**json.loads(sys.argv[1])).everything()
    if sys.argv[2:]:
        open(sys.argv[2], "w").close()
    print(json.dumps({"writes": writes, "parts": len(facts)}))
    """
)


def watched(*arguments: str) -> dict[str, Any]:
    """Observe this very machine in a Python that reports each file that is opened for writing."""
    command = [sys.executable, "-B", "-c", WATCHED, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "collections"), "PATH": "/usr/bin:/bin"},
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_observation_opens_nothing_for_writing(tmp_path: Path) -> None:
    roots = {"state_dir": str(tmp_path), "docker_socket": str(tmp_path / "none"), "ollama_url": "http://127.0.0.1:9"}
    seen = watched(json.dumps({**roots, "disk_paths": ["/"]}))
    assert seen == {"writes": [], "parts": len(DOCUMENTED)}


def test_watching_for_writes_sees_one(tmp_path: Path) -> None:
    roots = {"state_dir": str(tmp_path), "docker_socket": str(tmp_path / "none"), "ollama_url": "http://127.0.0.1:9"}
    assert watched(json.dumps(roots), str(tmp_path / "x"))["writes"] == [["open", str(tmp_path / "x")]]


def test_tree_is_the_same_after_it_was_observed(tree: HostTree) -> None:
    def state() -> list[tuple[str, int, int]]:
        paths = sorted(tree.root.rglob("*"))
        return [(str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths]

    everything(tree)
    before = state()
    tree.observe().everything()
    assert state() == before


def test_program_that_hangs_is_not_waited_for() -> None:
    start = time.monotonic()
    assert reading.run(["sleep", "20"], timeout=0.1) is None
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("command", [["false"], ["/no/such/program"]])
def test_program_that_fails_or_is_not_there_says_nothing(command: list[str]) -> None:
    assert reading.run(command) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"version": "1"}', {"version": "1"}),
        (b"HTTP/1.1 404 Not Found\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\n\r\nno JSON", None),
        (b"", None),
    ],
)
def test_http_is_spoken_as_far_as_it_is_needed(answer: bytes, expected: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        assert reading.fetch(f"http://127.0.0.1:{port}/api/tags") == expected
        thread.join()
    assert asked[0].startswith(b"GET /api/tags HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n" % port)
    assert reading.fetch(f"http://127.0.0.1:{port}/") is None

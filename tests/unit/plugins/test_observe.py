import json
import os
import socket
import threading
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import observe

from tests.unit.plugins.host_trees import HostTree, Programs

PORTS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 93419 1 0000 100 0 0 10 0
   1: 0100007F:2CAA 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 43047 1 0000 100 0 0 10 0
"""
PORTS_6 = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 777 1 0 100 0 0 10 0
"""
OLLAMA = "http://127.0.0.1:11434"


def test_recorded_h100_is_recognised(tree: HostTree) -> None:
    host = tree.recording("nvidia-h100").observe()
    assert host.os["id"] == "ubuntu"
    assert host.os["family"] == "debian"
    assert host.os["codename"] == "noble"
    assert host.gpus == [
        {
            "pci_address": "0000:00:06.0",
            "vendor_id": "10de",
            "device_id": "2330",
            "architecture": "hopper",
            "model": "H100 SXM5 80GB",
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-25feab43-6559-516e-dc52-02d4dba66135",
            "driver_in_use": "nvidia",
            "state": "ok",
            "memory_bytes": None,
            "mig": None,
        }
    ]
    assert host.driver["loaded"] == "580.159.04"
    assert host.driver["flavor"] == "open"
    assert host.nvswitches == []


def test_recorded_pair_of_h200_shows_two_gpus_and_no_nvswitch(tree: HostTree) -> None:
    host = tree.recording("nvidia-h200-x2").observe()
    assert [gpu["pci_address"] for gpu in host.gpus] == ["0000:00:06.0", "0000:00:07.0"]
    assert {gpu["name"] for gpu in host.gpus} == {"NVIDIA H200"}
    assert host.nvswitches == []


def test_host_without_gpu_has_none_and_no_driver(tree: HostTree) -> None:
    host = tree.system("debian", "13", "6.12.0-1-amd64").pci("0000:00:02.0", "0x8086", "0x1234", "0x030000").observe()
    assert host.gpus == []
    assert host.driver["loaded"] is None
    assert host.driver["flavor"] is None
    assert host.driver["user_space"] is None


def test_audio_function_and_nvswitch_are_no_gpus(tree: HostTree) -> None:
    tree.pci("0000:01:00.0", "0x10de", "0x2204", "0x030000")
    tree.pci("0000:01:00.1", "0x10de", "0x1aef", "0x040300")
    tree.pci("0000:05:00.0", "0x10de", "0x22a3", "0x068000")
    host = tree.observe()
    assert [gpu["pci_address"] for gpu in host.gpus] == ["0000:01:00.0"]
    assert host.nvswitches == ["0000:05:00.0"]


def test_unknown_nvidia_id_is_said_to_be_unknown(tree: HostTree) -> None:
    (gpu,) = tree.pci("0000:01:00.0", "0x10de", "0x7fff", "0x030200").observe().gpus
    assert gpu["architecture"] == "unknown"
    assert gpu["name"] is None
    assert gpu["driver_in_use"] is None


def test_card_handed_to_a_virtual_machine_says_so(tree: HostTree) -> None:
    (gpu,) = tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200", "vfio-pci").observe().gpus
    assert gpu["driver_in_use"] == "vfio-pci"


def test_wsl_is_recognised_and_its_gpu_found_without_pci(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "5.15.167.4-microsoft-standard-WSL2")
    assert (tree.observe().wsl, tree.observe().wsl_gpu) == (True, False)
    tree.write("usr/lib/wsl/lib/libcuda.so.1", "")
    assert tree.observe().wsl_gpu is True


@pytest.mark.parametrize(("content", "expected"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False), (None, None)])
def test_secure_boot_comes_from_the_firmware(tree: HostTree, content: bytes | None, expected: bool | None) -> None:
    if content is not None:
        tree.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", content)
    assert tree.observe().secure_boot is expected


def test_three_driver_versions_are_told_apart(tree: HostTree) -> None:
    library = tree.recording("nvidia-h100").root / "usr/local/nvidia/lib64/libnvidia-ml.so.1"
    tree.write("usr/local/nvidia/lib64/libnvidia-ml.so.575.57.08", "")
    library.symlink_to("libnvidia-ml.so.575.57.08")
    tree.write("etc/ld.so.cache", b"glibc-ld.so.cache1.1\0libnvidia-ml.so.1\0" + bytes(library) + b"\0")
    tree.kernel("6.18.44-fc-v657-gpu", "580.173.02")
    tree.programs = Programs(ldconfig=f"2 libs found\n\tlibnvidia-ml.so.1 (libc6,x86-64) => {library}\n")
    driver = tree.observe().driver
    assert (driver["loaded"], driver["on_disk"], driver["user_space"]) == ("580.159.04", "580.173.02", "575.57.08")


def test_loader_without_nvidias_library_starts_no_program(tree: HostTree) -> None:
    tree.write("etc/ld.so.cache", b"glibc-ld.so.cache1.1\0libc.so.6\0")
    assert tree.observe().driver["user_space"] is None
    assert ["ldconfig", "-p"] not in tree.programs.asked


def test_packages_are_sorted_by_what_they_belong_to(tree: HostTree) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64")
    tree.package("docker.io", "26.1.5").package("bash", "5")
    tree.package("nvidia-utils-580-server", "580.159.04-1", "hold ok installed")
    tree.package("nvidia-container-toolkit", "1.20.0-1", "deinstall ok config-files")
    host = tree.observe()
    assert host.docker["packages"] == {"docker.io": {"version": "26.1.5", "installed": True, "held": False}}
    assert host.driver["packages"] == {
        "nvidia-utils-580-server": {"version": "580.159.04-1", "installed": True, "held": True}
    }
    assert host.toolkit["packages"]["nvidia-container-toolkit"]["installed"] is False
    assert (host.package("docker.io"), host.package("nvidia-container-toolkit")) == ("26.1.5", None)
    assert (host.held("nvidia-utils-580-server"), host.held("docker.io"), host.held("none")) == (True, False, False)
    assert host.packages == {"manager": "apt", "broken": [], "held": ["nvidia-utils-580-server"]}


def test_containers_come_with_image_state_health_and_published_ports(tree: HostTree) -> None:
    tree.docker["/version"] = {"Version": "26.1.5"}
    tree.docker["/containers/json?all=1"] = [
        {
            "Id": "abc",
            "Names": ["/ollama"],
            "Image": "ollama:1",
            "ImageID": "sha256:aa",
            "State": "running",
            "Status": "Up 2 minutes (health: starting)",
            "Labels": {"com.docker.compose.project.working_dir": "/opt/ollama-fleet/ollama"},
            "Ports": [{"IP": "127.0.0.1", "PublicPort": 11434, "PrivatePort": 11434}, {"PrivatePort": 1}],
        }
    ]
    host = tree.observe()
    assert host.docker["version"] == "26.1.5"
    assert host.docker["containers"] == [
        {
            "id": "abc",
            "gpu": False,
            "restart": None,
            "name": "ollama",
            "image": "ollama:1",
            "image_id": "sha256:aa",
            "state": "running",
            "health": "starting",
            "project_dir": "/opt/ollama-fleet/ollama",
            "config_hash": None,
            "ports": [{"address": "127.0.0.1", "port": 11434}],
        }
    ]


def test_ollama_is_seen_by_its_own_api(tree: HostTree) -> None:
    assert tree.observe().ollama == {"reachable": False, "version": None, "models": []}
    tree.web[OLLAMA + "/api/version"] = {"version": "0.32.15"}
    tree.web[OLLAMA + "/api/tags"] = {"models": [{"name": "a:1", "digest": "dd", "size": 5, "details": {}}]}
    assert tree.observe().ollama == {
        "reachable": True,
        "version": "0.32.15",
        "models": [{"name": "a:1", "digest": "dd", "size": 5}],
    }


def test_listening_ports_name_their_process_and_open_connections_are_no_ports(tree: HostTree) -> None:
    tree.write("proc/net/tcp", PORTS).write("proc/net/tcp6", PORTS_6).write("proc/42/comm", "ollama\n")
    (tree.root / "proc/42/fd").mkdir()
    (tree.root / "proc/42/fd/3").symlink_to("socket:[93419]")
    assert tree.observe().ports == [
        {"address": "::1", "port": 22, "protocol": "tcp6", "pid": None, "process": None},
        {"address": "127.0.0.1", "port": 11434, "protocol": "tcp", "pid": 42, "process": "ollama"},
    ]


def test_memory_and_processors(tree: HostTree) -> None:
    tree.write("proc/meminfo", "MemTotal:  1024 kB\nMemAvailable:  512 kB\nHugePages_Total:  0\n")
    tree.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n")
    host = tree.observe()
    assert host.memory == {"total_bytes": 1048576, "available_bytes": 524288}
    assert host.cpus == 2


def test_disk_of_a_path_that_is_not_there_is_that_of_its_parent(tree: HostTree, tmp_path: Path) -> None:
    (entry,) = tree.observe(disk_paths=[f"{tmp_path}/not/there"]).disk
    assert entry["path"] == f"{tmp_path}/not/there"
    assert entry["total_bytes"] == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert os.path.ismount(entry["mount_point"])


def test_systemd_is_asked_once_for_all_services(tree: HostTree) -> None:
    tree.programs = Programs(
        systemctl="LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\nLoadState=not-found\nActiveState=inactive\n"
    )
    host = tree.observe()
    assert host.services(["docker", "gone.socket"]) == {
        "docker": {"active": True, "enabled": "enabled"},
        "gone.socket": None,
    }
    host.services(["docker"])
    assert [command[-2:] for command in tree.programs.asked] == [["docker.service", "gone.socket"]]


def test_record_that_is_no_json_says_what_to_do(tree: HostTree) -> None:
    tree.write("state/docker.json", "{")
    with pytest.raises(observe.UnreadableRecordError, match=r"docker\.json is not valid JSON .* remove it"):
        tree.observe().records  # noqa: B018 - the look is the test


def test_everything_can_go_over_the_wire(tree: HostTree) -> None:
    facts = tree.recording("nvidia-h100").observe(disk_paths=["/"]).everything()
    assert json.loads(json.dumps(facts)) == facts


def test_socket_of_docker_is_spoken_to_in_http(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"Version": "26"}')

        thread = threading.Thread(target=answer)
        thread.start()
        assert observe.fetch_from_socket(path, "/version") == {"Version": "26"}
        thread.join()
    assert observe.fetch_from_socket(str(tmp_path / "none.sock"), "/version") is None

"""Hosts by their NVIDIA hardware: each case a tree as its kernel shows it."""

import pytest

from tests.unit.plugins.host_trees import HostTree, Programs

H100, V100, RTX4090, B200, GB200 = "0x2330", "0x1db6", "0x2684", "0x2901", "0x2941"
SERVER, DESKTOP, SWITCH, NETWORK = "0x030200", "0x030000", "0x068000", "0x020700"
VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x)\n"
OLD_VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\n"


def loaded(tree: HostTree, text: str = VERSION, version: str = "580.159.04") -> HostTree:
    return tree.write("proc/driver/nvidia/version", text).write("sys/module/nvidia/version", version + "\n")


def known_to_driver(tree: HostTree, address: str, uuid: str = "GPU-25feab43-6559-516e-dc52-02d4dba66135") -> HostTree:
    text = f"Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t {uuid}\nBus Location: \t {address}\n"
    return tree.write(f"proc/driver/nvidia/gpus/{address}/information", text)


def test_card_needs_no_driver_to_be_known(tree: HostTree) -> None:
    (gpu,) = tree.pci("0000:01:00.0", "0x10de", H100, SERVER).observe().gpus
    assert gpu == {
        "pci_address": "0000:01:00.0",
        "vendor_id": "10de",
        "device_id": "2330",
        "architecture": "hopper",
        "model": "H100 SXM5 80GB",
        "name": None,
        "uuid": None,
        "driver_in_use": None,
        "state": "ok",
        "memory_bytes": None,
        "mig": None,
    }
    assert tree.programs.asked == []


@pytest.mark.parametrize(("mode", "expected"), [("Enabled", True), ("Disabled", False), ("[N/A]", None)])
def test_memory_and_mig_come_from_the_driver(tree: HostTree, mode: str, expected: bool | None) -> None:
    loaded(tree).pci("0000:01:00.0", "0x10de", H100, SERVER, "nvidia")
    known_to_driver(tree, "0000:01:00.0")
    tree.programs = Programs(nvidia_smi=f"00000000:01:00.0, 81559, {mode}\n")
    (gpu,) = tree.observe().gpus
    assert (gpu["memory_bytes"], gpu["mig"]) == (81559 * 1024**2, expected)
    assert gpu["uuid"] == "GPU-25feab43-6559-516e-dc52-02d4dba66135"
    assert len(tree.programs.asked) == 1


def test_mig_is_told_apart_card_by_card_over_pci_domains(tree: HostTree) -> None:
    loaded(tree)
    for address in ("0000:01:00.0", "0001:01:00.0", "0002:0f:00.0"):
        tree.pci(address, "0x10de", H100, SERVER, "nvidia")
        known_to_driver(tree, address)
    modes = {"00000000:01:00.0": "Enabled", "00000001:01:00.0": "Disabled", "00000002:0F:00.0": "[N/A]"}
    tree.programs = Programs(nvidia_smi="".join(f"{address}, 81559, {mode}\n" for address, mode in modes.items()))
    assert [gpu["mig"] for gpu in tree.observe().gpus] == [True, False, None]


def test_driver_that_does_not_answer_leaves_the_card_as_pci_shows_it(tree: HostTree) -> None:
    loaded(tree).pci("0000:01:00.0", "0x10de", H100, SERVER, "nvidia")
    (gpu,) = known_to_driver(tree, "0000:01:00.0", "GPU-????????-????-????-????-????????????").observe().gpus
    assert (gpu["memory_bytes"], gpu["mig"], gpu["uuid"], gpu["state"]) == (None, None, None, "ok")


def test_cards_for_virtual_machines_are_not_asked_after(tree: HostTree) -> None:
    loaded(tree)
    for slot in (1, 2):
        tree.pci(f"0000:0{slot}:00.0", "0x10de", RTX4090, DESKTOP, "vfio-pci")
    host = tree.observe()
    assert {(gpu["driver_in_use"], gpu["state"]) for gpu in host.gpus} == {("vfio-pci", "ok")}
    assert tree.programs.asked == []


def test_card_whose_configuration_reads_ones_is_lost(tree: HostTree) -> None:
    tree.pci("0000:01:00.0", "0x10de", H100, SERVER).write("sys/bus/pci/devices/0000:01:00.0/config", b"\xff" * 256)
    tree.pci("0000:02:00.0", "0x10de", H100, SERVER)
    tree.write("sys/bus/pci/devices/0000:02:00.0/config", b"\xde\x10\x30\x23" + bytes(252))
    assert [gpu["state"] for gpu in tree.observe().gpus] == ["lost", "ok"]


def test_card_that_its_driver_gave_up_is_lost(tree: HostTree) -> None:
    loaded(tree)
    for slot in (1, 2):
        tree.pci(f"0000:0{slot}:00.0", "0x10de", H100, SERVER, "nvidia")
    known_to_driver(tree, "0000:01:00.0")
    assert [gpu["state"] for gpu in tree.observe().gpus] == ["ok", "lost"]


def test_mixed_architectures_stay_apart(tree: HostTree) -> None:
    tree.pci("0000:01:00.0", "0x10de", V100, SERVER).pci("0000:02:00.0", "0x10de", "0x2bb5", SERVER)
    tree.pci("0000:03:00.0", "0x10de", "0x7fff", SERVER)
    assert [gpu["architecture"] for gpu in tree.observe().gpus] == ["volta", "blackwell", "unknown"]


def test_no_nvidia_card_means_no_question_to_anybody(tree: HostTree) -> None:
    tree.system("debian", "13", "6.12.0-1-amd64").pci("0000:00:02.0", "0x8086", "0x1234", "0x030000")
    tree.pci("0000:03:00.0", "0x1002", "0x744c", "0x030000", "amdgpu")
    found = tree.observe().everything()
    assert (found["gpus"], found["nvswitches"], found["nvswitch_bridges"]) == ([], [], [])
    assert found["driver"]["processes"] == []
    assert tree.programs.asked == []


def test_nvswitches_of_hgx_h100_are_pci_devices(tree: HostTree) -> None:
    loaded(tree)
    for slot in range(1, 5):
        tree.pci(f"0000:a{slot}:00.0", "0x10de", "0x22a3", SWITCH, "nvidia-nvswitch")
        (tree.root / f"proc/driver/nvidia-nvswitch/devices/0000:a{slot}:00.0").mkdir(parents=True)
    host = tree.observe()
    assert len(host.nvswitches) == 4
    assert host.driver["nvswitch_devices"] == host.nvswitches
    assert host.gpus == []


def bridge(tree: HostTree, slot: int, text: bytes) -> None:
    address = f"0000:c{slot}:00.0"
    tree.pci(address, "0x15b3", "0x1021", NETWORK, "mlx5_core")
    tree.write(f"sys/bus/pci/devices/{address}/vpd", b"\x82\x20\x00NVIDIA ConnectX-7" + text)


def test_nvswitches_of_hgx_b200_are_behind_bridges_and_network_cards_are_not_such(tree: HostTree) -> None:
    tree.pci("0000:01:00.0", "0x10de", B200, SERVER)
    bridge(tree, 1, b"SMDL=SW_MNG")
    bridge(tree, 2, b"a network card")
    assert tree.observe().nvswitch_bridges == ["0000:c1:00.0"]


@pytest.mark.parametrize("card", [H100, GB200])
def test_bridges_are_looked_for_only_beside_cards_that_have_them(tree: HostTree, card: str) -> None:
    tree.pci("0000:01:00.0", "0x10de", card, SERVER)
    bridge(tree, 1, b"SMDL=SW_MNG")
    assert tree.observe().nvswitch_bridges == []


def test_fabric_manager_is_seen_with_version_and_state(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "6.8.0-45-generic", "debian")
    assert tree.observe().driver["fabric_manager"] is None
    tree.package("nvidia-fabricmanager-580", "580.159.04-0ubuntu0.24.04.1")
    tree.programs = Programs(systemctl="LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n")
    expected = {"version": "580.159.04-0ubuntu0.24.04.1", "active": False}
    assert tree.observe().driver["fabric_manager"] == expected


@pytest.mark.parametrize(
    ("text", "version", "flavor"), [(VERSION, "580.159.04", "open"), (OLD_VERSION, "550.163.01", "proprietary")]
)
def test_loaded_module_says_its_version_and_flavor(tree: HostTree, text: str, version: str, flavor: str) -> None:
    tree.write("proc/driver/nvidia/version", text)
    assert (tree.observe().driver["loaded"], tree.observe().driver["flavor"]) == (version, flavor)


def test_nouveau_is_seen_loaded(tree: HostTree) -> None:
    assert tree.observe().driver["nouveau"] is False
    (tree.root / "sys/module/nouveau").mkdir(parents=True)
    assert tree.observe().driver["nouveau"] is True


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("etc/modprobe.d/a.conf", "blacklist nouveau\noptions nouveau modeset=0\n", True),
        ("usr/lib/modprobe.d/nvidia.conf", "# x\n  blacklist nouveau\n", True),
        ("run/modprobe.d/a.conf", "install nouveau /bin/false\n", True),
        ("proc/cmdline", "quiet rd.driver.blacklist=nouveau modprobe.blacklist=pcspkr,nouveau\n", True),
        ("etc/modprobe.d/a.conf", "# blacklist nouveau\n", False),
        ("etc/modprobe.d/a.conf", "blacklist nouveau_extra\n", False),
        ("etc/modprobe.d/a.conf.bak", "blacklist nouveau\n", False),
        ("proc/cmdline", "nouveau.modeset=1\n", False),
    ],
)
def test_nouveau_is_blocked_by_modprobe_or_the_kernels_command_line(
    tree: HostTree, path: str, text: str, expected: bool
) -> None:
    assert tree.write(path, text).observe().driver["nouveau_blocked"] is expected


def process(tree: HostTree, pid: int, name: str, target: str, group: str = "0::/\n") -> None:
    tree.write(f"proc/{pid}/comm", name + "\n").write(f"proc/{pid}/cgroup", group)
    (tree.root / f"proc/{pid}/fd").mkdir()
    (tree.root / f"proc/{pid}/fd/7").symlink_to(target)


def test_who_computes_on_a_gpu_is_named_with_its_container(tree: HostTree) -> None:
    loaded(tree).pci("0000:01:00.0", "0x10de", H100, SERVER, "nvidia")
    known_to_driver(tree, "0000:01:00.0")
    identity = "ab" * 32
    process(tree, 10, "ollama", "/dev/nvidia-uvm", f"0::/system.slice/docker-{identity}.scope\n")
    process(tree, 11, "python3", "/dev/nvidia-uvm", "0::/user.slice\n")
    process(tree, 12, "dcgm-exporter", "/dev/nvidiactl")
    process(tree, 13, "nvidia-persistenced"[:15], "/dev/nvidia-uvm")
    process(tree, 14, "pod", "/dev/nvidia-uvm", f"0::/machine.slice/libpod-{'cd' * 32}.scope\n")
    tree.docker = {
        "/info": {"ServerVersion": "28.4.0"},
        "/containers/json?all=1": [
            {"Id": identity, "Names": ["/ollama"], "Image": "o", "ImageID": "sha256:0", "State": "running"}
        ],
    }
    assert tree.observe().driver["processes"] == [
        {"pid": 10, "name": "ollama", "container": "ollama"},
        {"pid": 11, "name": "python3", "container": None},
        {"pid": 14, "name": "pod", "container": "cd" * 32},
    ]


def test_what_only_watches_is_not_computing(tree: HostTree) -> None:
    loaded(tree).pci("0000:01:00.0", "0x10de", H100, SERVER, "nvidia")
    process(tree, 10, "ollama", "/dev/nvidia-uvm")
    process(tree, 11, "exporter", "/dev/nvidia-uvm")
    tree.programs = Programs(**{"nvidia_smi --query-compute-apps=pid": "10\n99\n"})
    assert [item["name"] for item in tree.observe().driver["processes"]] == ["ollama"]


def test_wsl_has_a_gpu_without_pci_and_no_driver_of_its_own(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "5.15.167.4-microsoft-standard-WSL2", "debian")
    tree.write("usr/lib/wsl/lib/libcuda.so.1", "").write("usr/lib/wsl/lib/nvidia-smi", "")
    found = tree.observe().everything()
    assert (found["wsl"], found["wsl_gpu"], found["gpus"]) == (True, True, [])
    assert (found["driver"]["loaded"], found["driver"]["on_disk"], found["secure_boot"]) == (None, None, None)


def test_arm_server_is_seen_as_one(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "6.14.0-1015-nvidia-64k", "debian").write("proc/sys/kernel/arch", "aarch64\n")
    tree.pci("0009:01:00.0", "0x10de", "0x2342", SERVER, "nvidia")
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.159.04  Release Build  (x)\n"
    host = loaded(tree, text).observe()
    assert host.os["architecture"] == "aarch64"
    assert (host.gpus[0]["model"], host.driver["flavor"]) == ("GH200 120GB / 480GB", "open")

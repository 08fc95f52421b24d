"""The driver's module for each kernel that can boot, as Ubuntu, Debian, Enterprise Linux and DKMS put it on disk."""

import gzip
from pathlib import Path

import pytest

from tests.unit.plugins.host_trees import HostTree, Programs

NOBLE, NEXT = "6.8.0-45-generic", "6.8.0-60-generic"
TRIXIE = "6.12.107+deb13-amd64"


def test_each_kernel_that_can_boot_has_its_own_module_or_none(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", NOBLE)
    tree.kernel(NOBLE, "580.159.04", "kernel/nvidia-580srv-open/nvidia.ko", headers=True).kernel(NEXT)
    kernels = tree.observe().kernels
    assert [(k["release"], k["running"], k["headers"]) for k in kernels] == [(NOBLE, True, True), (NEXT, False, False)]
    assert kernels[0]["module"] == {
        "version": "580.159.04",
        "flavor": "open",
        "path": f"{tree.root}/modules/{NOBLE}/kernel/nvidia-580srv-open/nvidia.ko",
    }
    assert kernels[1]["module"] is None
    assert tree.observe().driver["on_disk"] == "580.159.04"
    assert tree.programs.asked == []


@pytest.mark.parametrize(
    ("path", "licence", "flavor"),
    [
        ("updates/dkms/nvidia.ko", "Dual MIT/GPL", "open"),
        ("updates/dkms/nvidia.ko.xz", "NVIDIA", "proprietary"),
        ("updates/dkms/nvidia-current.ko.xz", "NVIDIA", "proprietary"),
        ("extra/nvidia.ko.xz", "Dual MIT/GPL", "open"),
        ("weak-updates/nvidia/nvidia.ko.xz", "Dual MIT/GPL", "open"),
        ("kernel/drivers/video/nvidia.ko", "NVIDIA", "proprietary"),
    ],
)
def test_module_is_read_wherever_the_distribution_puts_it(tree: HostTree, path: str, licence: str, flavor: str) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE, "550.163.01", path, licence=licence)
    module = tree.observe().kernels[0]["module"]
    assert (module["version"], module["flavor"]) == ("550.163.01", flavor)
    assert tree.programs.asked == []


def test_gzip_is_read_and_zstandard_is_asked_of_modinfo(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", NOBLE).kernel(NOBLE, "1.0", "updates/dkms/nvidia.ko.gz").kernel(NEXT)
    content = b"\0version=580.159.04\0license=NVIDIA\0"
    tree.write(f"modules/{NOBLE}/updates/dkms/nvidia.ko.gz", gzip.compress(content))
    tree.write(f"modules/{NEXT}/modules.dep", "updates/dkms/nvidia.ko.zst:\n")
    tree.write(f"modules/{NEXT}/updates/dkms/nvidia.ko.zst", b"\x28\xb5\x2f\xfd")
    tree.programs = Programs(modinfo="filename: x\nversion:        580.173.02\nlicense:        Dual MIT/GPL\n")
    found = [(kernel["module"]["version"], kernel["module"]["flavor"]) for kernel in tree.observe().kernels]
    assert found == [("580.159.04", "proprietary"), ("580.173.02", "open")]
    assert tree.programs.asked == [["modinfo", f"{tree.root}/modules/{NEXT}/updates/dkms/nvidia.ko.zst"]]


def test_module_that_cannot_be_read_is_there_without_a_version(tree: HostTree) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE, "1.0", "updates/dkms/nvidia.ko.xz")
    path = tree.root / f"modules/{TRIXIE}/updates/dkms/nvidia.ko.xz"
    path.write_bytes(path.read_bytes()[:20])
    assert tree.observe().kernels[0]["module"] == {"version": None, "flavor": None, "path": str(path)}


def test_other_modules_of_nvidias_are_not_the_driver(tree: HostTree) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE)
    index = "kernel/drivers/net/forcedeth.ko:\nupdates/dkms/nvidia-current-uvm.ko.xz: x\nupdates/nvidia-drm.ko:\n"
    tree.write(f"modules/{TRIXIE}/modules.dep", index)
    assert tree.observe().kernels[0]["module"] is None


def test_module_that_the_index_names_and_nobody_has_is_none(tree: HostTree) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE).write(f"modules/{TRIXIE}/modules.dep", "extra/nvidia.ko:\n")
    assert tree.observe().kernels[0]["module"] is None


def dkms(tree: HostTree, release: str, version: str, size_of: Path, core: bool) -> None:
    """What DKMS notes of a module that it built and put there."""
    folder = f"var/lib/dkms/nvidia-current/{version}"
    tree.write(f"{folder}/{release}/x86_64/module/{size_of.name}", bytes(size_of.stat().st_size))
    tree.write(f"{folder}/source/dkms.conf", "")
    if core:
        tree.write(f"{folder}/source/nvidia/nv-kernel.o_binary", "")
    link = tree.root / f"var/lib/dkms/nvidia-current/kernel-{release}-x86_64"
    link.symlink_to(f"{version}/{release}/x86_64")


@pytest.mark.parametrize(("core", "flavor"), [(True, "proprietary"), (False, "open")])
def test_module_of_dkms_is_known_without_decompressing_it(tree: HostTree, core: bool, flavor: str) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE, "1.0", "updates/dkms/nvidia-current.ko.xz")
    path = tree.root / f"modules/{TRIXIE}/updates/dkms/nvidia-current.ko.xz"
    path.write_bytes(b"not to be read")
    dkms(tree, TRIXIE, "550.163.01", path, core)
    assert tree.observe().kernels[0]["module"] == {"version": "550.163.01", "flavor": flavor, "path": str(path)}


def test_note_of_dkms_about_another_file_is_not_believed(tree: HostTree) -> None:
    tree.system("debian", "13", TRIXIE).kernel(TRIXIE, "580.159.04", "updates/dkms/nvidia.ko.xz")
    path = tree.root / f"modules/{TRIXIE}/updates/dkms/nvidia.ko.xz"
    dkms(tree, TRIXIE, "550.163.01", path, core=True)
    tree.write(f"var/lib/dkms/nvidia-current/550.163.01/{TRIXIE}/x86_64/module/nvidia.ko.xz", b"of another build")
    module = tree.observe().kernels[0]["module"]
    assert (module["version"], module["flavor"]) == ("580.159.04", "open")


def test_rescue_images_and_old_ones_do_not_boot_next(tree: HostTree) -> None:
    tree.system("rocky", "9.6", "5.14.0-570.12.1.el9_6.x86_64").kernel("5.14.0-570.12.1.el9_6.x86_64")
    for name in ("vmlinuz-0-rescue-aabb", "vmlinuz-6.1.0.old", "initrd.img-9.9.9", "config-9.9.9"):
        tree.write(f"boot/{name}", "")
    assert [kernel["release"] for kernel in tree.observe().kernels] == ["5.14.0-570.12.1.el9_6.x86_64"]


def test_image_beside_its_modules_counts(tree: HostTree) -> None:
    tree.system("fedora", "44", "7.1.4-200.fc44.x86_64")
    for release in ("7.1.4-200.fc44.x86_64", "7.1.9-200.fc44.x86_64"):
        tree.write(f"modules/{release}/vmlinuz", "")
    assert [kernel["release"] for kernel in tree.observe().kernels] == [
        "7.1.4-200.fc44.x86_64",
        "7.1.9-200.fc44.x86_64",
    ]


def test_container_shows_the_running_kernel_and_those_with_modules(tree: HostTree) -> None:
    tree.system("debian", "13", "6.18.44-fc").write(f"modules/{TRIXIE}/modules.dep", "")
    tree.write("modules/6.18.44-fc/updates/dkms/nvidia.ko", b"\0version=580.159.04\0license=NVIDIA\0")
    kernels = tree.observe().kernels
    assert [kernel["release"] for kernel in kernels] == ["6.18.44-fc", TRIXIE]
    assert kernels[0]["module"]["version"] == "580.159.04"  # found without an index: no depmod has run

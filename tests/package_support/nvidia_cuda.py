"""Fixtures with the names, versions and dependencies of NVIDIA's CUDA repositories for Debian 13 and Ubuntu 24.04.

What is true of the real ones and matters here:
- for Debian, package names have no branch; for Ubuntu they lose it from 590 on, and the new ones replace the old;
- the parts of a driver depend on each other at exactly one version, but cuda-drivers-580 on the driver at *least* at
  its own version: without pins it brings the newest branch;
- every version stays in the repository, so that several branches are there at once.
"""

from collections.abc import Sequence

from tests.package_support import parts
from tests.package_support.deb import Package
from tests.package_support.repository import ARCHITECTURE

VERSIONS = ("580.126.09", "580.159.04", "590.48.01", "595.71.05")
NVLSM = "2025.10.11-1"


def debian(versions: Sequence[str] = VERSIONS) -> list[Package]:
    """debian13/x86_64."""
    return [package for version in versions for package in _debian(version)] + [_plain("nvlsm", NVLSM, {})]


def ubuntu(versions: Sequence[str] = VERSIONS) -> list[Package]:
    """ubuntu2404/x86_64."""
    return [
        package
        for version in versions
        for package in (_ubuntu_numbered if _branch(version) < 590 else _ubuntu_unnumbered)(version)
    ]


def _branch(version: str) -> int:
    return int(version.partition(".")[0])


def _plain(name: str, version: str, relations: dict[str, str]) -> Package:
    return Package(name, version, ARCHITECTURE, relations)


def _debian(driver: str) -> list[Package]:
    version = f"{driver}-1"
    exactly = f"(= {version})"
    dkms = f"firmware-nvidia-gsp {exactly}, nvidia-kernel-support {exactly}"
    libraries = ("libcuda1", "libnvidia-ml1", "libnvidia-nvvm4", "libnvidia-ptxjitcompiler1")
    kernel = f"nvidia-kernel-dkms {exactly} | nvidia-kernel-open-dkms {exactly}"
    found = [
        parts.library("libcuda1", version, "libcuda.so", driver, {}),
        parts.library("libnvidia-ml1", version, "libnvidia-ml.so", driver, {}),
        _plain("libnvidia-cfg1", version, {}),
        _plain("libnvidia-nvvm4", version, {}),
        _plain("libnvidia-ptxjitcompiler1", version, {}),
        _plain("firmware-nvidia-gsp", version, {}),
        _plain("nvidia-modprobe", version, {}),
        _plain("nvidia-kernel-support", version, {"Depends": "nvidia-modprobe"}),
        parts.kernel_modules("nvidia-kernel-dkms", version, driver, "proprietary", {"Depends": dkms}),
        parts.kernel_modules(
            "nvidia-kernel-open-dkms", version, driver, "open", {"Depends": dkms, "Conflicts": "nvidia-kernel-dkms"}
        ),
        parts.service("nvidia-persistenced", version, {"Depends": f"libnvidia-cfg1 {exactly}"}),
        parts.smi(
            "nvidia-driver-cuda",
            version,
            driver,
            {"Depends": ", ".join([*(f"{name} {exactly}" for name in libraries), kernel])},
        ),
        _plain("nvidia-driver", version, {"Depends": f"nvidia-driver-cuda {exactly}, {kernel}"}),
        _plain(
            "cuda-drivers", version, {"Depends": f"nvidia-driver (>= {version}), nvidia-kernel-dkms (>= {version})"}
        ),
        _plain(
            "nvidia-open", version, {"Depends": f"nvidia-driver (>= {version}), nvidia-kernel-open-dkms (>= {version})"}
        ),
        parts.service("nvidia-fabricmanager", version, {}),
        parts.service("nvidia-imex", version, {}),
    ]
    if _branch(driver) <= 580:
        # The trap: "at least" brings the newest branch.
        found.append(
            _plain(
                f"cuda-drivers-{_branch(driver)}",
                version,
                {"Depends": f"nvidia-driver (>= {version}), nvidia-kernel-dkms (>= {version})"},
            )
        )
    return found


def _ubuntu_numbered(driver: str) -> list[Package]:
    """Until 580: the branch is in every name."""
    version, branch = f"{driver}-1ubuntu1", _branch(driver)
    exactly = f"(= {version})"
    common = f"nvidia-kernel-common-{branch} {exactly}"
    found = [
        parts.library(f"libnvidia-compute-{branch}", version, "libnvidia-ml.so", driver, {}),
        _plain(f"libnvidia-cfg1-{branch}", version, {}),
        _plain(f"nvidia-firmware-{branch}-{driver}", version, {}),
        _plain(f"nvidia-kernel-common-{branch}", version, {"Depends": f"nvidia-firmware-{branch}-{driver}"}),
        parts.smi(f"nvidia-utils-{branch}", version, driver, {"Depends": f"libnvidia-compute-{branch} {exactly}"}),
        parts.service(
            f"nvidia-compute-utils-{branch}",
            version,
            {"Depends": f"libnvidia-compute-{branch} {exactly}, libnvidia-cfg1-{branch} {exactly}"},
            unit="nvidia-persistenced",
        ),
        parts.service("nvidia-fabricmanager", version, {}),
        _plain(f"cuda-drivers-{branch}", version, {"Depends": f"nvidia-headless-{branch} {exactly}"}),
        _plain("cuda-drivers", version, {"Depends": f"cuda-drivers-{branch} {exactly}"}),
    ]
    for suffix, flavor in (("", "proprietary"), ("-open", "open")):
        other = "-open" if not suffix else ""
        found += [
            parts.kernel_modules(
                f"nvidia-dkms-{branch}{suffix}",
                version,
                driver,
                flavor,
                {"Depends": common, "Conflicts": f"nvidia-dkms-{branch}{other}"},
            ),
            _plain(
                f"nvidia-headless-{branch}{suffix}",
                version,
                {
                    "Depends": f"nvidia-dkms-{branch}{suffix} {exactly}, libnvidia-compute-{branch} {exactly},"
                    f" nvidia-compute-utils-{branch} {exactly}"
                },
            ),
        ]
    return found


def _ubuntu_unnumbered(driver: str) -> list[Package]:
    """From 590 on: no branch in the names, and each package takes the place of the numbered ones."""
    version = f"{driver}-1ubuntu1"
    exactly = f"(= {version})"

    def instead(*names: str) -> dict[str, str]:
        old = ", ".join(names)
        return {"Conflicts": old, "Replaces": old}

    found = [
        parts.library("libnvidia-compute", version, "libnvidia-ml.so", driver, instead("libnvidia-compute-580")),
        _plain("libnvidia-cfg1", version, instead("libnvidia-cfg1-580")),
        _plain("nvidia-firmware", version, {}),
        _plain(
            "nvidia-kernel-common",
            version,
            {"Depends": f"nvidia-firmware {exactly}", **instead("nvidia-kernel-common-580")},
        ),
        parts.smi(
            "nvidia-utils",
            version,
            driver,
            {"Depends": f"libnvidia-compute {exactly}", **instead("nvidia-utils-580")},
        ),
        parts.service(
            "nvidia-persistenced",
            version,
            {"Depends": f"libnvidia-cfg1 {exactly}", **instead("nvidia-compute-utils-580")},
        ),
        parts.service("nvidia-fabricmanager", version, {}),
        _plain("cuda-drivers", version, {"Depends": f"nvidia-dkms {exactly}, nvidia-utils {exactly}"}),
    ]
    for suffix, flavor, other in (("", "proprietary", "-open"), ("-open", "open", "")):
        replaced = instead(f"nvidia-dkms{other}", "nvidia-dkms-580", "nvidia-dkms-580-open")
        found.append(
            parts.kernel_modules(
                f"nvidia-dkms{suffix}",
                version,
                driver,
                flavor,
                {"Depends": f"nvidia-kernel-common {exactly}", **replaced},
            )
        )
    return found

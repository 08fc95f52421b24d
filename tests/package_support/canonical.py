"""Fixtures with the names, versions and dependencies of Ubuntu's server drivers (24.04, restricted).

What is true of the real ones and matters here: branch 550 has ended, so packages with its name are empty, carry the
version of 580 and depend on it. Prebuilt modules carry the version of their kernel and depend on the driver's common
files at least at the version that they were built from.
"""

from tests.package_support import parts
from tests.package_support.deb import Package
from tests.package_support.repository import ARCHITECTURE

ENDED, ENDED_DRIVER = 550, "550.163.01"
BRANCH, DRIVERS = 580, ("580.126.09", "580.159.04")
KERNEL, KERNEL_VERSION = "6.8.0-60-generic", "6.8.0-60.63"


def packages() -> list[Package]:
    found = _driver(ENDED, ENDED_DRIVER)
    for driver in DRIVERS:
        found += _driver(BRANCH, driver)
    found += _prebuilt(BRANCH, DRIVERS[-1])
    return found + _transitional(DRIVERS[-1])


def revision(driver: str) -> str:
    return f"{driver}-0ubuntu0.24.04.1"


def _plain(name: str, version: str, relations: dict[str, str]) -> Package:
    return Package(name, version, ARCHITECTURE, relations)


def _driver(branch: int, driver: str) -> list[Package]:
    version, end = revision(driver), f"{branch}-server"
    exactly = f"(= {version})"
    found = [
        parts.library(f"libnvidia-compute-{end}", version, "libnvidia-ml.so", driver, {}),
        _plain(f"libnvidia-cfg1-{end}", version, {}),
        _plain(f"nvidia-firmware-{end}-{driver}", version, {}),
        _plain(f"nvidia-kernel-common-{end}", version, {"Depends": f"nvidia-firmware-{end}-{driver}"}),
        parts.smi(f"nvidia-utils-{end}", version, driver, {"Depends": f"libnvidia-compute-{end} {exactly}"}),
        parts.service(
            f"nvidia-compute-utils-{end}",
            version,
            {"Depends": f"libnvidia-compute-{end} {exactly}, libnvidia-cfg1-{end} {exactly}"},
            unit="nvidia-persistenced",
        ),
        parts.service(f"nvidia-fabricmanager-{branch}", version, {}, unit="nvidia-fabricmanager"),
    ]
    for suffix, flavor in (("", "proprietary"), ("-open", "open")):
        modules, source = f"nvidia-dkms-{end}{suffix}", f"nvidia-kernel-source-{end}{suffix}"
        other = f"nvidia-dkms-{end}" + ("" if suffix else "-open")
        common = f"nvidia-kernel-common-{end} {exactly}"
        libraries = f"libnvidia-compute-{end} {exactly}, nvidia-compute-utils-{end} {exactly}"
        found += [
            _plain(source, version, {}),
            parts.kernel_modules(
                modules, version, driver, flavor, {"Depends": f"{source} {exactly}, {common}", "Conflicts": other}
            ),
            _plain(
                f"nvidia-headless-no-dkms-{end}{suffix}",
                version,
                {"Depends": f"{common}, {source} {exactly}, {libraries}"},
            ),
            _plain(f"nvidia-headless-{end}{suffix}", version, {"Depends": f"{modules} {exactly}, {libraries}"}),
        ]
    return found


def _prebuilt(branch: int, driver: str) -> list[Package]:
    end = f"{branch}-server"
    found = []
    for suffix, flavor in (("", "proprietary"), ("-open", "open")):
        name = f"linux-modules-nvidia-{end}{suffix}-{KERNEL}"
        found += [
            parts.prebuilt_modules(
                name,
                KERNEL_VERSION,
                driver,
                flavor,
                kernel=KERNEL,
                relations={"Depends": f"nvidia-kernel-common-{end} (>= {driver})"},
            ),
            _plain(
                f"linux-modules-nvidia-{end}{suffix}-generic",
                KERNEL_VERSION,
                {"Depends": f"{name} (= {KERNEL_VERSION}), nvidia-kernel-common-{end} (>= {driver})"},
            ),
        ]
    return found


def _transitional(driver: str) -> list[Package]:
    """Packages of the ended branch as they are now: empty, and 580 inside."""
    version = revision(driver)
    old, new = f"{ENDED}-server", f"{BRANCH}-server"
    stems = ("nvidia-utils", "nvidia-compute-utils", "libnvidia-compute", "nvidia-headless-no-dkms", "nvidia-headless")
    found = [_plain(f"{stem}-{old}", version, {"Depends": f"{stem}-{new} (= {version})"}) for stem in stems]
    # One that kept its own version and brings the other branch all the same.
    found.append(_plain(f"nvidia-headless-{ENDED}", revision(ENDED_DRIVER), {"Depends": f"nvidia-headless-{new}"}))
    return found + [
        _plain(f"{stem}-{old}-open", version, {"Depends": f"{stem}-{new}-open (= {version})"})
        for stem in ("nvidia-headless-no-dkms", "nvidia-headless", "nvidia-dkms")
    ]

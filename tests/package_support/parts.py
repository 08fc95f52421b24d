"""What the driver fixtures are made of: a library, nvidia-smi, kernel modules, a service."""

from pathlib import Path

from tests.package_support import deb, kernel_module
from tests.package_support.deb import File, Package
from tests.package_support.repository import ARCHITECTURE, TRIPLET

STUBS = Path(__file__).parent / "stubs"
RECORDED = Path(__file__).parents[1] / "data" / "nvidia-smi" / "h100"
SHARE = "/usr/share/ollama-fleet-fixture"
LICENSES = {"open": "Dual MIT/GPL", "proprietary": "NVIDIA"}


def library(name: str, version: str, so: str, driver: str, relations: dict[str, str]) -> Package:
    """A library whose file name tells the driver, as NVIDIA's do. It is no program code."""
    folder = f"/usr/lib/{TRIPLET}"
    note = f"fixture of {so} {driver}\n"
    files = {f"{folder}/{so}.{driver}": deb.text(note), f"{folder}/{so}.1": File(link=f"{so}.{driver}")}
    return Package(name, version, ARCHITECTURE, relations, files)


def smi(name: str, version: str, driver: str, relations: dict[str, str]) -> Package:
    """nvidia-smi, which answers from a recording; see README.md for when."""
    recorded = {
        f"{SHARE}/nvidia-smi/{path.name}": deb.text(path.read_text().replace("580.159.04", driver))
        for path in sorted(RECORDED.iterdir())
    }
    stub = (STUBS / "nvidia-smi").read_text().replace("@DRIVER@", driver)
    return Package(name, version, ARCHITECTURE, relations, {"/usr/bin/nvidia-smi": deb.script(stub), **recorded})


def service(name: str, version: str, relations: dict[str, str], unit: str = "") -> Package:
    """A package with a unit that runs and does nothing; it is not started, as NVIDIA's are not."""
    text = (
        f"[Unit]\nDescription=Fixture of {unit or name} {version}\n\n"
        "[Service]\nExecStart=/usr/bin/sleep infinity\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    files = {f"/usr/lib/systemd/system/{unit or name}.service": deb.text(text)}
    return Package(name, version, ARCHITECTURE, relations, files)


def module_file(driver: str, flavor: str, kernel: str = "") -> File:
    fields = {"version": driver, "license": LICENSES[flavor], "description": "fixture of NVIDIA's kernel module"}
    return File(
        kernel_module.build({**fields, **({"vermagic": kernel} if kernel else {}), "name": "nvidia"}, ARCHITECTURE)
    )


def kernel_modules(name: str, version: str, driver: str, flavor: str, relations: dict[str, str]) -> Package:
    """Modules that are "built" when the package is configured, for every kernel of the host, as DKMS does."""
    source = f"{SHARE}/{name}/nvidia.ko"
    module = "nvidia-open" if flavor == "open" else "nvidia"
    values = {"@MODULE@": module, "@DRIVER@": driver, "@SOURCE@": source}
    scripts = {part: (STUBS / f"dkms.{part}").read_text() for part in ("postinst", "prerm")}
    for placeholder, value in values.items():
        scripts = {part: text.replace(placeholder, value) for part, text in scripts.items()}
    return Package(name, version, ARCHITECTURE, relations, {source: module_file(driver, flavor)}, scripts)


def prebuilt_modules(
    name: str, version: str, driver: str, flavor: str, *, kernel: str, relations: dict[str, str]
) -> Package:
    """Modules that lie in the package, built and signed for one kernel."""
    module = module_file(driver, flavor, kernel)
    place = f"/lib/modules/{kernel}/kernel/nvidia-{driver.partition('.')[0]}-server-{flavor}/nvidia.ko"
    scripts = {"postinst": f"#!/bin/sh\nset -e\nif [ -x /sbin/depmod ]; then /sbin/depmod {kernel}; fi\n"}
    return Package(name, version, ARCHITECTURE, relations, {f"/usr{place}": module}, scripts)

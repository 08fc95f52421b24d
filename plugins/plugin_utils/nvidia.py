# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Decides what NVIDIA software a host gets, from what the host is. Pure: observation and wishes in, decision out.

The rules and where they come from:

- Open kernel modules need Turing or newer; Blackwell and Grace Hopper work with them only (NVIDIA, driver installation
  guide, "Kernel Modules").
- Branch 580 is the last for Maxwell, Pascal and Volta, and has long-term support (NVIDIA, supported drivers).
- Ollama needs branch 550, and 570 for compute capability 5.0 to 6.2: Maxwell and Pascal (Ollama, docs/gpu.mdx).
- Blackwell needs branch 570 (NVIDIA, open-gpu-kernel-modules).
- With Secure Boot the kernel loads signed modules only: Ubuntu's prebuilt ones, or DKMS' own when its key is enrolled.
- An NVIDIA id that the table lacks is newer than the table: it is treated like the newest, and the decision says so.
"""

from __future__ import annotations

import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci

OLLAMA_FLOOR = 550
LAST_BRANCH_BEFORE_TURING = 580
BRANCH_FLOORS = {"maxwell": 570, "pascal": 570, "blackwell": 570}
TOOLKIT_FLOOR = "1.17.8"
TOOLKIT_FLOOR_WSL = "1.19.1"
TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
# The kernel that each Ubuntu was released with; later ones of the generic flavour are its hardware enablement kernels.
UBUNTU_KERNELS = {"22.04": "5.15", "24.04": "6.8", "26.04": "7.0"}
UBUNTU_FLAVOURS = ("generic", "aws", "azure", "gcp", "oracle", "nvidia", "lowlatency", "generic-64k", "nvidia-64k")
CUDA_DISTRIBUTIONS = ("debian 12", "debian 13")


class RefusalError(Exception):
    """What is asked for cannot work on this host; the message names the rule, the cards and the remedy."""


def card(gpu):
    """Return how a person calls a card: name if known, architecture, ids and place."""
    name = f"{gpu['name']}, " if gpu["name"] else ""
    return f"{name}{gpu['architecture']} {gpu['vendor_id']}:{gpu['device_id']} at {gpu['pci_address']}"


def older(gpu):
    """Whether a card came before Turing, the first architecture that open modules support."""
    return nvidia_pci.older_than(gpu["architecture"], "turing")


def names(gpus):
    return ", ".join(card(gpu) for gpu in gpus)


def branch_of(version):
    """Return the branch of a driver version: 580 of 580.159.04."""
    return int(str(version).split(".", maxsplit=1)[0])


def as_numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]


def skip_reason(host):
    """Return why this host gets no driver at all, or None."""
    if host["wsl"]:
        return "WSL: the driver belongs to Windows, and one in the subsystem would break it"
    if not host["gpus"]:
        return "no NVIDIA GPU on the PCI bus"
    if all(gpu["driver_in_use"] == "vfio-pci" for gpu in host["gpus"]):
        return f"every GPU is handed to virtual machines (vfio-pci): {names(host['gpus'])}"
    return None


def choose_flavor(host, gpus, wish):
    """Return (open or proprietary, reason), or refuse."""
    old = [gpu for gpu in gpus if older(gpu)]
    open_only = [
        gpu
        for gpu in gpus
        if gpu["architecture"] == "blackwell"
        or (gpu["architecture"] == "hopper" and host["os"]["architecture"] == "aarch64")
    ]
    if old and open_only:
        raise RefusalError(
            f"{names(old)} works with proprietary modules only, {names(open_only)} with open modules only:"
            " no driver serves both. Move one of them to another host, or hand it to a virtual machine (vfio-pci)."
        )
    if wish == "open" and old:
        raise RefusalError(
            f"nvidia_driver_flavor is open, but {names(old)} came before Turing. Set it to auto or proprietary."
        )
    if wish == "proprietary" and open_only:
        raise RefusalError(
            f"nvidia_driver_flavor is proprietary, but {names(open_only)} works with open modules only."
            " Set it to auto or open."
        )
    if wish != "auto":
        return wish, f"{wish} modules, as nvidia_driver_flavor says"
    if old:
        return "proprietary", f"proprietary modules: {names(old)} came before Turing"
    return "open", f"open modules: {', '.join(sorted({gpu['architecture'] for gpu in gpus}))} works with them"


def check_branch(gpus, branch):
    """Refuse a branch that a card or Ollama cannot use."""
    for gpu in gpus:
        if gpu["architecture"] == "kepler":
            raise RefusalError(
                f"{card(gpu)} is Kepler, whose last driver branch is 470; Ollama needs {OLLAMA_FLOOR}."
                " Take the host out of the inventory, or the card out of the host."
            )
        floor = BRANCH_FLOORS.get(gpu["architecture"], OLLAMA_FLOOR)
        if branch < floor:
            raise RefusalError(
                f"nvidia_driver_branch is {branch}, but {card(gpu)} needs {floor} or later here. Set it to 580."
            )
        if older(gpu) and branch > LAST_BRANCH_BEFORE_TURING:
            raise RefusalError(
                f"nvidia_driver_branch is {branch}, but {LAST_BRANCH_BEFORE_TURING} is the last for {card(gpu)}."
                f" Set it to {LAST_BRANCH_BEFORE_TURING}."
            )


def ubuntu_kernel_flavor(host):
    """Return the name that Ubuntu's prebuilt modules have for the running kernel (generic-hwe-24.04), or None."""
    match = re.fullmatch(r"(\d+\.\d+)\.\d+-\d+-([a-z]+(?:-64k)?)", host["kernel"])
    if not match or match.group(2) not in UBUNTU_FLAVOURS:
        return None
    release = host["os"]["version_id"]
    if match.group(2) == "generic" and match.group(1) != UBUNTU_KERNELS.get(release):
        return f"generic-hwe-{release}"
    return match.group(2)


def ubuntu_packages(host, branch, flavor):
    """Return (packages, whether DKMS builds the modules, reason) from Ubuntu's own archive."""
    suffix = "-open" if flavor == "open" else ""
    kernel = ubuntu_kernel_flavor(host)
    packages = [f"nvidia-utils-{branch}-server", f"nvidia-compute-utils-{branch}-server"]
    if kernel:
        packages += [
            f"nvidia-headless-no-dkms-{branch}-server{suffix}",
            f"linux-modules-nvidia-{branch}-server{suffix}-{kernel}",
        ]
        reason = f"Ubuntu's prebuilt signed modules for kernel flavour {kernel}"
    else:
        packages.append(f"nvidia-headless-{branch}-server{suffix}")
        reason = f"modules built by DKMS: Ubuntu has none prebuilt for kernel {host['kernel']}"
    if host["nvswitches"]:
        packages.append(f"nvidia-fabricmanager-{branch}")
    return packages, kernel is None, reason


def cuda_packages(host, flavor):
    """Return the compute-only packages of NVIDIA's CUDA repository; a preferences file keeps them on the branch."""
    modules = "nvidia-kernel-open-dkms" if flavor == "open" else "nvidia-kernel-dkms"
    packages = ["nvidia-driver-cuda", modules, "nvidia-persistenced"]
    return packages + (["nvidia-fabricmanager"] if host["nvswitches"] else [])


def choose_packages(host, branch, flavor, wants):
    """Return {source, packages, repository, reason}, or refuse."""
    system = f"{host['os']['id']} {host['os']['version_id']}"
    if host["os"]["id"] == "ubuntu" and host["os"]["version_id"] in UBUNTU_KERNELS:
        packages, built_here, reason = ubuntu_packages(host, branch, flavor)
        found = {"source": "ubuntu", "packages": packages, "repository": "", "reason": reason}
    elif system in CUDA_DISTRIBUTIONS:
        architecture = {"x86_64": "x86_64", "aarch64": "sbsa"}[host["os"]["architecture"]]
        built_here = True
        found = {
            "source": "cuda",
            "packages": cuda_packages(host, flavor),
            "repository": f"{system.replace(' ', '')}/{architecture}",
            "reason": "NVIDIA's CUDA repository: Debian's own driver is too old or does not build for current kernels",
        }
    else:
        raise RefusalError(
            f"no driver packages are known for {host['os']['name']}, only for Ubuntu {', '.join(UBUNTU_KERNELS)} and"
            f" {', '.join(CUDA_DISTRIBUTIONS)}. Install one of them, or install the driver by hand:"
            " one that is loaded and fits is kept."
        )
    if built_here and host["secure_boot"] and not wants["mok_enrolled"]:
        raise RefusalError(
            "Secure Boot is on, and modules that DKMS builds here would not load. Turn it off in the firmware, or enrol"
            " the key of DKMS (mokutil --import /var/lib/dkms/mok.pub, then reboot and confirm), and set"
            " nvidia_driver_mok_enrolled to true."
        )
    found["headers"] = [f"linux-headers-{host['kernel']}"] if built_here else []
    return found


def loaded_fits(driver, branch, flavor, version):
    """Whether the loaded driver is what is asked for."""
    return bool(
        driver["loaded"]
        and driver["flavor"] == flavor
        and branch_of(driver["loaded"]) == branch
        and (not version or driver["loaded"] == version)
    )


def decision(action, reasons, **rest):
    empty = {"flavor": "", "branch": 0, "source": "", "repository": "", "packages": [], "headers": [], "reboot": False}
    return {**empty, "action": action, "reasons": reasons, **rest}


def driver_plan(host, wants):
    """Decide what a host gets for a driver.

    host:  host_info's observation
    wants: {branch: int, version: "" or exact, flavor: auto|open|proprietary, mok_enrolled: bool}
    Returns {action, reasons, flavor, branch, source, repository, packages, headers, reboot}; headers are the kernel's,
    where modules are built on the host. Actions: skip (nothing to do here),
    refuse (cannot work), keep (what is loaded fits), install, reboot (installed, not loaded).
    """
    skipped = skip_reason(host)
    if skipped:
        return decision("skip", [skipped])
    gpus = [gpu for gpu in host["gpus"] if gpu["driver_in_use"] != "vfio-pci"]
    branch, version, driver = int(wants["branch"]), wants["version"], host["driver"]
    reasons = [
        f"{card(gpu)} is not in the table of PCI ids: treated like the newest architecture"
        for gpu in gpus
        if gpu["architecture"] == nvidia_pci.UNKNOWN
    ]
    try:
        if version and branch_of(version) != branch:
            raise RefusalError(
                f"nvidia_driver_version {version} is not of nvidia_driver_branch {branch}. Set both to the same branch."
            )
        flavor, why = choose_flavor(host, gpus, wants["flavor"])
        check_branch(gpus, branch)
        known = {"flavor": flavor, "branch": branch}
        fits = loaded_fits(driver, branch, flavor, version)
        if fits and not any(package["installed"] for package in driver["packages"].values()):
            return decision("keep", [*reasons, f"{driver['loaded']} {flavor} is loaded, not from packages"], **known)
        found = choose_packages(host, branch, flavor, wants)
    except RefusalError as error:
        return decision("refuse", [*reasons, str(error)])
    known.update((key, found[key]) for key in ("source", "repository", "packages", "headers"))
    complete = all(driver["packages"].get(name, {}).get("installed") for name in found["packages"])
    if fits:
        # A driver that fits stays, also when other packages of the same branch brought it.
        known["packages"] = found["packages"] if complete else []
        return decision("keep", [*reasons, f"{driver['loaded']} {flavor} is loaded"], **known)
    now = f"{driver['loaded']} {driver['flavor']} is loaded" if driver["loaded"] else "no driver is loaded"
    on_disk = driver["on_disk"]
    if complete and on_disk and branch_of(on_disk) == branch and on_disk != driver["loaded"]:
        reasons.append(f"{on_disk} is installed, but {now}: reboot the host")
        return decision("reboot", reasons, reboot=True, **known)
    nouveau = any(gpu["driver_in_use"] == "nouveau" for gpu in gpus)
    reasons += [now, why, f"branch {branch}", found["reason"]]
    if nouveau:
        reasons.append("nouveau holds the card until a reboot")
    return decision("install", reasons, reboot=bool(driver["loaded"]) or nouveau, **known)


def toolkit_plan(host, version):
    """Decide whether a host gets the container toolkit. Returns {action: skip|refuse|install, reason, packages}."""
    if not host["gpus"] and not host["wsl_gpu"]:
        return {"action": "skip", "reason": "no NVIDIA GPU", "packages": {}}
    floor = TOOLKIT_FLOOR_WSL if host["wsl"] else TOOLKIT_FLOOR
    if as_numbers(version) < as_numbers(floor):
        cause = "its CDI refresh does not work in WSL" if host["wsl"] else "containers can break out (CVE-2025-23266)"
        reason = f"nvidia_container_toolkit_version is {version}, but before {floor} {cause}. Set {floor} or later."
        return {"action": "refuse", "reason": reason, "packages": {}}
    packages = dict.fromkeys(TOOLKIT_PACKAGES, f"{version}-1")
    return {"action": "install", "reason": f"four packages at {version}", "packages": packages}

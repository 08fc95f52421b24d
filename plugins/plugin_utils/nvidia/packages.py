# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Package names, by source, branch and modules. Compute only: no desktop parts."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import fabric, kernels

# From this branch the packages for Ubuntu in NVIDIA's CUDA repository lose the branch in their names.
UNNUMBERED_SINCE = 590
PERSISTENCE = "nvidia-persistenced"


def ubuntu(host, branch, flavor):
    """From Ubuntu's archive. Modules are prebuilt and signed where Ubuntu built the running kernel, else by DKMS."""
    suffix = f"{branch}-server"
    modules = f"{suffix}-open" if flavor == "open" else suffix
    names = [f"nvidia-utils-{suffix}", f"nvidia-compute-utils-{suffix}"]
    flavour = kernels.ubuntu_flavour(host["kernel"], host["os"]["version_id"])
    if flavour is None:
        return [*names, f"nvidia-headless-{modules}"], [], True
    # These carry their kernel's version, not the driver's. The flavour's metapackage brings the newest kernel with its
    # module, which is built from the newest driver; that of an older kernel was built from an older one, and says so.
    return [*names, f"nvidia-headless-no-dkms-{modules}"], [f"{ready_made(branch, flavor)}-{flavour}"], False


def ready_made(branch, flavor):
    """Return how the names of Ubuntu's ready modules begin; a kernel's release or flavour follows."""
    return f"linux-modules-nvidia-{branch}-server{'-open' if flavor == 'open' else ''}"


def releases(host):
    """Return the kernels that get a module: the running one and the one that boots next."""
    found = [kernel["release"] for kernel in kernels.that_count(host)]
    return [host["kernel"], *(release for release in found if release != host["kernel"])]


def debian(flavor):
    """From Debian's own archive (contrib, non-free)."""
    modules = "nvidia-open-kernel-dkms" if flavor == "open" else "nvidia-kernel-dkms"
    # Debian's nvidia-persistenced is a source of its own, with versions of its own.
    return ["nvidia-smi", "libcuda1", "libnvidia-ml1", modules], [PERSISTENCE]


def cuda_debian(flavor):
    modules = "nvidia-kernel-open-dkms" if flavor == "open" else "nvidia-kernel-dkms"
    return ["nvidia-driver-cuda", modules, PERSISTENCE]


def cuda_ubuntu(branch, flavor):
    suffix = "-open" if flavor == "open" else ""
    if branch < UNNUMBERED_SINCE:
        return [f"libnvidia-compute-{branch}", f"nvidia-dkms-{branch}{suffix}", f"nvidia-utils-{branch}", PERSISTENCE]
    return ["libnvidia-compute", f"nvidia-dkms{suffix}", PERSISTENCE]


def cuda_redhat(flavor):
    modules = "kmod-nvidia-open-dkms" if flavor == "open" else "kmod-nvidia-latest-dkms"
    return ["nvidia-driver-cuda", modules, PERSISTENCE]


def to_build(host):
    """Return what building takes: the headers of each kernel that counts and of later ones, and DKMS."""
    names = [kernels.headers(host["os"], release) for release in releases(host)]
    names += [kernels.headers_metapackage(host["os"], release) for release in releases(host)]
    return [*dict.fromkeys(name for name in names if name), "dkms"]


def module_stream(host, branch, flavor):
    """Return the module stream to enable on Enterprise Linux 9; there are none from 10 on, nor elsewhere."""
    if host["os"]["family"] != "redhat":
        return ""
    release = host["os"]["version_id"].split(".", maxsplit=1)[0]
    return f"nvidia-driver:{branch}-{'open' if flavor == 'open' else 'dkms'}" if release == "9" else ""


def choose(host, source, branch, flavor, parts):
    """Return {packages, extra, services, built_here}: names at the driver's version, and others with their own."""
    family = host["os"]["family"]
    extra = []
    if source == "ubuntu":
        names, extra, built_here = ubuntu(host, branch, flavor)
    else:
        built_here = True
        if source == "debian":
            names, extra = debian(flavor)
        elif family == "redhat":
            names = cuda_redhat(flavor)
        elif host["os"]["id"] == "ubuntu":
            names = cuda_ubuntu(branch, flavor)
        else:
            names = cuda_debian(flavor)
    equal, own, services = fabric.packages(parts, source, family, branch)
    return {
        "packages": names + equal,
        "extra": extra + own,
        "services": [PERSISTENCE, *services],
        "built_here": built_here,
    }

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The kernels that can boot on a host, and NVIDIA's module on disk for each of them.

The module's version is found without decompressing it where DKMS noted it: Debian's module is 41 MB of xz, and reading
it takes half a second for each kernel.
"""

from __future__ import annotations

import glob
import mmap
import os
import re
import zlib

from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read

# nvidia-current is Debian's name.
MODULE = re.compile(r"^(\S*/)?nvidia(-current)?\.ko(\.\w+)?(?=:|$)")
VERSION = re.compile(rb"\0version=(\d[\d.]*)\0")
LICENSE = re.compile(rb"\0license=([^\0]+)\0")
IMAGES = re.compile(r"^vmlinu[xz]-(?!0-rescue)(.+)$")
# Only proprietary sources bring this, NVIDIA's compiled core.
PROPRIETARY_CORE = "nvidia/nv-kernel.o_binary"
CHUNK = 1 << 20


class Kernels:
    """The kernels of a host. running: release of the one that runs; the roots: where to read; run: starts a program"""

    def __init__(self, running, boot_root, modules_root, var_root, run):
        self.running, self.boot_root, self.modules_root, self.var_root = running, boot_root, modules_root, var_root
        self.run = run

    def all(self):
        """[{release, running, module: {version, flavor, path} or None, headers}], the running one first."""
        return [
            {
                "release": release,
                "running": release == self.running,
                "module": self.module(release),
                "headers": os.path.exists(f"{self.modules_root}/{release}/build/Makefile"),
            }
            for release in self.releases()
        ]

    def releases(self):
        """Releases with an image in /boot or beside their modules. Where no image is anywhere, those with modules."""
        try:
            names = os.listdir(self.boot_root)
        except OSError:
            names = []
        found = {match.group(1) for match in map(IMAGES.match, names) if match and not match.group(1).endswith(".old")}
        found |= {os.path.basename(os.path.dirname(p)) for p in glob.glob(self.modules_root + "/*/vmlinuz")}
        if not found:
            found = {os.path.basename(os.path.dirname(p)) for p in glob.glob(self.modules_root + "/*/updates")}
            found |= {os.path.basename(os.path.dirname(p)) for p in glob.glob(self.modules_root + "/*/modules.dep")}
        others = sorted(found - {self.running}, key=as_key, reverse=True)
        return ([self.running] if self.running else []) + others

    def module(self, release):
        """{version, flavor, path} of NVIDIA's module for a kernel, or None."""
        path = self.path_of_module(release)
        if path is None:
            return None
        version, flavor = self.noted_by_dkms(release, path) or contents(path, self.run)
        return {"version": version, "flavor": flavor, "path": path}

    def path_of_module(self, release):
        """The file that modprobe would load."""
        folder = f"{self.modules_root}/{release}"
        index = read(folder + "/modules.dep")
        if index is not None:
            matches = (MODULE.match(line) for line in index.splitlines() if "nvidia" in line)
            name = next((match.group(0) for match in matches if match), None)
        else:
            # No depmod has run here: the first folder that depmod itself would look in.
            places = ("updates/dkms", "updates", "extra", "weak-updates", "kernel/drivers/video", "kernel/*")
            found = [path for place in places for path in sorted(glob.glob(f"{folder}/{place}/nvidia*.ko*"))]
            names = [path[len(folder) + 1 :] for path in found]
            name = next((name for name in names if MODULE.match(name)), None)
        if name is None:
            return None
        path = name if name.startswith("/") else f"{folder}/{name}"
        return path if os.path.exists(path) else None

    def noted_by_dkms(self, release, path):
        """(version, flavor) as DKMS knows it of the very file that it put there, or None."""
        if "/dkms/" not in path:
            return None
        for link in glob.glob(f"{self.var_root}/lib/dkms/nvidia*/kernel-{release}-*"):
            built = f"{link}/module/{os.path.basename(path)}"
            source = f"{os.path.dirname(link)}/{os.readlink(link).split('/')[0]}/source" if os.path.islink(link) else ""
            if not os.path.isdir(source):
                continue
            try:
                same = os.path.getsize(built) == os.path.getsize(path)
            except OSError:
                continue
            if same:
                proprietary = os.path.exists(f"{source}/{PROPRIETARY_CORE}")
                return os.readlink(link).split("/")[0], "proprietary" if proprietary else "open"
        return None


def contents(path, run):
    """(version, flavor) that a module's file says, each None where it says nothing."""
    if path.endswith(".ko"):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = VERSION.search(content), LICENSE.search(content)
            return result(*(match and match.group(1) for match in found))
    unpack, failure = unpacker(path)
    if unpack is None:
        text = "\0" + "\0".join((run(["modinfo", path]) or "").splitlines()) + "\0"
        fields = dict(re.findall(r"\0(version|license): *([^\0]+)", text))
        return result(*(fields[key].encode() if key in fields else None for key in ("version", "license")))
    version = license_name = None
    tail = b""
    with open(path, "rb") as file:
        while not (version and license_name) and (packed := file.read(CHUNK)):
            try:
                part = tail + unpack(packed)
            except (failure, EOFError):
                break
            version = version or VERSION.search(part)
            license_name = license_name or LICENSE.search(part)
            tail = part[-200:]
    return result(version and version.group(1), license_name and license_name.group(1))


def unpacker(path):
    """(what unpacks a file part by part, the error of its own); None for both where Python has nothing for it."""
    if path.endswith(".gz"):
        return zlib.decompressobj(wbits=31).decompress, zlib.error
    if path.endswith(".xz"):
        import lzma  # noqa: PLC0415 - slow to import, and only for modules that DKMS did not build

        return lzma.LZMADecompressor().decompress, lzma.LZMAError
    return None, None


def result(version, license_name):
    flavor = None if license_name is None else "open" if b"GPL" in license_name else "proprietary"
    return version.decode() if version else None, flavor


def as_key(release):
    """A release for sorting by its numbers."""
    return [int(part) for part in re.findall(r"\d+", release)]

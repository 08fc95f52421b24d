# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Finds out about a host: reads files and asks the programs that are there. Changes nothing. Standard library only.

``Host`` reads each thing once and only when asked. Its roots can point to a recorded tree; ``run`` and ``fetch`` can be
replaced, so that tests need no such host.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import pwd
import re
import socket
import stat
import struct

from ansible_collections.ollama_fleet.stack.plugins.module_utils import (
    cdi_specs,
    docker_state,
    kernel_modules,
    managed,
    nvidia_state,
    package_sources,
    package_state,
    signing_keys,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import (
    fetch,
    fetch_from_socket,
    read,
    read_bytes,
    run,
)

TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
DRIVER_PACKAGE = re.compile(
    r"^((lib|k?modules?-|kmod-|akmod-|dkms-|firmware-|dnf-plugin-|xserver-xorg-video-|xorg-x11-drv-)?nvidia(-|$)"
    r"|linux-(modules|objects|signatures)-nvidia-|cuda-drivers|libcuda1$|nvlsm$|libnvsdm)"
)
FABRIC_PACKAGE = re.compile(r"^nvidia-fabric-?manager(-\d+)?$")
FABRIC_SERVICE = "nvidia-fabricmanager"
DOCKER_PACKAGE = re.compile(r"^(docker[.-].*|containerd(\.io)?|runc|podman-docker|apparmor)$")
# What Ollama calls a whole layer in its store; one that is still coming has an ending.
BLOB = re.compile(r"sha256-[0-9a-f]{64}")
LISTENING = "0A"


class UnreadableRecordError(Exception):
    """A record is there but cannot be used; the message says why and what to do."""


class Host:
    """One host, as far as it can be seen without changing it."""

    def __init__(  # noqa: PLR0913 - each root is one, and all have defaults
        self,
        *,
        sys_root="/sys",
        proc_root="/proc",
        etc_root="/etc",
        usr_root="/usr",
        var_root="/var",
        boot_root="/boot",
        modules_root="/lib/modules",
        run_root="/run",
        state_dir="/var/lib/ollama-fleet",
        docker_socket="/var/run/docker.sock",
        ollama_url="http://127.0.0.1:11434",
        disk_paths=(),
        run=run,
        fetch=fetch,
        fetch_from_socket=fetch_from_socket,
    ):
        self.sys_root, self.proc_root, self.etc_root, self.usr_root = sys_root, proc_root, etc_root, usr_root
        self.var_root, self.boot_root, self.modules_root, self.run_root = var_root, boot_root, modules_root, run_root
        self.state_dir = state_dir
        self.docker_socket = docker_socket
        self.ollama_url = ollama_url
        self.disk_paths = disk_paths
        self.run, self.fetch, self.fetch_from_socket = run, fetch, fetch_from_socket
        self._services = {}
        self._models = {}

    # ------------------------------------------------------------ one by one, as records need them

    def file(self, path):
        """{sha256, mode, owner} of a file (sha256 "directory" of a directory), or None."""
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                digest = "directory"
            else:
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
        except FileNotFoundError:
            return None
        try:
            owner = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            owner = str(status.st_uid)
        return {"sha256": digest, "mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": owner}

    def link(self, path):
        """Where a symbolic link leads, as it is written; None of what is no link."""
        try:
            return os.readlink(path)
        except OSError:
            return None

    def package(self, name):
        """The version of an installed package, or None."""
        package = self._packages.all.get(name)
        return package["version"] if package and package["installed"] else None

    def held(self, name):
        """Whether a package is kept at its version (dpkg's hold, dnf's versionlock)."""
        return name in self._packages.held

    def members(self, group):
        """The users in a group, those included whose own group it is; None where there is no such group."""
        lines = (read(self.etc_root + "/group") or "").splitlines()
        fields = next((line.split(":") for line in lines if line.startswith(group + ":")), None)
        if fields is None or len(fields) < 4:
            return None
        accounts = [line.split(":") for line in (read(self.etc_root + "/passwd") or "").splitlines()]
        own = [account[0] for account in accounts if len(account) > 3 and account[3] == fields[2]]
        return sorted({*filter(None, fields[3].split(",")), *own})

    def services(self, units):
        """{unit: {active, enabled} or None where there is no such unit}. Asks systemd once for all that are new."""
        new = [unit for unit in units if unit not in self._services]
        if new:
            names = [unit if "." in unit else unit + ".service" for unit in new]
            output = self.run(["systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", "--", *names])
            blocks = (output or "").strip().split("\n\n")
            for position, unit in enumerate(new):
                block = blocks[position] if position < len(blocks) else ""
                values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
                exists = values.get("LoadState", "not-found") not in ("not-found", "")
                self._services[unit] = (
                    {"active": values.get("ActiveState") == "active", "enabled": values.get("UnitFileState", "")}
                    if exists
                    else None
                )
        return {unit: self._services[unit] for unit in units}

    def container(self, name):
        """One entry of docker["containers"], or None."""
        return next((item for item in self.docker["containers"] if item["name"] == name), None)

    def docker_answers(self):
        """Whether Docker's engine answers on its socket."""
        return self.docker["version"] is not None

    def models(self, base_url):
        """{name: digest} of the models that an Ollama has, or None where it does not answer."""
        if base_url not in self._models:
            answer = self.fetch(base_url.rstrip("/") + "/api/tags")
            listed = answer.get("models") if isinstance(answer, dict) else None
            self._models[base_url] = None if answer is None else listed or []
        models = self._models[base_url]
        return None if models is None else {model["name"]: model.get("digest", "") for model in models}

    def blobs(self, folder):
        """{name: bytes} of what a model store holds whole, or None where there is no store."""
        try:
            with os.scandir(f"{folder}/blobs") as entries:
                return {entry.name: entry.stat().st_size for entry in entries if BLOB.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fact(self, name):
        """A part of the observation that stays the same until the machine itself changes."""
        if name == "gpus":
            return [f"{gpu['architecture']} {gpu['device_id']} at {gpu['pci_address']}" for gpu in self.gpus]
        if name == "driver":
            return f"{self.driver['loaded']} {self.driver['flavor']}" if self.driver["loaded"] else "none"
        if name == "nvswitches":
            return self.nvswitches
        if name == "kernel":
            return self.kernel
        raise KeyError(name)

    # ------------------------------------------------------------ the machine

    @functools.cached_property
    def os(self):
        lines = (read(self.etc_root + "/os-release") or read(self.usr_root + "/lib/os-release") or "").splitlines()
        values = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
        identity = values.get("ID", "")
        kinds = [identity, *values.get("ID_LIKE", "").split()]
        families = [
            family
            for family, ids in (("debian", {"debian", "ubuntu"}), ("redhat", {"rhel", "fedora", "centos"}))
            if ids & set(kinds)
        ]
        return {
            "id": identity,
            "version_id": values.get("VERSION_ID", ""),
            "codename": values.get("VERSION_CODENAME", ""),
            "name": values.get("PRETTY_NAME", identity),
            "family": families[0] if families else "",
            "architecture": read(self.proc_root + "/sys/kernel/arch") or os.uname().machine,
        }

    @functools.cached_property
    def kernel(self):
        return read(self.proc_root + "/sys/kernel/osrelease") or ""

    @functools.cached_property
    def systemd(self):
        return read(self.proc_root + "/1/comm") == "systemd"

    @functools.cached_property
    def secure_boot(self):
        """True or False; None on a machine without UEFI."""
        for path in glob.glob(self.sys_root + "/firmware/efi/efivars/SecureBoot-*"):
            with open(path, "rb") as file:
                return file.read()[-1:] == b"\x01"
        return None

    @functools.cached_property
    def mok_enrolled(self):
        """Whether the firmware's shim trusts the key that DKMS signs with here; None where nothing tells."""
        return signing_keys.enrolled(self.sys_root, self.etc_root, self.var_root, self.os["id"])

    @functools.cached_property
    def kernels(self):
        return kernel_modules.Kernels(self.kernel, self.boot_root, self.modules_root, self.var_root, self.run).all()

    @functools.cached_property
    def wsl(self):
        return "microsoft" in self.kernel.lower()

    @functools.cached_property
    def wsl_gpu(self):
        return self.wsl and bool(glob.glob(self.usr_root + "/lib/wsl/lib/libcuda.so*"))

    @functools.cached_property
    def memory(self):
        lines = (read(self.proc_root + "/meminfo") or "").splitlines()
        kib = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines) if value}
        return {
            "total_bytes": kib.get("MemTotal", 0) * 1024,
            "available_bytes": kib.get("MemAvailable", 0) * 1024,
        }

    @functools.cached_property
    def cpus(self):
        return len(re.findall(r"^processor\s*:", read(self.proc_root + "/cpuinfo") or "", re.MULTILINE))

    @functools.cached_property
    def disk(self):
        result = []
        for path in self.disk_paths:
            existing = path
            while not os.path.exists(existing):
                existing = os.path.dirname(existing)
            space = os.statvfs(existing)
            mount_point = os.path.realpath(existing)
            while not os.path.ismount(mount_point):
                mount_point = os.path.dirname(mount_point)
            result.append(
                {
                    "path": path,
                    "mount_point": mount_point,
                    "free_bytes": space.f_bavail * space.f_frsize,
                    "total_bytes": space.f_blocks * space.f_frsize,
                }
            )
        return result

    # ------------------------------------------------------------ NVIDIA

    @functools.cached_property
    def _nvidia(self):
        return nvidia_state.Nvidia(self.sys_root, self.proc_root, self.run)

    @functools.cached_property
    def gpus(self):
        return self._nvidia.gpus()

    @functools.cached_property
    def nvswitches(self):
        return self._nvidia.nvswitches()

    @functools.cached_property
    def nvswitch_bridges(self):
        return self._nvidia.nvswitch_bridges()

    @functools.cached_property
    def driver(self):
        loaded, flavor = self._nvidia.loaded
        running = next((kernel["module"] for kernel in self.kernels if kernel["running"]), None)
        folders = [root + "/modprobe.d" for root in (self.etc_root, self.run_root, self.usr_root + "/lib")]
        return {
            "loaded": loaded,
            "flavor": flavor,
            "on_disk": running["version"] if running else None,
            "user_space": self._user_space_driver(),
            "nouveau": os.path.isdir(self.sys_root + "/module/nouveau"),
            "nouveau_blocked": nvidia_state.blocked("nouveau", folders, read(self.proc_root + "/cmdline") or ""),
            "nvswitch_devices": self._nvidia.nvswitch_devices(),
            "fabric_manager": self._fabric_manager(),
            "processes": self._gpu_processes() if loaded else [],
            "packages": {
                name: package
                for name, package in self._packages.all.items()
                if DRIVER_PACKAGE.match(name) and name not in TOOLKIT_PACKAGES
            },
        }

    def _fabric_manager(self):
        """{version, active} of an installed fabric manager, or None."""
        found = [item for name, item in self._packages.all.items() if FABRIC_PACKAGE.match(name) and item["installed"]]
        if not found:
            return None
        service = self.services([FABRIC_SERVICE])[FABRIC_SERVICE]
        return {"version": found[0]["version"], "active": bool(service and service["active"])}

    def _gpu_processes(self):
        """Who computes on a GPU: pid, name, and the container's name where it runs in one."""
        pids = {pid for pid, target in self._open_files if nvidia_state.COMPUTES.match(target)}
        if not pids:
            return []
        told = self.run(nvidia_state.APPS, timeout=nvidia_state.QUERY_SECONDS)
        names = {item["id"]: item["name"] for item in self.docker["containers"]}
        found = []
        for pid in sorted(nvidia_state.computing(pids, told)):
            name = read(f"{self.proc_root}/{pid}/comm")
            if name and not name.startswith(nvidia_state.OWN_PROCESSES):
                group = read(f"{self.proc_root}/{pid}/cgroup") or ""
                container = nvidia_state.CONTAINER_ID.search(group)
                identity = container.group(0) if container else None
                found.append({"pid": pid, "name": name, "container": names.get(identity, identity)})
        return found

    def _user_space_driver(self):
        """The version of the NVML that programs load, from its file's name: needs neither a GPU nor nvidia-smi."""
        # The loader's cache has the name as it is; only where it is in there is the program started that reads it.
        if b"libnvidia-ml.so.1\0" not in (read_bytes(self.etc_root + "/ld.so.cache") or b""):
            return None
        for line in (self.run(["ldconfig", "-p"]) or "").splitlines():
            name, _, path = line.strip().partition(" => ")
            if name.startswith("libnvidia-ml.so.1 "):
                version = os.path.basename(os.path.realpath(path))[len("libnvidia-ml.so.") :]
                if "." in version:
                    return version
        return None

    @functools.cached_property
    def toolkit(self):
        folders = (self.etc_root + "/cdi", self.run_root + "/cdi")
        packages = {name: self._packages.all[name] for name in TOOLKIT_PACKAGES if name in self._packages.all}
        return {
            "packages": packages,
            "version": self._toolkit_version(packages.get("nvidia-container-toolkit-base")),
            "cdi_devices": cdi_specs.devices(folders, read),
        }

    def _toolkit_version(self, package):
        """The version of nvidia-ctk: of the package that brings it, else of the program itself."""
        text = package["version"] if package and package["installed"] else ""
        if not text and os.path.exists(self.usr_root + "/bin/nvidia-ctk"):
            text = self.run(["nvidia-ctk", "--version"]) or ""
        version = re.search(r"\d+\.\d+\.\d+([~-]rc\.\d+)?", text)
        return version.group(0) if version else None

    # ------------------------------------------------------------ software

    @functools.cached_property
    def _packages(self):
        return package_state.Packages(self.etc_root, self.var_root, self.os["family"], self.run)

    @functools.cached_property
    def packages(self):
        return {"manager": self._packages.manager, "broken": self._packages.broken, "held": self._packages.held}

    @functools.cached_property
    def repositories(self):
        return package_sources.repositories(self.etc_root, read)

    @functools.cached_property
    def docker(self):
        present, compose = docker_state.client(self.usr_root, self._packages.all, self.run)
        return {
            "present": present,
            "compose": compose,
            "snap": docker_state.from_snap(self.var_root),
            "packages": {name: value for name, value in self._packages.all.items() if DOCKER_PACKAGE.match(name)},
            **docker_state.engine(
                lambda path: self.fetch_from_socket(self.docker_socket, path),
                # One more question for each container, so only where one could have a GPU at all.
                inspect=bool(self.gpus) or self.wsl_gpu,
            ),
        }

    @functools.cached_property
    def ollama(self):
        version = self.fetch(self.ollama_url + "/api/version")
        if not isinstance(version, dict) or "version" not in version:
            return {"reachable": False, "version": None, "models": []}
        self.models(self.ollama_url)
        models = self._models[self.ollama_url] or []
        return {
            "reachable": True,
            "version": version["version"],
            "models": [{key: model.get(key) for key in ("name", "digest", "size")} for model in models],
        }

    @functools.cached_property
    def ports(self):
        listening = []
        for table in ("tcp", "tcp6"):
            for line in (read(f"{self.proc_root}/net/{table}") or "").splitlines()[1:]:
                fields = line.split()
                if fields[3] != LISTENING:
                    continue
                address, port = fields[1].split(":")
                listening.append(
                    {"address": readable(address), "port": int(port, 16), "protocol": table, "inode": fields[9]}
                )
        for item in listening:
            pid = self._sockets.get(item.pop("inode"))
            item["pid"], item["process"] = pid, read(f"{self.proc_root}/{pid}/comm") if pid else None
        return sorted(listening, key=lambda item: (item["port"], item["protocol"], item["address"]))

    @functools.cached_property
    def _open_files(self):
        """(pid, target) of each open socket and NVIDIA device of the processes that we may look at."""
        found = []
        for folder in glob.glob(self.proc_root + "/[0-9]*/fd"):
            pid = int(os.path.basename(os.path.dirname(folder)))
            try:
                targets = [os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)]
            except OSError:
                continue  # the process has ended, or is not ours to look at
            found += [(pid, target) for target in targets if target.startswith(("socket:[", "/dev/nvidia"))]
        return found

    @functools.cached_property
    def _sockets(self):
        """{inode: pid of the process that holds the socket}."""
        return {target[8:-1]: pid for pid, target in self._open_files if target.startswith("socket:[")}

    # ------------------------------------------------------------ what was applied

    def record(self, role):
        """The record of one role as it was written, or None."""
        path = f"{self.state_dir}/{role}.json"
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise UnreadableRecordError(f"{path} is for root only: run this with become") from None
        except ValueError as error:
            raise UnreadableRecordError(
                f"{path} is not valid JSON ({error}): remove it, and the role is applied anew"
            ) from None

    @functools.cached_property
    def records(self):
        """{role: {complete, inputs, role_digest, keep, drift}}."""
        names = sorted(glob.glob(self.state_dir + "/*.json"))
        stored = {os.path.basename(name)[: -len(".json")]: None for name in names}
        for role in stored:
            stored[role] = self.record(role)
        # One question to systemd for the services of all roles.
        self.services(
            sorted({unit for item in stored.values() for unit in item.get("manages", {}).get("services", {})})
        )
        return {
            role: {
                "complete": bool(item.get("complete")),
                "inputs": item.get("inputs", {}),
                "role_digest": item.get("role_digest", ""),
                "keep": item.get("keep", {}),
                "drift": managed.drift(item.get("manages", {}), self),
            }
            for role, item in stored.items()
        }

    def everything(self):
        """The whole observation, as host_info documents it."""
        names = (
            "os kernel kernels systemd secure_boot mok_enrolled wsl wsl_gpu gpus nvswitches nvswitch_bridges driver"
            " toolkit docker ollama packages repositories ports disk memory cpus records"
        )
        return {name: getattr(self, name) for name in names.split()}


def readable(address):
    """An address of /proc/net/tcp (hexadecimal, in 32-bit words of the machine's own byte order) as people write it."""
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Finds out about a host: reads files and asks the programs that are there. Changes nothing. Standard library only.

``Host`` reads each thing once and only when asked. Its roots can point to a recorded tree; ``run`` and ``fetch`` can be
replaced, so that tests need no such host.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import stat
import struct
import subprocess
import urllib.request

from ansible_collections.ollama_fleet.stack.plugins.module_utils import (
    cdi_specs,
    gpu_state,
    kernel_modules,
    managed,
    nvidia_pci,
    package_sources,
    package_state,
)

NVIDIA = "0x10de"
MELLANOX = "0x15b3"
GPU_CLASSES = ("0x0300", "0x0302")
NVSWITCH_CLASS = "0x0680"
TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
DRIVER_PACKAGE = re.compile(
    r"^(nvidia-|libnvidia-|nvlsm$|libcuda1$|linux-(modules|objects|signatures)-nvidia-|cuda-drivers|kmod-nvidia"
    r"|dkms-nvidia|firmware-nvidia-|xserver-xorg-video-nvidia)"
)
DOCKER_PACKAGE = re.compile(r"^(docker[.-].*|containerd(\.io)?|runc|podman-docker|apparmor)$")
# The keys that DKMS signs with: its own, and Ubuntu's.
SIGNING_KEYS = ("/lib/dkms/mok.pub", "/lib/shim-signed/mok/MOK.der")
LISTENING = "0A"


def run(command):
    """Return a program's output, or None where it is not there, fails or takes more than five seconds."""
    environment = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/bin")
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode("utf-8", "replace") if result.returncode == 0 else None


def fetch(url):
    """Return the JSON at an http URL, or None where nothing answers within two seconds. Proxies are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return None


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as Docker's engine speaks it."""

    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def fetch_from_socket(path, url):
    """Return the JSON that a Unix socket answers, or None where nothing does."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def read(path):
    """Return a text file without its last line end, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def read_bytes(path):
    """Return a file's content, or None."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


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

    def package(self, name):
        """The version of an installed package, or None."""
        package = self.all_packages.get(name)
        return package["version"] if package and package["installed"] else None

    def held(self, name):
        """Whether a package is kept at its version (dpkg's hold, dnf's versionlock)."""
        return bool(self.all_packages.get(name, {}).get("held"))

    def members(self, group):
        """The users whom /etc/group puts into a group, or None where there is no such group."""
        for line in (read(self.etc_root + "/group") or "").splitlines():
            name, *_rest, users = line.split(":")
            if name == group:
                return [user for user in users.split(",") if user]
        return None

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
        """Whether the firmware trusts a key that modules are signed with here; None where nothing tells."""
        efi = self.sys_root + "/firmware/efi"
        lists = [*glob.glob(efi + "/mok-variables/MokListRT"), *glob.glob(efi + "/efivars/MokListRT-*")]
        trusted = b"".join(content for content in map(read_bytes, lists) if content)
        keys = [read_bytes(self.var_root + path) for path in SIGNING_KEYS]
        # The list holds whole certificates, each as the key's file has it.
        return any(key in trusted for key in keys if key) if trusted else None

    @functools.cached_property
    def kernels(self):
        return kernel_modules.kernels(self.boot_root, self.modules_root, self.kernel, self.run)

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
    def _pci(self):
        """(address, vendor, device id, class, path) of each function on the PCI bus, by address."""
        return [
            (os.path.basename(path), *(read(f"{path}/{name}") or "" for name in ("vendor", "device", "class")), path)
            for path in sorted(glob.glob(self.sys_root + "/bus/pci/devices/*"))
        ]

    @functools.cached_property
    def _nvidia_devices(self):
        """(address, device id, class, path) of each NVIDIA function on the PCI bus, by address."""
        return [(address, *rest) for address, vendor, *rest in self._pci if vendor == NVIDIA]

    @functools.cached_property
    def gpus(self):
        measured = gpu_state.from_smi(self.run(gpu_state.QUERY)) if self._loaded_driver else {}
        return [
            self._gpu(address, device_id, path, measured)
            for address, device_id, device_class, path in self._nvidia_devices
            if device_class.startswith(GPU_CLASSES)
        ]

    def _gpu(self, address, device_id, path, measured):
        driver = os.path.basename(os.readlink(path + "/driver")) if os.path.islink(path + "/driver") else None
        folder = f"{self.proc_root}/driver/nvidia/gpus"
        # The driver gives up a card that no longer answers.
        given_up = driver == "nvidia" and os.path.isdir(folder) and not os.path.isdir(f"{folder}/{address}")
        return {
            "pci_address": address,
            "vendor_id": NVIDIA[2:],
            "device_id": device_id[2:],
            "architecture": nvidia_pci.architecture(int(device_id, 16)),
            **gpu_state.information(read(f"{folder}/{address}/information")),
            "driver_in_use": driver,
            "state": "lost" if given_up or not gpu_state.answers(path + "/config") else "ok",
            **measured.get(address, {"memory_bytes": None, "mig": None}),
        }

    @functools.cached_property
    def nvswitches(self):
        return [address for address, _id, name, _path in self._nvidia_devices if name.startswith(NVSWITCH_CLASS)]

    @functools.cached_property
    def nvswitch_bridges(self):
        """Looked for beside Blackwell's server cards only: vital product data are slow to read."""
        if not any(
            name.startswith("0x0302") and is_blackwell(device) for _at, device, name, _path in self._nvidia_devices
        ):
            return []
        return [
            address
            for address, vendor, _id, name, path in self._pci
            if vendor == MELLANOX and name.startswith("0x02") and gpu_state.is_switch_bridge(path + "/vpd")
        ]

    @functools.cached_property
    def _loaded_driver(self):
        text = read(self.proc_root + "/driver/nvidia/version") or ""
        in_proc = re.search(r"Module\b.*?\s(\d+\.[\d.]+)\s", text)
        return read(self.sys_root + "/module/nvidia/version") or (in_proc.group(1) if in_proc else None)

    @functools.cached_property
    def driver(self):
        running = next((kernel for kernel in self.kernels if kernel["running"]), {"module": None})
        opened = "Open Kernel Module" in (read(self.proc_root + "/driver/nvidia/version") or "")
        loaded = self._loaded_driver
        return {
            "loaded": loaded,
            "flavor": None if loaded is None else "open" if opened else "proprietary",
            "on_disk": running["module"]["version"] if running["module"] else None,
            "user_space": self._user_space_driver(),
            "nouveau": os.path.isdir(self.sys_root + "/module/nouveau"),
            "nouveau_blocked": self._blocks("nouveau"),
            "processes": self._gpu_processes() if loaded else [],
            "packages": {
                name: package
                for name, package in self.all_packages.items()
                if DRIVER_PACKAGE.match(name) and name not in TOOLKIT_PACKAGES
            },
        }

    def _blocks(self, module):
        folders = (self.etc_root + "/modprobe.d", self.run_root + "/modprobe.d", self.usr_root + "/lib/modprobe.d")
        wanted = re.compile(
            rf"^\s*(blacklist\s+{module}\s*$|install\s+{module}\s+/(usr/)?bin/(true|false))", re.MULTILINE
        )
        return any(wanted.search(read(path) or "") for folder in folders for path in glob.glob(folder + "/*.conf"))

    def _gpu_processes(self):
        """Who computes on a GPU: pid, name, and the container's name where it runs in one."""
        names = {item["id"]: item["name"] for item in self.docker["containers"]}
        found = []
        for pid in sorted(self._device_holders):
            name = read(f"{self.proc_root}/{pid}/comm")
            if name and not name.startswith(gpu_state.OWN_PROCESSES):
                container = gpu_state.container_id(read(f"{self.proc_root}/{pid}/cgroup"))
                found.append({"pid": pid, "name": name, "container": names.get(container, container)})
        return found

    def _user_space_driver(self):
        """The version of the NVML that programs load, from its file's name: needs neither a GPU nor nvidia-smi."""
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
        packages = {name: self.all_packages[name] for name in TOOLKIT_PACKAGES if name in self.all_packages}
        present = os.path.exists(self.usr_root + "/bin/nvidia-ctk")
        said = re.search(r"version\s+(\d\S*)", (self.run(["nvidia-ctk", "--version"]) if present else None) or "")
        return {
            "packages": packages,
            "version": said.group(1) if said else None,
            "cdi_devices": cdi_specs.devices(folders, read),
        }

    # ------------------------------------------------------------ software

    @functools.cached_property
    def _package_state(self):
        """(packages by name, names that are half installed) of everything on the host."""
        if self.os["family"] == "redhat":
            locks = read(self.etc_root + "/dnf/plugins/versionlock.list") or ""
            return package_state.from_rpm(self.run(package_state.RPM) or "", locks)
        return package_state.from_dpkg(self.run(package_state.DPKG) or "")

    @property
    def all_packages(self):
        """{name: {version, installed, held}} of all that has at least a configuration left."""
        return self._package_state[0]

    @functools.cached_property
    def packages(self):
        return {
            "manager": {"debian": "apt", "redhat": "dnf"}.get(self.os["family"], ""),
            "broken": self._package_state[1],
            "held": sorted(name for name, package in self.all_packages.items() if package["held"]),
        }

    @functools.cached_property
    def repositories(self):
        return package_sources.repositories(self.etc_root, read)

    @functools.cached_property
    def docker(self):
        version = self.fetch_from_socket(self.docker_socket, "/version")
        listed = self.fetch_from_socket(self.docker_socket, "/containers/json?all=1") if version else None
        present = shutil.which("docker", path="/usr/bin:/usr/local/bin:/snap/bin") is not None
        compose = self.run(["docker", "compose", "version", "--short"]) if present else None
        information = (self.fetch_from_socket(self.docker_socket, "/info") if version else None) or {}
        return {
            "present": present,
            "version": version["Version"] if version else None,
            "compose": compose.strip().lstrip("v") if compose else None,
            "snap": os.path.exists("/snap/bin/docker") or os.path.isdir("/var/snap/docker"),
            "cgroup_driver": information.get("CgroupDriver"),
            "runtimes": sorted(information.get("Runtimes") or {}),
            # An engine that knows CDI and has it off names no folders.
            "cdi": bool(information.get("CDISpecDirs")),
            "cdi_spec_dirs": information.get("CDISpecDirs") or [],
            "packages": {name: value for name, value in self.all_packages.items() if DOCKER_PACKAGE.match(name)},
            "containers": [self._container(item) for item in listed or []],
        }

    def _container(self, item):
        labels = item.get("Labels") or {}
        health = re.search(r"\((?:health: )?(\w+)\)", item.get("Status", ""))
        published = [port for port in item.get("Ports") or [] if port.get("PublicPort")]
        # One more question for each, so only where a container could have a GPU at all.
        asked = self._nvidia_devices or self.wsl_gpu
        settings = (
            self.fetch_from_socket(self.docker_socket, f"/containers/{item['Id']}/json") if asked else None
        ) or {}
        host_config = settings.get("HostConfig") or {}
        return {
            "id": item["Id"],
            "gpu": wants_gpu(host_config),
            "restart": (host_config.get("RestartPolicy") or {}).get("Name"),
            "name": item["Names"][0].lstrip("/") if item.get("Names") else item["Id"],
            "image": item["Image"],
            "image_id": item["ImageID"],
            "state": item["State"],
            "health": health.group(1) if health else None,
            "project_dir": labels.get("com.docker.compose.project.working_dir"),
            "config_hash": labels.get("com.docker.compose.config-hash"),
            "ports": [{"address": port.get("IP", ""), "port": port["PublicPort"]} for port in published],
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

    @property
    def _sockets(self):
        """{inode: pid of the process that holds the socket}."""
        return {target[8:-1]: pid for pid, target in self._open_files if target.startswith("socket:[")}

    @property
    def _device_holders(self):
        """The processes that have an NVIDIA device open."""
        return {pid for pid, target in self._open_files if gpu_state.DEVICE.match(target)}

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


def is_blackwell(device_id):
    return nvidia_pci.architecture(int(device_id, 16)) == "blackwell"


def wants_gpu(host_config):
    """Whether a container asks for an NVIDIA GPU: as Docker's --gpus and CDI do, by runtime, or device by device."""
    requests = host_config.get("DeviceRequests") or []
    named = [name for request in requests for name in request.get("DeviceIDs") or []]
    return bool(
        any(request.get("Driver") in ("", "nvidia", None) for request in requests)
        or any(name.startswith("nvidia.com/") for name in named)
        or host_config.get("Runtime") == "nvidia"
        or any(device.get("PathOnHost", "").startswith("/dev/nvidia") for device in host_config.get("Devices") or [])
    )


def readable(address):
    """An address of /proc/net/tcp (hexadecimal, in 32-bit words of the machine's own byte order) as people write it."""
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)

"""The lab's hosts: containers with real systemd and sshd, each with an SSH identity that is known beforehand."""

import io
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lab import ssh_keys
from lab.containers import Container, Containers, Wanted
from lab.paths import Paths
from lab.state import write_if_changed
from lab.system import last_lines
from ollama_fleet.errors import FleetError

USER = "ops"
_SSH_SECONDS = 90
_GROUP = "ollama-fleet.group"


@dataclass(frozen=True)
class Host:
    """A host of the lab. group: "gpu_servers", "web_servers", or "" for one beside the fleet."""

    name: str
    address: str
    group: str


def fleet(there: Mapping[str, Container]) -> list[Host]:
    """The hosts among the lab's containers."""
    return [
        Host(container.name, container.address, container.labels[_GROUP])
        for container in there.values()
        if _GROUP in container.labels
    ]


def ensure(lab: Containers, image: str, host: Host, there: Mapping[str, Container]) -> bool:
    """Bring a host up, unless it is; say whether it is a new one. Does not wait for it."""
    wanted = Wanted(host.name, image, _options(lab, host))
    if lab.as_wanted(wanted, there):
        return False
    if host.name in there:
        lab.remove(host.name)
    made = lab.create(wanted)
    lab.docker.run("cp", "-", f"{made}:/", stdin=_identity(lab.paths, host))
    lab.docker.run("start", made)
    return True


def prepare_ssh(paths: Paths, hosts: list[Host]) -> None:
    """Have all keys, and the file by which ssh knows the hosts at the first connection."""
    ssh_keys.key_pair(paths.ssh / "id_ed25519")
    keys = {host.address: _host_key(paths, host).public for host in hosts}
    write_if_changed(paths.known_hosts, ssh_keys.known_hosts(keys))


def ssh_command(paths: Paths, host: Host, *command: str) -> list[str]:
    """The ssh command line that logs in to a host, or runs a command there."""
    key = ssh_keys.key_pair(paths.ssh / "id_ed25519").private_file
    options = ["-i", str(key), *ssh_keys.ssh_options(paths.known_hosts)]
    return ["ssh", *options, f"{USER}@{host.address}", *command]


def ssh_answers(paths: Paths, host: Host) -> str:
    """Log in once; "" when that worked, else the last lines of what ssh said."""
    command = ssh_command(paths, host, "true")
    command[1:1] = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return "" if done.returncode == 0 else last_lines(done.stderr, 3) or f"ssh ended with {done.returncode}"


def wait_for_ssh(lab: Containers, host: Host) -> None:
    """Wait until a login works. Raises FleetError with the host's own last words when that takes too long."""
    deadline = time.monotonic() + _SSH_SECONDS
    why = "sshd does not answer"
    while time.monotonic() < deadline:
        if _greets(host.address):
            why = ssh_answers(lab.paths, host)
            if not why:
                return
        time.sleep(0.1)
    name = lab.full_name(host.name)
    journal = subprocess.run(
        lab.docker.command("exec", name, "journalctl", "--no-pager", "--lines=8"), capture_output=True, check=False
    )
    logs = subprocess.run(lab.docker.command("logs", "--tail=8", name), capture_output=True, check=False)
    words = last_lines(logs.stdout + logs.stderr + journal.stdout)
    raise FleetError(
        f"host {host.name} ({host.address}) of the lab does not come up",
        f"{why} after {_SSH_SECONDS} s; its last lines:\n    {words}",
        f"look inside (docker exec -it {name} bash), or start over: ./inv lab.down, then ./inv lab",
    )


def _options(lab: Containers, host: Host) -> tuple[str, ...]:
    capabilities = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_NICE", "SYSLOG")
    return (
        f"--hostname={host.name}",
        f"--network={lab.paths.project}",
        f"--ip={host.address}",
        f"--network-alias={host.name}",
        f"--label={_GROUP}={host.group}",
        "--env=container=docker",
        *(f"--cap-add={capability}" for capability in capabilities),
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--cgroupns=private",
        *("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec"),
        # Docker inside cannot put its layers on the layers of Docker outside.
        lab.volume(host.name, "docker", "/var/lib/docker"),
        lab.volume(host.name, "containerd", "/var/lib/containerd"),
    )


def _host_key(paths: Paths, host: Host) -> ssh_keys.KeyPair:
    return ssh_keys.key_pair(paths.ssh / "hosts" / host.name)


def _identity(paths: Paths, host: Host) -> bytes:
    """A tar archive with the host's SSH key and the keys that may log in."""
    key = _host_key(paths, host)
    user = ssh_keys.key_pair(paths.ssh / "id_ed25519")
    files = [
        ("etc/ssh/ssh_host_ed25519_key", key.private, 0o600, 0),
        ("etc/ssh/ssh_host_ed25519_key.pub", f"{key.public}\n", 0o644, 0),
        (f"home/{USER}/.ssh/authorized_keys", f"{user.public}\n", 0o600, 1000),
    ]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text, mode, owner in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(text), mode, owner, owner, int(time.time())
            tar.addfile(info, io.BytesIO(text.encode()))
    return archive.getvalue()


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False

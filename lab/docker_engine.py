"""A Docker engine of the lab's own, for a machine where none answers and no systemd could run one."""

import json
import os
import time
from pathlib import Path

from lab import firewall
from lab.docker import Docker
from lab.paths import Paths
from lab.state import OwnEngine, write_if_changed
from lab.system import last_lines, privileged, run
from ollama_fleet.errors import FleetError

_START_SECONDS = 60
_STOP_SECONDS = 60
# An older engine makes this key, which nothing needs any more, wherever its own folders are.
_TRUST_KEY = Path("/etc/docker/key.json")


def answers(docker: Docker) -> bool:
    """Whether there is an engine at the other end."""
    return docker.ok("version", "--format", "{{.Server.Version}}")


def own(paths: Paths) -> Docker:
    """The lab's own engine, running or not."""
    return Docker(f"unix://{paths.docker_run}/docker.sock")


def before() -> OwnEngine:
    """What of this machine an engine will change, as it is now."""
    absent = [str(path) for path in (_TRUST_KEY, _TRUST_KEY.parent) if not path.exists()]
    return OwnEngine(firewall.ip_forward(), firewall.forward_policy(), absent)


def start(paths: Paths) -> Docker:
    """Start the lab's own engine and wait until it answers. Raises FleetError with its last words when it does not."""
    log = paths.home / "dockerd.log"
    configuration = paths.home / "dockerd.json"
    write_if_changed(configuration, json.dumps(_configuration(paths), indent=2) + "\n")
    run(privileged(["install", "-d", "-m", "0711", str(paths.docker_run), str(paths.docker_data)]))
    # Left by an engine that was cut off, as by a power failure.
    if _pid(paths) is None:
        run(privileged(["rm", "-f", str(_pid_file(paths))]))
    _remove_bridge(paths)
    run(privileged(["ip", "link", "add", paths.bridge, "type", "bridge"]))
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    command = privileged(["env", f"PATH={path}", "dockerd", "--config-file", str(configuration)])
    # Through a shell that ends at once: the engine outlives this process and is nobody's forgotten child.
    shell = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'
    started = int(run(["setsid", "sh", "-c", shell, "sh", str(log), *command]))
    docker = own(paths)
    deadline = time.monotonic() + _START_SECONDS
    while not answers(docker):
        if not _alive(started) or time.monotonic() > deadline:
            raise FleetError(
                "the lab's Docker engine does not start",
                last_lines(log.read_bytes()),
                f"mend the cause ({log} says more), or start a Docker engine yourself and name it with DOCKER_HOST",
            )
        time.sleep(0.1)
    return docker


def stop(paths: Paths, machine: OwnEngine, keep_data: bool) -> list[str]:
    """End the lab's own engine and take back what it changed on this machine.

    machine: what `before` returned when the engine was started first.
    keep_data: leave the images for the next start.
    Returns what had to be left, one sentence each.
    """
    pid = _pid(paths)
    left = []
    if pid is not None:
        run(privileged(["kill", "-TERM", str(pid)]))
        _wait_for_end(paths, pid)
    _unmount(paths)
    _remove_bridge(paths)
    _remove_cgroups(paths.project)
    firewall.remove_rules_of(paths.bridge)
    others = firewall.other_engines()
    if others:
        left.append(f"firewall chains named DOCKER: another Docker engine (pid {others[0]}) uses them")
    else:
        firewall.remove_docker()
        for path in map(Path, machine.absent):
            if path.exists() and not (path.is_dir() and any(path.iterdir())):
                run(privileged(["rm", "-rf", str(path)]))
        firewall.restore(machine.ip_forward, machine.forward_policy)
    gone = [paths.docker_run] if keep_data else [paths.docker_run, paths.docker_data]
    run(privileged(["rm", "-rf", "--one-file-system", *map(str, gone)]))
    return left


def _configuration(paths: Paths) -> dict[str, object]:
    return {
        "hosts": [own(paths).host],
        "log-level": "warn",
        "group": str(os.getgid()),
        "data-root": str(paths.docker_data),
        "exec-root": f"{paths.docker_run}/exec",
        "pidfile": str(_pid_file(paths)),
        # Not docker0: another engine on this machine may own it, and "none" would delete it.
        "bridge": paths.bridge,
        "cgroup-parent": f"/{paths.project}",
        # A containerd that runs here already would be used: then under a name of our own.
        "containerd-namespace": paths.project,
    }


def _pid_file(paths: Paths) -> Path:
    return paths.docker_run / "docker.pid"


def _pid(paths: Paths) -> int | None:
    """The engine's process id, when that process lives and is ours."""
    try:
        pid = int(_pid_file(paths).read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(paths.home / "dockerd.json").encode() in arguments else None


def _wait_for_end(paths: Paths, pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    # Its containerd is its child and ends with it; its pid file goes last.
    while _alive(pid) or _containerd(paths) is not None:
        if time.monotonic() > deadline:
            raise FleetError(
                f"the lab's Docker engine (pid {pid}) does not end",
                f"it still runs after {_STOP_SECONDS} s; {paths.home}/dockerd.log says more",
                f"end it by hand (kill -KILL {pid}) and run ./inv lab.down again",
            )
        time.sleep(0.1)


def _containerd(paths: Paths) -> int | None:
    try:
        pid = int((paths.docker_run / "exec/containerd/containerd.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if _alive(pid) else None


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # A zombie has ended; it waits for its parent to notice.
    return state != "Z"


def _remove_bridge(paths: Paths) -> None:
    if f"{paths.bridge}:" in Path("/proc/net/dev").read_text().split():
        run(privileged(["ip", "link", "delete", paths.bridge]))


def _unmount(paths: Paths) -> None:
    """Unmount what is still mounted in the engine's folders, the innermost first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    folders = tuple(f"{folder}/" for folder in (paths.docker_data, paths.docker_run))
    for mount in sorted(mounts, reverse=True):
        # The kernel writes a space in a path as \040.
        path = mount.replace("\\040", " ")
        if f"{path}/".startswith(folders):
            run(privileged(["umount", path]))


def _remove_cgroups(project: str) -> None:
    """Remove the engine's empty control groups, the innermost first."""
    for top in [*Path("/sys/fs/cgroup").glob(f"*/{project}"), Path("/sys/fs/cgroup") / project]:
        if top.is_dir():
            run(privileged(["find", str(top), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]))

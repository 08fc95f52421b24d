"""Makes a lab host show an H100, with a driver that is "loaded" once its module is on disk, and a "Docker" that notes.

It is done with mounts over /sys and /proc (script gpu-machine), so everything that looks at the host sees them. All of
it is in FIXTURE and /usr/local; a reboot is a real one of the lab host's systemd.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from lab.lab import Lab
from lab.state import State

HERE = Path(__file__).parent
FIXTURE = "/etc/ollama-fleet-fixture"
PROGRAMS = {
    "gpu-machine": "/usr/local/sbin/gpu-machine",
    "modprobe": "/usr/local/sbin/modprobe",
    "docker-engine": "/usr/local/sbin/docker-engine",
    "docker": "/usr/local/bin/docker",
    "update-initramfs": "/usr/sbin/update-initramfs",
}
UNITS = {
    "gpu-machine.service": "[Unit]\nDescription=Fixture: an H100\nDefaultDependencies=no\nBefore=sysinit.target\n\n"
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/gpu-machine boot\n\n"
    "[Install]\nWantedBy=sysinit.target\n",
    "docker-engine.service": "[Unit]\nDescription=Fixture: containers\n\n"
    "[Service]\nExecStart=/usr/local/sbin/docker-engine\n\n[Install]\nWantedBy=multi-user.target\n",
}
# What a driver that is installed or removed leaves its traces in.
STATE = """
dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\\n'
sudo find /etc /lib/modules /var/lib/ollama-fleet -xdev -type f ! -path '*fixture*' ! -name '*.cache' \
  ! -path '/etc/ssl/certs/*' -printf '%p %s\\n' 2>/dev/null | sort
"""


class GpuMachine:
    """A lab host beside the fleet that looks like a GPU server."""

    def __init__(self, root: Path, name: str) -> None:
        self.lab = Lab(root)
        self.name = name
        self.host = self.lab.add_host(name)

    @property
    def variables(self) -> dict[str, str]:
        return self.lab.host_variables(self.host)

    def become(self, nouveau: bool, initramfs: bool, containers: Mapping[str, bool]) -> None:
        """Turn into a GPU server. nouveau: holds the card; containers: {name: whether it uses the GPU}, all running.

        initramfs: whether the host makes such a thing.
        """
        programs = {name: path for name, path in PROGRAMS.items() if initramfs or name != "update-initramfs"}
        files = {path: ((HERE / name).read_bytes(), 0o755) for name, path in programs.items()}
        files |= {f"/etc/systemd/system/{name}": (text.encode(), 0o644) for name, text in UNITS.items()}
        kept = {name: {"gpu": gpu, "running": True} for name, gpu in containers.items()}
        files[f"{FIXTURE}/containers.json"] = (json.dumps(kept).encode(), 0o644)
        if nouveau:
            files[f"{FIXTURE}/nouveau"] = (b"", 0o644)
        self.put(files)
        # modinfo, depmod and unattended-upgrades are the real ones; this one runs when a test says so, not by a timer.
        packages = "kmod unattended-upgrades"
        self.ssh("sudo systemctl mask --quiet --now apt-daily.timer apt-daily-upgrade.timer")
        self.ssh(
            f"sudo apt-get update -qq && sudo apt-get install -qq --no-install-recommends {packages} >/dev/null 2>&1"
        )
        self.ssh("sudo systemctl enable --quiet --now gpu-machine docker-engine")
        # A container that ends by itself starts again: that is how a lab host reboots.
        docker_host = State.load(self.lab.paths.state).docker_host or ""
        container = f"{self.lab.paths.project}-{self.name}"
        subprocess.run(
            ["docker", "--host", docker_host, "update", "--restart=always", container], check=True, capture_output=True
        )

    def leave_debian(self) -> None:
        """Have nothing from Debian any more: no test waits for its mirror."""
        # The empty file is what unattended-upgrades leaves where there is none.
        self.ssh("sudo rm /etc/apt/sources.list.d/* && sudo touch /etc/apt/sources.list && sudo apt-get update -qq")

    def put(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files on the host: {path: (content, mode)}."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, (content, mode) in files.items():
                info = tarfile.TarInfo(path.lstrip("/"))
                info.size, info.mode = len(content), mode
                tar.addfile(info, io.BytesIO(content))
        self._run("sudo tar --extract --directory=/ --no-overwrite-dir --no-same-owner", archive.getvalue())

    def ssh(self, command: str) -> str:
        """Run a command on the host, and return what it printed."""
        return self._run(command, b"")

    def state(self) -> str:
        """What the driver role could leave behind: packages with their states, and files with their sizes."""
        return self.ssh(STATE)

    def log(self, name: str) -> list[str]:
        """The lines that a fixture has noted, and forget them."""
        path = f"{FIXTURE}/{name}.log"
        return self.ssh(f"sudo sh -c 'test ! -e {path} || cat {path}; rm -f {path}'").splitlines()

    def remove(self) -> None:
        self.lab.remove_host(self.name)

    def _run(self, command: str, given: bytes) -> str:
        done = subprocess.run(
            [*self.lab.ssh_command(self.name), command], input=given, capture_output=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout!r}{done.stderr!r}")
        return done.stdout.decode()

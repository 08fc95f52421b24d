"""A lab host with an H100 and its driver to everything that looks, and a libcuda that answers as a test wants it to.

Fixtures, all of them: mounts over /sys and /proc with what was recorded on a real H100, and a library that is compiled
on the host (libcuda.c). Nothing computes.
"""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
RECORDED = HERE.parent / "data" / "hosts" / "nvidia-h100"
CARD = "/sys/bus/pci/devices/0000:06:00.0"
LIBRARY = "/opt/ollama-fleet-fixture/libcuda.so.1"
ANSWERS = "/run/fixture-gpu"
# systemd empties this folder and makes it anew at each daemon-reload: a container keeps what is no longer there.
RELOADED = "/run/systemd/generator"
GENERATOR = "/etc/systemd/system-generators/ollama-fleet-fixture"


class Gpu:
    """The GPU of one host. ssh: runs a command there and returns what it printed."""

    def __init__(self, ssh: Callable[[str], str]) -> None:
        self.ssh = ssh

    def appear(self) -> None:
        """The card on the bus, the driver loaded, the library for containers, nvidia-smi that always answers."""
        version = (RECORDED / "proc-driver-nvidia-version.txt").read_text()
        source = (HERE / "libcuda.c").read_text()
        self._root(
            f"""
            mount -t tmpfs fixture /sys/bus/pci/devices && mkdir {CARD}
            echo 0x10de >{CARD}/vendor; echo 0x2330 >{CARD}/device; echo 0x030200 >{CARD}/class
            head -c 64 /dev/zero >{CARD}/config
            mount -t tmpfs fixture /proc/driver && mkdir /proc/driver/nvidia
            printf %s {shlex.quote(version)} >/proc/driver/nvidia/version
            mkdir -p {Path(LIBRARY).parent} {ANSWERS} /etc/ollama-fleet-fixture
            apt-get -q update && apt-get -q -y --no-install-recommends install tcc binutils
            cd {Path(LIBRARY).parent} && printf %s {shlex.quote(source)} >libcuda.c
            tcc -c -o libcuda.o libcuda.c && ld -shared -z noexecstack -soname libcuda.so.1 -o {LIBRARY} libcuda.o
            printf '#!/bin/sh\\necho GPU 0: fixture\\n' >/usr/local/bin/nvidia-smi
            chmod 755 /usr/local/bin/nvidia-smi
            """
        )
        self.offer()

    def answer(self, **values: int) -> None:
        """What the library answers from now on: init, context, count."""
        files = "".join(f"echo {value} >{ANSWERS}/{name};" for name, value in values.items())
        self._root(f"rm -f {ANSWERS}/*; {files}")

    def offer(self, until_reload: bool = False) -> None:
        """Say what the fixture of nvidia-ctk writes into its specification.

        until_reload: containers lose the GPU with a daemon-reload, as they do where systemd takes a device from their
        cgroup that was given behind its back.
        """
        mounts = {LIBRARY: "/usr/lib/x86_64-linux-gnu/libcuda.so.1", ANSWERS: ANSWERS}
        if until_reload:
            # Made anew by each daemon-reload; only the first one's folder is what a container sees.
            self._root(
                f"mkdir -p {Path(GENERATOR).parent}; printf '#!/bin/sh\\necho 0 >$1/init\\n' >{GENERATOR};"
                f"chmod 755 {GENERATOR}; systemctl daemon-reload"
            )
            mounts[RELOADED] = "/run/fixture-reload"
        edits = {
            "deviceNodes": [{"path": "/dev/nvidia0", "hostPath": "/dev/null"}],
            "mounts": [
                {"hostPath": host, "containerPath": inside, "options": ["ro", "bind"]}
                for host, inside in mounts.items()
            ],
        }
        names = [{"name": name, "containerEdits": {"env": ["FIXTURE=1"]}} for name in ("0", "all")]
        wanted = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": names, "containerEdits": edits}
        self._root(f"echo {shlex.quote(json.dumps(wanted))} >/etc/ollama-fleet-fixture/cdi.json")

    def _root(self, script: str) -> None:
        self.ssh(f"sudo sh -c {shlex.quote('set -e; ' + script)}")

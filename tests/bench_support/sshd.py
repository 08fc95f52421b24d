"""A real OpenSSH server on a port of the loopback, with keys of its own, for the time of a test."""

import getpass
import os
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path
from typing import Self

# Not on an ordinary user's PATH, and sshd insists on being started by its full path.
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

_CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding {forwarding}
LogLevel VERBOSE
"""


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def public_key(path: Path) -> str:
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


class Sshd:
    """Listens itself and starts an `sshd -i` for each connection: no race for the port, and each can be ended alone."""

    def __init__(self, folder: Path, forwarding: bool = True) -> None:
        assert SSHD, "these tests need OpenSSH's server: apt-get install openssh-server"
        folder.mkdir()
        self.folder = folder
        self.user = getpass.getuser()
        self.key = make_key(folder / "client_key")
        make_key(folder / "host_key")
        (folder / "authorized_keys").write_text(public_key(self.key) + "\n")
        config = folder / "sshd_config"
        config.write_text(_CONFIG.format(folder=folder, forwarding="yes" if forwarding else "no"))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [SSHD, "-i", "-e", "-f", str(config)]
        children: list[subprocess.Popen[bytes]] = []
        log = (folder / "log").open("ab")

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                child = subprocess.Popen(
                    command, stdin=self.request, stdout=self.request, stderr=log, start_new_session=True
                )
                children.append(child)
                child.wait()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._children = children
        self._log = log
        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {public_key(self.folder / 'host_key')}\n"

    @property
    def connections(self) -> int:
        return len(self._children)

    def cut(self) -> None:
        """End every connection without a word of goodbye from SSH."""
        for child in self._children:
            if child.poll() is None:
                # Only process groups that this object started.
                subprocess.run(["kill", "-KILL", "--", f"-{child.pid}"], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._log.close()

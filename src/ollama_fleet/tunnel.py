"""An SSH tunnel from a free port of this machine's loopback to a port of a host's loopback.

Fabric makes the connection (ssh.py). The forwarding is ours: Fabric's polls every 10 ms for a new client, which would
be measured as part of an answer, needs to be told a free port, and keeps silent about why a forward failed. Here
threads sleep until bytes arrive, the system chooses the port, and the reason is kept.
"""

import contextlib
import socket
import socketserver
import threading
from typing import Any, Self

import paramiko

from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host
from ollama_fleet.ssh import SshConnection, TunnelError

_BUFFER = 65536


class ServerRefusedError(FleetError):
    """SSH works, but on the host nothing listens at the port."""


class Tunnel:
    """A context manager: inside it, `url` leads to the host's port.

    `timeout` (seconds) is for each step of connecting. A failure to connect raises TunnelError on entry. What goes
    wrong later is seen by the client as a closed connection; `fault()` then says whose fault it was.
    """

    def __init__(self, host: Host, port: int | None = None, timeout: float = 20.0) -> None:
        self.host = host
        self.remote = ("127.0.0.1", host.ollama_port if port is None else port)
        self._timeout = timeout
        self._ssh = SshConnection(host, timeout)
        self._server: _Forwarder | None = None
        self._refusal: FleetError | None = None

    def __enter__(self) -> Self:
        try:
            self._ssh.open()
            self._server = _Forwarder(self)
            threading.Thread(target=self._server.serve_forever, name=f"tunnel {self.host.name}", daemon=True).start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port, the forwarded connections and the SSH connection, jump hosts last."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._ssh.close()

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, for as long as the tunnel is open."""
        if self._server is None:
            raise RuntimeError("the tunnel is not open")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self) -> FleetError | None:
        """Why a forwarded connection broke: the tunnel, or a port that refuses; None means the server itself."""
        if self._refusal is not None:
            return self._refusal
        if self._ssh.answers():
            return None
        return TunnelError(
            f"host {self.host.name}",
            "the SSH connection was cut while it was in use",
            "check the network and the host's sshd log, then run again",
        )

    def run(self, command: str) -> str | None:
        """Standard output of a command on the host; None when the host runs no commands for us."""
        return self._ssh.run(command)

    def open_channel(self, client: tuple[str, int]) -> paramiko.Channel | None:
        """A channel to the host's port, or None with the reason kept for `fault()`."""
        where = f"{self.remote[0]}:{self.remote[1]}"
        try:
            return self._ssh.transport.open_channel("direct-tcpip", self.remote, client, timeout=self._timeout)
        except paramiko.ChannelException as error:
            if error.code == 1:  # administratively prohibited
                self._refusal = TunnelError(
                    f"host {self.host.name}",
                    f"its SSH server does not allow forwarding to {where}",
                    "allow it in the host's sshd_config: AllowTcpForwarding local, and PermitOpen if that is set",
                )
            else:
                self._refusal = ServerRefusedError(
                    f"host {self.host.name}",
                    f"nothing listens at {where} there ({error.text})",
                    "bring the host up (./inv up), or see `docker ps` and `docker logs ollama` on it",
                )
        except (paramiko.SSHException, EOFError, OSError):
            pass  # the connection is gone: fault() sees that by itself
        return None


class _Forwarder(socketserver.ThreadingTCPServer):
    """Listens on a port of its own; one pair of threads for each connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Forwarder
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = self.server.tunnel.open_channel(self.client_address)
        if channel is None:
            return
        back = threading.Thread(target=_pump, args=(channel, self.request), daemon=True)
        back.start()
        _pump(self.request, channel)
        back.join()
        channel.close()


def _pump(source: Any, target: Any) -> None:
    """Carry bytes until the source ends, then end the target's sending side."""
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(_BUFFER):
            target.sendall(data)
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)

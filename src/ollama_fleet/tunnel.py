"""An SSH tunnel from a free port of this machine's loopback to a port of a host's loopback.

Fabric makes the connection, with the inventory's own settings. The forwarding itself is ours: Fabric's polls every
10 ms for a new client (which would be measured as part of an answer), needs to be told a free port, and keeps silent
about why a forward failed. Here threads sleep until bytes arrive, the system chooses the port, and the reason is kept.
"""

import contextlib
import logging
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any, Self

import fabric
import paramiko

from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host

# What paramiko would log is told by our own errors; without a handler it would print stack traces between the lines.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_BUFFER = 65536
_DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")


class TunnelError(FleetError):
    """The way to the host is broken: SSH, its keys, or its forwarding. Nothing is known about the server behind it."""


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
        self._key_files: list[Path] = []
        self._connection: Any = None
        self._server: _Forwarder | None = None
        self._refusal: FleetError | None = None

    def __enter__(self) -> Self:
        try:
            self._connection = self._connect()
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
        connection = self._connection
        while connection is not None and not isinstance(connection, str):
            connection.close()
            connection = connection.gateway

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
        transport = self._connection.transport
        if transport is not None and transport.is_active() and self._answers(transport):
            return None
        return TunnelError(
            f"host {self.host.name}",
            "the SSH connection was cut while it was in use",
            "check the network and the host's sshd log, then run again",
        )

    def _answers(self, transport: paramiko.Transport) -> bool:
        """Ask the SSH server for a channel: a host that is gone without a word is found out this way only."""
        try:
            transport.open_session(timeout=self._timeout).close()
        except paramiko.ChannelException:
            return True  # it said no, so it is there
        except (paramiko.SSHException, EOFError, OSError):
            return False
        return True

    def run(self, command: str) -> str | None:
        """Standard output of a command on the host; None when the host runs no commands for us."""
        try:
            done = self._connection.run(command, hide=True, warn=True, in_stream=False, timeout=self._timeout)
        except Exception:
            # Told to nobody on purpose: this is for details in a report, and a host may allow forwarding alone.
            return None
        return str(done.stdout)

    def open_channel(self, client: tuple[str, int]) -> paramiko.Channel | None:
        """A channel to the host's port, or None with the reason kept for `fault()`."""
        where = f"{self.remote[0]}:{self.remote[1]}"
        try:
            return self._connection.transport.open_channel("direct-tcpip", self.remote, client, timeout=self._timeout)
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

    def _connect(self) -> Any:
        host = self.host
        if host.connection not in {"ssh", "smart", "paramiko", "paramiko_ssh"}:
            raise TunnelError(
                f"host {host.name}",
                f"its ansible_connection is {host.connection}, not ssh",
                "the benchmark reaches hosts over SSH only: give the host an address with sshd",
            )
        config = fabric.Config(runtime_ssh_path=str(host.ssh.config_file) if host.ssh.config_file else None)
        gateway = self._gateway(config)
        connection = fabric.Connection(
            host.address,
            user=host.user,
            port=host.port,
            config=config,
            gateway=gateway,
            connect_kwargs=self._connect_arguments(),
        )
        hop = connection
        while isinstance(hop, fabric.Connection):
            self._check_keys(hop, jump=hop is not connection)
            hop = hop.gateway
        try:
            connection.open()
        except Exception as error:
            problem = self._connect_error(connection, error)
            connection.close()
            raise problem from error
        return connection

    def _gateway(self, config: Any) -> Any:
        """Jump hosts, each through the one before; else a ProxyCommand; None leaves it to ~/.ssh/config."""
        gateway = None
        for hop in self.host.ssh.proxy_jump:
            gateway = fabric.Connection(
                hop.removeprefix("ssh://"), config=config, gateway=gateway, connect_kwargs=self._connect_arguments()
            )
        return gateway or self.host.ssh.proxy_command

    def _connect_arguments(self) -> dict[str, Any]:
        host = self.host
        keys = [*([host.private_key] if host.private_key else []), *host.ssh.identities]
        for key in keys:
            if not os.access(key, os.R_OK):
                raise TunnelError(
                    f"host {host.name}",
                    f"the private key {key} cannot be read",
                    "correct ansible_ssh_private_key_file, or the file's owner and mode",
                )
        arguments: dict[str, Any] = {
            "timeout": self._timeout,
            # Key exchange is work: many hosts at once may make one of them wait for a processor.
            "banner_timeout": 3 * self._timeout,
            "auth_timeout": 3 * self._timeout,
            # The named key goes first, then those of the agent; the default files only where none is named.
            "look_for_keys": not keys,
        }
        if keys:
            arguments["key_filename"] = [str(key) for key in keys]
        if host.password is not None:
            arguments["password"] = host.password
        return arguments

    def _check_keys(self, connection: Any, jump: bool) -> None:
        """Know the host by its key, or refuse it. Fabric's own default is to trust whoever answers.

        As with OpenSSH, a jump host is not known by the target's own files alone.
        """
        files = list(self.host.ssh.known_hosts)
        if jump or not files:
            configured = str(connection.ssh_config.get("userknownhostsfile", "")).split()
            files += [Path(name).expanduser() for name in configured or _DEFAULT_KNOWN_HOSTS]
        connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for file in files:
            if file.is_file():
                connection.client.load_system_host_keys(str(file))
        self._key_files += [file for file in files if file not in self._key_files]

    def _connect_error(self, connection: Any, error: Exception) -> TunnelError:
        host = self.host
        what = f"host {host.name}"
        hops = [connection]
        while isinstance(hops[-1].gateway, fabric.Connection):
            hops.append(hops[-1].gateway)
        # The first on the way that is not connected is the one that failed.
        failed = next((hop for hop in reversed(hops) if not hop.is_connected), connection)
        where = f"{failed.host}:{failed.port}"
        known_as = failed.host if failed.port == 22 else f"[{failed.host}]:{failed.port}"
        via = f" through {','.join(host.ssh.proxy_jump)}" if failed is connection and host.ssh.proxy_jump else ""
        files = ", ".join(str(file) for file in self._key_files)
        if isinstance(error, paramiko.BadHostKeyException):
            return TunnelError(
                what,
                f"{known_as} answers with another SSH host key ({error.key.fingerprint}) than {files} says",
                "if the host was set up anew, compare the key on its console, drop the old one with "
                f"`ssh-keygen -R '{known_as}' -f FILE` and enter the new one; if not, somebody else may be answering",
            )
        if "not found in known_hosts" in str(error):
            return TunnelError(
                what,
                f"its SSH host key is unknown: {error} ({files})",
                "check the key's fingerprint and enter it, for example with `ssh-keyscan`; nothing is trusted unseen",
            )
        if isinstance(error, paramiko.PasswordRequiredException):
            return TunnelError(
                what, "the private key has a passphrase", "add it to an agent (ssh-add), and name no key file"
            )
        if isinstance(error, paramiko.AuthenticationException):
            return TunnelError(
                what,
                f"{where} refuses the user {failed.user}{via}: {error}",
                "check ansible_user, ansible_ssh_private_key_file and the host's authorized_keys",
            )
        if isinstance(error, socket.gaierror):
            return TunnelError(
                what, f"the name {failed.host} has no address{via}", "correct ansible_host, or the name service"
            )
        return TunnelError(
            what,
            f"no SSH at {where}{via}: {_reason(error)}",
            f"check that the host is up and that `ssh -p {failed.port} {failed.user}@{failed.host}` works",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


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

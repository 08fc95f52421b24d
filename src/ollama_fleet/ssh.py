"""SSH connections by Fabric, made with an inventory's own settings, and with host keys checked always."""

import contextlib
import logging
import os
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import fabric
import paramiko

from ollama_fleet.errors import FleetError
from ollama_fleet.inventory import Host

# What paramiko would log is told by our own errors; without a handler it would print stack traces between the lines.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")


class TunnelError(FleetError):
    """The way to the host is broken: SSH, its keys, or its forwarding. Nothing is known about the server behind it."""


class SshConnection:
    """A connection to one host, through its jump hosts if it has any. `timeout` is in seconds, for each step."""

    def __init__(self, host: Host, timeout: float) -> None:
        self._host = host
        self._timeout = timeout
        self._hops: list[Any] = []
        self._key_files: list[Path] = []
        self._proxy: subprocess.Popen[bytes] | None = None
        self._proxy_socket: socket.socket | None = None

    def open(self) -> None:
        """Connect. Raises TunnelError."""
        host = self._host
        if host.connection not in {"ssh", "smart", "paramiko", "paramiko_ssh"}:
            raise TunnelError(
                f"host {host.name}",
                f"its ansible_connection is {host.connection}, not ssh",
                "the benchmark reaches hosts over SSH only: give the host an address with sshd",
            )
        self._hops = self._chain()
        for hop in self._hops:
            self._check_keys(hop, jump=hop is not self._hops[0])
        try:
            if isinstance(self._hops[-1].gateway, str):
                self._start_proxy(self._hops[-1])
            self._hops[0].open()
        except Exception as error:
            problem = self._problem(error)
            self.close()
            raise problem from error

    def close(self) -> None:
        """Close the connection, jump hosts last."""
        for hop in self._hops:
            hop.close()
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.communicate()
            self._proxy = None
        if self._proxy_socket is not None:
            self._proxy_socket.close()

    @property
    def transport(self) -> paramiko.Transport:
        """The open connection's transport. Raises EOFError when it is closed."""
        transport = self._hops[0].transport
        if not isinstance(transport, paramiko.Transport):
            raise EOFError("the connection is closed")
        return transport

    def answers(self) -> bool:
        """Ask the SSH server for a channel: a host that is gone without a word is found out this way only."""
        if not self._hops or not self._hops[0].is_connected:
            return False
        try:
            self.transport.open_session(timeout=self._timeout).close()
        except paramiko.ChannelException:
            return True  # it said no, so it is there
        except (paramiko.SSHException, EOFError, OSError):
            return False
        return True

    def run(self, command: str) -> str | None:
        """Standard output of a command on the host; None when the host runs no commands for us."""
        try:
            done = self._hops[0].run(command, hide=True, warn=True, in_stream=False, timeout=self._timeout)
        except Exception:
            # Told to nobody on purpose: this is for details in a report, and a host may allow forwarding alone.
            return None
        return str(done.stdout)

    def _chain(self) -> list[Any]:
        """The target, then its jump hosts, the first on the way last."""
        ssh = self._host.ssh
        config = fabric.Config(runtime_ssh_path=str(ssh.config_file) if ssh.config_file else None)
        gateway: Any = None
        for hop in ssh.proxy_jump:
            gateway = fabric.Connection(
                hop.removeprefix("ssh://"), config=config, gateway=gateway, connect_kwargs=self._connect_arguments()
            )
        connection = fabric.Connection(
            self._host.address,
            user=self._host.user,
            port=self._host.port,
            config=config,
            # Where the inventory says nothing, Fabric looks into ~/.ssh/config.
            gateway=gateway or ssh.proxy_command,
            connect_kwargs=self._connect_arguments(),
        )
        hops = [connection]
        while isinstance(hops[-1].gateway, fabric.Connection):
            hops.append(hops[-1].gateway)
        return hops

    def _connect_arguments(self) -> dict[str, Any]:
        host = self._host
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
        files = list(self._host.ssh.known_hosts)
        if jump or not files:
            configured = str(connection.ssh_config.get("userknownhostsfile", "")).split()
            files += [Path(name).expanduser() for name in configured or _DEFAULT_KNOWN_HOSTS]
        connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for file in files:
            if file.is_file():
                connection.client.load_system_host_keys(str(file))
        self._key_files += [file for file in files if file not in self._key_files]

    def _start_proxy(self, hop: Any) -> None:
        """Start a ProxyCommand. Paramiko's own way of doing it spins when the command ends."""
        filled = {"%h": hop.host, "%p": str(hop.port), "%r": hop.user, "%%": "%"}
        command = shlex.split(hop.gateway)
        for token, value in filled.items():
            command = [word.replace(token, value) for word in command]
        self._proxy_socket, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            self._proxy = subprocess.Popen(command, stdin=end, stdout=end, stderr=subprocess.PIPE)
        hop.gateway = None
        hop.connect_kwargs = {**hop.connect_kwargs, "sock": self._proxy_socket}

    def _proxy_says(self) -> str:
        """The last line that a ProxyCommand wrote before it ended."""
        if self._proxy is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = self._proxy.communicate(timeout=1)
            return said.decode(errors="replace").strip().rpartition("\n")[2].strip()
        return ""

    def _problem(self, error: Exception) -> TunnelError:
        host = self._host
        what = f"host {host.name}"
        # The first on the way that is not connected is the one that failed.
        failed = next((hop for hop in reversed(self._hops) if not hop.is_connected), self._hops[0])
        where = f"{failed.host}:{failed.port}"
        known_as = failed.host if failed.port == 22 else f"[{failed.host}]:{failed.port}"
        jumps = ",".join(f"{hop.host}:{hop.port}" for hop in reversed(self._hops[1:]))
        via = f" through {jumps}" if jumps and failed is self._hops[0] else ""
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
            f"no SSH at {where}{via}: {self._proxy_says() or _reason(error)}",
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

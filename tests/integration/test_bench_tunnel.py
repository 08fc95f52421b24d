"""The tunnel through a real sshd: what works, and whose fault it is when something does not."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from ollama_fleet.inventory import Host, SshArguments
from ollama_fleet.ollama import Client, UnreachableError
from ollama_fleet.ssh import TunnelError
from ollama_fleet.tunnel import ServerRefusedError, Tunnel
from tests.bench_support.ollama_double import OllamaDouble
from tests.bench_support.sshd import Sshd, make_key, public_key


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd") / "one") as server:
        yield server


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaDouble]:
    with OllamaDouble("0.32.15") as double:
        yield double


def known(folder: Path, *servers: Sshd) -> Path:
    file = folder / "known_hosts"
    file.write_text("".join(server.known_hosts_line for server in servers))
    return file


def host(sshd: Sshd, known_hosts: Path, port: int, jump: tuple[str, ...] = ()) -> Host:
    return Host(
        name="gpu1",
        groups=frozenset({"all"}),
        address="127.0.0.1",
        port=sshd.port,
        user=sshd.user,
        private_key=sshd.key,
        ssh=SshArguments(known_hosts=(known_hosts,), proxy_jump=jump),
        ollama_port=port,
    )


def test_tunnel_carries_requests_at_once_on_a_port_of_its_own(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), ollama.port)
    with Tunnel(target) as one, Tunnel(target) as two:
        assert one.url != two.url
        assert one.url.startswith("http://127.0.0.1:")
        for tunnel in (one, two):
            assert requests.get(f"{tunnel.url}/api/version", timeout=5).json() == {"version": "0.32.15"}
            assert tunnel.fault() is None


def test_tunnel_closes_its_port(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Tunnel(host(sshd, known(tmp_path, sshd), ollama.port)) as tunnel:
        url = tunnel.url
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=2)


def test_tunnel_keeps_one_connection_for_a_client(sshd: Sshd, tmp_path: Path) -> None:
    with (
        OllamaDouble("0.32.15") as ollama,
        Tunnel(host(sshd, known(tmp_path, sshd), ollama.port)) as tunnel,
        Client(tunnel.url, "host gpu1") as client,
    ):
        client.version()
        answer = client.generate({"model": "gemma3:270m", "prompt": "x"})
        client.version()
    assert answer.fault is None
    assert ollama.connections == 1


def test_tunnel_runs_a_command(sshd: Sshd, tmp_path: Path) -> None:
    with Tunnel(host(sshd, known(tmp_path, sshd), 1)) as tunnel:
        assert tunnel.run("echo there") == "there\n"


def test_tunnel_through_a_jump_host(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        (jump.folder / "authorized_keys").write_text(public_key(sshd.key) + "\n")
        hop = f"{jump.user}@127.0.0.1:{jump.port}"
        target = host(sshd, known(tmp_path, sshd, jump), ollama.port, (hop,))
        before = sshd.connections
        with Tunnel(target) as tunnel:
            assert requests.get(f"{tunnel.url}/api/version", timeout=5).json() == {"version": "0.32.15"}
        assert jump.connections == 1
        assert sshd.connections == before + 1


def test_tunnel_through_a_proxy_command(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        target = host(sshd, known(tmp_path, sshd, jump), ollama.port)
        way = f"ssh -i {jump.key} -o UserKnownHostsFile={tmp_path}/known_hosts -p {jump.port} -W %h:%p 127.0.0.1"
        ssh = replace(target.ssh, proxy_command=way)
        with Tunnel(replace(target, ssh=ssh)) as tunnel:
            assert requests.get(f"{tunnel.url}/api/version", timeout=5).json() == {"version": "0.32.15"}
        assert jump.connections == 1


def test_tunnel_tells_what_a_proxy_command_says(sshd: Sshd, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), 1)
    ssh = replace(target.ssh, proxy_command="sh -c 'echo the bastion is closed >&2; exit 1'")
    with pytest.raises(TunnelError, match="the bastion is closed"):
        Tunnel(replace(target, ssh=ssh)).__enter__()


def test_tunnel_tells_that_a_proxy_command_is_not_there(sshd: Sshd, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), 1)
    ssh = replace(target.ssh, proxy_command="/no/such/program %h")
    with pytest.raises(TunnelError, match="no such file"):
        Tunnel(replace(target, ssh=ssh)).__enter__()


def test_tunnel_reads_ssh_configuration(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    config = tmp_path / "config"
    lines = ("Host rack1", "HostName 127.0.0.1", f"Port {sshd.port}", f"User {sshd.user}", f"IdentityFile {sshd.key}")
    config.write_text("\n".join((*lines, f"UserKnownHostsFile {known(tmp_path, sshd)}\n")))
    ssh = SshArguments(config_file=config)
    with Tunnel(Host("gpu1", frozenset(), "rack1", ssh=ssh, ollama_port=ollama.port)) as tunnel:
        assert requests.get(f"{tunnel.url}/api/version", timeout=5).json() == {"version": "0.32.15"}


def test_many_tunnels_at_once(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), ollama.port)

    def version(_: int) -> object:
        with Tunnel(target) as tunnel:
            return requests.get(f"{tunnel.url}/api/version", timeout=30).json()["version"]

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(version, range(24))) == ["0.32.15"] * 24


def test_tunnel_refuses_a_jump_host_with_an_unknown_key(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        hop = f"{jump.user}@127.0.0.1:{jump.port}"
        with pytest.raises(TunnelError, match=rf"host key is unknown.*{jump.port}"):
            Tunnel(host(sshd, known(tmp_path, sshd), ollama.port, (hop,))).__enter__()


def test_tunnel_refuses_a_host_with_another_key(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{sshd.port} {public_key(make_key(tmp_path / 'other'))}\n")
    with pytest.raises(TunnelError) as caught:
        Tunnel(host(sshd, file, ollama.port)).__enter__()
    assert "another SSH host key" in caught.value.why
    assert str(file) in caught.value.why
    assert "ssh-keygen -R '[127.0.0.1]:" in caught.value.remedy
    assert "gpu1" in caught.value.what


def test_tunnel_refuses_a_host_with_an_unknown_key(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with pytest.raises(TunnelError, match="host key is unknown"):
        Tunnel(host(sshd, tmp_path / "none", ollama.port)).__enter__()


def test_tunnel_says_that_the_user_is_refused(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), ollama.port)
    stranger = replace(target, private_key=make_key(tmp_path / "stranger"))
    with pytest.raises(TunnelError, match="refuses the user"):
        Tunnel(stranger).__enter__()


def test_tunnel_says_that_the_key_file_is_not_there(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), ollama.port)
    with pytest.raises(TunnelError, match="cannot be read"):
        Tunnel(replace(target, private_key=tmp_path / "none")).__enter__()


def test_tunnel_says_that_there_is_no_ssh(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        target = host(sshd, known(tmp_path, sshd), ollama.port)
        with pytest.raises(TunnelError, match=r"no SSH at 127\.0\.0\.1:\d+: connection refused"):
            Tunnel(replace(target, port=taken.getsockname()[1])).__enter__()


def test_tunnel_says_that_somebody_else_answers(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    target = host(sshd, known(tmp_path, sshd), ollama.port)
    with pytest.raises(TunnelError, match="no SSH at"):
        Tunnel(replace(target, port=ollama.port), timeout=2).__enter__()


def test_tunnel_says_that_nothing_listens_behind_it(sshd: Sshd, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with Tunnel(host(sshd, known(tmp_path, sshd), port)) as tunnel, Client(tunnel.url, "host gpu1") as client:
            with pytest.raises(UnreachableError):
                client.version()
            fault = tunnel.fault()
    assert isinstance(fault, ServerRefusedError)
    assert f"nothing listens at 127.0.0.1:{port}" in fault.why


def test_tunnel_says_that_forwarding_is_not_allowed(ollama: OllamaDouble, tmp_path: Path) -> None:
    with Sshd(tmp_path / "closed", forwarding=False) as sshd:
        target = host(sshd, known(tmp_path, sshd), ollama.port)
        with Tunnel(target) as tunnel, Client(tunnel.url, "host gpu1") as client:
            with pytest.raises(UnreachableError):
                client.version()
            fault = tunnel.fault()
    assert isinstance(fault, TunnelError)
    assert "does not allow forwarding" in fault.why


def test_tunnel_says_that_it_was_cut(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Tunnel(host(sshd, known(tmp_path, sshd), ollama.port)) as tunnel, Client(tunnel.url, "host gpu1") as client:
        client.version()
        sshd.cut()
        with pytest.raises(UnreachableError):
            client.version()
        fault = tunnel.fault()
    assert isinstance(fault, TunnelError)
    assert "cut" in fault.why


def test_tunnel_threads_sleep(sshd: Sshd, ollama: OllamaDouble, tmp_path: Path) -> None:
    with Tunnel(host(sshd, known(tmp_path, sshd), ollama.port)) as tunnel:
        requests.get(f"{tunnel.url}/api/version", timeout=5)
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.1

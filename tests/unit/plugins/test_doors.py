"""What is open on a host and should not be, and who opened it."""

import socket
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.modules.port_probe import probe
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.doors import findings, is_loopback, listening, to_try

EVERYWHERE = "0.0.0.0"  # noqa: S104
ALLOWED = [22, 11435]


def port(number: int, address: str = EVERYWHERE, process: str | None = "sshd") -> dict[str, Any]:
    return {"port": number, "address": address, "protocol": "tcp", "pid": 1, "process": process}


def container(number: int, address: str = EVERYWHERE, state: str = "running") -> dict[str, Any]:
    return {"name": "ollama", "state": state, "ports": [{"address": address, "port": number}]}


def words(*arguments: Any, **answers: list[int]) -> list[str]:
    ports, containers = arguments
    return [str(one["words"]) for one in findings(ports, containers, ALLOWED, answers)]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        (EVERYWHERE, False),
        ("::", False),
        ("", False),
        ("172.17.0.1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_host_as_it_shall_be_has_no_finding() -> None:
    ports = [port(22), port(22, "::"), port(11435, process="nginx"), port(11434, "127.0.0.1", "docker-proxy")]
    assert words(ports, [container(11434, "127.0.0.1")], controller=[22, 11435], gpu2=[22, 11435]) == []


def test_a_process_is_named_with_where_it_listens_and_who_was_answered() -> None:
    assert words([port(9100, process="node_exporter")], [], controller=[9100], gpu2=[9100]) == [
        "port 9100: process node_exporter, listens on 0.0.0.0, answers controller and gpu2"
    ]


def test_a_firewall_that_keeps_it_is_said_and_it_stays_a_finding() -> None:
    assert words([port(9100, process="node_exporter")], [], controller=[]) == [
        "port 9100: process node_exporter, listens on 0.0.0.0, answered nobody who knocked"
    ]


def test_what_docker_publishes_is_named_by_container_and_ufw_is_no_excuse() -> None:
    (text,) = words([port(11434, process="docker-proxy")], [container(11434)], controller=[11434])
    assert text.startswith("port 11434 (Ollama's API): container ollama, published by Docker, which a firewall of ufw")


def test_docker_can_publish_without_a_process_that_listens() -> None:
    (text,) = words([], [container(11434, "")], controller=[])
    assert "container ollama" in text
    assert "listens on 0.0.0.0" in text


def test_a_stopped_container_publishes_nothing() -> None:
    assert listening([], [container(11434, state="exited")]) == {}


def test_a_port_on_loopback_that_answers_from_outside_is_a_finding() -> None:
    assert words([port(11434, "127.0.0.1", "ollama")], [], controller=[11434]) == [
        "port 11434 (Ollama's API): process ollama, listens on loopback alone, answers controller"
    ]


def test_a_port_that_answers_though_nothing_listens_is_a_finding() -> None:
    (text,) = words([], [], controller=[2375])
    assert "a rule of the firewall may hand it on" in text


def test_a_process_that_could_not_be_seen_is_said() -> None:
    (text,) = words([port(2024, process=None)], [], controller=[])
    assert text == "port 2024: a process that could not be seen, listens on 0.0.0.0, answered nobody who knocked"


def test_all_that_listens_is_tried_and_what_never_may() -> None:
    assert to_try([port(22), port(631, "127.0.0.1")], [container(3000)]) == [22, 631, 2375, 3000, 11434]


def test_allowed_ports_may_be_written_as_text() -> None:
    assert findings([port(22)], [], ["22"], {}) == []


def test_a_real_port_is_told_from_a_closed_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closing:
        taken, closed = server.getsockname()[1], closing.getsockname()[1]
        closing.close()
        assert probe("127.0.0.1", [closed, taken, taken], 1) == [taken]

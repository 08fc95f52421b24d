"""What ./inv lab promises: a report of real answers, closed ports, and a second run that changes nothing."""

import json
import re
import socket
import statistics
import time
from typing import Any

import pytest

from tests.system.conftest import ROOT, Session
from tests.system.inventory import address

GPU_HOSTS = ("gpu1", "gpu2")


def changed_tasks(output: str) -> dict[str, int]:
    """How many tasks changed something, by host, as Ansible's recap says."""
    return {host: int(count) for host, count in re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)}


@pytest.fixture(scope="module")
def hosts(lab: Session) -> dict[str, dict[str, Any]]:
    """The hosts of the report that ./inv lab wrote, by name."""
    report = json.loads((ROOT / "reports" / "last" / "report.json").read_text())
    return {host["name"]: host for host in report["hosts"]}


def test_it_ends_with_a_report_of_real_answers(lab: Session, hosts: dict[str, dict[str, Any]]) -> None:
    assert set(hosts) == set(GPU_HOSTS)
    for host in hosts.values():
        assert host["status"] == "measured", host["failure"]
        assert host["server_version"] == "0.32.15-llamacpp-stand-in"
        assert host["samples_measured"] >= 3
        assert host["samples_rejected"] == 0
        assert host["placement"]["verdict"] == "CPU"
        assert host["name"] in lab.output
    folder = (ROOT / "reports" / "last").resolve()
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.csv", "report.html"}


def test_the_reported_rates_are_the_servers_own(hosts: dict[str, dict[str, Any]]) -> None:
    for host in hosts.values():
        rates = []
        for sample in host["samples"]:
            server = sample["server"]  # the last object of the answer, as it came
            assert server["done_reason"] == "length"
            rate = server["eval_count"] / server["eval_duration"] * 1e9
            assert sample["decode_tokens_per_second"] == pytest.approx(rate)
            rates += [] if sample["warm_up"] else [rate]
        assert host["decode_tokens_per_second"]["median"] == pytest.approx(statistics.median(rates))


def test_again_it_changes_nothing_and_takes_seconds(lab: Session) -> None:
    started = time.monotonic()
    result = lab.inv("lab", "--yes")
    seconds = time.monotonic() - started

    assert "nothing to do: every host is as described" in result.stdout
    # 8 on a quiet machine; what counts is that no role ran.
    assert seconds < 60


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_ollama_answers_on_the_hosts_loopback_and_nowhere_else(lab: Session, host: str) -> None:
    assert "0.32.15" in lab.ssh(
        host, "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:11434/api/version').read())\""
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address(lab, host), 11434), timeout=5)
    refused = lab.ssh("web1", f"timeout 5 bash -c '</dev/tcp/{address(lab, host)}/11434' && echo open || echo closed")
    assert refused.strip() == "closed"


# Asks for an address and prints the status, whoever signed the certificate: what counts here is who is let in.
KNOCK = """python3 -c '
import ssl
from urllib.error import HTTPError
from urllib.request import Request, urlopen
try:
    print(urlopen(Request("{url}", headers={headers}), context=ssl._create_unverified_context(), timeout=10).status)
except HTTPError as error:
    print(error.code)'"""


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_the_gateway_lets_only_its_clients_in(lab: Session, host: str) -> None:
    def knock(source: str, token: str | None) -> str:
        headers = json.dumps({"Authorization": f"Bearer {token}"} if token else {})
        url = f"https://{address(lab, host)}:11435/api/tags"
        return lab.ssh(source, KNOCK.format(url=url, headers=headers)).strip()

    token = lab.inv("secrets.show", "vault_ollama_gateway_tokens.open_webui").stdout.strip()
    assert knock("web1", None) == "401"
    assert knock("web1", "wrong") == "401"
    assert knock("web1", token) == "200"
    other = next(name for name in GPU_HOSTS if name != host)
    assert knock(other, token) == "403"


def test_status_shows_every_host_up(lab: Session) -> None:
    output = lab.inv("lab.status").stdout
    for host in (*GPU_HOSTS, "web1"):
        assert host in output

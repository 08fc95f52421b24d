"""The serving path on the lab's hosts: Compose projects, and the gateway knocked at from every side."""

import base64
import http.client
import json
import ssl
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet import secrets
from ollama_fleet.playbook import environment
from tests.system.conftest import ROOT, Session
from tests.system.inventory import address, variable

GPU_HOSTS = ["gpu1", "gpu2"]
PROBE = ROOT / "tests" / "serving_support" / "gateway_probe.py"


def test_compose_project_module_does_what_it_says(lab: Session) -> None:
    playbook = Path(__file__).parent / "playbooks" / "compose_project.yml"
    image = variable(lab, "gpu1", "ollama_image")
    command = ["ansible-playbook", "-i", str(lab.inventory), str(playbook), "-e", "target=gpu1", "-e", f"image={image}"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(lab.inventory), check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def knocked(lab: Session) -> dict[str, Any]:
    """What each gateway answered to the web host, by its address."""
    program = base64.b64encode(PROBE.read_bytes()).decode()
    reports: dict[str, Any] = json.loads(lab.ssh("web1", f"echo {program} | base64 -d | sudo python3 -"))
    return {host: reports[f"https://{address(lab, host)}:11435"] for host in GPU_HOSTS}


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_gateway_knows_its_clients(knocked: dict[str, Any], host: str) -> None:
    refused = ["no token", "wrong token", "token in other case", "longer token"]
    assert {case: knocked[host][case] for case in refused} == dict.fromkeys(refused, 401)
    let_in = ["good token", "models", "root"]
    assert {case: knocked[host][case] for case in let_in} == dict.fromkeys(let_in, 200)


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_gateway_lets_a_client_change_no_model_however_it_spells_it(knocked: dict[str, Any], host: str) -> None:
    assert set(knocked[host]["management"].values()) == {403}
    assert set(knocked[host]["tricks"].values()) <= {400, 403}


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_gateway_speaks_only_tls_that_the_fleets_authority_signed(knocked: dict[str, Any], host: str) -> None:
    assert knocked[host]["in plain http"] == 400
    assert "issuer" in knocked[host]["without authority"] or "self-signed" in knocked[host]["without authority"]


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_gateway_hands_on_each_word_when_it_comes(knocked: dict[str, Any], host: str) -> None:
    stream = knocked[host]["stream"]
    assert stream["status"] == 200
    assert stream["lines"] > 6
    # Buffered, all lines would come at once.
    assert stream["seconds"] > stream["engine seconds"] / 2 > 0, stream


def test_gateway_refuses_a_known_token_from_an_unknown_address(lab: Session) -> None:
    token = secrets.show(lab.inventory, "vault_ollama_gateway_tokens.open_webui")
    trust = ssl.create_default_context(cadata=secrets.show(lab.inventory, "vault_fleet_ca_certificate"))
    with closing(http.client.HTTPSConnection(address(lab, "gpu1"), 11435, timeout=10, context=trust)) as connection:
        connection.request("GET", "/api/version", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 403
        assert json.load(answer) == {"error": "this address may not use the gateway"}


@pytest.mark.parametrize("host", GPU_HOSTS)
def test_nginx_opens_no_port_but_the_gateways(lab: Session, host: str) -> None:
    listening = lab.ssh(host, "sudo ss -Hltnp | grep nginx | awk '{print $4}'")
    assert listening.split() == ["0.0.0.0:11435"]


def test_secrets_on_the_hosts_are_roots_alone(lab: Session) -> None:
    files = {
        "gpu1": ["/etc/ollama-fleet/gateway/clients.conf", "/etc/ollama-fleet/gateway/certificate.key"],
        "web1": ["/opt/ollama-fleet/open-webui/open-webui.env"],
    }
    for host, paths in files.items():
        assert lab.ssh(host, f"sudo stat -c '%a %U' {' '.join(paths)}").splitlines() == ["600 root"] * len(paths)

"""The gateway as strangers meet it: what it logs of them, and how long it waits for them."""

import base64
import json

import pytest

from ollama_fleet import secrets
from tests.system.conftest import Session
from tests.system.inventory import address

# Runs on the web host, which may come. Gets {address, token} on its standard input.
PROGRAM = """
import http.client, json, socket, ssl, sys, time
told = json.load(sys.stdin)
trust = ssl.create_default_context()
trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE

def ask(token, path):
    connection = http.client.HTTPSConnection(told['address'], 11435, timeout=30, context=trust)
    connection.request('GET', path, headers={'Authorization': 'Bearer ' + token} if token else {})
    return connection.getresponse().status

report = {
    'client': ask(told['token'], '/api/version?api_key=not-for-the-log'),
    'stranger': ask('', '/api/version?token=not-for-the-log'),
}
started = time.monotonic()
with trust.wrap_socket(socket.create_connection((told['address'], 11435), 60)) as slow:
    slow.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n')
    report['let go'] = slow.recv(1) == b''
report['seconds'] = time.monotonic() - started
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(lab: Session) -> dict[str, float]:
    told = {
        "address": address(lab, "gpu1"),
        "token": secrets.show(lab.inventory, "vault_ollama_gateway_tokens.open_webui"),
    }
    code, data = (base64.b64encode(text.encode()).decode() for text in (PROGRAM, json.dumps(told)))
    command = f"echo {data} | base64 -d | python3 -c \"import base64; exec(base64.b64decode('{code}'))\""
    found: dict[str, float] = json.loads(lab.ssh("web1", command))
    return found


def test_the_log_names_clients_and_strangers_and_holds_no_query(lab: Session, report: dict[str, float]) -> None:
    assert (report["client"], report["stranger"]) == (200, 401)
    log = lab.ssh("gpu1", "sudo tail -n 200 /var/log/nginx/ollama_gateway.log")
    web = address(lab, "web1")
    assert f"{web} open-webui [" in log
    assert any(
        line.startswith(f"{web} - [") and '"GET /api/version HTTP/1.1" 401 ' in line for line in log.splitlines()
    )
    assert "not-for-the-log" not in log


def test_who_does_not_say_what_it_wants_is_let_go(report: dict[str, float]) -> None:
    assert report["let go"]
    assert 10 < report["seconds"] < 25

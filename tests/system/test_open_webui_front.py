"""HTTPS in front of Open WebUI, back ends that are dead, and its proof by itself, on hosts of the lab."""

import base64
import http.client
import os
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
import yaml

from ollama_fleet.authority import issue, make_authority
from tests.system.conftest import Session
from tests.system.inventory import address, variable
from tests.system.web_estate import Estate, Site, estate

HOST = "front1"
AUTHORITY = make_authority()


@pytest.fixture(scope="module")
def front(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("front")
    with estate(lab, folder, HOST) as hosts:
        pair = issue(AUTHORITY, HOST, [hosts.addresses[HOST]])
        (folder / "authority.pem").write_text(AUTHORITY.certificate)
        hosts.up(
            open_webui_bind_address="127.0.0.1",
            open_webui_public_url=f"https://{hosts.addresses[HOST]}",
            open_webui_tls_certificate=pair.certificate,
            open_webui_tls_certificate_key=pair.key,
        )
        yield hosts


def test_people_log_in_over_https_with_the_fleets_authority(front: Estate) -> None:
    site = Site(f"https://{front.addresses[HOST]}", front.login, str(front.folder.parent / "authority.pem"))
    answer = site.session.get(site.url, timeout=30)
    assert answer.headers["Strict-Transport-Security"]
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    cookies = list(site.session.cookies)
    assert cookies
    assert all(cookie.secure for cookie in cookies)


def test_plain_http_answers_on_the_host_alone(front: Estate) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{front.addresses[HOST]}:3000/health", timeout=5)
    listening = front.ssh(HOST, "sudo ss -Hltn | awk '{print $4}'").split()
    assert "127.0.0.1:3000" in listening
    assert "0.0.0.0:443" in listening
    assert not [one for one in listening if one.endswith(":80")]


@pytest.mark.parametrize(("origin", "status"), [(None, 101), ("own", 101), ("https://evil.example", 403)])
def test_a_websocket_is_handed_on_to_its_own_pages_alone(front: Estate, origin: str | None, status: int) -> None:
    trust = ssl.create_default_context(cadata=AUTHORITY.certificate)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    if origin:
        headers["Origin"] = f"https://{front.addresses[HOST]}" if origin == "own" else origin
    with closing(http.client.HTTPSConnection(front.addresses[HOST], 443, timeout=10, context=trust)) as connection:
        connection.request("GET", "/ws/socket.io/?EIO=4&transport=websocket", headers=headers)
        assert connection.getresponse().status in ((status,) if status == 101 else (400, 403))


def test_pages_of_others_may_not_call_the_api(front: Estate) -> None:
    url = f"https://{front.addresses[HOST]}/api/config"
    verify = str(front.folder.parent / "authority.pem")
    answer = requests.get(url, headers={"Origin": "https://evil.example"}, timeout=30, verify=verify)
    assert answer.headers.get("Access-Control-Allow-Origin") is None


def test_doors_knows_the_proxy(front: Estate) -> None:
    result = front.lab.inv("doors", "--inventory", str(front.folder), check=False)
    assert result.returncode == 0, result.stdout


def test_tls_goes_again_with_its_certificate(front: Estate) -> None:
    for name in ("open_webui_tls_certificate", "open_webui_tls_certificate_key", "open_webui_bind_address"):
        del front.variables[name]
    front.up(open_webui_public_url=f"http://{front.addresses[HOST]}:3000")
    assert not [one for one in front.ssh(HOST, "sudo ss -Hltn | awk '{print $4}'").split() if one.endswith(":443")]
    assert front.ssh(HOST, "sudo ls -d /etc/ollama-fleet/open-webui 2>/dev/null || true") == ""


def test_a_dead_back_end_stalls_nobody(lab: Session, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    shutil.copytree(lab.inventory, inventory)
    # An address of documentation: nobody answers, not even with a refusal.
    dead = {"name": "dead", "url": "http://192.0.2.1:11434"}
    path = inventory / "group_vars/web_servers/open_webui.yml"
    told = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**told, "open_webui_backends": [dead, *told["open_webui_backends"]]}))
    try:
        result = lab.inv("up", "--inventory", str(inventory), "--limit", "web1", check=False)
        assert result.returncode == 0, result.stdout[-6000:]
        assert "gets no answer from dead" in result.stdout
        site = Site(
            f"http://{address(lab, 'web1')}:3000",
            {
                "email": variable(lab, "web1", "open_webui_admin_email"),
                "password": lab.inv("secrets.show", "vault_open_webui_admin_password").stdout.strip(),
            },
        )
        started = time.monotonic()
        models = site.session.get(f"{site.url}/api/models", timeout=30).json()["data"]
        assert time.monotonic() - started < 6
        assert models
    finally:
        assert lab.inv("up", "--limit", "web1", check=False).returncode == 0

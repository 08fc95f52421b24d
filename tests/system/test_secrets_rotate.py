"""Secrets are changed on the lab's hosts while they serve: nobody is locked out, and the old ones end refused."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from ssl import create_default_context

import pytest
import requests

from ollama_fleet import secrets
from tests.system.asking import ask
from tests.system.conftest import ROOT, Session
from tests.system.inventory import address, variable

GPU_HOSTS = ["gpu1", "gpu2"]
TOKENS = "vault_ollama_gateway_tokens"
# OpenSSL itself offers nothing that old unless told to.
OLD_TLS = """python3 -W ignore -c '
import socket, ssl
context = ssl._create_unverified_context()
context.set_ciphers("ALL:@SECLEVEL=0")
context.minimum_version = context.maximum_version = ssl.TLSVersion.{version}
try:
    print("speaks", context.wrap_socket(socket.create_connection(("{address}", 11435), timeout=10)).version())
except ssl.SSLError as error:
    print(error)
'"""


def site(lab: Session) -> str:
    return f"http://{address(lab, 'web1')}:{variable(lab, 'web1', 'open_webui_port', 3000)}"


def log_in(lab: Session, password: str) -> requests.Response:
    body = {"email": variable(lab, "web1", "open_webui_admin_email"), "password": password}
    return requests.post(f"{site(lab)}/api/v1/auths/signin", json=body, timeout=30)


def gateway_answers(lab: Session, host: str, token: str, authority: str) -> int:
    """The status of the gateway's answer to the web host, which may come; 0 when that does not trust the gateway."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"https://{address(lab, host)}:11435/api/version"
    return ask(lab, "web1", url, headers=headers, authority=authority).status


@contextmanager
def watched(lab: Session, token: str) -> Iterator[list[int]]:
    """Ask every second whether Open WebUI gets each host's models, as long as it answers at all."""
    failures: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            for index in range(len(GPU_HOSTS)):
                try:
                    answer = requests.get(
                        f"{site(lab)}/ollama/api/tags/{index}", headers={"Authorization": f"Bearer {token}"}, timeout=5
                    )
                except requests.RequestException:
                    continue  # its container is being made anew, which is said before
                if answer.status_code not in (200, 502):
                    failures.append(answer.status_code)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join()


def test_a_check_run_names_what_would_change_and_changes_nothing(lab: Session) -> None:
    before = secrets.vault_path(lab.inventory).read_bytes()
    done = lab.inv("secrets.rotate", "--check")
    assert "admin-password: " in done.stdout
    assert "everybody is signed out" in done.stdout
    assert secrets.vault_path(lab.inventory).read_bytes() == before


def test_tokens_and_authority_change_without_locking_out_the_interface(lab: Session) -> None:
    old = secrets.read(lab.inventory)
    session = log_in(lab, old[secrets.ADMIN_PASSWORD]).json()["token"]
    with watched(lab, session) as failures:
        done = lab.inv("secrets.rotate", "--only", "tokens,authority", "--yes", check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert failures == []
    new = secrets.read(lab.inventory)
    assert "vault_rotation" not in new
    for host in GPU_HOSTS:
        authority = new[secrets.CA_CERTIFICATE]
        assert gateway_answers(lab, host, new[TOKENS]["open_webui"], authority) == 200
        assert gateway_answers(lab, host, old[TOKENS]["open_webui"], authority) == 401
        # Who trusts the old authority alone does not get as far as HTTP.
        assert gateway_answers(lab, host, new[TOKENS]["open_webui"], old[secrets.CA_CERTIFICATE]) == 0


def test_password_and_key_change_and_the_old_ones_are_refused(lab: Session) -> None:
    old = secrets.read(lab.inventory)
    session = log_in(lab, old[secrets.ADMIN_PASSWORD]).json()["token"]
    done = lab.inv("secrets.rotate", "--only", "admin-password,secret-key", "--yes", check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    new = secrets.read(lab.inventory)
    assert log_in(lab, old[secrets.ADMIN_PASSWORD]).status_code == 400
    assert log_in(lab, new[secrets.ADMIN_PASSWORD]).status_code == 200
    whoami = requests.get(f"{site(lab)}/api/v1/auths/", headers={"Authorization": f"Bearer {session}"}, timeout=30)
    assert whoami.status_code == 401
    for value in (old[secrets.ADMIN_PASSWORD], new[secrets.ADMIN_PASSWORD]):
        assert value not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("seconds", [4, 12])
def test_a_run_that_is_killed_is_completed_by_the_next(lab: Session, seconds: int) -> None:
    old = secrets.read(lab.inventory)
    command = [str(ROOT / "inv"), "secrets.rotate", "--only", "admin-password,tokens", "--yes"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while "vault_rotation" not in secrets.read(lab.inventory):
            time.sleep(0.5)
        time.sleep(seconds)
        process.kill()
    cut = secrets.read(lab.inventory)
    assert cut["vault_rotation"]["old"][secrets.ADMIN_PASSWORD] == old[secrets.ADMIN_PASSWORD]
    # What the killed run had begun on the hosts comes to its end by itself.
    time.sleep(30)
    done = lab.inv("secrets.rotate", "--yes", check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    new = secrets.read(lab.inventory)
    assert "vault_rotation" not in new
    assert log_in(lab, new[secrets.ADMIN_PASSWORD]).status_code == 200
    assert lab.inv("plan", check=False).returncode == 0


def test_a_gateway_speaks_nothing_older_than_tls_1_2(lab: Session) -> None:
    trust = create_default_context(cadata=secrets.read(lab.inventory)[secrets.CA_CERTIFICATE])
    connection = HTTPSConnection(address(lab, "gpu1"), 11435, timeout=10, context=trust)
    connection.connect()
    assert connection.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]
    connection.close()
    for version in ("TLSv1", "TLSv1_1"):
        assert "alert" in lab.ssh("web1", OLD_TLS.format(version=version, address=address(lab, "gpu1")))

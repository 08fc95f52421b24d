"""Open WebUI's new secrets against a double of its log-in API, as 0.12.4 answers."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.open_webui_secrets import ensure, signature, signed_with

EMAIL = "admin@example.com"
OLD, NEW = "old-password-of-24-chars", "new-password-of-24-chars"
OLD_KEY, NEW_KEY = "o" * 64, "k" * 64


class Double(BaseHTTPRequestHandler):
    """Open WebUI with one user."""

    password = OLD
    key = NEW_KEY
    # Ways to be wrong.
    deaf = False
    takes_any_signature = False
    also = ""
    busy = False

    def session(self) -> str:
        parts = [{"alg": "HS256", "typ": "JWT"}, {"id": "1", "jti": "x"}]
        head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        return signed_with(head + ".", self.key)

    def known(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(token) and (self.takes_any_signature or token == self.session())

    def do_GET(self) -> None:
        self.answer(200 if self.known() else 401, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/v1/auths/signin":
            if self.busy:
                self.answer(429, {})
            elif body["password"] in (self.password, self.also) and body["email"] == EMAIL:
                self.answer(200, {"token": self.session(), "role": "admin"})
            else:
                self.answer(400, {"detail": "The email or password provided is incorrect."})
        elif self.path == "/api/v1/auths/update/password" and self.known() and body["password"] == self.password:
            if self.deaf:
                self.answer(400, {"detail": f"{body['new_password']} is too simple"})
            else:
                type(self).password = body["new_password"]
                self.answer(200, True)
        else:
            self.answer(400, {"detail": "no"})

    def answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def interface() -> Iterator[tuple[str, type[Double]]]:
    kind = type("OneDouble", (Double,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kind
    server.shutdown()
    thread.join()
    server.server_close()


def run(url: str, check_mode: bool = False, **parameters: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "base_url": url,
        "email": EMAIL,
        "password": NEW,
        "old_password": OLD,
        "secret_key": None,
        "old_secret_key": None,
        "required": True,
    }
    result: dict[str, Any] = ensure({**given, **parameters}, check_mode)
    return result


def test_the_password_is_changed_and_a_second_time_nothing(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    assert run(url) == {"changed": True, "answered": True, "proved": True}
    assert server.password == NEW
    assert run(url) == {"changed": False, "answered": True, "proved": True}


def test_check_mode_says_that_it_would(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    assert run(url, check_mode=True)["changed"]
    assert server.password == OLD


def test_a_password_that_a_person_changed_is_an_error(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    server.password = "a person's own"
    with pytest.raises(FleetError, match="neither the new password nor the old one"):
        run(url)


def test_a_refused_change_is_named_and_never_quoted(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    server.deaf = True
    with pytest.raises(FleetError, match="did not take the new password: HTTP 400") as caught:
        run(url)
    assert NEW not in str(caught.value)


def test_an_old_password_that_still_counts_is_an_error(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    server.password, server.also = NEW, OLD
    with pytest.raises(FleetError, match="old password still logs in"):
        run(url)


def test_too_many_log_ins_are_named(interface: tuple[str, type[Double]]) -> None:
    url, server = interface
    server.busy = True
    with pytest.raises(FleetError, match=r"too many log-ins.*wait three minutes"):
        run(url)


def test_the_key_that_signs_is_proved(interface: tuple[str, type[Double]]) -> None:
    assert run(interface[0], secret_key=NEW_KEY, old_secret_key=OLD_KEY)["proved"]


def test_a_container_that_kept_the_old_key_is_found_out(interface: tuple[str, type[Double]]) -> None:
    interface[1].key = OLD_KEY
    with pytest.raises(FleetError, match="signs sessions with another key"):
        run(interface[0], secret_key=NEW_KEY, old_secret_key=OLD_KEY)


def test_a_server_that_takes_old_sessions_is_found_out(interface: tuple[str, type[Double]]) -> None:
    interface[1].takes_any_signature = True
    with pytest.raises(FleetError, match="still takes sessions of the old key"):
        run(interface[0], secret_key=NEW_KEY, old_secret_key=OLD_KEY)


def test_silence_is_an_error_or_an_answer_of_its_own() -> None:
    with pytest.raises(FleetError, match="docker start open-webui"):
        run("http://127.0.0.1:1")
    assert run("http://127.0.0.1:1", required=False) == {"changed": False, "answered": False, "proved": False}


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of jwt.io: {"alg":"HS256","typ":"JWT"}, {"sub":"1234567890","name":"John Doe","iat":1516239022}.
    token = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
    )
    assert signature(token, "your-256-bit-secret") == token.rpartition(".")[2]
    assert signed_with(token, "your-256-bit-secret") == token

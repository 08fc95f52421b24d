"""Open WebUI's new secrets against a double of its log-in API, as 0.12.4 answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import open_webui_api
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.open_webui_secrets import ensure, signature, signed_with

from tests.serving_support.secrets_doubles import InterfaceDouble, serving

EMAIL = "admin@example.com"
OLD, NEW = "old-password-of-24-chars", "new-password-of-24-chars"
OLD_KEY, NEW_KEY = "o" * 64, "k" * 64


@pytest.fixture
def interface() -> Iterator[tuple[str, type[InterfaceDouble]]]:
    with serving(InterfaceDouble, email=EMAIL, password=OLD, key=NEW_KEY) as (port, kind):
        yield f"http://127.0.0.1:{port}", kind


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


def test_the_password_is_changed_and_a_second_time_nothing(interface: tuple[str, type[InterfaceDouble]]) -> None:
    url, server = interface
    assert run(url) == {"changed": True, "answered": True, "proved": True}
    assert server.password == NEW
    assert run(url) == {"changed": False, "answered": True, "proved": True}


def test_check_mode_says_that_it_would(interface: tuple[str, type[InterfaceDouble]]) -> None:
    url, server = interface
    assert run(url, check_mode=True)["changed"]
    assert server.password == OLD


def test_a_password_that_a_person_changed_is_an_error(interface: tuple[str, type[InterfaceDouble]]) -> None:
    url, server = interface
    server.password = "a person's own"
    with pytest.raises(FleetError, match="neither the new password nor the old one"):
        run(url)


def test_a_refused_change_is_named_and_never_quoted(interface: tuple[str, type[InterfaceDouble]]) -> None:
    url, server = interface
    server.deaf = True
    with pytest.raises(FleetError, match="did not take the new password: HTTP 400") as caught:
        run(url)
    assert NEW not in str(caught.value)


def test_an_old_password_that_still_counts_is_an_error(interface: tuple[str, type[InterfaceDouble]]) -> None:
    url, server = interface
    server.password, server.also = NEW, OLD
    with pytest.raises(FleetError, match="old password still logs in"):
        run(url)


def test_too_many_log_ins_are_waited_out_and_named(
    interface: tuple[str, type[InterfaceDouble]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_webui_api, "MINUTE", 0)
    url, server = interface
    server.busy = True
    with pytest.raises(FleetError, match=r"too many log-ins.*wait three minutes"):
        run(url)


def test_the_key_that_signs_is_proved(interface: tuple[str, type[InterfaceDouble]]) -> None:
    assert run(interface[0], secret_key=NEW_KEY, old_secret_key=OLD_KEY)["proved"]


def test_a_container_that_kept_the_old_key_is_found_out(interface: tuple[str, type[InterfaceDouble]]) -> None:
    interface[1].key = OLD_KEY
    with pytest.raises(FleetError, match="signs sessions with another key"):
        run(interface[0], secret_key=NEW_KEY, old_secret_key=OLD_KEY)


def test_a_server_that_takes_old_sessions_is_found_out(interface: tuple[str, type[InterfaceDouble]]) -> None:
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

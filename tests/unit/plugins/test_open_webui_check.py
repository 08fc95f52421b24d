"""What the proof of Open WebUI accepts, refuses, and says, against a double of its API."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import open_webui_api
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules import open_webui_check
from ansible_collections.ollama_fleet.stack.plugins.modules.open_webui_check import (
    Check,
    smallest,
    state_of,
    words_of_answer,
)

from ollama_fleet.authority import Pair, issue, make_authority
from tests.serving_support.secrets_doubles import serving
from tests.serving_support.webui_double import MODEL, WebuiDouble

EMAIL, PASSWORD = "admin@example.com", "a-password-of-24-letters"
BIG = {"name": "big:70b", "size": 10**9}


@pytest.fixture
def webui() -> Iterator[tuple[str, type[WebuiDouble]]]:
    told = {"email": EMAIL, "password": PASSWORD, "key": "k" * 64, "backends": [[MODEL, BIG], [BIG]]}
    with serving(WebuiDouble, **told) as (port, kind):
        yield f"http://127.0.0.1:{port}", kind


def run(url: str, **parameters: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "base_url": url,
        "email": EMAIL,
        "password": PASSWORD,
        "backends": ["gpu1", "gpu2"],
        "list_timeout": 3,
        "answer": True,
        "model": "",
        "answer_timeout": 5,
        "tls_address": "127.0.0.1",
        "tls_port": 0,
        "tls_certificate": "",
    }
    report: dict[str, Any] = Check({**given, **parameters}).run()
    return report


def test_all_is_well_and_reported(webui: tuple[str, type[WebuiDouble]]) -> None:
    report = run(webui[0])
    assert report["proved"]
    assert report["version"] == "0.12.4"
    assert [(one["name"], one["state"], one["models"]) for one in report["backends"]] == [
        ("gpu1", "serving", ["big:70b", "small:1"]),
        ("gpu2", "serving", ["big:70b"]),
    ]
    assert report["down"] == []
    assert report["answer"]["model"] == "small:1"
    assert report["answer"]["words"].startswith("Paris")


def test_a_model_can_be_named_and_none_need_be_asked(webui: tuple[str, type[WebuiDouble]]) -> None:
    assert run(webui[0], model="big:70b")["answer"]["model"] == "big:70b"
    webui[1].answer_status = 500
    assert "answer" not in run(webui[0], answer=False)


@pytest.mark.parametrize(
    ("wrong", "reason", "remedy"),
    [
        ({"sign_up_open": True}, "answers a stranger's sign-up with HTTP 400", "ENABLE_SIGNUP"),
        ({"onboarding": True}, "the first stranger becomes its administrator", "ENABLE_SIGNUP"),
        ({"takes_any_password": True}, "answers a wrong password with HTTP 200", "docker logs open-webui"),
        ({"second_factor": True}, "is asked for more than a password", "open_webui_admin_email"),
        ({"role": "user"}, "logs in as user", "docker logs open-webui"),
        (
            {"password": "changed by a person"},
            "cannot log in as administrator .HTTP 400",
            "change it in the interface too",
        ),
        ({"log_in_status": 429}, "too many log-ins", "wait three minutes"),
        (
            {"backends": [(500, "bad certificate"), [MODEL]]},
            "gpu1 refuses: bad certificate",
            "open_webui_ca_certificate",
        ),
        ({"backends": [(500, "Connect call failed")] * 2}, "no back end answers: gpu1, gpu2", "allowed_sources"),
        ({"answer_status": 500}, "small:1 gives no answer .*requires more system memory", "docker logs ollama"),
        ({"answer_words": None}, "small:1 gives no answer", "docker logs ollama"),
    ],
)
def test_what_is_wrong_is_named(
    webui: tuple[str, type[WebuiDouble]],
    wrong: dict[str, Any],
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_webui_api, "MINUTE", 0)
    for name, value in wrong.items():
        setattr(webui[1], name, value)
    with pytest.raises(FleetError, match=reason) as caught:
        run(webui[0])
    assert remedy in caught.value.remedy
    assert PASSWORD not in str(caught.value)


def test_one_back_end_that_is_down_is_reported_and_no_failure(webui: tuple[str, type[WebuiDouble]]) -> None:
    webui[1].backends = [(500, "Cannot connect to host: Connect call failed"), [MODEL]]
    report = run(webui[0])
    assert report["down"] == ["gpu1"]
    assert report["answer"]["words"]


def test_a_dead_back_end_that_stalls_everybody_is_a_failure(
    webui: tuple[str, type[WebuiDouble]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_webui_check, "SLACK", 0.1)
    webui[1].list_seconds = 0.3
    with pytest.raises(FleetError, match=r"the list of models takes 0\.\d+ s, and everybody waits for it"):
        run(webui[0], list_timeout=0)


def test_nobody_there_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(FleetError, match="it does not answer"):
        run("http://127.0.0.1:9")
    assert time.monotonic() - started < 5


def test_several_things_are_said_at_once(webui: tuple[str, type[WebuiDouble]]) -> None:
    webui[1].sign_up_open, webui[1].takes_any_password = True, True
    with pytest.raises(FleetError, match=r"sign-up.*; it answers a wrong password"):
        run(webui[0])


@pytest.mark.parametrize(
    ("status", "answer", "silent", "state"),
    [
        (200, {"models": []}, "", "serving"),
        (401, {"detail": "the gateway wants a known bearer token"}, "", "refusing"),
        (
            500,
            {"detail": "Cannot connect to host gpu1:11435 ssl:True [SSLCertVerificationError certificate]"},
            "",
            "refusing",
        ),
        (500, {"detail": "Cannot connect to host gpu1:11435 [Connect call failed ('10.0.0.7', 11435)]"}, "", "down"),
        (0, None, "timed out", "down"),
        (502, None, "", "down"),
    ],
)
def test_down_and_refusing_are_told_apart(status: int, answer: Any, silent: str, state: str) -> None:
    assert state_of(status, answer, silent)[0] == state


def test_the_smallest_model_that_chats_is_asked() -> None:
    assert smallest([BIG, {"name": "nomic-embed-text:1", "size": 1}, MODEL]) == "small:1"
    assert smallest([{"name": "bge-m3:1", "size": 1}]) == ""


@pytest.mark.parametrize(
    ("message", "words"),
    [({"content": " Paris. "}, "Paris."), ({"content": "", "reasoning_content": "Hm"}, "Hm"), ({"content": None}, "")],
)
def test_a_model_that_thinks_aloud_has_answered(message: dict[str, Any], words: str) -> None:
    assert words_of_answer({"choices": [{"message": message}]}) == words
    assert words_of_answer({"error": "no"}) == ""


@pytest.fixture(scope="module")
def pairs() -> tuple[Pair, Pair]:
    authority = make_authority()
    return issue(authority, "web1", ["127.0.0.1"]), issue(authority, "web1", ["127.0.0.1"])


def test_the_proxy_in_front_is_tried(
    webui: tuple[str, type[WebuiDouble]], pairs: tuple[Pair, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_webui_check, "RELOAD_SECONDS", 0)
    told = {"email": EMAIL, "password": PASSWORD, "key": "k" * 64, "cookie": "token=x; HttpOnly; Secure; Path=/"}
    with serving(WebuiDouble, (tmp_path, pairs[0]), **told) as (port, front):
        front.upgrades = True
        right = {"tls_port": port, "tls_certificate": pairs[0].certificate}
        assert run(webui[0], **right)["proved"]
        with pytest.raises(FleetError, match="shows another certificate"):
            run(webui[0], tls_port=port, tls_certificate=pairs[1].certificate)
        front.cookie = "token=x; HttpOnly; Path=/"
        front.upgrades = False
        with pytest.raises(FleetError, match=r"send without TLS as well; .* does not hand on WebSockets \(HTTP 400\)"):
            run(webui[0], **right)
    with pytest.raises(FleetError, match=f"its proxy on port {port} does not answer"):
        run(webui[0], **right)

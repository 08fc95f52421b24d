"""The gateway's proof against a double of a gateway, which can be wrong in every way that matters."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules import gateway_proof

from ollama_fleet.authority import issue, make_authority

AUTHORITY = make_authority()
SHOWN = issue(AUTHORITY, "gpu1", ["127.0.0.1"])
OTHER = issue(AUTHORITY, "gpu1", ["127.0.0.1"])
NEW, OLD = "n" * 43, "o" * 43


class Double(BaseHTTPRequestHandler):
    """A gateway that knows some tokens; `open_path` lets clients go where none may."""

    known: ClassVar[set[str]] = set()
    open_path = False
    let_all_in = False
    # After how many requests it takes up its settings, as a server that reloads does.
    late = 0
    asked = 0

    def answer(self) -> None:
        type(self).asked += 1
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self.known if self.asked > self.late else set()
        if not (token in known or self.let_all_in):
            status = 401
        elif self.path == "/api/version" or self.open_path:
            status = 200
        else:
            status = 403
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[int, type[Double]]]:
    kind = type("OneDouble", (Double,), {"known": {NEW}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    (tmp_path / "pair.pem").write_text(SHOWN.key + SHOWN.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], kind
    server.shutdown()
    thread.join()
    server.server_close()


def prove(port: int, **parameters: Any) -> dict[str, Any]:
    given = {
        "address": "127.0.0.1",
        "port": port,
        "certificate": SHOWN.certificate,
        "accepted": {"web": NEW},
        "refused": {"web": OLD},
        "timeout": 0,
    }
    result: dict[str, Any] = gateway_proof.prove({**given, **parameters})
    return result


def test_a_gateway_as_it_shall_be_is_proved(gateway: tuple[int, type[Double]]) -> None:
    assert prove(gateway[0]) == {"changed": False, "proved": True}


def test_a_chain_is_compared_by_its_first_certificate(gateway: tuple[int, type[Double]]) -> None:
    assert prove(gateway[0], certificate=SHOWN.certificate + AUTHORITY.certificate)["proved"]


def test_settings_that_come_late_are_waited_for(gateway: tuple[int, type[Double]], monkeypatch: Any) -> None:
    monkeypatch.setattr(gateway_proof, "PAUSE", 0.01)
    gateway[1].late = 6
    assert prove(gateway[0], timeout=10)["proved"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"known": set()}, "to the token of web it should answer 200 and answers 401"),
        ({"known": {NEW, OLD}}, "to the old token of web it should answer 401 and answers 200"),
        ({"let_all_in": True}, "to no token it should answer 401 and answers 200"),
        ({"open_path": True}, "where no client may go, it should answer 403 and answers 200"),
    ],
)
def test_what_is_wrong_is_named_without_a_token(
    gateway: tuple[int, type[Double]], wrong: dict[str, Any], words: str
) -> None:
    for name, value in wrong.items():
        setattr(gateway[1], name, value)
    with pytest.raises(FleetError) as caught:
        prove(gateway[0])
    assert words in str(caught.value)
    assert not [token for token in (NEW, OLD) if token in str(caught.value)]


def test_another_certificate_is_found_out(gateway: tuple[int, type[Double]]) -> None:
    with pytest.raises(FleetError, match="another certificate"):
        prove(gateway[0], certificate=OTHER.certificate)


def test_nobody_there_is_said_once() -> None:
    with pytest.raises(FleetError) as caught:
        prove(1)
    assert caught.value.why == "to no token it should answer 401 and does not answer"

"""The gateway's proof against a double of a gateway, which can be wrong in every way that matters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules import gateway_proof

from ollama_fleet.authority import issue, make_authority
from tests.serving_support.secrets_doubles import GatewayDouble, serving

AUTHORITY = make_authority()
SHOWN = issue(AUTHORITY, "gpu1", ["127.0.0.1"])
OTHER = issue(AUTHORITY, "gpu1", ["127.0.0.1"])
NEW, OLD = "n" * 43, "o" * 43


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[int, type[GatewayDouble]]]:
    with serving(GatewayDouble, (tmp_path, SHOWN), known={NEW}) as found:
        yield found


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


def test_a_gateway_as_it_shall_be_is_proved(gateway: tuple[int, type[GatewayDouble]]) -> None:
    assert prove(gateway[0]) == {"changed": False, "proved": True}


def test_a_chain_is_compared_by_its_first_certificate(gateway: tuple[int, type[GatewayDouble]]) -> None:
    assert prove(gateway[0], certificate=SHOWN.certificate + AUTHORITY.certificate)["proved"]


def test_settings_that_come_late_are_waited_for(gateway: tuple[int, type[GatewayDouble]], monkeypatch: Any) -> None:
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
    gateway: tuple[int, type[GatewayDouble]], wrong: dict[str, Any], words: str
) -> None:
    for name, value in wrong.items():
        setattr(gateway[1], name, value)
    with pytest.raises(FleetError) as caught:
        prove(gateway[0])
    assert words in str(caught.value)
    assert not [token for token in (NEW, OLD) if token in str(caught.value)]


def test_another_certificate_is_found_out(gateway: tuple[int, type[GatewayDouble]]) -> None:
    with pytest.raises(FleetError, match="another certificate"):
        prove(gateway[0], certificate=OTHER.certificate)


def test_nobody_there_is_said_once() -> None:
    with pytest.raises(FleetError) as caught:
        prove(1)
    assert caught.value.why == "to no token it should answer 401 and does not answer"

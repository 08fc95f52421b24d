"""A model that is there is pulled once more, and the old one stays until the new one is whole."""

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_model_again import pull_again

from tests.serving_support.ollama_double import OllamaDouble, Send, digest_of

NAME = "smollm2:135m"
SOURCE = "models.lab:5001/library/smollm2:135m"


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        double.add(NAME)
        yield double


def run(server: OllamaDouble, check_mode: bool = False, source: str | None = None) -> dict[str, Any]:
    params = {"name": NAME, "source": source, "insecure": True, "base_url": server.url, "stall_timeout": 20}
    return pull_again(params, check_mode)


def test_what_the_registry_has_now_takes_the_place(server: OllamaDouble) -> None:
    checked = run(server, check_mode=True, source=SOURCE)
    assert (checked["changed"], len(server.requests)) == (True, 1)
    result = run(server, source=SOURCE)
    assert (result["changed"], result["digest"]) == (True, digest_of("manifest " + SOURCE))
    assert list(server.models) == [NAME]


def test_the_same_once_more_is_no_change(server: OllamaDouble) -> None:
    assert not run(server)["changed"]
    assert [path for method, path, _body in server.requests if method != "GET"] == ["/api/pull"]


def test_a_pull_that_fails_leaves_what_is_there(server: OllamaDouble) -> None:
    def fails(_double: OllamaDouble, _name: str, send: Send) -> str:
        send({"error": "pull model manifest: file does not exist"})
        return "failed"

    server.scripts.append(fails)
    with pytest.raises(FleetError, match="file does not exist"):
        run(server, source=SOURCE)
    assert server.models[NAME]["digest"] == digest_of("manifest " + NAME)

from pathlib import Path

import pytest

from lab.engine.settings import Settings


def test_defaults_are_ollamas() -> None:
    settings = Settings.from_environment({})
    assert (settings.host, settings.port, settings.keep_alive) == ("127.0.0.1", 11434, 300)
    assert (settings.context_length, settings.parallel, settings.max_loaded, settings.threads) == (4096, 1, 3, 1)
    assert settings.models == Path.home() / ".ollama" / "models"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0", ("0.0.0.0", 11434)),  # noqa: S104 - what an image sets
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104
        (":8080", ("127.0.0.1", 8080)),
        ("http://10.0.0.1:5/", ("10.0.0.1", 5)),
        ("[::1]:5", ("::1", 5)),
    ],
)
def test_the_address(text: str, address: tuple[str, int]) -> None:
    settings = Settings.from_environment({"OLLAMA_HOST": text})
    assert (settings.host, settings.port) == address


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("-1", -1), ("0", 0), ("30", 30), ("-1s", -1)])
def test_keep_alive(text: str, seconds: float) -> None:
    assert Settings.from_environment({"OLLAMA_KEEP_ALIVE": text}).keep_alive == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_HOST", "localhost:http"),
        ("OLLAMA_NUM_PARALLEL", "many"),
        ("OLLAMA_CONTEXT_LENGTH", "-1"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
    ],
)
def test_bad_values_name_their_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings.from_environment({name: value})

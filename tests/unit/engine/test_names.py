import pytest

from lab.engine.names import BadNameError, Name


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("smollm2", "registry.ollama.ai/library/smollm2:latest", "smollm2:latest"),
        ("gemma3:270m", "registry.ollama.ai/library/gemma3:270m", "gemma3:270m"),
        ("me/mine:1", "registry.ollama.ai/me/mine:1", "me/mine:1"),
        ("models.lab:5001/library/smollm2:135m", *["models.lab:5001/library/smollm2:135m"] * 2),
        ("http://localhost:5005/library/x:y", *["localhost:5005/library/x:y"] * 2),
        ("host:5000/library/x", *["host:5000/library/x:latest"] * 2),
    ],
)
def test_names(text: str, full: str, short: str) -> None:
    name = Name.parse(text)
    assert (name.full, name.short) == (full, short)
    assert Name.parse(name.short) == name


@pytest.mark.parametrize(
    "text", ["", "bad name!!", "bad name!!/../x", "a/b/c/d", "x:", "../x", "a/../b", ".x", "x:..", "/x", "a//b"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadNameError):
        Name.parse(text)


def test_a_name_stays_below_its_folder() -> None:
    assert str(Name.parse("h:1/n/m:t").path) == "h:1/n/m/t"

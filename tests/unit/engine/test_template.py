import pytest

from lab import model_store
from lab.engine.template import render, turns_of
from lab.engine.wire import ApiError

CHATML = model_store._CHATML


def test_one_turn_ends_where_the_answer_begins() -> None:
    text = render(CHATML, turns_of([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]))
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"


def test_a_dialogue() -> None:
    messages = [("user", "a"), ("assistant", "b"), ("user", "c")]
    text = render(CHATML, turns_of([{"role": role, "content": content} for role, content in messages]))
    begin, end = "<|im_start|>", "<|im_end|>\n"
    assert text == f"{begin}user\na{end}{begin}assistant\nb{end}{begin}user\nc{end}{begin}assistant\n"


def test_an_answer_that_was_begun_goes_on() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Well,"}]
    assert render(CHATML, turns_of(messages)).endswith("<|im_start|>assistant\nWell,")


def test_messages_of_one_role_are_one_turn() -> None:
    assert turns_of([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == [{"Prompt": "a\n\nb"}]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .Prompt }}", "P"),
        ("{{.System}}|{{ .Prompt }}", "|P"),
        ("{{ if .System }}yes{{ else }}no{{ end }} {{ .Prompt }}", "no P"),
        ("a  {{- .Prompt -}}  b", "aPb"),
        ("{{ if .Prompt }}{{ if .System }}x{{ end }}y{{ end }}", "y"),
        ("plain", "plain"),
    ],
)
def test_the_subset(template: str, text: str) -> None:
    assert render(template, [{"Prompt": "P"}]) == text


@pytest.mark.parametrize(
    "template", ["{{ range .Messages }}{{ end }}", "{{ if .System }}", "{{ end }}", "{{ .Tools }}"]
)
def test_beyond_the_subset(template: str) -> None:
    with pytest.raises(ApiError, match="template: "):
        render(template, [{"Prompt": "P"}])

import pytest

from lab.engine import wire
from lab.engine.wire import ApiError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("700ms", 0.7), ("-1s", -1), ("0", 0), ("1.5s", 1.5), ("2m3s", 123)],
)
def test_durations(text: str, seconds: float) -> None:
    assert wire.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
    ],
)
def test_bad_durations_in_the_words_of_go(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wire.parse_duration(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 300), (0, 0), (30, 30), (-1, wire.FOREVER), ("-1s", wire.FOREVER), ("0s", 0), ("2m", 120)],
)
def test_keep_alive(value: object, seconds: float) -> None:
    assert wire.keep_alive(value, 300) == seconds


def test_keep_alive_of_another_type() -> None:
    with pytest.raises(ApiError):
        wire.keep_alive([5], 300)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b'{"model": "a", "prompt":', "unexpected EOF"),
        (b'{"model": "a', "unexpected EOF"),
        (b"{nope", "invalid character 'n' looking for beginning of object key string"),
        (b'{"model": x}', "invalid character 'x' looking for beginning of value"),
        (b'{"model" "x"}', "invalid character '\"' after object key"),
        (b'{"model": "x" "y"}', "invalid character '\"' after object key:value pair"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        (b'{"model": 5}', "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
        (b'{"stream": "no"}', "json: cannot unmarshal string into Go struct field GenerateRequest.stream of type bool"),
    ],
)
def test_bad_requests_in_the_words_of_go(raw: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        wire.read_request(raw, "GenerateRequest", {"model": "string", "stream": "bool"})
    assert (caught.value.status, caught.value.message) == (400, message)


def test_a_request_loses_its_nulls_and_keeps_what_is_not_known() -> None:
    request = wire.read_request(
        b'{"model": "a", "stream": null, "x": [1]} trailing', "R", {"model": "string", "stream": "bool"}
    )
    assert request == {"model": "a", "x": [1]}


def test_json_as_go_writes_it() -> None:
    assert wire.dumps({"a": "<ä&>", "b": [1, None]}) == '{"a":"\\u003cä\\u0026\\u003e","b":[1,null]}'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "0"), (0.0, "0"), (4096, "4096"), (262144, "262144"), (0.7, "0.7"), (-1, "-1"), (0.0001, "0.0001")],
        *[(1048576, "1.048576e+06"), (1e6, "1e+06"), (-2.5e7, "-2.5e+07"), (1e-05, "1e-05")],
        *[(True, "true"), ('a "b"', '"a \\"b\\""')],
    ],
)
def test_values_as_go_writes_them_in_its_own_syntax(value: object, text: str) -> None:
    assert wire.syntax(value) == text


def test_times() -> None:
    assert wire.timestamp(0.5) == "1970-01-01T00:00:00.5Z"
    assert wire.timestamp(1) == "1970-01-01T00:00:01Z"

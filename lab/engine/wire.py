"""How Ollama's server, a Go program, reads and writes: JSON, durations, times, and its words for bad input."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FOREVER = -1.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµ]*)")


class ApiError(Exception):
    """An answer that is an error: the status and the text a client gets.

    in_body says that the request itself could not be read, which Ollama's /v1 answers in another content type.
    """

    def __init__(self, status: int, message: str, in_body: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.in_body = in_body


def dumps(value: object) -> bytes:
    """JSON as Go's encoder writes it: compact, UTF-8, with <, > and & escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with the fraction's trailing zeros left out."""
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"


def parse_duration(text: str) -> float:
    """Seconds of a Go duration ("5m", "1h30m", "-1s"). Raises ValueError with Go's words."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if not rest or "".join(match.group() for match in _QUANTITY.finditer(rest)) != rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    seconds = 0.0
    for number, unit in _QUANTITY.findall(rest):
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        seconds += float(number) * _UNITS[unit]
    return sign * seconds


def quote(text: str) -> str:
    """A string in Go's %q."""
    return json.dumps(text, ensure_ascii=False)


def syntax(value: object) -> str:
    """A value of JSON in Go's %#v."""
    if isinstance(value, bool) or value is None:
        return {None: "<nil>", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return quote(value)
    if not isinstance(value, int | float):
        return dumps(value).decode()
    digits = Decimal(repr(float(value))).normalize()
    exponent = digits.adjusted()
    # The shortest digits that mean the number, with an exponent from a million on.
    if -5 < exponent < 6:
        return f"{digits:f}"
    return f"{digits.scaleb(-exponent):f}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def number(value: Any) -> Any:
    """A whole number without a fraction, as Go writes it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def keep_alive(value: object, default: float) -> float:
    """Seconds that a model stays loaded; FOREVER for any negative value. Raises ApiError."""
    if value is None:
        return default
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise ApiError(400, str(error), in_body=True) from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ApiError(400, f"Unsupported type: {_go_kind(value)}", in_body=True)
    return FOREVER if seconds < 0 else seconds


def read_request(raw: bytes, struct: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object RAW as a dict without its nulls.

    FIELDS maps each known field to its Go type, whose kind is checked; other fields pass, as in Ollama.
    Raises ApiError with the words of Go's decoder.
    """
    text = raw.decode(errors="replace").lstrip()
    if not text:
        raise ApiError(400, "missing request body", in_body=True)
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        raise ApiError(400, _syntax_error(text, error), in_body=True) from None
    if not isinstance(value, dict):
        message = f"json: cannot unmarshal {_go_kind(value)} into Go value of type api.{struct}"
        raise ApiError(400, message, in_body=True)
    for name, go_type in fields.items():
        kind = _go_kind(value.get(name))
        if kind not in {"null", _KIND_OF_TYPE.get(go_type, kind)}:
            message = f"json: cannot unmarshal {kind} into Go struct field {struct}.{name} of type {go_type}"
            raise ApiError(400, message, in_body=True)
    return {name: item for name, item in value.items() if item is not None}


def check_messages(messages: Sequence[Any], struct: str) -> None:
    """Raises ApiError on a message that is no {role, content}."""
    for message in messages:
        texts = (message.get("role"), message.get("content")) if isinstance(message, dict) else (message, 0)
        if not all(isinstance(text, str | None) for text in texts):
            raise ApiError(
                400, f"json: cannot unmarshal a message into Go struct field {struct}.messages of type string"
            )


def disk_error(action: str, error: OSError) -> ApiError:
    """What Go says when it cannot "open" or "write" a file."""
    return ApiError(500, f"{action} {error.filename}: {os.strerror(error.errno or 0).lower()}")


_KIND_OF_TYPE = {
    "string": "string",
    "bool": "bool",
    "int": "number",
    "[]int": "array",
    "[]api.ImageData": "array",
    "[]api.Message": "array",
    "[]openai.Message": "array",
    "api.Tools": "array",
    "map[string]interface {}": "object",
    "map[string]string": "object",
}


def _go_kind(value: object) -> str:
    kinds = (
        (type(None), "null"),
        (bool, "bool"),
        (int | float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    )
    return next(kind for python, kind in kinds if isinstance(value, python))


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].lstrip()
    if not rest or error.msg.startswith(("Unterminated string", "Invalid \\")):
        return "unexpected EOF"
    looking_for = {
        "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
        "Expecting value": "looking for beginning of value",
        "Expecting ':' delimiter": "after object key",
        "Expecting ',' delimiter": "after object key:value pair",
        "Illegal trailing comma before end of object": "looking for beginning of object key string",
    }
    return f"invalid character '{rest[0]}' {looking_for.get(error.msg, 'in string literal')}"

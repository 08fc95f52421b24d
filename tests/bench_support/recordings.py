"""Reads the recorded exchanges in tests/data/bench."""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "data" / "bench"
VERSIONS = ("0.24.0", "0.32.15")


@dataclass(frozen=True)
class Recording:
    """A response as it came: `pieces` are (seconds after the request, bytes)."""

    request: bytes
    pieces: tuple[tuple[float, bytes], ...]

    @property
    def raw(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """The body without its chunk framing, taken apart by hand: no code under test has a part in it."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        if b"transfer-encoding: chunked" not in self.head.lower():
            return rest
        body = b""
        while rest:
            length, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(length, 16)], rest[int(length, 16) + 2 :]
        return body

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


def recording(version: str, name: str) -> Recording:
    text = (FOLDER / f"ollama-{version}" / f"{name}.http").read_bytes()
    request, _, rest = text.partition(b"<<< RESPONSE")
    raw, _, meta = rest.partition(b"\n")[2].rpartition(b"\n--- META ")
    received = re.search(rb"RECV TIMES \(s,bytes\) (\[.*)", meta)
    assert received is not None
    times = received[1] if received[1].rstrip().endswith(b"]") else received[1].rstrip().rstrip(b",") + b"]"
    pieces, position = [], 0
    for when, length in ast.literal_eval(times.decode()):
        pieces.append((when, raw[position : position + length]))
        position += length
    if position < len(raw):  # paths of the recording machine were replaced, so some bytes may be left over
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + raw[position:])
    return Recording(request.partition(b"\n")[2], tuple(pieces))

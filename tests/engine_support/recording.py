"""Reads a recorded exchange with a real Ollama server: raw bytes as on the wire."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DATA = Path(__file__).parents[1] / "data" / "ollama-api"


@dataclass(frozen=True)
class Answer:
    """status: 0 when there was no answer in time. lines: of the body, without the framing of chunks."""

    status: int
    content_type: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """One case. early: the client closed the connection before the end."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    answer: Answer
    early: bool


def load(folder: str) -> dict[str, Recording]:
    """The cases of FOLDER ("v0.32.15") by name, in the order in which they were recorded."""
    index = [row.split("\t") for row in (DATA / folder / "INDEX.tsv").read_text().splitlines()]
    early = {row[0] for row in index if "CLIENT CLOSED EARLY" in row}
    paths = sorted((DATA / folder).glob("[0-9]*.http"))
    return {path.stem: _read(path, path.stem in early) for path in paths}


def _read(path: Path, early: bool) -> Recording:
    # Python's universal newlines make the wire's CRLF one character.
    request, _, rest = path.read_text().partition("<<< RESPONSE")
    head, _, body = request.split("\n", 1)[1].partition("\n\n")
    method, target, _ = head.splitlines()[0].split(" ")
    headers = _headers(head)
    for name in ("Connection", "Content-Length", "User-Agent"):
        headers.pop(name, None)
    response = rest.split("\n", 1)[1].rpartition("\n--- META")[0]
    return Recording(path.stem, method, urlsplit(target).path, headers, body.strip("\n"), _answer(response), early)


def _answer(response: str) -> Answer:
    head, _, body = response.partition("\n\n")
    if not head.startswith("HTTP/1.1 "):
        return Answer(0, "", ())
    headers = _headers(head)
    lines = [line for line in body.splitlines() if line]
    if headers.get("Transfer-Encoding") == "chunked":
        lines = [line for line in lines if not re.fullmatch("[0-9a-f]{1,6}", line)]
    return Answer(int(head.split(" ")[1]), headers.get("Content-Type", ""), tuple(lines))


def _headers(head: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)

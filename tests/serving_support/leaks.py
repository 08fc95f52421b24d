"""Finds secrets where they must not be, however they are written down.

Standard library only: it is sent to hosts as text, too. There it reads {name: value} from its standard input, so that
the search itself puts no secret into a process list, and prints where it found which; never a value.
"""

from __future__ import annotations

import base64
import json
import stat
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# A shorter one would be found by chance.
SHORTEST = 12
# Models and images are bigger, and are no places for text.
BIGGEST = 8 << 20
PUBLIC = ("-----BEGIN CERTIFICATE-----",)
# Kernel's own, and what only looks like files.
SKIPPED = ("/proc", "/sys", "/dev")


def secrets_of(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return {name: value} of what is secret in a vault's content. Of a PEM key each line by itself is."""
    found = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(secrets_of(value, f"{name}."))
        elif isinstance(value, list):
            found.update(secrets_of(dict(enumerate(value)), f"{name}."))
        elif isinstance(value, str) and not value.startswith(PUBLIC):
            if "-----BEGIN" in value:
                lines = [line for line in value.splitlines() if line and not line.startswith("-----")]
                found.update({f"{name} (line {number})": line for number, line in enumerate(lines, 1)})
            else:
                found[name] = value
    return {name: value for name, value in found.items() if len(value) >= SHORTEST}


def written(value: str) -> dict[str, bytes]:
    """Return {way: bytes} of the ways in which a secret may be written down."""
    data = value.encode()
    ways = {
        "as it is": data,
        "as JSON": json.dumps(value)[1:-1].encode(),
        "as JSON of more than ASCII": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "as JSON in JSON": json.dumps(json.dumps(value)[1:-1])[1:-1].encode(),
        "in an address": urllib.parse.quote(value, safe="").encode(),
        "in a form": urllib.parse.quote_plus(value).encode(),
        "in hexadecimal": data.hex().encode(),
    }
    # Three ways, by where in a longer text it begins; only the characters that this secret alone decides.
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + data)
        sure = text[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6]
        ways[f"in base64 (from byte {offset})"] = sure
        ways[f"in base64 for addresses (from byte {offset})"] = sure.translate(bytes.maketrans(b"+/", b"-_"))
    return {way: text for number, (way, text) in enumerate(ways.items()) if text not in list(ways.values())[:number]}


class Search:
    """Looks for these secrets, in every way."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.needles = [(name, way, text) for name, value in secrets.items() for way, text in written(value).items()]

    def hits(self, data: bytes | str) -> list[str]:
        """Return "NAME, WAY" of each secret in it."""
        data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        return [f"{name}, {way}" for name, way, text in self.needles if text in data]

    def in_files(self, paths: Iterable[Path]) -> dict[str, list[str]]:
        """Return {path: hits} of the files that can be read and are not too big."""
        found = {}
        for path in paths:
            try:
                hits = self.hits(path.read_bytes()) if path.stat().st_size <= BIGGEST else []
            except OSError:
                continue
            if hits:
                found[str(path)] = hits
        return found


def mode_of(path: Path) -> int:
    """The mode of a file, 0 of one that is gone. Links are no files: what they lead to is looked at where it is."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def for_everybody(root: Path) -> Iterator[Path]:
    """Files below a folder that any user can read: the file's own mode, and that of every folder above it."""
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (root, *root.parents)):
        yield from _for_everybody(root)


def _for_everybody(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        mode = mode_of(path)
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            yield path
        elif stat.S_ISDIR(mode) and mode & stat.S_IXOTH and str(path) not in SKIPPED:
            yield from _for_everybody(path)


def every_file(root: Path) -> Iterator[Path]:
    """All files below a folder."""
    return (path for path in sorted(root.rglob("*")) if stat.S_ISREG(mode_of(path)))


def main() -> None:
    """Search a host: in what everybody may read below the first arguments, and in all logs."""
    search = Search(json.load(sys.stdin))
    found = search.in_files(path for root in sys.argv[1:] for path in for_everybody(Path(root)))
    found.update(search.in_files(every_file(Path("/var/log"))))
    print(json.dumps(found))  # noqa: T201 - its output is what it is for


if __name__ == "__main__":
    main()

"""Makes archives like those of Ollama's releases, and such as nobody should unpack."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

SERVER = b"#!/bin/sh\necho I am the server\n"
LIBRARY = bytes(range(256)) * 2048


def member(name: str, content: bytes = b"", mode: int = 0o644, **others: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar archive; others are attributes of it (type, linkname, ...)."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    # An owner that must not be taken over.
    info.uid = info.gid = 4711
    for key, value in others.items():
        setattr(info, key, value)
    return info, content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, mode=0o700, type=tarfile.DIRTYPE)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def release(server: bytes = SERVER, library: bytes = LIBRARY) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What a real release holds: the server, libraries with their short names, and programs among these."""
    return [
        folder("./"),
        folder("./bin"),
        member("./bin/ollama", server, 0o6755),
        folder("./lib/ollama"),
        member("./lib/ollama/llama-server", b"runner", 0o755),
        member("./lib/ollama/cuda_v13/libcublas.so.13.1.0", library),
        link("./lib/ollama/cuda_v13/libcublas.so.13", "libcublas.so.13.1.0"),
        link("./lib/ollama/libcublas.so", "./cuda_v13/libcublas.so.13"),
        link("./lib/server", "../bin/ollama"),
        member("./lib/ollama/same", type=tarfile.LNKTYPE, linkname="./lib/ollama/llama-server"),
    ]


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "--quiet", "--stdout"], input=data, capture_output=True, check=True).stdout


def pack(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]] | None = None) -> Path:
    """Write an archive, compressed as its name says. Without members: a release."""
    data = tar(release() if members is None else members)
    if path.suffix == ".zst":
        data = zstd(data)
    elif path.suffix == ".tgz":
        data = gzip.compress(data, mtime=0)
    path.write_bytes(data)
    return path


def checksum(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

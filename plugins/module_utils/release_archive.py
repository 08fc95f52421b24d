# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""An archive of a release: judged from end to end before anything of it is written, then unpacked.

tar, plain or through gzip or zstd. Python's own library reads zstd from 3.14 on only, so the program zstd does it.
Nothing that an archive says can write outside of the folder: see ``judged``.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import posixpath
import shutil
import stat
import subprocess
import tarfile
import zlib
from typing import NamedTuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
CHUNK = 1 << 20
# The server, as every release for Linux has it; what it loads lies in lib/ollama beside it.
PROGRAM = "bin/ollama"
FETCH_AGAIN = "fetch it again and compare it with the release's sha256sum.txt"


class Entry(NamedTuple):
    """What an archive holds under one name. size in bytes; target: what a link names, "" of a file or folder."""

    name: str
    kind: str
    size: int
    executable: bool
    target: str


class Contents(NamedTuple):
    """All entries of an archive in order, and the bytes that they take unpacked."""

    entries: list[Entry]
    size: int


def checksum(path):
    """Return sha256:... of a file."""
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            result.update(chunk)
    return f"sha256:{result.hexdigest()}"


def verify(path, wanted):
    """Raise FleetError unless the file has the checksum, sha256:..."""
    found = checksum(path)
    if found != wanted:
        raise FleetError(
            f"the archive {path} is not the one that was asked for",
            f"its checksum is {found}, and ollama_release_checksum is {wanted}",
            "take the checksum of this version and architecture from the release's sha256sum.txt; where that is the one"
            " in the inventory, the archive was cut or changed on its way: fetch it again",
        )


def needs_zstd(path):
    with open(path, "rb") as file:
        return file.read(len(ZSTD)) == ZSTD


@contextlib.contextmanager
def _stream(path, zstd):
    """Yield the archive's tar as a file that is read once, from the start."""
    if needs_zstd(path):
        if not zstd:
            raise FleetError(
                f"the archive {path} cannot be unpacked",
                "it is compressed with zstd, and the host has no program zstd",
                "install the package zstd on the host, or give the role an archive that ends in .tgz",
            )
        with subprocess.Popen(
            [zstd, "--decompress", "--stdout", "--quiet", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as program:
            yield program.stdout
            # To its end: zstd checks a sum of its own there.
            while program.stdout.read(CHUNK):
                pass
            said = program.stderr.read().decode("utf-8", "replace").strip()
            if program.wait():
                raise damaged(path, said or f"zstd ends with {program.returncode}")
        return
    with open(path, "rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    with gzip.open(path) if packed else open(path, "rb") as file:
        yield file
        while file.read(CHUNK):
            pass


def damaged(path, why):
    return FleetError(f"the archive {path} is damaged", why, FETCH_AGAIN)


@contextlib.contextmanager
def _members(path, zstd):
    """Yield an iterator of (Entry, file or None) over an archive, each judged before it is given out."""
    try:
        with _stream(path, zstd) as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as archive:
            yield _judged_all(archive, path)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


def _judged_all(archive, path):
    seen = {}
    for member in archive:
        try:
            entry = judged(member, seen)
        except ValueError as error:
            raise FleetError(
                f"the archive {path} is refused",
                f"{member.name!r} {error}",
                "no release of Ollama holds such a thing: find out where the archive comes from",
            ) from error
        if entry:
            yield entry, archive.extractfile(member) if entry.kind == "file" else None


def judged(member, seen):
    """Return a member of a tar archive as an Entry, or None for the folder itself; ValueError for what is refused.

    seen: {name: kind} of the entries before it, to which this one is added. What is refused: names that are absolute or
    go up, what lies behind a link, a name that comes twice, links that lead out, devices and pipes. A link may go up
    only at its start, because a way down could itself be a link, and up from there is somewhere else.
    """
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts:
        raise ValueError("leads out of the folder")
    name = "/".join(parts)
    if not name:
        if not member.isdir():
            raise ValueError("stands in the place of the folder itself")
        return None
    for position in range(1, len(parts)):
        above = "/".join(parts[:position])
        if seen.setdefault(above, "directory") != "directory":
            raise ValueError(f"lies behind {above}, which is no folder")
    entry = Entry(name, *_kind_of(member, name, seen))
    if name in seen and not (seen[name] == entry.kind == "directory"):
        raise ValueError("is in it twice")
    seen[name] = entry.kind
    return entry


def _kind_of(member, name, seen):
    """Return (kind, size, executable, target) of a member."""
    if member.isdir():
        return "directory", 0, True, ""
    if member.issym():
        return "link", 0, False, _inside(member.linkname, name)
    if member.islnk():
        target = "/".join(part for part in member.linkname.split("/") if part not in ("", "."))
        if member.linkname.startswith("/") or seen.get(target) not in ("file", "second name"):
            raise ValueError(f"is a second name of {member.linkname!r}, which is no file before it")
        return "second name", 0, False, target
    if member.isfile():
        return "file", member.size, bool(member.mode & 0o111), ""
    raise ValueError("is neither a file, a folder nor a link")


def _inside(target, name):
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((position for position, part in enumerate(parts) if part != ".."), len(parts))
    depth = name.count("/")
    if target.startswith("/") or not target or ups > depth or ".." in parts[ups:]:
        raise ValueError(f"is a link to {target!r}, which leads out of the folder or takes a way that could")
    return posixpath.join(*parts) if parts else "."


def contents(path, zstd):
    """Return the Contents of an archive that was read to its end, or raise FleetError. Nothing is written.

    zstd: the program, or None where the host has none.
    """
    with _members(path, zstd) as members:
        entries = [entry for entry, _file in members]
    if not any(entry.name == PROGRAM and entry.kind == "file" and entry.executable for entry in entries):
        raise FleetError(
            f"the archive {path} is no release of Ollama for Linux",
            f"it holds no program {PROGRAM}",
            "name an archive like ollama-linux-amd64.tar.zst (the one with -rocm is an addition to it)",
        )
    return Contents(entries, sum(entry.size for entry in entries))


def check_room(size, folder):
    """Raise FleetError unless the disk of a folder has room for this many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise FleetError(
            f"{folder} has no room for the release",
            f"it needs {size / 1024**3:.1f} GiB and {free / 1024**3:.1f} GiB are free",
            "free disk space there, or point ollama_release_dir to a bigger disk",
        )


def unpack(path, folder, zstd):
    """Unpack an archive into a folder that does not exist yet. Returns {name: {sha256, size} or {link}} of its files.

    Files become root's (or whoever runs this), readable for all, executable where the archive says so; no other bit of
    the archive's modes and no owner of it is taken over.
    """
    written = {}
    os.makedirs(folder, mode=0o755)
    with _members(path, zstd) as members:
        for entry, file in members:
            target = os.path.join(folder, entry.name)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            if entry.kind == "directory":
                os.makedirs(target, mode=0o755, exist_ok=True)
            elif entry.kind == "link":
                os.symlink(entry.target, target)
                written[entry.name] = {"link": entry.target}
            elif entry.kind == "second name":
                os.link(os.path.join(folder, entry.target), target)
                written[entry.name] = written[entry.target]
            else:
                written[entry.name] = _write(file, target, 0o755 if entry.executable else 0o644)
    return written


def _write(source, path, mode):
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    os.chmod(path, stat.S_IFREG | mode)
    return {"sha256": digest.hexdigest(), "size": size}

"""Writes .deb files, and the index of a flat apt repository, with the standard library alone."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file of a package. link: where it points when it is a symbolic link."""

    content: bytes = b""
    mode: int = 0o644
    link: str = ""


def text(content: str, mode: int = 0o644) -> File:
    return File(content.encode(), mode)


def script(content: str) -> File:
    return text(content, 0o755)


@dataclass(frozen=True)
class Package:
    """A binary package. relations: Depends, Conflicts, ... ; scripts: postinst, prerm, ...; settings: its conffiles."""

    name: str
    version: str
    architecture: str
    relations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def control(self) -> str:
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "Fixtures of ollama-fleet's tests <tests@example.invalid>",
            "Section": "misc",
            "Priority": "optional",
            **self.relations,
            "Description": "fixture with the name of a real package\n It holds nothing of NVIDIA's or Canonical's.",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def write(package: Package, folder: Path) -> Path:
    """Write the package's .deb into a folder."""
    control = {"./control": text(package.control)}
    control.update({f"./{name}": script(content) for name, content in package.scripts.items()})
    if package.settings:
        control["./conffiles"] = text("".join(f"{path}\n" for path in package.settings))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar(control),
        "data.tar.gz": _tar({f".{path}": file for path, file in package.files.items()}),
    }
    target = folder / package.file_name
    target.write_bytes(b"!<arch>\n" + b"".join(_member(name, data) for name, data in members.items()))
    return target


def packages_index(packages: Mapping[Path, Package]) -> str:
    """The Packages file of .deb files, which lie beside it."""
    paragraphs = []
    for path, package in packages.items():
        data = path.read_bytes()
        lines = [
            f"Filename: ./{path.name}",
            f"Size: {len(data)}",
            f"SHA256: {hashlib.sha256(data).hexdigest()}",
        ]
        paragraphs.append(package.control + "\n".join(lines) + "\n")
    return "\n".join(paragraphs)


def release(folder: Path, names: list[str], origin: str) -> str:
    """The Release file of a flat repository with these index files."""
    lines = [f"Origin: {origin}", f"Label: {origin}", f"Date: {formatdate(usegmt=True)}", "SHA256:"]
    for name in names:
        data = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    return "\n".join(lines) + "\n"


def _tar(files: Mapping[str, File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in sorted({parent for name in files for parent in _parents(name)}):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, file in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.mode, info.size = file.mode, len(file.content)
            if file.link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, file.link, 0
            tar.addfile(info, io.BytesIO(file.content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return header + data + (b"\n" if len(data) % 2 else b"")

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""An image that holds this host's own Python and nothing else, so that a check needs no image from anywhere."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile

# What the driver's libraries are linked with, beside what Python is linked with.
SONAMES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1")
# What a program imports, by file: the program comes by standard input and is not run as the main one.
IMPORTS = """
import faulthandler, sys, time
exec(compile(sys.stdin.read(), 'program', 'exec'), {'__name__': 'program'})
print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)), sep='\\n')
"""
CACHE = "/etc/ld.so.cache"
FOLDERS = ("dev", "etc", "etc/ld.so.conf.d", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin")


def output(command, text=""):
    return subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True, timeout=30).stdout.decode()


def linked(path):
    """The libraries that a program or library is linked with, the loader included."""
    try:
        text = output(["ldd", path])
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", text, re.MULTILINE)


def libraries():
    """{path of each of SONAMES} that the host has for its own architecture."""
    found = {}
    for line in output(["/sbin/ldconfig", "-p"]).splitlines():
        name, _, path = line.strip().partition(" => ")
        if name.split(" ")[0] in SONAMES and os.path.exists(path):
            # The first one of a name is the one that programs get.
            found.setdefault(name.split(" ")[0], path)
    return sorted(found.values())


def files(program):
    """The paths that the image of a program holds, as the host names them. program: its text"""
    python = os.path.realpath(sys.executable)
    # -I -S: nothing of the site's or the user's.
    modules = output([python, "-I", "-S", "-c", IMPORTS], program).split("\n")
    wanted = {python, *(path for path in modules if path), *libraries()}
    for path in [python, *(path for path in modules if path.endswith(".so"))]:
        wanted.update(linked(path))
    return sorted(wanted)


def usr(path):
    """The path without a merged /bin, /lib or /lib64: there the image has links, as the host has."""
    first = path.split("/")[1]
    return "/usr" + path if first in ("bin", "sbin", "lib", "lib64", "lib32") else path


def archive(paths):
    """Return the image's file system as the bytes of a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in FOLDERS:
            add(tar, name, tarfile.DIRTYPE)
        for name in ("bin", "lib", "lib64", "sbin"):
            add(tar, name, tarfile.SYMTYPE, link="usr/" + name)
        for path in sorted({*paths, *([CACHE] if os.path.exists(CACHE) else [])}):
            with open(path, "rb") as file:
                add(tar, usr(path).lstrip("/"), tarfile.REGTYPE, data=file.read())
    return buffer.getvalue()


def add(tar, name, kind, link="", data=b""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(data), 0o755
    tar.addfile(member, io.BytesIO(data))

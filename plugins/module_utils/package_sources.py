# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Where a host's packages come from: the sources of apt and the repositories of dnf, as their files name them."""

from __future__ import annotations

import glob
import os
import re

ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>[^#]*)")
SECRET = re.compile(r"//[^/@\s]+@")


def source(file, uris, suites, components, signed_by):
    return {
        "file": file,
        # Mirrors may ask for a password; it is nobody's business here.
        "uris": [SECRET.sub("//", uri) for uri in uris],
        "suites": suites,
        "components": components,
        "signed_by": signed_by,
        "credentials": any(SECRET.search(uri) for uri in uris),
    }


def one_line(file, text):
    """Return the sources of a sources.list."""
    found = []
    for line in text.splitlines():
        match = ONE_LINE.match(line.strip())
        if match:
            options = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
            components = match["components"].split()
            found.append(source(file, [match["uri"]], [match["suite"]], components, options.get("signed-by", "")))
    return found


def fields(paragraph):
    """Return {field in lower case: value} of one paragraph; a continued value keeps its lines."""
    found, field = {}, ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            found[field] = found.get(field, "") + "\n" + line.strip()
        elif ":" in line:
            field, _colon, value = line.partition(":")
            field = field.strip().lower()
            found[field] = value.strip()
    return found


def paragraphs(file, text):
    """Return the sources of a .sources file."""
    found = []
    for part in re.split(r"\n\s*\n", text):
        said = fields(part)
        if "deb" in said.get("types", "").split() and said.get("enabled", "yes").lower() not in ("no", "false", "0"):
            key = said.get("signed-by", "").strip()
            lists = [said.get(name, "").split() for name in ("uris", "suites", "components")]
            found.append(source(file, *lists, "embedded" if "BEGIN PGP" in key else key))
    return found


def dnf(file, text):
    """Return the enabled repositories of a .repo file."""
    found = []
    for section in re.split(r"^\[", text, flags=re.MULTILINE)[1:]:
        name = section.partition("]")[0]
        said = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*(?:\n[ \t]+\S.*)*)", section, re.MULTILINE))
        if said.get("enabled", "1").strip().lower() in ("1", "true", "yes"):
            uris = next((said[key].split() for key in ("baseurl", "mirrorlist", "metalink") if said.get(key)), [])
            found.append(source(file, uris, [name], [], " ".join(said.get("gpgkey", "").split())))
    return found


def repositories(etc_root, read):
    """Return [{file, uris, suites, components, signed_by, credentials}] of all enabled sources.

    read: path -> text or None
    """
    readers = (
        ("/apt/sources.list", one_line),
        ("/apt/sources.list.d/*.list", one_line),
        ("/apt/sources.list.d/*.sources", paragraphs),
        ("/yum.repos.d/*.repo", dnf),
    )
    found = []
    for pattern, reader in readers:
        for path in sorted(glob.glob(etc_root + pattern)):
            shown = "/etc" + path[len(etc_root) :] if etc_root != "/etc" else path
            found += reader(os.path.normpath(shown), read(path) or "")
    return found

# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a host needs for a server without a container, and what changing over means: the same for plan and role."""

from __future__ import annotations

import posixpath
import re

VARIABLES = (
    "ollama_mode",
    "ollama_release_version",
    "ollama_release_checksum",
    "ollama_release_url",
    "ollama_release_file",
    "ollama_project_dir",
)
UNIT = "ollama.service"
# Those that Ollama makes archives for, as the kernel and as Ollama call them.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz|tar\.zst|tzst)$")
VERSION = re.compile(r"\d+(\.\d+)+([-+.][0-9A-Za-z][0-9A-Za-z.+-]*)?")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
# From this version on the archives are compressed with zstd (ollama release notes of v0.14.0).
FIRST_ZSTD = (0, 14)
PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def archive_name(version, architecture):
    """Return what Ollama calls its archive for an architecture of the kernel's."""
    suffix = "tar.zst" if as_numbers(version) >= FIRST_ZSTD else "tgz"
    return f"ollama-linux-{ARCHITECTURES.get(architecture, architecture)}.{suffix}"


def as_numbers(version):
    return tuple(int(number) for number in re.match(r"[\d.]*", str(version))[0].split(".") if number)


def source(values, architecture):
    """Return where the archive comes from: an address, or the name of the file that is brought from the controller."""
    if values["ollama_release_file"]:
        return values["ollama_release_file"]
    url = values["ollama_release_url"].rstrip("/")
    if ARCHIVE.search(url):
        return url
    version = values["ollama_release_version"]
    return posixpath.join(url, f"v{version}", archive_name(version, architecture))


def problems(host, values):
    """Return why this host cannot run a server without a container: [{rule, remedy}], all of them.

    host: host_info's; values: {variable: value} of VARIABLES
    """
    found = []

    def problem(rule, remedy):
        found.append({"rule": rule, "remedy": remedy})

    if not host["systemd"]:
        problem(
            "process 1 is not systemd, which is to run Ollama",
            "put systemd=true under [boot] in /etc/wsl.conf and run wsl --shutdown in Windows"
            if host["wsl"]
            else "boot the host with systemd, or set ollama_mode to docker",
        )
    if host["os"]["architecture"] not in ARCHITECTURES:
        problem(
            f"Ollama has no archive for {host['os']['architecture']}, only for {' and '.join(ARCHITECTURES)}",
            "take the host out of the inventory",
        )
    if not VERSION.fullmatch(str(values["ollama_release_version"])):
        problem(
            f"ollama_release_version is '{values['ollama_release_version']}', which is no version",
            "write one like 0.32.15",
        )
    if not CHECKSUM.fullmatch(values["ollama_release_checksum"]):
        problem(
            f"ollama_release_checksum is '{values['ollama_release_checksum']}', and nothing is unpacked unchecked",
            "write sha256: and the 64 digits that sha256sum.txt of the release has for"
            f" {archive_name(values['ollama_release_version'], host['os']['architecture'])}",
        )
    return found


def container_of(host, values):
    """Return the name of the container that the role made here, or None."""
    folder = values["ollama_project_dir"]
    names = [item["name"] for item in host["docker"]["containers"] if item["project_dir"] == folder]
    return "ollama" if "ollama" in names else None


def kept(host):
    """Return what the role's record keeps of a server without a container; empty where there is none."""
    return (host["records"].get("ollama") or {}).get("keep", {}).get("native") or {}


def decide(host, values):
    """Return the plan's step of the role as decisions.as_step does, or None where nothing is to say of it."""
    native = values["ollama_mode"] == "native"
    if not native and not kept(host):
        return None
    found = problems(host, values) if native else []
    return {
        "needed": False,
        "leaves_alone": False,
        "reasons": [],
        "notes": notes(host, values) if native and not found else [] if native else [back()],
        "refusal": {"rule": found[0]["rule"], "cards": [], "remedy": found[0]["remedy"]} if found else None,
        "action": "refuse" if found else "run",
    }


def notes(host, values):
    """Return what the plan says of a server that systemd is to run: [{topic, choice, reason}]"""
    digits = values["ollama_release_checksum"].partition(":")[2][:12]
    result = [
        {
            "topic": "server",
            "choice": f"Ollama {values['ollama_release_version']}, run by systemd",
            "reason": "a release that does not start leaves the one that ran",
        },
        {
            "topic": "archive",
            "choice": PASSWORD.sub("***@", source(values, host["os"]["architecture"])),
            "reason": f"unpacked when its checksum begins with {digits}, as in ollama_release_checksum",
        },
    ]
    container = container_of(host, values)
    if container:
        result.append(
            {
                "topic": "container",
                "choice": container,
                "reason": "stopped before the service starts, started again if that fails, removed once it answers;"
                " models stay where they are",
            }
        )
    return result


def back():
    """Return what the plan says of a service that gives way to a container."""
    return {
        "topic": "service",
        "choice": UNIT,
        "reason": "stopped before the container starts, started again if that fails, removed once it answers;"
        " models stay where they are",
    }

"""Where Debian packages come from: this machine's own apt set-up, told for another release and another root.

Nothing here names a mirror: a company's mirror, proxy or snapshot is used as this machine uses it.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_fleet.errors import FleetError

# Names that mean "the release of today" instead of one release by name.
_ALIASES = {"stable", "oldstable", "oldoldstable"}
# What follows the release's name in the suites of the distribution itself.
_POCKETS = ("", "-updates", "-security")
# Settings of apt's downloads that hold wherever the packages are used.
_PASSED_ON = re.compile(
    r"^Acquire::(https?::(Proxy|Timeout|Pipeline-Depth)|Retries|Check-Valid-Until|Check-Date|Max-FutureTime)\b", re.I
)


@dataclass(frozen=True)
class Source:
    """One place for packages: `deb [signed-by=KEYRING] URI SUITE COMPONENTS`."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(frozen=True)
class Release:
    """A release of a distribution, as /etc/os-release names it: ("debian", "trixie")."""

    distribution: str
    codename: str

    @property
    def keyring(self) -> str:
        """File with the keys that sign the distribution's packages."""
        return f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg"

    @property
    def keyring_package(self) -> str:
        """The package that brings that file."""
        return "ubuntu-keyring" if self.distribution == "ubuntu" else "debian-archive-keyring"


@dataclass(frozen=True)
class AptSetup:
    """How apt gets packages of RELEASE.

    sources: text of a deb822 file for /etc/apt/sources.list.d/
    settings: text of a file for /etc/apt/apt.conf.d/
    """

    release: Release
    sources: str
    settings: str


def controller(etc: Path = Path("/etc")) -> tuple[Release, list[Source], str]:
    """This machine's release, its distribution's own package sources, and its download settings.

    Raises FleetError where this is no Debian or Ubuntu, or apt has no source of the distribution's own.
    """
    release = read_release((etc / "os-release").read_text())
    files = [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*"))]
    sources: list[Source] = []
    for file in files:
        if file.suffix == ".list" and file.is_file():
            sources += parse_one_line(file.read_text())
        elif file.suffix == ".sources" and file.is_file():
            sources += parse_deb822(file.read_text())
    own = distribution_sources(release, (spread for source in sources for spread in _mirrors(source)))
    if not own:
        raise FleetError(
            "no Debian packages for the lab",
            f"apt on this machine has no source with the suite {release.codename} and the component main",
            f"set one up in {etc}/apt/sources.list.d, as the installer of {release.distribution} does",
        )
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return release, own, dump


def read_release(os_release: str) -> Release:
    """The distribution's release from the text of /etc/os-release. Raises FleetError for what the lab cannot use."""
    pairs = (line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    values = {key: value.strip().strip("\"'") for key, value in pairs}
    distribution, codename = values.get("ID", ""), values.get("VERSION_CODENAME", "")
    if distribution not in ("debian", "ubuntu") or not codename:
        raise FleetError(
            "the lab cannot be built on this machine",
            f"it needs Debian or Ubuntu, this is {values.get('PRETTY_NAME', 'unknown')}",
            "use a virtual machine with Debian 12 or 13",
        )
    return Release(distribution, codename)


def parse_one_line(text: str) -> list[Source]:
    """The binary package sources of a sources.list file."""
    result = []
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<rest>[^#]+)", line)
        if not match:
            continue
        uri, suite, *components = match["rest"].split()
        options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
        result.append(Source(uri, suite, tuple(components), options.get("signed-by", "")))
    return result


def parse_deb822(text: str) -> list[Source]:
    """The binary package sources of a .sources file; an embedded key counts as no key file."""
    result = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        signed_by = fields.get("signed-by", "")
        if not signed_by.startswith("/"):
            # A key in place of a file marks somebody else's packages.
            signed_by = "embedded" if signed_by else ""
        result += [
            Source(uri, suite, tuple(fields.get("components", "").split()), signed_by)
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return result


def distribution_sources(release: Release, sources: Iterable[Source]) -> list[Source]:
    """Those sources that carry the distribution itself, their suites named by the release."""
    names = {release.codename} | (_ALIASES if release.distribution == "debian" else set())
    result = []
    for source in sources:
        name, pocket = _pocket(source.suite)
        foreign_key = source.signed_by and f"{release.distribution}-archive" not in source.signed_by
        if name in names and pocket is not None and "main" in source.components and not foreign_key:
            found = replace(source, suite=release.codename + pocket)
            if found not in result:
                result.append(found)
    return result


def setup_for(release: Release, sources: list[Source], dump: str, environment: Mapping[str, str]) -> AptSetup:
    """The same mirrors and settings for another RELEASE of the distribution.

    dump: output of `apt-config dump`
    """
    paragraphs = []
    for source in sources:
        suite = release.codename + (_pocket(source.suite)[1] or "")
        lines = [
            "Types: deb",
            f"URIs: {source.uri}",
            f"Suites: {suite}",
            f"Components: {' '.join(source.components)}",
            f"Signed-By: {release.keyring}",
        ]
        paragraphs.append("\n".join(lines) + "\n")
    return AptSetup(release, "\n".join(paragraphs), _settings(dump, environment))


def _settings(dump: str, environment: Mapping[str, str]) -> str:
    # `apt-config dump` writes every node of its tree, also those that only hold others.
    lines = [line for line in dump.splitlines() if _PASSED_ON.match(line) and not line.endswith(' "";')]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy")
        if proxy and not any(line.lower().startswith(f"acquire::{scheme}::proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    # Descriptions in other languages are a third of what `apt-get update` fetches.
    lines.append('Acquire::Languages "none";')
    return "".join(f"{line}\n" for line in lines)


def _pocket(suite: str) -> tuple[str, str | None]:
    name, dash, rest = suite.partition("-")
    pocket = dash + rest
    return name, pocket if pocket in _POCKETS else None


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}".strip()
        elif ":" in line:
            key, value = line.split(":", 1)
            name = key.strip().lower()
            fields[name] = value.strip()
    return fields


def _mirrors(source: Source) -> list[Source]:
    """Cloud images name a file with mirrors in place of a mirror; only this machine has that file."""
    match = re.match(r"^mirror\+file:/*(?P<path>/.*)$", source.uri)
    if not match or not Path(match["path"]).is_file():
        return [source]
    lines = (line.split("#")[0].split() for line in Path(match["path"]).read_text().splitlines())
    return [replace(source, uri=words[0]) for words in lines if words][:1]

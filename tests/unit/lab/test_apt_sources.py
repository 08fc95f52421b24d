"""Package sources of this machine, told for another release."""

import pytest

from lab.apt_sources import (
    Release,
    Source,
    controller,
    distribution_sources,
    parse_deb822,
    parse_one_line,
    read_release,
    setup_for,
)
from ollama_fleet.errors import FleetError

BOOKWORM = Release("debian", "bookworm")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEB822 = """\
# Written by an installer
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://switched-off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://other.example/linux/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_deb822_gives_one_source_for_each_suite() -> None:
    sources = distribution_sources(BOOKWORM, parse_deb822(DEB822))
    assert sources == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib"), KEYRING),
        Source("http://mirror.example/debian", "bookworm-updates", ("main", "contrib"), KEYRING),
        Source("http://mirror.example/security", "bookworm-security", ("main",), KEYRING),
    ]


def test_one_line_sources_with_and_without_options() -> None:
    text = f"""
        # deb http://comment.example bookworm main
        deb-src http://mirror.example/debian bookworm main
        deb [arch=amd64 signed-by={KEYRING}] http://a.example/debian bookworm main # nearest
        deb http://b.example/debian bookworm-security main non-free
        deb [signed-by=/etc/apt/keyrings/docker.asc] https://docker.example/linux/debian bookworm stable
    """
    assert distribution_sources(BOOKWORM, parse_one_line(text)) == [
        Source("http://a.example/debian", "bookworm", ("main",), KEYRING),
        Source("http://b.example/debian", "bookworm-security", ("main", "non-free")),
    ]


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("stable", ["bookworm"]),
        ("oldstable-updates", ["bookworm-updates"]),
        ("bookworm-backports", []),
        ("bookworm-proposed-updates", []),
        ("trixie", []),
        ("sid", []),
    ],
)
def test_only_suites_of_the_release_itself_count(suite: str, expected: list[str]) -> None:
    found = distribution_sources(BOOKWORM, [Source("http://mirror.example", suite, ("main",))])
    assert [source.suite for source in found] == expected


def test_a_foreign_archive_with_the_same_suite_is_left_out() -> None:
    ppa = Source("http://ppa.example/ubuntu", "noble", ("main",), "/etc/apt/keyrings/somebody.gpg")
    own = Source("http://mirror.example/ubuntu", "noble", ("main", "universe"))
    assert distribution_sources(Release("ubuntu", "noble"), [ppa, own]) == [own]


def test_another_release_comes_from_the_same_mirrors() -> None:
    sources = distribution_sources(BOOKWORM, parse_deb822(DEB822))
    setup = setup_for(Release("debian", "trixie"), sources, "", {})
    again = parse_deb822(setup.sources)
    assert [(source.uri, source.suite) for source in again] == [
        ("http://mirror.example/debian", "trixie"),
        ("http://mirror.example/debian", "trixie-updates"),
        ("http://mirror.example/security", "trixie-security"),
    ]
    assert {source.signed_by for source in again} == {KEYRING}


def test_proxy_and_checks_are_passed_on_and_nothing_else() -> None:
    dump = """\
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3142";
Acquire::http::Proxy::mirror.example "DIRECT";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Acquire::GzipIndexes "true";
APT::Install-Recommends "0";
"""
    settings = setup_for(BOOKWORM, [], dump, {"https_proxy": "http://other.example:8080"}).settings.splitlines()
    assert settings == [
        'Acquire::http::Proxy "http://proxy.example:3142";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Retries "3";',
        'Acquire::https::Proxy "http://other.example:8080";',
        'Acquire::Languages "none";',
    ]


def test_apts_own_proxy_wins_over_the_environments() -> None:
    dump = 'Acquire::http::Proxy "http://apt.example:3142";\n'
    settings = setup_for(BOOKWORM, [], dump, {"http_proxy": "http://environment.example"}).settings
    assert "apt.example" in settings
    assert "environment.example" not in settings


def test_a_mirror_file_of_a_cloud_image_is_looked_up(tmp_path) -> None:
    mirrors = tmp_path / "mirrors.list"
    mirrors.write_text("# nearest first\nhttp://near.example/debian\tpriority:1\nhttp://far.example/debian\n")
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n')
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text(
        f"Types: deb\nURIs: mirror+file://{mirrors}\nSuites: bookworm\nComponents: main\n"
    )
    release, sources, _dump = controller(tmp_path / "etc")
    assert release == BOOKWORM
    assert [source.uri for source in sources] == ["http://near.example/debian"]


def test_no_source_of_the_distribution_is_an_error_that_says_what_to_do(tmp_path) -> None:
    (tmp_path / "apt").mkdir()
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=trixie\n")
    with pytest.raises(FleetError, match=r"trixie.*main"):
        controller(tmp_path)


def test_another_distribution_is_refused() -> None:
    with pytest.raises(FleetError, match="Fedora Linux 44"):
        read_release('ID=fedora\nPRETTY_NAME="Fedora Linux 44"\n')

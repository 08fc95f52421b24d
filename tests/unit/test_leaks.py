"""What counts as a leak: a secret in any writing, in a file that somebody else can read."""

import base64
import json
import urllib.parse
from pathlib import Path

import pytest

from tests.serving_support.leaks import Search, every_file, for_everybody, secrets_of, written

PASSWORD = 'p"ä$ %/+ssword\\x'
SEARCH = Search({"password": PASSWORD})


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        f"a line with {PASSWORD} in it",
        json.dumps({"body": {"password": PASSWORD}}),
        json.dumps({"body": {"password": PASSWORD}}, ensure_ascii=False),
        json.dumps(json.dumps({"password": PASSWORD})),
        "https://host/?p=" + urllib.parse.quote(PASSWORD, safe=""),
        urllib.parse.urlencode({"p": PASSWORD}),
        base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
        base64.b64encode(f"a:{PASSWORD}\n and more".encode()).decode(),
        base64.b64encode(f"ab:{PASSWORD}".encode()).decode(),
        base64.b64encode(f"abc:{PASSWORD}".encode()).decode(),
        base64.urlsafe_b64encode(f"u:{PASSWORD}".encode()).decode(),
        PASSWORD.encode().hex(),
    ],
)
def test_it_is_found_in_every_writing(text: str) -> None:
    assert SEARCH.hits(text)


@pytest.mark.parametrize(
    "text", ["", "password", PASSWORD[:-1], PASSWORD.swapcase(), "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"]
)
def test_nothing_else_is(text: str) -> None:
    assert SEARCH.hits(text) == []


def test_bytes_that_are_no_text_are_searched_too() -> None:
    assert SEARCH.hits(b"\xff\xfe\0" + PASSWORD.encode())


def test_a_hit_names_the_secret_and_never_shows_it() -> None:
    assert SEARCH.hits(PASSWORD) == ["password, as it is"]
    plain = Search({"token": "only-letters-and-dashes"})
    assert plain.hits("only-letters-and-dashes") == ["token, as it is"]


def test_of_a_vault_all_but_certificates_is_secret() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\n" + "a" * 64 + "\n" + "b" * 60 + "\n-----END PRIVATE KEY-----\n"
    content = {
        "vault_password": "x" * 20,
        "vault_short": "x",
        "vault_tokens": {"web": "t" * 43},
        "vault_list": [{"token": "l" * 43}],
        "vault_fleet_certificates": {"gpu1": {"certificate": certificate, "key": key}},
        "vault_number": 7,
    }
    assert secrets_of(content) == {
        "vault_password": "x" * 20,
        "vault_tokens.web": "t" * 43,
        "vault_list.0.token": "l" * 43,
        "vault_fleet_certificates.gpu1.key (line 1)": "a" * 64,
        "vault_fleet_certificates.gpu1.key (line 2)": "b" * 60,
    }


def test_a_key_is_found_with_its_lines_broken_as_json_breaks_them() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "Ab+/" * 16 + "\n-----END PRIVATE KEY-----\n"
    assert Search(secrets_of({"key": key})).hits(json.dumps({"content": key}))


def test_each_writing_is_searched_once() -> None:
    ways = list(written("only-letters-and-dashes").values())
    assert len(ways) == len(set(ways))


def test_only_what_others_can_reach_counts(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    shut = tmp_path / "shut"
    shut.mkdir()
    for path, mode in {"open": 0o644, "own": 0o600, "group": 0o640, "shut/open": 0o644}.items():
        (tmp_path / path).write_text(PASSWORD)
        (tmp_path / path).chmod(mode)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    shut.chmod(0o700)
    # pytest's own folders above are closed to others.
    above = [folder for folder in tmp_path.parents if not folder.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in above}
    for folder in above:
        folder.chmod(0o711)
    try:
        assert list(for_everybody(tmp_path)) == [tmp_path / "open"]
        assert list(for_everybody(shut)) == []
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


def test_files_are_searched_and_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"a\n{PASSWORD}\n")
    (tmp_path / "clean").write_text("nothing")
    paths = [*every_file(tmp_path), tmp_path / "gone"]
    assert SEARCH.in_files(paths) == {str(tmp_path / "log"): ["password, as it is"]}

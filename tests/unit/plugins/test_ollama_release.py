"""Releases of Ollama: real archives, good and bad, and what becomes of them on a host."""

from __future__ import annotations

import http.server
import os
import shutil
import ssl
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import pull_state, release_archive
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.release_store import Releases
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_release import ensure

from ollama_fleet.authority import issue, make_authority
from tests.unit.plugins.release_archives import (
    LIBRARY,
    SERVER,
    checksum,
    folder,
    link,
    member,
    pack,
    release,
)

ZSTD = shutil.which("zstd")
KINDS = ["r.tar", "r.tgz", pytest.param("r.tar.zst", marks=pytest.mark.skipif(not ZSTD, reason="no zstd here"))]


def run(root: Path, archive: Path | str | None, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    """The module's work with its defaults and these parameters."""
    defaults = {
        "path": str(root),
        "version": "1.0.0",
        "checksum": checksum(archive) if isinstance(archive, Path) else "",
        "source": str(archive) if archive else None,
        "environment": {},
        "ca_certificate": "",
        "timeout": 5,
        "progress_file": None,
    }
    zstd, label = params.pop("zstd", ZSTD), params.pop("label", lambda _folder: None)
    result: dict[str, Any] = ensure({**defaults, **params}, zstd, check_mode, label)
    return result


def failure(root: Path, archive: Path | str | None, **params: Any) -> FleetError:
    with pytest.raises(FleetError) as failed:
        run(root, archive, **params)
    return failed.value


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("name", KINDS)
def test_release_is_unpacked_with_its_links_and_no_rights_of_others(tmp_path: Path, name: str) -> None:
    assert run(tmp_path / "o", pack(tmp_path / name))["changed"]
    there = tmp_path / "o" / "1.0.0"
    assert (there / "bin/ollama").read_bytes() == SERVER
    assert (there / "lib/ollama/libcublas.so").read_bytes() == LIBRARY
    assert (there / "lib/server").resolve() == there / "bin/ollama"
    assert (there / "lib/ollama/same").read_bytes() == b"runner"
    # Neither its setuid bit nor its owner.
    assert oct((there / "bin/ollama").stat().st_mode) == "0o100755"
    assert oct((there / "bin").stat().st_mode) == "0o40755"
    assert oct((there / "lib/ollama/cuda_v13/libcublas.so.13.1.0").stat().st_mode) == "0o100644"
    assert {path.lstat().st_uid for path in there.rglob("*")} == {os.getuid()}
    assert names(tmp_path / "o") == ["1.0.0"]


def test_check_run_check_run(tmp_path: Path) -> None:
    archive = pack(tmp_path / "r.tgz")
    assert run(tmp_path / "o", archive, check_mode=True)["changed"]
    assert not (tmp_path / "o").exists()
    assert run(tmp_path / "o", archive)["changed"]
    assert not run(tmp_path / "o", archive, check_mode=True)["changed"]
    assert not run(tmp_path / "o", archive)["changed"]


def test_files_get_their_labels_once_they_have_their_names(tmp_path: Path) -> None:
    archive = pack(tmp_path / "r.tgz")
    labelled: list[str] = []
    for _time in range(2):
        run(tmp_path / "o", archive, label=labelled.append)
    assert labelled == [str(tmp_path / "o" / "1.0.0")]


def test_only_a_look_says_whether_the_archive_is_needed(tmp_path: Path) -> None:
    archive = pack(tmp_path / "r.tgz")
    wanted = checksum(archive)
    assert run(tmp_path / "o", None, checksum=wanted) == {
        "changed": False,
        "needs_archive": True,
        "release": "1.0.0",
        "has_zstd": ZSTD is not None,
    }
    run(tmp_path / "o", archive)
    assert run(tmp_path / "o", None, checksum=wanted)["needs_archive"] is False


REFUSED = {
    "up": [member("../evil", b"x")],
    "up, later": [member("lib/../../evil", b"x")],
    "absolute": [member("/etc/evil", b"x")],
    "absolute link": [link("lib/passwd", "/etc/passwd")],
    "link up": [link("lib/out", "../../evil")],
    "link up, by a way round": [link("lib/out", "x/../../../evil")],
    "link up through a link": [folder("a/b"), link("a/b/root", "../.."), link("a/b/out", "root/../evil")],
    "behind a link": [link("lib/here", "."), member("lib/here/evil", b"x")],
    "in a link's place": [member("lib/x/file", b"x"), link("lib/x", "..")],
    "twice": [member("lib/x", b"x"), member("lib/./x", b"y")],
    "over a link": [link("lib/x", "y"), member("lib/x", b"y")],
    "second name of what is outside": [member("lib/x", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "second name of a link": [link("lib/y", "z"), member("lib/x", type=tarfile.LNKTYPE, linkname="lib/y")],
    "device": [member("lib/null", type=tarfile.CHRTYPE)],
    "pipe": [member("lib/pipe", type=tarfile.FIFOTYPE)],
    "file in the folder's place": [member("./", b"")],
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("first", [True, False])
def test_archive_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path, case: str, first: bool) -> None:
    bad = REFUSED[case]
    archive = pack(tmp_path / "r.tgz", bad + release() if first else release() + bad)
    problem = failure(tmp_path / "o", archive)
    assert "is refused" in problem.what
    assert names(tmp_path / "o") == []
    assert names(tmp_path) == ["o", "r.tgz"]


def test_links_that_stay_inside_are_taken(tmp_path: Path) -> None:
    links = [link("up", "."), link("lib/deep/a", "../../bin"), link("lib/deep/b", "a/ollama")]
    run(tmp_path / "o", pack(tmp_path / "r.tgz", release() + links))
    assert (tmp_path / "o/1.0.0/lib/deep/b").resolve() == tmp_path / "o/1.0.0/bin/ollama"


@pytest.mark.parametrize("name", KINDS)
def test_archive_that_was_cut_is_told_by_its_checksum(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / name)
    wanted = checksum(archive)
    archive.write_bytes(archive.read_bytes()[:-9])
    problem = failure(tmp_path / "o", archive, checksum=wanted)
    assert "is not the one that was asked for" in problem.what
    assert wanted in problem.why
    assert names(tmp_path / "o") == []


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_archive_that_was_cut_before_its_checksum_was_made_is_damaged(tmp_path: Path, name: str, share: float) -> None:
    archive = pack(tmp_path / name, [*release(), member("lib/last", os.urandom(50_000))])
    whole = archive.read_bytes()
    # An uncompressed one ends with zeros that nobody misses: cut into its last file.
    archive.write_bytes(whole[: int(len(whole.rstrip(b"\0") if name == "r.tar" else whole) * share)])
    assert "is damaged" in failure(tmp_path / "o", archive).what
    assert names(tmp_path / "o") == []


def test_what_is_no_archive_is_damaged(tmp_path: Path) -> None:
    archive = tmp_path / "r.tgz"
    archive.write_bytes(b"<html>404</html>" * 100)
    assert "is damaged" in failure(tmp_path / "o", archive).what


def test_zstd_that_the_host_lacks_is_said(tmp_path: Path) -> None:
    archive = tmp_path / "r.tar.zst"
    archive.write_bytes(release_archive.ZSTD + b"rest")
    problem = failure(tmp_path / "o", archive, zstd=None)
    assert "no program zstd" in problem.why
    assert ".tgz" in problem.remedy


@pytest.mark.parametrize(
    "members", [[member("lib/x", b"x", 0o755)], [member("bin/ollama", b"x", 0o644)], [link("bin/ollama", "../lib/x")]]
)
def test_archive_without_the_server_is_none(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    assert "no release of Ollama" in failure(tmp_path / "o", pack(tmp_path / "r.tgz", members)).what


def test_disk_without_room_is_said_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "r.tgz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 5, 5))
    problem = failure(tmp_path / "o", archive)
    assert "has no room" in problem.what
    assert names(tmp_path / "o") == []


def test_archive_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "is not there" in failure(tmp_path / "o", f"file://{tmp_path}/none.tgz", checksum="sha256:0").what


def test_file_by_its_address(tmp_path: Path) -> None:
    archive = pack(tmp_path / "r.tgz")
    assert run(tmp_path / "o", f"file://{archive}", checksum=checksum(archive))["changed"]
    assert archive.exists()


def test_another_archive_of_the_same_version_lies_beside(tmp_path: Path) -> None:
    run(tmp_path / "o", pack(tmp_path / "r.tgz"))
    other = pack(tmp_path / "other.tgz", release(server=b"#!/bin/sh\necho other\n"))
    name = run(tmp_path / "o", other)["release"]
    assert name == f"1.0.0-{checksum(other)[7:15]}"
    assert (tmp_path / "o/1.0.0/bin/ollama").read_bytes() == SERVER
    assert not run(tmp_path / "o", other)["changed"]


DAMAGES = {
    "the server's content": lambda there: (there / "bin/ollama").write_bytes(SERVER.replace(b"I", b"i")),
    "a library's size": lambda there: (there / "lib/ollama/cuda_v13/libcublas.so.13.1.0").write_bytes(b"x"),
    "a link": lambda there: (there / "lib/ollama/libcublas.so").unlink(),
    "a link that leads elsewhere": lambda there: (
        (there / "lib/server").unlink(),
        (there / "lib/server").symlink_to("/bin/sh"),
    ),
    "the note": lambda there: (there / ".ollama-fleet.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired(tmp_path: Path, damage: str) -> None:
    archive = pack(tmp_path / "r.tgz")
    run(tmp_path / "o", archive)
    DAMAGES[damage](tmp_path / "o/1.0.0")
    result = run(tmp_path / "o", archive)
    assert result["changed"]
    there = tmp_path / "o" / result["release"]
    assert (there / "bin/ollama").read_bytes() == SERVER
    assert (there / "lib/ollama/libcublas.so").read_bytes() == LIBRARY


def test_links_move_and_come_back_and_what_is_older_goes(tmp_path: Path) -> None:
    releases = Releases(str(tmp_path / "o"))
    archive = pack(tmp_path / "r.tgz")
    (tmp_path / "o" / "theirs").mkdir(parents=True)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        name = run(tmp_path / "o", archive, version=version)["release"]
        before = releases.links()
        releases.point(releases.after(name))
    assert releases.links() == {"current": "3.0.0", "previous": "2.0.0"}
    assert releases.after("3.0.0") == releases.links()
    releases.point(before)
    assert releases.links() == {"current": "2.0.0", "previous": "1.0.0"}
    assert releases.prune() == ["3.0.0"]
    assert names(tmp_path / "o") == ["1.0.0", "2.0.0", "current", "previous", "theirs"]
    releases.point({"current": "nowhere", "previous": "1.0.0"})
    assert releases.after("2.0.0") == {"current": "2.0.0", "previous": "1.0.0"}
    releases.point({"current": None, "previous": None})
    assert releases.links() == {"current": None, "previous": None}


class Short(http.server.BaseHTTPRequestHandler):
    """Serves the files of a folder; those named cut-... end after half of what was announced."""

    root: Path

    def do_GET(self) -> None:
        path = self.root / self.path.rpartition("/")[2].removeprefix("cut-")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if "cut-" in self.path else data)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    handler = type("Mirror", (Short,), {"root": tmp_path / "www"})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_archive_of_a_mirror_is_fetched_and_not_kept(tmp_path: Path, mirror: str) -> None:
    archive = pack(tmp_path / "www" / "r.tgz")
    assert run(tmp_path / "o", f"{mirror}/r.tgz", checksum=checksum(archive))["changed"]
    assert names(tmp_path / "o") == ["1.0.0"]


def test_mirror_with_a_certificate_of_the_fleets_own_is_trusted_when_its_authority_is_given(
    tmp_path: Path, mirror: str
) -> None:
    authority = make_authority()
    pair = issue(authority, "mirror", ["127.0.0.1"])
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    archive = pack(tmp_path / "www" / "r.tgz")
    handler = type("Mirror", (Short,), {"root": tmp_path / "www"})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"https://127.0.0.1:{server.server_port}/r.tgz"
        try:
            assert "certificate" in failure(tmp_path / "o", url, checksum=checksum(archive)).why.lower()
            wanted = {"checksum": checksum(archive), "ca_certificate": authority.certificate}
            assert run(tmp_path / "o", url, **wanted)["changed"]
        finally:
            server.shutdown()
            thread.join()


def test_how_far_a_fetch_is_is_written_down_while_it_runs(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(pull_state, "_write", lambda _path, state: told.append(state))
    archive = pack(tmp_path / "www" / "r.tgz")
    run(tmp_path / "o", f"{mirror}/r.tgz", checksum=checksum(archive), progress_file=str(tmp_path / "progress"))
    size = archive.stat().st_size
    assert told[0] == {
        "model": "Ollama 1.0.0",
        "source": "127.0.0.1",
        "status": "pulling the archive",
        "completed": size,
        "total": size,
    }


@pytest.mark.parametrize(("name", "why"), [("none.tgz", "404"), ("cut-r.tgz", "after")])
def test_fetch_that_fails_says_so_and_leaves_nothing(tmp_path: Path, mirror: str, name: str, why: str) -> None:
    archive = pack(tmp_path / "www" / "r.tgz")
    address = mirror.replace("://", "://user:hunter2@")
    problem = failure(tmp_path / "o", f"{mirror}/{name}", checksum=checksum(archive))
    assert why in problem.why
    assert "ollama_release_file" in problem.remedy
    assert names(tmp_path / "o") == []
    assert "hunter2" not in str(failure(tmp_path / "o", f"{address}/{name}", checksum=checksum(archive)))


def test_proxy_of_the_server_serves_the_download(tmp_path: Path, mirror: str) -> None:
    archive = pack(tmp_path / "www" / "r.tgz")
    # Its name leads nowhere: only a proxy can have the answer.
    wanted = {"checksum": checksum(archive), "environment": {"HTTP_PROXY": mirror, "NO_PROXY": "example.com"}}
    assert run(tmp_path / "o", "http://releases.invalid/r.tgz", **wanted)["changed"]


def test_no_proxy_of_the_server_counts_for_the_download(tmp_path: Path, mirror: str) -> None:
    archive = pack(tmp_path / "www" / "r.tgz")
    around = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    assert run(tmp_path / "o", f"{mirror}/r.tgz", checksum=checksum(archive), environment=around)["changed"]

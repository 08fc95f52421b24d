"""The stack's packages as one archive, with a double of apt-get that hands out packages of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.deb_bundle import bundle

from tests.package_support.deb import Package, write

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb reads the packages")

# Copies what it has into the folder that it is told, unless it is asked for a version that it lacks.
APT_GET = """#!/bin/sh
echo "$@" > {here}/asked
for argument in "$@"; do
  case $argument in
    Dir::Cache::archives=*) archives=${{argument#*=}} ;;
    Dir::State::status=*) [ -s "${{argument#*=}}" ] && exit 9 ;;
    gone=*) echo "E: Version '1' for 'gone' was not found" >&2; exit 100 ;;
  esac
done
cp {here}/offered/*.deb "$archives/"
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which nginx was recorded, whose sources have it and what it depends on."""
    offered, programs, records = tmp_path / "offered", tmp_path / "bin", tmp_path / "records"
    for folder in (offered, programs, records):
        folder.mkdir()
    write(Package("nginx", "1.26.3-3", "amd64", {"Depends": "nginx-common"}), offered)
    write(Package("nginx-common", "1.26.3-3", "all"), offered)
    (programs / "apt-get").write_text(APT_GET.format(here=tmp_path))
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    record(tmp_path, "model_cache", nginx="1.26.3-3")
    record(tmp_path, "gpu_preflight")
    return tmp_path


def record(host: Path, role: str, **packages: str) -> None:
    (host / "records" / f"{role}.json").write_text(json.dumps({"manages": {"packages": packages}}))


def run(host: Path, check_mode: bool = False) -> dict[str, Any]:
    params = {"archive": f"{host}/out.tar", "folder": f"{host}/debs", "state_dir": f"{host}/records"}
    return bundle(params, check_mode)


def test_archive_holds_packages_and_an_index_that_names_them(host: Path) -> None:
    result = run(host)
    assert (result["changed"], result["wanted"]) == (True, {"nginx": "1.26.3-3"})
    with tarfile.open(host / "out.tar") as tar:
        assert tar.getnames() == ["Packages", *result["files"]]
        index = tar.extractfile("Packages")
        assert index is not None
        text = index.read().decode()
    for name in result["files"]:
        size = (host / "offered" / name).stat().st_size
        assert f"Filename: ./{name}\nSize: {size}\nSHA256: " in text
    paragraphs = text.split("\n\n")
    assert sorted(paragraph.splitlines()[0] for paragraph in paragraphs) == ["Package: nginx", "Package: nginx-common"]
    assert "Depends: nginx-common" in text


def test_apt_is_asked_for_exact_versions_and_installs_nothing(host: Path) -> None:
    run(host)
    asked = (host / "asked").read_text()
    assert "install nginx=1.26.3-3" in asked
    assert "--download-only" in asked


def test_second_run_writes_the_same_archive(host: Path) -> None:
    run(host)
    first = (host / "out.tar").read_bytes()
    assert not run(host)["changed"]
    assert (host / "out.tar").read_bytes() == first


def test_check_mode_downloads_nothing(host: Path) -> None:
    assert run(host, check_mode=True)["wanted"] == {"nginx": "1.26.3-3"}
    assert not (host / "asked").exists()


def test_version_that_the_sources_lost_is_named(host: Path) -> None:
    record(host, "docker", gone="1")
    with pytest.raises(FleetError, match="Version '1' for 'gone' was not found") as failed:
        run(host)
    assert "apt-cache policy" in failed.value.remedy
    assert not (host / "out.tar").exists()


def test_package_that_is_none_is_named(host: Path) -> None:
    (host / "offered" / "broken_1_all.deb").write_text("no package")
    with pytest.raises(FleetError, match=r"broken_1_all\.deb"):
        run(host)


def test_host_without_records_has_nothing_to_give(host: Path) -> None:
    (host / "records" / "model_cache.json").unlink()
    with pytest.raises(FleetError, match="no record names any"):
        run(host)


def test_record_that_cannot_be_read_is_named(host: Path) -> None:
    (host / "records" / "torn.json").write_text("{")
    with pytest.raises(FleetError, match=r"torn\.json"):
        run(host)

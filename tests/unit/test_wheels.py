"""The controller's own pip, without a network: its index is a folder."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from lab import wheels
from ollama_fleet.errors import FleetError

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the package "tiny", which is all that pip finds."""
    folder = tmp_path / "index"
    folder.mkdir()
    files = {"tiny.py": "WORD = 'tiny'\n", "tiny-1.0.dist-info/METADATA": METADATA, "tiny-1.0.dist-info/WHEEL": WHEEL}
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        record = ""
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        archive.writestr("tiny-1.0.dist-info/RECORD", f"{record}tiny-1.0.dist-info/RECORD,,\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def lock(index: Path, tmp_path: Path) -> Path:
    digest = hashlib.sha256((index / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    path = tmp_path / "requirements.lock"
    path.write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    return path


def test_packages_are_installed_once_and_again_when_the_lock_changes(lock: Path, index: Path, tmp_path: Path) -> None:
    target, lines = tmp_path / "site", []
    assert wheels.install(lock, target, "3.13", lines.append) == target
    assert (target / "tiny.py").read_text() == "WORD = 'tiny'\n"
    assert any("tiny" in line for line in lines)
    (index / "tiny-1.0-py3-none-any.whl").unlink()
    wheels.install(lock, target, "3.13")
    lock.write_text("# changed\n" + lock.read_text())
    with pytest.raises(FleetError):
        wheels.install(lock, target, "3.13")
    assert (target / "tiny.py").is_file(), "what was there stays until there is something better"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "requirements.lock", "site"]


def test_wheels_are_downloaded(lock: Path, tmp_path: Path) -> None:
    folder = wheels.download(lock, tmp_path / "deep" / "wheels", "3.13")
    assert [path.name for path in folder.glob("*.whl")] == ["tiny-1.0-py3-none-any.whl"]


def test_another_file_than_the_locks_is_refused(lock: Path, tmp_path: Path) -> None:
    lock.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(FleetError, match="check the mirror, or make the lock anew"):
        wheels.download(lock, tmp_path / "wheels", "3.13")
    assert not (tmp_path / "wheels").exists()


def test_what_no_index_has(lock: Path, tmp_path: Path) -> None:
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(FleetError) as caught:
        wheels.download(lock, tmp_path / "wheels", "3.13")
    assert "no-such-package==1.0" in caught.value.why
    assert "pip config list" in caught.value.remedy


def test_a_place_that_cannot_be_written(lock: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetError, match="cannot write"):
        wheels.download(lock, tmp_path / "file" / "wheels", "3.13")

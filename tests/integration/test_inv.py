"""./inv on machines that lack something: one clear line each, and nothing half-made left behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("awk", "cat", "cksum", "dirname", "grep", "rm", "sh", "tail")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what ./inv needs of a clone, and a PATH folder of its own that holds no Python."""
    shutil.copy(ROOT / "inv", tmp_path / "inv")
    (tmp_path / "requirements.lock").write_text("no-such-package-of-anybody==1.0 --hash=sha256:" + "0" * 64 + "\n")
    (tmp_path / "tasks.py").write_text("")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    program(tmp_path, "df", "printf 'Filesystem\\nx 9000 1 8999 1% /\\n'")
    return tmp_path


def program(clone: Path, name: str, body: str) -> None:
    path = clone / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(clone: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(clone / "bin"), "HOME": str(clone), "PIP_NO_INDEX": "1"}
    return subprocess.run([str(clone / "inv"), "--list"], env=env, check=False, capture_output=True, text=True)


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result
    return result.stderr.strip().splitlines()[-1]


def test_no_python_is_said(clone: Path) -> None:
    assert "needs Python 3.11 or newer, found none" in last_line(run(clone))


def test_an_old_python_is_passed_over(clone: Path) -> None:
    program(clone, "python3", "exit 1")
    assert "needs Python 3.11 or newer, found none" in last_line(run(clone))


def test_a_missing_venv_module_names_the_package_to_install(clone: Path) -> None:
    program(clone, "python3", 'case "$2" in *version_info*) exit 0;; esac; exit 1')
    assert "apt-get install python3-venv" in last_line(run(clone))


def test_a_full_disk_is_said_before_anything_is_written(clone: Path) -> None:
    (clone / "bin" / "python3").symlink_to(sys.executable)
    program(clone, "df", "printf 'Filesystem\\nx 9000 8990 10 99% /\\n'")
    assert "needs 500 MiB of free disk" in last_line(run(clone))
    assert not (clone / ".venv").exists()


def test_no_network_is_one_line_and_leaves_no_half_made_environment(clone: Path) -> None:
    (clone / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    line = last_line(run(clone))
    assert "cannot install the packages" in line
    assert "no-such-package-of-anybody" in line
    assert not (clone / ".venv").exists()


def test_once_set_up_it_starts_in_under_a_second() -> None:
    subprocess.run([str(ROOT / "inv"), "--list"], check=True, capture_output=True)
    seconds = []
    for _again in range(5):
        started = time.monotonic()
        listing = subprocess.run([str(ROOT / "inv"), "--list"], check=True, capture_output=True, text=True).stdout
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1, seconds
    tasks = [line for line in listing.splitlines() if line.startswith("  ") and line[2] != " "]
    assert 10 <= len(tasks) <= 40
    assert all(len(task.split(maxsplit=1)) == 2 for task in tasks)


def test_it_stays_a_small_script() -> None:
    assert len((ROOT / "inv").read_text().splitlines()) < 60

"""Gets Python wheels with the controller's own pip: its index, mirrors and cache settings hold, no file names a host.

Both functions take a lock file made by `uv pip compile --generate-hashes`, are idempotent (a stamp holds what a folder
was made from) and atomic (a folder is complete or not there).
"""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab.system import remove_tree
from ollama_fleet.errors import FleetError

Report = Callable[[str], None]

_STAMP = ".made-from"


def download(lock: Path, wheels: Path, python_version: str, report: Report = lambda _line: None) -> Path:
    """Put the wheels that LOCK names into the folder WHEELS, for CPython PYTHON_VERSION ("3.13") on this architecture.

    Returns WHEELS. Raises FleetError when pip fails.
    """
    return _make(["download", "--dest"], lock, wheels, python_version, report)


def install(lock: Path, target: Path, python_version: str, report: Report = lambda _line: None) -> Path:
    """Install the wheels that LOCK names into TARGET, a folder to be put on sys.path by CPython PYTHON_VERSION.

    Returns TARGET. Raises FleetError when pip fails.
    """
    # Compiling here would write byte code of the controller's Python, not of the one that runs it.
    return _make(["install", "--no-compile", "--target"], lock, target, python_version, report)


def _make(action: list[str], lock: Path, folder: Path, python_version: str, report: Report) -> Path:
    platforms = _platforms(platform.machine())
    made_from = f"{action[0]} {python_version} {platforms[0]} {hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == made_from:
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    remove_tree(partial)
    try:
        partial.mkdir(parents=True)
        _pip([*action, str(partial)], lock, python_version, platforms, report)
        (partial / _STAMP).write_text(made_from)
        remove_tree(folder)
        partial.rename(folder)
    except OSError as error:
        raise FleetError(
            f"cannot write {folder}", str(error), "free disk space there, or make the folder writable"
        ) from error
    finally:
        remove_tree(partial)
    return folder


def _platforms(machine: str) -> list[str]:
    # pip takes a platform by its letter: each older manylinux that Debian's glibc also runs has to be named.
    return [*(f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)), f"manylinux2014_{machine}"]


def _pip(action: list[str], lock: Path, python_version: str, platforms: list[str], report: Report) -> None:
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *action),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off"),
        *("--implementation=cp", f"--python-version={python_version}"),
        *(f"--platform={name}" for name in platforms),
        *("--requirement", str(lock)),
    ]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None  # noqa: S101 - it is a pipe
        for line in pip.stdout:
            lines.append(line.strip())
            if lines[-1].startswith(("Collecting", "Downloading", "Processing", "Installing")):
                report(lines[-1])
    if pip.returncode != 0:
        raise _explained(lock, lines)


def _explained(lock: Path, lines: list[str]) -> FleetError:
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    why = errors[0] if errors else (lines[-1] if lines else "pip said nothing")
    text = "\n".join(lines)
    if "No space left" in text:
        remedy = "free disk space for the packages and for pip's temporary folder (TMPDIR)"
    elif "HASHES" in text:
        remedy = "the index serves other files than the lock names: check the mirror, or make the lock anew"
    else:
        remedy = "check the network and the package index that pip is set up with: python3 -m pip config list"
    return FleetError(f"pip cannot get the packages of {lock}", why, remedy)

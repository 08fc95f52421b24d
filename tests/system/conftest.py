"""System tests run on the lab: real hosts with systemd, Docker and Compose, reached over SSH.

The first test that needs the lab brings it up the way a person does. When it was not up before, it is taken down at the
end, and whatever it left behind on this machine is an error.
"""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.lab import Lab
from tests.system import footprint

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Session:
    """The lab as the tests got it: the output and the seconds of the `./inv lab` that brought it up."""

    output: str
    seconds: float
    was_up: bool
    inventory: Path = ROOT / "inventory" / "lab"

    def inv(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ./inv as a person without a terminal would."""
        return subprocess.run(
            [str(ROOT / "inv"), *arguments],
            cwd=ROOT,
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        """Run a command on a host of the lab with the lab's own keys, and return what it printed."""
        result = subprocess.run(
            [*Lab(ROOT).ssh_command(host), command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if check and result.returncode:
            raise AssertionError(f"{host}: {command}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout


def _bring_up(log: Path) -> tuple[int, str, float]:
    """Run ./inv lab and return its exit code, output and seconds. The output can be read while it runs."""
    started = time.monotonic()
    with log.open("w") as file:
        command = [str(ROOT / "inv"), "lab", "--yes"]
        code = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode
    return code, log.read_text(), time.monotonic() - started


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The lab, up and converged."""
    was_up = (ROOT / "inventory" / "lab" / "hosts.yml").exists()
    before = footprint.of_this_machine(ROOT)
    code, output, seconds = _bring_up(tmp_path_factory.mktemp("lab") / "up.log")
    session = Session(output, seconds, was_up)
    try:
        assert code == 0, f"./inv lab --yes: exit {code}\n{output[-6000:]}"
        yield session
    finally:
        if not was_up:
            down = session.inv("lab.down", check=False)
            assert down.returncode == 0, down.stdout
            assert footprint.left_behind(before, footprint.of_this_machine(ROOT)) == {}

"""Installs the Debian packages that the tests need beside the lab's: python -m tests.tools"""

import sys
from pathlib import Path

from lab.controller import install, on_terminal
from ollama_fleet.errors import FleetError

NEEDED = {
    "openssh-server": Path("/usr/sbin/sshd"),  # integration tests start one of their own on a loopback port
    "gpg": Path("/usr/bin/gpg"),  # signs the package repositories that system tests make
    "chromium": Path("/usr/bin/chromium"),
    "chromium-driver": Path("/usr/bin/chromedriver"),
}


def main() -> int:
    """Ask and install what is missing; return the exit code."""
    missing = [package for package, program in NEEDED.items() if not program.exists()]
    try:
        if missing:
            install(missing, on_terminal(assume_yes=False))
    except FleetError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

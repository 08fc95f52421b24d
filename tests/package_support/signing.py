"""Keys that sign repositories: one that is good, one that has expired. GnuPG's files stay in a folder of the tests."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Keys made at this time, valid for a day, have expired for certain.
_LONG_AGO = "20240101T000000"


class Keys:
    """Two keys of one owner. good, expired: their fingerprints."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.good = self._make("good", "0", [])
        self.expired = self._make("expired", "1d", ["--faked-system-time", _LONG_AGO])

    def public(self, fingerprint: str) -> bytes:
        """The public key as signed-by takes it, not armoured."""
        return self._gpg(["--export", fingerprint])

    def sign(self, release: Path, fingerprint: str) -> None:
        """Write InRelease, and Release.gpg, beside a Release file."""
        then = ["--faked-system-time", _LONG_AGO] if fingerprint == self.expired else []
        common = [*then, "--local-user", fingerprint, "--yes"]
        self._gpg([*common, "--output", str(release.with_name("InRelease")), "--clearsign", str(release)])
        self._gpg([*common, "--output", f"{release}.gpg", "--armor", "--detach-sign", str(release)])

    def _make(self, name: str, expires: str, options: list[str]) -> str:
        user = f"ollama-fleet fixtures, {name} <{name}@example.invalid>"
        self._gpg([*options, "--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", expires])
        listed = self._gpg(["--list-keys", "--with-colons", user]).decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def _gpg(self, arguments: list[str]) -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, *arguments], capture_output=True, check=False)
        assert done.returncode == 0, f"gpg {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout


@contextmanager
def keys() -> Iterator[Keys]:
    """Keys for as long as the block lasts. GnuPG's agent ends with it."""
    # Short, as the agent's socket lies in it.
    home = Path(tempfile.mkdtemp(prefix="fleet-gpg-", dir="/tmp"))
    try:
        yield Keys(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)

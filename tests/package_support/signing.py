"""Keys that sign repositories: one that is good, one that has expired. GnuPG's files stay in a folder of the tests."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONG_AGO, _LATER = "20240101T000000", "20240101T010000"


class Keys:
    """Two keys of one owner. good, expired: their fingerprints."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.good = self._make("good", "0", [])
        self.expired = self._make("expired", "0", ["--faked-system-time", f"{_LONG_AGO}!"])
        # What the world gets to see of it expired long ago; its owner goes on signing, as has happened.
        self._gpg(["--faked-system-time", f"{_LATER}!", "--quick-set-expire", self.expired, "1d"])
        self._seen = {self.good: self._export(self.good), self.expired: self._export(self.expired)}
        self._gpg(["--quick-set-expire", self.expired, "0"])

    def public(self, fingerprint: str) -> bytes:
        """The public key as signed-by takes it, not armoured."""
        return self._seen[fingerprint]

    def armoured(self, fingerprint: str) -> bytes:
        """The public key as text, as NVIDIA's gpgkey is."""
        return self._gpg(["--armor", "--export", fingerprint])

    def sign(self, release: Path, fingerprint: str) -> None:
        """Write InRelease, and Release.gpg, beside a Release file."""
        common = ["--local-user", fingerprint, "--yes"]
        self._gpg([*common, "--output", str(release.with_name("InRelease")), "--clearsign", str(release)])
        self._gpg([*common, "--output", f"{release}.gpg", "--armor", "--detach-sign", str(release)])

    def _export(self, fingerprint: str) -> bytes:
        return self._gpg(["--export", fingerprint])

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

"""A flat, signed apt repository: what `deb [signed-by=KEY] URL /` reads."""

import gzip
import platform
from collections.abc import Iterable
from pathlib import Path

from tests.package_support import deb, signing

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
TRIPLET = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[ARCHITECTURE]


class Repository:
    """A repository in a folder. name: says in Release whose it imitates."""

    def __init__(self, folder: Path, name: str, keys: signing.Keys) -> None:
        self.folder = folder
        self._name = name
        self._keys = keys
        self._packages: dict[Path, deb.Package] = {}
        self._all: list[deb.Package] = []
        folder.mkdir(parents=True)
        (folder / "key.gpg").write_bytes(keys.public(keys.good) + keys.public(keys.expired))

    def add(self, packages: Iterable[deb.Package]) -> None:
        """Add packages and sign anew."""
        packages = list(packages)
        self._all += packages
        self._packages.update({deb.write(package, self.folder): package for package in packages})
        self.publish()

    def remove(self, name: str, version: str) -> None:
        """Take one version of a package away, as NVIDIA's repositories do after a while."""
        for path, package in list(self._packages.items()):
            if (package.name, package.version) == (name, version):
                path.unlink()
                del self._packages[path]
        self.publish()

    def restore(self) -> None:
        """Have everything again that was ever added."""
        self._packages.update({deb.write(package, self.folder): package for package in self._all})
        self.publish()

    def publish(self, with_expired_key: bool = False) -> None:
        """Write and sign the index."""
        index = deb.packages_index(self._packages).encode()
        (self.folder / "Packages").write_bytes(index)
        (self.folder / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
        release = self.folder / "Release"
        release.write_text(deb.release(self.folder, ["Packages", "Packages.gz"], f"Fixture of {self._name}"))
        self._keys.sign(release, self._keys.expired if with_expired_key else self._keys.good)

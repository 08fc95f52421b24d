"""The fixtures' repositories as lab hosts see them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import subnet
from lab.paths import Paths
from lab.state import State
from tests.package_support import canonical, container_toolkit, nvidia_cuda, signing
from tests.package_support.repository import Repository
from tests.package_support.server import Server

KEYRING = "/usr/share/keyrings/ollama-fleet-fixtures.gpg"


def gateway(root: Path) -> str:
    """The address of this machine on the lab's network."""
    network = State.load(Paths(root).state).subnet
    assert network, "the lab is not up"
    return subnet.address(network, 1)


@dataclass
class Fixtures:
    """The repositories, and the server that lab hosts reach them through."""

    server: Server
    cuda_debian: Repository
    cuda_ubuntu: Repository
    canonical: Repository
    container_toolkit: Repository

    def url(self, repository: Repository) -> str:
        return f"{self.server.url}/{repository.folder.name}"

    def key_url(self, repository: Repository) -> str:
        return f"{self.url(repository)}/key.gpg"

    def set_up(self, *repositories: Repository) -> str:
        """The shell commands that make these the only package sources of a host; they need root."""
        fetch = "import urllib.request; "
        fetch += f"open('{KEYRING}', 'wb').write(urllib.request.urlopen('{self.key_url(repositories[0])}').read())"
        sources = "\\n".join(f"deb [signed-by={KEYRING}] {self.url(repository)} /" for repository in repositories)
        return (
            f'sudo python3 -c "{fetch}" && sudo rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* &&'
            f" printf '{sources}\\n' | sudo tee /etc/apt/sources.list.d/fixtures.list && sudo apt-get -q update"
        )


@contextmanager
def fixtures(folder: Path, address: str) -> Iterator[Fixtures]:
    """All repositories, built in a folder and served on an address, for as long as the block lasts."""
    with signing.keys() as keys, Server(folder, address) as server:
        built = Fixtures(
            server,
            Repository(folder / "cuda-debian13", "NVIDIA's CUDA repository for Debian 13", keys),
            Repository(folder / "cuda-ubuntu2404", "NVIDIA's CUDA repository for Ubuntu 24.04", keys),
            Repository(folder / "ubuntu-restricted", "Ubuntu's restricted drivers", keys),
            Repository(folder / "container-toolkit", "NVIDIA's container toolkit", keys),
        )
        built.cuda_debian.add(nvidia_cuda.debian())
        built.cuda_ubuntu.add(nvidia_cuda.ubuntu())
        built.canonical.add(canonical.packages())
        built.container_toolkit.add(container_toolkit.packages())
        yield built

"""Sources of packages, as apt's and dnf's files name them."""

from tests.unit.plugins.host_trees import HostTree

UBUNTU = """\
# Canonical's
Types: deb deb-src
URIs: http://archive.ubuntu.com/ubuntu http://mirror.example/ubuntu
Suites: noble noble-updates
Components: main restricted
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: https://ann:secret@repo.example/cuda
Suites: /
Enabled: no

Types: deb
URIs: https://ann:secret@repo.example/toolkit
Suites: /
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ
 -----END PGP PUBLIC KEY BLOCK-----
"""
LEGACY = """\
deb [arch=amd64 signed-by=/usr/share/keyrings/nvidia.gpg] https://nvidia.github.io/libnvidia-container/deb/amd64 /
# deb http://gone.example x main
deb-src http://sources.example x main
deb http://plain.example trixie main contrib # ours
"""
CUDA = """\
[cuda-rhel9-x86_64]
name=cuda
baseurl=https://developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64
enabled=1
gpgkey=https://developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64/D42D0685.pub

[extras]
metalink = https://mirrors.example/metalink?repo=extras

[testing]
baseurl=http://testing.example
enabled = 0
"""


def test_sources_in_paragraphs(tree: HostTree) -> None:
    first, second = tree.write("etc/apt/sources.list.d/ubuntu.sources", UBUNTU).observe().repositories
    assert first == {
        "file": "/etc/apt/sources.list.d/ubuntu.sources",
        "uris": ["http://archive.ubuntu.com/ubuntu", "http://mirror.example/ubuntu"],
        "suites": ["noble", "noble-updates"],
        "components": ["main", "restricted"],
        "signed_by": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        "credentials": False,
    }
    assert (second["uris"], second["signed_by"]) == (["https://repo.example/toolkit"], "embedded")


def test_no_password_of_a_mirror_is_shown(tree: HostTree) -> None:
    tree.write("etc/apt/sources.list.d/ubuntu.sources", UBUNTU)
    tree.write("etc/apt/sources.list", "deb https://bob:secret@repo.example/x trixie main\n")
    found = tree.observe().repositories
    assert "secret" not in str(found)
    assert [source["credentials"] for source in found] == [True, False, True]


def test_sources_line_by_line(tree: HostTree) -> None:
    tree.write("etc/apt/sources.list.d/libnvidia-container.list", LEGACY)
    first, second = tree.observe().repositories
    assert first["signed_by"] == "/usr/share/keyrings/nvidia.gpg"
    assert (first["uris"], first["suites"], first["components"]) == (
        ["https://nvidia.github.io/libnvidia-container/deb/amd64"],
        ["/"],
        [],
    )
    assert (second["uris"], second["components"], second["signed_by"]) == (
        ["http://plain.example"],
        ["main", "contrib"],
        "",
    )


def test_repositories_of_dnf(tree: HostTree) -> None:
    first, second = tree.write("etc/yum.repos.d/cuda.repo", CUDA).observe().repositories
    assert (first["file"], first["suites"]) == ("/etc/yum.repos.d/cuda.repo", ["cuda-rhel9-x86_64"])
    assert first["uris"] == ["https://developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64"]
    assert first["signed_by"].endswith("D42D0685.pub")
    assert second["uris"] == ["https://mirrors.example/metalink?repo=extras"]


def test_host_without_sources_has_none(tree: HostTree) -> None:
    assert tree.observe().repositories == []

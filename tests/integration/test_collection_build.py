"""The collection is whole: built and installed into an empty folder, its site playbook is found by its full name."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(out)], cwd=ROOT, check=True, capture_output=True
    )
    return next(out.glob("ollama_fleet-stack-*.tar.gz"))


def test_site_playbook_of_an_installed_collection_passes_the_syntax_check(tarball: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    env |= {"HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections")}
    install = [
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "-p",
        str(tmp_path / "collections"),
        str(tarball),
    ]
    subprocess.run(install, cwd=tmp_path, env=env, check=True, capture_output=True)
    (tmp_path / "hosts.yml").write_text("gpu_servers:\n  hosts:\n    gpu1:\nweb_servers:\n  hosts:\n    web1:\n")

    check = ["ansible-playbook", "ollama_fleet.stack.site", "--syntax-check", "-i", "hosts.yml"]
    result = subprocess.run(check, cwd=tmp_path, env=env, check=False, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert "WARN" not in result.stderr


def test_collection_holds_every_role_and_nothing_of_the_workshop(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()

    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    assert roles == {name.split("/")[1] for name in names if name.startswith("roles/") and name.count("/") > 1}
    top = {name.split("/")[0] for name in names}
    assert top == {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "FILES.json",
        "LICENSE",
        "MANIFEST.json",
        "README.md",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }
    assert not [name for name in names if "__pycache__" in name or ".vault" in name]

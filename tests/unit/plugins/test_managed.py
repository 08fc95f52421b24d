import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import managed

from tests.unit.plugins.host_trees import HostTree, Programs

OLLAMA = "http://127.0.0.1:11434"
CONTAINER = {
    "Id": "abc",
    "Names": ["/ollama"],
    "Image": "ollama:1",
    "ImageID": "sha256:" + "a" * 64,
    "State": "running",
    "Status": "Up 2 minutes (healthy)",
    "Labels": {"com.docker.compose.config-hash": "c1"},
    "Ports": [],
}


class Served:
    """A host with one of each kind of managed thing, and a way to look at it anew."""

    def __init__(self, tree: HostTree, tmp_path: Path) -> None:
        self.tree = tree
        self.file = tmp_path / "daemon.json"
        self.file.write_text("{}")
        self.file.chmod(0o644)
        self.link = tmp_path / "current"
        self.link.symlink_to("1.0")
        self.store = tmp_path / "store"
        self.layer = self.store / "blobs" / f"sha256-{'c' * 64}"
        self.layer.parent.mkdir(parents=True)
        self.layer.write_text("layer")
        (self.layer.parent / f"sha256-{'d' * 64}-partial").write_text("still coming")
        tree.pci("0000:01:00.0", "0x10de", "0x2330", "0x030200")
        self.container: dict[str, Any] = dict(CONTAINER)
        tree.system("debian", "13", "6.12.0-1-amd64").write("etc/group", "docker:x:101:ann,bob\n")
        self.package("26.1.5", "hold ok installed")
        self.set("systemctl", "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n")
        tree.docker = {"/version": {"Version": "26"}, "/containers/json?all=1": [self.container]}
        tree.web = {OLLAMA + "/api/tags": {"models": [{"name": "smol:1", "digest": "d1"}]}}

    def package(self, version: str, state: str) -> None:
        (self.tree.root / "var/lib/dpkg/status").unlink(missing_ok=True)
        self.tree.package("docker.io", version, state)

    def set(self, program: str, answer: str) -> None:
        self.tree.programs = Programs(**{**self.tree.programs.answers, program: answer})

    @property
    def wanted(self) -> dict[str, Any]:
        return {
            "files": [str(self.file)],
            "links": [str(self.link)],
            "packages": ["docker.io"],
            "holds": ["docker.io"],
            "services": ["docker"],
            "members": {"docker": ["ann"]},
            "containers": ["ollama"],
            "models": [{"name": "smol:1", "base_url": OLLAMA}],
            "stores": [str(self.store)],
            "facts": ["gpus"],
        }


@pytest.fixture
def served(tree: HostTree, tmp_path: Path) -> Served:
    return Served(tree, tmp_path)


def test_snapshot_of_an_untouched_host_has_no_drift(served: Served) -> None:
    manages, missing = managed.snapshot(served.wanted, served.tree.observe())
    assert missing == []
    assert manages["models"] == {"smol:1": {"digest": "d1", "base_url": OLLAMA}}
    assert manages["stores"] == {str(served.store): {served.layer.name: 5}}
    assert managed.drift(manages, served.tree.observe()) == []


DAMAGE: list[tuple[str, Callable[[Served], object]]] = [
    ("{file} was changed by hand", lambda s: s.file.write_text("{ }")),
    ("{file} was removed", lambda s: s.file.unlink()),
    ("the mode of {file} is 0666, was 0644", lambda s: s.file.chmod(0o666)),
    ("{link} leads to 2.0, was 1.0", lambda s: (s.link.unlink(), s.link.symlink_to("2.0"))),
    ("{link} is no link", lambda s: s.link.unlink()),
    ("package docker.io is not installed", lambda s: s.package("26.1.5", "hold ok config-files")),
    ("package docker.io is 27.0, was 26.1.5", lambda s: s.package("27.0", "hold ok installed")),
    ("package docker.io is no longer held at its version", lambda s: s.package("26.1.5", "install ok installed")),
    ("user ann is not in group docker", lambda s: s.tree.write("etc/group", "docker:x:101:bob\n")),
    ("group docker does not exist", lambda s: s.tree.write("etc/group", "")),
    (
        "service docker is not running",
        lambda s: s.set("systemctl", "LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n"),
    ),
    (
        "service docker is disabled at boot, was enabled",
        lambda s: s.set("systemctl", "LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n"),
    ),
    ("service docker does not exist", lambda s: s.set("systemctl", "LoadState=not-found\nActiveState=inactive\n")),
    ("container ollama is exited, not running", lambda s: s.container.update(State="exited", Status="Exited (1)")),
    ("container ollama is unhealthy", lambda s: s.container.update(Status="Up 1 hour (unhealthy)")),
    ("container ollama does not exist", lambda s: s.tree.docker.update({"/containers/json?all=1": []})),
    ("container ollama: Docker does not answer", lambda s: s.tree.docker.clear()),
    (
        "container ollama runs another image: bbbbbbbbbbbb, was aaaaaaaaaaaa",
        lambda s: s.container.update(ImageID="sha256:" + "b" * 64),
    ),
    (
        "container ollama was recreated with other settings",
        lambda s: s.container.update(Labels={"com.docker.compose.config-hash": "c2"}),
    ),
    ("model smol:1 is not there", lambda s: s.tree.web.update({OLLAMA + "/api/tags": {"models": []}})),
    (
        "model smol:1 has digest d2, was d1",
        lambda s: s.tree.web.update({OLLAMA + "/api/tags": {"models": [{"name": "smol:1", "digest": "d2"}]}}),
    ),
    (f"Ollama at {OLLAMA} does not answer", lambda s: s.tree.web.clear()),
    ("{store} has no cccccccccccc, a layer of a model", lambda s: s.layer.unlink()),
    ("{store} has 2 bytes of cccccccccccc, was 5", lambda s: s.layer.write_text("la")),
    ("{store} is no model store", lambda s: shutil.rmtree(s.store)),
    (
        "gpus changed: hopper 2330 at 0000:01:00.0, ada 2684 at 0000:02:00.0, was hopper 2330 at 0000:01:00.0",
        lambda s: s.tree.pci("0000:02:00.0", "0x10de", "0x2684", "0x030000"),
    ),
]


@pytest.mark.parametrize(("sentence", "damage"), DAMAGE, ids=[sentence for sentence, _ in DAMAGE])
def test_each_damage_is_named(served: Served, sentence: str, damage: Callable[[Served], object]) -> None:
    manages, _ = managed.snapshot(served.wanted, served.tree.observe())
    damage(served)
    assert managed.drift(manages, served.tree.observe()) == [
        sentence.format(file=served.file, store=served.store, link=served.link)
    ]


def test_snapshot_names_what_is_not_there(tree: HostTree) -> None:
    wanted = {
        "files": ["/no/such/file"],
        "links": ["/no/such/link"],
        "packages": ["none"],
        "holds": ["none"],
        "services": ["none"],
        "members": {"docker": ["ann", "bob"]},
        "containers": ["none"],
        "models": [{"name": "none:1", "base_url": OLLAMA}],
        "stores": ["/no/such/store"],
    }
    _, missing = managed.snapshot(wanted, tree.observe())
    assert missing == [
        "/no/such/file does not exist",
        "/no/such/link is no link",
        "package none is not installed",
        "package none is not held at its version",
        "ann, bob not in group docker",
        "service none does not exist",
        "container none does not exist",
        f"Ollama at {OLLAMA} does not answer",
        "/no/such/store is no model store",
    ]


def test_model_with_another_digest_than_asked_for_is_missing(served: Served) -> None:
    wanted = {"models": [{"name": "smol:1", "base_url": OLLAMA, "digest": "sha256:" + "e" * 64}]}
    _, missing = managed.snapshot(wanted, served.tree.observe())
    assert missing == ["model smol:1 has digest d1, not eeeeeeeeeeee"]


def test_record_of_before_a_kind_came_is_read_as_it_is(served: Served) -> None:
    manages, _ = managed.snapshot(served.wanted, served.tree.observe())
    older = {kind: manages[kind] for kind in ("files", "packages", "services", "containers", "models", "facts")}
    assert managed.drift(older, served.tree.observe()) == []
    served.file.unlink()
    assert managed.drift(older, served.tree.observe()) == [f"{served.file} was removed"]


def test_user_whose_own_group_it_is_belongs_to_it(served: Served) -> None:
    served.tree.write("etc/group", "docker:x:101:\n").write("etc/passwd", "ann:x:1000:101::/home/ann:/bin/sh\n")
    manages, missing = managed.snapshot({"members": {"docker": ["ann"]}}, served.tree.observe())
    assert (manages["members"], missing) == ({"docker": ["ann"]}, [])

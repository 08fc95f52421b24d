"""An image is made anew exactly when something that it is made from changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from lab import images
from lab.apt_sources import AptSetup, Release, Source, setup_for
from lab.images import Image
from lab.paths import Paths
from lab.releases import Base

SOURCES = [Source("http://mirror.example/debian", "bookworm", ("main",))]
TRIXIE = setup_for(Release("debian", "trixie"), SOURCES, "", {})


def make(folder: Path) -> Image:
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (folder / "part").mkdir()
    (folder / "part/file").write_text("one")
    return Image("test", folder, TRIXIE, ("python3",))


def test_the_same_inputs_give_the_same_key(tmp_path) -> None:
    image = make(tmp_path / "a")
    assert image.key == image.key
    (tmp_path / "a/__pycache__").mkdir()
    (tmp_path / "a/__pycache__/x.pyc").write_text("byte code")
    assert image.key == make_key_of(tmp_path / "a")


def make_key_of(folder: Path) -> str:
    return Image("test", folder, TRIXIE, ("python3",)).key


def test_a_changed_new_or_renamed_file_changes_the_key(tmp_path) -> None:
    image = make(tmp_path / "a")
    keys = [image.key]
    (tmp_path / "a/part/file").write_text("two")
    keys.append(image.key)
    (tmp_path / "a/part/file").rename(tmp_path / "a/part/other")
    keys.append(image.key)
    (tmp_path / "a/new").write_text("")
    keys.append(image.key)
    assert len(set(keys)) == len(keys)


def test_files_outside_the_folder_count_too(tmp_path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("package==1")
    image = replace(make(tmp_path / "a"), inputs=(lock,))
    before = image.key
    lock.write_text("package==2")
    assert image.key != before


@pytest.mark.parametrize(
    "setup",
    [
        setup_for(Release("debian", "bookworm"), SOURCES, "", {}),
        setup_for(Release("debian", "trixie"), [replace(SOURCES[0], uri="http://other.example/debian")], "", {}),
        setup_for(Release("debian", "trixie"), SOURCES, 'Acquire::Check-Date "false";', {}),
    ],
    ids=["release", "mirror", "settings"],
)
def test_base_and_image_follow_the_package_sources(tmp_path, setup: AptSetup) -> None:
    image = make(tmp_path / "a")
    other = replace(image, setup=setup)
    assert other.base_key != image.base_key
    assert other.key != image.key


def test_the_base_is_kept_when_only_the_dockerfile_changes(tmp_path) -> None:
    image = make(tmp_path / "a")
    key, base_key = image.key, image.base_key
    (tmp_path / "a/Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN true\n")
    assert image.base_key == base_key
    assert image.key != key


def test_arguments_and_packages_count(tmp_path) -> None:
    image = make(tmp_path / "a")
    assert replace(image, arguments=("PYTHON=3.12",)).key != image.key
    assert replace(image, packages=("python3", "curl")).base_key != image.base_key


def test_two_labs_on_one_machine_have_images_of_their_own(tmp_path) -> None:
    image = make(tmp_path / "a")
    assert images.tag(Paths(tmp_path / "one"), image) != images.tag(Paths(tmp_path / "two"), image)


def test_an_image_on_another_follows_that_one(tmp_path) -> None:
    parent = make(tmp_path / "a")
    child = replace(parent, name="child", parent=parent)
    key = child.key
    (tmp_path / "a/part/file").write_text("two")
    assert child.base_key == parent.key
    assert child.key != key


def test_the_labs_images_have_all_their_files() -> None:
    base = Base(TRIXIE, "3.13")
    usual = (images.host(base), images.services(base), images.stand_in(base), images.open_webui(base))
    for image in (*usual, images.open_webui_before(base), images.open_webui_broken(base), images.database(base)):
        text = (image.folder / "Dockerfile").read_text()
        assert "FROM ${BASE}" in text
        assert ":latest" not in text
        assert len(image.key) == 12

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.engine.names import Name
from lab.engine.store import Store


def manifest(store: Store, *digits: str) -> bytes:
    """Of blobs that are made here, one for each digit."""
    digests = [f"sha256:{digit * 64}" for digit in digits]
    for digest in digests:
        (store.blobs / digest.replace(":", "-")).write_text("x")
    config, *layers = ({"digest": digest, "size": 1, "mediaType": "m"} for digest in digests)
    return json.dumps({"config": config, "layers": layers}).encode()


def test_models_are_files_below_their_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = Name.parse("h:1/library/m:t")
    store.add(name, manifest(store, "a", "b", "c"))
    assert (tmp_path / "manifests/h:1/library/m/t").is_file()
    (model,) = store.models()
    assert (model.name, model.size) == (name, 3)
    assert store.find(Name.parse("h:1/library/m:other")) is None


def test_a_removed_model_leaves_what_others_share_and_what_is_being_pulled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for tag, digits in (("one", "abc"), ("two", "bd")):
        store.add(Name.parse(f"h:1/library/m:{tag}"), manifest(store, *digits))
    pulled = [store.blobs / name for name in ("sha256-" + "e" * 64, "sha256-" + "f" * 64 + "-partial")]
    for path in pulled:
        path.write_text("x")
    one = store.find(Name.parse("h:1/library/m:one"))
    assert one
    store.remove(one)
    left = {path.name[7] for path in store.blobs.iterdir()}
    assert left == set("bdef")
    assert (tmp_path / "manifests/h:1/library/m/two").is_file()


def test_a_model_that_is_replaced_leaves_no_blobs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = Name.parse("m:t")
    store.add(name, manifest(store, "a", "b"))
    store.add(name, manifest(store, "b", "c"))
    assert {path.name[7] for path in store.blobs.iterdir()} == set("bc")


def test_the_last_model_takes_its_folders_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(Name.parse("h:1/library/m:t"), manifest(store, "a", "b"))
    store.remove(store.models()[0])
    assert list((tmp_path / "manifests").iterdir()) == []
    assert list(store.blobs.iterdir()) == []


def test_a_blob_lies_under_its_own_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = hashlib.sha256(b"hello").hexdigest()
    blob = store.put([b"hel", b"lo"])
    assert (blob.digest, blob.size, blob.is_new) == (f"sha256:{digest}", 5, True)
    assert not store.put([b"hello"]).is_new
    (path,) = store.blobs.iterdir()
    assert (path.name, path.read_bytes()) == (f"sha256-{digest}", b"hello")


def test_files_can_be_read_by_a_web_server_beside_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put([b"x"])
    store.add(Name.parse("m:t"), b"{}")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ConnectionAbortedError("gone")])
def test_a_blob_that_does_not_come_whole_leaves_nothing(tmp_path: Path, error: OSError) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise error

    store = Store(tmp_path)
    with pytest.raises(type(error)):
        store.put(pieces())
    assert list(store.blobs.iterdir()) == []


def test_models_of_one_second_are_listed_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, when in (("b:1", 100.9), ("a:1", 100.1), ("c:1", 99.0), ("d:1", 101.0)):
        store.add(Name.parse(name), b"{}")
        os.utime(tmp_path / "manifests" / Name.parse(name).path, (when, when))
    assert [model.name.short for model in store.models()] == ["d:1", "a:1", "b:1", "c:1"]

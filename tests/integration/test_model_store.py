"""The model_store module against a model origin on loopback, with the faults of a link."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.model_store import ensure

from tests.engine_support.certificates import Authority
from tests.engine_support.origin import Origin
from tests.serving_support.registry_tree import TinyModel, add_model, digest_of

NAME = "tiny:1"
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    (tmp_path / "registry").mkdir()
    origin = Origin(tmp_path / "registry").start()
    yield origin
    origin.stop()


@pytest.fixture
def model(origin: Origin) -> TinyModel:
    return add_model(origin.root, NAME, WEIGHTS, b"a template", b"a licence")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def run(origin: Origin, store: Path, check_mode: bool = False, **params: Any) -> dict[str, Any]:
    """The module's work with its defaults, from the origin, and these parameters."""
    defaults = {
        "name": NAME,
        "path": str(store),
        "state": "present",
        "source": None,
        "source_host": f"127.0.0.1:{origin.port}",
        "insecure": True,
        "ca_certificate": "",
        "layers": None,
        "checksum": False,
        "stall_timeout": 5,
        "disk_reserve": 0,
        "progress_file": None,
    }
    return ensure({**defaults, **params}, check_mode)


def failure(origin: Origin, store: Path, **params: Any) -> FleetError:
    with pytest.raises(FleetError) as failed:
        run(origin, store, **params)
    return failed.value


def blob(store: Path, digest: str) -> Path:
    return store / "blobs" / digest.replace(":", "-")


def manifests(store: Path) -> list[str]:
    folder = store / "manifests"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_check_run_check_run(origin: Origin, model: TinyModel, store: Path) -> None:
    assert run(origin, store, check_mode=True)["actions"] == [f"fetch 127.0.0.1:{origin.port}/library/{NAME}"]
    assert not store.exists()
    first = run(origin, store)
    assert (first["changed"], first["layers"]) == (True, {key: len(content) for key, content in model.blobs.items()})
    assert manifests(store) == ["registry.ollama.ai/library/tiny/1"]
    assert Path(first["manifest"]).read_bytes() == model.manifest.read_bytes()
    assert {digest: blob(store, digest).read_bytes() for digest in model.digests} == model.blobs
    assert {blob(store, digest).stat().st_mode & 0o777 for digest in model.digests} == {0o644}
    assert not run(origin, store, check_mode=True)["changed"]
    origin.become()
    assert not run(origin, store)["changed"]
    assert origin.sent == [], "a model that is there was asked for"


@pytest.mark.parametrize("location", ["header", "none", "redirect", "elsewhere"])
def test_every_kind_of_registry_is_a_source(origin: Origin, model: TinyModel, store: Path, location: str) -> None:
    origin.become(location=location)
    assert run(origin, store)["changed"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_download_goes_on_by_itself(origin: Origin, model: TinyModel, store: Path, share: float) -> None:
    origin.become(location="none", cut_after=int(len(WEIGHTS) * share))
    assert run(origin, store)["changed"]
    assert origin.sent[0] < len(WEIGHTS)
    assert re.fullmatch(r"bytes=\d+-", origin.ranges[1])
    assert blob(store, digest_of(WEIGHTS)).read_bytes() == WEIGHTS


def test_next_run_goes_on_where_the_last_one_was_killed(origin: Origin, model: TinyModel, store: Path) -> None:
    part = blob(store, digest_of(WEIGHTS)).with_name(blob(store, digest_of(WEIGHTS)).name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:1_500_000])
    origin.become(location="none")
    assert run(origin, store)["changed"]
    assert "bytes=1500000-" in origin.ranges
    assert sum(origin.sent) < len(WEIGHTS) - 1_400_000
    assert not part.exists()


def test_part_with_other_bytes_is_not_taken_for_the_layer(origin: Origin, model: TinyModel, store: Path) -> None:
    part = blob(store, digest_of(WEIGHTS)).with_name(blob(store, digest_of(WEIGHTS)).name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    origin.become(location="none")
    problem = failure(origin, store)
    assert "came as sha256:" in problem.why
    assert manifests(store) == []
    assert run(origin, store)["changed"], "the damaged part was kept"


def test_wrong_bytes_are_no_model(origin: Origin, model: TinyModel, store: Path) -> None:
    origin.become(location="none", corrupt=True)
    problem = failure(origin, store)
    assert "came as sha256:" in problem.why
    assert f"127.0.0.1:{origin.port} is damaged" in problem.remedy
    assert manifests(store) == []
    assert [path.name for path in (store / "blobs").iterdir() if not path.name.endswith(".part")] == []


def test_other_layers_than_wanted_are_refused_before_a_byte_moves(
    origin: Origin, model: TinyModel, store: Path
) -> None:
    origin.become(location="none")
    wanted = [digest_of(b"other"), *model.digests[2:]]
    problem = failure(origin, store, layers=wanted)
    assert digest_of(b"other") in problem.why
    assert digest_of(WEIGHTS) in problem.why
    assert origin.sent == []
    assert run(origin, store, layers=model.digests[1:])["changed"], "the config counts"


def test_newer_model_below_the_same_name_is_an_update_that_nobody_asked_for(
    origin: Origin, model: TinyModel, store: Path
) -> None:
    origin.become(location="none")
    run(origin, store)
    newer = add_model(origin.root, NAME, b"newer")
    blob(store, digest_of(b"a licence")).unlink()
    assert run(origin, store)["changed"]
    assert blob(store, digest_of(b"a licence")).exists()
    assert not run(origin, store)["changed"]
    assert run(origin, store, layers=newer.digests)["changed"]
    assert blob(store, digest_of(b"newer")).exists()


def test_damaged_layer_is_found_when_asked_for_and_fetched_anew(origin: Origin, model: TinyModel, store: Path) -> None:
    origin.become(location="none")
    run(origin, store)
    blob(store, digest_of(WEIGHTS)).write_bytes(WEIGHTS[::-1])
    assert not run(origin, store)["changed"]
    found = run(origin, store, checksum=True)
    assert found["actions"][0] == f"replace damaged {digest_of(WEIGHTS)}"
    assert blob(store, digest_of(WEIGHTS)).read_bytes() == WEIGHTS
    assert not run(origin, store, checksum=True)["changed"]


def test_absent_keeps_what_others_need(origin: Origin, model: TinyModel, store: Path) -> None:
    origin.become(location="none")
    other = add_model(origin.root, "other:1", WEIGHTS, b"its own")
    run(origin, store)
    run(origin, store, name="other:1")
    assert run(origin, store, state="absent", check_mode=True)["changed"]
    assert run(origin, store, state="absent")["actions"] == [f"remove {NAME}"]
    assert {path.name for path in (store / "blobs").iterdir()} == {digest.replace(":", "-") for digest in other.digests}
    assert not run(origin, store, state="absent")["changed"]


def test_model_too_big_for_the_disk_is_refused(origin: Origin, model: TinyModel, store: Path) -> None:
    problem = failure(origin, store, disk_reserve=1 << 60)
    assert "2.1 MB more" in problem.why
    assert origin.sent == []


def test_disk_that_fills_up_on_the_way_is_named_and_the_next_run_goes_on(
    origin: Origin, model: TinyModel, store: Path
) -> None:
    origin.become(location="none")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        problem = failure(origin, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in problem.why
    assert "free disk space" in problem.remedy
    assert manifests(store) == []
    origin.become(location="none")
    assert run(origin, store)["changed"]
    assert re.fullmatch(r"bytes=[1-9]\d+-", origin.ranges[0])


def test_unknown_model_and_no_registry_are_named(origin: Origin, model: TinyModel, store: Path) -> None:
    unknown = failure(origin, store, name="nope:1")
    assert "with 404" in unknown.why
    assert "spelling" in unknown.remedy
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
        assert nobody in failure(origin, store, source_host=nobody).why


def test_silent_registry_is_a_dead_link(origin: Origin, model: TinyModel, store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert address in failure(origin, store, source_host=address, stall_timeout=0.3).remedy


def test_manifest_cannot_name_a_file_elsewhere(origin: Origin, model: TinyModel, store: Path) -> None:
    text = model.manifest.read_text().replace(digest_of(WEIGHTS), "../../evil")
    model.manifest.write_text(text)
    assert "'../../evil'" in failure(origin, store).why


def test_two_runs_do_not_fill_one_store_at_once(origin: Origin, model: TinyModel, store: Path) -> None:
    store.mkdir()
    handle = os.open(store, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another run" in failure(origin, store).why
    os.close(handle)


def test_source_with_a_certificate_of_our_own_authority(tmp_path: Path, store: Path) -> None:
    root = tmp_path / "registry"
    add_model(root, NAME, WEIGHTS)
    authority, other = Authority(tmp_path, "fleet"), Authority(tmp_path, "other")
    context = authority.server_context("localhost")
    origin = Origin(root).start(lambda wire: context.wrap_socket(wire, server_side=True, do_handshake_on_connect=False))
    origin.become(location="none")
    try:
        secure = {"insecure": False, "source_host": f"localhost:{origin.port}"}
        for wrong in (other.certificate.read_text(), ""):
            assert "certificate" in failure(origin, store, **secure, ca_certificate=wrong).remedy
        assert run(origin, store, **secure, ca_certificate=authority.certificate.read_text())["changed"]
        assert "PEM" in failure(origin, store, name="b:1", **secure, ca_certificate="no pem").remedy
    finally:
        origin.stop()

"""Faults while a model is pulled: each ends with a named reason, and the next run goes on from what is there.

ollama_model over the stand-in engine and a registry that serves real bytes. What the engine does not say by itself, a
double says in the words of the real server.
"""

import errno
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_model import ensure

from lab.engine import native, registry
from lab.engine.generation import Engine
from lab.engine.runner import Scheduler
from lab.engine.serve import Server
from lab.engine.settings import Settings
from lab.engine.store import Store
from tests.engine_support.engine import EngineProcess, free_port, models
from tests.engine_support.origin import Origin
from tests.serving_support.ollama_double import LAYER, OllamaDouble, Send, digest_of, progress

NAME = "smollm2:135m"
BLOB = "sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98362432
SHARES = [0.3, 0.6, 0.95]


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A registry with the lab's models."""
    origin = Origin(models()).start()
    yield origin
    origin.stop()


class EngineHere:
    """The engine's server in this process, so that a test can hasten its clock or fill its disk."""

    def __init__(self, folder: Path) -> None:
        self.store = folder
        settings = Settings.from_environment({"OLLAMA_MODELS": str(folder)})
        engine = Engine(Store(folder), Scheduler(settings), settings.keep_alive)
        self._server = Server(("127.0.0.1", 0), native.routes(engine))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def engine(tmp_path: Path, origin: Origin) -> Iterator[EngineHere]:
    origin.become()
    engine = EngineHere(tmp_path / "models")
    yield engine
    engine.stop()


def run(port: int, source: str, **params: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["source_host", "layers", "ca_file", "models_dir", "progress_file"])
    rest = {"name": NAME, "state": "present", "insecure": True, "stall_timeout": 20, "disk_reserve": 0}
    return ensure({**nothing, **rest, "source": source, "base_url": f"http://127.0.0.1:{port}", **params}, False)


def source_at(origin: Origin) -> str:
    return f"127.0.0.1:{origin.port}/library/{NAME}"


def failure(port: int, source: str, **params: Any) -> FleetError:
    with pytest.raises(FleetError) as failed:
        run(port, source, **params)
    assert failed.value.what == f"Model {source} was not pulled"
    return failed.value


def kept(store: Path) -> int:
    """Bytes that the store has of the model's weights."""
    partial = store / "blobs" / f"{BLOB}-partial"
    return partial.stat().st_size if partial.exists() else 0


def goes_on(port: int, store: Path, origin: Origin) -> None:
    """The next run fetches what is missing and not a byte more."""
    there = kept(store)
    origin.become()
    assert run(port, source_at(origin))["changed"]
    weights = next(
        sent for range_, sent in zip(origin.ranges, origin.sent, strict=True) if range_.endswith(f"-{SIZE - 1}")
    )
    assert weights == SIZE - there
    assert not run(port, source_at(origin))["changed"]


# ---------------------------------------------------------------- links


@pytest.mark.parametrize("share", SHARES)
def test_link_to_the_registry_is_gone_for_good(
    engine: EngineHere, origin: Origin, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(registry, "_RETRIES", 1)
    monkeypatch.setattr(registry, "_wait", lambda *_: origin.become(answer=(503, {}, b"gone")) or [])
    origin.become(cut_after=int(SIZE * share))
    problem = failure(engine.port, source_at(origin))
    assert "the server says: max retries exceeded" in problem.why
    assert "check the link" in problem.remedy
    assert kept(engine.store) == pytest.approx(SIZE * share, abs=1 << 16)
    goes_on(engine.port, engine.store, origin)


def test_link_to_the_registry_stands_still(engine: EngineHere, origin: Origin) -> None:
    origin.become(stall_after=SIZE // 2)
    began = time.monotonic()
    problem = failure(engine.port, source_at(origin), stall_timeout=1)
    assert "nothing moved for 1 s at 49." in problem.why
    assert "check the link between this host and 127.0.0.1" in problem.remedy
    # The server stops with its client, and its next pull does not wait for the one that stands still.
    goes_on(engine.port, engine.store, origin)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("share", SHARES)
def test_server_goes_away_in_the_middle(tmp_path: Path, origin: Origin, share: float) -> None:
    engine = EngineProcess(tmp_path / "models")
    origin.become(stall_after=int(SIZE * share))
    try:
        with ThreadPoolExecutor(1) as pool:
            failed = pool.submit(failure, engine.port, source_at(origin))
            wait_until(lambda: kept(engine.store) > SIZE * share - (1 << 18))
            engine.stop()
            problem = failed.result(timeout=20)
        assert "the server's answer was cut off at " in problem.why
        assert "goes on from there" in problem.remedy
        engine.start()
        goes_on(engine.port, engine.store, origin)
    finally:
        engine.stop()


@pytest.mark.parametrize("share", SHARES)
def test_connection_to_the_server_is_cut(share: float) -> None:
    def cut(double: OllamaDouble, name: str, send: Send) -> str:
        send(progress(name, int(LAYER * share)))
        double.partial[name] = int(LAYER * share)
        return "cut"

    with OllamaDouble() as double:
        double.scripts.append(cut)
        port = int(double.url.rpartition(":")[2])
        problem = failure(port, NAME)
        assert f"cut off at {LAYER * share / 1e6:.1f} MB of {LAYER / 1e6:.1f} MB" in problem.why
        assert run(port, NAME)["changed"]


def test_registry_that_is_down(engine: EngineHere, origin: Origin) -> None:
    closed = f"127.0.0.1:{free_port()}/library/{NAME}"
    problem = failure(engine.port, closed)
    assert "connection refused" in problem.why
    assert "start the registry" in problem.remedy
    assert run(engine.port, source_at(origin))["changed"]


def test_registry_that_fails(engine: EngineHere, origin: Origin) -> None:
    origin.become(answer=(502, {}, b"bad gateway"))
    assert "the server says: pull model manifest: 502: bad gateway" in failure(engine.port, source_at(origin)).why
    goes_on(engine.port, engine.store, origin)


def test_count_goes_backwards_where_the_registry_starts_anew(
    engine: EngineHere, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_wait", lambda _seconds, blob, completed: iter([registry._line(blob, completed)]))
    seen: list[int] = []
    real = registry._line
    monkeypatch.setattr(registry, "_line", lambda blob, count: seen.append(count) or real(blob, count))
    origin.become(cut_after=SIZE // 2, ranges=False, rate=200_000_000)
    assert run(engine.port, source_at(origin))["changed"]
    weights = [count for count in seen if count > 1_000_000]
    assert weights != sorted(weights)


# ---------------------------------------------------------------- bytes and disks


def test_wrong_digest_is_fetched_anew(engine: EngineHere, origin: Origin) -> None:
    origin.become(corrupt=1)
    problem = failure(engine.port, source_at(origin))
    assert "digest mismatch, file must be downloaded again: want sha256:" in problem.why
    assert "damaged" in problem.remedy
    assert kept(engine.store) == 0
    goes_on(engine.port, engine.store, origin)


def test_layers_that_came_wrong_beside_the_first_do_not_stay(engine: EngineHere, origin: Origin) -> None:
    origin.become(corrupt=99)
    failure(engine.port, source_at(origin), models_dir=str(engine.store))
    origin.become()
    assert run(engine.port, source_at(origin), models_dir=str(engine.store))["changed"]
    for path in (engine.store / "blobs").iterdir():
        assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"


class SmallDisk:
    """A double of a file on a disk that has room for so many bytes more."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file = file
        self._room = room

    def write(self, data: bytes) -> int:
        if len(data) > self._room:
            self._file.write(data[: self._room])
            self._file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= len(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("share", SHARES)
def test_disk_that_fills_up(engine: EngineHere, origin: Origin, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    def on_a_small_disk(url: str, blob: dict[str, Any], file: IO[bytes]) -> registry.Progress:
        return real(url, blob, SmallDisk(file, int(SIZE * share)))  # type: ignore[arg-type]

    real = registry._all_pieces
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_all_pieces", on_a_small_disk)
        problem = failure(engine.port, source_at(origin))
    assert problem.why.endswith(f"/blobs/{BLOB}-partial: no space left on device")
    assert "free disk space below ollama_data_dir" in problem.remedy
    assert kept(engine.store) == int(SIZE * share)
    goes_on(engine.port, engine.store, origin)


def test_disk_that_fills_up_in_the_words_of_a_real_server() -> None:
    def fill(double: OllamaDouble, name: str, send: Send) -> str:
        send({"status": "pulling manifest"})
        send(progress(name, LAYER * 6 // 10))
        double.partial[name] = LAYER * 6 // 10
        partial = f"/root/.ollama/models/blobs/sha256-{digest_of(name)}-partial"
        send({"error": f"write {partial}: no space left on device"})
        return "failed"

    with OllamaDouble() as double:
        double.scripts.append(fill)
        port = int(double.url.rpartition(":")[2])
        problem = failure(port, NAME)
        assert "no space left on device" in problem.why
        assert "free disk space below ollama_data_dir" in problem.remedy
        assert double.models == {}
        assert run(port, NAME)["changed"]


def wait_until(what: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)

"""How far a pull is, in words, from what its module wrote; and the thread that looks at it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import ollama_api
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.pull_state import PullState
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import pull_watch
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.pull_progress import PullProgress, in_bytes, in_time

GB = 1_000_000_000
RECORDED = Path(__file__).resolve().parents[2] / "data" / "ollama_pull"


def state(completed: int, total: int = 4 * GB, status: str = "pulling 2c534e93e613") -> dict[str, Any]:
    source = "cache1:11436"
    return {
        "model": f"{source}/library/m:1",
        "source": source,
        "status": status,
        "completed": completed,
        "total": total,
    }


def seen(*states: tuple[float, dict[str, Any]]) -> PullProgress:
    progress = PullProgress()
    for now, told in states:
        progress.feed(told, now)
    return progress


def test_bytes_rate_and_time_left() -> None:
    progress = seen(*((second, state(second * 100_000_000)) for second in range(0, 21, 2)))
    assert progress.rate == pytest.approx(100_000_000)
    assert progress.words(20) == "2.0 of 4.0 GB, 100.0 MB/s, 20 s left"


def test_rate_is_that_of_the_last_seconds() -> None:
    slow = [(second, state(second * 1_000_000)) for second in range(0, 101, 10)]
    fast = [(110, state(1_000_000_000)), (120, state(2_000_000_000))]
    assert seen(*slow, *fast).rate == pytest.approx((2_000_000_000 - 100_000_000) / 20)


def test_bytes_that_go_backwards_are_no_rate() -> None:
    progress = seen((0, state(2 * GB)), (2, state(2 * GB + 10)), (4, state(GB)), (6, state(GB + 50_000_000)))
    assert progress.rate == pytest.approx(25_000_000)
    assert progress.words(6).startswith("1.1 of 4.0 GB")


def test_layer_that_was_there_already_is_no_rate() -> None:
    progress = seen((0, state(0, GB)), (2, state(3 * GB, 4 * GB)), (4, state(3 * GB + 20_000_000)))
    assert progress.rate == pytest.approx(10_000_000)


def test_stalled_link_is_named_with_its_far_end() -> None:
    progress = seen((0, state(GB)), (2, state(GB + 1)), (4, state(GB + 1)), (33, state(GB + 1)))
    assert "stalled" not in progress.words(9)
    assert progress.words(33) == "1.0 of 4.0 GB, stalled for 31 s: nothing comes from cache1:11436"


def test_stall_ends_with_the_next_byte() -> None:
    progress = seen((0, state(GB)), (40, state(GB)), (42, state(GB + 30_000_000)))
    assert "stalled" not in progress.words(42)


def test_work_of_the_server_alone_is_no_stall() -> None:
    progress = seen(
        (0, state(4 * GB, status="verifying sha256 digest")), (60, state(4 * GB, status="verifying sha256 digest"))
    )
    assert progress.words(60) == "4.0 of 4.0 GB, verifying sha256 digest"


def test_source_that_says_nothing_is_named() -> None:
    progress = seen((0, state(0, 0, "pulling manifest")), (30, state(0, 0, "pulling manifest")))
    assert progress.words(1) == "waiting for cache1:11436"
    assert progress.words(30) == "waiting for cache1:11436 for 30 s"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (98_362_432, "98.4 MB"), (4_900_000_000, "4.9 GB")],
)
def test_sizes(count: int, words: str) -> None:
    assert in_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (900, "15 min"), (7_300, "2 h 1 min")]
)
def test_times(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


@pytest.mark.parametrize("version", ["v0.24.0", "v0.32.15"])
@pytest.mark.parametrize("case", ["success", "second_pull", "client_left", "link_stalled_then_reset", "link_gone"])
def test_what_real_servers_sent_is_shown_without_nonsense(version: str, case: str) -> None:
    on_host = ollama_api.PullProgress("cache1:11436/library/gemma3:270m", 180, 0)
    shown, words, backwards = PullProgress(), [], False
    for second, text in enumerate((RECORDED / version / f"{case}.ndjson").read_text().splitlines()):
        try:
            on_host.feed(json.loads(text), second)
        except FleetError:
            assert case == "link_gone"
            break
        backwards = backwards or on_host.completed < shown.completed
        shown.feed(on_host.state, second)
        words.append(shown.words(second))
        assert shown.rate >= 0
        assert 0 <= shown.completed <= shown.total
    assert backwards == (case in {"link_stalled_then_reset", "link_gone"})
    assert words[0] == "waiting for cache1:11436"
    assert any(" of 253.1 MB" in line for line in words)


# ---------------------------------------------------------------- what the module writes


def test_state_is_written_for_everybody_to_read_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "pull.json"
    with PullState(str(path)) as told:
        told.tell(state(1))
        told.tell(state(2))
        assert json.loads(path.read_text())["completed"] == 1, "more than one writing a second"
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert list(path.parent.iterdir()) == []


def test_place_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for path in (str(blocked / "pull.json"), None):
        with PullState(path) as told:
            told.tell(state(1))


# ---------------------------------------------------------------- who looks at it


class Connection:
    """A test double of a connection plugin: it answers each command with the next of these, and counts its sessions."""

    def __init__(self, answers: list[Any], transport: str = "ssh", args: str = "-o ControlPersist=60s") -> None:
        self.transport, self.args, self.become = transport, args, "sudo"
        self.answers, self.commands = answers, []  # type: ignore[var-annotated]

    def get_option(self, name: str) -> str | None:
        return self.args if name == "ssh_args" else None

    def exec_command(self, command: str, in_data: object, sudoable: bool) -> tuple[int, bytes, bytes]:
        assert (self.become, in_data, sudoable) == (None, None, False)
        self.commands.append(command)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return 0, json.dumps(answer).encode() if answer else b"", b""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Looks and lines come a hundred times sooner; the list gets the lines."""
    lines: list[str] = []
    monkeypatch.setattr(pull_watch, "FIRST_LOOK", 0.02)
    monkeypatch.setattr(pull_watch, "FIRST_LINE", 0.1)
    monkeypatch.setattr(pull_watch.Display(), "display", lines.append)
    monkeypatch.delenv(pull_watch.VIEW, raising=False)
    return lines


def until(found: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found()


def test_a_line_is_said_now_and_then(quick: list[str]) -> None:
    connection = Connection([None, state(GB), state(2 * GB)])
    with pull_watch.PullWatch(connection, "gpu1", "/run/x y.json", 0):
        until(lambda: len(quick) >= 2)
    assert quick[0].startswith("gpu1: cache1:11436/library/m:1: ")
    assert " of 4.0 GB" in quick[0]
    assert connection.commands[0] == "cat '/run/x y.json' 2>/dev/null || true"
    assert connection.become == "sudo", "the module's own session lost its sudo"
    looks = len(connection.commands)
    assert len(quick) < looks / 2


def test_every_host_is_one_file_for_the_view_as_long_as_it_pulls(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pull_watch.VIEW, str(tmp_path))
    file = tmp_path / "gpu%2F1.json"
    with pull_watch.PullWatch(Connection([state(GB)]), "gpu/1", "/run/x", 0):
        until(file.exists)
        told = json.loads(file.read_text())
    assert told == {**told, "host": "gpu/1", "completed": GB, "total": 4 * GB}
    assert told["words"].startswith("1.0 of 4.0 GB")
    assert list(tmp_path.iterdir()) == []
    assert quick == []


def test_connection_that_would_log_in_for_each_look_is_left_alone(quick: list[str]) -> None:
    connection = Connection([state(GB)], args="-o ControlMaster=no")
    with pull_watch.PullWatch(connection, "gpu1", "/run/x", 0):
        time.sleep(0.1)
    assert connection.commands == []
    assert pull_watch.second_session(Connection([], "local", "")) is not None


def test_looks_that_fail_end_the_watch_and_nothing_else(quick: list[str]) -> None:
    connection = Connection([OSError("session refused")])
    with pull_watch.PullWatch(connection, "gpu1", "/run/x", 0):
        until(lambda: len(connection.commands) == pull_watch.GIVE_UP_AFTER)
        time.sleep(0.1)
    assert len(connection.commands) == pull_watch.GIVE_UP_AFTER


def test_many_hosts_look_and_speak_less_often_each() -> None:
    few, many = (pull_watch.PullWatch(Connection([None]), "h", "/run/x", workers) for workers in (4, 200))
    assert (few._every, few._line_every) == (2.0, 10.0)
    assert (many._every, many._line_every) == (25.0, 200.0)


def test_no_two_pulls_share_a_file() -> None:
    assert len({pull_watch.progress_file() for _ in range(100)}) == 100

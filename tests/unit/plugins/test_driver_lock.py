"""The driver lock: what it says, how it moves, and that nothing half-written or made up is ever believed."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.template import trust_as_template
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import driver_lock

A, B = "580.159.04", "580.173.02"
NOBLE = "ubuntu-24.04-x86_64-ubuntu-open"


def entry(version: str, **more: Any) -> dict[str, Any]:
    return {"version": version, "packages": {"nvidia-utils-580-server": f"{version}-0ubuntu1"}, **more}


def locked_at(path: Path, **platforms: Any) -> None:
    driver_lock.update(path, lambda _: platforms)


def test_what_is_written_is_read_back_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    platforms = {NOBLE: entry(B, previous=entry(A)), "debian-13-x86_64-cuda-open": {"previous": entry(A)}}
    before, after = driver_lock.update(path, lambda _: platforms)
    assert before == ""
    assert path.read_text() == after
    assert after.startswith("# Written by ./inv up and ./inv driver.*")
    assert "schema: ollama-fleet/driver-lock/1" in after
    assert driver_lock.read(path) == platforms
    assert (path.stat().st_mode & 0o777) == 0o644


def test_same_content_is_the_same_text_whatever_the_order(tmp_path: Path) -> None:
    one = {"a": {"version": A, "packages": {"x": "1", "y": "2"}}, "b": entry(A)}
    other = {"b": entry(A), "a": {"packages": {"y": "2", "x": "1"}, "version": A}}
    assert driver_lock.render(one) == driver_lock.render(other)


def test_versions_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    locked_at(path, a={"version": "580.82", "packages": {"x": "580.10"}})
    assert driver_lock.read(path)["a"] == {"version": "580.82", "packages": {"x": "580.10"}}


def test_strings_of_ansible_are_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    marked = trust_as_template(A)
    assert type(marked) is not str
    locked_at(path, a={"version": marked, "packages": {marked: marked}})
    assert driver_lock.read(path)["a"] == {"version": A, "packages": {A: A}}


def test_a_file_that_says_the_same_in_other_words_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    text = f'schema: "ollama-fleet/driver-lock/1"\nplatforms: {{a: {{version: "{A}", packages: {{x: "1"}}}}}}\n'
    path.write_text(text)
    assert driver_lock.update(path, dict) == (text, text)
    assert path.read_text() == text


def test_nothing_is_written_when_it_shall_not_be(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    _, after = driver_lock.update(path, lambda _: {NOBLE: entry(A)}, write=False)
    assert A in after
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("platforms: [", "not valid YAML"),
        ("- a", "schema is None"),
        ("schema: ollama-fleet/driver-lock/2", "'ollama-fleet/driver-lock/2', and this version reads"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: [a]", "platforms is no mapping"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: {a: 580}", "a has something other than"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: {a: {}}", "a has something other than"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: {a: {branch: 580}}", "a has something other than"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: {a: {version: 580.82}}", "a has the version 580.82"),
        ("schema: ollama-fleet/driver-lock/1\nplatforms: {a: {version: '580.8'}}", "a version alone holds nothing"),
        (
            "schema: ollama-fleet/driver-lock/1\nplatforms: {a: {version: '580.8', packages: {x: ''}}}",
            "no exact version of package x",
        ),
        (
            "schema: ollama-fleet/driver-lock/1\n"
            "platforms: {a: {previous: {version: '1.2', packages: {x: '1'}, previous: {}}}}",
            "earlier driver that is not",
        ),
    ],
)
def test_a_file_that_cannot_be_believed_is_refused_by_name_with_the_way_out(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "driver.lock.yml"
    path.write_text(text)
    with pytest.raises(FleetError) as error:
        driver_lock.read(path)
    assert why in error.value.why
    assert str(path) in error.value.what
    assert "version control" in error.value.remedy


def test_a_file_that_is_not_there_locks_nothing(tmp_path: Path) -> None:
    assert driver_lock.read(tmp_path / "driver.lock.yml") == {}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="folder cannot be opened"):
        driver_lock.update(tmp_path / "none" / "driver.lock.yml", lambda _: {})


def test_moving_keeps_the_version_before() -> None:
    first = driver_lock.moved(None, A, {"x": "1"})
    assert first == {"version": A, "packages": {"x": "1"}}
    second = driver_lock.moved(first, B, {"x": "2"})
    assert second == {"version": B, "packages": {"x": "2"}, "previous": first}


def test_moving_to_the_same_version_adds_packages_and_forgets_nothing() -> None:
    before = {"version": A, "packages": {"x": "1"}, "previous": entry(B)}
    after = driver_lock.moved(before, A, {"fabric": "1"})
    assert after == {"version": A, "packages": {"x": "1", "fabric": "1"}, "previous": entry(B)}


def test_rolling_back_twice_is_where_one_was() -> None:
    before = entry(B, previous=entry(A))
    back = driver_lock.rolled_back(before, NOBLE)
    assert back == entry(A, previous=entry(B))
    assert driver_lock.rolled_back(back, NOBLE) == before


def test_rolling_back_needs_an_earlier_version() -> None:
    with pytest.raises(FleetError, match=r"no earlier version\. Remedy: name the version.*--to"):
        driver_lock.rolled_back(entry(A), NOBLE)


def test_unlocking_leaves_the_way_back() -> None:
    free = driver_lock.unlocked(entry(B, previous=entry(A)))
    assert free == {"previous": entry(B)}
    assert driver_lock.unlocked(free) == free
    assert driver_lock.rolled_back(free, NOBLE) == entry(B)
    assert driver_lock.moved(free, A, entry(A)["packages"]) == entry(A, previous=entry(B))
    assert driver_lock.unlocked(None) is None


def add(path: Path, number: int) -> None:
    driver_lock.update(path, lambda platforms: {**platforms, f"platform{number}": entry(A)})


def test_many_hosts_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock.yml"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add, args=(path, number)) for number in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {worker.exitcode for worker in workers} == {0}
    assert len(driver_lock.read(path)) == 12
    assert [item.name for item in tmp_path.iterdir()] == ["driver.lock.yml"]


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "driver.lock.yml"
    locked_at(path, a=entry(A))
    text = path.read_text()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FleetError, match=r"cannot be written: .*No space left"):
        locked_at(path, a=entry(B))
    assert path.read_text() == text
    assert [item.name for item in tmp_path.iterdir()] == ["driver.lock.yml"]

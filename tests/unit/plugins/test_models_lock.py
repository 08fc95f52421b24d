"""The lock of models: its file, how it moves, and what is not as it says."""

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.lock import (
    FILE,
    drifted,
    findings,
    layers_of,
    locked,
    parse,
    refusal,
    render,
    restorable,
    updated,
)

OLD, NEW, NOTE = (f"sha256:{letter * 64}" for letter in "abc")
LOCK = {"llama3.2:3b": {OLD: 2_000_000_000, NOTE: 7}}


def layers(*digests: str) -> list[dict[str, Any]]:
    sizes = {OLD: 2_000_000_000, NEW: 2_100_000_000, NOTE: 7}
    found = [{"digest": d, "media_type": "application/vnd.ollama.image.model", "size": sizes[d]} for d in digests]
    # A configuration is written anew on its way through a registry.
    return [*found, {"digest": "sha256:" + "f" * 64, "media_type": "application/vnd.docker.config", "size": 9}]


def looked(name: str = "llama3.2:3b", **changes: Any) -> dict[str, Any]:
    plain = {"name": name, "origin": "store", "layers": layers(OLD, NOTE), "registry_layers": layers(OLD, NOTE)}
    return {**plain, "why": "", "remedy": "", "registry_why": "", **changes}


def kinds(*models: dict[str, Any], lock: dict[str, Any] = LOCK) -> list[str]:
    return [finding["kind"] for finding in findings(lock, list(models))]


def test_the_file_reads_back_and_is_the_same_for_the_same(tmp_path: Path) -> None:
    models = {"b:1": {OLD: 5}, "a:1": {NEW: 1, NOTE: 2}}
    text = render(models)
    assert parse(text, "x") == models
    assert text == render(dict(reversed(models.items())))
    assert "  a:1:\n    size: 3\n" in text
    assert FILE.read(tmp_path / "none.yml") == {}


@pytest.mark.parametrize(
    "text",
    [
        "- list",
        "schema: other/1",
        "schema: ollama-fleet/models-lock/1\nmodels: [a]",
        "schema: ollama-fleet/models-lock/1\nmodels: {a:1: }",
        "schema: ollama-fleet/models-lock/1\nmodels: {'a:1': {size: 1}}",
        "schema: ollama-fleet/models-lock/1\nmodels: {'a:1': {layers: {sha256:ab: 1}}}",
        f"schema: ollama-fleet/models-lock/1\nmodels: {{'a:1': {{layers: {{'{OLD}': many}}}}}}",
        "{ not yaml",
    ],
)
def test_a_file_that_is_none_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(FleetError, match=r"models lock x.*version control"):
        parse(text, "x")


def test_what_is_locked_stays_and_what_is_not_is_added() -> None:
    drifted, fresh = looked(layers=layers(NEW)), looked("new:1", layers=layers(NEW))
    unread = looked("odd:1", layers=[])
    assert locked(LOCK, [drifted, fresh, unread]) == {**LOCK, "new:1": {NEW: 2_100_000_000}}


def test_a_model_is_locked_by_the_name_that_the_server_lists() -> None:
    assert list(locked({}, [looked("registry.ollama.ai/library/llama3.2:3b")])) == ["llama3.2:3b"]


def test_an_update_takes_what_the_registry_has() -> None:
    newer, other = looked(registry_layers=layers(NEW)), looked("other:1", registry_layers=layers(NEW))
    assert updated(LOCK, [newer, other], []) == {"llama3.2:3b": layers_of(layers(NEW)), "other:1": {NEW: 2_100_000_000}}
    assert "other:1" not in updated(LOCK, [newer, other], ["llama3.2:3b"])


def test_an_update_that_cannot_be_known_is_refused() -> None:
    with pytest.raises(FleetError, match="no link"):
        updated(LOCK, [looked(registry_layers=None, registry_why="no link")], [])
    assert updated(LOCK, [looked(registry_layers=layers(NEW))], ["of-another-host:1"]) == LOCK


def test_what_is_as_it_is_locked_is_no_finding() -> None:
    assert kinds(looked()) == []
    assert kinds(looked(origin="registry")) == []


def test_what_is_not() -> None:
    assert kinds(looked("new:1")) == ["unlocked"]
    assert kinds(looked(layers=layers(NEW))) == ["drift"]
    assert kinds(looked(registry_layers=layers(NEW, NOTE))) == ["update"]
    assert kinds(looked(layers=layers(NEW), registry_layers=layers(NEW))) == ["drift", "update"]
    assert kinds(looked(registry_layers=None, registry_why="no link")) == ["unread"]
    [drift] = findings(LOCK, [looked(layers=layers(NEW))])
    assert drift["text"] == (
        "the host has other layers than the lock: bbbbbbbbbbbb (2100.0 MB), without 2 that it names"
    )
    [fewer] = findings(LOCK, [looked(layers=layers(OLD))])
    assert "fewer layers than the lock, without 1" in fewer["text"]


def test_the_file_changes_as_a_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "ollama_models_lock.yml"
    before, after = FILE.update(path, lambda models: locked(models, [looked()]), write=False)
    assert (before, path.exists()) == ("", False)
    FILE.update(path, lambda models: locked(models, [looked()]))
    assert path.read_text() == after
    assert FILE.update(path, lambda models: locked(models, [looked()])) == (after, after)


def test_a_pull_that_would_bring_something_else_is_refused() -> None:
    assert refusal(LOCK, [looked(origin="registry")]) is None
    assert refusal(LOCK, [looked(registry_layers=layers(NEW))]) is None, "it is there: nothing is pulled"
    assert refusal({}, [looked(origin="registry", registry_layers=layers(NEW))]) is None
    error = refusal(LOCK, [looked(origin="registry", registry_layers=layers(NEW))])
    assert isinstance(error, FleetError)
    assert "llama3.2:3b: its registry has other layers" in error.why


def test_what_drifted_is_restored_where_the_registry_has_what_is_locked() -> None:
    drift = looked(layers=layers(NEW))
    assert drifted(LOCK, [looked(), drift, looked("other:1", layers=layers(NEW))]) == ["llama3.2:3b"]
    assert restorable(LOCK, [drift]) == ["llama3.2:3b"]
    assert restorable(LOCK, [looked(layers=layers(NEW), registry_layers=layers(NEW))]) == []
    assert restorable(LOCK, [looked(layers=layers(NEW), registry_layers=None)]) == []

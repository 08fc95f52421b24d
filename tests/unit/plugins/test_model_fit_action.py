"""What the action gives to the judgement, and the words of a refusal."""

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.action.model_fit import looked_at
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.fit import Host, Wishes, judge
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.model_list import wanted
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.need import MODEL, Settings
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.words import instead, refusal

from tests.unit.plugins.gguf_bytes import gguf

SUM = "sha256:" + "a" * 64
PAIRS = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.context_length": 131072,
}
GIB = 1024**3


def pulled(name: str) -> dict[str, Any]:
    layer = {"digest": "sha256:w", "media_type": MODEL, "size": 4_920_000_000}
    return {"name": name, "layers": [layer], "missing": {"sha256:w": 4_920_000_000}, "pairs": PAIRS, "why": ""}


def test_what_is_made_of_a_model_has_its_weights_and_needs_no_disk(tmp_path: Path) -> None:
    entries = wanted(
        [
            {"name": "old:1", "state": "absent"},
            {"name": "tutor:1", "from": "chat:1", "system": "x"},
            {"name": "chat:1", "alias": "base:1"},
            {"name": "base:1"},
        ]
    )
    models = looked_at(entries, [pulled("base:1")], tmp_path)
    assert [model["name"] for model in models] == ["base:1", "chat:1", "tutor:1"]
    assert [bool(model["missing"]) for model in models] == [True, False, False]
    assert all(model["pairs"] == PAIRS for model in models)


def test_a_file_of_the_controller_is_read_there(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(gguf(PAIRS) + bytes(1000))
    entries = wanted([{"name": "own:1", "file": "own.gguf", "checksum": SUM}])
    [model] = looked_at(entries, [], tmp_path)
    size = (tmp_path / "own.gguf").stat().st_size
    assert model["layers"] == [{"digest": SUM, "media_type": MODEL, "size": size}]
    assert (model["missing"], model["pairs"]) == ({SUM: size}, PAIRS)


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"PK\3\4" + bytes(99), "does not begin")])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "own.gguf").write_bytes(content)
    with pytest.raises(FleetError, match=why):
        looked_at(wanted([{"name": "own:1", "file": "own.gguf", "checksum": SUM}]), [], tmp_path)


def test_a_refusal_says_what_why_and_what_would_fit() -> None:
    wishes = Wishes(Settings(32768), at_once=2)
    result = judge(
        [pulled("a:1"), {**pulled("b:1"), "missing": {"sha256:v": 9 * GIB}}],
        Host((8 * GIB,), 64 * GIB, 5 * GIB),
        wishes,
    )
    reason, remedy = refusal(result)
    assert "a:1 is partly on the GPU: it needs" in reason
    assert "b:1 is too big for the disk: 9.0 GiB are to be pulled" in reason
    assert "2 models are to be in memory at once" in reason
    assert "a:1: would fit: ollama_context_length: 12288 or ollama_kv_cache_type: q4_0" in remedy
    for words in ("free disk space", "lower ollama_max_loaded_models", "ollama_models_fit: memory"):
        assert words in remedy


def test_where_nothing_would_fit_that_is_said() -> None:
    nothing = {"quantisation": None, "context": None, "kv_cache_type": None}
    assert instead({"would_fit": None, "own_context": False}) == ""
    assert "choose a smaller one" in instead({"would_fit": nothing, "own_context": False})


def test_a_models_own_context_counts_instead_of_the_servers(tmp_path: Path) -> None:
    entries = wanted(
        [
            {"name": "base:1"},
            {"name": "long:1", "from": "base:1", "parameters": {"num_ctx": 32768}},
            {"name": "chat:1", "alias": "long:1"},
        ]
    )
    models = looked_at(entries, [{**pulled("base:1"), "context": None}], tmp_path)
    assert [model["context"] for model in models] == [None, 32768, 32768]
    result = judge(models, Host((8 * GIB,), 64 * GIB, 50 * GIB), Wishes(Settings(4096), at_once=1))
    base, long, chat = result["models"]
    assert (base["need"]["context"], base["fits"]) == (4096, True)
    assert (long["need"]["context"], long["fits"], chat["fits"]) == (32768, False, False)
    assert "num_ctx in its parameters: 12288" in instead(long)
    assert "long:1" in result["together"]["why"]

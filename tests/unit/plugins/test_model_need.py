"""The memory that a model needs: each part against its source, the sum against what real servers reported."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.need import (
    MIB,
    MODEL,
    PROJECTOR,
    Settings,
    Unreadable,
    need_of,
    own_engine,
)

RECORDED = Path(__file__).resolve().parents[2] / "data" / "ollama_need"
# Bytes of the weights' file, as the registry's manifest has them.
GEMMA = [{"digest": "sha256:a5fd", "media_type": MODEL, "size": 253113024}]
BLOCKS = {"F32": (1, 4), "Q4_K": (256, 144), "Q5_0": (32, 22), "Q6_K": (256, 210), "Q8_0": (32, 34)}
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.context_length": 131072,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "tokenizer.ggml.tokens": {"count": 128256},
}
LAYERS = [{"digest": "sha256:1", "media_type": MODEL, "size": 4_900_000_000}]


def recorded(version: str, name: str) -> dict[str, Any]:
    text = (RECORDED / version / f"{name}.http").read_text().partition("<<< RESPONSE")[2]
    found, _end = json.JSONDecoder().raw_decode(text[text.index("{") :])
    return dict(found)


def gemma(version: str) -> tuple[dict[str, Any], dict[str, int]]:
    """What the GGUF header of the recorded model says: the servers show all of it but the words themselves."""
    shown = recorded(version, "025-show")
    sizes = {}
    for tensor in shown["tensors"]:
        values = 1
        for length in tensor["shape"]:
            values *= length
        per_block, size = BLOCKS[tensor["type"]]
        sizes[tensor["name"]] = values // per_block * size
    words = next(tensor["shape"][1] for tensor in shown["tensors"] if tensor["name"] == "token_embd.weight")
    return {**shown["model_info"], "tokenizer.ggml.tokens": {"count": words}}, sizes


def llama(**settings: Any) -> Any:
    return need_of(LAYERS, LLAMA, Settings(**{"context_length": 8192, **settings}))


@pytest.mark.parametrize("version", ["v0.24.0", "v0.32.15"])
@pytest.mark.parametrize(("name", "context"), [("039-ps-loaded", 4096), ("055-ps-numctx-1024", 1024)])
def test_a_real_server_reported_what_the_formula_says(version: str, name: str, context: int) -> None:
    """What each server counts otherwise is known to the byte; what is left of the difference is below 1 %."""
    reported = recorded(version, name)["models"][0]
    assert reported["context_length"] == context
    pairs, tensors = gemma(version)
    old = own_engine(version)
    assert old == (version == "v0.24.0")
    need = need_of(GEMMA, pairs, Settings(context, own_engine=old), tensors)
    # The file holds its header as well, which nobody loads.
    counted = need.ram - (need.weights - sum(tensors.values()))
    if not old:
        # The server reads its figure from llama-server's log by the name of each buffer. The caches with a window and
        # without have the same name, and only the one that is told last is counted: not the 3 layers without.
        counted -= 3 * context * 1024
    assert abs(counted - reported["size"]) < 0.01 * reported["size"]
    assert need.ram > reported["size"], "the formula must not be less than what a server takes"


@pytest.mark.parametrize(("context", "most"), [(4096, 0.07), (1024, 0.04)])
def test_how_far_the_sum_is_off(context: int, most: float) -> None:
    name = {4096: "039-ps-loaded", 1024: "055-ps-numctx-1024"}[context]
    for version in ("v0.24.0", "v0.32.15"):
        pairs, tensors = gemma(version)
        need = need_of(GEMMA, pairs, Settings(context, own_engine=own_engine(version)), tensors)
        reported = recorded(version, name)["models"][0]["size"]
        assert 0 < need.ram / reported - 1 < most


def test_the_cache_is_cells_times_heads_times_lengths() -> None:
    # 32 layers, 8 KV heads, 128 + 128 values of 2 bytes, 8192 tokens: 1 GiB, as every calculator has it.
    assert llama().cache == 1024 * MIB
    assert llama(num_parallel=4).cache == 4 * 1024 * MIB
    assert llama(context_length=16384).cache == 2 * 1024 * MIB


@pytest.mark.parametrize(("kind", "of_32_values"), [("f16", 64), ("q8_0", 34), ("q4_0", 18)])
def test_the_type_of_the_cache(kind: str, of_32_values: int) -> None:
    assert llama(kv_cache_type=kind).cache == 32 * 8 * 256 * 8192 // 32 * of_32_values


def test_a_quantised_cache_needs_flash_attention() -> None:
    need = llama(kv_cache_type="q4_0", flash_attention=False)
    assert need.cache == llama().cache
    assert "flash attention" in need.notes[0]
    assert need.compute > llama().compute


def test_more_context_than_the_model_was_trained_on_is_not_given() -> None:
    need = llama(context_length=262144)
    assert need.context == 131072
    assert need.cache == llama(context_length=131072).cache
    assert "131072" in need.notes[0]


def test_layers_with_a_window() -> None:
    pairs, _tensors = gemma("v0.32.15")
    # 18 layers, every 6th in full; 1 KV head, 256 + 256 values of 2 bytes; a window of 512 and a batch of 512.
    need = need_of(GEMMA, pairs, Settings(4096))
    assert need.cache == 3 * 4096 * 1024 + 15 * 1024 * 1024
    assert need_of(GEMMA, pairs, Settings(4096, num_parallel=2)).cache == 2 * need.cache
    # A short context has no room for the window.
    assert need_of(GEMMA, pairs, Settings(512)).cache == 18 * 512 * 1024


@pytest.mark.parametrize(
    ("pattern", "full"), [(2, 16), ([True, True, True, False] * 8, 8), ([1, 0] * 16, 16)], ids=["number", "bool", "int"]
)
def test_a_file_that_says_its_windows_is_believed(pattern: Any, full: int) -> None:
    pairs = {**LLAMA, "llama.attention.sliding_window": 512, "llama.attention.sliding_window_pattern": pattern}
    of_layer = 8 * 256 * 2
    expected = full * of_layer * 8192 + (32 - full) * of_layer * 1024
    need = need_of(LAYERS, pairs, Settings(8192))
    assert (need.cache, need.notes) == (expected, ())


def test_windows_of_an_unknown_kind_count_in_full_and_it_is_said() -> None:
    need = need_of(LAYERS, {**LLAMA, "llama.attention.sliding_window": 512}, Settings(8192))
    assert need.cache == llama().cache
    assert "not known" in need.notes[0]


def test_an_old_server_keeps_more_of_gpt_oss_windows() -> None:
    pairs = {key.replace("llama.", "gpt-oss."): value for key, value in LLAMA.items()}
    pairs |= {"general.architecture": "gpt-oss", "gpt-oss.attention.sliding_window": 128}
    new, old = (need_of(LAYERS, pairs, Settings(8192, own_engine=own), {}) for own in (False, True))
    assert new.cache == 16 * 4096 * 8192 + 16 * 4096 * 768
    assert old.cache == 16 * 4096 * 8192 + 16 * 4096 * 4608


def test_layers_without_heads_are_recurrent() -> None:
    hybrid = {**LLAMA, "llama.attention.head_count_kv": [0, 0, 0, 8] * 8}
    told = need_of(LAYERS, hybrid, Settings(8192))
    assert told.cache == llama().cache // 4
    assert told.state == 0
    assert told.notes == ("the state of llama's recurrent layers is not told by its header and not counted",)
    state = {"llama.ssm.conv_kernel": 4, "llama.ssm.inner_size": 8192, "llama.ssm.state_size": 128}
    known = need_of(LAYERS, {**hybrid, **state, "llama.ssm.group_count": 8}, Settings(8192, num_parallel=2))
    assert known.state == 24 * 2 * 4 * (3 * (8192 + 2 * 8 * 128) + 128 * 8192)
    assert known.notes == ()
    by_interval = need_of(LAYERS, {**LLAMA, **state, "llama.full_attention_interval": 4}, Settings(8192))
    assert by_interval.cache == told.cache


def test_layers_that_use_the_cache_of_others_have_none() -> None:
    assert need_of(LAYERS, {**LLAMA, "llama.attention.shared_kv_layers": 16}, Settings(8192)).cache == 512 * MIB


def test_projector_and_adapters_are_weights_of_their_own() -> None:
    layers = [
        *LAYERS,
        {"digest": "sha256:2", "media_type": PROJECTOR, "size": 600},
        {"digest": "sha256:3", "media_type": "application/vnd.ollama.image.adapter", "size": 70},
        {"digest": "sha256:4", "media_type": "application/vnd.ollama.image.license", "size": 8},
    ]
    need = need_of(layers, LLAMA, Settings(8192))
    assert (need.weights, need.projector, need.adapters) == (4_900_000_000, 600, 70)
    assert need.gpu == llama().gpu + 670


def test_a_mixture_of_experts_computes_with_those_that_are_asked() -> None:
    moe = {**LLAMA, "llama.feed_forward_length": 0, "llama.expert_feed_forward_length": 768}
    one, eight = (need_of(LAYERS, {**moe, "llama.expert_used_count": used}, Settings(8192)).compute for used in (1, 8))
    assert eight - one == 4 * 512 * 3 * 768 * 7


@pytest.mark.parametrize(
    "missing", ["general.architecture", "llama.block_count", "llama.embedding_length", "llama.attention.head_count"]
)
def test_what_is_missing_is_said(missing: str) -> None:
    pairs = {key: value for key, value in LLAMA.items() if key != missing}
    with pytest.raises(Unreadable, match=missing):
        need_of(LAYERS, pairs, Settings(8192))


def test_too_few_numbers_for_the_layers() -> None:
    with pytest.raises(Unreadable, match="3 numbers for 32 layers"):
        need_of(LAYERS, {**LLAMA, "llama.attention.head_count_kv": [8, 8, 8]}, Settings(8192))


def test_embeddings_that_an_old_server_holds_twice() -> None:
    old = Settings(8192, own_engine=True)
    tensors = {"token_embd.weight": 1000, "blk.0.attn_q.weight": 5}
    assert need_of(LAYERS, LLAMA, old, tensors).ram == llama().ram + 1000
    assert need_of(LAYERS, LLAMA, old, {**tensors, "output.weight": 1000}).ram == llama().ram
    assert need_of(LAYERS, LLAMA, replace(old, own_engine=False), tensors).ram == llama().ram
    unread = need_of(LAYERS, LLAMA, old)
    assert unread.ram == llama().ram
    assert "could not be read" in unread.notes[0]


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("0.24.0", True),
        ("v0.29.9", True),
        ("0.30.0", False),
        ("0.32.15-llamacpp-stand-in", False),
        ("1.0", False),
        (None, False),
        ("latest", False),
    ],
)
def test_which_server_has_an_engine_of_its_own(version: str | None, old: bool) -> None:
    assert own_engine(version) == old


def test_the_server_expects_what_its_own_estimate_says() -> None:
    # 2 x 32 layers x 8 KV heads x 128 values x 2 bytes for each token.
    assert llama().predicted == 4_900_000_000 + 131072 * 8192
    assert llama(kv_cache_type="q4_0", num_parallel=2).predicted == 4_900_000_000 + 131072 * 16384
    hybrid = {**LLAMA, "llama.attention.head_count_kv": [0, 8] * 16}
    assert need_of(LAYERS, hybrid, Settings(8192)).predicted == 4_900_000_000 + 131072 // 8 * 8192

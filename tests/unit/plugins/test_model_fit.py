"""Whether models fit on a host: one, several at once, all on the disk; and what would fit instead."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.fit import (
    CONTEXT,
    FIT_TARGET,
    Host,
    Wishes,
    host_of,
    in_memory,
    judge,
    place,
    usable,
    wishes_of,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.need import MODEL, Settings, need_of
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.quantisations import smaller

GIB = 1024**3
# Llama-3.1-8B in Q4_K_M.
PAIRS = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.block_count": 32,
    "llama.context_length": 131072,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "tokenizer.ggml.tokens": {"count": 128256},
}
SIZE = 4_920_000_000
H100 = 85520809984
SETTINGS = Settings(8192)
WISHES = Wishes(SETTINGS)


def model(name: str = "m:1", size: int = SIZE, **changes: Any) -> dict[str, Any]:
    layer = {"digest": f"sha256:{name}", "media_type": MODEL, "size": size}
    return {"name": name, "layers": [layer], "pairs": PAIRS, "missing": {layer["digest"]: size}, "why": "", **changes}


def host(*gpus: int | None, ram: int = 64 * GIB, disk: int = 500 * GIB) -> Host:
    return Host(gpus, ram, disk)


def need(size: int = SIZE, settings: Settings = SETTINGS) -> Any:
    return need_of(model(size=size)["layers"], PAIRS, settings)


def one(host_: Host, wishes: Wishes = WISHES, models: Any = None) -> dict[str, Any]:
    return dict(judge(models or [model()], host_, wishes)["models"][0])


def test_usable_memory_of_a_gpu_leaves_what_others_take() -> None:
    # 81559 MiB, of which the driver keeps 480.
    assert usable(H100) == (81559 - 480) * 1024**2 - CONTEXT - FIT_TARGET
    assert usable(GIB) == 0


def test_it_fits_to_the_byte_and_not_beyond() -> None:
    room = need().gpu
    assert place(need(), [room], spread=False) == (33, [0])
    placed, _left = place(need(), [room - 64 * 1024**2], spread=False)
    assert placed == 32


@pytest.mark.parametrize(
    ("gpus", "ram", "verdict"),
    [
        ((H100,), 64 * GIB, "gpu"),
        ((6 * GIB,), 64 * GIB, "partly"),
        ((6 * GIB, 6 * GIB), 64 * GIB, "gpu"),
        ((6 * GIB,), 64 * 1024**2, "memory"),
        ((1 * GIB,), 64 * GIB, "cpu"),
        ((1 * GIB,), GIB, "memory"),
        ((), 64 * GIB, "cpu"),
        ((), 2 * GIB, "memory"),
        ((H100, None), 64 * GIB, "unknown"),
    ],
)
def test_verdict_by_memory(gpus: tuple[int | None, ...], ram: int, verdict: str) -> None:
    assert in_memory(need(), host(*gpus, ram=ram), spread=False)[0] == verdict


@pytest.mark.parametrize(
    ("gpus", "required", "fits"),
    [
        ((H100,), "gpu", True),
        ((6 * GIB,), "gpu", False),
        ((6 * GIB,), "memory", True),
        ((GIB,), "gpu", False),
        ((GIB,), "memory", True),
        ((), "gpu", True),
        ((None,), "gpu", True),
    ],
)
def test_what_is_asked_of_the_memory(gpus: tuple[int | None, ...], required: str, fits: bool) -> None:
    assert one(host(*gpus), replace(WISHES, required=required))["fits"] == fits


def test_more_gpus_need_more_working_memory() -> None:
    single = need().gpu
    half = single // 2
    assert place(need(), [half, half], spread=False)[0] < 33
    # A layer is not divided, so a whole one must fit on the second GPU too.
    enough = half + need().compute + need().divisible // 33
    assert place(need(), [enough, enough], spread=False)[0] == 33


def test_one_gpu_is_enough_unless_it_is_to_be_spread() -> None:
    _placed, left = place(need(), [20 * GIB, 30 * GIB], spread=False)
    assert left == [20 * GIB, 30 * GIB - need().gpu]
    big = need(settings=replace(SETTINGS, context_length=131072))
    assert place(big, [20 * GIB, 20 * GIB], spread=True)[0] == 33
    assert place(big, [20 * GIB, 0], spread=True)[0] < 33


def wide(context: int) -> Wishes:
    return replace(WISHES, settings=replace(SETTINGS, context_length=context))


def test_what_does_not_fit_says_what_would() -> None:
    found = one(host(8 * GIB), wide(32768))
    assert (found["verdict"], found["fits"]) == ("partly", False)
    assert "layers would be there" in found["why"]
    # 8 GiB leave 6.5, the weights take 4.6: about 1.7 GiB for the cache, at 1 GiB for 8192 tokens.
    assert found["would_fit"] == {"quantisation": None, "context": 12288, "kv_cache_type": "q4_0"}
    small = one(host(int(5.5 * GIB)), wide(1024))
    assert small["would_fit"] == {"quantisation": "Q3_K_M", "context": None, "kv_cache_type": None}
    assert one(host(3 * GIB))["would_fit"] == {"quantisation": None, "context": None, "kv_cache_type": None}


def test_what_is_proposed_does_fit() -> None:
    tight, asked = host(8 * GIB), wide(32768)
    proposed = one(tight, asked)["would_fit"]
    assert one(tight, wide(proposed["context"]))["fits"]
    smaller_cache = replace(asked.settings, kv_cache_type=proposed["kv_cache_type"])
    assert one(tight, replace(asked, settings=smaller_cache))["fits"]


def test_sizes_by_bits_for_each_weight() -> None:
    # Llama-3.1-8B in llama.cpp's table: Q4_K_M 4.58 GiB, Q2_K 2.95, F16 14.96.
    named = dict(smaller(int(14.96 * GIB), 1))
    assert named["Q4_K_M"] / GIB == pytest.approx(4.58, abs=0.02)
    assert named["Q2_K"] / GIB == pytest.approx(2.95, abs=0.02)
    assert smaller(SIZE, 9999) == []
    assert "Q5_K_M" not in dict(smaller(SIZE, 15))


def test_the_disk_is_filled_in_the_order_of_the_list() -> None:
    models = [model("a:1", 4 * GIB), model("b:1", 4 * GIB), model("c:1", 1 * GIB)]
    result = judge(models, host(H100, disk=6 * GIB), WISHES)
    assert [found["verdict"] for found in result["models"]] == ["gpu", "disk", "gpu"]
    assert "2.0 GiB of the disk" in result["models"][1]["why"]
    assert result["disk"] == {"free": 6 * GIB, "to_pull": 5 * GIB}
    assert not result["fits"]


def test_layers_that_models_share_are_pulled_once_and_those_there_not_at_all() -> None:
    shared = {"sha256:w": 4 * GIB}
    models = [model("a:1", missing=shared), model("b:1", missing=shared), model("c:1", missing={})]
    assert judge(models, host(H100, disk=4 * GIB), WISHES)["fits"]


def test_disk_alone_may_be_judged() -> None:
    assert one(host(ram=GIB), replace(WISHES, required="disk"))["fits"]
    assert not one(host(ram=GIB, disk=GIB), replace(WISHES, required="disk"))["fits"]


@pytest.mark.parametrize(("asked", "fits", "can"), [(0, True, 1), (1, True, 1), (2, False, 1)])
def test_models_that_are_to_be_loaded_at_once(asked: int, fits: bool, can: int) -> None:
    models = [model("a:1"), model("b:1")]
    result = judge(models, host(12 * GIB), replace(WISHES, at_once=asked))
    assert result["together"]["can"] == can
    assert result["together"]["fits"] == result["fits"] == fits
    assert ("a:1" in result["together"]["why"]) == (not fits)


def test_a_server_lets_a_model_in_beside_others_only_with_room_to_spare() -> None:
    """Two models of 5.7 GiB take 11.9 of 12.5 GiB, but the second must leave a fifth of what is free."""
    models, two = [model("a:1"), model("b:1")], replace(WISHES, at_once=2)
    tight = host(int(14 * GIB))
    assert place(need(), place(need(), [usable(tight.gpus[0])], spread=False)[1], spread=False)[0] == 33
    assert not judge(models, tight, two)["fits"]
    assert judge(models, tight, replace(two, settings=replace(SETTINGS, own_engine=True)))["fits"]
    assert judge(models, host(16 * GIB), two)["fits"]


def test_models_of_the_same_weights_are_loaded_once() -> None:
    models = [model("a:1"), {**model("a:1"), "name": "alias:1"}]
    assert judge(models, host(12 * GIB), replace(WISHES, at_once=2))["fits"]


def test_more_are_asked_for_than_there_are() -> None:
    assert judge([model()], host(H100), replace(WISHES, at_once=3))["fits"]


def test_models_at_once_in_ram() -> None:
    models = [model("a:1"), model("b:1")]
    assert not judge(models, host(ram=10 * GIB), replace(WISHES, at_once=2))["fits"]
    assert judge(models, host(ram=14 * GIB), replace(WISHES, at_once=2))["fits"]


def test_what_could_not_be_read_is_said_and_not_refused() -> None:
    unread = model(pairs=None, why="the registry does not answer")
    found = one(host(H100), models=[unread])
    assert (found["verdict"], found["fits"], found["why"]) == ("unknown", True, "the registry does not answer")
    bare = one(host(H100), models=[model(pairs={"general.architecture": "llama"})])
    assert (bare["verdict"], bare["why"]) == ("unknown", "its header does not say llama.block_count")
    # Its files are known all the same.
    assert one(host(H100, disk=GIB), models=[unread])["verdict"] == "disk"


def card(uuid: str | None, **changes: Any) -> dict[str, Any]:
    plain = {"uuid": uuid, "memory_bytes": H100, "state": "ok", "driver_in_use": "nvidia", "mig": False}
    return {**plain, **changes}


def facts(*gpus: dict[str, Any], wsl_gpu: bool = False) -> dict[str, Any]:
    return {"gpus": gpus, "wsl_gpu": wsl_gpu, "memory": {"total_bytes": 100, "available_bytes": 90}}


def test_the_host_as_the_roles_see_it() -> None:
    two = facts(card("GPU-1"), card("GPU-2"), card(None, memory_bytes=None, state="lost"))
    server = {"use_gpu": True, "gpu_device_ids": [], "gpu_overhead": 0}
    assert host_of(two, server, 30, 600) == Host((H100, H100), 70, 600)
    assert host_of(two, {**server, "gpu_device_ids": ["GPU-2"]}, 30, 600).gpus == (H100,)
    assert host_of(two, {**server, "use_gpu": False}, 200, -1) == Host((), 0, 0)
    assert host_of(facts(card(None, driver_in_use="vfio-pci", memory_bytes=None)), server, 0, 0).gpus == ()
    assert host_of(facts(card("GPU-1", mig=True)), server, 0, 0).gpus == (None,)
    assert host_of(facts(wsl_gpu=True), server, 0, 0).gpus == (None,)
    assert host_of(two, {**server, "gpu_overhead": GIB}, 30, 600).gpus == (H100 - GIB, H100 - GIB)
    assert host_of(facts(card("GPU-1", mig=True)), {**server, "gpu_overhead": GIB}, 0, 0).gpus == (None,)
    assert host_of(two, {**server, "gpu_overhead": 2 * H100}, 30, 600).gpus == (0, 0)
    assert host_of(facts(), server, 0, 0).gpus == ()


def test_the_facts_of_a_real_h100() -> None:
    path = Path(__file__).resolve().parents[2] / "data" / "hosts" / "nvidia-h100" / "host_info.json"
    seen = json.loads(path.read_text())
    found = host_of(seen, {"use_gpu": True, "gpu_device_ids": [], "gpu_overhead": 0}, 2 * GIB, 0)
    assert found.gpus == (85520809984,)
    assert found.ram == 135148564480 - 2 * GIB
    assert in_memory(need(), found, spread=False)[0] == "gpu"


def test_the_wishes_of_an_inventory() -> None:
    server = {
        "context_length": 4096,
        "num_parallel": 2,
        "kv_cache_type": "q8_0",
        "flash_attention": True,
        "sched_spread": True,
        "max_loaded_models": 3,
    }
    settings = Settings(4096, 2, "q8_0", True, own_engine=False)
    assert wishes_of(server, "memory", "0.32.15") == Wishes(settings, "memory", True, 3)
    assert wishes_of(server, "gpu", "0.24.0").settings.own_engine

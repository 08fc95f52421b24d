# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Whether the models of a host fit: each in memory, those that are loaded at once, all of them on the disk. Pure.

A model has one of these verdicts:
  gpu      wholly in the memory of the host's GPUs
  partly   some of its layers on the GPUs, the others in RAM
  cpu      wholly in RAM, on a host without GPUs for it or with GPUs too small for a single layer
  memory   in neither
  disk     its files have no room on the disk, after those of the models before it
  unknown  the need, or the GPUs' memory, could not be told; the model's `why` says so
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.need import (
    CACHE_BYTES,
    MIB,
    MODEL,
    QUANTISED,
    Settings,
    Unreadable,
    need_of,
    own_engine,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.quantisations import name_of, smaller

# llama.cpp leaves this much free on each GPU and puts layers into RAM to keep it so (--fit-target, default 1024 MiB).
FIT_TARGET = 1024 * MIB
# What a process takes on a GPU besides the model (Ollama, ml/device.go, MinimumMemory). Ollama keeps the sum of both
# (server/, llamaServerDeviceReserve).
CONTEXT = 457 * MIB
# Beside models that are loaded, another is loaded when what the server expects of it is no more than this share of what
# is free; else one of them goes (server/, llamaServerLoadHeadroomPercent).
HEADROOM = 0.8
# What the driver keeps for itself: 480 of 81559 MiB on a real H100.
DRIVER_SHARE = 480 / 81559

# What may be asked of a model: to be wholly on the GPUs where a host has some, to be in memory, or only on the disk.
REQUIRED = {
    "gpu": ("gpu", "unknown"),
    "memory": ("gpu", "partly", "cpu", "unknown"),
    "disk": ("gpu", "partly", "cpu", "memory", "unknown"),
}
CONTEXTS = (262144, 131072, 98304, 65536, 49152, 32768, 24576, 16384, 12288, 8192, 6144, 4096, 3072, 2048, 1024)


@dataclass(frozen=True)
class Host:
    """What a host has for models.

    gpus: bytes of each GPU that the server may use; None for one whose size the driver has not told
    ram:  bytes, without what is kept for the system
    disk: bytes that models may still take there
    """

    gpus: tuple[int | None, ...]
    ram: int
    disk: int


@dataclass(frozen=True)
class Wishes:
    """What the inventory asks for.

    settings: of the server. required: gpu, memory or disk (REQUIRED)
    spread:  each model lies on all GPUs, also where one is enough
    at_once: of so many models, the biggest, all are to be in memory; 0: as many as the server finds room for
    """

    settings: Settings
    required: str = "gpu"
    spread: bool = False
    at_once: int = 0


def host_of(observed, server, ram_reserve, disk):
    """Return the Host of host_info's facts.

    server: ollama_models_server, which says what GPUs it may use, and how much of each it leaves to others
    ram_reserve: bytes that are kept for the system. disk: bytes that models may still take
    """
    gpus = [gpu for gpu in observed["gpus"] if gpu["state"] == "ok" and gpu["driver_in_use"] != "vfio-pci"]
    if server["gpu_device_ids"]:
        gpus = [gpu for gpu in gpus if gpu["uuid"] in server["gpu_device_ids"]]
    # Of a divided card the server sees parts whose sizes are not observed; what Windows lends is no PCI device.
    sizes = [None if gpu["mig"] else gpu["memory_bytes"] for gpu in gpus] or [None] * observed["wsl_gpu"]
    sizes = [size and max(0, size - server["gpu_overhead"]) for size in sizes]
    ram = max(0, observed["memory"]["total_bytes"] - ram_reserve)
    return Host(tuple(sizes if server["use_gpu"] else ()), ram, max(0, disk))


def usable(memory):
    """Return the bytes of a GPU that models can have when it is empty. memory: its size in bytes"""
    return max(0, int(memory * (1 - DRIVER_SHARE)) - CONTEXT - FIT_TARGET)


def place(need, free, spread):
    """Put a model on GPUs. free: [bytes] that models can have of each.

    Returns (layers that found room, [bytes left of each GPU]). One GPU is taken where one is enough, unless `spread`;
    else layers go to all, each of which needs its own working memory. A projector lies on one GPU.
    """
    whole = [index for index, room in enumerate(free) if room >= need.gpu]
    if whole and not spread:
        chosen = max(whole, key=lambda index: free[index])
        return need.layers, [room - need.gpu if index == chosen else room for index, room in enumerate(free)]
    layer = max(1, -(-need.divisible // need.layers))
    left, placed = list(free), 0
    for rank, index in enumerate(sorted(range(len(free)), key=lambda index: -free[index])):
        besides = need.compute + (need.projector + need.output if rank == 0 else 0)
        count = min(need.layers - placed, max(0, (left[index] - besides) // layer))
        if count:
            left[index] -= besides + count * layer
            placed += count
    return placed, left


def in_memory(need, host, spread):
    """Return (verdict, layers on GPUs, sentence) of one model on a host that holds no other."""
    if None in host.gpus:
        return "unknown", 0, "how much memory the GPUs have is not told: no driver, MIG, or WSL"
    if not host.gpus:
        if need.ram <= host.ram:
            return "cpu", 0, ""
        return "memory", 0, f"it needs {gib(need.ram)}, and models can have {gib(host.ram)} of the RAM"
    free = [usable(memory) for memory in host.gpus]
    placed, _left = place(need, free, spread)
    lacks = f"it needs {gib(need.gpu)}, and models can have {gib(sum(free))} of the GPUs' memory"
    rest = need.compute + need.twice + -(-need.divisible * (need.layers - placed) // need.layers)
    if placed == need.layers:
        found = "gpu", placed, ""
    elif placed and rest <= host.ram:
        found = "partly", placed, f"{lacks}: {placed} of {need.layers} layers would be there, the others in RAM"
    elif not placed and need.ram <= host.ram:
        found = "cpu", 0, lacks
    else:
        found = "memory", placed, f"{lacks} and {gib(host.ram)} of the RAM"
    return found


def fits(verdict, host, wishes):
    """Say whether a verdict is what was asked for; where a host has no GPUs for models, RAM is as good."""
    return verdict in REQUIRED[wishes.required] or (verdict == "cpu" and not host.gpus)


def alternatives(model, host, wishes):
    """Return {quantisation, context, kv_cache_type} that would each alone make a model fit; None where nothing does.

    model: as for `judge`
    """
    layers, settings = model["layers"], wishes.settings
    weights = max(layers, key=lambda layer: layer["size"])

    def ok(size, changed):
        resized = [{**layer, "size": size} if layer is weights else layer for layer in layers]
        need = need_of(resized, model["pairs"], changed, model.get("tensors"))
        return fits(in_memory(need, host, wishes.spread)[0], host, wishes)

    def first(candidates, tried):
        return next((candidate for candidate in candidates if tried(candidate)), None)

    contexts = [context for context in CONTEXTS if context < settings.context_length]
    kinds = [kind for kind in QUANTISED if CACHE_BYTES[kind] < CACHE_BYTES[settings.kv_cache_type]]
    sizes = dict(smaller(weights["size"], model["pairs"].get("general.file_type")))
    return {
        "quantisation": first(sizes, lambda name: ok(sizes[name], settings)),
        "context": first(contexts, lambda n: ok(weights["size"], replace(settings, context_length=n))),
        "kv_cache_type": first(
            kinds if settings.flash_attention else [],
            lambda kind: ok(weights["size"], replace(settings, kv_cache_type=kind)),
        ),
    }


def judge(models, host, wishes):
    """Return the verdicts of all models of a host, and whether together they are what was asked for.

    models: in the order of the list, [{name, layers, pairs, tensors, context, missing, why}]
      layers:  [{digest, media_type, size}]; empty where the manifest could not be read
      pairs, tensors: of the GGUF header; pairs is None where it could not be read
      context: tokens that the model's own parameters ask for, which count instead of the server's setting, or None
      missing: {digest: bytes that a pull still has to write}
      why:     what could not be read, or ""
    """
    written, needs, result = {}, {}, []
    for model in models:
        found, need = _judge_one(model, host, _wishes_for(model, wishes))
        if need:
            # Models that share their weights are loaded once: the server keeps what it has loaded by its file. One that
            # asks for another context takes its place.
            weights = next(layer["digest"] for layer in model["layers"] if layer["media_type"] == MODEL)
            needs[weights] = max(needs.get(weights, (model["name"], need)), (model["name"], need), key=_size)
        missing = {digest: size for digest, size in model["missing"].items() if digest not in written}
        if sum(written.values()) + sum(missing.values()) > host.disk:
            room = max(0, host.disk - sum(written.values()))
            why = f"{gib(sum(missing.values()))} are to be pulled, and {gib(room)} of the disk are left for it"
            found.update(verdict="disk", fits=False, why=why, would_fit=None)
        else:
            written.update(missing)
        result.append(found)
    together = _together(needs, host, wishes)
    return {
        "fits": all(found["fits"] for found in result) and together["fits"],
        "models": result,
        "together": together,
        "disk": {"free": host.disk, "to_pull": sum(written.values())},
        "usable": {"gpus": [None if memory is None else usable(memory) for memory in host.gpus], "ram": host.ram},
    }


def _size(named):
    return named[1].gpu


def _wishes_for(model, wishes):
    """Return the wishes with a model's own context."""
    if not model.get("context"):
        return wishes
    return replace(wishes, settings=replace(wishes.settings, context_length=model["context"]))


def _judge_one(model, host, wishes):
    """Return (the verdict of a model by memory alone, its Need or None)."""
    pairs = model["pairs"]
    found = {
        "name": model["name"],
        "verdict": "unknown",
        "fits": True,
        "why": model["why"],
        "size": sum(layer["size"] for layer in model["layers"]),
        "quantisation": name_of((pairs or {}).get("general.file_type")),
        "own_context": bool(model.get("context")),
        "need": None,
        "layers_on_gpu": 0,
        "notes": [],
        "would_fit": None,
    }
    if pairs is None or not any(layer["media_type"] == MODEL for layer in model["layers"]):
        return found, None
    try:
        need = need_of(model["layers"], pairs, wishes.settings, model.get("tensors"))
    except Unreadable as error:
        return {**found, "why": str(error)}, None
    verdict, placed, why = in_memory(need, host, wishes.spread)
    found.update(verdict=verdict, fits=fits(verdict, host, wishes), why=why, layers_on_gpu=placed)
    found["need"] = {**asdict(need), "gpu": need.gpu, "ram": need.ram}
    found["notes"] = list(found["need"].pop("notes"))
    if not found["fits"]:
        found["would_fit"] = alternatives(model, host, wishes)
    return found, need


def _together(needs, host, wishes):
    """Say whether the biggest models can be in memory at once, as many as were asked for, and how many can."""
    result = {"asked": wishes.at_once, "can": None, "fits": True, "why": ""}
    if None in host.gpus or not needs:
        return result
    ordered = sorted(needs.values(), key=lambda item: -item[1].gpu)[: wishes.at_once or None]
    free, ram, can = [usable(memory) for memory in host.gpus], host.ram, 0
    for _name, need in ordered:
        if host.gpus:
            placed, left = place(need, free, wishes.spread)
            crowded = can and not wishes.settings.own_engine and need.predicted > HEADROOM * sum(free)
            if placed < need.layers or crowded:
                break
            # Each further model is a process of its own on the GPUs that it is on.
            free = [now if now == then else now - CONTEXT for now, then in zip(left, free, strict=True)]
        else:
            ram -= need.ram
            if ram < 0:
                break
        can += 1
    result["can"] = can
    if wishes.at_once and can < len(ordered) and wishes.required != "disk":
        names = ", ".join(name for name, _need in ordered)
        where = "the GPUs' memory" if host.gpus else "the RAM"
        why = f"{wishes.at_once} models are to be in memory at once, and of {names} only {can} fit into {where}"
        result.update(fits=False, why=why)
    return result


def wishes_of(server, required, version):
    """Return the Wishes of an inventory. server: ollama_models_server; version: of the Ollama server, or None"""
    settings = Settings(
        context_length=server["context_length"],
        num_parallel=server["num_parallel"],
        kv_cache_type=server["kv_cache_type"],
        flash_attention=server["flash_attention"],
        own_engine=own_engine(version),
    )
    return Wishes(settings, required, server["sched_spread"], server["max_loaded_models"])


def gib(count):
    """Bytes in words, with the precision that decides."""
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / MIB:.0f} MiB"

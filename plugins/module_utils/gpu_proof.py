# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Whether an answer of Ollama came from where it should have come: three signals, none believed alone. Pure.

  memory   /api/ps: size_vram equals size. The server's own expectation: it stays when the GPU is lost.
  process  a process of Ollama's container or unit computes on a GPU of the host. It may hold the GPU and not use it.
  rate     tokens per second above a floor for this card and model. A fast processor may reach it with a small model.

A host that should answer from its CPU is proved by the same three: nothing in a GPU's memory, no process on a GPU, and
an answer.
"""

from __future__ import annotations

import re

MIB = 1024**2
GPU, CPU = "gpu", "cpu"
# For each token a model's weights are read once (Pope et al. 2022, arXiv 2211.05102, section 3), so that
# bandwidth / size is a ceiling. Of it, llama.cpp reached 11 to 83 % on healthy cards from a V100 to a B300, the small
# shares with small models on fast cards, where launching kernels and sampling take the time. A floor that all of those
# published rates are above, with room: tests/unit/plugins/test_gpu_proof.py has them with their sources.
SHARE = 0.2
OVERHEAD = 0.010
# Where so much of a floor's time is overhead, it is about programs and not about the card.
SMALL = 0.9
# A part of a card has a UUID of its own, which the list of cards has not.
INSTANCE = "MIG-"
SIGNALS = ("memory", "process", "rate")
# What Ollama and llama.cpp log of what they compute on.
TELLING = re.compile(
    r"no compatible GPUs were discovered|failed to initialize CUDA|falling back to CPU|inference compute"
    r"|offloaded \d+/\d+ layers|loaded \w+ backend|CUDA error|cuInit|unable to (load|locate) .*(cuda|gpu)"
    r"|gpu VRAM usage didn't recover",
    re.IGNORECASE,
)


def floor_of(model_bytes, bandwidth):
    """Return the tokens per second that a healthy card is above. model_bytes: of its files; bandwidth: bytes per second

    Files are bigger than what is read for a token where a model has experts: its floor is only lower then.
    """
    return 1 / (model_bytes / (SHARE * bandwidth) + OVERHEAD)


def says_little(model_bytes, bandwidth):
    """Whether a model is so small for a card that its rate tells hardly anything about the card."""
    return OVERHEAD * floor_of(model_bytes, bandwidth) > SMALL


def of_container(cgroups, identity):
    """Whether a process is in a container. cgroups: its /proc/PID/cgroup; identity: the container's id"""
    return identity in cgroups


def of_unit(cgroups, unit):
    """Whether a process is in a unit of systemd: `ollama.service`."""
    return any(unit in line.rpartition(":")[2].split("/") for line in cgroups.splitlines())


def compute_apps(text):
    """Return [{pid, name, gpu, memory_bytes}] of `nvidia-smi --query-compute-apps=pid,process_name,gpu_uuid,used_memory
    --format=csv,noheader,nounits`. memory_bytes: None where the driver does not tell it
    """
    found = []
    for line in text.splitlines():
        pid, comma, rest = line.partition(",")
        parts = [part.strip() for part in rest.rsplit(",", 2)]
        if comma and pid.strip().isdigit() and len(parts) == 3:
            memory = int(parts[2]) * MIB if parts[2].isdigit() else None
            found.append({"pid": int(pid), "name": parts[0], "gpu": parts[1], "memory_bytes": memory})
    return found


def gpus_of(text):
    """Return [{uuid, name, clock, mig}] of `nvidia-smi --query-gpu=uuid,name,clocks.max.memory,mig.mode.current`.

    text: in the same format. clock: MHz of the memory at most; None where the driver does not tell it. mig: whether the
    card is divided into instances
    """
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.count(",") == 3]
    return [
        {"uuid": uuid, "name": name, "clock": int(mhz) if mhz.isdigit() else None, "mig": mig == "Enabled"}
        for uuid, name, mhz, mig in rows
    ]


def judge(expected, model, seen):
    """Return {proved, expected, model, signals}; signals: {name: {agrees, seen, ...}}.

    expected: gpu or cpu
    model:    {name, size}: bytes of its files
    seen:     {loaded, processes, rate, floor}
      loaded:    {size, size_vram} of /api/ps, or None where the model is not in it
      processes: {holder, why, found, gpus}; found: [{pid, name, gpu, memory_bytes, ours}]; gpus: {uuid: name} that may
                 be used; why: what kept from finding them, or ""
      rate:      tokens per second by the server's clock, or None
      floor:     {tokens_per_second, source, why}; the first is None where there is none, with the reason in why
    agrees is None where a signal could not be read, which proves nothing either.
    """
    signals = {
        "memory": memory_signal(expected, seen["loaded"]),
        "process": process_signal(expected, seen["processes"]),
        "rate": rate_signal(expected, seen["rate"], seen["floor"]),
    }
    proved = all(signal["agrees"] for signal in signals.values())
    return {"proved": proved, "expected": expected, "model": model, "signals": signals}


def memory_signal(expected, loaded):
    if loaded is None:
        return {"agrees": None, "seen": "the server does not list the model as loaded", "size": None, "size_vram": None}
    size, vram = loaded["size"], loaded["size_vram"]
    agrees = vram == 0 if expected == CPU else 0 < size == vram
    seen = f"{amount(vram)} of {amount(size)} are in a GPU's memory (size_vram {vram}, size {size})"
    return {"agrees": agrees, "seen": seen, "size": size, "size_vram": vram}


def process_signal(expected, processes):
    holder, gpus = processes["holder"], processes["gpus"]
    if processes["why"]:
        return {"agrees": None, "seen": processes["why"], "processes": []}
    ours = [process for process in processes["found"] if process["ours"]]
    others = [process for process in processes["found"] if not process["ours"]]
    astray = [process for process in ours if process["gpu"] not in gpus and not process["gpu"].startswith(INSTANCE)]
    agrees = not ours if expected == CPU else bool(ours) and not astray
    if ours:
        seen = f"{holder} computes on {listed(ours, gpus)}"
        seen += f", which is not among {', '.join(sorted(gpus))}" if astray and expected == GPU else ""
    else:
        seen = f"no process of {holder} computes on a GPU"
        seen += f"; others do: {listed(others, gpus)}" if others else ""
    return {"agrees": agrees, "seen": seen, "processes": ours}


def listed(processes, names):
    """Return processes in words. names: {uuid: name of the GPU}"""
    told = []
    for process in processes:
        memory = f", {amount(process['memory_bytes'])}" if process["memory_bytes"] is not None else ""
        where = names.get(process["gpu"], "")
        told.append(f"{where + ' ' if where else ''}{process['gpu']} (pid {process['pid']} {process['name']}{memory})")
    return " and ".join(told)


def rate_signal(expected, rate, floor):
    least = floor["tokens_per_second"]
    signal = {"tokens_per_second": rate, "floor": least, "source": floor["source"]}
    if rate is None:
        return {"agrees": None, "seen": "the server counted no tokens", **signal}
    if least is not None:
        place = "above" if rate >= least else "below"
        seen = f"{rate:.1f} tokens/s, {place} the floor of {least:.1f} ({floor['source']})"
        return {"agrees": rate >= least, "seen": seen, **signal}
    seen = f"{rate:.1f} tokens/s; {floor['why']}"
    return {"agrees": rate > 0 if expected == CPU else None, "seen": seen, **signal}


def in_words(record):
    """Return what the three signals said, each with whether it agrees."""
    words = {True: "agrees", False: "disagrees", None: "cannot be read"}
    return "; ".join(
        f"{name} {words[record['signals'][name]['agrees']]}: {record['signals'][name]['seen']}" for name in SIGNALS
    )


def cause(record, clues):
    """Return (likely reason, remedy) of a record that is not proved.

    clues: {host, inside, made_with_gpu, log}; host: what the host's own nvidia-smi complains about, or ""; inside: what
           that of the container says, or "" where it answers or was not asked; made_with_gpu: whether the container was
           made with a GPU, None where that was not seen; log: telling lines of the server's log
    """
    memory, process, rate = (record["signals"][name] for name in SIGNALS)
    used = memory["agrees"] and process["agrees"]
    answers = [
        (
            used and rate["tokens_per_second"] is None,
            "the answer was too short for a rate",
            "run ./inv prove again, or name another model in ollama_proof_model",
        ),
        (
            used and record["expected"] == CPU,
            "the host is slower than ollama_proof_floor says",
            "run ./inv prove again when the host is idle, or correct ollama_proof_floor",
        ),
        (
            used and rate["floor"] is None,
            "how fast this card reads its memory is not known, so its floor is not either",
            "set ollama_proof_floor to the tokens per second that the model must reach here",
        ),
        (
            used,
            "the GPU is used and slow: others compute on it, it is throttled, or the rest of the machine is slow",
            "see nvidia-smi --query --display=PERFORMANCE, run ./inv prove again when the host is idle, or set "
            "ollama_proof_floor if this hardware is no faster",
        ),
        (
            record["expected"] == GPU and clues["host"],
            f"the host's own driver does not answer: {clues['host']}",
            "run ./inv plan and ./inv up; a driver that was changed under a running system needs a reboot",
        ),
        (
            memory["size"] is None,
            "the model was dropped from memory before it could be looked at, as when another one needs its place",
            "run ./inv prove again when the host is idle",
        ),
        (
            record["expected"] == CPU,
            "a GPU is used although the CPU is meant",
            "run ./inv up --full for this host, or set ollama_use_gpu: true if the GPU is meant",
        ),
        (
            clues["made_with_gpu"] is False,
            "the container was made without a GPU",
            "run ./inv up --full for this host",
        ),
        (
            clues["inside"],
            f"the container has lost its GPU, as after systemctl daemon-reload or a new driver: {clues['inside']}",
            "make it anew (docker compose up --detach --force-recreate in ollama_project_dir), and see with ./inv plan "
            "that GPUs come by CDI, or that Docker uses cgroupfs",
        ),
        (
            memory["size_vram"] and memory["size_vram"] < memory["size"],
            "a part of the model lies in RAM: the GPU has too little memory for it, or others hold it",
            "stop what else is on the GPU (nvidia-smi), or name a smaller model in ollama_proof_model; "
            "./inv models.plan says what fits",
        ),
        (
            clues["log"],
            f"the server's log says: {clues['log'][-1] if clues['log'] else ''}",
            "see ./inv plan, then run ./inv up --full for this host",
        ),
        (
            True,
            "the server answered from the CPU without saying why",
            "read its log (docker logs ollama, or journalctl -u ollama), then run ./inv up --full for this host",
        ),
    ]
    return next((reason, remedy) for applies, reason, remedy in answers if applies)


def verdict(record):
    """Return a sentence about a record that is proved."""
    place = "GPU" if record["expected"] == GPU else "CPU, as it should"
    return f"{record['model']['name']} answered from the {place}: {in_words(record)}"


def telling(log):
    """Return the last lines of a server's log that say what it computes on."""
    return [line.strip() for line in log.splitlines() if TELLING.search(line)][-5:]


def amount(count):
    """Bytes in words."""
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / MIB:.0f} MiB"

"""Whether an answer came from the GPU: every combination of what three signals can say, and floors that are true.

tests/data/proof/compute-apps-busy.csv and tests/data/hosts/nvidia-h100 were recorded on real H100s.
"""

import ctypes
import itertools
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import gpu_bandwidth, gpu_proof

from tests.unit.plugins.host_trees import RECORDINGS

BUSY = (Path(__file__).resolve().parents[2] / "data" / "proof" / "compute-apps-busy.csv").read_text()
H100 = "GPU-d20a2be8-d895-daad-04d9-6194ee50bba9"
OTHER = "GPU-25feab43-6559-516e-dc52-02d4dba66135"
CONTAINER = "4f5d" * 16
MODEL = {"name": "random:8b", "size": 4_205_330_432}
SIZE = 5_800_000_000
RUNNER = {"pid": 4899, "name": "llama-server", "gpu": H100, "memory_bytes": 5642 * 1024**2, "ours": True}
STRANGER = {**RUNNER, "pid": 7, "name": "python3", "ours": False}
FLOOR = {"tokens_per_second": 61.4, "source": "NVIDIA H100", "why": ""}
NO_FLOOR = {"tokens_per_second": None, "source": "", "why": "no floor, because the memory bandwidth of X is not known"}
CLUES: dict[str, Any] = {"host": "", "inside": "", "made_with_gpu": True, "log": []}
SAYS = (True, False, None)


def processes(found: list[dict[str, Any]] | None, gpus: tuple[str, ...] = (H100,)) -> dict[str, Any]:
    why = "nvidia-smi on the host says: Failed to initialize NVML: Driver/library version mismatch"
    return {
        "holder": "container ollama",
        "why": why if found is None else "",
        "found": found or [],
        "gpus": dict.fromkeys(gpus, "NVIDIA H100 80GB HBM3"),
    }


def vram(share: float) -> dict[str, int]:
    return {"size": SIZE, "size_vram": int(SIZE * share)}


# What each signal is made of when it agrees, disagrees, or cannot be read.
ON_GPU: dict[str, dict[bool | None, Any]] = {
    "loaded": {True: vram(1), False: vram(0), None: None},
    "processes": {True: processes([RUNNER]), False: processes([STRANGER]), None: processes(None)},
    "rate": {True: 252.4, False: 12.1, None: None},
}
ON_CPU: dict[str, dict[bool | None, Any]] = {
    "loaded": {True: vram(0), False: vram(1), None: None},
    "processes": {True: processes([STRANGER]), False: processes([RUNNER]), None: processes(None)},
    "rate": {True: 12.1, False: 0.0, None: None},
}
COMBINATIONS = list(itertools.product(SAYS, SAYS, SAYS))


def judged(expected: str, said: tuple[bool | None, ...]) -> dict[str, Any]:
    inputs = ON_GPU if expected == "gpu" else ON_CPU
    seen = {name: inputs[name][value] for name, value in zip(inputs, said, strict=True)}
    floor = FLOOR if expected == "gpu" else {**NO_FLOOR, "why": "a CPU has no floor"}
    return gpu_proof.judge(expected, MODEL, {**seen, "floor": floor})


@pytest.mark.parametrize("expected", ["gpu", "cpu"])
@pytest.mark.parametrize("said", COMBINATIONS)
def test_it_is_proved_when_all_three_agree_and_never_else(expected: str, said: tuple[bool | None, ...]) -> None:
    record = judged(expected, said)
    assert [signal["agrees"] for signal in record["signals"].values()] == list(said)
    assert record["proved"] is (said == (True, True, True))
    if record["proved"]:
        assert f"answered from the {expected.upper()}" in gpu_proof.verdict(record)
        return
    reason, remedy = gpu_proof.cause(record, CLUES)
    assert reason
    assert remedy
    # What was seen of each is told, also of those that agree.
    words = gpu_proof.in_words(record)
    assert [record["signals"][name]["seen"] in words for name in gpu_proof.SIGNALS] == [True] * 3


@pytest.mark.parametrize(
    ("said", "clues", "reason", "remedy"),
    [
        pytest.param((False, False, False), {"host": "mismatch"}, "does not answer: mismatch", "reboot", id="host"),
        pytest.param((None, None, None), {"host": "mismatch"}, "does not answer", "reboot", id="host, unseen"),
        pytest.param((False, False, False), {"made_with_gpu": False}, "made without a GPU", "./inv up", id="made"),
        pytest.param(
            (True, False, False),
            {"inside": "Failed to initialize NVML: Unknown Error"},
            "has lost its GPU, as after systemctl daemon-reload",
            "force-recreate",
            id="lost",
        ),
        pytest.param((False, False, False), {"log": ["no compatible GPUs"]}, "log says: no comp", "inv plan", id="log"),
        pytest.param((False, False, False), {}, "without saying why", "docker logs", id="silent"),
        pytest.param((True, True, False), {}, "used and slow", "ollama_proof_floor", id="slow"),
        pytest.param((True, True, None), {}, "too short", "ollama_proof_model", id="short"),
        pytest.param((None, True, True), {}, "dropped from memory", "idle", id="dropped"),
        # Two that agree know better than how the container was made.
        pytest.param((True, True, False), {"made_with_gpu": False}, "used and slow", "idle", id="slow, made by hand"),
    ],
)
def test_the_likely_reason_is_named_with_what_to_do(
    said: tuple[bool | None, ...], clues: dict[str, Any], reason: str, remedy: str
) -> None:
    told = gpu_proof.cause(judged("gpu", said), CLUES | clues)
    assert reason in told[0]
    assert remedy in told[1]


def test_a_cpu_that_is_below_its_own_floor_is_not_blamed_on_a_gpu() -> None:
    floor = {"tokens_per_second": 20.0, "source": "as ollama_proof_floor says", "why": ""}
    seen = {"loaded": vram(0), "processes": processes([]), "rate": 12.1, "floor": floor}
    record = gpu_proof.judge("cpu", MODEL, seen)
    assert not record["proved"]
    assert gpu_proof.cause(record, CLUES)[0] == "the host is slower than ollama_proof_floor says"
    used = gpu_proof.judge("cpu", MODEL, {**seen, "loaded": vram(1)})
    assert "a GPU is used although the CPU is meant" in gpu_proof.cause(used, CLUES)[0]


def test_a_model_that_lies_partly_in_ram_is_no_proof_and_says_so() -> None:
    record = gpu_proof.judge(
        "gpu", MODEL, {"loaded": vram(0.9), "processes": processes([RUNNER]), "rate": 70.0, "floor": FLOOR}
    )
    assert not record["proved"]
    assert "a part of the model lies in RAM" in gpu_proof.cause(record, CLUES)[0]


@pytest.mark.parametrize(("size", "size_vram"), [(0, 0), (SIZE, SIZE + 1)])
def test_sizes_that_make_no_sense_are_no_proof(size: int, size_vram: int) -> None:
    assert gpu_proof.memory_signal("gpu", {"size": size, "size_vram": size_vram})["agrees"] is False


def test_a_process_on_a_gpu_that_is_not_ollamas_is_no_proof() -> None:
    signal = gpu_proof.process_signal("gpu", processes([RUNNER], gpus=(OTHER,)))
    assert signal["agrees"] is False
    assert f"which is not among {OTHER}" in signal["seen"]


def test_a_part_of_a_card_has_a_name_of_its_own() -> None:
    instance = {**RUNNER, "gpu": "MIG-5f2c"}
    assert gpu_proof.process_signal("gpu", processes([instance]))["agrees"] is True


def test_a_card_of_unknown_speed_is_not_proved_and_asks_for_a_floor() -> None:
    seen = {"loaded": vram(1), "processes": processes([RUNNER]), "rate": 252.4, "floor": NO_FLOOR}
    record = gpu_proof.judge("gpu", MODEL, seen)
    assert record["signals"]["rate"]["agrees"] is None
    assert "ollama_proof_floor" in gpu_proof.cause(record, CLUES)[1]


def test_what_a_real_h100_said_is_a_proof() -> None:
    rows = BUSY.splitlines()[1:]
    (found,) = gpu_proof.compute_apps("\n".join(rows).replace(" MiB", ""))
    assert found == {
        "pid": 4899,
        "name": "b/bin/llama-server",
        "gpu": H100,
        "memory_bytes": 5642 * 1024**2,
    }
    # llama-server's own clock in the same recording: 252.4 tokens per second of a model of 4.2 GB.
    floor = gpu_proof.floor_of(MODEL["size"], gpu_bandwidth.peak(2619, 5120))
    seen = {
        "loaded": vram(1),
        "processes": processes([{**found, "ours": True}]),
        "rate": 252.4032612723987,
        "floor": {"tokens_per_second": floor, "source": "NVIDIA H100 80GB HBM3", "why": ""},
    }
    assert gpu_proof.judge("gpu", MODEL, seen)["proved"]


def test_processes_without_a_told_memory_and_with_commas_are_read() -> None:
    told = "12, /usr/bin/a, b, GPU-1, [N/A]\n[Not Supported]\n\nNo running processes found\n"
    assert gpu_proof.compute_apps(told) == [{"pid": 12, "name": "/usr/bin/a, b", "gpu": "GPU-1", "memory_bytes": None}]
    # The very line of an H100 on which a program had one GiB and its context.
    told = "431, python3, GPU-feb65cf1-4c17-800a-a40c-eb3ffdcd7bdf, 1542"
    (real,) = gpu_proof.compute_apps(told)
    assert (real["pid"], real["name"], real["memory_bytes"]) == (431, "python3", 1542 * 1024**2)


def test_cards_are_read_as_nvidia_smi_tells_them() -> None:
    told = f"{OTHER}, NVIDIA H100 80GB HBM3, 2619, Disabled\nGPU-2, NVIDIA GB10, [N/A], [N/A]\nGPU-3, X, 1, Enabled\n"
    assert gpu_proof.gpus_of(told) == [
        {"uuid": OTHER, "name": "NVIDIA H100 80GB HBM3", "clock": 2619, "mig": False},
        {"uuid": "GPU-2", "name": "NVIDIA GB10", "clock": None, "mig": False},
        {"uuid": "GPU-3", "name": "X", "clock": 1, "mig": True},
    ]


@pytest.mark.parametrize(
    ("cgroups", "container", "unit"),
    [
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", True, False),
        (f"12:devices:/docker/{CONTAINER}\n0::/system.slice/containerd.service\n", True, False),
        ("0::/system.slice/ollama.service\n", False, True),
        ("1:name=systemd:/system.slice/ollama.service/sub\n", False, True),
        ("0::/system.slice/not-ollama.service\n", False, False),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", False, False),
        ("", False, False),
    ],
)
def test_a_process_is_told_to_be_in_the_container_or_the_unit(cgroups: str, container: bool, unit: bool) -> None:
    assert gpu_proof.of_container(cgroups, CONTAINER) is container
    assert gpu_proof.of_unit(cgroups, "ollama.service") is unit


def test_log_lines_that_tell_are_the_last_ones() -> None:
    said = [f'msg="offloaded {number}/33 layers to GPU"' for number in range(9)]
    log = "\n".join(["[GIN] 200", *said, 'msg="no compatible GPUs were discovered"', "[GIN] 200"])
    assert gpu_proof.telling(log)[-1] == 'msg="no compatible GPUs were discovered"'
    assert len(gpu_proof.telling(log)) == 5
    assert gpu_proof.telling("[GIN] 200\nserver config HTTPS_PROXY:http://u:p@x") == []


# Rates of healthy cards with llama.cpp, one request at a time: (GB/s, model in GB, tokens per second).
PUBLISHED = {
    # Pavlo Khmel, 13 GPUs x 10 models, llama.cpp, Q4_K_M, 2026-06-07
    "V100 3B": (897, 1.8, 151),
    "V100 9B": (897, 5.7, 85),
    "V100 31B": (897, 18.3, 28),
    "A100 40 PCIe 31B": (1555, 18.3, 37),
    "A100 80 SXM 3B": (2039, 1.8, 211),
    "A100 80 SXM 31B": (2039, 18.3, 43),
    "RTX 4080 9B": (717, 5.7, 105),
    "RTX 4090 3B": (1008, 1.8, 271),
    "RTX 4090 31B": (1008, 18.3, 35),
    "H100 SXM 3B": (3352, 1.8, 305),
    "H100 SXM 31B": (3352, 18.3, 68),
    "H200 3B": (4800, 1.8, 312),
    "H200 31B": (4800, 18.3, 71),
    "B300 31B": (8000, 18.3, 75),
    "B300 gpt-oss 20B": (8000, 11.6, 327),
    # XiongjieDai/GPU-Benchmarks-on-LLM-Inference, Llama 3 8B Q4_K_M, May 2024; 70B on two cards
    "RTX 3070 8B": (448, 4.9, 70.9),
    "RTX 3090 8B": (936, 4.9, 111.7),
    "RTX 4090 8B": (1008, 4.9, 127.7),
    "2 x RTX 3090 70B": (936, 42.5, 16.3),
    "2 x RTX 4090 70B": (1008, 42.5, 19.1),
    # geerlingguy/ai-benchmarks, Ollama; the last one in a Raspberry Pi
    "RTX 3060 14B": (360, 9.0, 29.8),
    "RTX A4000 14B": (448, 9.0, 36.2),
    "GB10 14B": (273, 9.0, 23.9),
    "RTX 4090 14B": (1008, 9.0, 92.5),
    "RTX 4090 in a Raspberry Pi 14B": (1008, 9.0, 83.3),
    "RTX 4090 in a Raspberry Pi gpt-oss 20B": (1008, 13.8, 189),
    # measured for this project on one H100 with llama.cpp: llama-bench, and llama-server in one answer of 1500 tokens
    "H100 random 8B, llama-bench": (3352, 4.2, 271.3),
    "H100 random 8B, llama-server": (3352, 4.2, 252.4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_rate_of_a_healthy_card_is_above_its_floor(name: str) -> None:
    bandwidth, size, rate = PUBLISHED[name]
    # Half as much again is for machines that are worse than those that people publish.
    assert rate > 1.5 * gpu_proof.floor_of(size * 1e9, bandwidth * 1e9)


# An optimistic CPU: all of its memory's bandwidth. (GB/s of its memory, GB/s of the GPU beside it, model in GB)
PAIRS = {
    "desktop, DDR4-3200 on two channels, RTX 3060": (51, 360, 4.9),
    "desktop, DDR5-5600 on two channels, RTX 4090": (90, 1008, 4.9),
    "server, DDR4-3200 on eight channels, A100": (205, 2039, 9.0),
    "server, DDR5-4800 on twelve channels, H100": (461, 3352, 18.3),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_cpu_beside_the_card_does_not_reach_its_floor(name: str) -> None:
    memory, bandwidth, size = PAIRS[name]
    assert memory / size < gpu_proof.floor_of(size * 1e9, bandwidth * 1e9)


def test_a_model_that_is_too_small_to_tell_is_called_so() -> None:
    assert gpu_proof.says_little(253e6, 3352e9)
    assert not gpu_proof.says_little(4.2e9, 3352e9)


def test_bandwidth_of_the_recorded_h100_is_nvidias_figure() -> None:
    queried = (RECORDINGS.parent / "nvidia-smi" / "h100" / "query-gpu.csv").read_text()
    assert "2619 MHz" in queried
    told, source = gpu_bandwidth.of_gpu("NVIDIA H100 80GB HBM3", 2619, 5120)
    assert (told, source) == (3_352_320_000_000, gpu_bandwidth.DRIVER)
    # Its name alone gives the same within a thousandth.
    assert gpu_bandwidth.by_name("NVIDIA H100 80GB HBM3") == pytest.approx(told, rel=0.001)


@pytest.mark.parametrize(
    ("name", "speed"),
    [
        ("NVIDIA GB10", 273e9),
        ("NVIDIA L40S", 864e9),
        ("NVIDIA A10M", None),
        ("NVIDIA H100 80GB HBM3", 3352e9),
        ("NVIDIA A100-SXM4-80GB", 2039e9),
        ("Tesla V100-SXM2-16GB", 897e9),
        ("NVIDIA GeForce RTX 4090", 1008e9),
        ("NVIDIA GeForce RTX 4090 D", 1008e9),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce 9999", None),
    ],
)
def test_a_card_is_known_by_its_own_name_only(name: str, speed: float | None) -> None:
    assert gpu_bandwidth.by_name(name) == speed
    assert gpu_bandwidth.of_gpu(name, None, None) == (speed, gpu_bandwidth.TABLE if speed else "")


class NvmlDouble:
    """A double of NVML with one card. refuse: names of the calls that fail."""

    def __init__(self, bits: int = 5120, refuse: tuple[str, ...] = ()) -> None:
        self.bits, self.refuse, self.calls = bits, refuse, list[str]()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.refuse:
                return 3
            values = {"nvmlDeviceGetCount_v2": 1, "nvmlDeviceGetMemoryBusWidth": self.bits}
            if name in values:
                arguments[-1]._obj.value = values[name]
            if name == "nvmlDeviceGetUUID":
                arguments[1].value = H100.encode()
            return 0

        return call


def test_bus_widths_are_what_nvml_tells() -> None:
    double = NvmlDouble()
    assert gpu_bandwidth.bus_widths(lambda name: double) == {H100: 5120}
    assert double.calls[-1] == "nvmlShutdown"


@pytest.mark.parametrize("refused", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetMemoryBusWidth"])
def test_nvml_that_refuses_tells_nothing(refused: str) -> None:
    assert gpu_bandwidth.bus_widths(lambda name: NvmlDouble(refuse=(refused,))) == {}


def test_a_card_without_memory_of_its_own_tells_no_bus() -> None:
    assert gpu_bandwidth.bus_widths(lambda name: NvmlDouble(bits=0)) == {}


def test_a_host_without_nvml_tells_nothing() -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    assert gpu_bandwidth.bus_widths(missing) == {}

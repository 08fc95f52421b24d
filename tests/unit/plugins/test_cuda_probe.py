"""What the CUDA probe says of each way in which CUDA can answer, and what is to be done about it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import cuda_probe, cuda_words, python_image


class Library:
    """libcuda in Python: two GPUs, and what the calls answer. Fixture."""

    def __init__(self, count: int = 2, named: bool = True, **answers: int) -> None:
        self.count, self.named, self.answers = count, named, answers
        self.contexts = 0

    def cuInit(self, _flags: int) -> int:  # noqa: N802 - CUDA's own names
        return self.answers.get("cuInit", 0)

    def cuGetErrorName(self, code: int, text: Any) -> int:  # noqa: N802
        if not self.named:
            raise AttributeError("undefined symbol: cuGetErrorName")
        text._obj.value = f"CUDA_ERROR_NUMBER_{code}".encode()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12080
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return self.answers.get("cuDeviceGetCount", 0)

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, _length: int, device: int) -> int:  # noqa: N802
        name.value = f"NVIDIA Test {device}".encode()
        return 0

    def cuDeviceGetUuid(self, uuid: Any, device: int) -> int:  # noqa: N802
        uuid._obj[:] = [device] * 16
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, _device: int) -> int:  # noqa: N802
        memory._obj.value = 80 * 1024**3
        return 0

    def cuCtxCreate_v2(self, _context: Any, _flags: int, _device: int) -> int:  # noqa: N802
        self.contexts += 1
        return self.answers.get("cuCtxCreate_v2", 0)

    def cuCtxDestroy_v2(self, _context: Any) -> int:  # noqa: N802
        self.contexts -= 1
        return 0


def probe(library: Library) -> dict[str, Any]:
    return dict(cuda_probe.probe(load=lambda _name: library))


def test_every_gpu_is_named_and_no_context_is_left() -> None:
    library = Library()
    found = probe(library)
    assert found["ok"]
    assert found["cuda_version"] == "12.8"
    assert [gpu["name"] for gpu in found["gpus"]] == ["NVIDIA Test 0", "NVIDIA Test 1"]
    assert found["gpus"][1]["uuid"] == "GPU-01010101-0101-0101-0101-010101010101"
    assert found["gpus"][0]["memory_bytes"] == 85899345920
    assert library.contexts == 0


@pytest.mark.parametrize(
    ("library", "call", "code", "name", "words"),
    [
        ({"cuInit": 999}, "cuInit", 999, "CUDA_ERROR_UNKNOWN", "nvidia-cdi-refresh"),
        ({"cuInit": 803}, "cuInit", 803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "reboot"),
        ({"cuInit": 802}, "cuInit", 802, "CUDA_ERROR_SYSTEM_NOT_READY", "fabricmanager"),
        ({"cuInit": 100}, "cuInit", 100, "CUDA_ERROR_NO_DEVICE", "has no GPU device"),
        ({"count": 0}, "cuDeviceGetCount", 100, "CUDA_ERROR_NO_DEVICE", "has no GPU device"),
        ({"cuCtxCreate_v2": 304}, "cuCtxCreate_v2", 304, "CUDA_ERROR_OPERATING_SYSTEM", "SELinux"),
        ({"cuInit": 777}, "cuInit", 777, "an error that this libcuda does not name", "dmesg"),
    ],
)
def test_error_is_told_by_name_with_its_remedy(
    library: dict[str, int], call: str, code: int, name: str, words: str
) -> None:
    found = probe(Library(named=False, **library))
    assert not found["ok"]
    assert found["error"] == {"call": call, "code": code, "name": name}
    problem = cuda_words.failed(found["error"], "in a container")
    assert problem.why == f"{call} answers {name} ({code})"
    assert words in problem.remedy


def test_libcuda_names_its_own_errors_where_it_can() -> None:
    assert probe(Library(cuInit=999))["error"]["name"] == "CUDA_ERROR_NUMBER_999"


@pytest.mark.parametrize("code", [2, 46])
def test_gpu_that_is_full_or_taken_computes_all_the_same(code: int) -> None:
    found = probe(Library(cuCtxCreate_v2=code))
    assert found["ok"]
    assert {gpu["busy"] for gpu in found["gpus"]} == {f"CUDA_ERROR_NUMBER_{code}"}


def test_library_that_is_not_there_is_told_with_the_loaders_words() -> None:
    found = cuda_probe.probe(name="libno-such-cuda.so.1")
    assert "libno-such-cuda.so.1" in found["error"]["name"]
    assert "specification" in cuda_words.failed(found["error"], "in a container").remedy


def test_library_that_is_none_of_cudas_is_told() -> None:
    found = cuda_probe.probe(name="libc.so.6")
    assert "cuInit" in found["error"]["name"]


def test_gpus_that_a_daemon_reload_took_are_named() -> None:
    problem = cuda_words.lost({"gpus": [{"name": "H100"}]}, {"call": "cuInit", "code": 999, "name": "X"})
    assert "daemon-reload took H100 from a running container" in problem.what
    assert "CDI" in problem.remedy


def test_probe_runs_as_a_program_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", cuda_probe.__file__], capture_output=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1)


def test_image_holds_what_the_probe_imports_and_what_libcuda_is_linked_with() -> None:
    paths = python_image.files(Path(cuda_probe.__file__).read_text())
    names = {path.rsplit("/", 1)[-1] for path in paths}
    assert {"libc.so.6", "libm.so.6", "libdl.so.2", "os.py", "uuid.py", "__future__.py"} <= names
    assert any("ld-linux" in name for name in names)
    assert any(name.startswith("_ctypes") for name in names) or "_ctypes" in sys.builtin_module_names
    archive = python_image.archive(paths)
    assert len(archive) < 200_000_000

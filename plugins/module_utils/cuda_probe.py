# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Initialises CUDA as a program that computes does, and says what came of it.

``nvidia-smi`` only asks the driver's management library, which still answers where CUDA does not start. This loads
libcuda, initialises it, counts the GPUs and makes a context on each. It needs a Python and nothing else:
``python3 cuda_probe.py`` prints the result as JSON and exits with 0 when every GPU can compute.
"""

from __future__ import annotations

import ctypes
import json
import sys
import uuid

LIBRARY = "libcuda.so.1"
NAME_LENGTH = 256
# From cuda.h, for a libcuda that cannot name its own errors.
NAMES = {
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    999: "CUDA_ERROR_UNKNOWN",
}
# A context needs some hundred MiB and a free seat. A GPU that is full, or kept by one program, computes all the same.
BUSY = (2, 46)


class CudaError(Exception):
    """A call that CUDA answered with an error."""

    def __init__(self, call, code, name):
        super().__init__(f"{call}: {name} ({code})")
        self.call, self.code, self.name = call, code, name

    def as_result(self):
        return {"call": self.call, "code": self.code, "name": self.name}


class Cuda:
    """libcuda, of which every error becomes an exception."""

    def __init__(self, library):
        self.library = library

    def call(self, function, *arguments):
        code = getattr(self.library, function)(*arguments)
        if code:
            raise CudaError(function, code, self.name_of(code))

    def name_of(self, code):
        text = ctypes.c_char_p()
        try:
            unknown = self.library.cuGetErrorName(code, ctypes.byref(text))
        except AttributeError:
            unknown = True
        if unknown or not text.value:
            return NAMES.get(code, "an error that this libcuda does not name")
        return text.value.decode()

    def number(self, function, *arguments):
        value = ctypes.c_int()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def gpu(self, index):
        """What CUDA says of one GPU, after a context was made on it."""
        device = self.number("cuDeviceGet", index)
        name = ctypes.create_string_buffer(NAME_LENGTH)
        self.call("cuDeviceGetName", name, NAME_LENGTH, device)
        identity = (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGetUuid", ctypes.byref(identity), device)
        memory = ctypes.c_size_t()
        self.call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        gpu = {
            "index": index,
            "name": name.value.decode("utf-8", "replace"),
            "uuid": f"GPU-{uuid.UUID(bytes=bytes(identity))}",
            "memory_bytes": memory.value,
            "busy": "",
        }
        context = ctypes.c_void_p()
        try:
            self.call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
        except CudaError as error:
            if error.code not in BUSY:
                raise
            gpu["busy"] = error.name
        else:
            self.call("cuCtxDestroy_v2", context)
        return gpu


def probe(load=ctypes.CDLL, name=LIBRARY):
    """Return {ok, cuda_version, gpus, error}. error: {call, code, name}, or None.

    load: what gives a library by its name. A library that is not there is an error with code -1.
    """
    result = {"ok": False, "cuda_version": "", "gpus": [], "error": None}
    try:
        cuda = Cuda(load(name))
        cuda.call("cuInit", 0)
        version = cuda.number("cuDriverGetVersion")
        result["cuda_version"] = f"{version // 1000}.{version % 1000 // 10}"
        count = cuda.number("cuDeviceGetCount")
        if count == 0:
            raise CudaError("cuDeviceGetCount", 100, NAMES[100])
        for index in range(count):
            result["gpus"].append(cuda.gpu(index))
        result["ok"] = True
    except OSError as error:
        result["error"] = {"call": "dlopen", "code": -1, "name": str(error)}
    except AttributeError as error:
        result["error"] = {"call": "dlsym", "code": -1, "name": str(error)}
    except CudaError as error:
        result["error"] = error.as_result()
    return result


if __name__ == "__main__":
    found = probe()
    print(json.dumps(found))  # noqa: T201 - the program's answer
    sys.exit(0 if found["ok"] else 1)
